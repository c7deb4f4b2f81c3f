"""Pictures and clips that lie on their side, or are upside down, turned upright."""

from __future__ import annotations

import logging

import numpy as np

from triportrait.face.tracker import MAX_ROLL_DEGREES, DetectedFace, FaceTracker
from triportrait.types import Array

log = logging.getLogger(__name__)

#: A face of at least this score stands upright: upside down, the portraits of the data bundle reach 0.81, upright half reach 0.92.
_SURELY_UPRIGHT = 0.85
#: A turned picture must show its face this much more clearly.
_CLEARER_TURNED = 0.08
#: What quarter turns to the left (``numpy.rot90``) are called.
TURNS = {1: "90 degrees to the left", 2: "180 degrees", 3: "90 degrees to the right"}


def turned_upright(tracker: FaceTracker, image: Array, faces: list[DetectedFace] | None = None) -> tuple[int, list[DetectedFace]]:
    """How many quarter turns to the left (``numpy.rot90``) make a picture upright, and the faces it then shows, the largest first.

    A largest face that clearly stands upright settles it; otherwise the detectors see it from all four sides, and its clearest view
    decides if it is an upright face.

    Args:
        tracker: finds faces.
        image: uint8 RGB [h, w, 3].
        faces: what the tracker finds in it as it is, where that is known.
    """
    faces = tracker.detect(image) if faces is None else faces
    lies = bool(faces) and abs(faces[0].roll_degrees) > MAX_ROLL_DEGREES
    if faces and _is_surely_upright(faces[0]):
        return 0, faces
    quarters: list[int] = [1, 2, 3]
    if faces:
        around = _around(image, faces[0])
        scores = [tracker.score(np.ascontiguousarray(np.rot90(around, quarter))) for quarter in range(4)]
        needed = 0.0 if lies else scores[0] + _CLEARER_TURNED
        quarters = sorted((quarter for quarter in quarters if scores[quarter] > needed), key=lambda quarter: -scores[quarter])
    views = []
    for quarter in quarters:
        found = tracker.detect(np.ascontiguousarray(np.rot90(image, quarter)))
        if found and abs(found[0].roll_degrees) <= MAX_ROLL_DEGREES:
            if faces:  # the views stand in order
                return quarter, found
            views.append((found[0].score, quarter, found))
    return max(views, key=lambda view: view[0])[1:] if views else (0, faces)


def turned_upright_in_clip(tracker: FaceTracker, frame: Array, faces: list[DetectedFace] | None = None) -> tuple[int, list[DetectedFace]]:
    """As :func:`turned_upright`, of a frame of a clip, which may show nobody yet.

    Any face that clearly stands upright settles it, and where none is seen without a turn only one that is clear in the turned frame
    counts: it decides how the whole clip is turned.
    """
    faces = tracker.detect(frame) if faces is None else faces
    if any(_is_surely_upright(face) for face in faces):
        return 0, faces
    turn, found = turned_upright(tracker, frame, faces)
    return (0, []) if turn and not faces and not _is_surely_upright(found[0]) else (turn, found)


def _is_surely_upright(face: DetectedFace) -> bool:
    return face.score >= _SURELY_UPRIGHT and abs(face.roll_degrees) <= MAX_ROLL_DEGREES


def _around(image: Array, face: DetectedFace) -> Array:
    """The square of an image round a face, three times its size, as far as the image goes; at most 512 px a side."""
    import cv2

    low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)
    reach = 1.5 * float((high - low).max())
    left, top = np.maximum(0.5 * (low + high) - reach, 0).astype(int)
    right, bottom = (0.5 * (low + high) + reach).astype(int)
    part = image[top:bottom, left:right]
    scale = 512 / max(part.shape[:2])
    return cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else part


def upright_photo(tracker: FaceTracker, photo: Array, name: str) -> tuple[Array, list[DetectedFace]]:
    """A photograph upright, and its faces, the largest first; one warning says that it was turned."""
    turn, faces = turned_upright(tracker, photo)
    if turn:
        log.warning("%s is not upright; it is turned by %s", name, TURNS[turn])
        photo = np.ascontiguousarray(np.rot90(photo, turn))
    return photo, faces
