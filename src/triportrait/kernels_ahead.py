"""The first video of an installation waits for its kernels to be compiled: here other processes compile those that it needs last.

numba compiles one kernel at a time in a process. Which kernels a video calls, with arrays of which types and in what order, stands in
``kernels_ahead.json``, written by ``scripts/record_kernels.py``. The helpers go through it from its end and keep what they compile where
every process finds it. A kernel that is not in it, or no longer so, is compiled when it is called, as without any help.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files
from typing import Any

log = logging.getLogger(__name__)

#: A type of numba's in JSON: "float32[2]" is a C-contiguous array, "float32" a number, {"module:Class": [types]} a named tuple,
#: {"omitted": value} a default.
Said = str | dict[str, Any]

#: More helpers have too little to do.
_MOST_HELPERS = 8


@contextlib.contextmanager
def helpers(count: int) -> Iterator[None]:
    """While it runs, the first kernel that has to be compiled brings so many processes along, a few at most; they end with it."""
    from triportrait import compiling

    count = min(count, _MOST_HELPERS)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        # -P: what lies in the folder where the user works is no module of ours.
        command = [sys.executable, "-P", "-m", "triportrait.kernels_ahead"]
        nothing = subprocess.DEVNULL
        with contextlib.suppress(OSError):  # without helpers it takes longer
            for number in range(count):
                arguments = [*command, str(number), str(count)]
                started.append(subprocess.Popen(arguments, stdin=nothing, stdout=nothing, stderr=nothing))

    before, compiling.at_first_compilation = compiling.at_first_compilation, start
    try:
        yield
    finally:
        compiling.at_first_compilation = before
        for process in started:
            process.terminate()
            process.wait()


def listed() -> list[tuple[str, list[Said]]]:
    """``module:name`` of the kernels that a video calls, and the types that it calls them with, in the order of the calls."""
    return [(name, types) for name, types in json.loads(files("triportrait").joinpath("kernels_ahead.json").read_text(encoding="utf-8"))]


def found(name: str) -> Any:
    """What ``module:name`` names."""
    module, _, inside = name.partition(":")
    return getattr(import_module(module), inside)


def compile_kernel(name: str, types: list[Said]) -> None:
    """Compile and keep one kernel, unless it is kept already."""
    found(name).compile(tuple(_type_of(said) for said in types))


def _type_of(said: Said) -> Any:
    import numpy as np
    from numba import from_dtype, types

    if isinstance(said, dict):
        ((name, inner),) = said.items()
        return types.Omitted(inner) if name == "omitted" else types.BaseTuple.from_types([_type_of(part) for part in inner], found(name))
    number, _, axes = said.partition("[")
    kind = from_dtype(np.dtype(number))
    return types.Array(kind, int(axes.rstrip("]")), "C") if axes else kind


def said_of(kind: Any) -> Said:
    """A type of numba's as it stands in the list.

    Raises:
        ValueError: it cannot stand there.
    """
    from numba import types

    if isinstance(kind, types.Omitted):
        return {"omitted": kind.value}
    if named := getattr(kind, "instance_class", None):
        return {f"{named.__module__}:{named.__qualname__}": [said_of(part) for part in kind]}
    said = f"{kind.dtype}[{kind.ndim}]" if isinstance(kind, types.Array) else str(kind)
    if _type_of(said) != kind:
        raise ValueError(f"{kind} has no name in the list")
    return said


def main(number: int, count: int) -> None:
    """What helper ``number`` of ``count`` does."""
    if hasattr(os, "nice"):
        os.nice(5)  # whoever makes the video comes first
    for name, types in listed()[::-1][number::count]:
        try:
            compile_kernel(name, types)
        except Exception as error:  # the list may be older than the kernel; whoever calls it compiles it
            log.debug("%s is not compiled ahead: %s", name, error)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
