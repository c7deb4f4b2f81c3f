"""Smooth fields on grids, and the grid's triangles."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from triportrait.types import Array

_Number = TypeVar("_Number", float, Array)


def smooth_step(share: _Number) -> _Number:
    """``3 s^2 - 2 s^3`` of a share s in 0..1 (the caller clips it): starts and ends level."""
    return share * share * (3 - 2 * share)


def harmonic_fill(values: Array, known: Array, regularisation: float = 0.0) -> Array:
    """Fill a grid by a membrane: the mean of the neighbours where ``known`` is False, free at the border (Laplace's equation).

    Args:
        values: [h, w], held where ``known`` bool [h, w] is True.
        regularisation: a whisper of it keeps islands solvable that have no known value.

    Returns:
        float64 [h, w].
    """
    from triportrait.geometry.field_kernels import solve_membrane

    height, width = known.shape
    held = np.where(known, values, 0.0).astype(np.float64)
    # A rim of known zeros saves asking for the border; no node counts it as a neighbour.
    grid, free = np.pad(held, 1), np.flatnonzero(np.pad(~known, 1))
    degree = np.full((height, width), 4.0)
    for border in (degree[0], degree[-1], degree[:, 0], degree[:, -1]):
        border -= 1.0
    solve_membrane(grid.reshape(-1), free, np.pad(degree, 1).reshape(-1)[free] + regularisation, width + 2)
    return grid[1:-1, 1:-1].copy()


def grid_triangles(rows: int, columns: int) -> Array:
    """int64 [2 (rows - 1) (columns - 1), 3]: the triangles of a grid of nodes, numbered row by row.

    Rows count downwards: the triangles are counter-clockwise seen from the viewer. The first half are the cells' upper left ones, cell by
    cell, the second half the lower right ones.
    """
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
