"""What stands still while a head moves: scenery beside it, but nothing of the head, and no shirt."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from triportrait.face.standing_scene import stands_still
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, Array

_SIDE, _FRAMES = 256, 8
_MIDDLE, _RADIUS = 128, 60


def _texture(seed: int, least: float, most: float) -> Array:
    noise = np.random.default_rng(seed).random((_SIDE, _SIDE, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 4.0)
    return least + (most - least) * (soft - soft.min()) / (soft.max() - soft.min())


def _video(ways_px: Array) -> tuple[Array, Array, Array, Array]:
    """A round head, shifted to the right by ``ways_px`` [n], before a scene: crops, heads bool [n, s, s], translations, landmarks."""
    scene, head = _texture(1, 120, 250), _texture(2, 0, 130)
    y, x = np.mgrid[:_SIDE, :_SIDE]
    crops, heads, landmarks = [], [], np.zeros((len(ways_px), 478, 2))
    for n, way in enumerate(ways_px):
        there = np.hypot(x - _MIDDLE - way, y - _MIDDLE) < _RADIUS
        crops.append(np.where(there[..., None], np.roll(head, way, axis=1), scene))
        heads.append(there)
        landmarks[n, FOREHEAD_TOP], landmarks[n, CHIN] = (_MIDDLE + way, _MIDDLE - 40), (_MIDDLE + way, _MIDDLE + 50)
    translation = np.zeros((len(ways_px), 3))
    translation[:, 0] = ways_px * CAMERA_DISTANCE_DM / (FOCAL_IN_WIDTHS * _SIDE)
    return np.array(crops).astype(np.uint8), np.array(heads), translation, landmarks


def _taken_for_scene(heads: Array) -> Array:
    """What is left for the scene by a segmentation that takes scenery round the head for the head."""
    wide = np.ones((41, 41), np.uint8)
    return np.array([cv2.dilate(head.astype(np.uint8), wide) == 0 for head in heads])


def test_scenery_beside_a_moving_head_stands_still() -> None:
    crops, heads, translation, landmarks = _video(np.linspace(-24, 24, _FRAMES).astype(int))
    known = _taken_for_scene(heads)
    found = stands_still(known, crops, np.zeros((_FRAMES, 3)), translation, landmarks)
    above_jaw = np.arange(_SIDE)[None, :, None] < _MIDDLE + 20
    taken = ~known & ~heads & above_jaw
    assert (found & taken).sum() > 0.5 * taken.sum()
    # Places are two pixels wide here, and compared with their neighbours.
    inside = np.array([cv2.erode(head.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0 for head in heads])
    assert not (found & inside).any()
    # From the jaw down nothing is looked for.
    assert not found[:, _MIDDLE + 30 :].any()


def test_even_skin_inside_a_head_is_no_scenery() -> None:
    crops, heads, translation, landmarks = _video(np.linspace(-24, 24, _FRAMES).astype(int))
    crops[:, _MIDDLE - 25 : _MIDDLE, _MIDDLE - 25 : _MIDDLE + 25] = crops[0, _MIDDLE - 25 : _MIDDLE, _MIDDLE - 25 : _MIDDLE + 25]
    found = stands_still(_taken_for_scene(heads), crops, np.zeros((_FRAMES, 3)), translation, landmarks)
    assert not found[:, _MIDDLE - 20 : _MIDDLE - 5, _MIDDLE - 20 : _MIDDLE + 20].any()


@pytest.mark.parametrize("frames", [1, 3, _FRAMES])
def test_a_head_that_rests_tells_nothing(frames: int) -> None:
    crops, heads, translation, landmarks = _video(np.zeros(frames, int))
    assert not stands_still(_taken_for_scene(heads), crops, np.zeros((frames, 3)), translation, landmarks).any()
