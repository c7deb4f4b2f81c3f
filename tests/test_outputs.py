"""Outputs: part files whose process died go, part files of live runs stay, and nothing that is read is written over."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from triportrait import outputs
from triportrait.errors import OutputError
from triportrait.files import AtomicFile
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.motion.files import write_motion
from triportrait.outputs import hold_again, make_part, place_part, refuse_inputs, whole_file
from triportrait.types import ARKIT_EXPRESSIONS, Motion

ROOT = Path(__file__).resolve().parents[1]
HOLDER = """
import sys, time
from pathlib import Path
from triportrait.outputs import make_part
make_part(Path(sys.argv[1])).write_text("half")
print("ready", flush=True)
time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another run that is writing to the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.part"))


def test_the_rest_of_a_killed_run_goes_with_the_next(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.wait()
    (left,) = parts(tmp_path)
    # What only looks like ours stays.
    others = [tmp_path / name for name in (".triportrait-notes.part", "x.part", ".triportrait-part-0123456789abcdeX.part")]
    for other in others:
        other.write_text("somebody's")
    with whole_file(tmp_path / "result") as part:
        part.write_text("new")
        assert not left.exists()
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "result"])


def test_live_runs_leave_each_other_alone(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        (theirs,) = parts(tmp_path)
        output = AtomicFile(tmp_path / "result")
        assert theirs.exists() and len(parts(tmp_path)) == 2
        output.part.write_text("ours")
        output.commit()
        assert theirs.read_text() == "half"
    finally:
        process.kill()
        process.wait()


def test_a_part_stays_held_when_another_file_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As signing does, and libraries that write to a file of their own and rename it."""
    monkeypatch.setattr(outputs, "_SECONDS_BETWEEN_SEARCHES", 0.0)
    for replace in (place_part, lambda new, old: (os.replace(new, old), hold_again(old))):
        draft = make_part(tmp_path)
        new = make_part(tmp_path) if replace is place_part else tmp_path / "library's own"
        new.write_text("signed")
        replace(new, draft)
        search = f"from pathlib import Path; from triportrait import outputs; outputs._remove_rests(Path({str(tmp_path)!r}))"
        subprocess.run([sys.executable, "-c", search], check=True)
        assert draft.read_text() == "signed"
        place_part(draft, tmp_path / "result")
        assert list(tmp_path.iterdir()) == [tmp_path / "result"]


def test_a_folder_of_many_outputs_is_searched_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    scan = os.scandir
    monkeypatch.setattr(outputs.os, "scandir", lambda folder: looks.append(folder) or scan(folder))
    monkeypatch.setattr(outputs, "_MANY_ENTRIES", 3)
    for number in range(9):
        with whole_file(tmp_path / str(number)) as part:
            part.write_text("x")
    assert len(looks) == 5


# -- inputs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["same", "hard", "symbolic", "dotted", "in a folder", "hard in a folder"])
def test_an_input_is_refused_under_every_name(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    read = folder / "Ümlaut.npz"
    read.write_text("precious")
    target, named = tmp_path / "out.npz", read
    if kind in ("same", "in a folder"):
        target = read
    elif kind in ("hard", "hard in a folder"):
        os.link(read, target)
    elif kind == "symbolic":
        target.symlink_to(read)
    else:
        target = folder / ".." / "inputs" / read.name
    with pytest.raises(OutputError, match="choose another output"):
        refuse_inputs(target, [None, tmp_path / "missing", folder if kind.endswith("folder") else named])
    assert read.read_text() == "precious"


@pytest.mark.parametrize("other", ["PHOTO.PNG", "photo.PNG", unicodedata.normalize("NFD", "photö.png").upper()])
def test_another_case_is_the_same_file_where_the_disk_says_so(other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that knows no case and makes up inode numbers, as some mounts do."""
    read = tmp_path / ("photö.png" if "\u0308" in other else "photo.png")
    read.write_text("precious")
    refuse_inputs(tmp_path / other, [read])  # this disk knows case: another file
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path, **more: path.parent == tmp_path or exists(path, **more))
    monkeypatch.setattr(Path, "samefile", lambda *_: False)
    with pytest.raises(OutputError, match="is an input, too"):
        refuse_inputs(tmp_path / other, [read])


