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
    farther the head goes the more of its way the body goes along.
    """
    distance = float(np.linalg.norm(translation))
    if distance < 1e-9:
        return np.zeros(3)
    taken = _NECK_DM * np.tanh((1.0 - _SWAY) * distance / _NECK_DM)
    return np.asarray(translation, np.float64) * (1.0 - taken / distance)
