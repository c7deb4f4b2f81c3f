"""Outputs that are whole or absent, that leave nothing behind, and that are never a file that was read.

An output is written to a hidden part file in its folder, which takes the target's name when it is complete. The process
that writes holds a lock on the part file. Locks die with their process, however it dies, so a part file that nobody
holds was left by a killed run; the next run that writes to the folder removes it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import threading
import time
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from triportrait.errors import OutputError

if TYPE_CHECKING:
    from triportrait.types import PathLike

try:
    import fcntl
except ImportError:  # Windows, where a file that is open elsewhere cannot be removed, which serves as the lock
    fcntl = None  # type: ignore[assignment]


#: Names of part files; nothing else is ever removed.
_PART = re.compile(r"\.triportrait-part-[0-9a-f]{16}\.part")
#: A folder with more entries is searched for rests once in a while, not for each of a run's many small outputs.
_MANY_ENTRIES = 1_000
_SECONDS_BETWEEN_SEARCHES = 10.0

_guard = threading.Lock()
_held: dict[Path, int] = {}
#: Folder -> when it was last searched, and how many entries it had.
_searched: dict[Path, tuple[float, int]] = {}


def make_part(folder: Path) -> Path:
    """A new, empty part file in ``folder``, locked; rests of killed runs in the folder are removed first.

    End it with :func:`place_part` or :func:`drop_part`.

    Raises:
        OSError: nothing can be written there.
    """
    _remove_rests(folder)
    while True:
        # Not derived from the target's name, which may already be as long as the file system allows.
        part = folder / f".triportrait-part-{secrets.token_hex(8)}.part"
        handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            _hold(part, handle)
        except BaseException:
            os.close(handle)
            part.unlink(missing_ok=True)
            raise
        # Between its creation and its lock another process may have taken it for a rest.
        if part.exists():
            return part
        _let_go(part)


def hold_again(part: Path) -> None:
    """Lock a part file anew where a library has put another file in its place."""
    with contextlib.suppress(OSError):
        held = _held.get(part)
        if held is None or not os.path.samestat(os.fstat(held), os.stat(part)):
            _hold(part, os.open(part, os.O_RDWR | getattr(os, "O_CLOEXEC", 0)), wait=False)


def place_part(part: Path, target: Path) -> None:
    """Flush ``part`` to the disk and move it over ``target``, which may itself be a part file of this process.

    Raises:
        OSError: it cannot be; ``part`` is still there.
    """
    with part.open("r+b") as file:
        os.fsync(file.fileno())
    if fcntl is None:
        _let_go(part)
        _let_go(target)
    os.replace(part, target)
    with _guard:
        handle, covered = _held.pop(part, None), _held.pop(target, None)
        if covered is not None:
            os.close(covered)
            if handle is not None:
                _held[target] = handle
        elif handle is not None:
            os.close(handle)
    # The rename itself survives a power cut only when the folder is flushed; not every file system can do that.
    with contextlib.suppress(OSError):
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def drop_part(part: Path) -> None:
    """Remove a part file; nothing happens when it has gone already."""
    if fcntl is None:
        _let_go(part)
    try:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    finally:
        _let_go(part)


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Write to the yielded part file; it becomes ``target`` when the block ends well and vanishes when it does not.

    Raises:
        OSError: from the block, or the target cannot be written.
    """
    part = make_part(target.parent)
    try:
        yield part
        place_part(part, target)
    finally:
        drop_part(part)


def _hold(part: Path, handle: int, wait: bool = True) -> None:
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks: rests stay there
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    with _guard:
        before, _held[part] = _held.get(part), handle
    if before is not None:
        os.close(before)


def _let_go(part: Path) -> None:
    with _guard:
        handle = _held.pop(part, None)
    if handle is not None:
        os.close(handle)


def _remove_rests(folder: Path) -> None:
    now = time.monotonic()
    last_s, count = _searched.get(folder, (now, 0))
    if count > _MANY_ENTRIES and now - last_s < _SECONDS_BETWEEN_SEARCHES:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for count, entry in enumerate(entries, 1):  # noqa: B007 - counted for the next time
            _searched[folder] = now, count
            if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _remove_if_left(part: Path) -> None:
    if fcntl is None:
        part.unlink()
        return
    handle = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()
    finally:
        os.close(handle)


def refuse_inputs(target: PathLike, inputs: Iterable[PathLike | None]) -> None:
    """Refuse a target that is a file that is read, under whatever name: a link, or letters in another case.

    Args:
        target: what would be written.
        inputs: files that are read, and folders whose files are read; None and what does not exist count for nothing.

    Raises:
        OutputError: the target is one of them.
    """
    target = Path(target)
    for path in inputs:
        if path is None:
            continue
        path = Path(path)
        with contextlib.suppress(OSError, ValueError):
            if _same_file(target, path):
                raise OutputError(f"'{target}' is an input, too; choose another output")
            if path.is_dir() and target.exists() and _holds(path, target):
                raise OutputError(f"'{target}' is a file of the input folder '{path}'; choose another output")


def _same_file(first: Path, second: Path) -> bool:
    if not second.exists():
        return False
    if first.exists() and first.samefile(second):
        return True
    # Some network and FUSE file systems make up inode numbers anew at every look.
    one, other = Path(os.path.realpath(first)), Path(os.path.realpath(second))
    if one.parent != other.parent or _folded(one.name) != _folded(other.name):
        return False
    return one == other or (one.exists() and one.name not in os.listdir(one.parent))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _holds(folder: Path, target: Path) -> bool:
    """Whether ``target`` is a file below ``folder``, by path or as another name of the same file."""
    wanted = target.stat()
    if stat.S_ISDIR(wanted.st_mode):
        return False
    if Path(os.path.realpath(target)).is_relative_to(os.path.realpath(folder)):
        return True
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found = os.stat(os.path.join(root, name))
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
    return False