def test_new_files_beside_inputs_are_fine(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("x")
    (tmp_path / "old.mp4").write_text("x")
    refuse_inputs(tmp_path / "new.mp4", [tmp_path, tmp_path / "clip.mp4"])
    refuse_inputs(tmp_path / "old.mp4", [tmp_path / "clip.mp4"])


def test_motion_is_not_written_over_its_source(tmp_path: Path) -> None:
    style, link = tmp_path / "style.csv", tmp_path / "link.csv"
    style.write_text("precious")
    link.symlink_to(style)
    rows = Motion(np.zeros((2, len(ARKIT_EXPRESSIONS)), np.float32), *(np.zeros((2, n), np.float32) for n in (3, 3, 2)))
    for target in (style, link):
        with pytest.raises(OutputError, match="is an input"):
            write_motion((rows,), target, inputs=[style])
    assert style.read_text() == "precious" and len(list(tmp_path.iterdir())) == 2


# -- killed while a video is written ---------------------------------------------------------------------------------

WRITER = """
import sys
import numpy as np
from triportrait import cli
from triportrait.media.video import VideoWriter
with cli._termination_as_exit(), VideoWriter(sys.argv[1], (64, 64), audio=sys.argv[2], background=True) as writer:
    print("ready", flush=True)
    for index in range(400):
        writer.write(np.full((64, 64, 3), index % 255, np.uint8))
print("done", flush=True)
"""


@pytest.mark.parametrize(("name", "after_s"), [("SIGKILL", 0.0), ("SIGKILL", 0.15), ("SIGTERM", 0.1), ("SIGHUP", 0.05)])
def test_a_killed_writer_loses_nothing(name: str, after_s: float, tmp_path: Path, voice: Path) -> None:
    """``benchmarks/killed_runs.py`` does this with whole commands."""
    target = tmp_path / "o.mp4"
    with VideoWriter(target, (64, 64)) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    old = target.read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target), str(voice)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    time.sleep(after_s)
    process.send_signal(getattr(signal, name))
    process.communicate(timeout=60)
    with VideoReader(target) as reader:
        frames = sum(1 for _ in reader.frames(None))
    assert frames == 400 or target.read_bytes() == old
    if name != "SIGKILL":
        assert list(tmp_path.iterdir()) == [target]
    with VideoWriter(target, (64, 64)) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    assert list(tmp_path.iterdir()) == [target]


def test_the_benchmark_notices_what_is_half_written(tmp_path: Path, voice: Path) -> None:
    spec = importlib.util.spec_from_file_location("killed_runs", ROOT / "benchmarks" / "killed_runs.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    target = tmp_path / "o.mp4"
    with VideoWriter(target, (64, 64), audio=str(voice)) as writer:
        for _ in range(9):
            writer.write(np.zeros((64, 64, 3), np.uint8))
    assert benchmark.frames_of(target) == 9 and benchmark.rests(tmp_path, target) == []
    (tmp_path / ".a.part").write_bytes(b"")
    assert benchmark.rests(tmp_path, target) == [".a.part"]
    assert benchmark.killed([sys.executable, "-c", "import time; time.sleep(60)"], signal.SIGTERM, 0.2) == -signal.SIGTERM


# -- disks that fill up -----------------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
import numpy as np
from triportrait.errors import OutputError
from triportrait.media.video import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
rng = np.random.default_rng(0)
try:
    with VideoWriter(sys.argv[1], (128, 128), background=sys.argv[3] == "True") as writer:
        for _ in range(100):
            writer.write(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8))
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize(("limit", "background"), [(50_000, False), (400_000, True)])
def test_a_disk_that_ends_while_frames_are_written(limit: int, background: bool, tmp_path: Path) -> None:
    """The system's own limit on a file's size stands for the disk."""
    target = tmp_path / "o.mp4"
    target.write_text("precious")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(target), str(limit), str(background)], capture_output=True, text=True, timeout=60
    )
    assert "cannot be written" in done.stdout and done.returncode == 0, done.stderr
    assert target.read_text() == "precious" and list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("size", ["1100k", "1500k"])
def test_a_small_disk(size: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("no right to mount")
    try:
        noise = np.random.default_rng(0)
        with pytest.raises(OutputError, match="the disk is full"), VideoWriter(disk / "o.mp4", (256, 256), crf=0) as writer:
            for _ in range(60):
                writer.write(noise.integers(0, 255, (256, 256, 3), dtype=np.uint8))
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)
