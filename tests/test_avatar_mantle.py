"""The mantle: every node shows its own pixel, lies before the far side, and follows the face beside it."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.avatar.mantle import Mantle, _cells, _laplace, build_mantle
from triportrait.avatar.surface import Surface, fit_surface
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.rasteriser import rasterise
from triportrait.types import Portrait


@pytest.fixture(scope="module")
def surface(astronaut_portrait: Portrait, open_head: OpenHead) -> Surface:
    return fit_surface(astronaut_portrait, open_head)


@pytest.fixture(scope="module")
def mantle(astronaut_portrait: Portrait, open_head: OpenHead, surface: Surface) -> Mantle:
    return build_mantle(astronaut_portrait, open_head, surface)


def nodes_of(triangles: np.ndarray) -> np.ndarray:
    return np.unique(triangles)


def posed(mantle: Mantle, portrait: Portrait) -> tuple[np.ndarray, np.ndarray]:
    points = pose_points(mantle.rest, portrait.motion.rotation_rad, portrait.motion.translation)
    return project(points, portrait.image.shape[0], portrait.focal)


def test_in_the_photos_pose_each_node_lies_on_its_own_pixel(mantle, astronaut_portrait):
    pixels, _ = posed(mantle, astronaut_portrait)
    inside = ((pixels > 0) & (pixels < 512)).all(1)
    near = np.intersect1d(nodes_of(mantle.triangles), np.flatnonzero(inside))
    assert len(near) > 2000
    np.testing.assert_allclose(pixels[near], mantle.pixels[near], atol=0.05)


def test_the_far_side_shows_the_same_pixels_from_behind(mantle, astronaut_portrait):
    _, depth = posed(mantle, astronaut_portrait)
    half = len(mantle.rest) // 2
    far = nodes_of(mantle.far_triangles)
    assert far.min() >= half > nodes_of(mantle.triangles).max()
    np.testing.assert_array_equal(mantle.pixels[far], mantle.pixels[far - half])
    assert (depth[far] > depth[far - half]).all()


def test_hair_is_covered_and_air_is_not_needed(mantle, astronaut_portrait):
    """Drawn in the photo's pose, sheet and face leave no pixel of the head bare."""
    pixels, depth = posed(mantle, astronaut_portrait)
    drawn = rasterise(pixels.astype(np.float32), depth.astype(np.float32), mantle.triangles, 512, 512).triangle >= 0
    hair = astronaut_portrait.head_alpha > 0.3
    top = int(astronaut_portrait.landmarks[10, 1]) - 4
    assert drawn[:top][hair[:top]].all()
    assert not drawn[:10, :10].any()


def test_depths_are_a_heads(mantle, astronaut_portrait):
    _, depth = posed(mantle, astronaut_portrait)
    near = nodes_of(mantle.triangles)
    assert np.isfinite(mantle.rest).all()
    assert np.ptp(depth[near]) < 2.5  # decimetres
    head = 10 - astronaut_portrait.motion.translation[2]
    assert np.abs(depth[near] - head).max() < 2.0


def test_a_resting_face_leaves_the_sheet_at_rest(mantle, open_head):
    still = mantle.follow(np.zeros_like(open_head.mean))
    np.testing.assert_array_equal(still, mantle.rest)


def test_the_sheet_follows_what_it_lies_beside(mantle, open_head):
    assert mantle.weight.min() >= -1e-5 and mantle.weight.sum(1).max() <= 1 + 1e-4
    shift = np.float32((0.1, -0.2, 0.05))
    moved = mantle.follow(np.broadcast_to(shift, open_head.mean.shape)) - mantle.rest
    np.testing.assert_allclose(moved, mantle.weight.sum(1, keepdims=True) * shift, atol=1e-5)
    half = len(mantle.rest) // 2
    assert np.linalg.norm(moved[:half], axis=1).max() > 0.2  # beside the face it goes along
    assert not moved[half:].any()  # the far side stays


def test_indices_name_what_exists(mantle, open_head):
    for triangles in (mantle.triangles, mantle.far_triangles):
        assert triangles.dtype == np.int32 and triangles.min() >= 0 and triangles.max() < len(mantle.rest)
    assert mantle.corner.min() >= 0 and mantle.corner.max() < len(open_head.mean)
    assert mantle.pixels.min() >= -0.01 and mantle.pixels.max() <= 512.01


def test_laplace_is_exact_for_planes_and_keeps_what_is_fixed():
    y, x = np.mgrid[:20, :30].astype(float)
    plane = 2.0 * x - 3.0 * y + 5.0
    fixed = np.zeros((20, 30), bool)
    fixed[[0, -1]] = fixed[:, [0, -1]] = True
    np.testing.assert_allclose(_laplace(np.where(fixed, plane, 99.0), fixed), plane, atol=1e-4)


def test_laplace_obeys_the_maximum_principle():
    rng = np.random.default_rng(0)
    fixed = rng.uniform(size=(25, 25)) < 0.1
    values = rng.uniform(-1, 1, (25, 25))
    filled = _laplace(values, fixed)
    np.testing.assert_array_equal(filled[fixed], values[fixed])
    assert filled.max() <= values[fixed].max() + 1e-6 and filled.min() >= values[fixed].min() - 1e-6
    np.testing.assert_array_equal(_laplace(values, np.ones_like(fixed)), values)


def test_cells_surround_the_wanted_nodes():
    wanted = np.zeros((5, 6), bool)
    wanted[2, 3] = True
    triangles = _cells(wanted, wanted)
    assert len(triangles) == 8  # two for each of the four cells that share the node
    assert set(np.unique(triangles)) == {row * 6 + column for row in (1, 2, 3) for column in (2, 3, 4)}
    assert len(_cells(np.ones((5, 6), bool), np.ones((5, 6), bool))) == 2 * 4 * 5
    assert len(_cells(wanted, np.zeros_like(wanted))) == 0
