"""A warp: shifts at places round a head and on its face, between which a shift is linear in each direction.

The places round the head stand on a grid in the photo's camera axes, counted from the origin of the head, from above a crown to the
shoulders. Those on the face stand on a finer grid that every face has: eyes and mouths lie in the same rows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, LOWER_LIP_INSIDE, RIM_OUTER_CORNER, UPPER_LIP_INSIDE
from triportrait.types import Array, MotionFrame

#: Where columns and rows of places round the head stand, in decimetres to the image's right and up from the head's origin.
ACROSS_DM = (-1.35, -0.45, 0.45, 1.35)
UP_DM = (1.85, 1.1, 0.35, -0.4, -1.15)
WARP_GRID = (len(UP_DM), len(ACROSS_DM))
AROUND = len(UP_DM) * len(ACROSS_DM)
#: Rows of them, from the first to this one, that lie at the head; those below it are the shoulders'.
HEAD_ROWS = 4
#: The same on the face: in half distances of the outer corners of the eyes from its middle, and in distances of eyes and mouth above it.
FACE_ACROSS = (-1.6, -1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2, 1.6)
FACE_UP = (1.3, 0.97, 0.64, 0.31, -0.02, -0.35, -0.68, -1.01)
FACE_GRID = (len(FACE_UP), len(FACE_ACROSS))
#: Rows of it below this are the mouth's.
_NOSE_UP = 0.3
#: Pictures are compared at this side, and a photo's geometry is asked at points so many pixels apart.
SIDE_PX, STEP_PX = 256, 16


@dataclass(frozen=True, slots=True)
class FaceFrame:
    """How the places on a face stand on a person's: in head space, decimetres."""

    half_width: float
    eyes_up: float
    mouth_up: float

    @staticmethod
    def of(landmarks: Array) -> FaceFrame:
        """Of a face without expression, landmarks [478, 3]."""
        corners = landmarks[[EYE_LEFT_RIM[RIM_OUTER_CORNER], EYE_RIGHT_RIM[RIM_OUTER_CORNER]]]
        mouth = landmarks[[UPPER_LIP_INSIDE, LOWER_LIP_INSIDE], 1].mean()
        return FaceFrame(0.5 * float(np.linalg.norm(corners[0] - corners[1])), float(corners[:, 1].mean()), float(mouth))

    def weights(self, points: Array) -> Array:
        """How far each place on the face counts at points [n, 3] in head space: float32 [n, 72], which sum to 1."""
        up = (points[:, 1] - self.mouth_up) / (self.eyes_up - self.mouth_up)
        return _tents(points[:, 0] / self.half_width, up, FACE_ACROSS, FACE_UP)


@dataclass(frozen=True, slots=True)
class PhotoGrid:
    """What a photo's geometry says about where its pixels go.

    Args:
        picture: uint8 [s, s, 3], the photo's crop.
        where: a row of motion -> where each pixel of a picture of ``SIDE_PX`` goes, float32 [256, 256, 2] pixels of it.
        around: [n, 2] int, pixels of the person outside of the face, and around_weights: [n, 20], how far each place round the head counts
            there; face: [m, 2], pixels of the face's skin, and face_weights: [m, 72].
        focal_px: focal length in pixels of such a picture.
    """

    picture: Array
    where: Callable[[MotionFrame], Array]
    around: Array
    around_weights: Array
    face: Array
    face_weights: Array
    focal_px: float


def warp_weights(points: Array) -> Array:
    """How far each place round the head counts at points [n, 2], decimetres from the head's origin: float32 [n, 20], which sum to 1.

    Beyond the outermost places the warp goes on as it is there.
    """
    return _tents(points[:, 0], points[:, 1], ACROSS_DM, UP_DM)


def _tents(across: Array, up: Array, columns: tuple[float, ...], rows: tuple[float, ...]) -> Array:
    """Linear in both directions between places that stand in ``columns`` and ``rows``, the highest first: float32 [n, rows x columns]."""
    column = np.interp(across, columns, np.arange(len(columns)))
    row = np.interp(-up, [-place for place in rows], np.arange(len(rows)))
    x, y = (np.maximum(1.0 - np.abs(at[:, None] - np.arange(count)), 0.0) for at, count in ((column, len(columns)), (row, len(rows))))
    return (y[:, :, None] * x[:, None, :]).reshape(len(across), -1).astype(np.float32)


def warp_since(warp: Array, row: int) -> Array:
    """A warp [t, 184] since its row ``row``."""
    return (warp - warp[row]).astype(np.float32)


def of_head_alone(warp: Array) -> Array:
    """A warp [t, 184] under which shoulders stand still."""
    kept = warp.copy()
    kept[:, 2 * HEAD_ROWS * WARP_GRID[1] : 2 * AROUND] = 0.0
    return kept


def beside_the_face(warp: Array) -> Array:
    """A warp [t, 184] without what the face does, for a pose that is lent to a face with another expression."""
    kept = warp.copy()
    kept[:, 2 * AROUND :] = 0.0
    return kept


def above_the_mouth(warp: Array) -> Array:
    """A warp [t, 184] under which the lower face stays as expression and pose have it."""
    kept = warp.copy()
    rows = np.flatnonzero(np.array(FACE_UP) < _NOSE_UP)
    kept[:, 2 * (AROUND + rows[0] * len(FACE_ACROSS)) :] = 0.0
    return kept
