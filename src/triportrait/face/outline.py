"""The outline of a face in a photograph, held against the person that the segmentation sees."""

from __future__ import annotations

import numpy as np

from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, FACE_POINTS, LIPS
from triportrait.types import Array

#: From this probability on, a pixel shows the person.
_PERSON = 0.5
#: Shares of the face's width: what lies further off the person is no fault of the outline, and its neighbours so near move with a point.
_FURTHEST, _NEIGHBOURS = 0.15, 0.06
#: A mask that does not hold this share of eyes and lips shows somebody else, or fails.
_FACE_SEEN = 0.8
_FEATURES = np.concatenate([LIPS, EYE_LEFT_RIM, EYE_RIGHT_RIM])


def outline_on_person(landmarks: Array, person: Array) -> Array:
    """Landmarks whose outline does not leave the person; where it did, cheek and jaw move in with it.

    On gaunt, wrinkled and bearded faces the mesh network draws the outline too wide, and scenery would count as head.

    Args:
        landmarks: [478, 3] pixels.
        person: float32 [h, w], the probability that a pixel shows the person.

    Returns:
        float32 [478, 3]; a copy where nothing lies off the person, or the mask does not show this face.
    """
    import cv2

    height, width = person.shape
    result = landmarks.astype(np.float32)
    face = result[:FACE_POINTS, :2]
    face_px = float(np.ptp(face[:, 0]))
    column, row = np.floor(face.astype(np.float64)).astype(int).T
    visible = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
    off = (person < _PERSON)[row, column] & visible
    if not off.any() or off[_FEATURES].mean() > 1.0 - _FACE_SEEN:
        return result
    distance, nearest = cv2.distanceTransformWithLabels(
        (person < _PERSON).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    places = np.zeros((int(nearest.max()) + 1, 2))
    rows, columns = np.nonzero(person >= _PERSON)
    places[nearest[rows, columns]] = np.column_stack([columns, rows]) + 0.5
    strays = np.flatnonzero(off & (distance[row, column] < _FURTHEST * face_px))
    moves = np.zeros((FACE_POINTS, 2))
    moves[strays] = places[nearest[row[strays], column[strays]]] - face[strays]

    apart = np.linalg.norm(face[:, None] - face[None], axis=-1) / face_px
    weight = np.exp(-((apart / _NEIGHBOURS) ** 2))
    spread = weight @ moves / weight.sum(1, keepdims=True)
    # A point that strays comes back all the way.
    spread[strays] = moves[strays]
    face += spread
    return result
