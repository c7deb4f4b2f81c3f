"""Motion for other programs: Live Link Face's table, and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from triportrait.errors import MotionFileError
from triportrait.geometry.curve_range import BROW_RAISES
from triportrait.motion.controls import NAMES as CONTROL_NAMES
from triportrait.motion.controls import ControlTrack
from triportrait.types import ARKIT_EXPRESSIONS, Array, Motion

JSON_VERSION = 1

#: Gaze angle at which an ``eyeLook*`` curve is 1. ARKit does not say; 30 degrees is about what its users measure.
EYE_LOOK_FULL_RAD = np.radians(30.0)

#: Order of the curves in Live Link Face, in ARKit's names.
LIVE_LINK_CURVES = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft", "eyeWideLeft",
    "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight", "eyeWideRight",
    "jawForward", "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRight", "mouthLeft",
    "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft",
    "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip


def arkit52(motion: Motion) -> dict[str, Array]:
    """All 52 ARKit curves [t] by name; the eight ``eyeLook*`` come from the gaze (left and right are the subject's).

    Raises:
        MotionFileError: the motion belongs to a head model without ARKit curves.
    """
    missing = [name for name in ARKIT_EXPRESSIONS if name not in motion.expression_names]
    if missing:
        raise MotionFileError(f"motion of head model {motion.head_model!r} has no ARKit curves; extract it with the open head")
    curves = {name: motion.expression[:, motion.column(name)] for name in ARKIT_EXPRESSIONS}
    # ARKit's raises do not sink: what of a brow goes below its rest is lowered.
    for side in ("Left", "Right"):
        sunk = np.minimum(curves["browInnerUp"], 0.0) + np.minimum(curves[f"browOuterUp{side}"], 0.0)
        curves[f"browDown{side}"] = np.minimum(curves[f"browDown{side}"] - sunk, 1.0)
    for name in BROW_RAISES:
        curves[name] = np.maximum(curves[name], 0.0)
    pitch, yaw = (motion.gaze_rad[:, axis] / EYE_LOOK_FULL_RAD for axis in (0, 1))
    # Yaw is positive towards image right, which is the subject's left: outwards for the left eye, inwards for the
    # right.
    for side, outward in (("Left", yaw), ("Right", -yaw)):
        curves[f"eyeLookOut{side}"] = np.clip(outward, 0, 1)
        curves[f"eyeLookIn{side}"] = np.clip(-outward, 0, 1)
        curves[f"eyeLookUp{side}"] = np.clip(pitch, 0, 1)
        curves[f"eyeLookDown{side}"] = np.clip(-pitch, 0, 1)
    return curves


def write_live_link(first: Motion, chunks: Iterable[Motion], controls: ControlTrack | None, file: BinaryIO) -> None:
    """The layout of Epic's Live Link Face app: timecode, 52 curves, head and eye rotations in radians; there is no place for controls.

    Head angles keep our signs: pitch positive down, yaw positive to the subject's left, roll positive counter-clockwise in the image.
    """
    arkit52(first)
    heading = ["Timecode", "BlendshapeCount", *(name[0].upper() + name[1:] for name in LIVE_LINK_CURVES)]
    heading += ["HeadYaw", "HeadPitch", "HeadRoll"]
    heading += [f"{side}Eye{axis}" for side in ("Left", "Right") for axis in ("Yaw", "Pitch", "Roll")]
    count = len(heading) - 2
    file.write((",".join(heading) + "\n").encode("utf-8"))
    form = f"%s,{count}" + ",%.7g" * count + "\n"
    row = 0
    for chunk in chunks:
        curves = arkit52(chunk)
        eye = np.stack([chunk.gaze_rad[:, 1], chunk.gaze_rad[:, 0], np.zeros(len(chunk))], axis=1)
        named = np.stack([curves[name] for name in LIVE_LINK_CURVES], axis=1)
        table = np.concatenate([named, chunk.rotation_rad[:, [1, 0, 2]], eye, eye], axis=1)
        lines = [form % (_timecode(row + index, chunk.fps), *values) for index, values in enumerate(table.tolist())]
        file.write("".join(lines).encode("utf-8"))
        row += len(chunk)


def _timecode(row: int, fps: float) -> str:
    """``hh:mm:ss:ff.mmm``; the last part is the share of a frame."""
    second, within = divmod(row / fps + 1e-9, 1.0)
    frame, second = within * fps, int(second)
    return f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}:{int(frame):02d}.{int(frame % 1 * 1000):03d}"


def write_json(first: Motion, chunks: Iterable[Motion], controls: ControlTrack | None, file: BinaryIO) -> None:
    """Everything as one JSON object: ``names`` and one list of numbers per frame and field."""
    document = {
        "format": "triportrait motion",
        "version": JSON_VERSION,
        "fps": first.fps,
        "head_model": first.head_model,
        "expression_names": list(first.expression_names),
    }
    if controls:
        document["control_names"] = list(CONTROL_NAMES)
    file.write((json.dumps(document)[:-1] + ', "frames": [').encode("utf-8"))
    row = 0
    for chunk in chunks:
        fields = {
            "expression": chunk.expression,
            "rotation_rad": chunk.rotation_rad,
            "translation_dm": chunk.translation,
            "gaze_rad": chunk.gaze_rad,
        }
        if chunk.body is not None:
            fields["body"] = chunk.body
        if chunk.warp is not None:
            fields["warp"] = chunk.warp
        if controls:
            fields["controls"] = controls.rows(row, len(chunk))
        columns = {name: np.round(values.astype(np.float64), 6).tolist() for name, values in fields.items()}
        for index in range(len(chunk)):
            frame = {"time_s": round(row / chunk.fps, 6)} | {name: values[index] for name, values in columns.items()}
            file.write(((", " if row else "") + json.dumps(frame)).encode("utf-8"))
            row += 1
    file.write(b"]}")
