"""The bones of a figure: a whole standing person, so that programs for full bodies find theirs. Only those of the bust carry skin.

Names are those that Mixamo and the viewers for talking heads use; each bone also has its name in VRM 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.types import Array

#: The floor lies so far below the head model's origin (decimetres): a stature of 1.75 m.
FLOOR_DM = -16.1


@dataclass(frozen=True, slots=True)
class Bone:
    """One bone.

    Args:
        parent: its name.
        place: in head space (decimetres); heads turn about the model's own origin.
        vrm: its name in VRM 1.0.
        turn: quaternion (x, y, z, w) of its axes at rest in its parent's. Programs with poses of their own want legs along their own y.
    """

    parent: str | None
    place: tuple[float, float, float]
    vrm: str | None
    turn: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0)


def _limbs() -> dict[str, Bone]:
    """Arms stretched sideways, as VRM wants the rest pose, and legs."""
    bones: dict[str, Bone] = {}
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        vrm = side.lower()
        arm = (("Shoulder", "Spine2", 0.3, "Shoulder"), ("Arm", "Shoulder", 1.6, "UpperArm"))
        for name, parent, out, said in (*arm, ("ForeArm", "Arm", 4.3, "LowerArm"), ("Hand", "ForeArm", 6.8, "Hand")):
            above = parent if parent == "Spine2" else side + parent
            bones[side + name] = Bone(above, (sign * out, -2.2, -0.6), vrm + said)
        for finger, forward, start, called, joints in _FINGERS:
            for joint, part in enumerate(joints):
                name = f"{side}Hand{finger}"
                parent = f"{side}Hand" if joint == 0 else f"{name}{joint}"
                bones[f"{name}{joint + 1}"] = Bone(
                    parent, (sign * (6.8 + start + 0.3 * joint), -2.2, -0.6 + forward), f"{vrm}{called}{part}"
                )
        leg = (("UpLeg", "Hips", -6.6, -0.6, "UpperLeg"), ("Leg", "UpLeg", -11.2, -0.6, "LowerLeg"))
        for name, parent, high, ahead, said in (*leg, ("Foot", "Leg", -15.3, -0.7, "Foot"), ("ToeBase", "Foot", -15.9, 0.6, "Toes")):
            above = parent if parent == "Hips" else side + parent
            bones[side + name] = Bone(above, (sign * 0.9, high, ahead), vrm + said, _TURNS.get(name, (0.0, 0.0, 0.0, 1.0)))
    return bones


#: Thighs point down, feet ahead.
_TURNS = {"UpLeg": (0.0, 0.0, 1.0, 0.0), "Foot": (float(np.sin(0.57)), 0.0, 0.0, float(np.cos(0.57)))}
_JOINTS = ("Proximal", "Intermediate", "Distal")
#: Name, how far ahead of the hand's middle (decimetres), where the first joint lies beyond the wrist, and VRM's names.
_FINGERS = (
    ("Thumb", 0.4, 0.3, "Thumb", ("Metacarpal", "Proximal", "Distal")),
    ("Index", 0.3, 0.9, "Index", _JOINTS),
    ("Middle", 0.1, 0.95, "Middle", _JOINTS),
    ("Ring", -0.1, 0.9, "Ring", _JOINTS),
    ("Pinky", -0.3, 0.8, "Little", _JOINTS),
)
#: All bones, parents first. The eyes' places are those of the mean head; a figure has its own.
BONES: dict[str, Bone] = {
    "Hips": Bone(None, (0.0, -6.1, -0.6), "hips"),
    "Spine": Bone("Hips", (0.0, -5.0, -0.6), "spine"),
    "Spine1": Bone("Spine", (0.0, -4.0, -0.6), "chest"),
    "Spine2": Bone("Spine1", (0.0, -3.0, -0.6), "upperChest"),
    "Neck": Bone("Spine2", (0.0, -1.2, -0.4), "neck"),
    "Head": Bone("Neck", (0.0, 0.0, 0.0), "head"),
    "LeftEye": Bone("Head", (0.32, 0.28, 0.0), "leftEye"),
    "RightEye": Bone("Head", (-0.32, 0.28, 0.0), "rightEye"),
    **_limbs(),
}


def axes() -> dict[str, Array]:
    """The bones' axes at rest as columns of a rotation [3, 3] in head space."""
    result: dict[str, Array] = {}
    for name, one in BONES.items():
        x, y, z, w = one.turn
        turn = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        result[name] = turn if one.parent is None else result[one.parent] @ turn
    return result


def bone(name: str) -> int:
    """The number of a bone."""
    return list(BONES).index(name)


def on_bone(name: str, count: int) -> tuple[Array, Array]:
    """Joints and weights [count, 4] of vertices that follow one bone."""
    joints, weights = np.zeros((count, 4), np.uint8), np.zeros((count, 4), np.float32)
    joints[:, 0], weights[:, 0] = bone(name), 1.0
    return joints, weights
