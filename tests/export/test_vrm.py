"""The VRM file: what the specification requires, and expressions that move what they name."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from triportrait.export.figure import Figure
from triportrait.export.glb import MOST_BYTES
from triportrait.export.skeleton import BONES
from triportrait.export.vrm import LICENCE, vrm_of

#: VRMC_vrm-1.0, humanoid: bones that a model must have.
REQUIRED = {"hips", "spine", "head"} | {
    side + bone for side in ("left", "right") for bone in ("UpperLeg", "LowerLeg", "Foot", "UpperArm", "LowerArm", "Hand")
}
PRESETS = {"happy", "angry", "sad", "relaxed", "surprised", "aa", "ih", "ou", "ee", "oh", "blink", "blinkLeft", "blinkRight"} | {
    "lookUp",
    "lookDown",
    "lookLeft",
    "lookRight",
}
META = {"name", "authors", "licenseUrl"}
#: What each field of the meta may say.
ALLOWED = {
    "avatarPermission": {"onlyAuthor", "onlySeparatelyLicensedPerson", "everyone"},
    "commercialUsage": {"personalNonProfit", "personalProfit", "corporation"},
    "creditNotation": {"required", "unnecessary"},
    "modification": {"prohibited", "allowModification", "allowModificationRedistribution"},
}


@pytest.fixture(scope="module")
def tree(astronaut_figure: Figure) -> dict[str, Any]:
    data = vrm_of(astronaut_figure, "Ann", "The author").to_bytes()
    assert len(data) <= MOST_BYTES
    size = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + size])


def test_it_says_what_the_specification_requires(tree: dict[str, Any]) -> None:
    vrm = tree["extensions"]["VRMC_vrm"]
    assert "VRMC_vrm" in tree["extensionsUsed"] and vrm["specVersion"] == "1.0"
    meta = vrm["meta"]
    assert set(meta) >= META and meta["name"] == "Ann" and meta["authors"] == ["The author"] and meta["licenseUrl"] == LICENCE
    assert all(meta[field] in values for field, values in ALLOWED.items())
    assert not any(value for field, value in meta.items() if field.startswith("allow"))


def test_the_humanoid_is_whole_and_hangs_together(tree: dict[str, Any]) -> None:
    bones = tree["extensions"]["VRMC_vrm"]["humanoid"]["humanBones"]
    assert set(bones) >= REQUIRED
    numbers = [bone["node"] for bone in bones.values()]
    assert len(set(numbers)) == len(numbers)
    parent = {child: index for index, node in enumerate(tree["nodes"]) for child in node.get("children", [])}
    hips = bones["hips"]["node"]
    for name, bone in bones.items():
        node = bone["node"]
        while node != hips:
            node = parent[node]
        assert tree["nodes"][bone["node"]]["name"] in BONES, name


def test_expressions_move_curves_of_their_names(tree: dict[str, Any]) -> None:
    vrm = tree["extensions"]["VRMC_vrm"]
    names = tree["meshes"][0]["extras"]["targetNames"]
    preset = vrm["expressions"]["preset"]
    assert set(preset) == PRESETS and vrm["lookAt"]["type"] == "expression"
    for expression in (*preset.values(), *vrm["expressions"]["custom"].values()):
        for bind in expression["morphTargetBinds"]:
            assert tree["nodes"][bind["node"]]["mesh"] == 0 and 0 <= bind["index"] < len(names) and 0.0 < bind["weight"] <= 1.0
    moved = {said: {names[bind["index"]] for bind in preset[said]["morphTargetBinds"]} for said in preset}
    assert moved["aa"] == {"viseme_aa"} and moved["blinkLeft"] == {"eyeBlinkLeft"}
    assert moved["lookLeft"] == {"eyeLookOutLeft", "eyeLookInRight"}
