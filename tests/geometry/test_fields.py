"""Fields on grids: the fill is harmonic and keeps what is known, triangles cover a grid once, steps start and end level."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import spsolve

from triportrait.geometry.fields import grid_triangles, harmonic_fill, smooth_step


def test_the_fill_is_exact_for_planes_and_keeps_what_is_known() -> None:
    y, x = np.mgrid[:20, :30].astype(float)
    plane = 2.0 * x - 3.0 * y + 5.0
    known = np.zeros((20, 30), bool)
    known[[0, -1]] = known[:, [0, -1]] = True
    np.testing.assert_allclose(harmonic_fill(np.where(known, plane, 99.0), known, 1e-9), plane, atol=1e-4)


def test_the_fill_obeys_the_maximum_principle() -> None:
    rng = np.random.default_rng(0)
    known = rng.uniform(size=(25, 25)) < 0.1
    values = rng.uniform(-1, 1, (25, 25))
    filled = harmonic_fill(values, known)
    np.testing.assert_array_equal(filled[known], values[known])
    assert filled.max() <= values[known].max() + 1e-6 and filled.min() >= values[known].min() - 1e-6
    np.testing.assert_array_equal(harmonic_fill(values, np.ones_like(known)), values)


def test_the_fill_between_two_edges_is_linear_and_islands_need_a_whisper() -> None:
    known = np.zeros((6, 9), bool)
    known[:, 0] = known[:, -1] = True
    values = np.where(known, np.arange(9) * 2.0, 0)
    np.testing.assert_allclose(harmonic_fill(values, known), np.broadcast_to(np.arange(9) * 2.0, (6, 9)), atol=1e-9)
    assert not harmonic_fill(np.ones((4, 4)), np.zeros((4, 4), bool), 1e-9).any()


@pytest.mark.parametrize("shape", [(25, 31), (1, 20), (20, 1), (2, 2)])
def test_the_fill_solves_scipys_equations(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    known, values, whisper = rng.random(shape) < 0.15, rng.normal(size=shape), 1e-9
    known[0, 0] = True
    edges = [sparse.diags([np.ones(count - 1)] * 2, [-1, 1], shape=(count, count)) for count in shape]
    joined = sparse.kronsum(edges[1], edges[0]).tocsr()
    free = np.flatnonzero(~known.ravel())
    degree = np.asarray(joined.sum(1)).ravel()[free]
    matrix = sparse.diags(degree + whisper) - joined[free][:, free]
    solved = np.where(known, values, 0.0).ravel()
    solved[free] = spsolve(matrix.tocsc(), joined[free] @ solved)
    np.testing.assert_allclose(harmonic_fill(values, known, whisper).ravel(), solved, atol=1e-10)


def test_triangles_cover_a_grid_once_and_turn_one_way() -> None:
    rows, columns = 4, 6
    y, x = (part.ravel() for part in np.mgrid[:rows, :columns].astype(float))
    a, b, c = (np.stack([x, y], 1)[corner] for corner in grid_triangles(rows, columns).T)
    area = 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
    np.testing.assert_array_equal(area, -0.5)  # rows go down: seen from the viewer that is counter-clockwise
    assert len(area) == 2 * (rows - 1) * (columns - 1)


def test_a_smooth_step_starts_and_ends_level() -> None:
    share = np.linspace(0, 1, 101)
    step = smooth_step(share)
    assert step[0] == 0 and step[-1] == 1 and smooth_step(0.5) == 0.5 and (np.diff(step) > 0).all()
    slope = np.gradient(step, share)
    assert slope[0] < 0.05 and slope[-1] < 0.05 and abs(slope[50] - 1.5) < 0.01
