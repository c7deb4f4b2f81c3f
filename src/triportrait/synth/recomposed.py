"""Portraits that are varied with their labels: hair of another colour, hats and earrings, other scenes, bystanders, other light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from triportrait.synth.labelled import FULL, Labelled, Random
from triportrait.synth.worn import with_earrings, with_hat
from triportrait.types import Array

#: A pixel this much a person's shows their colour alone.
_SURELY = 0.9


@dataclass(frozen=True, slots=True)
class Variations:
    """How far portraits are varied.

    Args:
        other_hair, other_scene: shares of portraits with hair of another colour, and before another scene.
        scale, turn_rad, shift: standard deviations of the crop's place (``shift`` in sides).
        hat, earrings, bystander: shares of portraits under a painted hat, with painted earrings, and (where both scenes are plain) beside
            another person.
        grey, sepia, blurred, lit_aside: shares of portraits.
        gain: standard deviation of the logarithm of light, and by more than half of the chances 0.7 of it of each colour's.
        noise: the largest standard deviation of what is added to each pixel (levels).

    Besides, crops are 6 % larger on average, all levels move a little, and by 40 % of the chances brightness is bent (gamma).
    """

    other_hair: float = 0.5
    other_scene: float = 0.7
    scale: float = 0.2
    turn_rad: float = 0.12
    shift: float = 0.04
    hat: float = 0.2
    earrings: float = 0.2
    bystander: float = 0.3
    grey: float = 0.12
    sepia: float = 0.06
    blurred: float = 0.3
    lit_aside: float = 0.5
    gain: float = 0.15
    noise: float = 5.0


def varied(portrait: Labelled, other: Labelled, random: Random, how: Variations) -> tuple[Array, Array]:
    """A picture float32 [s, s, 3] 0..255, and float32 [s, s, 6]: alpha, skin, hair, sure, hull, and whether the matte is to be believed.

    What lies beyond the portrait's border is mirrored, and nothing is believed of it. Where labels are weak, ``hair`` is what it likely is.

    Args:
        portrait: which; ``other``: lends its scene, and its person as a bystander.
        random: decides; how: see there.
    """
    import cv2

    if not portrait.exact:
        portrait = portrait._replace(hair=_likely_hair(portrait))
    if portrait.apart and random.random() < how.other_hair:
        recoloured = _with_other_hair(portrait, random)
        image = portrait.image + portrait.alpha[..., None] * (recoloured - portrait.colours)
        portrait = portrait._replace(image=image, colours=recoloured)
    if random.random() < how.earrings:
        portrait = with_earrings(portrait, random)
    if random.random() < how.hat:
        portrait = with_hat(portrait, random)
    trust = 1.0 if portrait.plain else 0.3
    if portrait.plain and random.random() < how.other_scene:
        portrait = _before(portrait, _varied_scene(other.scene, portrait.colours[portrait.alpha > _SURELY], random, how))
        trust = 1.0
    if portrait.plain and other.plain and random.random() < how.bystander:
        portrait = _with_bystander(portrait, other, random)
    image = portrait.image
    side = len(image)
    place = _place(side, random, how, 1.0)
    labels: Any = np.dstack([portrait.alpha, portrait.skin, portrait.hair, portrait.sure, portrait.hull]).astype(np.float32)
    shown: Any
    shown, labels = (
        cv2.warpAffine(part, place, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        for part in (np.clip(image, 0, FULL).astype(np.float32), labels)
    )
    there = cv2.warpAffine(np.ones((side, side), np.float32), place, (side, side), flags=cv2.INTER_NEAREST)
    labels[..., 3] *= there
    return in_other_light(shown, random, how), np.dstack([labels, trust * there])


def _place(side: int, random: Random, how: Variations, extent: float) -> Array:
    """An affine map [2, 3] of a crop onto itself, by half of the chances mirrored."""
    scale, turn = np.exp(0.06 + random.normal() * how.scale * extent), random.normal() * how.turn_rad * extent
    mirror = -1.0 if random.random() < 0.5 else 1.0
    matrix = scale * np.array([[np.cos(turn) * mirror, -np.sin(turn)], [np.sin(turn) * mirror, np.cos(turn)]])
    middle = np.full(2, side / 2)
    return np.c_[matrix, middle + random.normal(size=2) * how.shift * side * extent - matrix @ middle].astype(np.float32)


def _with_other_hair(portrait: Labelled, random: Random) -> Array:
    """The person's colours with hair (and what is worn) of another colour, most often nearly the skin's: float32 [s, s, 3]."""
    import cv2

    person = portrait.alpha > _SURELY
    face, other = person & (portrait.hull > 0.5) & (portrait.skin > 0.5), person & (portrait.skin < 0.5)
    rows = np.flatnonzero(portrait.hull.any(1))
    if not len(rows) or not face.any() or not other.any():
        return portrait.colours
    upper = other.copy()
    upper[(rows[0] + rows[-1]) // 2 :] = False
    skin, hair = portrait.colours[face].mean(0), portrait.colours[upper if upper.any() else other].mean(0)
    wanted = skin * np.exp(0.25 * random.normal())
    if random.random() < 0.25:
        wanted = 0.5 * random.uniform(20, 230, 3) + 0.5 * random.uniform(20, 230)
    share = random.uniform(0.3, 1.1)
    mask = cv2.GaussianBlur(1.0 - portrait.skin, (0, 0), 0.8)[..., None]
    if random.random() < 0.5:
        changed = portrait.colours + share * mask * (wanted - hair)
    else:
        changed = portrait.colours * (1.0 + mask * share * (wanted / np.maximum(hair, 8.0) - 1.0))
    return np.clip(changed, 0, FULL).astype(np.float32)


def _likely_hair(portrait: Labelled) -> Array:
    """What is a person's and no skin is most often hair, down to the middle of the face: float32 [s, s]. Lower there may be shoulders."""
    rows = np.flatnonzero((portrait.hull > 0.5).any(1))
    likely = np.clip(portrait.alpha - portrait.skin, 0.0, 1.0)
    likely[(rows[0] + rows[-1]) // 2 if len(rows) else 0 :] = 0.0
    return np.asarray(likely * (portrait.hull < 0.5), np.float32)


def _before(portrait: Labelled, scene: Array) -> Labelled:
    """The person before another scene [s, s, 3]."""
    return portrait._replace(image=scene + portrait.alpha[..., None] * (portrait.colours - scene), scene=scene)


def _with_bystander(portrait: Labelled, other: Labelled, random: Random) -> Labelled:
    """The person with another one behind a shoulder, or seldom before it, as large or smaller, sharp or out of focus."""
    import cv2

    side = len(portrait.image)
    scale, in_front = np.exp(random.uniform(-0.9, 0.2)), random.random() < 0.2
    away = random.choice([-1, 1]) * random.uniform(0.65 if in_front else 0.3, 1.0) * side * (0.5 + 0.5 * scale)
    mirror = random.choice([-1.0, 1.0])
    matrix = np.diag([scale * mirror, scale])
    to = side * np.array([0.5, 0.5]) + np.array([away, random.uniform(-0.15, 0.35) * side])
    place = np.c_[matrix, to - matrix @ np.full(2, side / 2)].astype(np.float32)
    parts: Any = (other.colours * other.alpha[..., None], other.alpha)
    if scale < 1.0:
        parts = tuple(cv2.GaussianBlur(part, (0, 0), 0.5 / scale) for part in parts)
    # Below the crop a person goes on.
    colours, alpha = (cv2.copyMakeBorder(part, 0, side // 2, 0, 0, cv2.BORDER_REPLICATE) for part in parts)
    colours, alpha = (cv2.warpAffine(part, place, (side, side), flags=cv2.INTER_LINEAR) for part in (colours, alpha))
    if random.random() < 0.5:
        soft = random.uniform(0.5, 4.0)
        colours, alpha = (cv2.GaussianBlur(part, (0, 0), soft) for part in (colours, alpha))
    colours = colours * np.exp(0.2 * random.normal())
    if not in_front:
        return _before(portrait, colours + (1.0 - alpha[..., None]) * portrait.scene)
    left = 1.0 - alpha
    image = colours + left[..., None] * portrait.image
    return portrait._replace(image=image, alpha=portrait.alpha * left, skin=portrait.skin * left, hair=portrait.hair * left)


def _varied_scene(scene: Array, person: Array, random: Random, how: Variations) -> Array:
    """Another ``scene`` [s, s, 3], moved, blurred, of the ``person``'s colours [n, 3], or with lights, each by chance."""
    import cv2

    side = len(scene)
    place = _place(side, random, how, 2.0)
    place[:, :2] *= 1.25
    moved: Any = cv2.warpAffine(scene.astype(np.float32), place, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    if len(person) and random.random() < 0.2:
        moved = np.clip(moved + random.uniform(0.3, 1.0) * (person.mean(0) - moved.mean((0, 1))), 0, FULL)
    if random.random() < 0.25:
        moved = _with_lights(moved, random)
    if random.random() < 0.3:
        moved = cv2.GaussianBlur(moved, (0, 0), random.uniform(0.5, 5.0))
    return moved.astype(np.float32)


def _with_lights(scene: Array, random: Random) -> Array:
    """Discs and bars of light out of focus."""
    import cv2

    side = len(scene)
    shown: Any = np.zeros((side, side, 3), np.float32)
    mask = np.zeros((side, side), np.float32)
    for _ in range(random.integers(2, 14)):
        at, radius = random.integers(0, side, 2), int(random.integers(side // 64, side // 9))
        colour = (random.uniform(150, 255, 3) * random.uniform(0.7, 1.0, 3)).tolist()
        if random.random() < 0.3:
            end = at + random.integers(side // 40, side // 2, 2) // (4, 2)
            cv2.rectangle(shown, at.tolist(), end.tolist(), colour, -1)
            cv2.rectangle(mask, at.tolist(), end.tolist(), 1.0, -1)
        cv2.circle(shown, at.tolist(), radius, colour, -1)
        cv2.circle(mask, at.tolist(), radius, 1.0, -1)
    width = random.uniform(0.6, 4.0)
    shown, soft = cv2.GaussianBlur(shown, (0, 0), width), cv2.GaussianBlur(mask, (0, 0), width)[..., None]
    return scene * (1.0 - soft) + shown


def in_other_light(image: Array, random: Random, how: Variations) -> Array:
    """A picture [s, s, 3] 0..255 brighter or darker, tinted, lit from aside, grey, sepia, blurred and noisy, each by chance: float32."""
    import cv2

    side = len(image)
    lit: Any = image * np.exp(how.gain * random.normal())
    if random.random() < 0.6:
        lit = lit * np.exp(0.7 * how.gain * random.normal(size=3))
    if random.random() < how.lit_aside:
        angle = random.uniform(0, 2 * np.pi)
        y, x = np.mgrid[:side, :side] / side - 0.5
        light = ((x * np.cos(angle) + y * np.sin(angle)) * random.normal())[..., None]
        lit = lit * np.exp(light * (1.0 + 0.3 * random.normal(size=3)))
    if random.random() < 0.4:
        lit = FULL * (np.clip(lit, 0, FULL) / FULL) ** np.exp(0.25 * random.normal())
    chance = random.random()
    if chance < how.grey + how.sepia:
        tone = (1.0, 1.0, 1.0) if chance < how.grey else (1.1, 1.0, 0.8)
        lit = lit.mean(-1, keepdims=True) * np.array(tone)
    if random.random() < how.blurred:
        lit = cv2.GaussianBlur(lit, (0, 0), random.uniform(0.4, 1.3))
    lit = lit + 6.0 * random.normal() + random.uniform(0, how.noise) * random.normal(size=lit.shape)
    return np.clip(lit, 0, FULL).astype(np.float32)
