"""Paths in, paths out: what is checked before a file is opened, and outputs that exist whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from triportrait.errors import MediaError, OutputError
from triportrait.outputs import drop_part, make_part, place_part

#: An output is refused at once when its disk has less room than this.
MINIMUM_FREE_BYTES = 1 << 20


def check_readable(path: str | os.PathLike[str]) -> Path:
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


class AtomicFile:
    """A hidden ``.part`` file (:mod:`triportrait.outputs`) beside a target that it replaces when complete.

    The ``.part`` file is created at construction, so a target that cannot be written is known before any work is done.
    Exactly one of :meth:`commit` and :meth:`discard` has an effect, the first one called.

    Args:
        path: the target. A symbolic link is followed; an existing ordinary file is replaced.

    Attributes:
        target: the absolute path of the finished file.
        part: the absolute path to write to.

    Raises:
        OutputError: the folder is missing, the target is a folder, a device or write-protected, or the disk is full.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._shown = os.fspath(path)
        try:
            self.target = Path(os.path.realpath(path))
            self._check_target()
            self.part = make_part(self.target.parent)
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
        """Flush ``part`` to the disk and move it over the target."""
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
            drop_part(self.part)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write to the yielded path; it becomes ``path`` when the block ends well and vanishes when it does not.

    Raises:
        OutputError: as :class:`AtomicFile`, and for any OSError inside the block.
    """
    output = AtomicFile(path)
    try:
        yield output.part
        output.commit()
    except OSError as error:
        raise output.error(error) from error
    finally:
        output.discard()


def _reason(error: BaseException) -> str:
    """The system's short words for an error, in lower case."""
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC:
        return "the disk is full; free some space"
    if number in (errno.EACCES, errno.EPERM):
        return "permission denied; choose another place or change its rights"
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return words[:1].lower() + words[1:].rstrip(".")
