"""Posing and projection: the conventions of :mod:`triportrait.types`, the numbers of spec 3.4 and the golden cameras."""

from __future__ import annotations

import numpy as np
import pytest

from golden_folder import golden
from triportrait.geometry.cameras import EG3D_OFFSET, EG3D_SCALE, camera_from_pose, look_at_camera, orbit_camera, pose_points, project
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import FOCAL_IN_WIDTHS

rng = np.random.default_rng(3)


def test_no_pose_gives_the_published_camera():
    camera = camera_from_pose(np.zeros(3), np.zeros(3))
    np.testing.assert_array_equal(camera.camera_to_world[:3, :3], np.diag([1.0, -1.0, -1.0]))
    np.testing.assert_allclose(camera.camera_to_world[:3, 3], (0.0, 0.006, 2.861), atol=1e-12)
    np.testing.assert_array_equal(camera.camera_to_world[3], (0, 0, 0, 1))
    assert camera.focal == pytest.approx(4.2647, abs=1e-5)


@pytest.mark.parametrize(
    ("euler", "translation", "position"),
    [
        ((0.0, 0.1, 0.0), (0, 0, 0), (-0.2696, 0.006, 2.8475)),
        ((0.1, 0.0, 0.0), (0, 0, 0), (0.0, 0.2756, 2.8475)),
        ((0.0, 0.0, 0.0), (0.1, 0.2, 0.3), (-0.027, -0.048, 2.780)),
    ],
)
def test_positions_that_the_published_code_was_seen_to_give(euler, translation, position):
    camera = camera_from_pose(np.array(euler), np.array(translation))
    np.testing.assert_allclose(camera.camera_to_world[:3, 3], position, atol=6e-5)


def test_golden_cameras():
    reference = golden("real3d/camera.json")
    # The golden's poses were float32 when its camera was computed.
    eulers, translations = (np.array(reference[name], np.float32) for name in ("euler", "trans"))
    assert len(eulers) == len(reference["camera"]) >= 10
    for euler, translation, expected in zip(eulers, translations, reference["camera"], strict=True):
        camera = camera_from_pose(euler, translation, focal=4.2647).to_eg3d()
        assert camera.dtype == np.float32
        np.testing.assert_allclose(camera, expected, atol=1e-6)


def test_the_camera_sees_the_unposed_head_as_the_posed_one_is_seen():
    points = rng.uniform(-1, 1, (50, 3))
    rotation, translation = np.array([0.2, -0.4, 0.1]), np.array([0.3, -0.2, -0.7])
    pixels, depth = project(pose_points(points, rotation, translation), 512)

    camera = camera_from_pose(rotation, translation)
    world = EG3D_SCALE * points + EG3D_OFFSET
    seen = (world - camera.camera_to_world[:3, 3]) @ camera.camera_to_world[:3, :3]  # x right, y down, z forward
    np.testing.assert_allclose(seen[:, 2], EG3D_SCALE * depth, atol=1e-12)
    np.testing.assert_allclose((camera.focal * seen[:, :2] / seen[:, 2:] + 0.5) * 512, pixels, atol=1e-9)


def test_pixels_go_right_and_down_and_depth_goes_away():
    posed = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], np.float64)
    pixels, depth = project(posed, 200.0, focal=4.0)
    np.testing.assert_allclose(pixels, [[100, 100], [140, 100], [100, 60], [100, 100]])
    np.testing.assert_allclose(depth, [10, 10, 10, 9.5])


def test_one_decimetre_at_the_origin_spans_the_focal_share_of_the_width():
    pixels, _ = project(np.array([[-0.5, 0, 0], [0.5, 0, 0]]), 512.0)
    assert pixels[1, 0] - pixels[0, 0] == pytest.approx(FOCAL_IN_WIDTHS / 10 * 512)


def test_projection_scales_with_the_side():
    posed = rng.uniform(-1, 1, (20, 3))
    np.testing.assert_allclose(project(posed, 512.0)[0], 2 * project(posed, 256.0)[0])


def test_pose_points_is_the_matrix_and_keeps_the_type():
    points = rng.normal(size=(20, 3))
    rotation, translation = np.array([0.3, 0.2, -0.5]), np.array([1.0, -2.0, 3.0])
    expected = [matrix_from_euler(rotation) @ p + translation for p in points]
    np.testing.assert_allclose(pose_points(points, rotation, translation), expected, atol=1e-14)
    assert pose_points(points.astype(np.float32), rotation, translation).dtype == np.float32
    assert project(points.astype(np.float32), 512.0)[0].dtype == np.float32


def test_a_camera_that_looks_at_a_point_sees_it_in_the_middle():
    front = look_at_camera(0.0, 0.0)
    np.testing.assert_allclose(front.camera_to_world[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-12)
    np.testing.assert_allclose(front.camera_to_world[:3, 3], (0.0, 0.0, 2.7))
    np.testing.assert_allclose(look_at_camera(0.3, 0.0).camera_to_world[:3, 3], (0.798, 0.0, 2.579), atol=1e-3)
    for yaw, pitch in ((0.4, 0.3), (-1.2, -0.9), (2.0, 0.0)):
        pivot = np.array((0.1, -0.2, 0.3))
        camera = look_at_camera(yaw, pitch, 3.1, pivot)
        rotation, position = camera.camera_to_world[:3, :3], camera.camera_to_world[:3, 3]
        np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1.0)
        np.testing.assert_allclose(position + np.linalg.norm(pivot - position) * rotation[:, 2], pivot, atol=1e-12)
        assert np.linalg.norm(position) == pytest.approx(3.1)
        assert rotation[1, 0] == pytest.approx(0.0, abs=1e-12), "the horizon is level"
        assert np.sign(position[1]) == -np.sign(pitch), "positive pitch looks from below"
    for yaw, pitch, radius in ((0.0, 2.0, 2.7), (0.0, 0.0, 0.0)):
        with pytest.raises(ValueError):
            look_at_camera(yaw, pitch, radius)
    with pytest.raises(ValueError, match="no upright"):
        look_at_camera(0.0, 0.0, 1.0, (0.0, 5.0, 1.0))


def test_an_orbit_goes_round_its_pivot() -> None:
    front = orbit_camera(0.0, 0.0, 2.7).camera_to_world
    np.testing.assert_allclose(front[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-12)
    np.testing.assert_allclose(front[:3, 3], [0, 0, 2.9])
    side = orbit_camera(-0.5, 0.2, 3.0).camera_to_world
    np.testing.assert_allclose(side[:3, :3] @ side[:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(side[:3, 3] + 3.0 * side[:3, 2], [0, 0, 0.2], atol=1e-12)
    assert side[0, 3] < 0 < side[1, 3]  # to -x and up
