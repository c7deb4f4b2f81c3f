"""The GLB file: what a viewer needs stands in it, blendshapes do what the head model does, and bones carry head and shoulders."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from triportrait.errors import OutputError
from triportrait.export import glb
from triportrait.export.curves import LOOKS, VISEMES
from triportrait.export.figure import Figure, without_tails
from triportrait.export.glb import MOST_BYTES, file_of, with_soles
from triportrait.export.gltf import Gltf
from triportrait.export.skeleton import BONES, FLOOR_DM, axes
from triportrait.face.open_head import OpenHead
from triportrait.types import ARKIT_EXPRESSIONS, PreparedPortrait

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
def file(astronaut_figure: Figure) -> Read:
    data = file_of(astronaut_figure).to_bytes()
    assert len(data) <= MOST_BYTES
    return Read(data)


def parts(file: Read, mesh: int = 0) -> list[dict[str, Any]]:
    return file.tree["meshes"][mesh]["primitives"]


def test_names_are_those_that_programs_look_for(file: Read) -> None:
    mesh = file.tree["meshes"][0]
    names = mesh["extras"]["targetNames"]
    assert names == [*ARKIT_EXPRESSIONS, *LOOKS, *VISEMES] and len(set(names[:52])) == 52 and len(names) == 67
    assert len(mesh["weights"]) == 67 and all(len(part["targets"]) == 67 for part in mesh["primitives"])
    assert [file.tree["nodes"][joint]["name"] for joint in file.tree["skins"][0]["joints"]] == list(BONES)
    assert file.tree["scenes"][0]["name"] == "Armature" and mesh["name"] == "Wolf3D_Head"
    assert all("KHR_materials_unlit" in material["extensions"] for material in file.tree["materials"])


def test_parts_are_whole(file: Read) -> None:
    for part in (*parts(file), *parts(file, 1)):
        attributes = {name: file.values(number) for name, number in part["attributes"].items()}
        count = len(attributes["POSITION"])
        assert file.values(part["indices"]).max() == count - 1
        assert all(len(values) == count and np.isfinite(values.astype(float)).all() for values in attributes.values())
        assert (attributes["WEIGHTS_0"].sum(1, dtype=int) == 255).all()
        assert not attributes["JOINTS_0"][attributes["WEIGHTS_0"] == 0].any()
        assert np.abs(attributes["POSITION"] + (0.0, 0.1 * FLOOR_DM, 0.0)).max() < 1.0  # metres from the head's middle


def test_blendshapes_are_the_models(file: Read, astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    names = file.tree["meshes"][0]["extras"]["targetNames"]
    shape = open_head.shape(astronaut_portrait.identity) + astronaut_portrait.vertex_offset
    rest = np.zeros(len(ARKIT_EXPRESSIONS), np.float32)
    opened = rest.copy()
    opened[ARKIT_EXPRESSIONS.index("jawOpen")] = 1.0
    moved = open_head.deform(shape, opened) - open_head.deform(shape, rest)
    written = file.values(parts(file)[0]["targets"][names.index("jawOpen")]["POSITION"])
    assert np.abs(written).max() == pytest.approx(0.1 * np.abs(moved[:, 1]).max(), rel=0.2)
    assert written[:, 1].min() < -0.01
    assert not file.values(parts(file)[0]["targets"][names.index("viseme_sil")]["POSITION"]).any()


def test_the_head_turns_and_the_shoulders_stay(file: Read) -> None:
    values = [
        [file.values(part["attributes"][name]) for name in ("POSITION", "JOINTS_0", "WEIGHTS_0")]
        for part in (parts(file)[0], parts(file, 1)[0])
    ]
    place, joints, weights = (np.concatenate([part[k] for part in values]) for k in range(3))
    on_head = (weights * np.isin(joints, [list(BONES).index(name) for name in ("Head", "LeftEye", "RightEye")])).sum(1) / 255
    height = place[:, 1] + 0.1 * FLOOR_DM
    assert on_head[height > 0.05].min() > 0.9 and on_head[height < height.min() + 0.01].max() < 0.1


def test_bones_stand_where_their_bind_matrices_say(file: Read) -> None:
    nodes, skin = file.tree["nodes"], file.tree["skins"][0]
    inverse = file.values(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    turned, world = axes(), {}
    parent = {child: index for index, node in enumerate(nodes) for child in node.get("children", [])}
    for joint, matrix in zip(skin["joints"], inverse, strict=True):
        own = np.eye(4)
        own[:3, 3] = nodes[joint]["translation"]
        name = nodes[joint]["name"]
        above = parent.get(joint)
        own[:3, :3] = turned[name] if above is None else turned[nodes[above]["name"]].T @ turned[name]
        world[joint] = own if above is None else world[above] @ own
        np.testing.assert_allclose(matrix @ world[joint], np.eye(4), atol=1e-4)


def test_soles_let_a_bust_reach_the_floor_and_show_nothing(astronaut_figure: Figure, file: Read) -> None:
    standing = Read(file_of(with_soles(astronaut_figure)).to_bytes())
    least = [
        min(one.values(part["attributes"]["POSITION"])[:, 1].min() for part in (*parts(one), *parts(one, 1))) for one in (file, standing)
    ]
    assert least[0] > 1.0 and abs(least[1]) < 1e-6
    soles = parts(standing, 1)[-1]
    corners = standing.values(soles["attributes"]["POSITION"])[standing.values(soles["indices"]).reshape(-1, 3)]
    assert len(corners) == 2 and not np.ptp(corners, axis=1).any()
    assert parts(standing, 1)[:-1] == parts(file, 1)


def test_a_picture_that_is_too_large_is_shrunk(astronaut_figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    full = len(file_of(astronaut_figure).to_bytes())
    monkeypatch.setattr(glb, "MOST_BYTES", full - 100_000)
    assert len(file_of(astronaut_figure).to_bytes()) <= full - 100_000
    monkeypatch.setattr(glb, "MOST_BYTES", 100_000)
    with pytest.raises(OutputError, match="MB"):
        file_of(astronaut_figure)


def test_tails_of_displacements_end_without_a_step() -> None:
    line = np.linspace(0.0, 0.01, 1001)[:, None] * np.array([1.0, 0.0, 0.0])
    short = without_tails(line)
    assert not short[line[:, 0] <= 0.002].any() and np.abs(np.diff(short[:, 0])).max() < 5e-5
    np.testing.assert_allclose(short[line[:, 0] > 0.004], line[line[:, 0] > 0.004])


def test_a_sparse_target_that_moves_nothing_is_nothing() -> None:
    file = Gltf()
    assert "sparse" not in file._accessors[file.displacement(np.zeros((5, 3)))]
