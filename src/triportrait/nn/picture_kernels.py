"""Compiled inner loops of picture networks on a CPU; all pictures are float32 [h, w, c] with c fastest.

:func:`to_places` and :func:`from_places` are the tiles' transforms of :mod:`triportrait.nn.winograd`. Tiles are counted row by row; place
(i, j) of the transform is row 6 i + j. The points are 0, +-a, +-b and infinity with a = 1 / sqrt 2 and b = sqrt 2, so that a^2 = 1/2,
b^2 = 2 and a^2 b^2 = 1.
"""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit
from triportrait.types import Array

_NEAR, _FAR = np.float32(0.5**0.5), np.float32(2.0**0.5)
_NEAR_CUBED, _FAR_CUBED = np.float32(0.5**1.5), np.float32(2.0**1.5)
_HALF, _TWO, _SUM = np.float32(0.5), np.float32(2.0), np.float32(2.5)
#: No reassociation and no assumption of finite numbers: the same sums in the same order everywhere.
_MATH = {"contract", "nsz", "arcp"}


@njit(cache=True, nogil=True, fastmath=_MATH)
def to_places(picture: Array, places: Array, offset: int, first: int, last: int) -> None:
    """B' d B of the tiles ``offset + first`` to ``offset + last`` of a picture, into ``places`` [36, tiles, c] from ``first`` on."""
    height, width, channels = picture.shape
    across = width // 4
    outside = np.zeros(channels, np.float32)
    half = np.empty((6, 6, channels), np.float32)
    for tile in range(first, last):
        top, left = 4 * ((offset + tile) // across) - 1, 4 * ((offset + tile) % across) - 1
        for j in range(6):
            x = left + j
            known = 0 <= x < width
            d0 = picture[top, x] if known and top >= 0 else outside
            d1 = picture[top + 1, x] if known else outside
            d2 = picture[top + 2, x] if known else outside
            d3 = picture[top + 3, x] if known else outside
            d4 = picture[top + 4, x] if known else outside
            d5 = picture[top + 5, x] if known and top + 5 < height else outside
            for c in range(channels):
                even_near, odd_near = d4[c] - _TWO * d2[c], _NEAR * (d3[c] - _TWO * d1[c])
                even_far, odd_far = d4[c] - _HALF * d2[c], _FAR * (d3[c] - _HALF * d1[c])
                half[0, j, c] = d0[c] - _SUM * d2[c] + d4[c]
                half[1, j, c] = even_near + odd_near
                half[2, j, c] = even_near - odd_near
                half[3, j, c] = even_far + odd_far
                half[4, j, c] = even_far - odd_far
                half[5, j, c] = d1[c] - _SUM * d3[c] + d5[c]
        for i in range(6):
            for c in range(channels):
                d1c, d2c, d3c, d4c = half[i, 1, c], half[i, 2, c], half[i, 3, c], half[i, 4, c]
                even_near, odd_near = d4c - _TWO * d2c, _NEAR * (d3c - _TWO * d1c)
                even_far, odd_far = d4c - _HALF * d2c, _FAR * (d3c - _HALF * d1c)
                places[6 * i, tile, c] = half[i, 0, c] - _SUM * d2c + d4c
                places[6 * i + 1, tile, c] = even_near + odd_near
                places[6 * i + 2, tile, c] = even_near - odd_near
                places[6 * i + 3, tile, c] = even_far + odd_far
                places[6 * i + 4, tile, c] = even_far - odd_far
                places[6 * i + 5, tile, c] = d1c - _SUM * d3c + half[i, 5, c]


@njit(cache=True, nogil=True, fastmath=_MATH)
def from_places(places: Array, bias: Array, picture: Array, offset: int, first: int, last: int) -> None:
    """A' m A plus ``bias`` [c] of the tiles ``first`` to ``last`` of ``places`` [36, tiles, c], into a picture as in :func:`to_places`."""
    across, channels = picture.shape[1] // 4, picture.shape[2]
    half = np.empty((4, 6, channels), np.float32)
    for tile in range(first, last):
        top, left = 4 * ((offset + tile) // across), 4 * ((offset + tile) % across)
        for j in range(6):
            for c in range(channels):
                near, near_odd = places[6 + j, tile, c] + places[12 + j, tile, c], places[6 + j, tile, c] - places[12 + j, tile, c]
                far, far_odd = places[18 + j, tile, c] + places[24 + j, tile, c], places[18 + j, tile, c] - places[24 + j, tile, c]
                half[0, j, c] = places[j, tile, c] + near + far
                half[1, j, c] = _NEAR * near_odd + _FAR * far_odd
                half[2, j, c] = _HALF * near + _TWO * far
                half[3, j, c] = _NEAR_CUBED * near_odd + _FAR_CUBED * far_odd + places[30 + j, tile, c]
        for i in range(4):
            y0, y1 = picture[top + i, left], picture[top + i, left + 1]
            y2, y3 = picture[top + i, left + 2], picture[top + i, left + 3]
            for c in range(channels):
                near, near_odd = half[i, 1, c] + half[i, 2, c], half[i, 1, c] - half[i, 2, c]
                far, far_odd = half[i, 3, c] + half[i, 4, c], half[i, 3, c] - half[i, 4, c]
                y0[c] = half[i, 0, c] + near + far + bias[c]
                y1[c] = _NEAR * near_odd + _FAR * far_odd + bias[c]
                y2[c] = _HALF * near + _TWO * far + bias[c]
                y3[c] = _NEAR_CUBED * near_odd + _FAR_CUBED * far_odd + half[i, 5, c] + bias[c]


@njit(cache=True, nogil=True, fastmath=_MATH)
def smooth_rows(picture: Array, bias: Array, smoothed: Array, first: int, last: int) -> None:
    """Rows ``first`` to ``last`` of the low-pass (1, 3, 3, 1) / 4 along both axes plus ``bias`` [c]; zeros lie outside.

    A picture [h, w, c] gives [h - 1, w - 1, c].
    """
    height, width, channels = picture.shape
    outer, inner = np.float32(0.25), np.float32(0.75)
    # One column of zeros before the row and one behind it.
    column = np.zeros((width + 2, channels), np.float32)
    outside = np.zeros(channels, np.float32)
    for y in range(first, last):
        for x in range(width):
            above = picture[y - 1, x] if y > 0 else outside
            here, below = picture[y, x], picture[y + 1, x]
            last_tap = picture[y + 2, x] if y + 2 < height else outside
            for c in range(channels):
                column[x + 1, c] = outer * (above[c] + last_tap[c]) + inner * (here[c] + below[c])
        for x in range(width - 1):
            for c in range(channels):
                smoothed[y, x, c] = outer * (column[x, c] + column[x + 3, c]) + inner * (column[x + 1, c] + column[x + 2, c]) + bias[c]
