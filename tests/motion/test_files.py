"""Laws of the motion file: what is written comes back, and what does not fit is named."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triportrait.errors import MotionFileError, OutputError
from triportrait.geometry.curve_range import LOWEST_BROW
from triportrait.motion import files
from triportrait.motion.exports import arkit52
from triportrait.motion.files import load_motion, save_motion, write_motion
from triportrait.types import ARKIT_EXPRESSIONS, WARP_COLUMNS, Motion


def make_motion(frames: int = 5, seed: int = 0, fps: float = 25.0) -> Motion:
    random = np.random.default_rng(seed)
    return Motion(
        random.random((frames, 44)).astype(np.float32),
        random.normal(0, 0.2, (frames, 3)).astype(np.float32),
        random.normal(0, 0.3, (frames, 3)).astype(np.float32),
        random.normal(0, 0.1, (frames, 2)).astype(np.float32),
        fps=fps,
        identity=random.normal(size=80).astype(np.float32),
        body=random.normal(0, 0.1, (frames, 4)).astype(np.float32) if seed % 2 else None,
        warp=random.normal(0, 0.1, (frames, len(WARP_COLUMNS))).astype(np.float32) if seed % 3 == 1 else None,
    )


def assert_same(first: Motion, second: Motion, radians: float = 0.0) -> None:
    np.testing.assert_array_equal(first.expression, second.expression)
    np.testing.assert_array_equal(first.translation, second.translation)
    np.testing.assert_allclose(first.rotation_rad, second.rotation_rad, rtol=0, atol=radians)
    np.testing.assert_allclose(first.gaze_rad, second.gaze_rad, rtol=0, atol=radians)
    np.testing.assert_array_equal(first.identity, second.identity)
    assert first.row_fields == second.row_fields
    for name in {"body", "warp"} & set(first.row_fields):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.fps == pytest.approx(second.fps, abs=1e-9)
    assert first.expression_names == second.expression_names
    assert first.head_model == second.head_model


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000), st.sampled_from([12.0, 23.976, 25.0, 29.97, 60.0]))
@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, ending: str, frames: int, seed: int, fps: float) -> None:
    path = tmp_path_factory.mktemp("motion") / f"ä motion.{ending}"
    motion = make_motion(frames, seed, fps)
    save_motion(motion, path)
    assert_same(motion, load_motion(path), radians=1e-7)


def test_npz_keeps_landmarks_and_other_head_models(tmp_path: Path) -> None:
    base = make_motion(3)
    motion = Motion(
        np.full((3, 2), 4.5, np.float32),
        base.rotation_rad,
        base.translation,
        base.gaze_rad,
        expression_names=("exp_00", "exp_01"),
        head_model="bfm",
        landmarks=np.ones((3, 478, 2), np.float32),
    )
    save_motion(motion, tmp_path / "m.npz")
    again = load_motion(tmp_path / "m.npz")
    np.testing.assert_array_equal(again.landmarks, motion.landmarks)
    assert (again.head_model, again.expression_names) == ("bfm", ("exp_00", "exp_01"))
    save_motion(motion, tmp_path / "m.csv")
    np.testing.assert_array_equal(load_motion(tmp_path / "m.csv").expression, motion.expression)


def edit(path: Path, change) -> Path:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    return path


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    save_motion(make_motion(), tmp_path / "m.csv")
    return tmp_path / "m.csv"


def test_spreadsheet_with_semicolons_and_decimal_commas(csv_file: Path) -> None:
    before = load_motion(csv_file)

    def localise(text: str) -> str:
        lines = text.splitlines()
        comments = [f'"{line}";;;;' for line in lines if line.startswith("#")]
        rows = [line.replace(",", ";").replace(".", ",") for line in lines if not line.startswith("#")]
        return "\ufeff" + "\r\n".join(comments + rows) + "\r\n"

    assert_same(before, load_motion(edit(csv_file, localise)), radians=1e-7)


def test_missing_curves_are_zero_with_a_warning(csv_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [line.split(",") for line in csv_file.read_text().splitlines() if not line.startswith("#")]
    column = rows[0].index("jawOpen")
    text = "# fps: 25\n" + "\n".join(",".join(row[:column] + row[column + 1 :]) for row in rows)
    csv_file.write_text(text)
    motion = load_motion(csv_file)
    assert "jawOpen" in caplog.text
    assert not motion.expression[:, motion.column("jawOpen")].any()
    assert motion.expression[:, motion.column("mouthClose")].any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace("jawOpen", "jawOpened"), ["jawOpened"]),
        (lambda text: text.replace("jawOpen", "jawLeft"), ["jawLeft", "twice"]),
        (lambda text: text.replace("time_s", "time"), ["time_s"]),
        (lambda text: text.replace("# fps: 25", "# fps: fast"), ["fps", "fast"]),
        (lambda text: text.replace("# fps: 25", "# fps: 0"), ["fps"]),
        (lambda text: text.replace("# fps: 25", "# fps: 30"), ["frame", "30"]),
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n0.16,1,2", ["line 10", "cells"]),
        (lambda text: text.replace("0.040000,", "0.040000,high,", 1).replace(",0\n", "\n"), ["line 7"]),
        (lambda text: "\n".join(text.splitlines()[:5]), ["no frames"]),
        (lambda text: "", ["no rows"]),
    ],
)
def test_broken_csv_is_named(csv_file: Path, change, words: list[str]) -> None:
    with pytest.raises(MotionFileError) as caught:
        load_motion(edit(csv_file, change))
    assert all(word in str(caught.value) for word in ["m.csv", *words])


def test_cells_outside_the_range_or_not_numbers_are_named(csv_file: Path) -> None:
    for value, word in (("1.5", "between 0 and 1"), ("nan", "not finite"), ("wide", "not a number")):
        lines = csv_file.read_text().splitlines()
        cells = lines[5].split(",")
        cells[lines[4].split(",").index("jawOpen")] = value
        broken = csv_file.with_name("broken.csv")
        broken.write_text("\n".join([*lines[:5], ",".join(cells), *lines[6:]]))
        with pytest.raises(MotionFileError, match=word) as caught:
            load_motion(broken)
        assert "jawOpen" in str(caught.value)


def test_foreign_and_damaged_npz_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    path.write_bytes(b"not a zip file")
    with pytest.raises(MotionFileError, match="m.npz"):
        load_motion(path)
    np.savez(path, anything=np.arange(3))
    with pytest.raises(MotionFileError, match="not a motion file"):
        load_motion(path)
    np.savez(path, version=1, fps=25, expression=np.array([{"a": 1}], dtype=object), expression_names=["jawOpen"])
    with pytest.raises(MotionFileError, match="not a motion file"):
        load_motion(path)
    save_motion(make_motion(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(MotionFileError):
        load_motion(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("expression.npy", b"\x93NUMPY garbage")
    with pytest.raises(MotionFileError):
        load_motion(path)
    np.savez(
        path,
        version=1,
        fps=25,
        expression=np.zeros((4, 1), np.float32),
        expression_names=["jawOpen"],
        rotation_rad=np.zeros((3, 3), np.float32),
    )
    with pytest.raises(MotionFileError, match="damaged"):
        load_motion(path)
    np.savez(path, version=9, fps=25, expression=np.zeros((4, 1), np.float32), expression_names=["jawOpen"])
    with pytest.raises(MotionFileError, match="update"):
        load_motion(path)


def test_paths_that_do_not_work(tmp_path: Path) -> None:
    with pytest.raises(MotionFileError, match="no motion file"):
        load_motion(tmp_path / "absent.npz")
    with pytest.raises(MotionFileError, match="name it"):
        save_motion(make_motion(), tmp_path / "m.txt")
    with pytest.raises(OutputError):
        save_motion(make_motion(), tmp_path / "no folder" / "m.npz")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.csv"
    save_motion(make_motion(seed=1), path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="the disk is full"):
        save_motion(make_motion(seed=2), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_live_link_layout(tmp_path: Path) -> None:
    motion = make_motion(30)
    write_motion((motion,), tmp_path / "l.csv", live_link=True)
    rows = list(csv.DictReader((tmp_path / "l.csv").open()))
    assert len(rows) == 30
    assert len(rows[0]) == 63 and all(row["BlendshapeCount"] == "61" for row in rows)
    assert rows[26]["Timecode"].startswith("00:00:01:01")
    assert float(rows[3]["JawOpen"]) == pytest.approx(motion.expression[3, motion.column("jawOpen")], abs=1e-6)
    assert float(rows[3]["HeadYaw"]) == pytest.approx(motion.rotation_rad[3, 1], abs=1e-6)


def test_gaze_becomes_eye_look_curves() -> None:
    motion = make_motion(1).with_rows(gaze_rad=np.radians([[15.0, 15.0]]).astype(np.float32))
    curves = arkit52(motion)
    assert set(ARKIT_EXPRESSIONS) < set(curves) and len(curves) == 52
    # Up and towards image right, the subject's left.
    for name in ("eyeLookUpLeft", "eyeLookUpRight", "eyeLookOutLeft", "eyeLookInRight"):
        assert curves[name][0] == pytest.approx(0.5, abs=1e-6)
    for name in ("eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutRight", "eyeLookDownRight"):
        assert curves[name][0] == 0


def test_a_brow_that_sinks_is_lowered_in_arkits_curves() -> None:
    """ARKit's raises lie in 0..1: what sinks below rest must neither leave that range nor be lost."""
    motion = make_motion(2)
    expression = np.zeros_like(motion.expression)
    expression[0, [motion.column("browInnerUp"), motion.column("browOuterUpLeft")]] = -0.2, -0.3
    expression[1, [motion.column("browInnerUp"), motion.column("browDownLeft")]] = 0.4, 0.3
    curves = arkit52(motion.with_rows(expression=expression))
    assert curves["browDownLeft"] == pytest.approx([0.5, 0.3]) and curves["browDownRight"] == pytest.approx([0.2, 0.0])
    assert curves["browInnerUp"] == pytest.approx([0.0, 0.4]) and (curves["browOuterUpLeft"] == 0.0).all()


