"""What is known of one person for Talk3D: planes, style, the cameras of the video and how the head stood in it (spec A.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from triportrait.errors import WeightsError
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import EG3D_OFFSET, EG3D_SCALE, look_at_camera, smooth_cameras
from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler, mean_rotation
from triportrait.types import Array, Camera, TriPlane

#: Talk3D's cameras (spec A.3): focal length in picture widths, where they look, distance.
FOCAL, PIVOT, RADIUS = 3.6, (0.0, 0.05, 0.2), 2.7
#: Between these distances rays are sampled (spec A.4).
BOUNDS = (2.25, 3.3)
#: Of the 68 landmarks: nose tip, outer corner of the left and of the right eye.
POINTS_OF_68 = (30, 45, 36)


@dataclass(frozen=True, slots=True)
class Person:
    """One person, t frames of the video.

    Args:
        planes: P_ID, of one picture.
        styles: [1, l, s] for the super-resolution.
        cameras: of the video's frames, one at least.
        rotation_deg: [t, 3] pitch, yaw, roll of the head.
        points: [t, 3, 2] nose tip and outer corners of the eyes, in -1..1 of the picture.
        rest: the mean camera.
    """

    planes: TriPlane
    styles: torch.Tensor
    cameras: tuple[Camera, ...]
    rotation_deg: Array
    points: Array
    rest: Camera

    def smoothed(self, window: int) -> tuple[Camera, ...]:
        """The cameras averaged over a centred window of frames; 1 leaves them."""
        return tuple(smooth_cameras(self.cameras, window))

    def turned(self, rotation_rad: Array, translation: Array) -> tuple[Camera, Array, Array]:
        """What a head that moves from rest by a rotation [3] and a translation [3] in decimetres makes of camera, turn and points.

        Returns:
            The camera, rotation_deg [3] and points [3, 2].
        """
        rest, turn = self.rest, matrix_from_euler(rotation_rad)
        pose = np.eye(4)
        pose[:3, :3] = turn
        pose[:3, 3] = EG3D_OFFSET + EG3D_SCALE * np.asarray(translation, np.float64) - turn @ EG3D_OFFSET
        camera = Camera(np.linalg.inv(pose) @ rest.camera_to_world, rest.focal)
        own = np.radians(self.rotation_deg.mean(0))
        rotation_deg = np.degrees(euler_from_matrix(matrix_from_euler(own) @ turn)).astype(np.float32)
        moved = face_points(camera) - face_points(rest)
        return camera, rotation_deg, (self.points.mean(0) + moved).astype(np.float32)


def face_points(camera: Camera) -> Array:
    """Where the mean head's nose tip and outer corners of the eyes are seen, [3, 2] in -1..1, y down."""
    head = OpenHead.embedded()
    points = EG3D_SCALE * head.landmarks68(head.mean)[list(POINTS_OF_68)] + EG3D_OFFSET
    from_world = np.linalg.inv(camera.camera_to_world)
    seen = points @ from_world[:3, :3].T + from_world[:3, 3]
    return (2.0 * camera.focal * seen[:, :2] / seen[:, 2:]).astype(np.float32)


def turn_of(camera: Camera) -> Array:
    """Pitch, yaw and roll [3] in degrees of a head that stands still, as the camera's frame has it."""
    return np.degrees(euler_from_matrix((camera.camera_to_world[:3, :3] @ np.diag([1.0, -1.0, -1.0])).T)).astype(np.float32)


def cameras_of_angles(angles_rad: Array) -> tuple[Camera, ...]:
    """Talk3D's cameras of yaw and pitch [t, 2] in radians."""
    return tuple(look_at_camera(float(yaw), float(pitch), RADIUS, PIVOT, FOCAL) for yaw, pitch in angles_rad)


def cameras_of_labels(labels: Array) -> tuple[Camera, ...]:
    """Cameras of EG3D's numbers [t, 25]."""
    return tuple(Camera(label[:16].reshape(4, 4).astype(np.float64), float(label[16])) for label in labels)


def make_person(
    planes: TriPlane, styles: torch.Tensor, cameras: tuple[Camera, ...], rotation_deg: Array | None, points: Array | None
) -> Person:
    """A person whose turns and points follow from the cameras where they are None.

    Raises:
        WeightsError: there is no camera, or the tracks have different lengths.
    """
    again = "import the files of one person again"
    if not cameras:
        raise WeightsError(f"the cameras of the person are empty; {again}")
    for name, track in (("turns of the head", rotation_deg), ("landmarks", points)):
        if track is not None and len(track) != len(cameras):
            raise WeightsError(f"there are {len(track)} {name} and {len(cameras)} cameras; {again}")
    if rotation_deg is None:
        rotation_deg = np.stack([turn_of(camera) for camera in cameras])
    if points is None:
        points = np.stack([face_points(camera) for camera in cameras])
    matrices = np.stack([camera.camera_to_world for camera in cameras])
    mean = np.eye(4)
    mean[:3, :3], mean[:3, 3] = mean_rotation(matrices[:, :3, :3]), matrices[:, :3, 3].mean(0)
    rest = Camera(mean, cameras[0].focal)
    return Person(planes, styles, cameras, np.asarray(rotation_deg, np.float32), np.asarray(points, np.float32), rest)
