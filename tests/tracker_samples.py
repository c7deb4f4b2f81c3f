"""Pictures on which the tracker is held against numbers that MediaPipe gave (tests/golden/golden_tracker.npz)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
#: Of a person's mask, every so many pixels are kept.
MASK_STEP = 16


def _moved(picture: np.ndarray, degrees: float, scale: float, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Turned about its middle, scaled and shifted, in a picture of the same size; by Pillow, whose pixels stay the same for years."""
    middle = len(picture) / 2
    cosine, sine = np.cos(np.radians(degrees)) / scale, np.sin(np.radians(degrees)) / scale
    back = np.array([[cosine, sine], [-sine, cosine]])
    start = middle - back @ (middle + np.array(shift))
    rows = np.column_stack([back, start]).ravel().tolist()
    moved = Image.fromarray(picture).transform(picture.shape[1::-1], Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)
    return np.asarray(moved)


def pictures(astronaut: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Names and pictures uint8 [h, w, 3]: the astronaut and the two example portraits, plain, turned, and dark without colours."""
    found = {"astronaut": astronaut}
    for name in ("portrait", "portrait2"):
        with Image.open(EXAMPLES / f"{name}.png") as file:
            found[name] = np.asarray(file.convert("RGB"))
    for name, picture in found.items():
        yield name, picture
        yield f"{name}, turned", _moved(picture, 25.0, 0.8)
        yield f"{name}, dark", (0.3 * picture.mean(-1, keepdims=True)).astype(np.uint8).repeat(3, -1)


def clip(astronaut: np.ndarray) -> list[np.ndarray]:
    """Frames in which the astronaut nods sideways, comes nearer and wanders."""
    return [_moved(astronaut, 3.0 * step, 1.0 + 0.02 * step, (4.0 * step, -2.0 * step)) for step in range(5)]
