"""Labelled pictures for tests: a red disc of skin in a ring of blue hair before a plain scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triportrait.nn.parts import SIDE_PX
from triportrait.synth.labelled import Labelled
from triportrait.training.data.parts import write_labelled


def labelled(seed: int, exact: bool = False) -> Labelled:
    """A head somewhere near the middle, before a scene of some grey."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    away = np.hypot(x - random.uniform(110, 146), y - random.uniform(110, 146))
    radius = random.uniform(40, 60)
    skin = (away < radius).astype(np.float32)
    alpha = (away < 1.5 * radius).astype(np.float32)
    hair = alpha - skin
    scene = np.full((SIDE_PX, SIDE_PX, 3), random.uniform(100, 160), np.float32)
    colours = skin[..., None] * np.array([220, 140, 110], np.float32) + (1 - skin[..., None]) * np.array([40, 30, 70], np.float32)
    image = alpha[..., None] * colours + (1 - alpha[..., None]) * scene
    hull = (away < 0.9 * radius).astype(np.float32)
    return Labelled(image, colours, scene, alpha, skin, hair * exact, np.ones_like(skin), hull, exact, True, not exact)


def write_parts(folder: Path, count: int, seed: int = 0) -> Path:
    """``count`` of them, of which every third stands for a synthetic person, as 'triportrait data parts' writes them."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        exact = number % 3 == 2
        write_labelled(folder / f"{'synthetic_' if exact else ''}{number:06d}.npz", labelled(1000 * seed + number, exact))
    return folder
