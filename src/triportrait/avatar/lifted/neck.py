"""How far each point of a person moves with the head: all of it above the jaw, none at the shoulders, and smoothly less between."""

from __future__ import annotations

import numpy as np

from triportrait.geometry.fields import harmonic_fill, smooth_step
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.types import Array

#: Heights under the chin, in heights of the face: above the first all moves with the head, below the second nothing does.
_HEAD_ABOVE, _BODY_BELOW = -0.3, 0.5
#: So far beside the chin, and from this height down, there are shoulders (in heights of the face).
_SHOULDERS_BESIDE, _SHOULDERS_BELOW = 0.8, -0.05
_REGULARISATION = 1e-9


def motion_share(x: Array, y: Array, landmarks: Array, head: Array) -> Array:
    """Share of the head's motion at the nodes of a grid: float64 [h, w] in 0..1.

    Between head and shoulders it solves Laplace's equation: a neck bends, and long hair swings at the top and rests below.

    Args:
        x, y: [h, w] pixels of the photo; landmarks: [478, 2 or 3] pixels.
        head: bool [h, w], where the photo surely shows head.
    """
    above, body = certain_parts(x, y, landmarks)
    body &= ~head
    head = head | above
    return np.clip(harmonic_fill(head.astype(np.float64), head | body, _REGULARISATION), 0.0, 1.0)


def certain_parts(x: Array, y: Array, landmarks: Array) -> tuple[Array, Array]:
    """Where there is head and where there are shoulders, whatever the photo shows there: bool [h, w] each.

    Args:
        x, y, landmarks: as of :func:`motion_share`.
    """
    chin, top = landmarks[CHIN, :2], landmarks[FOREHEAD_TOP, :2]
    face_height = max(float(np.linalg.norm(chin - top)), 1.0)
    down = (chin - top) / face_height
    below = ((x - chin[0]) * down[0] + (y - chin[1]) * down[1]) / face_height
    beside = np.abs((x - chin[0]) * down[1] - (y - chin[1]) * down[0]) / face_height
    return below < _HEAD_ABOVE, (below > _BODY_BELOW) | ((below > _SHOULDERS_BELOW) & (beside > _SHOULDERS_BESIDE))


#: Below this share of the head's motion a point belongs to head and torso.
_BOTH_BELOW = 0.25
#: What is opaque has this optical depth: less than a tenth of one of 255 levels comes through.
OPAQUE = 8.0


def optical_depth(matte: Array) -> Array:
    """Of mattes in 0..1, at most :data:`OPAQUE`."""
    return -np.log(np.maximum(1.0 - np.asarray(matte, np.float64), np.exp(-OPAQUE)))


def thinned(matte: Array, share: Array) -> Array:
    """What remains of a matte when a ``share`` in 0..1 of its density does: ``1 - (1 - a)^share``, float32."""
    return (1.0 - np.exp(-share * optical_depth(matte))).astype(np.float32)


def belonging(share: Array) -> Array:
    """How far what takes a ``share`` of the head's motion belongs to a field of the head: float64, 0..1.

    Two fields show what belongs to both twice, as far apart as this share of the motion: so they share only what hardly moves.
    """
    return smooth_step(np.clip(np.asarray(share, np.float64) / _BOTH_BELOW, 0.0, 1.0))


def body_row(landmarks: Array) -> float:
    """The row from which on the picture's border cuts a body, not a head."""
    chin, top = landmarks[CHIN, 1], landmarks[FOREHEAD_TOP, 1]
    return float(chin + _HEAD_ABOVE * abs(chin - top))
