"""The GLB file: what a viewer needs stands in it, blendshapes do what the head model does, and bones carry head and shoulders."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triportrait import cli
from triportrait.export.glb import BONES, LOOKS, VISEMES, glb_of
from triportrait.export.gltf import Gltf
from triportrait.export.orbit import TURN_RAD, depth_picture, orbit_frames
from triportrait.face.open_head import OpenHead
from triportrait.media.video import VideoReader
from triportrait.types import ARKIT_EXPRESSIONS, CAMERA_DISTANCE_DM, PreparedPortrait

_KINDS = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Read:
    """A GLB file taken apart."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack("<4sII", data[:12])
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack("<I4s", data[12:20])
        assert kind == b"JSON" and size % 4 == 0
        self.tree: dict[str, Any] = json.loads(data[20 : 20 + size])
        rest, kind = struct.unpack("<I4s", data[20 + size : 28 + size])
        assert kind == b"BIN\0" and rest == len(data) - 28 - size == self.tree["buffers"][0]["byteLength"]
        self.buffer = data[28 + size :]

    def _view(self, number: int, kind: int, count: int) -> np.ndarray:
        view = self.tree["bufferViews"][number]
        assert view["byteOffset"] % 4 == 0
        return np.frombuffer(self.buffer, _KINDS[kind], count, view["byteOffset"])

    def values(self, number: int) -> np.ndarray:
        entry = self.tree["accessors"][number]
        count, columns = entry["count"], _COLUMNS[entry["type"]]
        if "bufferView" in entry:
            return self._view(entry["bufferView"], entry["componentType"], count * columns).reshape(count, columns)
        result = np.zeros((count, columns), np.float32)
        if sparse := entry.get("sparse"):
            places = self._view(sparse["indices"]["bufferView"], sparse["indices"]["componentType"], sparse["count"])
            assert np.all(np.diff(places.astype(int)) > 0)
            result[places] = self._view(sparse["values"]["bufferView"], 5126, sparse["count"] * columns).reshape(-1, columns)
        np.testing.assert_allclose(entry["min"], result.min(0), atol=1e-9)
        np.testing.assert_allclose(entry["max"], result.max(0), atol=1e-9)
        return result


@pytest.fixture(scope="module")
def file(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> Read:
    data = glb_of(astronaut_portrait, open_head)
    assert len(data) < 8e6
    return Read(data)


def test_names_are_those_that_programs_look_for(file: Read) -> None:
    mesh = file.tree["meshes"][0]
    names = mesh["extras"]["targetNames"]
    assert names == [*ARKIT_EXPRESSIONS, *LOOKS, *VISEMES] and len(set(names[:52])) == 52 and len(names) == 67
    assert len(mesh["weights"]) == 67 and all(len(part["targets"]) == 67 for part in mesh["primitives"])
    assert [file.tree["nodes"][joint]["name"] for joint in file.tree["skins"][0]["joints"]] == list(BONES)
    assert all("KHR_materials_unlit" in material["extensions"] for material in file.tree["materials"])


def test_parts_are_whole(file: Read) -> None:
    for part in file.tree["meshes"][0]["primitives"]:
        attributes = {name: file.values(number) for name, number in part["attributes"].items()}
        count = len(attributes["POSITION"])
        assert file.values(part["indices"]).max() == count - 1
        assert all(len(values) == count and np.isfinite(values.astype(float)).all() for values in attributes.values())
        np.testing.assert_allclose(attributes["WEIGHTS_0"].sum(1), 1.0, atol=1e-5)
        assert not attributes["JOINTS_0"][attributes["WEIGHTS_0"] == 0].any()
        assert np.abs(attributes["POSITION"]).max() < 1.0  # metres


def test_blendshapes_are_the_models(file: Read, astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    skin = file.tree["meshes"][0]["primitives"][0]
    names = file.tree["meshes"][0]["extras"]["targetNames"]
    shape = open_head.shape(astronaut_portrait.identity) + astronaut_portrait.vertex_offset
    rest = np.zeros(len(ARKIT_EXPRESSIONS), np.float32)
    smile = rest.copy()
    smile[ARKIT_EXPRESSIONS.index("jawOpen")] = 1.0
    moved = open_head.deform(shape, smile) - open_head.deform(shape, rest)
    written = file.values(skin["targets"][names.index("jawOpen")]["POSITION"])
    assert np.abs(written).max() == pytest.approx(0.1 * np.abs(moved[:, 1]).max(), rel=0.2)
    assert written[:, 1].min() < -0.01 and not file.values(skin["targets"][names.index("viseme_sil")]["POSITION"]).any()


def test_the_head_turns_and_the_shoulders_stay(file: Read) -> None:
    sheet = file.tree["meshes"][0]["primitives"][-1]
    place, joints, weights = (file.values(sheet["attributes"][name]) for name in ("POSITION", "JOINTS_0", "WEIGHTS_0"))
    on_head = (weights * (joints == list(BONES).index("Head"))).sum(1)
    assert on_head[place[:, 1] > 0.05].min() > 0.99
    whole = [file.values(part["attributes"]["WEIGHTS_0"]) for part in file.tree["meshes"][0]["primitives"]]
    assert min(weight[:, 0].min() for weight in whole) < 0.05  # somewhere all is body


def test_a_sparse_target_that_moves_nothing_is_nothing() -> None:
    file = Gltf()
    assert "sparse" not in file._accessors[file.displacement(np.zeros((5, 3)))]


def test_the_command_writes_both_kinds_and_refuses_others(astronaut_png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triportrait.export.orbit.SECONDS", 0.16)
    glb, video = tmp_path / "me.glb", tmp_path / "me.mp4"
    assert cli.main(["export", str(astronaut_png), "-o", str(glb)]) == 0 and glb.read_bytes()[:4] == b"glTF"
    assert cli.main(["export", str(astronaut_png), "-o", str(video)]) == 0
    with VideoReader(video) as reader:
        frames = [frame for _, frame in reader.frames(None)]
    assert len(frames) == 4 and frames[0].shape == (512, 1024, 3)
    assert cli.main(["export", str(astronaut_png), "-o", str(tmp_path / "me.obj")]) == 2


def test_the_orbit_goes_round_and_the_depth_is_grey(astronaut_portrait: PreparedPortrait) -> None:
    turns = np.stack([frame.rotation_rad for frame in orbit_frames(astronaut_portrait.motion)])
    assert turns[:, 1].max() == pytest.approx(TURN_RAD, abs=0.01) and turns[:, 1].min() == pytest.approx(-TURN_RAD, abs=0.01)
    depth = np.full((4, 4), np.inf, np.float32)
    depth[1] = CAMERA_DISTANCE_DM
    picture = depth_picture(depth, np.ones((4, 4), np.float32), 0.0)
    assert picture.shape == (4, 4, 3) and not picture[0].any() and picture[1].any()
