"""How a body stands to its head: what was measured of it, or, where nobody did, how it follows.

Unmeasured, it takes slow and far motion of its head along fully, small motion in part. It never stays farther behind than a neck bears.
"""

from __future__ import annotations

import numpy as np

from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.types import CAMERA_DISTANCE_DM, Array, MotionFrame

#: Share of a small motion of the head that the shoulders take along; bodies sway with their heads.
_SWAY = 0.35
#: How far a neck lets a head move away from its shoulders (decimetres).
_NECK_DM = 0.3

#: The pit of the neck lies so many heights of the face below the chin.
_PIT_BELOW = 0.35
#: From the chin to the pit of an upright neck (decimetres); a head moves freely within the first share of it, and never beyond the second.
NECK_LENGTH_DM = 0.9
_FREE_LENGTHS, _MOST_LENGTHS = 0.25, 0.5


def followed(translation: Array) -> Array:
    """The shift [3] of the body, in decimetres, when its head has moved by ``translation`` [3].

    What the neck takes is ``_NECK_DM tanh((1 - _SWAY) distance / _NECK_DM)``: small motion leaves the body ``1 - _SWAY`` behind, and the
    farther the head goes the more of its way the body goes along. Towards the camera, where poses are least sure, nothing of a small
    motion is passed on.
    """
    beside, towards = np.array([*translation[:2], 0.0]), np.array([0.0, 0.0, translation[2]])
    return sum((_rest(way, left_behind) for way, left_behind in ((beside, 1.0 - _SWAY), (towards, 1.0))), np.zeros(3))


def _rest(way: Array, left_behind: float) -> Array:
    """What of a ``way`` [3] the neck does not take."""
    distance = max(float(np.linalg.norm(way)), 1e-9)
    return way * (1.0 - _NECK_DM * np.tanh(left_behind * distance / _NECK_DM) / distance)


def body_pivot(landmarks: Array) -> Array:
    """The pit of the neck in the picture that landmarks [478, 2 or more] were found in: [2] pixels, the centre of a body's motion."""
    face_height = float(np.linalg.norm(landmarks[CHIN, :2] - landmarks[FOREHEAD_TOP, :2]))
    return landmarks[CHIN, :2].astype(np.float64) + (0.0, _PIT_BELOW * face_height)


def body_similarity(body: Array, px_per_dm: float, pivot: Array) -> Array:
    """The similarity [2, 3] that takes a photo's shoulders to where ``body`` [4] has them, in pixels.

    Args:
        body: as in :class:`triportrait.types.MotionFrame`.
        px_per_dm: how large a decimetre is at the head's distance.
        pivot: [2] pixels, from :func:`body_pivot`.
    """
    x, y, log_scale, roll = (float(value) for value in body)
    along, aside = np.exp(log_scale) * np.cos(roll), np.exp(log_scale) * np.sin(roll)
    turn = np.array([[along, aside], [-aside, along]])
    shift = pivot + px_per_dm * np.array([x, -y]) - turn @ pivot
    return np.concatenate([turn, shift[:, None]], 1)


def body_motion(frame: MotionFrame, source: MotionFrame, pivot: Array) -> Array:
    """The affine map [3, 4] that takes points of a body from where they stand in the photo, whose own row is ``source``, to ``frame``.

    Args:
        frame, source: whose points are in decimetres along the axes of the camera.
        pivot: [2], the pit of the neck in the photo, in focal lengths right and down from its middle.
    """
    if frame.body is None:
        shift = np.asarray(frame.translation, np.float64) - source.translation
        return np.column_stack([np.eye(3), followed(shift)])
    (a, b, right), (c, d, down) = body_similarity(frame.body, 1.0 / (CAMERA_DISTANCE_DM - float(source.translation[2])), pivot)
    # A picture's y counts down, and its shift grows with the depth, which is the camera's distance less z.
    far = CAMERA_DISTANCE_DM
    return np.array([[a, -b, -right, far * right], [-c, d, down, -far * down], [0.0, 0.0, 1.0, 0.0]])


def similarity_body(matrix: Array, px_per_dm: float, pivot: Array) -> Array:
    """The inverse of :func:`body_similarity`: [4]."""
    turn, shift = matrix[:, :2], matrix[:, :2] @ pivot + matrix[:, 2] - pivot
    scale, roll = np.hypot(turn[0, 0], turn[1, 0]), np.arctan2(-turn[1, 0], turn[0, 0])
    return np.array([shift[0] / px_per_dm, -shift[1] / px_per_dm, np.log(scale), roll])


def borne(body: Array, head_shift: Array) -> Array:
    """Bodies [t, 4] that go along where their heads, shifted by [t, 3] decimetres, would stretch the neck.

    Within a quarter of the neck's length head and shoulders move apart as they like; half of it is never reached.
    """
    apart = head_shift[:, :2] - body[:, :2]
    distance = np.linalg.norm(apart, axis=1) / NECK_LENGTH_DM
    beyond = np.maximum(distance - _FREE_LENGTHS, 0.0) / (_MOST_LENGTHS - _FREE_LENGTHS)
    kept = _FREE_LENGTHS + (_MOST_LENGTHS - _FREE_LENGTHS) * np.tanh(beyond)
    share = np.where(beyond > 0, kept / np.maximum(distance, 1e-9), 1.0)
    result = np.array(body, np.float64)
    result[:, :2] = head_shift[:, :2] - share[:, None] * apart
    return result
