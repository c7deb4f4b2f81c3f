"""Sums of a head's curves over its vertices, compiled. A test holds them against a plain product."""

from __future__ import annotations

from triportrait.compiling import njit


@njit(nogil=True, cache=True, error_model="numpy")
def add_curves(basis, weights, flat):
    """Add the rows of ``basis`` float32 [c, n] times ``weights`` float32 [c] to ``flat`` float32 [n], in place; most weights are 0."""
    for curve in range(basis.shape[0]):
        weight = weights[curve]
        if weight != 0.0:
            for n in range(flat.shape[0]):
                flat[n] += weight * basis[curve, n]
