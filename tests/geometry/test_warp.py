"""A warp is linear between its places, goes on beyond them as it is there, and leaves shoulders out where it shall."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.face.open_head import OpenHead
from triportrait.geometry.warp import (
    ACROSS_DM,
    AROUND,
    FACE_ACROSS,
    FACE_GRID,
    FACE_UP,
    HEAD_ROWS,
    UP_DM,
    WARP_GRID,
    FaceFrame,
    of_head_alone,
    warp_since,
    warp_weights,
)
from triportrait.types import WARP_COLUMNS

PLACES = np.array([(x, y) for y in UP_DM for x in ACROSS_DM])


def test_places_and_columns_are_as_many() -> None:
    assert len(PLACES) == WARP_GRID[0] * WARP_GRID[1] == AROUND
    assert 2 * (AROUND + FACE_GRID[0] * FACE_GRID[1]) == len(WARP_COLUMNS) == len(set(WARP_COLUMNS))
    names = ("warp_11_x", "warp_54_y", "warp_face_11_x", "warp_face_89_y")
    assert (WARP_COLUMNS[0], WARP_COLUMNS[2 * AROUND - 1], WARP_COLUMNS[2 * AROUND], WARP_COLUMNS[-1]) == names


def test_a_place_has_its_own_shift_and_between_them_a_warp_is_linear() -> None:
    np.testing.assert_allclose(warp_weights(PLACES), np.eye(len(PLACES)), atol=1e-6)
    points = np.random.default_rng(1).uniform((-1.35, -1.15), (1.35, 1.85), (50, 2))
    linear = PLACES @ np.array([[0.3, -0.1], [0.2, 0.4]]) + (0.05, -0.02)
    # Rows and columns stand evenly, so that what is linear in the plane stays so.
    np.testing.assert_allclose(warp_weights(points) @ linear, points @ np.array([[0.3, -0.1], [0.2, 0.4]]) + (0.05, -0.02), atol=1e-5)


def test_beyond_the_places_a_warp_goes_on_and_never_grows() -> None:
    far = np.array([[-9.0, 9.0], [9.0, -9.0], [0.0, 20.0]])
    weights = warp_weights(far)
    np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-6)
    assert (weights >= 0).all() and weights[0, 0] == 1.0 and weights[1, -1] == 1.0


def test_since_a_row_and_of_the_head_alone() -> None:
    warp = np.random.default_rng(2).normal(0, 0.1, (5, len(WARP_COLUMNS))).astype(np.float32)
    assert not warp_since(warp, 3)[3].any()
    kept, around = of_head_alone(warp), 2 * AROUND
    rows, all_rows = (values[:, :around].reshape(5, *WARP_GRID, 2) for values in (kept, warp))
    assert not rows[:, HEAD_ROWS:].any()
    np.testing.assert_array_equal(rows[:, :HEAD_ROWS], all_rows[:, :HEAD_ROWS])
    np.testing.assert_array_equal(kept[:, around:], warp[:, around:])


@pytest.mark.parametrize("size", [0.8, 1.3])
def test_eyes_and_mouths_lie_in_the_same_places_of_every_face(open_head: OpenHead, size: float) -> None:
    """A smaller or larger face, higher in its head, has the same weights at the same landmarks."""
    points = open_head.landmarks478(open_head.mean)
    usual, other = FaceFrame.of(points).weights(points), FaceFrame.of(points * size + (0, 0.1, 0)).weights(points * size + (0, 0.1, 0))
    np.testing.assert_allclose(other, usual, atol=1e-4)
    at = usual @ np.array([(x, y) for y in FACE_UP for x in FACE_ACROSS])
    np.testing.assert_allclose(at[[13, 14], 1].mean(), 0.0, atol=0.1)
    np.testing.assert_allclose(np.abs(at[[33, 263], 0]), 1.0, atol=0.05)
