"""A warp: shifts at a few places round a head, between which a shift is linear in each direction.

The places stand on a grid in the photo's camera axes, counted from the origin of the head, from above a crown to the shoulders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triportrait.types import Array, MotionFrame

#: Rows and columns of places.
WARP_GRID = (5, 4)
#: Where columns and rows stand, in decimetres to the image's right and up from the head's origin.
ACROSS_DM = (-1.35, -0.45, 0.45, 1.35)
UP_DM = (1.85, 1.1, 0.35, -0.4, -1.15)
#: Rows of places, from the first to this one, that lie at the head; those below it are the shoulders'.
HEAD_ROWS = 4
#: Pictures are compared at this side, and a photo's geometry is asked at points so many pixels apart.
SIDE_PX, STEP_PX = 256, 16


@dataclass(frozen=True, slots=True)
class PhotoGrid:
    """What a photo's geometry says about where its pixels go.

    Args:
        picture: uint8 [s, s, 3], the photo's crop.
        where: a row of motion -> where points of the crop go that lie ``STEP_PX`` apart in a picture of ``SIDE_PX``: [g, g, 2] of its
            pixels.
        samples: [n, 2] int, pixels of the person outside of the face; weights: [n, 20], how far each place of a warp counts there.
        focal_px: focal length in pixels of such a picture.
    """

    picture: Array
    where: Callable[[MotionFrame], Array]
    samples: Array
    weights: Array
    focal_px: float


def warp_weights(points: Array) -> Array:
    """How far each place counts at points [n, 2], decimetres from the head's origin: float32 [n, 20], which sum to 1.

    Beyond the outermost places the warp goes on as it is there.
    """
    column = np.interp(points[:, 0], ACROSS_DM, np.arange(WARP_GRID[1]))
    row = np.interp(-points[:, 1], [-up for up in UP_DM], np.arange(WARP_GRID[0]))
    across, down = (
        np.maximum(1.0 - np.abs(at[:, None] - np.arange(count)), 0.0) for at, count in ((column, WARP_GRID[1]), (row, WARP_GRID[0]))
    )
    return (down[:, :, None] * across[:, None, :]).reshape(len(points), -1).astype(np.float32)


def warp_since(warp: Array, row: int) -> Array:
    """A warp [t, 40] since its row ``row``."""
    return (warp - warp[row]).astype(np.float32)


def of_head_alone(warp: Array) -> Array:
    """A warp [t, 40] under which shoulders stand still."""
    kept = warp.reshape(len(warp), *WARP_GRID, 2).copy()
    kept[:, HEAD_ROWS:] = 0.0
    return kept.reshape(warp.shape)
