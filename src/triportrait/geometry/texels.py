"""Bilinear look-up in compiled kernels. It has no plain twin: ``cv2.remap`` with a repeated border gives the same to rounding."""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit

_0, _HALF = np.float32(0.0), np.float32(0.5)
#: The last texel is never the first of two: so much keeps the next one inside the picture.
_BEFORE_THE_LAST = np.float32(1.001)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def texel_before(place, count):
    """The texel at or before a position in pixels (centres at +0.5) along ``count`` texels, and the next one's share; the border repeats.

    The share has the position's precision.
    """
    at = min(max(place - _HALF, _0), np.float32(count) - _BEFORE_THE_LAST)
    # Unsigned, an index needs no look whether it counts from the end.
    first = np.uint32(at)
    return first, at - np.float32(first)
