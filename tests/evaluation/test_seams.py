"""Seams of turned heads with fakes: a drawn head that moves sideways as it turns, torn or blurred on demand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation.test_reenact import load
from evaluation.test_regions import SIDE, landmarks, person, picture
from triportrait.errors import MediaError
from triportrait.evaluation.parts import ReenactTools
from triportrait.evaluation.seams import SeamOptions, SeamTools, beyond_usual, drawn_portraits, run_seams, unsteady_gradient
from triportrait.types import FaceTrack, Motion, MotionFrame, PreparedPortrait


def shift_of(image: np.ndarray) -> int:
    """Where the head stands, written into a corner of the picture."""
    return int(image[0, 0, 0]) - 100


def head(shift: int, spoilt: str = "") -> np.ndarray:
    image = picture((shift, 0))
    if spoilt == "blurred":
        image = cv2.GaussianBlur(image, (0, 0), 4)
    if spoilt == "torn":
        specks = np.random.default_rng(0).uniform(0, 1, (SIDE, SIDE)) < 0.08
        image[specks] = 255 - image[specks]
    image[0, 0] = 100 + shift
    return image


def portrait_of(image: np.ndarray) -> PreparedPortrait:
    points = np.concatenate([landmarks() + (shift_of(image), 0), np.zeros((478, 1))], -1).astype(np.float32)
    rest = MotionFrame(np.zeros(44, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(2, np.float32))
    zeros = np.zeros((SIDE, SIDE), np.float32)
    torso = np.zeros((SIDE, SIDE, 4), np.uint8)
    offset = np.zeros((1, 3), np.float32)
    return PreparedPortrait(image, (0.0, 0.0, SIDE), image, zeros, zeros, torso, image, points, np.zeros(80), offset, rest)


def fakes() -> SeamTools:
    """A head turned by 20 degrees moves 10 pixels; 'plain' does that alone, 'blind' hides the face in wide turns."""

    def make_renderer(name: str, portrait: PreparedPortrait):
        def draw(frame: MotionFrame) -> np.ndarray:
            shift = shift_of(portrait.image) + round(float(np.degrees(frame.rotation_rad[1])) / 2)
            return np.zeros_like(portrait.image) if name == "blind" and abs(shift) > 8 else head(shift, name)

        return draw

    def track(pictures) -> FaceTrack:
        (image,) = pictures
        points = np.concatenate([landmarks() + (shift_of(image), 0), np.zeros((478, 1))], -1)[None].astype(np.float32)
        return FaceTrack(points, np.array([bool(image.any())]), (SIDE, SIDE))

    def fit(portrait: PreparedPortrait, points: np.ndarray) -> Motion:
        away = points[:, 0, 0] - portrait.landmarks[0, 0]
        rotation = np.radians(np.stack([0 * away, 2 * away, 0 * away], -1)).astype(np.float32)
        return Motion(np.zeros((len(away), 44), np.float32), rotation, 0 * rotation, 0 * rotation[:, :2])

    def matte(image: np.ndarray) -> np.ndarray:
        return cv2.warpAffine(person(), np.float32([[1, 0, shift_of(image)], [0, 1, 0]]), (SIDE, SIDE))

    base = ReenactTools(lambda path: None, portrait_of, lambda *_: None, make_renderer, track, lambda *_: None, fit, matte)
    return SeamTools(base, lambda path: head(0), lambda image, points: portrait_of(image))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = [f"{i}.jpg" for i in range(6)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "index.csv").write_text("file,split\n" + "".join(f"{name},{'train' if name == '0.jpg' else 'val'}\n" for name in names))
    return tmp_path


def test_tears_break_and_blur_smears_and_a_moved_head_does_neither(folder: Path) -> None:
    options = SeamOptions(folder, ("plain", "torn", "blurred", "blind"), folder / "out" / "seams.json", limit=1, sheets=True)
    report = run_seams(options, tools=fakes())
    assert report == load(options.out) and report["complete"]
    plain, torn, blurred, blind = (report["mean"][name]["metrics"] for name in options.avatars)
    assert plain["breaks_all"] < 3 and 5 < plain["smears_all"] < 15
    assert torn["breaks_all"] > 10 and blurred["smears_all"] > 60
    assert plain["cycle_l1"] < 0.01 < blurred["cycle_hair_ears_neck"]
    assert plain["faces_found"] == 1 and blind["faces_found"] == pytest.approx(2 / 3)
    assert blind["breaks_yaw_20"] is None and blind["breaks_yaw_12"] is not None
    text = options.out.with_suffix(".md").read_text(encoding="utf-8")
    assert "| torn |" in text and "Cycle error" in text
    assert len(list((folder / "out" / "seams_sheets").iterdir())) == 1


def test_photographs_are_drawn_by_the_seed_from_those_held_out(folder: Path) -> None:
    every = [item.name for item in drawn_portraits(folder, None, 0)]
    assert sorted(every) == [f"{i}.jpg" for i in range(1, 6)]
    assert [item.name for item in drawn_portraits(folder, 3, 0)] == every[:3]
    assert len({tuple(item.name for item in drawn_portraits(folder, None, seed)) for seed in range(5)}) > 1
    with pytest.raises(MediaError):
        drawn_portraits(folder / "none", None, 0)


def test_one_bad_avatar_is_reported(folder: Path) -> None:
    tools = fakes()

    def make_renderer(name: str, portrait: PreparedPortrait):
        if name == "bad":
            raise MediaError("bad cannot draw; choose another.")
        return tools.base.make_renderer(name, portrait)

    options = SeamOptions(folder, ("bad", "plain"), folder / "seams.json", limit=1)
    report = run_seams(options, tools=replace(tools, base=replace(tools.base, make_renderer=make_renderer)))
    (entry,) = report["clips"].values()
    assert entry["avatars"]["bad"] == {"status": "failed", "reason": "bad cannot draw; choose another."}
    assert entry["avatars"]["plain"]["status"] == "ok"


def test_straight_edges_are_steady_and_teeth_are_not() -> None:
    straight = np.full((512, 512, 3), 40, np.uint8)
    straight[:, 256:] = 220
    toothed = straight.copy()
    toothed[::8, 256:260] = toothed[1::8, 256:260] = toothed[2::8, 256:260] = toothed[3::8, 256:260] = 40
    band = slice(100, 400), slice(250, 264)
    assert unsteady_gradient(straight)[band].max() < 1e-3 < 1e-2 < unsteady_gradient(toothed)[band].mean()
    usual = np.linspace(0, 1, 1001)
    assert beyond_usual(usual, usual) == pytest.approx((0.01, 0.1), abs=2e-3)
