"""Areas of a picture inside outlines of points."""

from __future__ import annotations

from typing import Any

import numpy as np

from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, FACE_POINTS
from triportrait.types import Array

#: So far beyond its rim an open eye is seen once the photo is smoothed (pixels of a 512 px crop).
_EYES_PX = 7


def hull_mask(points: Array, size_px: int) -> Array:
    """uint8 [s, s], 1 inside the convex hull of points [n, 2], which are rounded to whole pixels."""
    import cv2

    hull: Any = cv2.convexHull(np.ascontiguousarray(points, np.float32))
    return convex_mask(hull[:, 0], size_px)


def convex_mask(corners: Array, size_px: int) -> Array:
    """uint8 [s, s], 1 inside a convex outline [n, 2], rounded to whole pixels."""
    import cv2

    mask: Any = np.zeros((size_px, size_px), np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), (1,))
    return mask


def outline_mask(points: Array, size_px: int) -> Array:
    """uint8 [s, s], 1 inside the outline of points [n, 2] in order, rounded to whole pixels."""
    import cv2

    mask: Any = np.zeros((size_px, size_px), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], (1,))
    return mask


def soft_outline_mask(points: Array, width_px: int, height_px: int) -> Array:
    """uint8 [h, w], 255 inside the outline of points [n, 2] in order, with a soft edge; points to a sixteenth of a pixel.

    Here pixel centres are whole numbers, as OpenCV has them: take 0.5 from our own pixels.
    """
    import cv2

    mask: Any = np.zeros((height_px, width_px), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], (255,), lineType=cv2.LINE_AA, shift=4)
    return mask


def face_hull(landmarks: Array, size_px: int) -> Array:
    """Hull of a face's landmarks [478, 2 or more] in pixels: bool [s, s]."""
    return hull_mask(landmarks[:FACE_POINTS, :2], size_px).astype(bool)


def eyes_mask(landmarks: Array, size_px: int) -> Array:
    """Both eyes' openings and a little more for landmarks [478, 2 or more] in pixels: bool [s, s].

    It covers all that an open eye lends to the smoothed photo: lids close there, so what is shown may not depend on what it looks like.
    """
    import cv2

    openings = np.maximum(*(hull_mask(landmarks[rim, :2], size_px) for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM)))
    return cv2.dilate(openings, np.ones((2 * round(_EYES_PX * size_px / 512) + 1,) * 2, np.uint8)) > 0


def holes_filled(mask: Array) -> Array:
    """``mask`` bool [h, w] and what it shuts off from the border, along rows and columns."""
    import cv2

    _, piece = cv2.connectedComponents(np.pad(~mask, 1, constant_values=True).astype(np.uint8), connectivity=4)
    return (piece != piece[0, 0])[1:-1, 1:-1]
