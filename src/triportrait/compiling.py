"""The one door to numba: kernels are compiled once and kept where that can be, and work where it cannot.

numba keeps compiled code beside the source, else in the user's cache folder (``NUMBA_CACHE_DIR`` names another), and
refuses to define a kernel where none of them can be written to: a read-only image, an unwritable home. Here a private
folder among the temporary files follows, and after it no cache at all. A cache that is damaged, or whose disk is full, is
as good as none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np

log = logging.getLogger(__name__)

#: Called when the first kernel of a process is compiled whose code can be kept.
at_first_compilation: Callable[[], object] | None = None


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit`` with these options, whose ``cache=True`` never fails and whose first compilation is announced."""

    def compiled(function: Callable[..., Any]) -> Any:
        if not options.get("cache"):
            return numba.njit(**options)(function)
        try:
            kernel = numba.njit(**options)(function)
        except RuntimeError:  # "no locator available"
            kernel = _kept_among_temporary_files(function, options)
        # Dispatchers ask this attribute for compiled code, and hand it what they have compiled.
        kernel._cache = _Cache(kernel._cache, function)
        return kernel

    return compiled


def _kept_among_temporary_files(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    folder = private_temporary_folder()
    if folder is not None:
        with _numba_cache_folder(folder / "numba"), contextlib.suppress(RuntimeError):
            return numba.njit(**options)(function)
    return numba.njit(**options | {"cache": False})(function)


@contextlib.contextmanager
def _numba_cache_folder(folder: Path) -> Iterator[None]:
    """A kernel notes its folder when it is defined, so other packages' kernels see nothing of this."""
    settings: Any = numba.config  # its variables are made when it is loaded: type checkers do not see them
    before = settings.CACHE_DIR
    settings.CACHE_DIR = os.fspath(folder)
    try:
        yield
    finally:
        settings.CACHE_DIR = before


def private_temporary_folder() -> Path | None:
    """A folder among the temporary files that is this user's alone, the same in every process; None when it cannot be had.

    Compiled code is run when it is read, so a folder that somebody else made, or may write to, is not used.
    """
    user = os.getuid() if hasattr(os, "getuid") else None
    try:
        folder = Path(tempfile.gettempdir()) / ("triportrait" if user is None else f"triportrait-{user}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        private = stat.S_ISDIR(status.st_mode) and (user is None or (status.st_uid == user and not status.st_mode & 0o022))
        return folder if private and os.access(folder, os.W_OK) else None
    except OSError:
        return None


def _sources(function: Callable[..., Any], stamp: object) -> set[tuple[str, str]]:
    """What a kernel is compiled from: names and stamps of files, those of the kernels that it calls, and constants of its module."""
    found = {(function.__module__, repr(stamp))}
    for name in function.__code__.co_names:
        value = getattr(function, "__globals__", {}).get(name)
        cache = getattr(value, "_cache", None)
        if isinstance(cache, _Cache):
            found |= cache.sources
        elif isinstance(value, bool | int | float | np.generic):
            found.add((name, repr(value)))
    return found


class _Cache:
    """numba's cache of one kernel, whose failures cost time and nothing else."""

    _announced = False

    def __init__(self, numbas: Any, function: Callable[..., Any]) -> None:
        self._numbas = numbas
        # numba looks at the kernel's own file alone, but compiles other kernels and constants into it.
        file = getattr(numbas, "_cache_file", None)
        self.sources = _sources(function, getattr(file, "_source_stamp", None))
        if file is not None:
            file._source_stamp = tuple(sorted(self.sources))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._numbas, name)

    def load_overload(self, signature: Any, target: Any) -> Any:
        try:
            found = self._numbas.load_overload(signature, target)
        except Exception as error:  # a damaged file lets almost any exception out
            log.debug("compiled code cannot be read: %s", error)
            found = None
        if found is None and not _Cache._announced:
            _Cache._announced = True
            if self._numbas.cache_path is None:
                log.info(
                    "compiling the kernels, in every run because no folder can keep them; this takes some 20 s, name a folder in "
                    "NUMBA_CACHE_DIR"
                )
            else:
                log.info("compiling the kernels, once; this takes some 20 s")
                if at_first_compilation is not None:
                    at_first_compilation()
        return found

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            self._numbas.save_overload(signature, data)
        except Exception as error:  # a full disk, a folder that has gone
            log.debug("compiled code cannot be kept: %s", error)
