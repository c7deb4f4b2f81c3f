"""Paths in, whole files out: what is checked before a file is opened, and the one writer of outputs.

An output is written to a hidden part file in its folder, is flushed to the disk when it is complete, and takes the target's
name then: it is there whole or not at all. The process that writes holds a lock on the part file. Locks die with their
process, however it dies, so a part file that nobody holds was left by a killed run; the next run that writes to the folder
removes it. On a folder that several machines share, locks may be known to their own machine only; therefore a part file
carries its machine in its name, and only that machine removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from triportrait.concurrency import Guard
from triportrait.errors import MediaError, OutputError

if TYPE_CHECKING:
    from triportrait.types import PathLike

try:
    import fcntl
except ImportError:  # Windows, where a file that is open elsewhere cannot be removed, which serves as the lock
    fcntl = None  # type: ignore[assignment]

#: An output is refused at once when its disk has less room than this.
MINIMUM_FREE_BYTES = 1 << 20

#: Names of part files and folders, with the machine's tag; nothing else is ever removed, but for what follows.
_PART = re.compile(r"\.triportrait-part-(?P<host>[0-9a-f]{8})-[0-9a-f]{16}\.part")
#: Names that former versions gave, without a machine; their rests go once they are older than a day.
_FORMER_PART = re.compile(r"\.triportrait-(part-)?[0-9a-f]{16}\.part|\..+\.(mp4|m4v|npz|csv|json)\.[a-z0-9_]{8}\.part")
_FORMER_AGE_S = 86_400.0
#: A folder with more entries is searched for rests once in a while, not for each of a run's many small outputs.
_MANY_ENTRIES = 1_000
_SECONDS_BETWEEN_SEARCHES = 10.0

_guard = Guard()
_held: dict[Path, int] = {}
#: Folder -> when it was last searched, and how many entries it had.
_searched: dict[Path, tuple[float, int]] = {}


# -- paths in -------------------------------------------------------------------------------------------------------------


def check_readable(path: PathLike) -> Path:
    """The absolute path of an ordinary file that can be read; pipes and devices are refused without being opened.

    Absolute, so that no name can be taken for a protocol (``http:``, ``concat:``) by a decoder.

    Raises:
        MediaError: missing, a folder, not an ordinary file, empty, or not readable.
    """
    absolute = Path(os.path.abspath(path))
    try:
        status = absolute.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(f"There is no file '{path}'; check the path.") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"'{path}' cannot be read: {_reason(error)}.") from None
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"'{path}' is a folder; name a file in it.")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"'{path}' is a pipe or a device; copy it to an ordinary file first.")
    if status.st_size == 0:
        raise MediaError(f"'{path}' is an empty file (0 bytes); export or copy it again.")
    try:
        with absolute.open("rb"):
            pass
    except OSError as error:
        raise MediaError(f"'{path}' cannot be read: {_reason(error)}.") from None
    return absolute


def read_text(path: PathLike) -> str:
    """What stands in a text file.

    Raises:
        MediaError: see :func:`check_readable`, or it is no text in UTF-8.
    """
    try:
        return check_readable(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise MediaError(f"'{path}' is no text; save it as a text file in UTF-8.") from None


# -- whole files out ------------------------------------------------------------------------------------------------------


class AtomicFile:
    """A hidden part file beside a target that it replaces when complete.

    The part file is created at construction, so a target that cannot be written is known before any work is done.
    Exactly one of :meth:`commit` and :meth:`discard` has an effect, the first one called.

    Args:
        path: the target. A symbolic link is followed; an existing ordinary file is replaced.
        shown: what sentences call the target, where that is another name.

    Attributes:
        target: the absolute path of the finished file.
        part: the absolute path to write to.

    Raises:
        OutputError: the folder is missing, the target is a folder, a device or write-protected, or the disk is full.
    """

    def __init__(self, path: PathLike, shown: PathLike | None = None) -> None:
        self._shown = os.fspath(path if shown is None else shown)
        try:
            self.target = Path(os.path.realpath(path))
            self._check_target()
            self.part = _make_part(self.target.parent)
        except (OSError, ValueError) as error:
            raise self.error(error) from None
        self._open = True

    def _check_target(self) -> None:
        folder = self.target.parent
        if not folder.is_dir():
            raise OutputError(f"'{self._shown}' cannot be written: there is no folder '{folder}'; create it first.")
        if self.target.is_dir():
            raise OutputError(f"'{self._shown}' is a folder; name a file in it.")
        if self.target.exists():
            if not self.target.is_file():
                raise OutputError(f"'{self._shown}' is not an ordinary file; choose another output.")
            if not os.access(self.target, os.W_OK):
                raise OutputError(f"'{self._shown}' is write-protected; choose another output.")
        if shutil.disk_usage(folder).free < MINIMUM_FREE_BYTES:
            raise OutputError(f"'{self._shown}' cannot be written: the disk is full; free some space.")

    def error(self, cause: BaseException) -> OutputError:
        """The error to raise when writing to ``part`` failed with ``cause``."""
        return OutputError(f"'{self._shown}' cannot be written: {_reason(cause)}.")

    def commit(self) -> None:
        """Flush ``part`` to the disk and move it over the target.

        Raises:
            OutputError: that failed; the target stays as it was.
        """
        if not self._open:
            return
        try:
            place_part(self.part, self.target)
        except OSError as error:
            self.discard()
            raise self.error(error) from error
        self._open = False

    def discard(self) -> None:
        """Remove ``part``; the target stays as it was."""
        if self._open:
            self._open = False
            _drop_part(self.part)


@contextlib.contextmanager
def atomic_file(path: PathLike, shown: PathLike | None = None) -> Iterator[Path]:
    """Write to the yielded path; it becomes ``path`` when the block ends well and vanishes when it does not.

    Args:
        path: the target, which may itself be a part file of this process.
        shown: what sentences call the target, where that is another name.

    Raises:
        OutputError: as :class:`AtomicFile`, and for any OSError inside the block.
    """
    output = AtomicFile(path, shown)
    try:
        yield output.part
        output.commit()
    except OSError as error:
        raise output.error(error) from error
    finally:
        output.discard()


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Fill the yielded folder, which only its owner can look into; it becomes ``target`` when the block ends well.

    Its files are flushed to the disk. An existing target must be an empty folder.

    Raises:
        OSError: from the block, or the target is in the way or cannot be made; nothing is left.
    """
    part = _make_part(target.parent, is_folder=True)
    try:
        yield part
        for file in part.iterdir():
            _flush(file)
        _flush_folder(part)
        with contextlib.suppress(OSError):
            target.rmdir()  # an empty folder that somebody prepared
        part.rename(target)
        _flush_folder(target.parent)
    finally:
        _drop_part(part)


