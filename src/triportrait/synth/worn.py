"""Hats and earrings painted on labelled portraits, of which few show any: their place, form, cloth, metal and light are drawn by chance.

On weakly labelled portraits they teach what is the person's and what is no skin; on synthetic people also what is no hair.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from triportrait.synth.labelled import FULL, Labelled, Random
from triportrait.types import Array

#: Colours of metal, 0..255; stones and beads take any.
_METALS = np.array([[205, 165, 90], [200, 200, 205], [190, 130, 105]], float)


class _Face(NamedTuple):
    """The box round a face's hull in a picture: middle column, first row, width, height; and the pixels' columns and rows [s, s]."""

    middle: float
    top: float
    wide: float
    high: float
    x: Array
    y: Array

    @classmethod
    def of(cls, hull: Array) -> _Face | None:
        """None without a face."""
        rows, columns = (np.flatnonzero((hull > 0.5).any(axis)) for axis in (1, 0))
        if len(rows) < 2 or len(columns) < 2:
            return None
        y, x = np.mgrid[: len(hull), : len(hull)].astype(np.float32)
        wide, high = float(np.ptp(columns)), float(np.ptp(rows))
        return cls(float(columns.mean()), float(rows[0]), wide, high, x, y)


def with_hat(portrait: Labelled, random: Random) -> Labelled:
    """The portrait under a hat, a cap, a beanie or a band; a portrait without a face stays as it is."""
    face = _Face.of(portrait.hull)
    if face is None:
        return portrait
    kind = random.choice(["brim", "cap", "beanie", "band"], p=[0.45, 0.2, 0.2, 0.15])
    edge = face.top + random.uniform(-0.06, 0.14) * face.high
    half, tall = random.uniform(0.6, 0.82) * face.wide, random.uniform(0.35, 0.75) * face.high
    lean = random.normal() * 0.08
    across = face.x - face.middle - random.normal() * 0.03 * face.wide
    down = face.y - edge + lean * across
    parts: list[tuple[Array, float]] = []
    crown = _within(across / half, np.minimum(down, 0.0) / tall, random.uniform(2.0, 4.0), half)
    below = np.clip(0.5 + 0.12 * face.high * _bow(across, half) - down, 0.0, 1.0)
    if kind == "band":
        crown = crown * np.clip(down + 0.5 + random.uniform(0.08, 0.25) * face.high, 0.0, 1.0)
    parts.append((crown * below, 1.0))
    if kind in ("brim", "cap"):
        reach = random.uniform(0.9, 1.7) if kind == "brim" else random.uniform(0.45, 0.7)
        deep = random.uniform(0.05, 0.2) * face.high
        aside = 0.0 if kind == "brim" else random.uniform(-0.15, 0.15) * face.wide
        wide = reach * face.wide
        bent = down - random.uniform(-0.3, 0.3) * deep * ((across - aside) / wide) ** 2
        parts.append((_within((across - aside) / wide, bent / deep, 2.0, deep), random.uniform(0.6, 1.15)))
    cloth = _cloth(face, random)
    colours, covered = np.zeros_like(portrait.colours), np.zeros_like(portrait.alpha)
    for mask, light in parts:
        colours, covered = colours + mask[..., None] * (np.minimum(light * cloth, FULL) - colours), covered + mask - covered * mask
    return _worn(_shaded(portrait, covered, face, random), covered, colours / np.maximum(covered, 1e-3)[..., None])


def with_earrings(portrait: Labelled, random: Random) -> Labelled:
    """The portrait with studs, hoops or drops beside the face; a portrait without a face stays as it is."""
    face = _Face.of(portrait.hull)
    if face is None:
        return portrait
    kind = random.choice(["stud", "hoop", "drop"], p=[0.25, 0.4, 0.35])
    out, height = random.uniform(0.47, 0.6) * face.wide, face.top + random.uniform(0.55, 0.75) * face.high
    size, long = random.uniform(0.05, 0.2) * face.wide, random.uniform(0.08, 0.4) * face.high
    thick = max(random.uniform(0.012, 0.035) * face.wide, 0.8)
    colour = _METALS[random.integers(len(_METALS))] if random.random() < 0.7 else random.uniform(20, 240, 3)
    both, covered = random.random() < 0.7, np.zeros_like(portrait.alpha)
    for side in (-1, 1) if both else (random.choice([-1, 1]),):
        x, y = face.x - face.middle - side * out, face.y - height
        if kind == "stud":
            mask = np.clip(0.35 * size - np.hypot(x, y) + 0.5, 0.0, 1.0)
        elif kind == "hoop":
            narrow = random.uniform(0.5, 1.0)
            mask = np.clip(0.5 * thick + 0.5 - np.abs(np.hypot(x / narrow, y - size) - size), 0.0, 1.0)
        else:
            along = np.clip(y, 0.0, long)
            radius = 0.3 * thick + 0.5 * size * np.clip(along / long, 0.0, 1.0) ** random.uniform(0.7, 4.0)
            mask = np.clip(radius + 0.5 - np.hypot(x, y - along), 0.0, 1.0)
        covered = np.maximum(covered, mask)
    glint = 1.0 + 0.5 * np.sin((face.x * random.uniform(-1, 1) + face.y) / max(thick, 1.0) + random.uniform(0, 6.28))
    return _worn(portrait, covered, np.clip(colour * (glint * _level(portrait) / 160.0)[..., None], 0, FULL))


def _within(x: Array, y: Array, power: float, scale: float) -> Array:
    """1 within the unit super-ellipse of x, y [s, s], with an edge of a pixel where a unit is ``scale`` pixels."""
    away = (np.abs(x) ** power + np.abs(y) ** power) ** (1.0 / power)
    return np.clip((1.0 - away) * scale + 0.5, 0.0, 1.0)


def _bow(across: Array, half: float) -> Array:
    """How much deeper than on average a hat's lower edge hangs, -1 in the middle and 1 at the sides, at pixels ``across`` [s, s]."""
    return np.clip(2.0 * (across / half) ** 2 - 1.0, -1.0, 1.0)


