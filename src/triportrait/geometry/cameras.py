"""Posing, projection, and the way from a head pose to EG3D's camera. Source: spec 3.1 and 3.4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from triportrait.geometry.rotations import matrix_from_euler, mean_rotation
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, Array, Camera

#: EG3D world units per decimetre of head space, and where the head-space origin lies in that world.
EG3D_SCALE = 0.27
EG3D_OFFSET = np.array([0.0, 0.006, 0.161])


def pose_points(points: Array, rotation_rad: Array, translation: Array) -> Array:
    """``p' = M p + t`` for head-space points [n, 3]; the result keeps the points' dtype."""
    matrix = matrix_from_euler(rotation_rad)
    return (points @ matrix.T + np.asarray(translation)).astype(points.dtype, copy=False)


def project(posed: Array, side_px: float, focal: float = FOCAL_IN_WIDTHS) -> tuple[Array, Array]:
    """Posed points [n, 3] -> pixels [n, 2] of a square picture of ``side_px`` and camera depths [n] in decimetres."""
    depth = CAMERA_DISTANCE_DM - posed[:, 2]
    scale = focal * side_px / depth
    half = 0.5 * side_px
    pixels = np.stack([half + posed[:, 0] * scale, half - posed[:, 1] * scale], -1)
    return pixels.astype(posed.dtype, copy=False), depth


def camera_from_pose(rotation_rad: Array, translation: Array, focal: float = FOCAL_IN_WIDTHS) -> Camera:
    """The EG3D camera that sees the unposed head as the posed one is seen (spec 3.4)."""
    matrix = matrix_from_euler(rotation_rad)
    centre = -matrix.T @ (np.asarray(translation, np.float64) - (0.0, 0.0, CAMERA_DISTANCE_DM))
    camera_to_world = np.eye(4)
    camera_to_world[:3, :3] = matrix.T @ np.diag([1.0, -1.0, -1.0])
    camera_to_world[:3, 3] = EG3D_SCALE * centre + EG3D_OFFSET
    return Camera(camera_to_world, focal)


def look_at_camera(
    yaw_rad: float, pitch_rad: float, radius: float = 2.7, pivot: Sequence[float] = (0.0, 0.0, 0.2), focal: float = FOCAL_IN_WIDTHS
) -> Camera:
    """A camera on a sphere around the world's origin that looks at ``pivot``, as EG3D draws its training views (spec C.3).

    The sphere of :func:`orbit_camera` lies round the pivot, its angles are true ones, and its pitch counts upwards.

    Args:
        yaw_rad: positive moves the camera to +x.
        pitch_rad: positive moves it down. EG3D spreads heights evenly, so that this is an angle for small values only; below pi / 2.
        radius: distance to the origin in EG3D world units.
        pivot: where it looks.
        focal: focal length over the picture's width.

    Raises:
        ValueError: the pitch is not below a right angle, the radius is not positive, or the camera stands above or below the pivot.
    """
    if not abs(pitch_rad) < np.pi / 2 or radius <= 0:
        raise ValueError(f"pitch {pitch_rad:g} must be below a right angle and radius {radius:g} be positive")
    height = -2.0 * pitch_rad / np.pi
    away = np.sqrt(1.0 - height**2)
    position = radius * np.array([away * np.sin(yaw_rad), height, away * np.cos(yaw_rad)])
    forward = np.asarray(pivot, np.float64) - position
    if np.linalg.norm(np.cross(forward, (0.0, 1.0, 0.0))) < 1e-9 * radius:
        raise ValueError("the camera stands above or below its pivot, where it has no upright")
    return _upright_camera(position, forward, focal)


def orbit_camera(
    yaw_rad: float, pitch_rad: float, radius: float, pivot: Sequence[float] = (0.0, 0.0, 0.2), focal: float = FOCAL_IN_WIDTHS
) -> Camera:
    """A camera on a sphere around ``pivot`` that looks at it.

    Args:
        yaw_rad: positive moves the camera to +x.
        pitch_rad: positive moves it up; below pi / 2.
        radius: distance to the pivot in EG3D world units.
        pivot: the middle of EG3D's heads unless named.
        focal: focal length over the picture's width.
    """
    direction = np.array([np.sin(yaw_rad) * np.cos(pitch_rad), np.sin(pitch_rad), np.cos(yaw_rad) * np.cos(pitch_rad)])
    return _upright_camera(np.asarray(pivot, np.float64) + radius * direction, -direction, focal)


def _upright_camera(position: Array, forward: Array, focal: float) -> Camera:
    """At ``position`` [3], looking along ``forward`` [3], with the world's +y up in its picture."""
    right = np.cross(forward, (0.0, 1.0, 0.0))
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    camera_to_world = np.eye(4)
    camera_to_world[:3] = np.stack([right, np.cross(forward, right), forward, position], 1)
    return Camera(camera_to_world, focal)


def smooth_cameras(cameras: Sequence[Camera], window: int = 7) -> list[Camera]:
    """Each camera's position and rotation as the mean over a centred window of frames, cut off at the ends (spec 4, step 6).

    Args:
        cameras: one per frame.
        window: frames, odd; 1 changes nothing.
    """
    matrices = np.stack([camera.camera_to_world for camera in cameras]) if cameras else np.empty((0, 4, 4))
    reach = window // 2
    smooth = []
    for i, camera in enumerate(cameras):
        near = matrices[max(i - reach, 0) : i + reach + 1]
        camera_to_world = np.eye(4)
        camera_to_world[:3, :3] = mean_rotation(near[:, :3, :3])
        camera_to_world[:3, 3] = near[:, :3, 3].mean(0)
        smooth.append(replace(camera, camera_to_world=camera_to_world))
    return smooth
