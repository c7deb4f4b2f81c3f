"""Varied portraits keep their labels, take another scene and other hair, and are the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from labelled_samples import labelled
from triportrait.synth.labelled import Labelled
from triportrait.synth.recomposed import Variations, in_other_light, varied
from triportrait.synth.worn import with_earrings, with_hat

#: Nothing but what a test asks for.
STILL = Variations(
    other_hair=0,
    other_scene=0,
    scale=0,
    turn_rad=0,
    shift=0,
    hat=0,
    earrings=0,
    bystander=0,
    grey=0,
    sepia=0,
    blurred=0,
    lit_aside=0,
    gain=0,
    noise=0,
)


def test_labels_go_with_the_picture() -> None:
    """Where a varied portrait is red, it is skin, however it was moved, mirrored and scaled."""
    portrait = labelled(0)._replace(plain=False)
    for seed in range(8):
        image, labels = varied(portrait, labelled(1), np.random.default_rng(seed), replace(STILL, scale=0.15, turn_rad=0.2, shift=0.05))
        red = image[..., 0] - image[..., 2] > 60
        skin = labels[..., 1] > 0.5
        assert (red == skin).mean() > 0.98 and skin.any()
        assert labels[..., 5].max() < 0.5, "a restless scene's matte is not to be trusted"


def test_another_scene_stands_behind_the_person_alone() -> None:
    portrait = labelled(1)
    green = portrait._replace(scene=np.zeros_like(portrait.scene) + np.array([0, 250, 0], np.float32))
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
        image, labels = varied(portrait, portrait, np.random.default_rng(seed), replace(STILL, other_hair=1.0))
        is_skin, is_hair = labels[..., 1] > 0.99, (labels[..., 0] > 0.99) & (labels[..., 1] < 0.01)
        skin.append(np.abs(image[is_skin].mean(0) - portrait.colours[portrait.skin > 0.99].mean(0)).max())
        hair.append(np.abs(image[is_hair].mean(0) - portrait.colours[own].mean(0)).max())
    assert np.median(hair) > 60 and np.median(skin) < 25


def test_the_same_seed_gives_the_same_picture() -> None:
    portrait = labelled(3)
    first, second = (varied(portrait, portrait, np.random.default_rng(5), Variations()) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_light_stays_within_what_pictures_hold() -> None:
    picture = labelled(4).image
    for seed in range(20):
        lit = in_other_light(picture, np.random.default_rng(seed), Variations())
        assert lit.shape == picture.shape and lit.min() >= 0 and lit.max() <= 255
    grey = in_other_light(picture, np.random.default_rng(0), replace(STILL, grey=1.0))
    assert np.ptp(grey, axis=-1).max() < 1e-3


def test_what_lies_beyond_the_border_is_not_believed() -> None:
    portrait = labelled(5)
    _, labels = varied(portrait, portrait, np.random.default_rng(0), replace(STILL, shift=0.3))
    unknown = labels[..., 5] == 0
    assert 0.05 < unknown.mean() < 0.95 and not labels[unknown, 3].any() and labels[~unknown, 3].min() == 1.0


@pytest.mark.parametrize("wear", [with_hat, with_earrings])
def test_what_is_worn_is_the_persons_but_neither_skin_nor_hair(wear: Callable[[Labelled, np.random.Generator], Labelled]) -> None:
    portrait = labelled(6, exact=True)
    sizes = []
    for seed in range(30):
        worn = wear(portrait, np.random.default_rng(seed))
        changed = np.abs(worn.alpha - portrait.alpha) + np.abs(worn.skin - portrait.skin) + np.abs(worn.hair - portrait.hair) > 0.02
        solid = (worn.skin + worn.hair < 0.02) & (worn.alpha > 0.98)
        sizes.append((solid & changed).sum())
        assert (worn.skin + worn.hair <= worn.alpha + 1e-5).all() and (worn.alpha >= portrait.alpha - 1e-6).all()
        mixed = worn.alpha[..., None] * worn.colours + (1 - worn.alpha[..., None]) * worn.scene
        np.testing.assert_allclose(worn.image, mixed, atol=0.6)
        assert worn.image.min() >= 0 and worn.image.max() <= 255.5
    assert np.median(sizes) > (1000 if wear is with_hat else 20)
    faceless = portrait._replace(hull=np.zeros_like(portrait.hull))
    assert wear(faceless, np.random.default_rng(0)) is faceless


def test_a_bystander_is_scene_and_may_stand_before_the_person() -> None:
    portrait, hidden = labelled(7), 0
    green_all_over = np.zeros_like(portrait.colours) + np.array([0, 255, 0], np.float32)
    other = labelled(8)._replace(colours=green_all_over, alpha=np.ones_like(portrait.alpha))
    for seed in range(40):
        image, labels = varied(portrait, other, np.random.default_rng(seed), replace(STILL, bystander=1.0))
        green = image[..., 1] > 1.6 * np.maximum(image[..., 0], image[..., 2])
        assert not (green & (labels[..., 0] > 0.9)).any()
        hidden += labels[..., 0].sum() < 1.1 * portrait.alpha.sum()
    assert 0 < hidden < 20
