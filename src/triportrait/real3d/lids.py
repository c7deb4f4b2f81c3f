"""Blinks drawn into motion pictures: the eyes' holes of a PNCC close by a fraction (spec 4, step 9)."""

from __future__ import annotations

import numpy as np

from triportrait.geometry.masks import holes_filled
from triportrait.geometry.nearest import distance_px, nearest_pixels
from triportrait.types import Array

#: Pixels round a hole that move with it, of a 512-pixel picture.
_MARGIN_PX = 5.0


def closing_of_blink(frames: int) -> Array:
    """How far the lids are closed in each frame of a blink of ``frames`` frames, 0..1: a parabola that reaches 1 in its middle."""
    t = np.arange(frames) / frames
    return (4.0 * t - 4.0 * t**2).astype(np.float32)


def close_lids(picture: Array, fraction: float, uncovered: float = -1.0) -> Array:
    """A PNCC picture float32 [3, s, s] with the eyes' holes closed by ``fraction``: 0 as it is, 1 shut. The picture is not changed.

    In every column the hole's ends move towards its middle row; what gets covered takes the colour of the nearest face pixel.
    A picture without holes is given back as it is.
    """
    if fraction <= 0.0:
        return picture
    side = picture.shape[-1]
    rows = slice(side // 4, side // 2)
    result = picture
    covered = (picture != uncovered).any(0)
    holes = holes_filled(covered) & ~covered
    for columns in (slice(side // 4, side // 2), slice(side // 2, side - side // 4)):
        hole = holes[rows, columns]
        if not hole.any():
            continue
        count = hole.sum(0)
        number = np.arange(hole.shape[0])[:, None]
        middle = (hole * number).sum(0) / np.maximum(count, 1)
        first, last = hole.argmax(0), hole.shape[0] - 1 - hole[::-1].argmax(0)
        open_from = first + fraction * (middle - first)
        open_to = last + fraction * (middle - last)
        still_open = hole & (number >= open_from - 1e-6) & (number <= open_to + 1e-6) & (fraction < 1.0)
        margin = distance_px(hole) <= max(1.5, _MARGIN_PX * side / 512.0)
        known = margin & covered[rows, columns]
        if not known.any():
            continue
        part, (source_rows, source_columns) = picture[:, rows, columns], nearest_pixels(known)
        closed = np.where(hole & ~still_open, part[:, source_rows, source_columns], part)
        if result is picture:
            result = picture.copy()
        result[:, rows, columns] = closed
    return result
