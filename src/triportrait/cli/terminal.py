"""The last door before a terminal: what passes it cannot move a cursor, and a stream that is closed, broken or plain ASCII ends nothing.

Names of files and messages of libraries come from others. Control characters in them are shown as escapes, and messages
have an end. A reader who goes away is remembered, for the exit code; the work goes on, so that its result is whole.
"""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata

#: Characters of one message; more is a library that tells its life.
LONGEST_MESSAGE = 1_000
#: As a shell reports a program that a closed pipe has ended.
BROKEN_PIPE_EXIT = 141

#: They turn the direction of the text after them.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

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


def escaped(text: str, keep: str = "") -> str:
    """Text without control characters, line ends, half characters and turns of direction, except those in ``keep``."""
    return "".join(c if c in keep or not _is_control(c) else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _TURNING


def one_line(text: object) -> str:
    """A message as one printable line of at most ``LONGEST_MESSAGE`` characters."""
    line = escaped(str(text))
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 3] + "..."


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
