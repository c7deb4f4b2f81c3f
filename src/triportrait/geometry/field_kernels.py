"""The equations of :mod:`triportrait.geometry.fields`, compiled by numba. Their plain twin is scipy's ``spsolve``, in the tests.

Source: Hestenes and Stiefel, "Methods of conjugate gradients for solving linear systems" (1952).
"""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit
from triportrait.types import Array


@njit(nogil=True, cache=True, error_model="numpy")
def solve_membrane(grid: Array, free: Array, degree: Array, width: int) -> None:
    """Fill ``grid`` [n] at ``free`` [k] so that ``degree`` [k] times a node is the sum of its four neighbours.

    Args:
        grid: rows of ``width`` nodes after one another, whose rim is 0 and not free; 0 where it is free.
        free, degree: see above.
        width: see above.
    """
    count = len(free)
    left, step = np.empty(count), np.zeros(len(grid))
    error = 0.0
    for k in range(count):
        i = free[k]
        left[k] = grid[i - width] + grid[i - 1] + grid[i + 1] + grid[i + width]
        step[i] = left[k]
        error += left[k] * left[k]
    moved = np.empty(count)
    # Rounding is all that is left then: depths of decimetres are right to the last place of a float32 many times over.
    enough = 1e-24 * error
    for _ in range(4 * count):
        if error <= enough:
            break
        curvature = 0.0
        for k in range(count):
            i = free[k]
            moved[k] = degree[k] * step[i] - step[i - width] - step[i - 1] - step[i + 1] - step[i + width]
            curvature += step[i] * moved[k]
        length, before, error = error / curvature, error, 0.0
        for k in range(count):
            grid[free[k]] += length * step[free[k]]
            left[k] -= length * moved[k]
            error += left[k] * left[k]
        for k in range(count):
            step[free[k]] = left[k] + error / before * step[free[k]]
