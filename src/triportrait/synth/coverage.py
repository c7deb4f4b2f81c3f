"""Which samples a triangle or a piece of a strand covers, and where on it each of them lies.

Parts of the kernels of ``render``, ``deferred`` and ``baking``, inlined by numba; they have no plain twin. Places are pixels, x right and
y down, and the sample in row y and column x lies at (x + 0.5, y + 0.5).
"""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit


@njit(cache=True, fastmath=True, inline="always")
def pixels_touched(low, high, count):  # type: ignore[no-untyped-def]
    """First and last of ``count`` pixels that the stretch from ``low`` to ``high`` touches, if only at their border."""
    return max(int(np.floor(low)), 0), min(int(np.ceil(high)), count - 1)


@njit(cache=True, fastmath=True, inline="always")
def centres_within(low, high, count):  # type: ignore[no-untyped-def]
    """First and last of ``count`` pixels whose middle lies between ``low`` and ``high``; the last comes first where none does."""
    return max(int(np.ceil(low - 0.5)), 0), min(int(np.floor(high - 0.5)), count - 1)


@njit(cache=True, fastmath=True, inline="always")
def corner_weights(corners, inverse, px, py):  # type: ignore[no-untyped-def]
    """Shares (w0, w1, w2) of the corners (ax, ay, bx, by, cx, cy) at a sample; outside the triangle one of them is negative.

    ``inverse``: 1 / twice the signed area.
    """
    ax, ay, bx, by, cx, cy = corners
    w1 = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) * inverse
    w2 = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) * inverse
    return 1.0 - w1 - w2, w1, w2


@njit(cache=True, fastmath=True, inline="always")
def surface_at(corners, inverse, nearness, px, py):  # type: ignore[no-untyped-def]
    """Depth of a triangle at a sample, and the perspective-correct shares of its second and third corner; depth -1 outside.

    ``nearness``: 1 / depth of the corners; the rest as in :func:`corner_weights`.
    """
    w0, w1, w2 = corner_weights(corners, inverse, px, py)
    if w0 < 0.0 or w1 < 0.0 or w2 < 0.0:
        return -1.0, 0.0, 0.0
    z = 1.0 / (w0 * nearness[0] + w1 * nearness[1] + w2 * nearness[2])
    return z, w1 * nearness[1] * z, w2 * nearness[2] * z


@njit(cache=True, fastmath=True, inline="always")
def strand_box(start, end, half, size):  # type: ignore[no-untyped-def]
    """Pixels (left, right, top, bottom) of a picture of ``size`` (width, height) that a straight piece ``half`` to each side may cover.

    None where it is too short to have a direction.
    """
    dx, dy = end[0] - start[0], end[1] - start[1]
    if dx * dx + dy * dy < 1e-8:
        return 0, -1, 0, -1
    left, right = pixels_touched(min(start[0], end[0]) - half, max(start[0], end[0]) + half, size[0])
    top, bottom = pixels_touched(min(start[1], end[1]) - half, max(start[1], end[1]) + half, size[1])
    return left, right, top, bottom


@njit(cache=True, fastmath=True, inline="always")
def strand_at(start, end, half, px, py):  # type: ignore[no-untyped-def]
    """Share of the way from ``start`` to ``end`` (x, y, depth) at a sample, and the depth there; -1 farther than ``half`` off."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    squared = dx * dx + dy * dy
    px, py = px - start[0], py - start[1]
    run = (px * dx + py * dy) / squared
    if run < 0.0 or run >= 1.0:
        return -1.0, 0.0
    off = px * dy - py * dx
    if off * off > half * half * squared:
        return -1.0, 0.0
    return run, start[2] + run * (end[2] - start[2])
