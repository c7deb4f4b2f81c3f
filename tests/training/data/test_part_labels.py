"""Weak labels: colours tell skin from hair where they differ, and nothing is believed where shade misleads them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.geometry.masks import eyes_mask, face_hull
from triportrait.training.data.part_labels import _like_skin, weak_labels
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
    _, apart, hair = _like_skin(portrait, eyes_mask(portrait.landmarks, size))
    assert apart > 2.0
    assert hair[: int(top) - 60].mean() > 0.9
    assert hair[sheen][8:-8, 8:-8].mean() < 0.1


def test_what_colours_tell_is_believed_and_a_shaded_neck_is_not_taken_for_hair(astronaut_portrait: PreparedPortrait) -> None:
    labels = weak_labels(astronaut_portrait, astronaut_portrait.person_alpha)
    size = len(astronaut_portrait.image)
    face = face_hull(astronaut_portrait.landmarks, size)
    chin, top = (astronaut_portrait.landmarks[index, :2] for index in (CHIN, FOREHEAD_TOP))
    x, y = (top + 0.25 * (top - chin)).astype(int)
    hair = np.s_[y - 6 : y + 6, x - 6 : x + 6]
    assert labels.apart > 2 and 0 < labels.restless < 1
    assert labels.skin[face].mean() > 0.85 and labels.skin[hair].mean() < 0.1 and labels.sure[hair].mean() > 0.5
    x, y = (chin + 0.1 * (chin - top)).astype(int)
    neck = np.s_[y - 4 : y + 4, x - 4 : x + 4]
    shaded = replace(astronaut_portrait, image=astronaut_portrait.image.copy())
    shaded.image[neck] = shaded.image[neck] // 3
    told = weak_labels(shaded, astronaut_portrait.person_alpha)
    assert ((told.skin[neck] > 0.5) | (told.sure[neck] < 0.1)).mean() > 0.9
