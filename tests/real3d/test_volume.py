"""Laws of the volume renderer on small scenes, and the equality of its fast and plain ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triportrait.geometry.cameras import camera_from_pose
from triportrait.real3d.compositing import composite, expected_depth, interval_weights, sample_weights
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.rays import box_crossings, camera_rays, published_bounds
from triportrait.real3d.sampling import (
    LAYOUTS,
    SamplePositions,
    importance_depths,
    middle_positions,
    plane_rows,
    project_to_planes,
    random_positions,
    sample_planes,
    sample_rows,
    stratified_depths,
)
from triportrait.real3d.volume import Occupancy, VolumeRenderer
from triportrait.types import TriPlane

CHANNELS = 4


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def cameras(*rotations: tuple[float, float, float], translation: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> torch.Tensor:
    return torch.from_numpy(np.stack([camera_from_pose(np.array(r), np.array(translation)).to_eg3d() for r in rotations]))


def random_planes(generator: torch.Generator, count: int = 1, side: int = 12) -> TriPlane:
    return TriPlane(torch.randn((count, 3, CHANNELS, side, side), generator=generator))


def random_decoder(generator: torch.Generator) -> Decoder:
    decoder = Decoder(Decoder.Config(CHANNELS, 8, 5))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        decoder.out.weight[0] *= 5
    return decoder


def ball(decoder: Decoder, side: int = 48, radius: float = 0.22) -> TriPlane:
    """Planes and a decoder whose density is high inside a rounded body, falls steeply and is nothing outside."""
    line = (torch.arange(side) + 0.5) / side - 0.5
    down, across = torch.meshgrid(line, line, indexing="ij")
    planes = torch.zeros((1, 3, CHANNELS, side, side))
    # Each plane holds the squared distance from its centre; two more channels colour the body.
    planes[0, :, 0] = (down**2 + across**2) / radius**2
    planes[0, 0, 1], planes[0, 1, 2] = across, down
    with torch.no_grad():
        decoder.hidden.weight.zero_()
        decoder.hidden.bias.zero_()
        decoder.out.weight[0].zero_()
        decoder.hidden.weight[:CHANNELS] = torch.eye(CHANNELS)
        decoder.hidden.weight[0, 0], decoder.hidden.bias[0] = 40.0, -20.0
        decoder.out.weight[0, 0], decoder.out.bias[0] = -10.0, 60.0
    return TriPlane(planes)


def test_rays_are_unit_and_pass_through_pixel_centres() -> None:
    origins, directions = camera_rays(cameras((0.1, -0.2, 0.3), translation=(0.1, 0.2, 0.3)), 4)
    torch.testing.assert_close(directions.norm(dim=2), torch.ones(1, 16))
    camera = camera_from_pose(np.array((0.1, -0.2, 0.3)), np.array((0.1, 0.2, 0.3)))
    seen = (directions[0].double().numpy()) @ camera.camera_to_world[:3, :3]
    places = camera.focal * seen[:, :2] / seen[:, 2:] + 0.5
    expected = np.stack(np.meshgrid((np.arange(4) + 0.5) / 4, (np.arange(4) + 0.5) / 4), -1).reshape(-1, 2)
    np.testing.assert_allclose(places, expected, atol=1e-6)
    torch.testing.assert_close(origins[0, 0], torch.from_numpy(camera.camera_to_world[:3, 3]).float())


def test_box_crossings_lie_on_the_box(generator: torch.Generator) -> None:
    origins = torch.nn.functional.normalize(torch.randn((1, 500, 3), generator=generator), dim=2) * 2.5
    directions = torch.nn.functional.normalize(0.5 * torch.randn((1, 500, 3), generator=generator) - origins, dim=2)
    near, far, hit = box_crossings(origins, directions, -0.5, 0.5)
    assert 50 < hit.sum() < 450
    for distance in (near, far):
        points = (origins + distance[..., None] * directions)[hit]
        torch.testing.assert_close(points.abs().amax(1), torch.full((int(hit.sum()),), 0.5))
    # A ray misses exactly when none of many points on it lies inside.
    points = origins + torch.linspace(0, 5, 4001)[:, None, None] * directions
    inside = (points.abs() < 0.499).all(2).any(0)
    assert not (inside & ~hit[0]).any()


def test_rays_along_the_axes_and_from_behind() -> None:
    origins = torch.tensor([[[0.0, 0.0, 2.0], [0.7, 0.0, 2.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]])
    directions = torch.tensor([[[0.0, 0.0, -1.0], [0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]])
    near, far, hit = box_crossings(origins, directions, -0.5, 0.5)
    assert hit.tolist() == [[True, False, False, True]]
    assert (near[0, 0], far[0, 0], far[0, 3]) == (1.5, 2.5, 0.5)


def test_published_bounds_of_missing_rays() -> None:
    near, far = torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[4.0, 5.0, 0.0]])
    near, far = published_bounds(near, far, torch.tensor([[True, True, False]]))
    assert near.tolist() == [[1.0, 2.0, 1.0]] and far.tolist() == [[4.0, 5.0, 2.0]]


def test_layouts_name_the_axes() -> None:
    points = torch.tensor([[[0.1, 0.2, 0.3]]])
    original = project_to_planes(points, "eg3d_original", 2.0)[0, :, 0]
    torch.testing.assert_close(original, torch.tensor([[0.1, 0.2], [0.1, 0.3], [0.3, 0.1]]))
    torch.testing.assert_close(project_to_planes(points, "eg3d_fixed", 2.0)[0, 2, 0], torch.tensor([0.3, 0.2]))
    with pytest.raises(KeyError):
        project_to_planes(points, "upside_down")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fast_look_up_equals_the_plain_one(generator: torch.Generator, layout: str) -> None:
    planes = torch.randn((1, 3, CHANNELS, 9, 13), generator=generator)
    points = torch.rand((1, 3000, 3), generator=generator) * 2.6 - 1.3
    points[0, :4] = torch.tensor([[1e9, 0, 0], [0, -1e9, 0], [0.5, 0.5, 0.5], [-0.5, -0.5, -0.5]])
    plain = sample_planes(planes, points, layout, 1.6)[0]
    torch.testing.assert_close(sample_rows(plane_rows(planes[0]), (9, 13), points[0], layout, 1.6), plain, atol=1e-5, rtol=0)
    assert (plain != 0).any(1).float().mean() > 0.5


def test_stratified_depths_increase_within_their_steps(generator: torch.Generator) -> None:
    near, far = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 2.5]])
    depths = stratified_depths(near, far, 11, torch.rand((1, 2, 11), generator=generator))
    step = (far - near)[..., None] / 10
    offset = (depths - near[..., None]) / step - torch.arange(11)
    assert ((offset >= -1e-5) & (offset <= 1 + 1e-5)).all()


def test_importance_samples_gather_where_the_weight_is() -> None:
    depths = torch.linspace(1.0, 2.0, 49).view(1, 1, 49)
    weights = torch.zeros((1, 1, 48))
    weights[..., 20:22] = 0.5
    fine = importance_depths(depths, weights, torch.linspace(0, 1, 100))
    near = (fine > depths[..., 18]) & (fine < depths[..., 24])
    assert near.float().mean() > 0.7
    assert (fine.diff(dim=-1) >= 0).all() and fine.amin() >= 1.0 and fine.amax() <= 2.0


def test_weights_by_hand() -> None:
    # Two intervals of sigma ln 2 and length 1: each lets half of the light pass.
    density = torch.full((1, 1, 3), 1.0)
    depths = torch.tensor([[[0.0, 1.0, 2.0]]])
    weights = interval_weights(depths, density)  # softplus(0) = ln 2
    torch.testing.assert_close(weights, torch.tensor([[[0.5, 0.25]]]))
    torch.testing.assert_close(sample_weights(weights), torch.tensor([[[0.25, 0.375, 0.125]]]))
    features, depth, alpha = composite(depths, density, torch.tensor([0.0, 1.0, 0.0]).view(1, 1, 3, 1))
    assert features.item() == pytest.approx(2 * 0.375 - 1)
    assert depth.item() == pytest.approx((0.5 * 0.5 + 0.25 * 1.5) / 0.75)
    assert alpha.item() == pytest.approx(0.75)


def test_nothing_is_transparent_and_far_away() -> None:
    depths = torch.linspace(1, 2, 5).expand(1, 2, 5)
    features, depth, alpha = composite(depths, torch.full((1, 2, 5), -1e4), torch.rand(1, 2, 5, 3))
    assert (alpha == 0).all() and (features == -1).all() and (depth == 2).all()


def sorted_reference(decoder: Decoder, planes: TriPlane, camera: torch.Tensor, positions: SamplePositions, config: VolumeRenderer.Config):
    """The published order of things: all colours gathered and sorted along every ray."""
    origins, directions = camera_rays(camera, config.size_px)
    near, far, _ = box_crossings(origins, directions, -0.5, 0.5)

    def decode(depths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        points = origins[:, :, None] + depths[..., None] * directions[:, :, None]
        density, colours = decoder(sample_planes(planes.planes, points.flatten(1, 2), planes.layout))
        return density.view_as(depths), colours.view(*depths.shape, -1)

    coarse = stratified_depths(near, far, config.coarse, positions.jitter)
    density, colours = decode(coarse)
    with torch.no_grad():
        fine = importance_depths(coarse, interval_weights(coarse, density), positions.quantiles)
    fine_density, fine_colours = decode(fine)
    depths, order = torch.cat([coarse, fine], 2).sort(2)
    density = torch.cat([density, fine_density], 2).gather(2, order)
    colours = torch.cat([colours, fine_colours], 2).gather(2, order[..., None].expand(-1, -1, -1, colours.shape[3]))
    return composite(depths, density, colours)


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_rendering_equals_the_published_order(generator: torch.Generator, random: bool, with_gradient: bool) -> None:
    config = VolumeRenderer.Config(size_px=6, coarse=8, fine=7, rays_at_once=10)
    decoder, planes, camera = random_decoder(generator), random_planes(generator), cameras((0.1, 0.3, 0.0))
    positions = random_positions((1, 36), 8, 7, generator) if random else middle_positions(7, camera)
    with torch.set_grad_enabled(with_gradient):
        render = VolumeRenderer(decoder, config)(planes, camera, positions)
        features, depth, alpha = sorted_reference(decoder, planes, camera, positions, config)
    torch.testing.assert_close(render.features.flatten(2).transpose(1, 2), features, atol=2e-5, rtol=0)
    torch.testing.assert_close(render.depth.flatten(1), depth, atol=2e-5, rtol=0)
    torch.testing.assert_close(render.alpha.flatten(1), alpha, atol=2e-5, rtol=0)


def test_gradients_equal_those_of_the_published_order(generator: torch.Generator) -> None:
    config = VolumeRenderer.Config(size_px=4, coarse=8, fine=7)
    decoder, camera = random_decoder(generator), cameras((0.0, 0.2, 0.0))
    values = random_planes(generator).planes.requires_grad_()
    positions = middle_positions(7, camera)
    render = VolumeRenderer(decoder, config)(TriPlane(values), camera, positions)
    features, _, alpha = sorted_reference(decoder, TriPlane(values), camera, positions, config)
    parameters = [values, *decoder.parameters()]
    ours = torch.autograd.grad(render.features.square().sum() + render.alpha.sum(), parameters)
    theirs = torch.autograd.grad(features.square().sum() + alpha.sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4 * float(b.abs().max()), rtol=0)


def test_same_input_same_picture_and_a_batch_is_its_pictures(generator: torch.Generator) -> None:
    renderer = VolumeRenderer(random_decoder(generator), VolumeRenderer.Config(size_px=6, coarse=8, fine=8))
    planes, views = random_planes(generator, 2), cameras((0.0, 0.2, 0.0), (0.1, -0.2, 0.1))
    with torch.no_grad():
        both = renderer(planes, views)
        torch.testing.assert_close(renderer(planes, views).features, both.features, atol=0, rtol=0)
        for i in range(2):
            alone = renderer(TriPlane(planes.planes[i : i + 1]), views[i : i + 1])
            torch.testing.assert_close(alone.features[0], both.features[i], atol=1e-5, rtol=0)
            torch.testing.assert_close(alone.depth[0], both.depth[i], atol=1e-5, rtol=0)


def test_autocast_leaves_the_depths_exact(generator: torch.Generator) -> None:
    renderer = VolumeRenderer(random_decoder(generator), VolumeRenderer.Config(size_px=6, coarse=8, fine=8))
    planes, view = random_planes(generator), cameras((0.0, 0.2, 0.0))
    planes = TriPlane(planes.planes.bfloat16())
    with torch.no_grad():
        plain = renderer(planes, view)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = renderer(planes, view)
    assert mixed.depth.dtype == torch.float32
    torch.testing.assert_close(mixed.features, plain.features, atol=0, rtol=0)


def test_random_positions_follow_their_generator() -> None:
    first, again = (random_positions((1, 3), 4, 5, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(first.jitter, again.jitter) and torch.equal(first.quantiles, again.quantiles)
    assert first.jitter.shape == (1, 3, 4) and first.quantiles.shape == (1, 3, 5)


def test_rays_that_miss_the_volume_are_empty(generator: torch.Generator) -> None:
    away = cameras((0.0, 0.0, 0.0), translation=(3.0, 0.0, 0.0))
    renderer = VolumeRenderer(random_decoder(generator), VolumeRenderer.Config(size_px=8, coarse=6, fine=6))
    origins, directions = camera_rays(away, 8)
    hit = box_crossings(origins, directions, -0.5, 0.5)[2].view(8, 8)
    assert hit.any() and not hit.all()
    with torch.no_grad():
        render = renderer(random_planes(generator), away)
    assert (render.alpha[0, 0][~hit] == 0).all() and (render.alpha[0, 0][hit] > 0).all()
    assert (render.features[0][:, ~hit] == -1).all()
    assert (render.depth[0, 0][~hit] == render.depth[0, 0].max()).all()


def test_cameras_that_see_nothing(generator: torch.Generator) -> None:
    away = cameras((0.0, 0.0, 0.0), translation=(30.0, 0.0, 0.0))
    with torch.no_grad():
        render = VolumeRenderer(random_decoder(generator), VolumeRenderer.Config(size_px=4, coarse=6, fine=6))(
            random_planes(generator), away
        )
    assert (render.alpha == 0).all() and (render.features == -1).all() and torch.isinf(render.depth).all()


def test_skipping_empty_space_changes_nothing(generator: torch.Generator) -> None:
    decoder = random_decoder(generator)
    planes, view = ball(decoder), cameras((0.1, 0.2, 0.0))
    config = VolumeRenderer.Config(size_px=24, coarse=24, fine=24)
    with torch.no_grad():
        plain = VolumeRenderer(decoder, config)(planes, view)
        occupancy = VolumeRenderer(decoder, config).occupancy(planes)
        assert 0.02 < occupancy.cells.float().mean() < 0.5
        skipping = VolumeRenderer(decoder, VolumeRenderer.Config(size_px=24, coarse=24, fine=24, colour_threshold=1e-7))
        fast = skipping(planes, view, occupancy=occupancy)
    assert plain.alpha.amax() > 0.99 and plain.alpha.amin() < 1e-4
    torch.testing.assert_close(fast.features, plain.features, atol=1e-3, rtol=0)
    torch.testing.assert_close(fast.alpha, plain.alpha, atol=1e-3, rtol=0)
    seen = plain.alpha > 0.01
    torch.testing.assert_close(fast.depth[seen], plain.depth[seen], atol=1e-3, rtol=0)


def test_occupancy_of_points() -> None:
    cells = torch.zeros((4, 4, 4), dtype=torch.bool)
    cells[0, 1, 3] = True
    occupancy = Occupancy(cells, 2.0)
    points = torch.tensor([[-0.9, -0.2, 0.9], [0.9, -0.2, 0.9], [-1.1, -0.2, 0.9]])
    assert occupancy.at(points).tolist() == [True, False, False]


def test_depth_is_limited_per_picture() -> None:
    depths = torch.tensor([[[1.0, 2.0]], [[5.0, 6.0]]])
    assert expected_depth(depths, torch.zeros((2, 1, 1))).tolist() == [[2.0], [6.0]]
