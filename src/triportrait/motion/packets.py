"""Rows of motion as packets of other programs: Epic's Live Link Face, and the VMC protocol of avatars, which is OSC.

Neither has a specification by its maker that says every byte. Live Link Face is as its receivers read it: version 6, an identifier of 36
characters and a name, each behind its length, frame time and rate, 61 numbers. VMC is https://protocol.vmc.info, OSC is version 1.0.
"""

from __future__ import annotations

import struct
import uuid

import numpy as np

from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler
from triportrait.motion.exports import LIVE_LINK_CURVES, arkit52
from triportrait.types import FPS, Array, Motion, MotionFrame

LIVE_LINK_PORT, VMC_PORT = 11111, 39539
_LIVE_LINK_VERSION = 6
#: Bytes that pass every network in one piece.
_LARGEST_DATAGRAM = 1200
#: Our axes are the image's (x to the subject's left); Unity's x goes to the subject's right.
_TO_UNITY = np.diag([-1.0, 1.0, 1.0])


def turned_from(motion: Motion, rest_rad: Array) -> Motion:
    """Motion whose heads are turned relative to a pose ``rest_rad`` [3], in which an avatar looks ahead."""
    turn = matrix_from_euler(rest_rad).T @ matrix_from_euler(motion.rotation_rad)
    return motion.with_rows(rotation_rad=euler_from_matrix(turn).astype(np.float32))


class LiveLinkPackets:
    """Rows as datagrams of Live Link Face.

    Args:
        subject: the name that Unreal's Live Link shows.
        device: identifies the sender, 36 characters; None makes one.
        fps: frames per second.
    """

    def __init__(self, subject: str = "TriPortrait", device: str | None = None, fps: float = FPS) -> None:
        device = device or str(uuid.uuid4()).upper()
        name = subject.encode("utf-8")
        self._head = struct.pack(">B3xB", _LIVE_LINK_VERSION, len(device)) + device.encode("ascii") + struct.pack(">i", len(name)) + name
        self._rate = round(fps)

    def __call__(self, motion: Motion, frame: int) -> list[bytes]:
        """The first row of ``motion`` as frame number ``frame``: one datagram. Angles are radians with the signs of the CSV export.

        Raises:
            MotionFileError: the motion has no ARKit curves.
        """
        curves = arkit52(motion)
        pitch, yaw, roll = motion.rotation_rad[0]
        eye = (motion.gaze_rad[0, 1], motion.gaze_rad[0, 0], 0.0)
        numbers = [*(curves[name][0] for name in LIVE_LINK_CURVES), yaw, pitch, roll, *eye, *eye]
        return [self._head + struct.pack(f">ifiiB{len(numbers)}f", frame, 0.0, self._rate, 1, len(numbers), *numbers)]


def row_numbers(row: MotionFrame) -> Array:
    """A row as float32 [60]: 52 curves in the order of Live Link Face, rotation (pitch, yaw, roll), translation in decimetres, gaze (pitch,
    yaw); angles in radians."""
    parts = {name: getattr(row, name)[None] for name in ("expression", "rotation_rad", "translation", "gaze_rad")}
    curves = arkit52(Motion(**parts))
    named = np.stack([curves[name][0] for name in LIVE_LINK_CURVES])
    return np.concatenate([named, row.rotation_rad, row.translation, row.gaze_rad]).astype(np.float32)


class VmcPackets:
    """Rows as OSC bundles of the VMC protocol: curves by their names of Perfect Sync, the head's bone, the eyes' bones."""

    def __call__(self, motion: Motion, frame: int) -> list[bytes]:
        """The first row of ``motion``, at frame number ``frame``, in bundles that a network takes in one piece.

        Raises:
            MotionFileError: the motion has no ARKit curves.
        """
        curves = [osc("/VMC/Ext/Blend/Val", name[0].upper() + name[1:], float(value[0])) for name, value in arkit52(motion).items()]
        gaze_pitch, gaze_yaw = motion.gaze_rad[0]
        # Ours look up with a positive pitch of the gaze, and down with a positive one of the head.
        eyes = (-gaze_pitch, gaze_yaw, 0.0)
        bones = [("Head", motion.rotation_rad[0]), ("LeftEye", eyes), ("RightEye", eyes)]
        poses = [osc("/VMC/Ext/Bone/Pos", name, 0.0, 0.0, 0.0, *unity_quaternion(np.asarray(turn))) for name, turn in bones]
        return bundles([osc("/VMC/Ext/OK", 1), osc("/VMC/Ext/T", frame / FPS), *poses, *curves, osc("/VMC/Ext/Blend/Apply")])


def unity_quaternion(euler_rad: Array) -> list[float]:
    """Pitch, yaw, roll [3] of ours as x, y, z, w in Unity's axes."""
    matrix = _TO_UNITY @ matrix_from_euler(euler_rad) @ _TO_UNITY
    w = 0.5 * np.sqrt(max(1.0 + np.trace(matrix), 1e-12))
    axis = [matrix[i, j] - matrix[j, i] for i, j in ((2, 1), (0, 2), (1, 0))]
    return [*(float(part / (4.0 * w)) for part in axis), float(w)]


def osc(address: str, *values: str | int | float) -> bytes:
    """A message of OSC 1.0 with texts, 32-bit integers and 32-bit floats."""
    tags, data = ",", b""
    for value in values:
        if isinstance(value, str):
            tags, data = tags + "s", data + _padded(value)
        elif isinstance(value, int):
            tags, data = tags + "i", data + struct.pack(">i", value)
        else:
            tags, data = tags + "f", data + struct.pack(">f", value)
    return _padded(address) + _padded(tags) + data


def bundle(messages: list[bytes]) -> bytes:
    """Messages that count at once."""
    return _padded("#bundle") + struct.pack(">Q", 1) + b"".join(struct.pack(">i", len(message)) + message for message in messages)


def bundles(messages: list[bytes]) -> list[bytes]:
    """Messages in as few bundles as fit into datagrams, in their order."""
    packed: list[list[bytes]] = [[]]
    for message in messages:
        if sum(len(other) + 4 for other in packed[-1]) + len(message) > _LARGEST_DATAGRAM - 20:
            packed.append([])
        packed[-1].append(message)
    return [bundle(part) for part in packed]


def _padded(text: str) -> bytes:
    """A text with at least one zero behind it, to a multiple of four bytes."""
    data = text.encode("utf-8")
    return data + bytes(4 - len(data) % 4)
