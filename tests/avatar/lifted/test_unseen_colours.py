"""What is skin and what is hair, where colours alone do not say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from triportrait.avatar.lifted.unseen_colours import _eyes, _like_hair
from triportrait.geometry.landmarks import FOREHEAD_TOP
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
    hair = _like_hair(portrait, _eyes(portrait))
    assert hair[: int(top) - 60].mean() > 0.9
    assert hair[sheen][8:-8, 8:-8].mean() < 0.1
