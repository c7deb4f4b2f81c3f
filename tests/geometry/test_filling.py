"""Fills: what is known stays, constants are exact, and nothing is darker or lighter than what was known."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.geometry.filling import foreground_colours, push_pull

rng = np.random.default_rng(5)


def scattered(shape: tuple[int, int], share: float) -> np.ndarray:
    return (rng.uniform(size=shape) < share).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64), (37, 53), (128, 9)])
def test_known_pixels_keep_their_values(shape):
    values = rng.uniform(0, 255, (*shape, 3)).astype(np.float32)
    known = scattered(shape, 0.3)
    filled = push_pull(values, known)
    np.testing.assert_allclose(filled[known == 1], values[known == 1], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (512, 32)])
def test_a_fill_has_no_favourite_side(shape):
    known = scattered(shape, 0.01)
    values = rng.uniform(0, 255, (*shape, 3)).astype(np.float32)
    filled = push_pull(values, known)
    for axis in (0, 1):
        mirrored = push_pull(np.ascontiguousarray(np.flip(values, axis)), np.ascontiguousarray(np.flip(known, axis)))
        np.testing.assert_allclose(np.flip(mirrored, axis), filled, atol=0.05)


@pytest.mark.parametrize("shape", [(64, 64), (37, 53), (1, 40)])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_constants_are_filled_exactly(shape, share):
    known = scattered(shape, share)
    known.flat[rng.integers(known.size)] = 1.0
    values = np.where(known[..., None] > 0, np.array([10.0, 120.0, 250.0]), 999.0).astype(np.float32)
    np.testing.assert_allclose(push_pull(values, known), np.broadcast_to([10.0, 120.0, 250.0], (*shape, 3)), rtol=1e-3)


def test_unknown_values_do_not_matter_and_the_arguments_stay():
    values = rng.uniform(0, 255, (40, 50, 3)).astype(np.float32)
    known = scattered((40, 50), 0.2)
    other = np.where(known[..., None] > 0, values, 77.0).astype(np.float32)
    before = values.copy(), known.copy()
    np.testing.assert_array_equal(push_pull(values, known), push_pull(other, known))
    assert np.array_equal(values, before[0]) and np.array_equal(known, before[1])


def test_a_fill_stays_between_the_known_extremes():
    known = np.zeros((64, 64), np.float32)
    known[:, :8] = known[:, -8:] = 1.0
    values = np.zeros((64, 64, 1), np.float32)
    values[:, -8:] = 100.0
    filled = push_pull(values, known)[..., 0]
    assert filled.min() >= -1e-3 and filled.max() <= 100.0 + 1e-3
    # From the dark side to the light side, and half-way in the middle.
    assert (np.diff(filled[32]) >= -1.0).all()
    assert filled[32, 30:34].mean() == pytest.approx(50.0, abs=1.0)


def test_nothing_known_gives_numbers():
    assert np.isfinite(push_pull(np.full((16, 16, 3), 50.0, np.float32), np.zeros((16, 16), np.float32))).all()


def test_foreground_colours_undo_a_soft_edge():
    columns = np.arange(96, dtype=np.float32)
    alpha = np.broadcast_to(np.clip((60 - columns) / 20, 0, 1), (64, 96)).astype(np.float32)
    front, back = np.array([180.0, 90.0, 40.0]), np.array([30.0, 60.0, 200.0])
    background = np.broadcast_to(back, (64, 96, 3)).astype(np.float32)
    image = np.round(alpha[..., None] * front + (1 - alpha[..., None]) * background).astype(np.uint8)
    found = foreground_colours(image, alpha, background)
    mixed = (alpha > 0.2) & (alpha < 0.8)
    assert np.abs(found[mixed] - front).max() < 8.0
    assert np.abs(image[mixed] - front).max() > 60.0  # the edge really was mixed


def test_foreground_colours_are_the_photo_where_the_person_is_solid():
    image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    found = foreground_colours(image, np.ones((32, 32), np.float32), np.zeros((32, 32, 3), np.float32))
    np.testing.assert_array_equal(found, image)