def place_part(part: Path, target: Path) -> None:
    """Flush ``part`` to the disk and move it over ``target``, which may itself be a part file of this process.

    Raises:
        OSError: it cannot be; ``part`` is still there.
    """
    _flush(part)
    if fcntl is None:
        _let_go(part)
        _let_go(target)
    os.replace(part, target)
    with _guard.lock:
        handle, covered = _held.pop(part, None), _held.pop(target, None)
        if covered is not None:
            os.close(covered)
            if handle is not None:
                _held[target] = handle
        elif handle is not None:
            os.close(handle)
    _flush_folder(target.parent)


def remove_rests(folder: Path) -> None:
    """Remove what killed runs have left in ``folder``; every writer does it for the folder that it writes to."""
    now = time.monotonic()
    last_s, count = _searched.get(folder, (now, 0))
    if count > _MANY_ENTRIES and now - last_s < _SECONDS_BETWEEN_SEARCHES:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for count, entry in enumerate(entries, 1):  # noqa: B007 - counted for the next time
            _searched[folder] = now, count
            if (own := _PART.fullmatch(entry.name)) is not None:
                is_rest = own["host"] == _host()
            else:
                is_rest = _FORMER_PART.fullmatch(entry.name) is not None and _is_old(entry)
            if is_rest and not entry.is_symlink():
                with contextlib.suppress(OSError):
                    _remove_if_left(Path(entry.path))


