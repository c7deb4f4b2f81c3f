"""The last door before a terminal: what passes it cannot move a cursor, and a stream that is closed, broken or plain ASCII ends nothing.

Names of files and messages of libraries come from others. Control characters in them are shown as escapes, and messages
have an end. A reader who goes away is remembered, for the exit code; the work goes on, so that its result is whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

from triportrait.errors import LONGEST_SENTENCE, escaped, printable

#: Characters of one message, with room for what stands before a sentence of an error; more is a library that tells its life.
LONGEST_MESSAGE = LONGEST_SENTENCE + 100
#: As a shell reports a program that a closed pipe has ended.
BROKEN_PIPE_EXIT = 141

_exit_code = 0


def mend_streams() -> None:
    """Give a process that was started without standard streams some that swallow everything, and every stream its escapes."""
    global _exit_code
    _exit_code = 0
    # A file opened later would get the free number of a closed stream, and what libraries write to that stream.
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _nowhere())
        elif hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def exit_code() -> int:
    """0, or the code to end with because a stream broke since :func:`mend_streams`."""
    for name in ("stdout", "stderr"):
        _write(name, "")
    return _exit_code


@contextlib.contextmanager
def answering_help() -> Iterator[None]:
    """Around what prints help or a complaint about the arguments and ends the program: an answer that nobody gets is no success.

    Raises:
        SystemExit: with the code of the block's own, or 1 when the answer cannot be written. Whoever reads a part of the help
            has read enough: a closed pipe is no failure.
    """
    try:
        yield
    except OSError as error:
        exit_code()
        raise SystemExit(0 if isinstance(error, BrokenPipeError) else 1) from None
    except SystemExit as end:
        code = exit_code()
        if end.code or code in (0, BROKEN_PIPE_EXIT):
            raise
        raise SystemExit(code) from None


class _Log(logging.Handler):
    """Each warning once: files are looked at before the work and read in it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = self.format(record)
        if record.levelno >= logging.WARNING:
            if message in self.said:
                return
            self.said.add(message)
        tell(message)


_LOG = _Log()


def show_log() -> None:
    """Log messages go to standard error from now on, each warning once; Python's own warnings speak to programmers and stay away.

    ``PYTHONWARNINGS`` or ``-W`` bring those back.
    """
    _LOG.said.clear()
    logging.basicConfig(level=logging.WARNING, format="triportrait: %(message)s", handlers=[_LOG])
    logging.getLogger("triportrait.compiling").setLevel(logging.INFO)  # a wait of a minute wants a word
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def one_line(text: object) -> str:
    """A message as one printable line of at most ``LONGEST_MESSAGE`` characters."""
    return printable(str(text), LONGEST_MESSAGE)


def say(result: object) -> None:
    """A result, one line on standard output."""
    _write("stdout", escaped(str(result)) + "\n")


def say_lines(report: object) -> None:
    """A report of several lines on standard output."""
    _write("stdout", escaped(str(report), "\n\t") + "\n")


def tell(message: object) -> None:
    """A message, one line on standard error."""
    _write("stderr", one_line(message) + "\n")


def _write(name: str, text: str) -> None:
    """To whatever the stream is at that moment: a progress bar puts itself there and makes room."""
    global _exit_code
    stream = getattr(sys, name)
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except (OSError, ValueError) as error:  # ValueError: closed
        _exit_code = BROKEN_PIPE_EXIT if isinstance(error, BrokenPipeError) else 1
        _swallow(name)


def _swallow(name: str) -> None:
    """What is still in the stream's buffer goes nowhere, in place of a complaint when the process ends."""
    stream = getattr(sys, name)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        handle = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(handle, stream.fileno())
        finally:
            os.close(handle)
    setattr(sys, name, _nowhere())


def _nowhere() -> object:
    return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")
