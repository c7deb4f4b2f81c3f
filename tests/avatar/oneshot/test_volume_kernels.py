"""The compiled near-surface renderer equals the torch path, for any widths, and does not depend on the number of threads."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from triportrait.avatar.oneshot import volume as ns
from triportrait.avatar.oneshot import volume_kernels as kernels
from triportrait.avatar.oneshot.image_to_plane import CompactConfig, CompactImageToPlane, ViewPlanes
from triportrait.avatar.oneshot.planes import DEPTH_RANGE_DM
from triportrait.training.oneshot.losses import draw

SIZE = 40
SLAB = ns.Slab(6, 0.3)
SOURCE = torch.tensor([[0.1, -0.2, 0.05]]), torch.tensor([[0.1, 0.05, -5.0]])
TARGET = torch.tensor([[[-0.1, 0.2, 0.0]]]), torch.tensor([[[0.0, 0.1, -4.6]]])


def a_network(channels: int, hidden: int) -> tuple[CompactImageToPlane, ViewPlanes]:
    """Random weights, large enough to make opaque, transparent and empty places; smooth planes of uneven sizes."""
    torch.manual_seed(0)
    model = CompactImageToPlane(CompactConfig(64, (16, 16, 32), (1, 1, 1), 1, channels, 16, 2, hidden))
    for part in model.decoder.parameters():
        torch.nn.init.normal_(part, 0, 1.5 * part.shape[-1] ** -0.5)
    parts = (torch.randn(1, channels, *size) for size in ((32, 24), (16, 24), (20, 32)))
    picture = torch.rand(1, 4, SIZE, SIZE)
    prior = 0.2 * torch.randn(1, 1, 8, 8)
    return model, ViewPlanes(*parts, torch.minimum(picture, picture[:, 3:]), prior)


def packed(model: CompactImageToPlane, planes: ViewPlanes) -> kernels.PackedField:
    layers = [(model.decoder[i].weight.detach().numpy(), model.decoder[i].bias.detach().numpy()) for i in (0, 2, 4)]
    arrays = (part[0].numpy() for part in (planes.front, planes.across, planes.down, planes.picture))
    return kernels.pack_field(*arrays, planes.prior[0, 0].numpy(), layers, DEPTH_RANGE_DM)


def pose(parts: tuple[torch.Tensor, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    return parts[0].reshape(3).numpy(), parts[1].reshape(3).numpy()


@pytest.mark.parametrize(("channels", "hidden"), [(8, 16), (16, 48), (24, 33), (16, 64), (40, 80)])
@torch.no_grad()
def test_equals_the_torch_path(channels: int, hidden: int) -> None:
    model, planes = a_network(channels, hidden)
    guide = 14.6 + 0.5 * torch.randn(1, 1, 1, SIZE, SIZE)
    offset = 0.1 * torch.randn(1, 1, SIZE, SIZE, 3)
    rgb, alpha, depth = (part[0, 0].numpy() for part in draw(model, planes, guide, TARGET, SOURCE, SLAB, offset=offset))
    assert alpha.min() < 0.05 and alpha.max() > 0.99, "the example is meant to hold both"
    drawn = kernels.render_near_surface(
        packed(model, planes), guide[0, 0, 0].numpy(), pose(TARGET), pose(SOURCE), SLAB.samples, SLAB.half_dm, offset[0, 0].numpy()
    )
    np.testing.assert_allclose(drawn.rgb, rgb.transpose(1, 2, 0), atol=1e-4)
    np.testing.assert_allclose(drawn.alpha, alpha[0], atol=1e-4)
    hit = alpha[0] > 0.01
    np.testing.assert_allclose(drawn.depth[hit], depth[0][hit], atol=1e-3)

    # The expected source position, from the torch path's own samples.
    places = ns.pixel_places(SIZE)[None]
    steps = ns.slab_depths(guide.flatten(2)[0], SLAB)
    points = ns.carry_to_source(places, steps, (TARGET[0][0], TARGET[1][0]), SOURCE, DEPTH_RANGE_DM, offset=offset[0].flatten(1, 2))
    density, _ = model.field(planes, points.view(1, -1, 3))
    density = density.view(1, -1, SLAB.samples)
    mean, matte, _ = ns.composite(density, points, steps, 2 * SLAB.half_dm / SLAB.samples)
    mean = (mean / matte[..., None]).view(SIZE, SIZE, 3).numpy()
    np.testing.assert_allclose(drawn.source_place[hit], 0.5 + 0.5 * mean[hit, :2], atol=1e-4)
    np.testing.assert_allclose(drawn.source_depth[hit], 15.0 + DEPTH_RANGE_DM * mean[hit, 2], atol=2e-3)


def test_only_rays_with_a_guide_are_sent_and_threads_change_nothing() -> None:
    model, planes = a_network(16, 48)
    guide = np.full((SIZE, SIZE), 14.6, np.float32)
    guide[:7] = np.inf
    guide[20:, 30:] = np.nan
    sent = np.isfinite(guide)
    field = packed(model, planes)
    one, three = (kernels.render_near_surface(field, guide, pose(TARGET), pose(SOURCE), 6, 0.3, threads=n) for n in (1, 3))
    for part in fields(one):
        assert np.array_equal(getattr(one, part.name), getattr(three, part.name)), part.name
    assert (one.alpha[~sent] == 0).all() and np.isinf(one.depth[~sent]).all() and np.isinf(one.source_depth[~sent]).all()
    assert (one.alpha[sent] > 0.5).any() and np.isfinite(one.source_depth[sent]).all()


def test_a_head_at_the_photos_pose_stays_where_it_is() -> None:
    """With target = source and no offset, each pixel's source position is the pixel itself."""
    model, planes = a_network(16, 48)
    guide = np.full((SIZE, SIZE), 15.0, np.float32)
    drawn = kernels.render_near_surface(packed(model, planes), guide, pose(SOURCE), pose(SOURCE), 8, 0.3)
    line = (np.arange(SIZE) + 0.5) / SIZE
    assert np.abs(drawn.source_place - np.stack(np.meshgrid(line, line), -1)).max() < 1e-4


def test_an_empty_guide_gives_an_empty_picture() -> None:
    model, planes = a_network(16, 48)
    guide = np.full((SIZE, SIZE), np.inf, np.float32)
    assert kernels.render_near_surface(packed(model, planes), guide, pose(TARGET), pose(SOURCE), threads=2).alpha.max() == 0


def test_shapes_that_do_not_fit_are_named() -> None:
    model, planes = a_network(16, 48)
    with pytest.raises(ValueError, match="guide"):
        kernels.render_near_surface(packed(model, planes), np.zeros((4, 5), np.float32), pose(TARGET), pose(SOURCE))
    with pytest.raises(ValueError, match="decoder layers"):
        packed(CompactImageToPlane(CompactConfig(64, (16, 16, 32), (1, 1, 1), 1, 8, 16, 2, 16)), planes)
