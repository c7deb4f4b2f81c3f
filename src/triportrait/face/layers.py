"""Painting in the scene behind a person.

Source of the KNN fill: Real3D-Portrait, appendix B.4.
"""

from __future__ import annotations

import numpy as np

from triportrait.face.scene_fill import fill_scene
from triportrait.geometry.nearest import nearest_pixels
from triportrait.types import Array


def nearest_fill(image: Array, known: Array) -> Array:
    """The published background: every unknown pixel takes the colour of the nearest known one (appendix B.4).

    Args:
        image: uint8 [h, w, 3]; known: bool [h, w], True where the colour is trusted.
    """
    if not known.any():
        return np.full_like(image, 127)
    return image[nearest_pixels(known)]


def background_behind(image: Array, person_alpha: Array, method: str = "smooth") -> Array:
    """The scene with the person painted out: uint8 [h, w, 3].

    Args:
        image: uint8 [h, w, 3].
        person_alpha: float32 [h, w].
        method: ``"smooth"`` (multi-scale, with the scene's own texture) or ``"knn"`` (as published).
    """
    import cv2

    size = max(image.shape[:2])
    margin = max(3, round(size * 18 / 512))
    touched = cv2.dilate((person_alpha > 0.02).astype(np.uint8), np.ones((margin, margin), np.uint8)).astype(bool)
    if method == "knn":
        return nearest_fill(image, ~touched)
    if touched.all():
        return np.full_like(image, 127)
    filled = fill_scene(image, ~touched)
    # The photograph's grain goes on under the fill; without it the patch looks like plastic next to the scene.
    fine = image.astype(np.float32) - cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32)
    grain = float(np.median(np.abs(fine[~touched]))) * 1.48 if (~touched).any() else 0.0
    noise = np.random.default_rng(0).normal(0, min(grain, 4.0), (*image.shape[:2], 1)).astype(np.float32)
    filled = np.where(touched[..., None], filled + noise, filled)
    blend = cv2.GaussianBlur(touched.astype(np.float32), (0, 0), margin / 4)[..., None]
    blend = np.maximum(blend, touched[..., None])
    return np.clip(blend * filled + (1 - blend) * image, 0, 255).astype(np.uint8)
