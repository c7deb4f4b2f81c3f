"""How far apart the lips are, in terms of expression curves: one linear map, used to close them exactly and to
measure them.

The weights are the vertical displacement between the middles of the inner lips (points 62 and 66 of the 68-point set)
per unit of each curve on ICT-FaceKit's mean head (MIT licence), measured in centimetres; the unit here is the height
of the face from the hairline point to the chin (MediaPipe points 10 and 152), so that it can be compared with tracked
landmarks of any scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from triportrait.types import Array

if TYPE_CHECKING:
    from collections.abc import Sequence


#: Distance of MediaPipe's points 10 and 152 on ICT-FaceKit's mean head.
FACE_HEIGHT_CM = 16.62

#: Centimetres of inner-lip gap per unit of the curve; curves below 0.05 cm are left out.
LIP_GAP_CM: dict[str, float] = {
    "jawForward": 0.13,
    "jawOpen": 3.28,
    "mouthClose": -3.89,
    "mouthFunnel": 1.37,
    "mouthLowerDownLeft": 0.34,
    "mouthLowerDownRight": 0.34,
    "mouthPressLeft": -0.13,
    "mouthPressRight": -0.13,
    "mouthRollLower": -0.37,
    "mouthRollUpper": 0.18,
    "mouthShrugLower": -0.69,
    "mouthShrugUpper": 0.53,
    "mouthUpperUpLeft": 0.35,
    "mouthUpperUpRight": 0.35,
    "noseSneerLeft": 0.31,
    "noseSneerRight": 0.31,
}

#: Curves that part the lips; a contact takes them back before ``mouthClose`` bridges what is left.
PARTING_CURVES: tuple[str, ...] = tuple(name for name, gap in LIP_GAP_CM.items() if gap > 0.2)


def gap_weights(names: Sequence[str]) -> Array:
    """Face heights of lip gap per unit of each curve in ``names``: float32 [e]."""
    return np.array([LIP_GAP_CM.get(name, 0.0) / FACE_HEIGHT_CM for name in names], np.float32)


def lip_opening(expression: Array, names: Sequence[str]) -> Array:
    """Gap between the lips in face heights, never negative: expression [..., e] -> [...]."""
    return np.maximum(expression @ gap_weights(names), 0.0)


def close_lips(expression: Array, names: Sequence[str], contact: Array, jaw_share: float = 0.6) -> Array:
    """Bring the lips together by ``contact`` (0 = as they are, 1 = touching): expression [t, e], contact [t] -> [t,
    e].

    The parting curves shrink (the jaw by ``jaw_share`` only: it stays half open behind closed lips, as in speech) and
    ``mouthClose`` takes up the rest, so that :func:`lip_opening` falls to ``(1 - contact)`` times what the shrunk
    curves give, zero at full contact.
    """
    result = np.array(expression, np.float32)
    contact = np.clip(np.asarray(contact, np.float32), 0.0, 1.0)
    for name in PARTING_CURVES:
        if name in names:
            share = jaw_share if name == "jawOpen" else 1.0
            result[:, list(names).index(name)] *= 1.0 - share * contact
    if "mouthClose" not in names:
        return result
    close = list(names).index("mouthClose")
    weights = gap_weights(names)
    gap = np.maximum(result @ weights, 0.0)
    result[:, close] = np.clip(result[:, close] + contact * gap / -weights[close], 0.0, 1.0)
    return result


def lip_to_teeth(expression: Array, names: Sequence[str], contact: Array) -> Array:
    """Bring the lower lip to the upper teeth by ``contact`` (0 = as it is, 1 = touching): expression [t, e], contact
    [t] -> [t, e].

    The lower lip rolls in, the jaw nearly closes, what pulls the lower lip down or forward lets go.
    """
    result = np.array(expression, np.float32)
    contact = np.clip(np.asarray(contact, np.float32), 0.0, 1.0)
    order = list(names)
    for name, keep in (("jawOpen", 0.4), ("mouthFunnel", 0.3), ("mouthLowerDownLeft", 0.0), ("mouthLowerDownRight", 0.0)):
        if name in order:
            result[:, order.index(name)] *= 1.0 - (1.0 - keep) * contact
    if "mouthRollLower" in order:
        roll = order.index("mouthRollLower")
        result[:, roll] = np.maximum(result[:, roll], TEETH_ROLL * contact)
    return result


#: How far the lower lip rolls in under the teeth.
TEETH_ROLL = 0.45
