"""The fitted surface in its photograph: normals, what is seen, and colours for what is not."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.avatar.lifted.surface import Surface, face_weight, fit_surface, spread_colours
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.normals import vertex_normals
from triportrait.types import HeadPart, PreparedPortrait


@pytest.fixture(scope="module")
def surface(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> Surface:
    return fit_surface(astronaut_portrait, open_head)


def sphere(count: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Vertices on the unit sphere and triangles, counter-clockwise from outside."""
    from scipy.spatial import ConvexHull

    golden = np.arange(count * count) * np.pi * (3 - np.sqrt(5))
    z = np.linspace(-1, 1, count * count)
    radius = np.sqrt(1 - z**2)
    points = np.stack([radius * np.cos(golden), radius * np.sin(golden), z], -1)
    triangles = ConvexHull(points).simplices
    corner = points[triangles]
    inward = np.einsum("ij,ij->i", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])) < 0
    triangles[inward] = triangles[inward][:, ::-1]
    return points, triangles


def test_normals_of_a_sphere_point_outwards():
    points, triangles = sphere()
    normals = vertex_normals(points, triangles)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-9)
    assert (normals * points).sum(1).min() > 0.99
    np.testing.assert_allclose(vertex_normals(points, triangles[:, ::-1]), -normals, atol=1e-12)


def test_normals_turn_with_the_surface_and_ignore_its_size():
    from triportrait.geometry.rotations import matrix_from_euler

    points, triangles = sphere(10)
    points = points * (1.0, 0.6, 0.3)
    matrix = matrix_from_euler(np.array([0.3, -0.7, 1.1]))
    np.testing.assert_allclose(vertex_normals(5 * points @ matrix.T, triangles), vertex_normals(points, triangles) @ matrix.T, atol=1e-9)


def test_a_vertex_without_triangles_has_no_normal():
    points = np.concatenate([sphere(6)[0], [[9.0, 9.0, 9.0]]])
    assert not vertex_normals(points, sphere(6)[1])[-1].any()


def test_the_face_proper_is_where_the_landmarks_are(open_head):
    weight = face_weight(open_head, open_head.mean)
    assert weight.min() == 0.0 and weight.max() == 1.0
    nose = np.linalg.norm(open_head.mean - open_head.landmarks478(open_head.mean)[4], axis=1) < 0.05
    assert (weight[nose] == 1.0).all()
    crown = open_head.mean[:, 1] > open_head.landmarks478(open_head.mean)[10, 1] + 0.3
    assert crown.sum() > 30 and (weight[crown] == 0.0).all()


def test_the_face_still_meets_the_photo(surface, astronaut_portrait, open_head):
    """Drawing the skull in under the outline must not pull at eyes, nose and lips."""
    motion = astronaut_portrait.motion
    landmarks = open_head.landmarks478(surface.source)
    pixels, _ = project(pose_points(landmarks, motion.rotation_rad, motion.translation), 512, astronaut_portrait.focal)
    inner = [33, 133, 362, 263, 4, 1, 2, 61, 291, 13, 14, 0, 17, 145, 159, 374, 386]
    assert np.linalg.norm(pixels[inner] - astronaut_portrait.landmarks[inner, :2], axis=1).max() < 4.0


def test_the_skull_hides_under_the_outline(surface, astronaut_portrait, open_head):
    import cv2

    skull = (surface.face == 0) & (open_head.part == HeadPart.SKIN) & (open_head.neck < 0.01)
    inside = (surface.pixels >= 0).all(1) & (surface.pixels < 512).all(1)
    x, y = surface.pixels[skull & inside].astype(int).T
    person = cv2.dilate((astronaut_portrait.person_alpha > 0.5).astype(np.uint8), np.ones((9, 9), np.uint8))
    assert len(x) > 300 and person[y, x].mean() > 0.97


def test_pixels_and_fragments_are_those_of_the_source(surface, astronaut_portrait):
    motion = astronaut_portrait.motion
    pixels, depth = project(pose_points(surface.source, motion.rotation_rad, motion.translation), 512, astronaut_portrait.focal)
    np.testing.assert_allclose(surface.pixels, pixels, atol=1e-3)
    np.testing.assert_allclose(surface.depth, depth, atol=1e-4)
    x, y = astronaut_portrait.landmarks[[4, 50, 280], :2].astype(int).T
    assert (surface.fragments.triangle[y, x] >= 0).all()


def test_what_is_seen_lies_in_front(surface, open_head):
    assert surface.seen.min() >= 0.0 and surface.seen.max() <= 1.0
    assert (surface.seen[open_head.part != HeadPart.SKIN] == 0).all()
    seen = surface.seen > 0.6
    assert seen.sum() > 1000
    x, y = surface.pixels[seen].astype(int).T
    assert (surface.depth[seen] < surface.fragments.depth[y, x] + 0.05).all()
    back = (surface.source[:, 2] < -0.9) & (open_head.neck < 0.01)
    assert back.sum() > 100 and surface.seen[back].max() == 0.0


def test_every_skin_vertex_gets_a_colour(surface, astronaut_portrait, open_head):
    kept = astronaut_portrait.image.copy()
    colours = spread_colours(surface, astronaut_portrait, open_head)
    assert colours.shape == (len(open_head.mean), 4) and np.isfinite(colours).all()
    assert colours[:, :3].min() >= 0.0 and colours[:, :3].max() <= 255.0
    assert colours[:, 3].min() >= 0.0 and colours[:, 3].max() <= 1.0
    assert (colours[surface.seen >= 0.6, 3] == 0).all() and (colours[surface.seen == 0, 3] == 1).all()
    # Seen cheeks have the photo's colours, give or take its texture.
    cheek = np.linalg.norm(surface.source - open_head.landmarks478(surface.source)[50], axis=1) < 0.1
    x, y = surface.pixels[cheek].astype(int).T
    assert np.abs(colours[cheek, :3].mean(0) - astronaut_portrait.image[y, x].mean(0)).max() < 12
    np.testing.assert_array_equal(astronaut_portrait.image, kept)
