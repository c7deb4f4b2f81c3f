"""A portrait as a VRM 1.0 file: the GLB with what VRM adds, a humanoid, expressions, a gaze, and who may do what with it.

Source: VRM 1.0 (VRM Consortium), VRMC_vrm-1.0: meta, humanoid, expressions, lookAt.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.drivers import default_head
from triportrait.export.curves import LOOKS
from triportrait.export.figure import Figure, build_figure
from triportrait.export.glb import file_of, mesh_node
from triportrait.export.gltf import Gltf
from triportrait.export.skeleton import BONES
from triportrait.face.open_head import OpenHead
from triportrait.files import atomic_file
from triportrait.types import ARKIT_EXPRESSIONS, PathLike, PreparedPortrait

#: The licence that every VRM 1.0 file must name; the fields of its meta say what it allows.
LICENCE = "https://vrm.dev/licenses/1.0/"
#: VRM's expressions as curves of the file.
EXPRESSIONS: dict[str, Mapping[str, float]] = {
    "aa": {"viseme_aa": 1.0},
    "ih": {"viseme_I": 1.0},
    "ou": {"viseme_U": 1.0},
    "ee": {"viseme_E": 1.0},
    "oh": {"viseme_O": 1.0},
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "blinkLeft": {"eyeBlinkLeft": 1.0},
    "blinkRight": {"eyeBlinkRight": 1.0},
    "lookUp": {"eyeLookUpLeft": 1.0, "eyeLookUpRight": 1.0},
    "lookDown": {"eyeLookDownLeft": 1.0, "eyeLookDownRight": 1.0},
    "lookLeft": {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
    "lookRight": {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0},
    "happy": {"mouthSmileLeft": 0.7, "mouthSmileRight": 0.7, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
    "angry": {"browDownLeft": 0.8, "browDownRight": 0.8, "noseSneerLeft": 0.3, "noseSneerRight": 0.3},
    "sad": {"browInnerUp": 0.7, "mouthFrownLeft": 0.5, "mouthFrownRight": 0.5},
    "relaxed": {"mouthSmileLeft": 0.25, "mouthSmileRight": 0.25, "eyeSquintLeft": 0.2, "eyeSquintRight": 0.2},
    "surprised": {"browInnerUp": 0.6, "browOuterUpLeft": 0.6, "browOuterUpRight": 0.6, "eyeWideLeft": 0.7, "eyeWideRight": 0.7},
}


def write_vrm(portrait: PreparedPortrait, path: PathLike, name: str, author: str, head: OpenHead | None = None) -> Path:
    """Write a portrait as a VRM file; it appears whole or not at all.

    Args:
        name: of the person; author: of the file. What anybody may do with it is set to the least that VRM knows.

    Raises:
        OutputError: the target cannot be written, or the portrait does not fit.
    """
    figure = build_figure(portrait, default_head() if head is None else head)
    data = vrm_of(figure, name, author).to_bytes()
    with atomic_file(path) as part:
        part.write_bytes(data)
    return Path(path)


def vrm_of(figure: Figure, name: str, author: str) -> Gltf:
    """A figure as the parts of a VRM file."""
    file = file_of(figure, room_bytes=40_000)
    node = mesh_node(file)
    numbers = {curve: index for index, curve in enumerate(figure.names)}

    def expression(curves: Mapping[str, float]) -> dict[str, Any]:
        return {"morphTargetBinds": [{"node": node, "index": numbers[curve], "weight": weight} for curve, weight in curves.items()]}

    file.tree["extensionsUsed"] = [*file.tree["extensionsUsed"], "VRMC_vrm"]
    file.tree["extensions"] = {
        "VRMC_vrm": {
            "specVersion": "1.0",
            "meta": _meta(name, author),
            "humanoid": {"humanBones": {bone.vrm: {"node": number} for number, bone in enumerate(BONES.values()) if bone.vrm}},
            "firstPerson": {"meshAnnotations": []},
            "lookAt": _look_at(figure),
            "expressions": {
                "preset": {said: expression(curves) for said, curves in EXPRESSIONS.items()},
                "custom": {curve: expression({curve: 1.0}) for curve in (*ARKIT_EXPRESSIONS, *LOOKS)},
            },
        }
    }
    return file


def _meta(name: str, author: str) -> dict[str, Any]:
    """Of a real person's likeness: nobody but the author may wear it, change it or pass it on unless they write another meta."""
    return {
        "name": name,
        "authors": [author],
        "copyrightInformation": "A likeness made from one photo. Rights in the photo and the likeness stay with their holders.",
        "licenseUrl": LICENCE,
        "avatarPermission": "onlyAuthor",
        "allowExcessivelyViolentUsage": False,
        "allowExcessivelySexualUsage": False,
        "commercialUsage": "personalNonProfit",
        "allowPoliticalOrReligiousUsage": False,
        "allowAntisocialOrHateUsage": False,
        "creditNotation": "required",
        "allowRedistribution": False,
        "modification": "prohibited",
    }


def _look_at(figure: Figure) -> dict[str, Any]:
    """Gaze by expressions: lids follow it."""
    up, side = (float(np.degrees(LOOKS[name][axis])) for name, axis in (("eyeLookUpLeft", 0), ("eyeLookOutLeft", 1)))
    between = 0.5 * (figure.bones["LeftEye"] + figure.bones["RightEye"]) - figure.bones["Head"]
    vertical, horizontal = ({"inputMaxValue": round(limit, 1), "outputScale": 1.0} for limit in (up, side))
    return {
        "type": "expression",
        "offsetFromHeadBone": [round(float(value) * 0.1, 4) for value in between],
        "rangeMapHorizontalInner": horizontal,
        "rangeMapHorizontalOuter": horizontal,
        "rangeMapVerticalDown": vertical,
        "rangeMapVerticalUp": vertical,
    }
