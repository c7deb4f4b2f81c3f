"""What other programs call a face's movements: ARKit's curves for the eyes, Oculus's visemes, and VRM's expressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from triportrait.face.open_head import OpenHead
from triportrait.types import ARKIT_EXPRESSIONS, Array, HeadPart

#: Gaze (pitch, yaw in radians) of ARKit's curves for the eyes; of each only the eye that it names moves.
LOOKS: dict[str, tuple[float, float]] = {
    "eyeLookUpLeft": (0.5, 0.0),
    "eyeLookUpRight": (0.5, 0.0),
    "eyeLookDownLeft": (-0.5, 0.0),
    "eyeLookDownRight": (-0.5, 0.0),
    "eyeLookOutLeft": (0.0, 0.6),
    "eyeLookInRight": (0.0, 0.6),
    "eyeLookInLeft": (0.0, -0.6),
    "eyeLookOutRight": (0.0, -0.6),
}
#: Oculus's visemes as curves of ARKit's.
VISEMES: dict[str, Mapping[str, float]] = {
    "viseme_sil": {},
    "viseme_PP": {"mouthPressLeft": 0.4, "mouthPressRight": 0.4, "mouthRollLower": 0.2, "mouthRollUpper": 0.2},
    "viseme_FF": {"jawOpen": 0.06, "mouthRollLower": 0.5, "mouthUpperUpLeft": 0.2, "mouthUpperUpRight": 0.2},
    "viseme_TH": {"jawOpen": 0.15, "tongueOut": 0.35, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "viseme_DD": {"jawOpen": 0.15, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "viseme_kk": {"jawOpen": 0.18, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "viseme_CH": {"jawOpen": 0.08, "mouthFunnel": 0.4, "mouthUpperUpLeft": 0.2, "mouthUpperUpRight": 0.2},
    "viseme_SS": {
        "jawOpen": 0.08,
        "mouthStretchLeft": 0.2,
        "mouthStretchRight": 0.2,
        "mouthLowerDownLeft": 0.3,
        "mouthLowerDownRight": 0.3,
    },
    "viseme_nn": {"jawOpen": 0.12, "mouthLowerDownLeft": 0.15, "mouthLowerDownRight": 0.15},
    "viseme_RR": {"jawOpen": 0.12, "mouthFunnel": 0.25, "mouthPucker": 0.2},
    "viseme_aa": {"jawOpen": 0.42, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "viseme_E": {"jawOpen": 0.26, "mouthStretchLeft": 0.2, "mouthStretchRight": 0.2},
    "viseme_I": {"jawOpen": 0.18, "mouthStretchLeft": 0.3, "mouthStretchRight": 0.3, "mouthSmileLeft": 0.15, "mouthSmileRight": 0.15},
    "viseme_O": {"jawOpen": 0.3, "mouthFunnel": 0.3, "mouthPucker": 0.3},
    "viseme_U": {"jawOpen": 0.1, "mouthPucker": 0.7},
}


@dataclass(frozen=True, slots=True)
class Blendshape:
    """One curve at 1: its name, displacements [v, 3] of the head model's vertices in decimetres, and the model's own curves [e]."""

    name: str
    displacement: Array
    expression: Array


def blendshapes(head: OpenHead, shape: Array) -> list[Blendshape]:
    """All of a head with this ``shape`` [v, 3]: ARKit's 52, then the 15 visemes."""
    still, rest = np.zeros(2, np.float32), np.zeros(len(ARKIT_EXPRESSIONS), np.float32)
    neutral = head.deform(shape, rest, still)

    def moved(curves: Mapping[str, float]) -> tuple[Array, Array]:
        one = rest.copy()
        for name, value in curves.items():
            one[ARKIT_EXPRESSIONS.index(name)] = value
        return head.deform(shape, one, still) - neutral, one

    result = [Blendshape(name, *moved({name: 1.0})) for name in ARKIT_EXPRESSIONS]
    for name, gaze in LOOKS.items():
        side = 0 if name.endswith("Left") else 1
        own = np.zeros(len(neutral), bool)
        own[head.eye_vertices[side]] = True
        half = (neutral[:, 0] > 0) if side == 0 else (neutral[:, 0] <= 0)
        own |= half & np.isin(head.part, (HeadPart.SKIN, HeadPart.SOCKET))
        turned = head.deform(shape, rest, np.array(gaze, np.float32)) - neutral
        result.append(Blendshape(name, turned * own[:, None], rest))
    return result + [Blendshape(name, *moved(curves)) for name, curves in VISEMES.items()]
