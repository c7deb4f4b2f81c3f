"""Sums over a person's pictures, compiled. A test holds them against plain ones."""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit

_0, _1, _SMALL = np.float32(0), np.float32(1), np.float32(1e-6)


@njit(nogil=True, cache=True, error_model="numpy")
def add_picture(rgb, alpha, of_head, top, left, sharp, soft, out_rgb, out_alpha, change):
    """Add one picture, or a part of it, to sums over pictures, in place.

    Args:
        rgb, alpha: float32 [h, w, 3], [h, w], premultiplied, with their first pixel at ``top``, ``left`` of the sums.
        of_head: float32 [s, s], 1 on the head, 0 on the body.
        sharp, soft: float32 [2], its share on head and body of the picture, and what its share of the low frequencies has beyond that.
        out_rgb, change: float32 [s, s, 3], sums by the one and the other, and out_alpha: float32 [s, s].
    """
    sharp_head, sharp_body = sharp
    soft_head, soft_body = soft
    for row in range(alpha.shape[0]):
        for column in range(alpha.shape[1]):
            head = of_head[row + top, column + left]
            own, low = sharp_body + (sharp_head - sharp_body) * head, soft_body + (soft_head - soft_body) * head
            out_alpha[row + top, column + left] += own * alpha[row, column]
            for c in range(3):
                out_rgb[row + top, column + left, c] += own * rgb[row, column, c]
                change[row + top, column + left, c] += low * rgb[row, column, c]


@njit(nogil=True, cache=True, error_model="numpy")
def settle(low, alpha, rgb):
    """Add ``low`` float32 [s, s, 3] to premultiplied colours ``rgb`` with ``alpha`` [s, s], and keep them within that; in place."""
    for row in range(alpha.shape[0]):
        for column in range(alpha.shape[1]):
            for c in range(3):
                rgb[row, column, c] = min(max(rgb[row, column, c] + low[row, column, c], _0), alpha[row, column])


@njit(nogil=True, cache=True, error_model="numpy")
def add_change(change, alpha, rgb):
    """As :func:`settle`, of a ``change`` float32 [s, s, 3] that counts as far as the picture has ``alpha``."""
    for row in range(alpha.shape[0]):
        for column in range(alpha.shape[1]):
            share = alpha[row, column]
            for c in range(3):
                rgb[row, column, c] = min(max(rgb[row, column, c] + share * change[row, column, c], _0), share)


@njit(nogil=True, cache=True, error_model="numpy")
def add_share(rgb, share, out):
    """Add ``share`` times the colours ``rgb`` float32 [h, w, 3] to ``out``."""
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            for c in range(3):
                out[row, column, c] += share * rgb[row, column, c]


@njit(nogil=True, cache=True, error_model="numpy")
def lay_window(shown, mask, rgb):
    """Blend ``shown`` into ``rgb``, float32 [h, w, 3] each, by a ``mask`` float32 [h, w], in place.

    It is made as light on the mask's soft border as what lies there.
    """
    total, lighter = _0, np.zeros(3, np.float32)
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            ring = mask[row, column] * (_1 - mask[row, column])
            total += ring
            for c in range(3):
                lighter[c] += ring * (shown[row, column, c] - rgb[row, column, c])
    lighter /= max(total, _SMALL)
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            for c in range(3):
                rgb[row, column, c] += mask[row, column] * (shown[row, column, c] - lighter[c] - rgb[row, column, c])
