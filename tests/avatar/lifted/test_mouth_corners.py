"""The shadow beside the corners of the mouth: it stays while the lips rest, and goes as they part."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.avatar.lifted.mouth_corners import MouthCorners
from triportrait.avatar.lifted.surface import fit_surface
from triportrait.geometry.landmarks import LOWER_LIP_INSIDE, OUTER_MOUTH_CORNERS


@pytest.fixture(scope="module")
def surface(astronaut_portrait, open_head):
    return fit_surface(astronaut_portrait, open_head)


def test_lips_that_part_take_the_shadow_away_and_resting_ones_keep_it(astronaut_portrait, open_head, surface):
    import cv2

    photo = np.full((*astronaut_portrait.image.shape[:2], 3), 180.0, np.float32)
    corners = astronaut_portrait.landmarks[list(OUTER_MOUTH_CORNERS), :2]
    out = 0.14 * (corners - corners.mean(0)) * 2
    for corner, way in zip(corners, out, strict=True):
        cv2.line(photo, *(tuple(np.round(end).astype(int).tolist()) for end in (corner, corner + way)), (110.0, 100.0, 95.0), 3)
    skin = MouthCorners.of(astronaut_portrait, open_head, surface, photo)
    landmarks = open_head.landmarks478(surface.source)
    colours = np.zeros((len(surface.source), 4), np.float32)
    skin.unfold(landmarks, colours)
    assert not colours.any()
    parted = landmarks.copy()
    parted[LOWER_LIP_INSIDE, 1] -= 0.2
    skin.unfold(parted, colours)
    changed = colours[:, 3] > 0.3
    assert changed.sum() >= 4 and np.abs(colours[changed, :3] - 180.0).max() < 30.0
    away = np.linalg.norm(surface.pixels[colours[:, 3] > 0, None] - corners, axis=-1).min(1)
    assert away.max() < 0.3 * np.linalg.norm(corners[1] - corners[0]), "cheeks and chin keep what they have"
    half = colours.copy() * 0
    parted[LOWER_LIP_INSIDE, 1] += 0.13
    skin.unfold(parted, half)
    assert 0.2 < half[changed, 3].mean() / colours[changed, 3].mean() < 0.8


def test_skin_without_a_shadow_keeps_its_texture(astronaut_portrait, open_head, surface):
    even = np.full((*astronaut_portrait.image.shape[:2], 3), 180.0, np.float32)
    skin = MouthCorners.of(astronaut_portrait, open_head, surface, even)
    assert skin.share.max() < 1e-4