def test_brows_may_sink_in_a_file(tmp_path: Path) -> None:
    """A tracked motion reads as it was written, whose brows may lie below their rest; other curves may not."""
    motion = make_motion(3)
    for name, value in (("browOuterUpLeft", LOWEST_BROW), ("browOuterUpLeft", LOWEST_BROW - 0.1), ("browDownLeft", -0.1)):
        expression = motion.expression.copy()
        expression[1, motion.column(name)] = value
        save_motion(motion.with_rows(expression=expression), tmp_path / "m.npz")
        if value == LOWEST_BROW:
            np.testing.assert_array_equal(load_motion(tmp_path / "m.npz").expression, expression)
        else:
            with pytest.raises(MotionFileError, match=f"{name} is"):
                load_motion(tmp_path / "m.npz")


def test_json(tmp_path: Path) -> None:
    motion = make_motion(4)
    write_motion((motion,), tmp_path / "m.json")
    document = json.loads((tmp_path / "m.json").read_text())
    assert document["expression_names"] == list(ARKIT_EXPRESSIONS)
    values = [frame["expression"] for frame in document["frames"]]
    np.testing.assert_allclose(values, motion.expression, atol=1e-6)


def test_damage_anywhere_is_a_motion_file_error(tmp_path: Path) -> None:
    """Bytes overwritten and ends cut: the file reads, or the error is ours."""
    good = tmp_path / "good.npz"
    rng = np.random.default_rng(0)
    save_motion(make_motion(40), good)
    data = good.read_bytes()
    refused = 0
    for _ in range(300):
        bytes_ = bytearray(data)
        for _ in range(rng.choice([1, 5, 50])):
            bytes_[rng.integers(len(bytes_))] = rng.integers(256)
        (tmp_path / "bad.npz").write_bytes(bytes_[: rng.integers(1, len(bytes_))] if rng.random() < 0.2 else bytes_)
        try:
            load_motion(tmp_path / "bad.npz")
        except MotionFileError:
            refused += 1
    assert refused > 200


