"""What mouth and eyes of a face do, measured on its landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.geometry.landmarks import (
    CHIN,
    EYE_LEFT_CORNERS,
    EYE_RIGHT_CORNERS,
    FOREHEAD_TOP,
    LID_PAIRS,
    LIP_PAIRS,
    OUTER_MOUTH_CORNERS,
)
from triportrait.types import Array


@dataclass(frozen=True, slots=True)
class FaceShape:
    """Lengths in distances between the eyes' outer corners; they hardly change as a head turns a little.

    Args:
        gap: of the lips; width: of the mouth; smile: how high its corners stand over its middle.
        gap_in_faces: of the lips, in heights of the face.
        lids: float64 [2], how far the lids of the right and the left eye are open, in widths of the eye.
    """

    gap: float
    width: float
    smile: float
    gap_in_faces: float
    lids: Array

    @staticmethod
    def of(landmarks: Array) -> FaceShape:
        """Of landmarks [478, 2 or more] in pixels."""
        points = landmarks[:, :2].astype(np.float64)
        across = points[EYE_LEFT_CORNERS[0]] - points[EYE_RIGHT_CORNERS[0]]
        unit = max(float(np.linalg.norm(across)), 1.0)
        up = np.array([across[1], -across[0]]) / unit
        lips = points[LIP_PAIRS]
        face = max(float(np.linalg.norm(points[CHIN] - points[FOREHEAD_TOP])), 1.0)
        gap = float(np.median((lips[:, 0] - lips[:, 1]) @ up))
        corners = points[list(OUTER_MOUTH_CORNERS)]
        smile = float((corners.mean(0) - lips.reshape(-1, 2).mean(0)) @ up)
        lids = np.linalg.norm(points[LID_PAIRS[:, 0]] - points[LID_PAIRS[:, 1]], axis=-1).reshape(2, 3).mean(1)
        eyes = [np.linalg.norm(points[a] - points[b]) for a, b in (EYE_RIGHT_CORNERS, EYE_LEFT_CORNERS)]
        width = float(np.linalg.norm(corners[0] - corners[1]))
        return FaceShape(gap / unit, width / unit, smile / unit, gap / face, lids / np.maximum(eyes, 1.0))

    def mouth(self) -> Array:
        """The mouth's shape as a point [3] in which one unit is a clear difference."""
        return np.array([self.gap / 0.06, self.width / 0.06, self.smile / 0.04])

    def eyes(self) -> Array:
        """The eyes' as a point [2]."""
        return self.lids / 0.12

    def spread(self) -> Array:
        """Both [4], the eyes' mean for both of them."""
        return np.concatenate([self.mouth(), [self.eyes().mean()]])
