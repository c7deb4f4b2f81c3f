"""The hull: closed, in one piece, smooth behind, and where the photo has its outline."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.export.hull import Hull, build_hull, depth_behind, largest_piece, surface_nets, triangles_of
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.normals import vertex_normals
from triportrait.types import PreparedPortrait


def edges_of(triangles: np.ndarray) -> np.ndarray:
    return np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])


def ball(radius: float = 0.7, step: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    line = np.arange(-1.0, 1.0 + step / 2, step)
    x, y, z = np.meshgrid(line, line, line, indexing="ij")
    return surface_nets(radius - np.sqrt(x * x + y * y + z * z), np.full(3, -1.0), step)


def test_a_balls_surface_is_closed_round_and_faces_outwards() -> None:
    points, quads = ball()
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 0.7, atol=0.02)
    triangles = triangles_of(quads)
    # Each edge is walked once in each direction: there is no hole, and all triangles agree on what is outside.
    walked = edges_of(triangles)
    assert len(np.unique(walked, axis=0)) == len(walked)
    assert {tuple(edge) for edge in walked} == {(b, a) for a, b in walked}
    assert (vertex_normals(points, triangles) * points).sum(1).min() > 0


def test_the_largest_piece_is_kept() -> None:
    points, quads = ball()
    small, small_quads = ball(0.3)
    kept, kept_quads = largest_piece(np.concatenate([small, points + 5.0]), np.concatenate([small_quads, quads + len(small)]))
    np.testing.assert_allclose(kept, points + 5.0)
    assert len(kept_quads) == len(quads)


def test_depth_behind_tells_inside_from_outside_through_holes() -> None:
    points, quads = ball(0.7, 0.05)
    # An open ball: a view into it shows its back, which is no surface.
    opened = triangles_of(quads[points[quads, 1].min(1) > -0.55]).astype(np.int32)
    places = [[0.0, 0.0, 0.0], [0.0, 0.65, 0.0], [0.0, 0.75, 0.0], [0.9, 0.0, 0.0], [0.0, 0.0, -0.66]]
    behind = depth_behind(points, opened, np.array(places))
    assert (behind > 0).tolist() == [True, True, False, False, True]
    assert behind[1] == pytest.approx(0.05, abs=0.02) and behind[2] < -0.04


@pytest.fixture(scope="module")
def hull(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> Hull:
    state = LiftedAvatar(open_head, whole_person=True).prepare(astronaut_portrait)
    return build_hull(astronaut_portrait, open_head, state, np.zeros(len(open_head.mean), np.float32))


def test_a_persons_hull_has_no_hole_anywhere(hull: Hull) -> None:
    edges, count = np.unique(np.sort(edges_of(hull.triangles()), axis=1), axis=0, return_counts=True)
    assert (count % 2 == 0).all() and len(edges) > 1000


def test_its_back_is_smooth(hull: Hull) -> None:
    triangles = hull.triangles()
    corners = hull.points[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    middle = corners.mean(1)
    skull = (middle[:, 2] < -1.0) & (middle[:, 1] > 0.0)
    bend = np.einsum("ij,ij->i", normal[0::2], normal[1::2])[skull[0::2] & skull[1::2]]
    assert len(bend) > 200 and np.quantile(bend, 0.02) > np.cos(np.radians(25.0))


def test_in_the_photo_it_fills_the_person(hull: Hull, astronaut_portrait: PreparedPortrait) -> None:
    portrait, size = astronaut_portrait, len(astronaut_portrait.image)
    pixels, _ = project(pose_points(hull.points, portrait.motion.rotation_rad, portrait.motion.translation), size, portrait.focal)
    x, y = (np.clip(pixels[:, c].astype(int), 0, size - 1) for c in (0, 1))
    inside = ((pixels >= 0) & (pixels < size)).all(1)
    person = np.maximum(portrait.person_alpha, portrait.head_alpha)
    assert (person[y, x][inside] > 0.5).mean() > 0.95
    rows = np.arange(100, size - 20, 40)
    for row in rows:
        shown = np.flatnonzero(person[row] > 0.9)
        near = np.abs(pixels[:, 1] - row) < 6
        assert np.ptp(pixels[near, 0]) > 0.9 * np.ptp(shown)
