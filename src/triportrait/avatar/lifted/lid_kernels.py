"""Lids' per-pixel work, compiled: the photo's eye region with its lids at any closure. It has no plain twin."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from triportrait.compiling import njit
from triportrait.geometry.texels import texel_before
from triportrait.types import Array

#: Where the first column of an unrolled lid begins (corners at 0 and 1), and how far below the margin its first row (lengths of the eye).
BEFORE, ABOVE = -0.25, 0.04
#: The lower lid's motion ends so far below its margin.
_LOWER_REACH = 0.3
#: So far above the margin lashes reach, and skin leaves the fold's shade: above, the photo is as it was.
_CHANGED = 0.3
#: How much of a crease's shade goes as it unfolds.
_UNFOLDED = 0.85
#: How far the shut lid's skin goes on over its fold, and how softly it ends.
_OVER_THE_FOLD, _SOFT_FOLD = 0.04, 0.14
#: How much the upper lashes shade the lower lid, and how far below its margin.
_SHADE, _SHADE_REACH = 0.3, 0.08
#: Lashes of a closing lid take so much of the light from a band round its margin, whose middle lies so far below that, and whose width is
#: the deviation of a normal distribution (lengths of the eye).
_BAND, _BAND_BELOW, _BAND_WIDTH = 0.24, -0.015, 0.085
#: A strip of lashes is drawn so many times finer than the picture.
FINER = 2


class LidPictures(NamedTuple):
    """Both lids unrolled, the subject's left first; n columns, m rows.

    Args:
        frame: float32 [2, 6], the outer corner in pixels, and the axes along and down divided by the eye's length.
        heights: float32 [2, 6, n] below the line between the corners, in lengths: upper and lower margin, both when shut; the fold above
            the upper margin; how much lighter the lid becomes as it leaves the fold; and the height
            of the lower lid's wet rim.
        bare: float32 [2, m, n, 4], the opened lid and what lies above, without lashes, and how much lighter the unfolded fold is.
        lid: float32 [2, m, n, 4], the same of the lid with the skin that its fold hides.
        lashes: float32 [2, m, n, 1], what lashes leave of the light.
        light: float32 [2, 16], of a closed lid from fold to margin.
    """

    frame: Array
    heights: Array
    bare: Array
    lid: Array
    lashes: Array
    light: Array


class LidFrame(NamedTuple):
    """``pictures`` at a ``closure`` float32 [2], 0 as in the photo, 1 shut."""

    pictures: LidPictures
    closure: Array


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _texel(picture, x, y, channel):
    """Bilinear value of [m, n, 3] at texels x, y (centres at +0.5)."""
    i, a = texel_before(x, picture.shape[1])
    j, b = texel_before(y, picture.shape[0])
    top = picture[j, i, channel] * (1 - a) + picture[j, i + 1, channel] * a
    bottom = picture[j + 1, i, channel] * (1 - a) + picture[j + 1, i + 1, channel] * a
    return top * (1 - b) + bottom * b


@njit(nogil=True, cache=True, error_model="numpy")
def lid_pixel(photo, lids, side, x, y, out):
    """Colour 0..255 of the photo with moved lids at pixel x, y of its own view, written to ``out`` [3].

    Args:
        photo: float32 [s, s, 3 or more].
        lids: :class:`LidFrame`.
        side: 0 left, 1 right.
    """
    frame, heights, closure = lids.pictures.frame[side], lids.pictures.heights[side], lids.closure[side]
    bare, lid, light = lids.pictures.bare[side], lids.pictures.lid[side], lids.pictures.light[side]
    columns = heights.shape[1]
    scale = columns / (1.0 - 2.0 * BEFORE)
    across, down = x - frame[0], y - frame[1]
    u = across * frame[2] + down * frame[3]
    v = across * frame[4] + down * frame[5]
    column = (u - BEFORE) * scale
    k, a = texel_before(column, columns)
    upper = heights[0, k] * (1 - a) + heights[0, k + 1] * a
    lower = heights[1, k] * (1 - a) + heights[1, k + 1] * a
    shut = heights[2, k] * (1 - a) + heights[2, k + 1] * a
    fold = heights[3, k] * (1 - a) + heights[3, k + 1] * a
    lift = heights[4, k] * (1 - a) + heights[4, k + 1] * a
    edge = upper + closure * (shut - upper)
    low = lower + closure * (shut - lower)
    # Beyond the corners nothing changes.
    between = min(max(12.0 * min(u, 1.0 - u) + 0.6, 0.0), 1.0)
    # Half a pixel of the photo, in lengths: borders are soft.
    half = 0.5 * (frame[2] ** 2 + frame[3] ** 2) ** 0.5
    # The border between the lids, or the middle of the opening, is soft.
    below = min(max((v - 0.5 * (edge + low)) / (2.0 * half) + 0.5, 0.0), 1.0)
    for c in range(3):
        out[c] = 0.0
    if below < 1.0:
        above = upper - v
        # A fold is a line while the eye is open; shut, nothing marks it.
        unfolding = closure * closure * between
        inside = (fold + _OVER_THE_FOLD * unfolding - above) / max(4.0 * half, 0.05 + _SOFT_FOLD * unfolding) + 0.5
        inside = min(max(inside, 0.0), 1.0)
        place = 15.0 * min(max((v - upper + fold) / max(edge - upper + fold, 1e-3), 0.0), 0.999)
        step = int(place)
        lit = light[step] + (place - step) * (light[step + 1] - light[step])
        lit = 1.0 + closure * between * (lit * lift - 1.0)
        row = (max(edge - v, 0.0) + ABOVE) * scale
        row_above = (max(above, 0.0) + ABOVE) * scale
        # Far above and beside the lid the photo goes on.
        outside = min(max((above - max(_CHANGED, fold + 0.14)) / 0.05, 0.0), 1.0)
        outside = max(outside, min(max((-0.12 - u) / 0.05, 0.0), 1.0))
        outside = max(outside, min(max((u - 1.12) / 0.05, 0.0), 1.0))
        unfolded = between * min(2.0 * closure, 1.0)
        lighter = 1.0
        if outside < 1.0:
            lighter += unfolded * _UNFOLDED * (_texel(bare, column, row_above, 3) - 1.0)
        if inside > 0.0:
            lit *= 1.0 + unfolded * (_texel(lid, column, row, 3) - 1.0)
        for c in range(3):
            value = 0.0
            if inside < 1.0 and outside < 1.0:
                value = lighter * _texel(bare, column, row_above, c)
            if inside > 0.0 and outside < 1.0:
                value += inside * (lit * _texel(lid, column, row, c) - value)
            if outside > 0.0:
                value += outside * (_texel(photo, x, y, c) - value)
            out[c] = (1.0 - below) * value
    if below > 0.0:
        share = min(max(1.0 - (v - low) / _LOWER_REACH, 0.0), 1.0)
        # The wet rim of the lower lid goes under the upper one.
        moved = (lower - low + closure * heights[5, k]) * share * share * (3.0 - 2.0 * share)
        if v < low:
            moved = lower - v + half + closure * heights[5, k]
        moved *= between
        # The upper lid's lashes shade it.
        dim = 1.0 - _SHADE * closure * between * max(1.0 - max(v - low, 0.0) / _SHADE_REACH, 0.0)
        length2 = frame[4] ** 2 + frame[5] ** 2
        for c in range(3):
            out[c] += below * dim * _texel(photo, x + moved * frame[4] / length2, y + moved * frame[5] / length2, c)
    away = (v - edge - _BAND_BELOW) / _BAND_WIDTH
    kept = 1.0 - _BAND * between * min(2.0 * closure, 1.0) * np.exp(-0.5 * away * away)
    for c in range(3):
        out[c] *= kept


@njit(nogil=True, cache=True, error_model="numpy")
def hang_lashes(rgb, depth, lashes, texels, texels_depth, top, left, tolerance):
    """Multiply what lashes leave into premultiplied colours, in place, where their strip is drawn and nothing stands before it.

    Args:
        rgb: float32 [s, s, 3]; depth: float32 [s, s].
        lashes: float32 [m, n, 1]; texels: float32 [FINER h, FINER w, 2] of them.
        texels_depth: float32 [FINER h, FINER w], inf where none is.
        top, left: where these begin in the picture.
        tolerance: decimetres by which the strip may lie behind.
    """
    for row in range(texels_depth.shape[0] // FINER):
        for column in range(texels_depth.shape[1] // FINER):
            kept = 0.0
            for j in range(row * FINER, (row + 1) * FINER):
                for i in range(column * FINER, (column + 1) * FINER):
                    if texels_depth[j, i] < depth[row + top, column + left] + tolerance:
                        kept += _texel(lashes, texels[j, i, 0], texels[j, i, 1], 0)
                    else:
                        kept += 1.0
            for c in range(3):
                rgb[row + top, column + left, c] *= kept / (FINER * FINER)
