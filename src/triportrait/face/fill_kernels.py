"""Patch search and voting of :mod:`triportrait.face.scene_fill`, compiled by numba on first use. It has no plain twin."""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _distance(picture, y, x, v, u, radius, best, pull):
    """Squared difference of the patches round (y, x) and (v, u), at most about ``best``; ``pull`` is added for each squared pixel between.

    What lies outside is left out on both sides.
    """
    height, width = picture.shape[0], picture.shape[1]
    total = pull * np.float32((y - v) * (y - v) + (x - u) * (x - u))
    for j in range(-radius, radius + 1):
        if not 0 <= y + j < height:
            continue
        for i in range(-radius, radius + 1):
            if 0 <= x + i < width:
                for c in range(3):
                    step = picture[y + j, x + i, c] - picture[v + j, u + i, c]
                    total += step * step
        if total >= best:
            break
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def search(picture, wanted, source, place, cost, radius, rounds, seed, pull):
    """Better patches: ``place`` [h, w, 2] int32 (row, column) and their ``cost`` [h, w], in place: propagation and random search.

    Args:
        picture: float32 [h, w, 3], the hole filled provisionally.
        wanted: bool [h, w], centres of patches that touch the hole.
        source: bool [h, w], centres of patches that are known wholly.
        radius: of the patches; rounds: how often; seed: of the search; pull: the cost of each squared pixel of a patch's way.
    """
    height, width = wanted.shape
    state = np.uint64(seed * 2654435761 + 12345)
    for row in range(height):
        for column in range(width):
            if wanted[row, column]:
                v, u = place[row, column, 0], place[row, column, 1]
                cost[row, column] = _distance(picture, row, column, v, u, radius, np.float32(np.inf), pull)
    for turn in range(rounds):
        step = 1 if turn % 2 == 0 else -1
        for a in range(height):
            row = a if step > 0 else height - 1 - a
            for b in range(width):
                column = b if step > 0 else width - 1 - b
                if not wanted[row, column]:
                    continue
                best = cost[row, column]
                for k in range(2):
                    y, x = row - (step if k == 0 else 0), column - (step if k == 1 else 0)
                    if 0 <= y < height and 0 <= x < width and wanted[y, x]:
                        v, u = place[y, x, 0] + row - y, place[y, x, 1] + column - x
                        if 0 <= v < height and 0 <= u < width and source[v, u]:
                            found = _distance(picture, row, column, v, u, radius, best, pull)
                            if found < best:
                                best = found
                                place[row, column, 0], place[row, column, 1] = v, u
                reach = max(height, width)
                while reach >= 1:
                    state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                    v = place[row, column, 0] + int((state >> np.uint64(33)) % np.uint64(2 * reach + 1)) - reach
                    state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                    u = place[row, column, 1] + int((state >> np.uint64(33)) % np.uint64(2 * reach + 1)) - reach
                    if 0 <= v < height and 0 <= u < width and source[v, u]:
                        found = _distance(picture, row, column, v, u, radius, best, pull)
                        if found < best:
                            best = found
                            place[row, column, 0], place[row, column, 1] = v, u
                    reach //= 2
                cost[row, column] = best


@njit(nogil=True, cache=True, error_model="numpy")
def vote(picture, hole, wanted, place, cost, trust, radius, out):
    """Each pixel of the ``hole``: the mean of what the patches over it say, weighted by fit and ``trust`` [h, w] in their centres."""
    height, width = hole.shape
    mean, count = 0.0, 0
    for row in range(height):
        for column in range(width):
            if wanted[row, column]:
                mean += cost[row, column]
                count += 1
    scale = max(mean / max(count, 1), 1e-6)
    for row in range(height):
        for column in range(width):
            for c in range(3):
                out[row, column, c] = picture[row, column, c]
            if not hole[row, column]:
                continue
            total, red, green, blue = 0.0, 0.0, 0.0, 0.0
            for j in range(-radius, radius + 1):
                for i in range(-radius, radius + 1):
                    y, x = row + j, column + i
                    if 0 <= y < height and 0 <= x < width and wanted[y, x]:
                        weight = trust[y, x] * np.exp(-cost[y, x] / scale)
                        v, u = place[y, x, 0] - j, place[y, x, 1] - i
                        total += weight
                        red += weight * picture[v, u, 0]
                        green += weight * picture[v, u, 1]
                        blue += weight * picture[v, u, 2]
            if total > 0:
                out[row, column, 0], out[row, column, 1], out[row, column, 2] = red / total, green / total, blue / total
