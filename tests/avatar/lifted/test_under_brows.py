"""The crease below a brow: it stays while the brow rests, and goes as it rises."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.avatar.lifted.surface import fit_surface
from triportrait.avatar.lifted.under_brows import UnderBrows
from triportrait.geometry.landmarks import BROW_LEFT, BROW_RIGHT, EYE_LEFT_CORNERS, UPPER_LID_LEFT, UPPER_LID_RIGHT


@pytest.fixture(scope="module")
def surface(astronaut_portrait, open_head):
    return fit_surface(astronaut_portrait, open_head)


@pytest.fixture(scope="module")
def creased(astronaut_portrait) -> np.ndarray:
    """Even skin with a dark line between lids and brows."""
    import cv2

    photo = np.full((*astronaut_portrait.image.shape[:2], 3), 180.0, np.float32)
    points = astronaut_portrait.landmarks[:, :2]
    for brow, lid in ((BROW_LEFT[:5], UPPER_LID_LEFT), (BROW_RIGHT[:5], UPPER_LID_RIGHT)):
        low = points[lid][np.linspace(0, len(lid) - 1, 5).astype(int)]
        line = np.round(low + 0.55 * (points[brow] - low)).astype(np.int32)
        cv2.polylines(photo, [line.reshape(-1, 1, 2)], False, (130.0, 120.0, 115.0), 2)
    return photo


def test_a_raised_brow_takes_the_crease_away_and_a_resting_one_keeps_it(astronaut_portrait, open_head, surface, creased):
    skin = UnderBrows.of(astronaut_portrait, open_head, surface.pixels, surface.source, creased)
    landmarks = open_head.landmarks478(surface.source)
    colours = np.zeros((len(surface.source), 4), np.float32)
    skin.flatten(landmarks, colours)
    assert not colours.any()
    raised = landmarks.copy()
    raised[BROW_LEFT, 1] += 0.7 * (landmarks[BROW_LEFT[:5], 1].mean() - landmarks[list(EYE_LEFT_CORNERS), 1].mean())
    skin.flatten(raised, colours)
    changed = colours[:, 3] > 0.3
    assert changed.sum() >= 3
    assert np.abs(colours[changed, :3] - 180.0).max() < 25.0
    assert surface.source[changed, 0].min() > 0.0, "the other brow has not moved"


def test_skin_without_a_crease_keeps_its_texture(astronaut_portrait, open_head, surface):
    even = np.full((*astronaut_portrait.image.shape[:2], 3), 180.0, np.float32)
    skin = UnderBrows.of(astronaut_portrait, open_head, surface.pixels, surface.source, even)
    assert skin.share.max() < 1e-5
