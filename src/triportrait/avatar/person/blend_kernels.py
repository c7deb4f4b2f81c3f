"""Sums over a person's pictures, compiled. A test holds them against plain ones."""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit

_0, _HALF, _1, _SMALL = np.float32(0), np.float32(0.5), np.float32(1), np.float32(1e-6)
#: What no photo saw counts so much less than what one did.
_UNSEEN = np.float32(0.1)


@njit(nogil=True, cache=True, error_model="numpy")
def blend(pictures, places, of_head, sharp, low, outline, rgb, alpha, change):
    """Means of pictures, or parts of them, each of which counts by its shares and as far as its photo saw what it shows.

    Args:
        pictures: so many of (rgb float32 [h, w, 3] premultiplied, alpha [h, w], seen [h, w]) as ``places``, int32 [k, 4], has rows: where
            the first pixel of each lies (row, column), and its height and width.
        of_head: float32 [s, s], 1 on the head, 0 on the body.
        sharp, low: float32 [k, 2], shares on head and body of the picture, and of its low frequencies.
        outline: float32 [s, s, 2], how many pixels inside the outline, and how far the pictures' own alphas do not agree.
        rgb, alpha, change: float32 [s, s, 3], [s, s], [s, s, 3], written: the picture, and what its low frequencies lack.
    """
    size = of_head.shape[0]
    sums = np.empty((size, 9), np.float32)
    for row in range(size):
        sums[:] = _0
        for k in range(len(pictures)):
            y, left = row - places[k, 0], places[k, 1]
            if y < 0 or y >= places[k, 2]:
                continue
            colours, opaque, seen = pictures[k]
            sharp_head, sharp_body, low_head, low_body = sharp[k, 0], sharp[k, 1], low[k, 0], low[k, 1]
            for x in range(places[k, 3]):
                head, counts = of_head[row, x + left], _UNSEEN + (_1 - _UNSEEN) * seen[y, x]
                own, soft = counts * (sharp_body + (sharp_head - sharp_body) * head), counts * (low_body + (low_head - low_body) * head)
                shown, total = opaque[y, x], sums[x + left]
                total[0] += own
                total[1] += own * shown
                total[2] += soft * shown
                for c in range(3):
                    total[3 + c] += own * colours[y, x, c]
                    total[6 + c] += soft * colours[y, x, c]
        for column in range(size):
            total = sums[column]
            shown = total[1] / max(total[0], _SMALL)
            shown += outline[row, column, 1] * (min(max(outline[row, column, 0] + _HALF, _0), _1) - shown)
            alpha[row, column] = shown
            per_own, per_low = shown / max(total[1], _SMALL), shown / max(total[2], _SMALL)
            for c in range(3):
                own = total[3 + c] * per_own
                rgb[row, column, c] = own
                change[row, column, c] = total[6 + c] * per_low - own


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
