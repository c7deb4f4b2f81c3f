"""The per-pixel arithmetic of the guided filter, compiled by numba on first use. It has no plain twin."""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit
from triportrait.types import Array


@njit(nogil=True, cache=True, error_model="numpy")
def local_lines(means: Array, squares: Array, crosses: Array, levels: Array, epsilon: float, slope: Array, offset: Array) -> None:
    """``slope`` [h, w, 3] and ``offset`` [h, w] of the line that best gives the values from the guide's colours round each pixel.

    Args:
        means: [h, w, 3], mean colour of the guide round each pixel.
        squares: [h, w, 6], mean products of its channels: 00, 01, 02, 11, 12, 22.
        crosses: [h, w, 3], mean products of channel and value.
        levels: [h, w], mean value.
        epsilon: added to the covariance's diagonal (He, Sun and Tang, 2013, eq. 19).
        slope, offset: filled.
    """
    height, width = levels.shape
    for y in range(height):
        for x in range(width):
            r, g, b = np.float64(means[y, x, 0]), np.float64(means[y, x, 1]), np.float64(means[y, x, 2])
            level = np.float64(levels[y, x])
            a00, a01, a02 = squares[y, x, 0] - r * r + epsilon, squares[y, x, 1] - r * g, squares[y, x, 2] - r * b
            a11, a12, a22 = squares[y, x, 3] - g * g + epsilon, squares[y, x, 4] - g * b, squares[y, x, 5] - b * b + epsilon
            c0, c1, c2 = crosses[y, x, 0] - r * level, crosses[y, x, 1] - g * level, crosses[y, x, 2] - b * level
            # The inverse of a symmetric matrix by its cofactors.
            i00, i01, i02 = a11 * a22 - a12 * a12, a02 * a12 - a01 * a22, a01 * a12 - a02 * a11
            i11, i12, i22 = a00 * a22 - a02 * a02, a01 * a02 - a00 * a12, a00 * a11 - a01 * a01
            scale = 1.0 / (a00 * i00 + a01 * i01 + a02 * i02)
            s0 = (i00 * c0 + i01 * c1 + i02 * c2) * scale
            s1 = (i01 * c0 + i11 * c1 + i12 * c2) * scale
            s2 = (i02 * c0 + i12 * c1 + i22 * c2) * scale
            slope[y, x, 0], slope[y, x, 1], slope[y, x, 2] = s0, s1, s2
            offset[y, x] = level - s0 * r - s1 * g - s2 * b
