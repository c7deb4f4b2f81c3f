"""MediaPipe writes to descriptor 2, past Python's logging: what shuts it for a moment, and what opens it where it is closed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from triportrait.concurrency import STANDARD_ERROR, standard_error_is_free


@contextmanager
def quiet() -> Iterator[None]:
    """MediaPipe's C++ writes warnings about its own models past Python's logging; nobody can act on them.

    Standard error is shut only where that takes no line from anybody; else a few of them are seen, once per network.
    """
    if not standard_error_is_free():
        yield
        return
    with STANDARD_ERROR:
        try:
            saved = os.dup(2)
        except OSError:  # no standard error at all
            yield
            return
        _flush_standard_error()
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        try:
            yield
        finally:
            _flush_standard_error()
            os.dup2(saved, 2)
            os.close(saved)
            os.close(sink)


def _flush_standard_error() -> None:
    with suppress(AttributeError, OSError, ValueError):  # none, shut or broken: nothing to keep in order
        sys.stderr.flush()


def open_standard_error() -> None:
    """Where descriptor 2 is closed, the next file opened would get it, and MediaPipe's warnings with it."""
    try:
        os.fstat(2)
    except OSError:
        sink = os.open(os.devnull, os.O_WRONLY)
        if sink != 2:
            os.dup2(sink, 2)
            os.close(sink)
