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
    from scipy.sparse import coo_matrix, eye
    from scipy.sparse.linalg import spsolve

    held = np.where(known, values, 0.0).astype(np.float64)
    if known.all():
        return held
    index = np.arange(held.size).reshape(held.shape)
    first = np.concatenate([index[:, :-1].reshape(-1), index[:-1].reshape(-1)])
    second = np.concatenate([index[:, 1:].reshape(-1), index[1:].reshape(-1)])
    ends = np.concatenate([first, second]), np.concatenate([second, first])
    joined = coo_matrix((np.ones(len(ends[0])), ends), shape=(held.size, held.size)).tocsr()
    free = np.flatnonzero(~known.reshape(-1))
    degree = np.asarray(joined.sum(axis=1)).reshape(-1)
    rows = joined[free]
    matrix = coo_matrix((degree[free], (np.arange(len(free)),) * 2)).tocsr() - rows[:, free]
    if regularisation:
        matrix = matrix + regularisation * eye(len(free))
    filled = held.reshape(-1).copy()
    filled[free] = spsolve(matrix.tocsc(), rows @ held.reshape(-1))
    return filled.reshape(held.shape)


def grid_triangles(rows: int, columns: int) -> Array:
    """int64 [2 (rows - 1) (columns - 1), 3]: the triangles of a grid of nodes, numbered row by row.

    Rows count downwards: the triangles are counter-clockwise seen from the viewer. The first half are the cells' upper left ones, cell by
    cell, the second half the lower right ones.
    """
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
