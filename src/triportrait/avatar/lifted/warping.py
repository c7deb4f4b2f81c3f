"""What of a photo a warp moves, and by how much: beside the face by the places round the head, in it by its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.geometry.fields import smooth_step
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.geometry.masks import face_hull
from triportrait.geometry.nearest import distance_px
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.geometry.warp import AROUND, FaceFrame, warp_weights
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, MotionFrame, PreparedPortrait

#: From the face's outline on the places round the head count ever more: fully from here on (heights of the face), or from so many lengths
#: of the shift on. On a shorter way an ear would be squeezed, and what moves farther than that way would fold.
_WHOLLY, _LENGTHS = 0.08, 4.0


@dataclass(frozen=True, slots=True)
class LoosePoints:
    """Points of a person that a warp may move.

    Args:
        around: [n, 20] float32, how far each place round the head counts at each, and face: [n, 72] float32, each place on the face.
        away_dm: [n] float32, how far they are from the face's outline.
        least_dm: where a short warp counts fully.
    """

    around: Array
    face: Array
    away_dm: Array
    least_dm: float

    @staticmethod
    def of(portrait: PreparedPortrait, face: FaceFrame, home: Array, share: Array | float = 1.0) -> LoosePoints:
        """Points that stand at ``home`` [n, 3] in the photo (camera axes, decimetres) and take a ``share`` [n] of a warp at all."""
        motion, size = portrait.motion, len(portrait.image)
        scale = portrait.focal * size / (CAMERA_DISTANCE_DM - home[:, 2])
        column, row = (np.clip(size / 2 + sign * scale * home[:, axis], 0, size - 1).astype(int) for axis, sign in ((0, 1), (1, -1)))
        part = np.asarray(share, np.float32).reshape(-1, 1)
        from_head = home - motion.translation
        dm_per_px = (CAMERA_DISTANCE_DM - float(motion.translation[2])) / (portrait.focal * size)
        return LoosePoints(
            warp_weights(from_head[:, :2]) * part,
            face.weights(from_head @ matrix_from_euler(motion.rotation_rad)) * part,
            (beyond_the_face(portrait)[row, column] * dm_per_px).astype(np.float32),
            _WHOLLY * face_height_px(portrait) * dm_per_px,
        )

    def shift(self, frame: MotionFrame) -> Array | None:
        """What the warp of ``frame`` moves the points by, along the axes of the head: float32 [n, 3]; None where there is none."""
        if frame.warp is None or not frame.warp.any():
            return None
        places = frame.warp.reshape(-1, 2).astype(np.float32)
        shift, inside = self.around @ places[:AROUND], self.face @ places[AROUND:]
        reach = np.maximum(_LENGTHS * np.hypot(*(shift - inside).T), np.float32(self.least_dm))
        loose = smooth_step(np.minimum(self.away_dm / reach, np.float32(1.0)))[:, None]
        shift = inside + loose * (shift - inside)
        return np.asarray(shift @ matrix_from_euler(frame.rotation_rad)[:2].astype(np.float32))


def face_frame(head: FullHead, shape: Array) -> FaceFrame:
    """Of an expressionless head ``shape`` [v, 3]."""
    return FaceFrame.of(head.landmarks478(shape))


def face_height_px(portrait: PreparedPortrait) -> float:
    """From the chin to the top of the forehead."""
    chin, top = portrait.landmarks[CHIN, :2], portrait.landmarks[FOREHEAD_TOP, :2]
    return max(float(np.linalg.norm(chin - top)), 1.0)


def beyond_the_face(portrait: PreparedPortrait) -> Array:
    """How far each pixel of the crop lies from the face: float64 [s, s] pixels."""
    return distance_px(face_hull(portrait.landmarks, len(portrait.image)))
