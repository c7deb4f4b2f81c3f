"""Outputs exist whole or not at all, part files of killed runs go and those of live runs stay, and nothing that is read is written over."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
import unicodedata
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from triportrait import files
from triportrait.errors import MediaError, OutputError
from triportrait.files import AtomicFile, atomic_file, atomic_folder, check_readable, place_part, refuse_inputs, remove_rests
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.motion.files import write_motion
from triportrait.types import ARKIT_EXPRESSIONS, Motion

ROOT = Path(__file__).resolve().parents[1]


def test_the_target_changes_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")
    with atomic_file(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_an_exception_leaves_the_old_file(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "result.txt"
    target.write_text("old")
    with pytest.raises(OutputError if error is OSError else error), atomic_file(target) as part:
        part.write_text("half")
        raise error
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_unwritable_targets_are_known_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for target, words in [
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "where.mp4", "create it first"),
        (tmp_path / "file" / "a.mp4", "no folder"),
        (tmp_path / "pipe", "not an ordinary file"),
        (Path(os.devnull), "not an ordinary file"),
        (Path("/proc/a.mp4"), "cannot be written"),
        (tmp_path / ("n" * 300), "cannot be written"),
        (Path("nul\0byte"), "cannot be written"),
    ]:
        with pytest.raises(OutputError, match=words):
            AtomicFile(target)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage(1, 1, 0))
    with pytest.raises(OutputError, match="disk is full"):
        AtomicFile(tmp_path / "a.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]


def test_a_write_protected_target_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "precious"
    target.write_text("x")
    monkeypatch.setattr(files.os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(OutputError, match="write-protected"):
        AtomicFile(target)


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with atomic_file(tmp_path / "link") as part:
        part.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"


def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it would block for ever
    for path in (tmp_path / "pipe.mp4", Path("/dev/zero")):
        with pytest.raises(MediaError, match="pipe or a device"):
            check_readable(path)
    with pytest.raises(MediaError):
        check_readable("nul\0byte")


# -- what killed runs leave --------------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from triportrait.files import _make_part
part = _make_part(Path(sys.argv[1]), is_folder=sys.argv[2] == "True")
(part / "key.pem" if part.is_dir() else part).write_text("half")
print("ready", flush=True)
time.sleep(60)
"""


def holder(folder: Path, is_folder: bool = False) -> subprocess.Popen[str]:
    """Another run that is writing to the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder), str(is_folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.part"))


@pytest.mark.parametrize("is_folder", [False, True])
def test_the_rest_of_a_killed_run_goes_with_the_next(tmp_path: Path, is_folder: bool) -> None:
    process = holder(tmp_path, is_folder)
    process.kill()
    process.wait()
    (left,) = parts(tmp_path)
    # What only looks like ours stays, and what another machine may be writing, whose locks are not seen here.
    names = (".triportrait-notes.part", "x.part", ".triportrait-part-0123456789abcdeX.part", f".triportrait-part-{'0' * 8}-{'0' * 16}.part")
    others = [tmp_path / name for name in names]
    for other in others:
        other.write_text("somebody's")
        os.utime(other, (0, 0))
    with atomic_file(tmp_path / "result") as part:
        part.write_text("new")
        assert not left.exists()
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "result"])


@pytest.mark.parametrize("is_folder", [False, True])
def test_live_runs_leave_each_other_alone(tmp_path: Path, is_folder: bool) -> None:
    process = holder(tmp_path, is_folder)
    try:
        (theirs,) = parts(tmp_path)
        output = AtomicFile(tmp_path / "result")
        assert theirs.exists() and len(parts(tmp_path)) == 2
        output.part.write_text("ours")
        output.commit()
        assert (theirs / "key.pem" if is_folder else theirs).read_text() == "half"
    finally:
        process.kill()
        process.wait()


def test_rests_of_former_versions_go_when_they_are_old(tmp_path: Path) -> None:
    former = [".triportrait-0123456789abcdef.part", ".triportrait-part-0123456789abcdef.part", ".talk.mp4.ab_d3f9h.part"]
    for name in (*former, ".notes.txt.abcdefgh.part"):
        (tmp_path / name).write_text("half")
    remove_rests(tmp_path)
    assert len(parts(tmp_path)) == 4  # the former version may still be running
    for part in parts(tmp_path):
        os.utime(part, (time.time() - 90_000,) * 2)
    remove_rests(tmp_path)
    assert [part.name for part in parts(tmp_path)] == [".notes.txt.abcdefgh.part"]


def test_a_part_stays_held_when_another_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As signing does."""
    monkeypatch.setattr(files, "_SECONDS_BETWEEN_SEARCHES", 0.0)
    draft, new = AtomicFile(tmp_path / "result"), AtomicFile(tmp_path / "signed")
    new.part.write_text("signed")
    place_part(new.part, draft.part)
    search = f"from pathlib import Path; from triportrait.files import remove_rests; remove_rests(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", search], check=True)
    assert draft.part.read_text() == "signed"
    draft.commit()
    assert list(tmp_path.iterdir()) == [tmp_path / "result"]


