"""Earrings are the person's; lamps, sofas and what hangs elsewhere are not."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.face.earrings import with_earrings
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP, OVAL_SIDES


@pytest.fixture(scope="module")
def person() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A round head over a neck before a grey wall: image, matte, and landmarks of which four count."""
    y, x = np.mgrid[:512, :512] + 0.5
    alpha = ((np.hypot(x - 256, (y - 200) * 0.8) < 100) | ((np.abs(x - 256) < 50) & (y > 200))).astype(np.float32)
    wall = 120 + 4 * np.sin(x / 40)[..., None] * np.ones(3)
    image = np.where(alpha[..., None] > 0, (190, 140, 120), wall).astype(np.uint8)
    landmarks = np.zeros((478, 3))
    landmarks[FOREHEAD_TOP, :2], landmarks[CHIN, :2] = (256, 100), (256, 320)
    landmarks[OVAL_SIDES[0], :2], landmarks[OVAL_SIDES[1], :2] = (160, 210), (352, 210)
    return image, alpha, landmarks


def ring(middle: tuple[float, float], radius: float, width: float = 3.0) -> np.ndarray:
    y, x = np.mgrid[:512, :512] + 0.5
    return np.abs(np.hypot(x - middle[0], y - middle[1]) - radius) < width


def test_a_hoop_beside_the_neck_is_kept_and_not_what_lies_in_it(person):
    image, alpha, landmarks = person
    hoop = ring((168, 280), 22) & (alpha == 0)
    worn = with_earrings(np.where(hoop[..., None], (230, 190, 60), image).astype(np.uint8), alpha, landmarks)
    assert np.median(worn[hoop]) > 0.8 and worn[280, 168] < 0.1
    np.testing.assert_array_equal(worn[alpha == 1], 1.0)
    assert (worn - alpha)[~ring((168, 280), 22, 7)].max() < 0.05


@pytest.mark.parametrize("where", [(60.0, 290.0), (162.0, 60.0), (420.0, 470.0)])
def test_what_hangs_elsewhere_is_the_scenes(person, where):
    image, alpha, landmarks = person
    lamp = ring(where, 15) & (alpha == 0)
    lit = with_earrings(np.where(lamp[..., None], (230, 190, 60), image).astype(np.uint8), alpha, landmarks)
    np.testing.assert_array_equal(lit, alpha)


def test_a_shelf_that_goes_on_behind_the_neck_is_the_scenes(person):
    image, alpha, landmarks = person
    shelf = (np.abs(np.arange(512) - 300) < 6)[:, None] & (alpha == 0)
    seen = with_earrings(np.where(shelf[..., None], (90, 50, 30), image).astype(np.uint8), alpha, landmarks)
    np.testing.assert_array_equal(seen, alpha)


def test_a_picture_full_of_person_and_one_without_stay_as_they_are(person):
    image, alpha, landmarks = person
    for matte in (np.ones_like(alpha), np.zeros_like(alpha)):
        np.testing.assert_array_equal(with_earrings(image, matte, landmarks), matte)


def test_what_is_there_without_the_person_is_no_earring(person):
    image, alpha, landmarks = person
    hoop = ring((168, 280), 22) & (alpha == 0)
    picture = np.where(hoop[..., None], (230, 190, 60), image).astype(np.uint8)
    np.testing.assert_array_equal(with_earrings(picture, alpha, landmarks, empty=hoop), alpha)
    np.testing.assert_array_equal(with_earrings(picture, alpha, landmarks, empty=~hoop), with_earrings(picture, alpha, landmarks))
