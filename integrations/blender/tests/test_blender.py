"""The add-on in Blender itself (the package bpy), on a head and motion that TriPortrait wrote.

Blender's Python need not have TriPortrait: ``TRIPORTRAIT`` names the command (default: ``triportrait``).
"""

from __future__ import annotations

import math
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")
ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import triportrait_motion as addon  # noqa: E402
from mathutils import Vector  # noqa: E402
from triportrait_motion.curves import read  # noqa: E402


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    command = shlex.split(os.environ.get("TRIPORTRAIT", "triportrait"))
    subprocess.run([*command, "export", ROOT / "examples" / "portrait.png", "-o", folder / "person.glb"], check=True)
    for name in ("motion.npz", "motion.csv", "motion.livelink.csv"):
        subprocess.run([*command, "motion", ROOT / "examples" / "speech.wav", "-o", folder / name], check=True)
    return folder


@pytest.fixture
def head(files: Path):
    """An empty scene with the head in it, and the add-on switched on."""
    import addon_utils

    bpy.ops.wm.read_factory_settings(use_empty=True)
    addon_utils.enable("io_scene_gltf2")
    addon.register()
    assert bpy.ops.triportrait.import_head(filepath=str(files / "person.glb")) == {"FINISHED"}
    yield next(each for each in bpy.data.objects if each.type == "MESH" and each.data.shape_keys)
    addon.unregister()


def test_all_three_kinds_of_file_say_the_same(files: Path) -> None:
    first, *others = (read(files / name) for name in ("motion.npz", "motion.csv", "motion.livelink.csv"))
    assert first.fps == 25.0 and len(first.curves) == 52
    for other in others:
        assert other.fps == 25.0 and set(other.curves) == set(first.curves)
        assert max(np.abs(other.curves[name] - values).max() for name, values in first.curves.items()) < 1e-5
        assert np.abs(other.rotation_rad - first.rotation_rad).max() < 1e-5


@pytest.mark.parametrize("name", ["motion.npz", "motion.livelink.csv"])
def test_the_head_moves_as_the_file_says(head, files: Path, name: str) -> None:
    motion = read(files / name)
    scene = bpy.context.scene
    scene.frame_set(1)
    assert bpy.ops.triportrait.import_motion(filepath=str(files / name)) == {"FINISHED"}
    armature = head.find_armature()
    # 25 rows a second in a scene of 24 frames: row 100 lies at frame 97.
    row = 100
    scene.frame_set(1 + row * 24 // 25)
    keys = head.data.shape_keys.key_blocks
    for name in ("jawOpen", "mouthFunnel", "browInnerUp", "eyeBlinkLeft"):
        assert keys[name].value == pytest.approx(motion.curves[name][row], abs=1e-3), name
    assert scene.frame_end >= 24 * len(motion.rotation_rad) / 25
    # The head's nose goes where the angles say: down with the pitch, to the subject's left with the yaw.
    bone = armature.pose.bones["Head"]
    turn = (bone.matrix @ bone.bone.matrix_local.inverted()).to_3x3()
    pitch, yaw, _ = motion.rotation_rad[row]
    ahead = turn @ Vector((0.0, -1.0, 0.0))
    assert ahead.x == pytest.approx(math.sin(yaw) * math.cos(pitch), abs=0.02)
    assert ahead.z == pytest.approx(-math.sin(pitch), abs=0.02)


def test_what_does_not_fit_is_refused(head, files: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="is no motion file"):
        bpy.ops.triportrait.import_motion(filepath=str(wrong))
    bpy.ops.object.select_all(action="DESELECT")
    for each in list(bpy.data.objects):
        bpy.data.objects.remove(each)
    with pytest.raises(RuntimeError, match="select a head"):
        bpy.ops.triportrait.import_motion(filepath=str(files / "motion.npz"))
