"""Bilinear look-up in compiled kernels. It has no plain twin: ``cv2.remap`` with a repeated border gives the same to rounding."""

from __future__ import annotations

from triportrait.compiling import njit


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def texel_before(place, count):
    """The texel at or before a position in pixels (centres at +0.5) along ``count`` texels, and the next one's share; the border repeats.

    The last texel is never the first of two: 1.001 keeps the next one inside the picture.
    """
    at = min(max(place - 0.5, 0.0), count - 1.001)
    first = int(at)
    return first, at - first
