"""The strip of lip inside the landmarks: found in the photo, as wide as there until lips part farther."""

from __future__ import annotations

import numpy as np

from triportrait.avatar.mouth.rim import LipRim
from triportrait.geometry.landmarks import INNER_LIPS, OUTER_LIPS

LIP, DARK = (190, 100, 100), (30, 15, 15)


def lens(height: float) -> np.ndarray:
    """Landmarks [478, 3] in decimetres: inner lips .4 wide and so high, outer ones round them."""
    landmarks = np.zeros((478, 3), np.float32)
    angle = np.arange(20) / 20 * 2 * np.pi
    for ring, wide, high in ((INNER_LIPS, 0.4, height), (OUTER_LIPS, 0.5, height + 0.14)):
        landmarks[ring] = np.stack([-0.5 * wide * np.cos(angle), 0.5 * high * np.sin(angle), 0 * angle], -1)
    return landmarks


def to_pixels(points: np.ndarray) -> np.ndarray:
    return (points[..., :2] * (400, -400) + 128).astype(np.float32)


def photo(lip_dm: float) -> np.ndarray:
    """A mouth .12 open whose lower lip goes on for ``lip_dm`` inside its landmarks."""
    image = np.full((256, 256, 3), LIP, np.uint8)
    y, x = (np.mgrid[:256, :256] + 0.5 - 128) / 400
    inside = (x / 0.2) ** 2 + (y / 0.06) ** 2 < 1
    image[inside & (y < 0.06 - lip_dm)] = DARK
    return image


def test_it_is_as_wide_as_the_photo_shows_lip():
    landmarks = lens(0.12)
    rims = [LipRim.of(photo(lip), np.c_[to_pixels(landmarks), np.zeros(478)], landmarks, None) for lip in (0.0, 0.02)]
    lower = 15  # the middle of the lower lip
    assert rims[1].width_dm[lower] - rims[0].width_dm[lower] > 0.01
    assert rims[1].mask.sum() > 3 * rims[0].mask.sum()


def test_it_never_stretches_and_gives_way_to_a_wider_opening():
    landmarks = lens(0.12)
    rim = LipRim.of(photo(0.02), np.c_[to_pixels(landmarks), np.zeros(478)], landmarks, None)

    def rows_of_lip(height: float) -> int:
        points = rim.points(lens(height))
        out = np.zeros((256, 256, 4), np.float32)
        rim.lay(to_pixels(points), np.ones(len(points), np.float32), out)
        y = (np.arange(256) + 0.5 - 128) / 400
        return int(((out[:, 128, 0] > 120) & (y > 0) & (y < height / 2)).sum())

    half, own, wide = rows_of_lip(0.06), rows_of_lip(0.12), rows_of_lip(0.36)
    assert own >= 6 and abs(half - own) <= 2 and wide <= own / 2
    shut = rim.points(lens(0.0))
    assert np.isfinite(shut).all()


def test_teeth_are_no_lip():
    landmarks = lens(0.12)
    image = photo(0.0)
    teeth = (image == DARK).all(-1)
    image[teeth] = (210, 190, 170)
    rim = LipRim.of(image, np.c_[to_pixels(landmarks), np.zeros(478)], landmarks, teeth)
    assert not (rim.mask & teeth).any()
