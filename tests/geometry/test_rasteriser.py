"""Laws of the z-buffer: coverage, depth, perspective, ties, clipping; the compiled and the torch version agree."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.geometry.cameras import project
from triportrait.geometry.rasteriser import Fragments, draw_fragments, interpolate, rasterise, rasterise_attributes


def sphere(rings: int, sectors: int, radius: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [v, 3] and triangles [f, 3], counter-clockwise seen from outside; tiny holes at the poles."""
    polar, around = np.meshgrid(np.linspace(0.01, np.pi - 0.01, rings), np.linspace(0, 2 * np.pi, sectors, endpoint=False), indexing="ij")
    directions = [np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)]
    vertices = radius * np.stack(directions, -1).reshape(-1, 3)
    first = np.arange(rings - 1)[:, None] * sectors + np.arange(sectors)
    second = np.arange(rings - 1)[:, None] * sectors + (np.arange(sectors) + 1) % sectors
    upper = np.stack([first, first + sectors, second], -1).reshape(-1, 3)
    lower = np.stack([second, first + sectors, second + sectors], -1).reshape(-1, 3)
    return vertices.astype(np.float32), np.concatenate([upper, lower]).astype(np.int32)


def soup(seed: int, count: int, side: int, snap: float | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random pixels, depths and triangles around a picture; ``snap`` rounds pixels to provoke exact hits."""
    random = np.random.default_rng(seed)
    pixels = random.uniform(-0.3 * side, 1.3 * side, (count, 2))
    if snap:
        pixels = np.round(pixels / snap) * snap
    depth = random.uniform(2.0, 12.0, count)
    triangles = random.integers(0, count, (2 * count, 3))
    return pixels.astype(np.float32), depth.astype(np.float32), triangles.astype(np.int32)


@pytest.mark.parametrize("snap", [None, 0.5, 1.0])
def test_a_triangulated_square_covers_every_pixel_exactly_once(snap):
    # An irregular grid over the picture; with snap its corners and edges lie on pixel centres or pixel corners.
    random = np.random.default_rng(3)
    cells, side = 12, 48
    grid = np.stack(np.meshgrid(np.arange(cells + 1), np.arange(cells + 1)), -1) * (side / cells)
    inner = (slice(1, -1), slice(1, -1))
    grid = grid.astype(np.float64)
    grid[inner] += random.uniform(-1.3, 1.3, grid[inner].shape)
    if snap:
        grid = np.round(grid / snap) * snap
    pixels = grid.reshape(-1, 2).astype(np.float32)
    corner = (np.arange(cells)[:, None] * (cells + 1) + np.arange(cells)).reshape(-1)
    first = np.stack([corner, corner + 1, corner + cells + 1], -1)
    second = np.stack([corner + 1, corner + cells + 2, corner + cells + 1], -1)
    second[::3] = second[::3, ::-1]  # orientation must not matter
    triangles = np.concatenate([first, second]).astype(np.int32)
    depth = np.full(len(pixels), 5.0, np.float32)
    hits = np.zeros((side, side), int)
    for triangle in triangles:
        hits += rasterise(pixels, depth, triangle[None], side, side).triangle == 0
    assert (hits == 1).all()


def test_depth_and_attributes_of_a_tilted_plane_are_those_of_the_ray():
    # The plane z' = 0.3 x - 0.5 y + 0.2 seen by the head camera: intersect each pixel's ray with it.
    side, focal = 64, 4.0
    corners = np.array([[-2.0, -2.0], [2.0, -2.0], [2.0, 2.0], [-2.0, 2.0]])
    plane = np.array([0.3, -0.5, 0.2])
    points = np.concatenate([corners, (corners @ plane[:2] + plane[2])[:, None]], 1).astype(np.float32)
    pixels, depth = project(points, side, focal)
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    fragments = rasterise(pixels, depth, triangles, side, side)
    assert (fragments.triangle >= 0).all()
    x = (np.arange(side) + 0.5 - side / 2) / (focal * side)
    ray_x, ray_y = np.meshgrid(x, -x)  # position = depth * ray
    expected = (10.0 - plane[2]) / (1.0 + plane[0] * ray_x + plane[1] * ray_y)
    np.testing.assert_allclose(fragments.depth, expected, rtol=2e-6)
    position = interpolate(fragments, triangles, points)
    np.testing.assert_allclose(position[..., 0], expected * ray_x, atol=1e-5)
    np.testing.assert_allclose(position[..., 1], expected * ray_y, atol=1e-5)
    np.testing.assert_allclose(fragments.barycentric.sum(-1), 1.0, atol=1e-6)


def test_equal_depth_goes_to_the_lower_index_and_nearer_wins_in_any_order():
    pixels = np.array([[0, 0], [20, 0], [0, 20]] * 3, np.float32)
    depth = np.array([5, 5, 5, 5, 5, 5, 4, 4, 4], np.float32)
    triangles = np.arange(9, dtype=np.int32).reshape(3, 3)
    assert set(np.unique(rasterise(pixels, depth, triangles[:2], 8, 8).triangle)) == {0}
    assert set(np.unique(rasterise(pixels, depth, triangles, 8, 8).triangle)) == {2}
    assert set(np.unique(rasterise(pixels, depth, triangles[::-1], 8, 8).triangle)) == {0}


def test_what_reaches_out_of_the_picture_is_clipped_not_moved():
    pixels, depth, triangles = soup(5, 60, 40)
    large = rasterise(pixels + 100, depth, triangles, 240, 240)
    small = rasterise(pixels, depth, triangles, 40, 40)
    # The shift rounds the coordinates in float32, so a few samples on edges may change hands.
    assert (large.triangle[100:140, 100:140] == small.triangle).mean() > 0.999


def test_triangles_at_the_lens_without_area_or_not_finite_are_skipped():
    pixels = np.array([[0, 0], [20, 0], [0, 20], [np.nan, 0], [np.inf, 5], [10, 10], [1e30, 1e30]], np.float32)
    depth = np.array([5, 5, 0.005, 5, 5, 5, np.nan], np.float32)
    triangles = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4], [0, 0, 1], [0, 1, 6], [5, 5, 5]], np.int32)
    assert (rasterise(pixels, depth, triangles, 8, 8).triangle == -1).all()


def test_culling_keeps_the_visible_half_of_a_closed_surface():
    vertices, triangles = sphere(30, 40)
    pixels, depth = project(vertices, 96)
    both = rasterise(pixels, depth, triangles, 96, 96)
    culled = rasterise(pixels, depth, triangles, 96, 96, cull="back")
    # Only the pin holes at the poles differ: through them the inside of the far half is seen.
    assert (both.triangle != culled.triangle).sum() <= 4
    assert 0.4 < (culled.triangle >= 0).mean() < 0.6
    with pytest.raises(ValueError, match="cull"):
        rasterise(pixels, depth, triangles, 96, 96, cull="front")
    # Back faces alone, and front faces over them, are both.
    draw_fragments(pixels, depth, triangles, culled.triangle, culled.barycentric, culled.depth, 0.0, False, True)
    np.testing.assert_array_equal(culled.triangle, both.triangle)


def test_buffers_are_reused_and_leave_no_trace_of_the_last_frame():
    pixels, depth, triangles = soup(1, 40, 32)
    buffers = Fragments.empty(32, 32)
    rasterise(pixels[::-1], depth, triangles, 32, 32, buffers=buffers)
    again = rasterise(pixels, depth, triangles, 32, 32, buffers=buffers)
    fresh = rasterise(pixels, depth, triangles, 32, 32)
    assert again is buffers
    for name in ("triangle", "barycentric", "depth"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fresh, name))
    with pytest.raises(ValueError, match="buffers"):
        rasterise(pixels, depth, triangles, 33, 32, buffers=buffers)


def test_fused_attributes_equal_rasterise_then_interpolate_and_meshes_share_one_depth_buffer():
    pixels, depth, triangles = soup(2, 50, 40)
    attributes = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    fragments = rasterise(pixels, depth, triangles, 40, 40)
    out, out_depth = np.zeros((40, 40, 5), np.float32), np.full((40, 40), np.inf, np.float32)
    for part in (triangles[:37], triangles[37:]):
        rasterise_attributes(pixels, depth, part, attributes, out, out_depth)
    np.testing.assert_array_equal(out_depth, fragments.depth)
    np.testing.assert_array_equal(out, interpolate(fragments, triangles, attributes))
    # A bias that brings the same mesh forward overdraws everything; one that pushes it back draws nothing.
    rasterise_attributes(pixels, depth, triangles, attributes + 1, out, out_depth, 0.5)
    np.testing.assert_array_equal(out_depth, fragments.depth)
    rasterise_attributes(pixels, depth, triangles, attributes + 1, out, out_depth, -0.5)
    seen = fragments.triangle >= 0
    np.testing.assert_allclose(out_depth[seen], fragments.depth[seen] - 0.5, rtol=1e-6)


def test_indices_that_do_not_exist_are_refused_before_compiled_code_sees_them():
    pixels, depth, triangles = soup(2, 10, 16)
    for bad in (10, -1):
        triangles[3, 1] = bad
        with pytest.raises(ValueError, match="vertices"):
            rasterise(pixels, depth, triangles, 16, 16)


def torch_fragments(pixels, depth, triangles, side, **options):
    torch = pytest.importorskip("torch")
    from triportrait.geometry import rasteriser_torch

    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in (pixels, depth, triangles)]
    return rasteriser_torch.rasterise(*tensors, side, side, **options)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("snap", [None, 0.5])
@pytest.mark.parametrize("cull", [None, "back"])
def test_torch_and_numba_draw_random_soups_alike(number, snap, cull):
    pixels, depth, triangles = soup(number, 60, 40, snap)
    depth[::7] = 4.0  # equal depths
    depth[5] = 0.001  # behind the lens
    ours = rasterise(pixels, depth, triangles, 40, 40, cull=cull)
    theirs = torch_fragments(pixels, depth, triangles, 40, cull=cull, chunk_size=5000)
    np.testing.assert_array_equal(theirs.triangle.numpy(), ours.triangle)
    np.testing.assert_array_equal(theirs.depth.numpy(), ours.depth)
    np.testing.assert_allclose(theirs.barycentric.numpy(), ours.barycentric, atol=1e-6)


def test_torch_and_numba_draw_a_sphere_alike_and_interpolate_alike():
    import torch

    from triportrait.geometry import rasteriser_torch

    vertices, triangles = sphere(40, 60)
    pixels, depth = project(vertices, 128)
    ours = rasterise(pixels, depth, triangles, 128, 128)
    theirs = torch_fragments(pixels, depth, triangles, 128)
    np.testing.assert_array_equal(theirs.triangle.numpy(), ours.triangle)
    np.testing.assert_array_equal(theirs.depth.numpy(), ours.depth)
    values = rasteriser_torch.interpolate(theirs, torch.from_numpy(triangles), torch.from_numpy(vertices))
    np.testing.assert_allclose(values.numpy(), interpolate(ours, triangles, vertices), atol=1e-6)


def test_torch_gradients_of_depth_follow_finite_differences():
    import torch

    from triportrait.geometry import rasteriser_torch

    pixels = torch.tensor([[-10.0, -8.0], [40.0, -3.0], [2.0, 45.0]], requires_grad=True)
    depth = torch.tensor([4.0, 6.0, 9.0], requires_grad=True)
    triangles = torch.tensor([[0, 1, 2]])

    def total() -> torch.Tensor:
        return rasteriser_torch.rasterise(pixels, depth, triangles, 8, 8).depth.double().sum()

    assert torch.isfinite(total())
    total().backward()
    for tensor in (pixels, depth):
        analytic = tensor.grad.clone()
        for place in range(tensor.numel()):
            values = []
            for step in (0.01, -0.01):
                with torch.no_grad():
                    tensor.view(-1)[place] += step
                    values.append(float(total()))
                    tensor.view(-1)[place] -= step
            assert float(analytic.view(-1)[place]) == pytest.approx((values[0] - values[1]) / 0.02, rel=2e-3, abs=2e-3)


def test_nothing_to_draw_is_an_empty_picture():
    for fragments in (
        rasterise(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 3)), 4, 5),
        torch_fragments(np.zeros((3, 2), np.float32), np.ones(3, np.float32), np.array([[0, 1, 2]], np.int32), 4),
    ):
        assert (np.asarray(fragments.triangle) == -1).all()
        assert np.isinf(np.asarray(fragments.depth)).all()
