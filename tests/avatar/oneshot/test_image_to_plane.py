"""The compact image-to-plane network: sizes, files, and what its field may and may not show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from triportrait.avatar.oneshot.image_to_plane import (
    CompactConfig,
    CompactImageToPlane,
    ViewPlanes,
    load_image_to_plane,
    sample,
    save_image_to_plane,
)
from triportrait.errors import WeightsError

TINY = CompactConfig(64, (16, 16, 32), (1, 1, 1), 1, 8, 16, 2, 16)


@pytest.fixture
def model() -> CompactImageToPlane:
    torch.manual_seed(0)
    return CompactImageToPlane(TINY).eval()


def encode(model: CompactImageToPlane, batch: int = 2) -> ViewPlanes:
    side = model.config.photo_px
    random = torch.Generator().manual_seed(1)
    picture = torch.rand(batch, 4, side, side, generator=random)
    picture[:, :3] *= picture[:, 3:]
    prior = 0.2 * torch.rand(batch, 1, side // 2, side // 2, generator=random)
    with torch.no_grad():
        return model.encode(picture, prior, torch.ones_like(prior), torch.zeros(batch, 3))


def test_planes_have_the_promised_sizes(model: CompactImageToPlane) -> None:
    planes = encode(model)
    assert planes.front.shape == (2, 8, 32, 32)
    assert planes.across.shape == planes.down.shape == (2, 8, 16, 16)


def test_the_real_size_is_within_budget() -> None:
    parameters = sum(parameter.numel() for parameter in CompactImageToPlane().parameters())
    assert 2e6 < parameters < 5e6


def test_portraits_of_a_batch_do_not_mix(model: CompactImageToPlane) -> None:
    both = encode(model)
    with torch.no_grad():
        alone = model.encode(both.picture[1:], both.prior[1:], torch.ones_like(both.prior[1:]), torch.zeros(1, 3))
    for name in ("front", "across", "down"):
        torch.testing.assert_close(getattr(both, name)[1:], getattr(alone, name), rtol=1e-4, atol=1e-5)


def test_nothing_is_outside_the_photograph(model: CompactImageToPlane) -> None:
    points = torch.tensor([[[0.0, 0.0, 0.0], [1.01, 0.0, 0.0], [0.0, -1.5, 0.1]]]).expand(2, -1, -1)
    with torch.no_grad():
        density, colour = model.field(encode(model), points)
    assert (density[:, 0] > 0).all() and not density[:, 1:].any()
    assert (colour >= 0).all() and colour.shape == (2, 3, 3)


def test_empty_space_begins_nearly_empty(model: CompactImageToPlane) -> None:
    """Twelve opaque samples would hide the loss from the weights: the first steps would teach nothing."""
    planes = encode(model)
    random = torch.Generator().manual_seed(2)
    points = torch.rand(2, 500, 3, generator=random) * 1.8 - 0.9
    blank = ViewPlanes(planes.front, planes.across, planes.down, torch.zeros_like(planes.picture), planes.prior)
    with torch.no_grad():
        outside, _ = model.field(blank, points)
    assert 1 - torch.exp(-0.7 * outside.mean()) < 0.5  # matte of a ray through 0.7 decimetres


def test_planes_are_read_at_pixel_centres() -> None:
    plane = torch.arange(16.0).view(1, 1, 4, 4)
    x, y = torch.tensor([-0.75, 0.25]), torch.tensor([0.75, -0.25])
    assert sample(plane, torch.stack([x, y], -1)[None, None]).flatten().tolist() == [12.0, 6.0]


def test_colours_are_averaged_for_small_pictures_only(model: CompactImageToPlane) -> None:
    planes = encode(model)
    assert planes.for_size(64) is planes
    torch.testing.assert_close(planes.for_size(32).picture, planes.picture.view(2, 4, 32, 2, 32, 2).mean((3, 5)))


def test_a_file_brings_back_the_same_network(model: CompactImageToPlane, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_image_to_plane(model.half().float(), path, {"steps": "3"})
    back = load_image_to_plane(path)
    assert back.config == TINY and not back.training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], value, rtol=0, atol=0)
    assert not list(tmp_path.glob("*.part"))


def test_foreign_and_broken_files_are_named(model: CompactImageToPlane, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    foreign, broken = tmp_path / "foreign.safetensors", tmp_path / "broken.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    save_image_to_plane(model, broken)
    broken.write_bytes(broken.read_bytes()[:-100])
    for path in (foreign, broken, tmp_path / "missing.safetensors"):
        with pytest.raises(WeightsError, match=path.name):
            load_image_to_plane(path)
