"""Where a photograph hardly shows what the volume does, and the change-over to the volume there, compiled.

Tests hold both kernels against plain NumPy and OpenCV.
"""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit
from triportrait.geometry.texels import texel_before

_0, _1, _HALF = np.float32(0), np.float32(1), np.float32(0.5)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _slope(place, row, column, before, after):
    """How far places [v, v, 2] differ between two pixels, by steps (down, across) from one, per pixel."""
    first, last = place.shape[0] - 1, place.shape[1] - 1
    y0, x0 = min(max(row + before[0], 0), first), min(max(column + before[1], 0), last)
    y1, x1 = min(max(row + after[0], 0), first), min(max(column + after[1], 0), last)
    steps = np.float32(max(y1 - y0 + x1 - x0, 1))
    return np.hypot((place[y1, x1, 0] - place[y0, x0, 0]) / steps, (place[y1, x1, 1] - place[y0, x0, 1]) / steps)


@njit(nogil=True, cache=True, error_model="numpy")
def unseen(place, depth, alpha, prior, spared, behind, stretched, out):
    """How far each pixel shows what the photograph hardly does.

    Args:
        place: float32 [v, v, 2], where in the photograph (x, y in 0..1) it was, and depth: float32 [v, v], in which camera depth.
        alpha: float32 [v, v]; below one half nothing is unseen.
        prior: float32 [k, k], depth of what the photograph shows.
        spared: uint8 [v, v], 1 where stretching does not count.
        behind: float32 [2], depth behind that at which a place begins to be unseen and is so entirely.
        stretched: float32 [2], how few pixels of the photograph a pixel shows then, in the direction of fewer.
        out: float32 [v, v], 0..1, written.
    """
    size, side = out.shape[0], prior.shape[0]
    for row in range(size):
        for column in range(size):
            out[row, column] = _0
            if not alpha[row, column] > _HALF:
                continue
            share = _0
            if depth[row, column] < np.inf:
                x = int(min(max(place[row, column, 0] * side, 0), side - 1))
                y = int(min(max(place[row, column, 1] * side, 0), side - 1))
                share = min(max((depth[row, column] - prior[y, x] - behind[0]) / (behind[1] - behind[0]), _0), _1)
            if spared[row, column] == 0:
                down = _slope(place, row, column, (-1, 0), (1, 0))
                shown = size * min(down, _slope(place, row, column, (0, -1), (0, 1)))
                share = max(share, min(max((stretched[0] - shown) / (stretched[0] - stretched[1]), _0), _1))
            out[row, column] = share


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _between(picture, row, column, down, across, channel):
    """Bilinear value of [v, v, c] after a texel."""
    top = picture[row, column, channel] + across * (picture[row, column + 1, channel] - picture[row, column, channel])
    low = picture[row + 1, column, channel] + across * (picture[row + 1, column + 1, channel] - picture[row + 1, column, channel])
    return top + down * (low - top)


@njit(nogil=True, cache=True, error_model="numpy")
def go_over(rgb, alpha, guess, box):
    """Colours that go over into guessed ones of lower resolution, in place.

    Args:
        rgb: float32 [s, s, 3], premultiplied by alpha float32 [s, s].
        guess: float32 [v, v, 4], straight colours, and how far they are to be shown.
        box: int [4], first and last row and column of ``guess`` where that is not 0.
    """
    size, small = rgb.shape[0], guess.shape[0]
    scale = np.float32(small / size)
    top, bottom, left, right = (
        (box[0] - 1) * size // small,
        (box[1] + 2) * size // small,
        (box[2] - 1) * size // small,
        (box[3] + 2) * size // small,
    )
    for y in range(max(top, 0), min(bottom, size)):
        row, down = texel_before((np.float32(y) + _HALF) * scale, small)
        down = np.float32(down)
        for x in range(max(left, 0), min(right, size)):
            column, across = texel_before((np.float32(x) + _HALF) * scale, small)
            across = np.float32(across)
            share = _between(guess, row, column, down, across, 3)
            if share > _0:
                for c in range(3):
                    colour = min(max(_between(guess, row, column, down, across, c), _0), _1)
                    rgb[y, x, c] += share * (alpha[y, x] * colour - rgb[y, x, c])
