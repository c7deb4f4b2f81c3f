"""Nearest pixels and points are scipy's, to the last bit, and equally near ones are chosen by rule."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

from triportrait.geometry.nearest import distance_of, distance_px, nearest_pixels, nearest_points


@pytest.mark.parametrize(("shape", "share"), [((64, 90), 0.002), ((64, 90), 0.05), ((90, 33), 0.6), ((1, 40), 0.1), ((40, 1), 0.1)])
def test_pixels_are_scipys(shape: tuple[int, int], share: float) -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        mask = rng.random(shape) < share
        mask[rng.integers(shape[0]), rng.integers(shape[1])] = True
        distance, place = distance_transform_edt(~mask, return_indices=True)
        np.testing.assert_array_equal(nearest_pixels(mask), place)
        np.testing.assert_array_equal(distance_px(mask), distance)
        np.testing.assert_array_equal(distance_of(nearest_pixels(mask)), distance)


def test_without_a_pixel_everything_is_far() -> None:
    nothing = np.zeros((3, 4), bool)
    assert np.isinf(distance_px(nothing)).all()
    np.testing.assert_array_equal(nearest_pixels(nothing), np.indices((3, 4)))


@pytest.mark.parametrize("count", [1, 4, 8])
def test_points_are_scipys(count: int) -> None:
    rng = np.random.default_rng(4)
    points, queries = rng.normal(size=(60, 3)).astype(np.float32), rng.normal(size=(200, 3))
    distance, index = cKDTree(points).query(queries, k=[*range(1, count + 1)])
    found_distance, found = nearest_points(points, queries, count)
    np.testing.assert_array_equal(found, index)
    np.testing.assert_array_equal(found_distance, distance)
