"""Least squares with unknowns that stay within bounds, compiled."""

from __future__ import annotations

from triportrait.compiling import njit


@njit(nogil=True, cache=True, error_model="numpy")
def boxed_least_squares(normal, gradient, lowest, highest, found, sweeps, close_enough):
    """Solve n problems of k unknowns each, into ``found``: coordinate by coordinate, which ends at the optimum within the bounds.

    Args:
        normal: [n, k, k], positive definite; gradient: [n, k]; of 1/2 x' normal x - gradient' x.
        lowest, highest: [k].
        found: [n, k], where the search begins, within the bounds, and what it finds.
        sweeps: over all unknowns, at most; none follows once every unknown moves by less than ``close_enough``.
    """
    count = found.shape[1]
    for row in range(found.shape[0]):
        for _ in range(sweeps):
            moved = 0.0
            for k in range(count):
                total = gradient[row, k]
                for j in range(count):
                    total -= normal[row, k, j] * found[row, j]
                best = min(max(found[row, k] + total / normal[row, k, k], lowest[k]), highest[k])
                moved = max(moved, abs(best - found[row, k]))
                found[row, k] = best
            if moved < close_enough:
                break
