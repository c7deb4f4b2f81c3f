"""Cross identity, audio-driven, and the paper's tables, with the fakes of the reenactment tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation.test_reenact import FRAMES, Fakes, face, load, shift_of
from triportrait.errors import MediaError, OptionError
from triportrait.evaluation.audio import AudioOptions, run_audio
from triportrait.evaluation.command import run_protocol
from triportrait.evaluation.cross import CrossOptions, pairs_of, run_cross
from triportrait.evaluation.metrics import LIP_PAIRS
from triportrait.evaluation.parts import ActingTools, landmarks_of_motion
from triportrait.evaluation.printed import is_measured, printed
from triportrait.evaluation.tables import TableOptions, run_table
from triportrait.types import FaceTrack, Motion, PreparedPortrait, Waveform

RATE = 16_000


class Actors(Fakes):
    """The painted face moves right with the motion's jaw; its lips part with its place, so that lips can be correlated."""

    def motion(self, shifts) -> Motion:
        shifts = np.asarray(shifts, np.float32)
        expression = np.zeros((len(shifts), 44), np.float32)
        expression[:, 16] = shifts / 40
        zeros = np.zeros((len(shifts), 3), np.float32)
        rotation = np.zeros_like(zeros)
        rotation[:, 1] = np.radians(shifts / 2)
        landmarks = np.stack([face(s) for s in shifts]).astype(np.float32)
        return Motion(expression, rotation, zeros, zeros[:, :2], 25.0, landmarks=landmarks)

    def track(self, frames) -> FaceTrack:
        shifts = [shift_of(frame) for frame in frames]
        points = np.stack([np.concatenate([face(s), np.zeros((478, 1))], -1) for s in shifts]).astype(np.float32)
        for upper, lower in LIP_PAIRS:
            points[:, lower, :2] = points[:, upper, :2] + np.array([0, 1]) * np.array(shifts, np.float32)[:, None]
        return FaceTrack(points, np.ones(len(shifts), bool), (256, 256))

    def acting(self) -> ActingTools:
        def fit(portrait: PreparedPortrait, landmarks) -> Motion:
            return self.motion(landmarks[:, 0, 0] - face(0)[0, 0]).with_rows(landmarks=None)

        def talk(portrait: PreparedPortrait, path: Path, pose: str, seed: int) -> Motion:
            return self.motion(np.arange(int(path.read_bytes())) // 2 * (1 if pose == "natural" else 0))

        def lend(portrait: PreparedPortrait, voice: Motion, clip: Motion) -> Motion:
            return self.motion(np.resize(clip.expression[:, 16] * 40, len(voice)))

        tone = np.sin(np.arange(RATE * 4) * 0.2) * np.repeat(np.arange(100) // 2 / 50, RATE * 4 // 100)
        return ActingTools(
            replace(self.tools(), fit=fit),
            talk,
            lambda path: self.motion(np.arange(int(path.read_bytes())) // 2),
            lambda portrait, motion: motion,
            lambda portrait, motion: self.motion(motion.expression[:, 16] * 40),
            self.track,
            lambda path: Waveform(tone.astype(np.float32), RATE),
            lend,
            lambda *asked: None,
            lambda motion, wave: (0.5, 0.25, 1.0),
        )


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, count in (("a", FRAMES), ("b", 30), ("c", 40)):
        (folder / f"{name}.mp4").write_bytes(str(count).encode())
    return folder


def test_every_clip_is_source_once_and_driver_once(clips):
    pairs = pairs_of(sorted(clips.iterdir()))
    assert [item.name for item in pairs] == ["a by b", "b by c", "c by a"]
    with pytest.raises(MediaError, match="two clips"):
        pairs_of([clips / "a.mp4"])


def test_cross_judges_motion_against_the_drivers(clips):
    out = clips.parent / "cross.json"
    report = run_cross(CrossOptions(clips, ("still", "follow", "nonsense"), out, sheets=True, plots=False), tools=Actors().acting())
    assert report == load(out) and report["complete"]
    assert report["clips"]["a by b"]["avatars"]["nonsense"]["status"] == "failed"
    report = run_cross(CrossOptions(clips, ("still", "follow"), out), tools=Actors().acting())
    still, follow = (report["mean"][name]["metrics"] for name in ("still", "follow"))
    assert follow["aed"] == pytest.approx(0, abs=1e-6) and follow["apd_rad"] == pytest.approx(0, abs=1e-6)
    assert still["aed"] > 0 and still["apd_rad"] > 0
    assert follow["lip_correlation"] == pytest.approx(1, abs=1e-3) and still["lip_correlation"] is None
    assert follow["jitter_ratio"] == pytest.approx(1, abs=1e-3)
    assert follow["csim"] is None and "--metric-weights" in report["mean"]["follow"]["reasons"]["csim"]
    text = out.with_suffix(".md").read_text()
    assert "Cross-identity" in text and "| follow |" in text and (clips.parent / "cross_bars.png").is_file()
    assert (clips.parent / "cross_sheets" / "a_by_b.png").is_file()


def test_audio_judges_lips_against_the_real_ones_and_the_sound(clips):
    out = clips.parent / "audio.json"
    wanted = AudioOptions(clips, ("still", "follow"), out, sheets=True, limit=2)
    report = run_audio(wanted, tools=Actors().acting())
    assert report == load(out) and report["complete"] and list(report["clips"]) == ["a.mp4", "b.mp4"]
    still, follow = (report["mean"][name]["metrics"] for name in ("still", "follow"))
    assert follow["aed"] == pytest.approx(0, abs=1e-6) and follow["lmd_px"] == pytest.approx(0, abs=1e-4)
    assert follow["lip_correlation"] == pytest.approx(1, abs=1e-3) and follow["lip_lag"] == 0
    assert still["lip_correlation"] is None and still["lip_dynamics"] < follow["lip_dynamics"]
    assert follow["head_motion_score"] == pytest.approx(1) and still["head_motion_score"] == pytest.approx(0, abs=1e-6)
    assert (follow["curve_sync"], follow["curve_sync_lag"]) == (0.5, 1.0)
    assert follow["loudness_correlation"] > 0.9
    assert follow["psnr_db"] is None and "--pose clip" in report["mean"]["follow"]["reasons"]["psnr_db"]
    assert follow["lse_c"] is None and "syncnet" in report["mean"]["follow"]["reasons"]["lse_c"]
    real = report["real_mean"]["metrics"]
    assert real["head_motion"] == pytest.approx(follow["head_motion"]) and real["lip_correlation"] is None
    text = out.with_suffix(".md").read_text()
    assert "*real video*" in text and "LSE-C is not measured" in text and (clips.parent / "audio_bars.png").is_file()

    report = run_audio(replace(wanted, pose="clip", seconds=1.0, plots=False), tools=Actors().acting())
    assert report["clips"]["a.mp4"]["frames"] == 25
    assert report["mean"]["follow"]["metrics"]["l1"] == pytest.approx(0, abs=1e-6)
    assert report["mean"]["still"]["metrics"]["l1"] > 0.001
    silent = replace(Actors().acting(), read_voice=lambda path: (_ for _ in ()).throw(MediaError("a.mp4 has no sound track; give one.")))
    with pytest.raises(MediaError.__mro__[1], match="no sound track"):
        run_audio(wanted, tools=silent)


def test_a_clip_of_another_folder_lends_its_head_motion(clips, monkeypatch):
    """D.1: of the ten clips whose first frame is nearest to the portrait's pose one is drawn by the seed."""
    library = clips.parent / "library"
    library.mkdir()
    for number in range(12):
        (library / f"lender{number:02}.mp4").write_bytes(str(40 + number).encode())
    asked: list[Path] = []

    def first_pose(clip: Path):
        asked.append(clip)
        return np.radians([0.0, 2.0 * int(clip.stem[-2:]), 0.0])

    monkeypatch.setattr("triportrait.evaluation.audio.first_pose_of_clip", first_pose)
    out, cache = clips.parent / "audio.json", clips.parent / "cache"
    wanted = AudioOptions(clips, ("still", "follow"), out, plots=False, head_motion=library, cache=cache)
    report = run_audio(wanted, tools=Actors().acting())
    lent = {name: clip["head_motion"] for name, clip in report["clips"].items()}
    assert len(asked) == 12 and set(lent.values()) <= {f"lender{number:02}.mp4" for number in range(10)}
    text = wanted.out.with_suffix(".md").read_text()
    assert "one of the 10 clips of" in text and "(D.1)" in text
    # The head of the made video moves as the lender's, not as the clip's own or a made-up one.
    assert report["mean"]["follow"]["metrics"]["head_motion"] > 0
    again = run_audio(replace(wanted, out=clips.parent / "again.json"), tools=Actors().acting())
    assert {name: clip["head_motion"] for name, clip in again["clips"].items()} == lent and len(asked) == 12, "one index, one draw"
    drawn = set()
    for seed in range(1, 9):
        other = run_audio(replace(wanted, seed=seed, limit=1, out=clips.parent / f"{seed}.json"), tools=Actors().acting())
        drawn.add(other["clips"]["a.mp4"]["head_motion"])
    assert len(drawn) > 2
    table = run_table(
        TableOptions(clips, ("follow",), clips.parent / "t.json", limit=1, plots=False, number="2", head_motion=library, seed=3),
        tools=Actors().acting(),
    )
    run = load(clips.parent / "t_audio.json")
    assert table["ours"]["follow"]["audio"]["metrics"]["aed"] is not None and run["options"]["head_motion"] == str(library)
    assert run["clips"]["a.mp4"]["head_motion"].startswith("lender")


def test_an_avatar_with_a_voice_network_of_its_own_speaks_by_it(clips):
    actors = Actors()

    def speak(name, portrait, path, asked, seed):
        if name != "follow":
            return None
        render = actors.acting().base.make_renderer("follow", portrait)
        return (render(frame) for frame in actors.motion(np.zeros(len(asked))))

    wanted = AudioOptions(clips, ("follow", "still"), clips.parent / "audio.json", limit=1, plots=False)
    report = run_audio(wanted, tools=replace(actors.acting(), speak=speak))
    rows = report["clips"]["a.mp4"]["avatars"]
    assert rows["follow"]["own_voice"] and not rows["still"]["own_voice"]
    assert rows["follow"]["metrics"]["lip_dynamics"] == pytest.approx(rows["still"]["metrics"]["lip_dynamics"])
    assert "follow turned the voice into expressions by its own network" in wanted.out.with_suffix(".md").read_text()


def test_a_curve_expert_that_fails_costs_only_its_own_figures(clips):
    def fails(motion, wave):
        raise RuntimeError("wrong shape")

    wanted = AudioOptions(clips, ("follow",), clips.parent / "audio.json", limit=1, plots=False)
    report = run_audio(wanted, tools=replace(Actors().acting(), curve_sync=fails))
    assert report["mean"]["follow"]["reasons"]["curve_sync"] == "RuntimeError: wrong shape"
    assert report["mean"]["follow"]["metrics"]["lip_correlation"] is not None
    report = run_audio(wanted, tools=replace(Actors().acting(), curve_sync=None))
    assert "curve expert" in report["mean"]["follow"]["reasons"]["curve_sync"]


@pytest.mark.parametrize("number", ["1", "2", "4", "7"])
def test_tables_put_our_rows_beside_the_printed_ones(clips, number):
    out = clips.parent / f"table{number}.json"
    variants = {"concatenation": "still"} if number == "4" else {}
    wanted = TableOptions(clips, ("still", "follow"), out, limit=2, number=number, variants=variants, plots=False)
    report = run_table(wanted, tools=Actors().acting())
    assert report == load(out) and report["printed"] == printed()["tables"][number]["rows"]
    text = out.with_suffix(".md").read_text()
    assert "printed, other data" in text and "## What is not comparable" in text and "Every cell was read in the paper's own text" in text
    printed_row = {
        "1": "| *HiDe-NeRF (printed, other data)* | 0.084 |",
        "2": "| *PC-AVS (printed, other data)* | 0.327 |",
        "4": "| *w/ concat (printed, other data)* | 0.737 |",
        "7": "| *MCNet (printed, other data)* | 0.758 |",
    }
    assert printed_row[number] in text
    if number == "4":
        ours = report["ours"]
        assert ours["concatenation"]["cross"]["metrics"]["aed"] > 0
        assert ours["full"]["cross"]["metrics"] == dict.fromkeys(("csim", "fid", "aed", "apd_rad"))
        assert "--variant" in ours["full"]["cross"]["reasons"]["aed"]
    else:
        protocol = {"1": "same", "2": "audio", "7": "cross"}[number]
        assert report["ours"]["follow"][protocol]["metrics"]["aed"] == pytest.approx(0, abs=1e-6)
        assert report["ours"]["follow"][protocol]["metrics"]["csim"] is None
        assert "--metric-weights" in report["ours"]["follow"][protocol]["reasons"]["csim"]


@pytest.mark.parametrize(("number", "protocol"), [("1", "same"), ("1", "cross"), ("2", "audio")])
def test_the_runs_of_a_table_take_its_settings(clips, number, protocol):
    out = clips.parent / "table.json"
    wanted = TableOptions(clips, ("follow",), out, every=4, limit=2, side_px=192, plots=False, number=number, seconds=2.0)
    run_table(wanted, tools=Actors().acting())
    options = load(out.with_name(f"table_{protocol}.json"))["options"]
    assert (options["every"], options["limit"], options["side_px"], options["plots"]) == (4, 2, 192, False)


def test_printed_figures_name_columns_and_rows_that_exist():
    for number, table in printed()["tables"].items():
        for row in table["rows"].values() if is_measured(number) else ():
            assert {protocol: list(values) for protocol, values in row.items()} == table["columns"]


def asked(clips: Path, protocol: str, /, **changes) -> SimpleNamespace:
    fields = {
        "protocol": protocol,
        "clips": clips,
        "out": clips.parent / "x.json",
        "number": None,
        "avatar": "still",
        "every": 5,
        "sheets": False,
        "limit": None,
        "metric_weights": None,
        "jobs": 1,
        "cache": None,
        "plots": True,
        "seconds": 10.0,
        "pose": "natural",
        "seed": 0,
        "variant": (),
        "head_motion": None,
        "portraits": None,
        "videos": None,
        "answers": (),
        "kit": None,
        "given": 0.5,
        "given_clips": (),
        "judged_clips": (),
        "rows": (),
        "learn": 4.0,
        "voice_driver": "natural",
    }
    return SimpleNamespace(**(fields | changes))


def test_options_that_do_not_go_together_are_refused(clips):
    for protocol, changes, words in (
        ("reenact", {"pose": "still"}, "--pose does nothing"),
        ("cross", {"number": "1"}, "'1' does nothing"),
        ("table", {}, "needs a number"),
        ("table", {"number": "4", "variant": ("full",)}, "ROW=AVATAR"),
        ("table", {"number": "1", "variant": ("full=lifted",)}, "no row of table 4"),
        ("table", {"number": "4", "variant": ("half=lifted",)}, "no row of table 4"),
        ("audio", {"seconds": 0.2}, "--seconds"),
        ("audio", {"every": 0}, "--every"),
        ("audio", {"clips": None}, "needs --clips FOLDER"),
        ("audio", {"out": None}, "needs -o REPORT.json"),
        ("audio", {"head_motion": clips / "a.mp4"}, "takes a folder"),
        ("audio", {"head_motion": clips, "pose": "clip"}, "give one of them"),
        ("cross", {"head_motion": clips}, "--head-motion does nothing"),
        ("table", {"number": "1", "head_motion": clips}, "belongs to table 2"),
        ("table", {"number": "5", "seed": 3, "clips": None}, "--seed does nothing with evaluate table 5"),
        ("reenact", {"answers": (clips / "a.csv",)}, "--answers does nothing"),
        ("seams", {"clips": None, "every": 2}, "--every does nothing with evaluate seams"),
        ("seams", {"clips": None}, "needs --portraits FOLDER"),
        ("seams", {"clips": None, "portraits": clips, "jobs": 0}, "--jobs"),
        ("reenact", {"portraits": clips}, "--portraits does nothing"),
        ("reenact", {"learn": 2.0}, "--learn does nothing with evaluate reenact"),
        ("personal", {"learn": 2.0}, "--learn does nothing without a row that has a network"),
        ("opinions", {}, "--clips does nothing"),
        ("opinions", {"clips": None}, "takes --videos FOLDER"),
        ("opinions", {"clips": None, "videos": clips, "out": None}, "needs -o KIT"),
        ("opinions", {"clips": None, "answers": (clips / "a.csv",), "seed": 1}, "--seed does nothing"),
    ):
        with pytest.raises(OptionError, match=words):
            run_protocol(asked(clips, protocol, **changes))
    with pytest.raises(OptionError, match="table 3 is none that clips are measured for; use 1, 2, 4, 7"):
        TableOptions(clips, ("still",), clips / "x.json", number="3")


def test_landmarks_of_a_motion_start_at_the_photos_own(astronaut_portrait, open_head):
    frame = astronaut_portrait.motion
    rows = {name: np.stack([getattr(frame, name)] * 2) for name in ("expression", "rotation_rad", "translation", "gaze_rad")}
    rows["rotation_rad"][1, 1] += 0.2
    rows["translation"][1, 0] += 0.1
    moved = landmarks_of_motion(astronaut_portrait, Motion(**rows), open_head).landmarks
    assert np.allclose(moved[0], astronaut_portrait.landmarks[:, :2], atol=1e-3)
    assert (moved[1, 4] - moved[0, 4])[0] > 10, "the nose turns towards image right"


def test_a_made_video_without_a_face_has_no_figures_that_need_one(clips):
    actors = Actors()

    def track_video(frames):
        found = actors.track(frames)
        return found if len(set(found.landmarks[:, 0, 0])) > 1 else replace(found, found=np.zeros(len(found.found), bool))

    wanted = AudioOptions(clips, ("still", "follow"), clips.parent / "audio.json", limit=1, plots=False)
    report = run_audio(wanted, tools=replace(actors.acting(), track_video=track_video))
    still, follow = (report["clips"]["a.mp4"]["avatars"][name] for name in ("still", "follow"))
    assert still["status"] == "ok" and still["metrics"]["faces_found"] == 0 and follow["metrics"]["faces_found"] == 1
    assert {key for key, value in still["metrics"].items() if value is not None} == {"faces_found"}
    assert still["metrics"].keys() == follow["metrics"].keys() and still["reasons"]["jitter_px"] == "no picture of this video shows a face"