def test_a_folder_comes_whole(tmp_path: Path) -> None:
    target = tmp_path / "keys"
    target.mkdir()
    with pytest.raises(KeyError), atomic_folder(target) as part:
        (part / "a").write_text("half")
        raise KeyError
    assert list(tmp_path.iterdir()) == [target] and not list(target.iterdir())
    with atomic_folder(target) as part:
        (part / "a").write_text("whole")
    assert (target / "a").read_text() == "whole" and list(tmp_path.iterdir()) == [target]
    with pytest.raises(OSError), atomic_folder(target) as part:
        (part / "a").write_text("another's")
    assert (target / "a").read_text() == "whole" and list(tmp_path.iterdir()) == [target]


def test_a_folder_of_many_outputs_is_searched_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Path] = []
    scan = os.scandir
    monkeypatch.setattr(files.os, "scandir", lambda folder: looks.append(folder) or scan(folder))
    monkeypatch.setattr(files, "_MANY_ENTRIES", 3)
    for number in range(9):
        with atomic_file(tmp_path / str(number)) as part:
            part.write_text("x")
    assert len(looks) == 5


UMASK = os.umask(0)
os.umask(UMASK)


def saved_network(path: Path) -> None:
    from triportrait.nn.model_files import save_network

    save_network(path, torch.nn.Linear(2, 2), kind="test.1", config={})


def imported_weights(path: Path) -> None:
    from triportrait.weights.store import Provenance, save_weights

    save_weights(path, {"a": torch.ones(2)}, layout="l", config={}, provenance=Provenance("a", "b", "c", "1", "MIT"))


def motion_file(path: Path) -> None:
    write_motion([Motion(np.zeros((2, len(ARKIT_EXPRESSIONS)), np.float32), *(np.zeros((2, n), np.float32) for n in (3, 3, 2)))], path)


def training_shard(path: Path) -> None:
    from triportrait.training.data.clips import write_clips

    write_clips(path, [])


def index_of_views(path: Path) -> None:
    from triportrait.synth.lifted_views import write_index

    write_index(path.parent, "train", [], [], {})


#: Name of the output -> what writes it.
WRITERS: dict[str, Callable[[Path], object]] = {
    "network.safetensors": saved_network,
    "weights.safetensors": imported_weights,
    "m.npz": motion_file,
    "m.csv": motion_file,
    "s.tar": training_shard,
    "index.json": index_of_views,
}


def test_every_writer_flushes_the_file_and_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not flushed may be empty after a power cut although its name is there."""
    flushed: list[Path] = []
    sync = os.fsync
    monkeypatch.setattr(files.os, "fsync", lambda handle: flushed.append(Path(os.readlink(f"/proc/self/fd/{handle}"))) or sync(handle))
    for name, write in WRITERS.items():
        flushed.clear()
        write(tmp_path / name)
        assert [path == tmp_path for path in flushed] == [False, True], name
        assert oct((tmp_path / name).stat().st_mode & 0o777) == oct(0o666 & ~UMASK), name


# -- inputs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["same", "hard", "symbolic", "dotted", "in a folder", "hard in a folder", "link in a folder"])
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
    elif kind == "link in a folder":
        target.write_text("read through a link")
        (folder / "deeper").mkdir()
        (folder / "deeper" / "link.npz").symlink_to(target)
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
from triportrait.concurrency import termination_as_exit
from triportrait.media.video import VideoWriter
with termination_as_exit(), VideoWriter(sys.argv[1], (64, 64), audio=sys.argv[2], background=True) as writer:
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
        [sys.executable, "-c", WRITER, str(target), str(voice)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
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
