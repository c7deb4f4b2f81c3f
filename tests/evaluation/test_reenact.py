"""The reenactment protocol with fakes: a painted face whose motion is known, so that every figure can be foretold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triportrait.errors import MediaError, NoFaceFound, OutputError, TriPortraitError
from triportrait.evaluation import clip_folder, reenact
from triportrait.evaluation.metrics import CHIN, FOREHEAD
from triportrait.evaluation.parts import ReenactTools
from triportrait.evaluation.reenact import ReenactOptions, run_reenact
from triportrait.geometry.crops import cut
from triportrait.types import FaceTrack, Motion, MotionFrame, PreparedPortrait

SIDE = 256
FRAMES = 46


def face(shift: float) -> np.ndarray:
    """478 points in a disc, moved right by ``shift`` pixels."""
    i = np.arange(478)
    radius, turn = 40 * np.sqrt((i + 0.5) / 478), i * 2.399963
    points = np.stack([100 + radius * np.cos(turn), 120 + radius * np.sin(turn)], -1)
    points[FOREHEAD], points[CHIN] = (100, 80), (100, 160)
    return points + (shift, 0)


def picture(shift: int) -> np.ndarray:
    """A striped square moved right by ``shift`` pixels; its place can be read back from the pixels."""
    image = np.full((SIDE, SIDE, 3), 60, np.uint8)
    image[70:170, 50 + shift : 150 + shift] = 180
    image[70:170:4, 50 + shift : 150 + shift, 1] = 120
    return image


def shift_of(image: np.ndarray) -> int:
    return int(np.argmax(image[len(image) // 2, :, 0] > 100)) * SIDE // len(image) - 50


class Fakes:
    """Clips shift by a pixel every second frame; ``still`` ignores that, ``follow`` does it, ``late`` lags 4 pixels."""

    def __init__(self) -> None:
        self.prepared: list[int] = []
        self.tracked: list[int] = []

    def read_frames(self, path: Path) -> tuple[float, Iterator[np.ndarray]]:
        content = path.read_bytes()
        if content == b"broken":
            raise MediaError(f"{path.name} is broken; record it again.")
        count = int(content)
        return 25.0, (picture(i // 2) for i in range(count))

    def prepare_portrait(self, first: np.ndarray) -> PreparedPortrait:
        self.prepared.append(shift_of(first))
        zeros = np.zeros((SIDE, SIDE), np.float32)
        rest = MotionFrame(np.zeros(44, np.float32), np.zeros(3, np.float32), np.zeros(3), np.zeros(2))
        landmarks = np.concatenate([face(0), np.zeros((478, 1))], -1).astype(np.float32)
        return PreparedPortrait(
            photo=first,
            crop_box=(0.0, 0.0, float(SIDE)),
            image=first,
            person_alpha=zeros,
            head_alpha=zeros,
            torso=np.zeros((SIDE, SIDE, 4), np.uint8),
            background=first,
            landmarks=landmarks,
            identity=np.zeros(80, np.float32),
            vertex_offset=np.zeros((1, 3), np.float32),
            motion=rest,
        )

    def drive(self, portrait: PreparedPortrait, frames, fps: float) -> Motion:
        shifts = np.array([shift_of(frame) for frame in frames])
        rotation = np.zeros((len(shifts), 3), np.float32)
        rotation[:, 1] = np.radians(shifts / 2)
        landmarks = np.stack([face(s) for s in shifts]).astype(np.float32)
        zeros = np.zeros((len(shifts), 3), np.float32)
        return Motion(np.zeros((len(shifts), 44), np.float32), rotation, zeros, zeros[:, :2], fps, landmarks=landmarks)

    def make_renderer(self, name: str, portrait: PreparedPortrait):
        moves = {"still": lambda s: 0, "follow": lambda s: s, "late": lambda s: max(0, s - 4)}
        if name not in moves:
            raise TriPortraitError(f"there is no avatar {name}; choose still or follow.")
        return lambda frame: picture(moves[name](round(float(frame.landmarks[0, 0] - face(0)[0, 0]))))

    def track(self, frames) -> FaceTrack:
        shifts = [shift_of(frame) for frame in frames]
        self.tracked.append(len(shifts))
        points = np.stack([np.concatenate([face(s), np.zeros((478, 1))], -1) for s in shifts]).astype(np.float32)
        return FaceTrack(points, np.ones(len(shifts), bool), (SIDE, SIDE))

    def tools(self) -> ReenactTools:
        return ReenactTools(self.read_frames, self.prepare_portrait, self.drive, self.make_renderer, self.track, cut)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips ü"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(str(FRAMES).encode())
    (folder / "b.mp4").write_bytes(b"21")
    (folder / "notes.txt").write_text("not a clip")
    return folder


def options(clips: Path, *avatars: str, **changes) -> ReenactOptions:
    names = avatars or ("still", "follow", "late")
    return ReenactOptions(clips, names, clips.parent / "out" / "report.json", **{"plots": False, **changes})


def load(path: Path) -> dict:
    def refuse(word: str) -> float:
        raise AssertionError(f"{word} in strict JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_figures_are_the_foretold_ones(clips):
    wanted = options(clips)
    report = run_reenact(wanted, tools=Fakes().tools())
    assert report == load(wanted.out)
    assert report["complete"] and list(report["clips"]) == ["a.mp4", "b.mp4"]
    entry = report["clips"]["a.mp4"]
    assert (entry["frames"], entry["evaluated_frames"], entry["window_frames"]) == (46, 9, 30)
    # Frames 5, 10 .. 45 are shifted by half their number, rounded down; the pose by a quarter of it in degrees.
    shifts = np.arange(5, 46, 5) // 2
    assert entry["largest_rotation_deg"] == pytest.approx(shifts.max() / 2, abs=1e-4)
    still, follow, late = (entry["avatars"][name]["metrics"] for name in wanted.avatars)
    assert follow["l1"] == pytest.approx(0, abs=1e-6) and follow["ssim"] == pytest.approx(1, abs=1e-4)
    assert follow["akd_px"] == pytest.approx(0, abs=1e-4)
    assert still["akd_px"] == pytest.approx(shifts.mean(), abs=1e-3)
    assert late["akd_px"] == pytest.approx(np.minimum(shifts, 4).mean(), abs=1e-3)
    assert still["l1"] > late["l1"] > follow["l1"]
    assert follow["jitter_ratio"] == pytest.approx(1.0) and still["jitter_ratio"] == pytest.approx(0.0)
    assert follow["lip_opening_error"] == pytest.approx(0, abs=1e-6)
    counts = entry["avatars"]["still"]["frames_by_rotation"]
    assert counts == {
        "0_4": int((shifts < 8).sum()),
        "4_8": int(((shifts >= 8) & (shifts < 16)).sum()),
        "8_15": int((shifts >= 16).sum()),
        "15_30": 0,
    }
    assert still["head_psnr_4_8_db"] > still["head_psnr_8_15_db"]
    assert still["head_psnr_15_30_db"] is None
    assert "15 to 30" in entry["avatars"]["still"]["reasons"]["head_psnr_15_30_db"]


def test_mean_and_markdown(clips):
    wanted = options(clips, "still", "follow")
    report = run_reenact(wanted, tools=Fakes().tools())
    first, second = (report["clips"][name]["avatars"]["still"] for name in ("a.mp4", "b.mp4"))
    mean = report["mean"]["still"]
    assert mean["clips"] == 2
    assert mean["metrics"]["akd_px"] == pytest.approx(0.5 * (first["metrics"]["akd_px"] + second["metrics"]["akd_px"]))
    frames = [entry["frames_by_rotation"]["0_4"] for entry in (first, second)]
    pooled = np.average([entry["metrics"]["head_psnr_0_4_db"] for entry in (first, second)], weights=frames)
    assert mean["metrics"]["head_psnr_0_4_db"] == pytest.approx(pooled)
    text = wanted.out.with_suffix(".md").read_text(encoding="utf-8")
    assert "| still |" in text and "**0.0000**" in text and "### b.mp4" in text and "Unfinished" not in text


def test_one_bad_clip_and_one_bad_avatar_do_not_stop_the_run(clips):
    (clips / "aa.mp4").write_bytes(b"broken")
    (clips / "c.mp4").write_bytes(b"3")
    report = run_reenact(options(clips, "follow", "nonsense"), tools=Fakes().tools())
    assert report["complete"]
    assert report["clips"]["aa.mp4"] == {
        "status": "failed",
        "reason": "aa.mp4 is broken; record it again.",
        "file_bytes": 6,
    }
    assert "one frame in 5" in report["clips"]["c.mp4"]["reason"]
    assert report["clips"]["a.mp4"]["avatars"]["nonsense"]["reason"].startswith("there is no avatar nonsense")
    assert report["clips"]["a.mp4"]["avatars"]["follow"]["status"] == "ok"
    # A mean compares rows over the same clips only: here there are none.
    assert report["mean"]["follow"]["clips"] == 0 and report["mean"]["follow"]["metrics"]["l1"] is None
    assert "nonsense" in (clips.parent / "out" / "report.md").read_text()


def test_unexpected_errors_are_named_and_reported(clips):
    fakes = Fakes()

    def prepare(first):
        raise RuntimeError("inside")

    with pytest.raises(TriPortraitError, match="RuntimeError: inside"):
        run_reenact(options(clips), tools=replace(fakes.tools(), prepare_portrait=prepare))
    assert load(options(clips).out)["clips"]["b.mp4"]["reason"] == "RuntimeError: inside"


def test_interrupted_run_goes_on_and_equals_an_uninterrupted_one(clips):
    fakes, wanted = Fakes(), options(clips, "late")

    def stop_at_second(progress):
        if progress.clip_index == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_reenact(wanted, tools=fakes.tools(), progress=stop_at_second)
    partial = load(wanted.out)
    assert not partial["complete"] and list(partial["clips"]) == ["a.mp4"]
    assert "Unfinished" in wanted.out.with_suffix(".md").read_text()
    assert len(fakes.prepared) == 1

    resumed = run_reenact(wanted, tools=fakes.tools())
    assert len(fakes.prepared) == 2, "the first clip is not measured again"
    whole = run_reenact(replace(wanted, out=clips.parent / "whole.json"), tools=Fakes().tools())
    timed = ("prepare_s", "drive_s", "render_ms")

    def figures(value):
        if isinstance(value, dict):
            return {k: figures(v) for k, v in value.items() if k not in (*timed, "options")}
        return value

    assert figures(resumed) == figures(whole)
    # A finished report is not a partial one: asking again measures again.
    run_reenact(wanted, tools=fakes.tools())
    assert len(fakes.prepared) == 4


def test_changed_options_or_files_start_afresh(clips):
    fakes, wanted = Fakes(), options(clips, "late")
    unfinished = run_reenact(wanted, tools=fakes.tools())
    text = json.dumps({**unfinished, "complete": False})
    wanted.out.write_text(text)
    run_reenact(replace(wanted, every=4), tools=fakes.tools())
    assert len(fakes.prepared) == 4
    wanted.out.write_text(text)
    (clips / "b.mp4").write_bytes(b"021")
    run_reenact(wanted, tools=fakes.tools())
    assert len(fakes.prepared) == 5


def test_filled_box_and_pixels_outside_the_picture_do_not_count(clips):
    (clips / "index.csv").write_text("file,filled_box_xyxy\na.mp4,0 150 256 256\nb.mp4,\n")
    assert clip_folder.read_filled_boxes(clips) == {"a.mp4": (0, 150, 256, 256)}
    inside = reenact.counted_pixels((-64.0, 0.0, 512.0), 256, (400, 512), (0, 444, 131, 512))
    assert not inside[:, :32].any() and inside[10, 33] and not inside[:, 232:].any() and inside[10, 230]
    assert not inside[230:, 32:97].any() and inside[219, 40] and inside[250, 100]

    fakes = Fakes()

    def make_renderer(name, portrait):
        def render(frame):
            image = picture(round(float(frame.landmarks[0, 0] - face(0)[0, 0])))
            image[175:] = 255
            return image

        return render

    report = run_reenact(options(clips, "any"), tools=replace(fakes.tools(), make_renderer=make_renderer))
    assert report["clips"]["a.mp4"]["avatars"]["any"]["metrics"]["l1"] == pytest.approx(0, abs=1e-6)
    assert report["clips"]["b.mp4"]["avatars"]["any"]["metrics"]["l1"] > 0.1
    (clips / "index.csv").write_text("file,filled_box_xyxy\na.mp4,0 150 256\n")
    with pytest.raises(MediaError, match="left top right bottom"):
        run_reenact(options(clips), tools=fakes.tools())


def test_frames_without_a_face_are_left_out_and_reported(clips):
    fakes = Fakes()

    def track(frames):
        found = fakes.track(frames)
        return replace(found, found=np.arange(len(found)) % 2 == 0)

    entry = run_reenact(options(clips, "follow"), tools=replace(fakes.tools(), track=track))["clips"]["a.mp4"]
    measured = entry["avatars"]["follow"]
    assert measured["metrics"]["faces_found"] == pytest.approx(5 / 9)
    assert measured["metrics"]["akd_px"] == pytest.approx(0, abs=1e-4)
    assert measured["metrics"]["jitter_ratio"] is None and "consecutive" in measured["reasons"]["jitter_ratio"]
    assert sum(measured["frames_by_rotation"].values()) == 5

    def blind(frames):
        return replace(fakes.track(frames), found=np.zeros(len(list(frames)) or fakes.tracked[-1], bool))

    with pytest.raises(NoFaceFound, match="no face"):
        reenact.evaluate_clip(clips / "a.mp4", options(clips), replace(fakes.tools(), track=blind))


def test_sheets_and_limit(clips):
    from PIL import Image

    wanted = options(clips, "still", "nonsense", sheets=True, limit=1, side_px=200)
    report = run_reenact(wanted, tools=Fakes().tools())
    assert list(report["clips"]) == ["a.mp4"]
    sheet = Image.open(wanted.out.parent / "report_sheets" / "a.png")
    assert sheet.width > 8 * 200 and sheet.height > 3 * 200


def test_without_a_window_jitter_is_null(clips):
    report = run_reenact(options(clips, "follow", window=0), tools=Fakes().tools())
    entry = report["clips"]["a.mp4"]["avatars"]["follow"]
    assert entry["metrics"]["jitter_px"] is None and entry["metrics"]["flicker"] is None
    assert entry["metrics"]["akd_px"] == pytest.approx(0, abs=1e-4)


def test_progress_counts_up(clips):
    seen = []
    run_reenact(options(clips, "follow"), tools=Fakes().tools(), progress=seen.append)
    drawn = [p for p in seen if p.clip == "a.mp4" and p.stage == "follow"]
    assert [p.done for p in drawn] == list(range(1, 40)) and {p.total for p in drawn} == {39}
    assert {p.clip_index for p in seen} == {0, 1} and {p.clips for p in seen} == {2}


def test_user_errors_are_said_at_once(clips, tmp_path):
    tools = Fakes().tools()
    with pytest.raises(MediaError, match="not a folder"):
        run_reenact(options(tmp_path / "none"), tools=tools)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MediaError, match="no video"):
        run_reenact(options(tmp_path / "empty"), tools=tools)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run_reenact(replace(options(clips), out=tmp_path / "file" / "report.json"), tools=tools)
    for wrong in ({"every": 0}, {"limit": 0}, {"side_px": 100}, {"avatars": ()}, {"avatars": ("a", "a")}):
        with pytest.raises(TriPortraitError):
            replace(options(clips), **wrong)
