"""Blinks drawn into motion pictures."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.real3d.lids import close_lids, closing_of_blink

SIDE = 128


@pytest.fixture
def picture() -> np.ndarray:
    """A disc of a face with two elliptic holes for eyes."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    face = np.stack([x, y, x * y]).astype(np.float32)
    face[:, x**2 + y**2 > 0.2] = -1.0
    for centre in (-0.13, 0.13):
        face[:, ((x - centre) / 0.08) ** 2 + ((y + 0.12) / 0.04) ** 2 < 1] = -1.0
    return face


def holes(picture: np.ndarray) -> int:
    return int((picture[:, SIDE // 4 : SIDE // 2, SIDE // 4 : -SIDE // 4] == -1.0).all(0).sum())


def test_the_further_the_lids_close_the_smaller_the_holes(picture: np.ndarray) -> None:
    before = picture.copy()
    areas = [holes(close_lids(picture, fraction)) for fraction in (0.0, 0.3, 0.6, 0.9, 1.0)]
    assert areas[0] == holes(picture) and areas[-1] == 0
    assert all(a > b for a, b in zip(areas, areas[1:], strict=False))
    np.testing.assert_array_equal(picture, before)


def test_only_the_holes_change_and_take_neighbouring_colours(picture: np.ndarray) -> None:
    closed = close_lids(picture, 1.0)
    changed = (closed != picture).any(0)
    assert (picture[:, changed] == -1.0).all()
    y, x = np.nonzero(changed)
    assert np.abs(closed[0, changed] - (x / SIDE - 0.5)).max() < 0.1


def test_without_holes_nothing_happens(picture: np.ndarray) -> None:
    whole = np.where(picture == -1.0, 0.5, picture)
    np.testing.assert_array_equal(close_lids(whole, 0.7), whole)


def test_a_blink_starts_open_and_shuts() -> None:
    closing = closing_of_blink(10)
    assert closing[0] == 0.0 and closing.max() == 1.0 and closing[5] == 1.0