@pytest.mark.parametrize("frames", [10**8, 10**12])
def test_rows_without_width_allocate_nothing(tmp_path: Path, frames: int) -> None:
    arrays = {"version": np.array(1), "fps": np.array(25.0), "expression_names": np.array([], "<U4")}
    np.savez(tmp_path / "a.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, archive.open("expression.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"descr": "<f4", "fortran_order": False, "shape": (frames, 0)})
    with pytest.raises(MotionFileError, match="is not a motion file"):
        load_motion(tmp_path / "a.npz")


@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_more_rows_than_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    save_motion(make_motion(31), tmp_path / f"a.{ending}")
    monkeypatch.setattr(files, "MAXIMUM_ROWS", 31)
    assert len(load_motion(tmp_path / f"a.{ending}")) == 31
    monkeypatch.setattr(files, "MAXIMUM_ROWS", 30)
    with pytest.raises(MotionFileError, match="more than 30 rows; split the motion"):
        load_motion(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("cell", ["x" * 140_000, "9" * 200_000, '"' + "a" * 150_000, "\x1b[2J" * 50, "b" * 60_000])
def test_cells_are_named_escaped_and_short(csv_file: Path, cell: str) -> None:
    lines = csv_file.read_text(encoding="utf-8").splitlines()
    lines[5] = cell + lines[5][lines[5].index(",") :]
    csv_file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(MotionFileError, match="line 6") as caught:
        load_motion(csv_file)
    said = str(caught.value)
    assert len(said) < 400 and said.isprintable()


@pytest.mark.parametrize(("name", "value"), [("rotation_rad", 1e30), ("translation", -1e9), ("gaze_rad", np.inf), ("landmarks", np.nan)])
@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_numbers_that_are_no_motion_are_refused(tmp_path: Path, name: str, value: float, ending: str) -> None:
    motion = make_motion().with_rows(landmarks=np.zeros((5, 478, 2), np.float32))
    getattr(motion, name)[3] = value
    save_motion(motion, tmp_path / f"a.{ending}")
    if name == "landmarks" and ending == "csv":
        assert load_motion(tmp_path / "a.csv").landmarks is None
        return
    with pytest.raises(MotionFileError):
        load_motion(tmp_path / f"a.{ending}")


def test_half_a_body_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "motion.csv"
    save_motion(make_motion(seed=1), path)
    path.write_text(path.read_text(encoding="utf-8").replace("body_roll", "control_sad"), encoding="utf-8")
    with pytest.raises(MotionFileError, match="body_x but no body_roll"):
        load_motion(path)
    save_motion(make_motion(seed=1), path)
    path.write_text(path.read_text(encoding="utf-8").replace("warp_23_y", "control_sad"), encoding="utf-8")
    with pytest.raises(MotionFileError, match="warp_11_x but no warp_23_y"):
        load_motion(path)
