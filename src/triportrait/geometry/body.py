"""How a body follows its head: slow and far motion fully, small motion in part, and never farther behind than a neck bears."""

from __future__ import annotations

import numpy as np

from triportrait.types import Array

#: Share of a small motion of the head that the shoulders take along; bodies sway with their heads.
_SWAY = 0.35
#: How far a neck lets a head move away from its shoulders (decimetres).
_NECK_DM = 0.3


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
