"""Earrings, which a segmentation of persons leaves to the scene: they are the person's, and move with the head."""

from __future__ import annotations

from typing import Any

import numpy as np

from triportrait.face.layers import goes_on
from triportrait.face.mattes import RESTLESS, ellipse, strangeness
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP, OVAL_SIDES
from triportrait.types import Array

#: Where earrings hang, in heights of the face from the face's side at the ears: outwards, and down.
_OUTWARDS, _DOWN = (-0.4, 0.32), (-0.05, 0.62)
#: What is nearer to the matte than this may be the person's soft edge; an earring goes on so far from there, and hangs so near the person
#: (parts of the picture's side).
_EDGE_REACH, _GROWS, _HANGS = 0.014, 0.045, 0.01
#: An earring covers between these shares of the picture, and somewhere its edge rises by more levels than the last within this part of the
#: picture's side.
_AREA, _EDGE, _PLAIN = (0.00008, 0.004), 0.012, 24.0
#: More of the matte than this is the person already.
_OWN = 0.9
#: What shows the empty scene in a larger share of it is none.
_OF_THE_SCENE = 0.5


def with_earrings(image: Array, alpha: Array, landmarks: Array, empty: Array | None = None) -> Array:
    """The person's matte and the earrings: float32 [s, s].

    They are small and sharp, hang where earrings do, touch the person, and have colours that the scene lacks. What leaves that place is
    a thing of the scene.

    Args:
        image: uint8 [s, s, 3]; alpha: float32 [s, s], the matte; landmarks: [478, 2 or more] pixels.
        empty: bool [s, s], where the picture is known to show the scene that is there without the person; None: nowhere.
    """
    import cv2

    size = len(image)
    place = _beside_the_neck(landmarks, size)
    scene = cv2.dilate((alpha > 0.02).astype(np.uint8), ellipse(_EDGE_REACH * size)) == 0
    if not (place & scene).any():
        return alpha
    strange, usual = strangeness(image.astype(np.float32) / 255.0, scene, 0.03 * size)
    unlike = (strange > np.exp(usual / RESTLESS)) & (alpha < _OWN)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((unlike & scene & place).astype(np.uint8))
    grey = image.astype(np.float32).mean(-1)
    steepest = np.zeros(len(stats))
    which: Any = labels.ravel()
    np.maximum.at(steepest, which, np.hypot(*np.gradient(grey)).ravel())
    area = stats[:, cv2.CC_STAT_AREA] / size**2
    found = (area > _AREA[0]) & (area < _AREA[1]) & (steepest * _EDGE * size > _PLAIN)
    found[0] = False
    beside = cv2.dilate((alpha > 0.5).astype(np.uint8), ellipse(_HANGS * size)) > 0
    result = alpha
    for label in np.flatnonzero(found):
        piece = labels == label
        near = cv2.dilate(piece.astype(np.uint8), ellipse(_GROWS * size)) > 0
        _, parts = cv2.connectedComponents(cv2.dilate((unlike & near).astype(np.uint8), np.ones((3, 3), np.uint8)))
        whole = np.isin(parts, np.unique(parts[piece])) & unlike & near
        if (whole & ~place).any() or whole.mean() > _AREA[1] or not (whole & beside).any():
            continue
        if goes_on(image, whole, scene & ~unlike) or (empty is not None and empty[whole].mean() > _OF_THE_SCENE):
            continue
        soft = cv2.GaussianBlur(whole.astype(np.float32), (0, 0), 0.8 * size / 512)
        result = np.maximum(result, soft)
    return result.astype(np.float32)


def _beside_the_neck(landmarks: Array, size: int) -> Array:
    """Where earrings hang: bool [s, s]."""
    chin, top = np.asarray(landmarks[CHIN, :2], np.float64), np.asarray(landmarks[FOREHEAD_TOP, :2], np.float64)
    height = max(float(np.linalg.norm(chin - top)), 1.0)
    down = (chin - top) / height
    across = np.array([down[1], -down[0]])
    y, x = np.mgrid[:size, :size] + 0.5
    place = np.zeros((size, size), bool)
    right, left = np.asarray(landmarks[list(OVAL_SIDES), :2], np.float64)
    for side, other in ((right, left), (left, right)):
        outwards = across * np.sign((side - other) @ across)
        out = ((x - side[0]) * outwards[0] + (y - side[1]) * outwards[1]) / height
        below = ((x - side[0]) * down[0] + (y - side[1]) * down[1]) / height
        place |= (out > _OUTWARDS[0]) & (out < _OUTWARDS[1]) & (below > _DOWN[0]) & (below < _DOWN[1])
    return place
