"""What of a photo a warp moves: all of the person but the face, whose landmarks say where it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.geometry.fields import smooth_step
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.geometry.masks import face_hull
from triportrait.geometry.nearest import distance_px
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.geometry.warp import warp_weights
from triportrait.types import CAMERA_DISTANCE_DM, Array, MotionFrame, PreparedPortrait

#: From the face's outline on a warp counts ever more: fully from here on (heights of the face), or from so many times its own length on.
#: What moves farther than the way on which it begins would fold.
_WHOLLY, _LENGTHS = 0.04, 2.0


@dataclass(frozen=True, slots=True)
class LoosePoints:
    """Points of a person that a warp may move.

    Args:
        weights: [n, 20] float32, how far each place of a warp counts at each.
        away_dm: [n] float32, how far they are from the face's outline.
        least_dm: where a short warp counts fully.
    """

    weights: Array
    away_dm: Array
    least_dm: float

    @staticmethod
    def of(portrait: PreparedPortrait, home: Array, share: Array | float = 1.0) -> LoosePoints:
        """Points that stand at ``home`` [n, 3] in the photo (camera axes, decimetres) and take a ``share`` [n] of a warp at all."""
        size = len(portrait.image)
        scale = portrait.focal * size / (CAMERA_DISTANCE_DM - home[:, 2])
        column, row = (np.clip(size / 2 + sign * scale * home[:, axis], 0, size - 1).astype(int) for axis, sign in ((0, 1), (1, -1)))
        weights = warp_weights(home[:, :2] - portrait.motion.translation[:2]) * np.asarray(share, np.float32).reshape(-1, 1)
        dm_per_px = (CAMERA_DISTANCE_DM - float(portrait.motion.translation[2])) / (portrait.focal * size)
        away = beyond_the_face(portrait)[row, column] * dm_per_px
        return LoosePoints(weights, away.astype(np.float32), _WHOLLY * face_height_px(portrait) * dm_per_px)

    def shift(self, frame: MotionFrame) -> Array | None:
        """What the warp of ``frame`` moves the points by, along the axes of the head: float32 [n, 3]; None where there is none."""
        if frame.warp is None or not frame.warp.any():
            return None
        shift = self.weights @ frame.warp.reshape(-1, 2).astype(np.float32)
        reach = np.maximum(_LENGTHS * np.hypot(shift[:, 0], shift[:, 1]), np.float32(self.least_dm))
        shift *= smooth_step(np.minimum(self.away_dm / reach, np.float32(1.0)))[:, None]
        return np.asarray(shift @ matrix_from_euler(frame.rotation_rad)[:2].astype(np.float32))


def face_height_px(portrait: PreparedPortrait) -> float:
    """From the chin to the top of the forehead."""
    chin, top = portrait.landmarks[CHIN, :2], portrait.landmarks[FOREHEAD_TOP, :2]
    return max(float(np.linalg.norm(chin - top)), 1.0)


def beyond_the_face(portrait: PreparedPortrait) -> Array:
    """How far each pixel of the crop lies from the face: float64 [s, s] pixels."""
    return distance_px(face_hull(portrait.landmarks, len(portrait.image)))
