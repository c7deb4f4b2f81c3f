"""Varied portraits keep their labels, take another scene and other hair, and are the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labelled_samples import labelled
from triportrait.synth.recomposed import Variations, in_other_light, varied

#: Nothing but what a test asks for.
STILL = Variations(other_hair=0, other_scene=0, scale=0, turn_rad=0, shift=0, grey=0, sepia=0, blurred=0, lit_aside=0, gain=0, noise=0)


def test_labels_go_with_the_picture() -> None:
    """Where a varied portrait is red, it is skin, however it was moved, mirrored and scaled."""
    portrait = labelled(0)._replace(plain=False)
    scene = np.zeros_like(portrait.scene)
    for seed in range(8):
        image, labels = varied(portrait, scene, np.random.default_rng(seed), replace(STILL, scale=0.15, turn_rad=0.2, shift=0.05))
        red = image[..., 0] - image[..., 2] > 60
        skin = labels[..., 1] > 0.5
        assert (red == skin).mean() > 0.98 and skin.any()
        assert labels[..., 5].max() < 0.5, "a restless scene's matte is not to be trusted"


def test_another_scene_stands_behind_the_person_alone() -> None:
    portrait = labelled(1)
    green = np.zeros_like(portrait.scene) + np.array([0, 250, 0], np.float32)
    still = replace(STILL, other_scene=1.0)
    shares = []
    for seed in range(12):
        image, labels = varied(portrait, green, np.random.default_rng(seed), still)
        is_green = (image[..., 1] > 1.5 * np.maximum(image[..., 0], image[..., 2])) & (image[..., 1] > 60)
        assert not is_green[labels[..., 0] > 0.9].any()
        shares.append(is_green[labels[..., 0] < 0.1].mean())
        assert labels[..., 5].min() == 1.0
    assert np.median(shares) > 0.9


def test_hair_takes_another_colour_and_skin_keeps_its_own() -> None:
    portrait = labelled(2)._replace(plain=False, apart=True)
    own = portrait.alpha - portrait.skin > 0.99
    hair, skin = [], []
    for seed in range(12):
        image, labels = varied(portrait, portrait.scene, np.random.default_rng(seed), replace(STILL, other_hair=1.0))
        is_skin, is_hair = labels[..., 1] > 0.99, (labels[..., 0] > 0.99) & (labels[..., 1] < 0.01)
        skin.append(np.abs(image[is_skin].mean(0) - portrait.colours[portrait.skin > 0.99].mean(0)).max())
        hair.append(np.abs(image[is_hair].mean(0) - portrait.colours[own].mean(0)).max())
    assert np.median(hair) > 60 and np.median(skin) < 25


def test_the_same_seed_gives_the_same_picture() -> None:
    portrait = labelled(3)
    first, second = (varied(portrait, portrait.scene, np.random.default_rng(5), Variations()) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_light_stays_within_what_pictures_hold() -> None:
    picture = labelled(4).image
    for seed in range(20):
        lit = in_other_light(picture, np.random.default_rng(seed), Variations())
        assert lit.shape == picture.shape and lit.min() >= 0 and lit.max() <= 255
    grey = in_other_light(picture, np.random.default_rng(0), replace(STILL, grey=1.0))
    assert np.ptp(grey, axis=-1).max() < 1e-3