def _level(portrait: Labelled) -> float:
    """How bright the face is, 0..255."""
    face = (portrait.hull > 0.5) & (portrait.alpha > 0.9)
    return float(portrait.colours[face].mean()) if face.any() else 128.0


def _cloth(face: _Face, random: Random) -> Array:
    """Plain, woven or mottled cloth, lit from somewhere: float32 [s, s, 3]."""
    import cv2

    side = len(face.x)
    colour = random.uniform(10, 240, 3) if random.random() < 0.5 else np.full(3, random.uniform(10, 230)) + random.normal(size=3) * 12
    texture: Array = np.ones((side, side), np.float32)
    kind = random.random()
    if kind < 0.35:
        period, turn = random.uniform(1.5, 5.0), random.uniform(0, np.pi)
        texture = texture + random.uniform(0.05, 0.25) * np.sin((face.x * np.cos(turn) + face.y * np.sin(turn)) * 2 * np.pi / period)
    elif kind < 0.7:
        clouds = cv2.GaussianBlur(random.normal(size=(side, side)).astype(np.float32), (0, 0), random.uniform(0.8, 6.0))
        texture = texture + random.uniform(0.05, 0.2) * clouds / max(float(clouds.std()), 1e-6)
    light = 1.0 + random.normal() * 0.5 * (face.x - face.middle) / face.wide + random.uniform(-0.4, 0.4) * (face.y - face.top) / face.high
    return np.clip(colour * (texture * np.clip(light, 0.3, 1.8))[..., None], 0, FULL).astype(np.float32)


def _shaded(portrait: Labelled, hat: Array, face: _Face, random: Random) -> Labelled:
    """The person with a hat's shadow below it."""
    import cv2

    drop = np.array([[1, 0, 0], [0, 1, random.uniform(0.03, 0.15) * face.high]], np.float32)
    soft = cv2.GaussianBlur(cv2.warpAffine(hat.astype(np.float32), drop, hat.shape[::-1]), (0, 0), random.uniform(0.02, 0.06) * face.wide)
    kept = (1.0 - random.uniform(0.0, 0.6) * soft)[..., None]
    colours = portrait.colours * kept
    return portrait._replace(colours=colours, image=portrait.image + portrait.alpha[..., None] * (colours - portrait.colours))


def _worn(portrait: Labelled, mask: Array, colours: Array) -> Labelled:
    """The portrait with something of these ``colours`` [s, s, 3] where ``mask`` [s, s] is 1; neither skin nor hair."""
    mask = mask.astype(np.float32)
    left = 1.0 - mask
    alpha = mask + left * portrait.alpha
    own = mask[..., None] * colours + (left * portrait.alpha)[..., None] * portrait.colours
    return portrait._replace(
        image=(mask[..., None] * colours + left[..., None] * portrait.image).astype(np.float32),
        colours=np.where(alpha[..., None] > 1e-3, own / np.maximum(alpha, 1e-3)[..., None], portrait.colours).astype(np.float32),
        alpha=alpha,
        skin=portrait.skin * left,
        hair=portrait.hair * left,
        sure=np.maximum(portrait.sure, mask),
    )
