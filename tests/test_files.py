"""Outputs exist whole or not at all."""

from __future__ import annotations

import os
from collections import namedtuple
from pathlib import Path

import pytest

from triportrait import files
from triportrait.errors import MediaError, OutputError
from triportrait.files import AtomicFile, atomic_file, check_readable


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
