"""Bounded least squares: what it finds is the optimum within the bounds."""

from __future__ import annotations

import numpy as np

from triportrait.geometry.boxed import boxed_least_squares


def test_it_ends_where_no_unknown_can_improve() -> None:
    random = np.random.default_rng(2)
    moves, wanted = random.normal(size=(5, 40, 8)), random.normal(size=(5, 40))
    normal, gradient = moves.transpose(0, 2, 1) @ moves + 0.1 * np.eye(8), np.einsum("tjk,tj->tk", moves, 4.0 * wanted)
    lowest, highest = np.full(8, -0.2), np.full(8, 0.3)
    found = np.zeros((5, 8))
    boxed_least_squares(normal, gradient, lowest, highest, found, 500, 1e-12)
    slope = np.einsum("tkj,tj->tk", normal, found) - gradient
    inside = (found > lowest + 1e-9) & (found < highest - 1e-9)
    assert inside.any() and (~inside).any()
    assert np.abs(slope[inside]).max() < 1e-8
    assert (slope[found <= lowest + 1e-9] >= -1e-8).all() and (slope[found >= highest - 1e-9] <= 1e-8).all()


def test_what_is_solved_already_stays() -> None:
    found = np.array([[0.25, 1.0]])
    boxed_least_squares(np.eye(2)[None], np.array([[0.25, 3.0]]), np.zeros(2), np.ones(2), found, 10, 1e-9)
    np.testing.assert_array_equal(found, [[0.25, 1.0]])
