"""The list of kernels is what a video calls, and what helpers compile is found by everybody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from triportrait import compiling, kernels_ahead

EXAMPLES = Path(__file__).parents[1] / "examples"

CALLED = """
import gc, sys
from numba.core.dispatcher import Dispatcher
from triportrait.kernels_ahead import listed, said_of
from triportrait.pipeline import Portrait
next(Portrait.from_image(sys.argv[1]).talk(sys.argv[2]).frames())
kernels = [kernel for kernel in gc.get_objects() if isinstance(kernel, Dispatcher) and kernel.py_func.__module__.startswith("triportrait.")]
names = [(f"{kernel.py_func.__module__}:{kernel.py_func.__name__}", types) for kernel in kernels for types in kernel.overloads]
print([name for name, types in names if (name, [said_of(kind) for kind in types]) not in listed()])
"""


def run(code: str, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=os.environ | environment, capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout.strip()


def test_the_list_is_what_a_video_calls() -> None:
    # The first process may have to compile, and then also holds what its kernels call themselves.
    arguments = str(EXAMPLES / "portrait.png"), str(EXAMPLES / "speech.wav")
    assert run(CALLED, *arguments) == "[]" or run(CALLED, *arguments) == "[]", "run scripts/record_kernels.py"


def test_what_is_compiled_ahead_is_found_by_others(tmp_path: Path) -> None:
    name, types = kernels_ahead.listed()[-1]
    code = f"""
from triportrait.kernels_ahead import compile_kernel, found
compile_kernel({name!r}, {types!r})
print(sum(found({name!r}).stats.cache_hits.values()))
"""
    assert [run(code, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)] == ["0", "1"]


def test_helpers_come_with_the_first_compilation_and_end_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def noted(*arguments: object, **settings: object) -> subprocess.Popen[bytes]:
        started.append(start(*arguments, **settings))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    with kernels_ahead.helpers(2):
        assert not started
        compiling.at_first_compilation()
        assert [process.args[-2:] for process in started] == [["0", "2"], ["1", "2"]]
    assert all(process.returncode is not None for process in started) and compiling.at_first_compilation is None
