"""Smooth fields from scattered knowledge, and colours free of what shines through.

Sources: push-pull interpolation, Gortler et al., "The Lumigraph" (1996), section 4.3.2; foreground colours after Forte and Pitie,
"Approximate fast foreground colour estimation" (2021).
"""

from __future__ import annotations

import numpy as np

from triportrait.types import Array


def push_pull(values: Array, known: Array) -> Array:
    """Smooth multi-scale fill: ``values`` [h, w, c] float32 where ``known`` [h, w] in 0..1 is small come from ever wider averages.

    Known pixels keep their values; the hole is smooth and has neither the seams nor the streaks of a nearest-neighbour fill. Twins with
    plainer taps: ``fill_smoothly`` of avatar/oneshot/volume.py (torch) and the compiled one of avatar/oneshot/guide.py.
    """
    import cv2

    values = values.astype(np.float32)
    weights = [np.clip(known, 0, 1).astype(np.float32)]
    levels = [values * weights[0][..., None]]
    while max(levels[-1].shape[:2]) > 1:
        levels.append(_at_least_3d(_half(levels[-1]), values))
        weights.append(_half(weights[-1]))
    # Saturating the weight stops sparse coarse data from fading towards black.
    filled = levels[-1] / np.maximum(weights[-1], 1e-6)[..., None]
    for level, weight in zip(levels[-2::-1], weights[-2::-1], strict=True):
        size = (weight.shape[1], weight.shape[0])
        wide = _at_least_3d(cv2.resize(filled, size, interpolation=cv2.INTER_LINEAR), values)
        trust = np.clip(weight * 4.0, 0.0, 1.0)[..., None] if level is not levels[0] else weight[..., None]
        filled = trust * level / np.maximum(weight, 1e-6)[..., None] + (1.0 - trust) * wide
    return filled


def foreground_colours(image: Array, alpha: Array, background: Array) -> Array:
    """Colours of the person without the scene shining through soft edges: float32 [h, w, 3] in 0..255, valid where alpha > 0."""
    import cv2

    photo = image.astype(np.float32)
    weight = alpha[..., None].astype(np.float32)
    sure = (alpha > 0.92).astype(np.float32)
    inner = push_pull(photo, sure) if sure.any() else photo
    for radius in (15, 5):
        blurred_alpha = cv2.blur(weight, (radius, radius))[..., None] + 1e-5
        mean_front = cv2.blur(inner * weight, (radius, radius)) / blurred_alpha
        inner = np.clip(mean_front + weight * (photo - weight * mean_front - (1 - weight) * background), 0, 255)
    return np.where(alpha[..., None] > 0.98, photo, inner)


def _half(array: Array) -> Array:
    """Half the size by the taps 1 3 3 1, centred between pixels as a resize expects; pyrDown's even grid would shift every level."""
    import cv2

    height, width = array.shape[:2]
    return cv2.resize(cv2.GaussianBlur(array, (3, 3), 0), ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)


def _at_least_3d(array: Array, like: Array) -> Array:
    return array[..., None] if array.ndim == 2 and like.ndim == 3 else array
