"""Sums over a person's pictures, compiled. A test holds them against plain ones."""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit

_0, _1, _SMALL = np.float32(0), np.float32(1), np.float32(1e-6)
#: What no photo saw counts so much less than what one did.
_UNSEEN = np.float32(0.1)


@njit(nogil=True, cache=True, error_model="numpy")
def add_picture(rgb, alpha, seen, of_head, top, left, sharp, low, sharp_sum, low_sum):
    """Add one picture, or a part of it, to sums over pictures, in place; it counts by its shares and as far as its photo ``seen``.

    Args:
        rgb, alpha, seen: float32 [h, w, 3], [h, w], [h, w], premultiplied, with their first pixel at ``top``, ``left`` of the sums.
        of_head: float32 [s, s], 1 on the head, 0 on the body.
        sharp, low: float32 [2], its share on head and body of the picture, and of the low frequencies.
        sharp_sum, low_sum: float32 [s, s, 5] and [s, s, 4], sums by the one and the other: of shares, colours and, of the first, alpha.
    """
    sharp_head, sharp_body = sharp
    low_head, low_body = low
    for row in range(alpha.shape[0]):
        for column in range(alpha.shape[1]):
            head, counts = of_head[row + top, column + left], _UNSEEN + (_1 - _UNSEEN) * seen[row, column]
            own, soft = counts * (sharp_body + (sharp_head - sharp_body) * head), counts * (low_body + (low_head - low_body) * head)
            sharp_sum[row + top, column + left, 0] += own
            low_sum[row + top, column + left, 0] += soft
            for c in range(3):
                sharp_sum[row + top, column + left, c + 1] += own * rgb[row, column, c]
                low_sum[row + top, column + left, c + 1] += soft * rgb[row, column, c]
            sharp_sum[row + top, column + left, 4] += own * alpha[row, column]


@njit(nogil=True, cache=True, error_model="numpy")
def take_means(sharp_sum, low_sum, rgb, alpha, change):
    """What :func:`add_picture` summed becomes colours float32 [s, s, 3], alpha [s, s], and what low frequencies ``change``, [s, s, 3]."""
    for row in range(alpha.shape[0]):
        for column in range(alpha.shape[1]):
            per_sharp = _1 / max(sharp_sum[row, column, 0], _SMALL)
            per_low = _1 / max(low_sum[row, column, 0], _SMALL)
            alpha[row, column] = sharp_sum[row, column, 4] * per_sharp
            for c in range(3):
                own = sharp_sum[row, column, c + 1] * per_sharp
                rgb[row, column, c] = own
                change[row, column, c] = low_sum[row, column, c + 1] * per_low - own


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
