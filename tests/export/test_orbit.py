"""The video round the portrait: it goes round, its depth is grey, and all views show one surface."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from triportrait import cli, pipeline
from triportrait.export.orbit import TURN_RAD, depth_picture, orbit_frames
from triportrait.media.video import VideoReader
from triportrait.types import CAMERA_DISTANCE_DM, MotionFrame, PreparedPortrait

ROOT = Path(__file__).parents[2]


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("orbit_benchmark", ROOT / "benchmarks" / "orbit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_orbit_goes_round_and_the_depth_is_grey(astronaut_portrait: PreparedPortrait) -> None:
    turns = np.stack([frame.rotation_rad for frame in orbit_frames(astronaut_portrait.motion)])
    assert turns[:, 1].max() == pytest.approx(TURN_RAD, abs=0.01) and turns[:, 1].min() == pytest.approx(-TURN_RAD, abs=0.01)
    depth = np.full((4, 4), np.inf, np.float32)
    depth[1] = CAMERA_DISTANCE_DM
    picture = depth_picture(depth, np.ones((4, 4), np.float32), 0.0)
    assert picture.shape == (4, 4, 3) and not picture[0].any() and picture[1].any()


def test_the_command_writes_the_video_and_the_files_and_refuses_others(
    astronaut_png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("triportrait.export.orbit.SECONDS", 0.16)
    glb, video, vrm = tmp_path / "me.glb", tmp_path / "me.mp4", tmp_path / "me.vrm"
    assert cli.main(["export", str(astronaut_png), "-o", str(glb)]) == 0 and glb.read_bytes()[:4] == b"glTF"
    assert cli.main(["export", str(astronaut_png), "-o", str(vrm), "--author", "Ann"]) == 0 and b"VRMC_vrm" in vrm.read_bytes()
    assert cli.main(["export", str(astronaut_png), "-o", str(video)]) == 0
    with VideoReader(video) as reader:
        frames = [frame for _, frame in reader.frames(None)]
    assert len(frames) == 4 and frames[0].shape == (512, 1024, 3)
    for wrong, said in (
        ((str(tmp_path / "me.obj"),), "choose one"),
        ((str(tmp_path / "you.vrm"),), "--author"),
        ((str(glb), "--audio", str(astronaut_png)), "--audio"),
        ((str(glb), "--author", "Ann"), "--author"),
    ):
        assert cli.main(["export", str(astronaut_png), "-o", *wrong]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "you.vrm").exists()


def test_views_of_one_surface_meet_and_others_do_not() -> None:
    module = benchmark()
    size, focal = 128, 4.2647
    zero = np.zeros(3, np.float32)
    place = np.array([0.0, 0.0, -6.0], np.float32)
    frames = [MotionFrame(np.zeros(1, np.float32), np.array([0.0, yaw, 0.0], np.float32), place, zero[:2]) for yaw in (0.0, 0.1)]
    # A ball round the head's origin looks alike from everywhere.
    y, x = (np.mgrid[:size, :size] + 0.5 - size / 2) / (focal * size)
    distance = CAMERA_DISTANCE_DM - float(place[2])
    a, b, c = 1.0 + x * x + y * y, -2.0 * distance, distance**2 - 0.8**2
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))
    depth = np.where(b * b > 4 * a * c, (-b - root) / (2 * a), np.inf)
    errors, hidden = module.reprojection_errors_px(depth, frames[0], depth, frames[1], focal)
    assert len(errors) > 500 and np.quantile(errors, 0.95) < 0.05 and hidden < 0.2
    wavy = depth + 0.05 * np.sin(np.arange(size) / 3.0)
    errors, _ = module.reprojection_errors_px(wavy, frames[0], wavy, frames[1], focal)
    assert np.quantile(errors, 0.95) > 0.02


def test_the_orbit_shows_one_surface(astronaut_portrait: PreparedPortrait) -> None:
    module = benchmark()
    errors, hidden = module.measure(pipeline.Portrait(astronaut_portrait, avatar="lifted"), 10.0)
    assert len(errors) > 10_000 and hidden < 0.05
    assert np.quantile(errors, 0.95) < 1.0
