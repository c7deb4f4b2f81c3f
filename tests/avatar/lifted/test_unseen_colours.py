"""What is skin and what is hair, where colours alone do not say."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from triportrait.avatar.lifted.unseen_colours import _eyes, _like_hair, like_the_face, without_features
from triportrait.geometry.landmarks import FOREHEAD_TOP, NOSE_TIP
from triportrait.geometry.masks import face_hull
from triportrait.types import PreparedPortrait


def test_the_sheen_of_dark_skin_is_no_black_hair(astronaut_portrait: PreparedPortrait) -> None:
    """Both are bluish; but hair is darker than the face, and sheen is lighter."""
    random = np.random.default_rng(0)
    size = len(astronaut_portrait.image)
    top = float(astronaut_portrait.landmarks[FOREHEAD_TOP, 1])
    image = np.empty((size, size, 3), np.uint8)
    image[:] = (92, 62, 50)
    image[: int(top) - 40] = (48, 58, 69)
    sheen = np.s_[int(top) - 30 : int(top) + 30, 200:280]
    image[sheen] = (80, 98, 116)
    # The light varies over face and hair, so that lightness tells less than hue.
    light = np.kron(random.uniform(0.5, 1.5, (32, 32)), np.ones((size // 32, size // 32)))
    light[sheen] = 1.0
    image = np.clip(image * light[..., None], 0, 255).astype(np.uint8)
    alpha = np.ones((size, size), np.float32)
    portrait = replace(astronaut_portrait, image=image, head_alpha=alpha, person_alpha=alpha)
    hair, apart = _like_hair(portrait, _eyes(portrait))
    assert apart > 2.0
    assert hair[: int(top) - 60].mean() > 0.9
    assert hair[sheen][8:-8, 8:-8].mean() < 0.1


def lit_from_behind(portrait: PreparedPortrait) -> tuple[PreparedPortrait, np.ndarray]:
    """Even skin before black, of which light from behind bleaches a band along the cheek on the right; and that band, bool [s, s]."""
    face = face_hull(portrait.landmarks, len(portrait.image))
    image = np.where(face[..., None], np.uint8([150, 100, 80]), np.uint8([20, 15, 12])).astype(np.uint8)
    band = np.zeros_like(face)
    for row in range(int(portrait.landmarks[NOSE_TIP, 1]) - 20, int(portrait.landmarks[NOSE_TIP, 1]) + 40):
        band[row, np.flatnonzero(face[row])[-24:]] = True
    image[band] = (255, 248, 240)
    alpha = face.astype(np.float32)
    return replace(portrait, image=image, head_alpha=alpha, person_alpha=alpha, background=np.zeros_like(image)), band


def test_light_from_behind_bleaches_no_cheek_that_turns_to_the_viewer(astronaut_portrait: PreparedPortrait) -> None:
    portrait, band = lit_from_behind(astronaut_portrait)
    skin = like_the_face(portrait)
    assert skin[band].mean() > 0.9
    signed = cv2.distanceTransform((portrait.head_alpha > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    plain = without_features(portrait, portrait.image.astype(np.float32), skin, signed)
    inner = cv2.erode(band.astype(np.uint8), np.ones((13, 9), np.uint8)).astype(bool)
    assert plain.bleached[inner].min() > 0.5
    assert plain.bleached[signed > 60].max() < 0.1
    # Darker than the photo, redder, and lighter than the rest of the face.
    low = plain.low[inner].mean(0)
    assert 150 < low[0] < 235 and low[2] / low[0] < 0.8
