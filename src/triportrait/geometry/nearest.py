"""What lies nearest, exactly: pixels of a mask and points of a set, in compiled kernels.

Source of the pixels' part: Meijster, Roerdink and Hesselink, "A general algorithm for computing distance transforms in linear time"
(2000). The kernels' plain twins are scipy's ``distance_transform_edt`` and ``cKDTree``, which tests hold against them: scipy is no part of
what makes a video.
"""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit
from triportrait.types import Array


def nearest_pixels(mask: Array) -> tuple[Array, Array]:
    """Row and column of the nearest True pixel for every pixel of ``mask`` bool [h, w]: int64 [h, w] each.

    Of several, the one with the smallest column is taken, and in it the smallest row; where no pixel is True, every pixel is its own.
    """
    mask = np.ascontiguousarray(mask, bool)
    row, column = np.mgrid[: mask.shape[0], : mask.shape[1]]
    if mask.any():
        _nearest_pixels(mask, row, column)
    return row, column


def distance_px(mask: Array) -> Array:
    """Distance to the nearest True pixel of ``mask`` bool [h, w], 0 on those: float64 [h, w]; inf where no pixel is True."""
    return distance_of(nearest_pixels(mask)) if mask.any() else np.full(mask.shape, np.inf)


def distance_of(place: tuple[Array, Array]) -> Array:
    """How far the pixels are from those that :func:`nearest_pixels` found: float64 [h, w]."""
    row, column = (np.arange(count) for count in place[0].shape)
    return np.sqrt((place[0] - row[:, None]) ** 2 + (place[1] - column) ** 2)


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest_pixels(mask: Array, row: Array, column: Array) -> None:
    """See :func:`nearest_pixels`; ``mask`` has a True pixel, ``row`` and ``column`` are filled."""
    height, width = mask.shape
    for x in range(width):
        last = -1
        for y in range(height):
            if mask[y, x]:
                last = y
            row[y, x] = last
        below = -1
        for y in range(height - 1, -1, -1):
            if mask[y, x]:
                below = y
            above = row[y, x]
            if above < 0 or (below >= 0 and below - y < y - above):
                row[y, x] = below
    # In a row, column x offers the squared distance (x' - x)^2 + g(x): the lower envelope of these parabolas.
    offered, height_of, begin = np.empty(width, np.int64), np.empty(width, np.int64), np.empty(width, np.int64)
    for y in range(height):
        count = 0
        for x in range(width):
            if row[y, x] < 0:
                continue
            value = (row[y, x] - y) ** 2
            start = np.int64(0)
            while count:
                other = offered[count - 1]
                # The first pixel at which x is nearer than the other one.
                start = (x * x - other * other + value - height_of[count - 1]) // (2 * (x - other)) + 1
                if start > begin[count - 1]:
                    break
                count -= 1
                start = np.int64(0)
            if start < width:
                offered[count], height_of[count], begin[count] = x, value, max(start, np.int64(0))
                count += 1
        place, rows = count - 1, row[y].copy()
        for x in range(width - 1, -1, -1):
            while begin[place] > x:
                place -= 1
            row[y, x], column[y, x] = rows[offered[place]], offered[place]


def nearest_points(points: Array, queries: Array, count: int = 1) -> tuple[Array, Array]:
    """The nearest of ``points`` [n, 3] for each of ``queries`` [q, 3].

    Args:
        points, queries: see above.
        count: how many, at most n.

    Returns:
        distances float64 [q, count], the smallest first, and indices int64 [q, count].
    """
    distance, index = np.full((len(queries), count), np.inf), np.zeros((len(queries), count), np.int64)
    _nearest_points(np.ascontiguousarray(points, np.float64), np.ascontiguousarray(queries, np.float64), distance, index)
    return np.sqrt(distance), index


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest_points(points: Array, queries: Array, squared: Array, index: Array) -> None:
    """See :func:`nearest_points`; ``squared`` is filled with squared distances."""
    count = squared.shape[1]
    for q in range(queries.shape[0]):
        x, y, z = queries[q, 0], queries[q, 1], queries[q, 2]
        farthest = np.inf
        for n in range(points.shape[0]):
            dx, dy, dz = points[n, 0] - x, points[n, 1] - y, points[n, 2] - z
            here = dx * dx + dy * dy + dz * dz
            if here < farthest:
                place = count - 1
                while place > 0 and squared[q, place - 1] > here:
                    squared[q, place], index[q, place] = squared[q, place - 1], index[q, place - 1]
                    place -= 1
                squared[q, place], index[q, place] = here, n
                farthest = squared[q, count - 1]