def _make_part(folder: Path, is_folder: bool = False) -> Path:
    """A new, empty, locked part in ``folder``; rests of killed runs are removed first.

    Raises:
        OSError: nothing can be written there.
    """
    remove_rests(folder)
    while True:
        # Not derived from the target's name, which may already be as long as the file system allows.
        part = folder / f".triportrait-part-{_host()}-{secrets.token_hex(8)}.part"
        if is_folder:
            part.mkdir(mode=0o700)
            try:
                handle = None if fcntl is None else os.open(part, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # taken for a rest, as below
                continue
        else:
            handle = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o666)
        if handle is not None:
            _hold(part, handle)
        # Between its creation and its lock another process may have taken it for a rest.
        if part.exists():
            return part
        _let_go(part)


def _drop_part(part: Path) -> None:
    """Remove a part; nothing happens when it has gone already."""
    if fcntl is None:
        _let_go(part)
    try:
        _remove(part)
    except OSError:
        pass
    finally:
        _let_go(part)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)


def _flush(file: Path) -> None:
    with file.open("r+b") as stream:
        os.fsync(stream.fileno())


def _flush_folder(folder: Path) -> None:
    """A rename survives a power cut only when its folder is flushed, too; not every file system can do that."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _hold(part: Path, handle: int) -> None:
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks: rests stay there
            fcntl.flock(handle, fcntl.LOCK_EX)
    with _guard.lock:
        _held[part] = handle


def _let_go(part: Path) -> None:
    with _guard.lock:
        handle = _held.pop(part, None)
    if handle is not None:
        os.close(handle)


@cache
def _host() -> str:
    """The machine's tag: the same in all its processes and after a restart, another on another machine."""
    identity = b""
    with contextlib.suppress(OSError):
        identity = Path("/etc/machine-id").read_bytes()
    # Machines that were copied from one image share the identity, containers often the name.
    return hashlib.blake2b(identity + platform.node().encode(errors="replace"), digest_size=4).hexdigest()


def _is_old(entry: os.DirEntry[str]) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _FORMER_AGE_S
    return False


def _remove_if_left(part: Path) -> None:
    if fcntl is None:
        _remove(part)
        return
    # Folders can only be opened for reading; network file systems lock only what is open for writing.
    mode = os.O_RDONLY if part.is_dir() else os.O_RDWR
    handle = os.open(part, mode | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(part)
    finally:
        os.close(handle)


def _reason(error: BaseException) -> str:
    """The system's short words for an error, in lower case."""
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC:
        return "the disk is full; free some space"
    if number in (errno.EACCES, errno.EPERM):
        return "permission denied; choose another place or change its rights"
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return words[:1].lower() + words[1:].rstrip(".")


# -- outputs that are inputs ----------------------------------------------------------------------------------------------


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
    """Whether ``target`` is a file below ``folder``, by path or as another name of the same file.

    Folders are listed; of their entries only links are looked at, and all of them where the target has a second name.
    """
    wanted = target.stat()
    if stat.S_ISDIR(wanted.st_mode):
        return False
    real = Path(os.path.realpath(target))
    if real.is_relative_to(os.path.realpath(folder)):
        return True
    has_other_names = wanted.st_nlink > 1
    waiting = [os.fspath(folder)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_symlink() or has_other_names:
                    with contextlib.suppress(OSError):
                        found = entry.stat()
                        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                            return True
    return False


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"'{folder}' cannot be made: {error.strerror or error}; choose another place.") from error
