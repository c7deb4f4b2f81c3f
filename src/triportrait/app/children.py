"""Processes that read what strangers sent: with limits on memory, time and output, and no more at a time than the machine bears.

A file that makes a decoder crash, hang or fill the memory ends its own process and nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import threading

from triportrait.app.schemas import ApiError

#: Address space, seconds of processor and of the clock, and bytes of one file that a child may use.
MEMORY_BYTES, PROCESSOR_S, CLOCK_S, OUTPUT_BYTES = 6 << 30, 240, 120.0, 512 << 20
#: Children at a time, and how long one waits for its turn.
_AT_ONCE, _TURN_S = 2, 60.0
_turns = threading.BoundedSemaphore(_AT_ONCE)

#: Those that are at it; the server's end is theirs.
_running: set[subprocess.Popen[str]] = set()

#: Sets the limits, then becomes the program itself. Limits outlive ``exec``; code between fork and exec may not run in threads.
_LIMITED = """
import os, sys
memory, seconds, output = (int(one) for one in sys.argv[1:4])
try:
    import resource
    for limit, most in (("AS", memory), ("CPU", seconds), ("FSIZE", output), ("CORE", 0)):
        resource.setrlimit(getattr(resource, "RLIMIT_" + limit), (most, most))
    os.nice(5)
except (ImportError, ValueError, OSError):
    pass
os.execv(sys.executable, [sys.executable, "-m", *sys.argv[4:]])
"""


def run_limited(
    arguments: list[str],
    field: str,
    *,
    module: str = "triportrait",
    memory_bytes: int = MEMORY_BYTES,
    clock_s: float = CLOCK_S,
) -> subprocess.CompletedProcess[str]:
    """Run a program of ours within limits.

    Args:
        arguments: of its command line.
        field: whose file it reads, for what is said of it.
        module: the program.
        memory_bytes, clock_s: what it may use.

    Raises:
        ApiError: it takes too long, or too many others are at it.
    """
    if not _turns.acquire(timeout=_TURN_S):
        raise ApiError("E_FULL", "The server reads as many files as it can.", field, "Try again in a minute.")
    try:
        limits = [f"{memory_bytes}", f"{PROCESSOR_S}", f"{OUTPUT_BYTES}"]
        command = [sys.executable, "-c", _LIMITED, *limits, module, *arguments]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        ) as child:
            _running.add(child)
            try:
                said, complained = child.communicate(timeout=clock_s)
                return subprocess.CompletedProcess(command, child.returncode, said, complained)
            finally:
                _running.discard(child)
                child.kill()
    except subprocess.TimeoutExpired:
        raise ApiError("E_TOO_LARGE", "The file takes too long to read.", field, "Use a smaller one.") from None
    except OSError:
        raise ApiError("E_FULL", "The server cannot start another process.", field, "Try again in a minute.") from None
    finally:
        _turns.release()


def end_children() -> None:
    """Stop all of them: the server ends, and nobody waits for what they say."""
    for child in list(_running):
        child.kill()


def refusal(done: subprocess.CompletedProcess[str], path: str, field: str, shown: str) -> ApiError:
    """Why a child gave no result: the last sentence that it said, or that it fell over the file.

    Args:
        done: what :func:`run_limited` returned.
        path: of the file, which is not told.
        field, shown: what the request calls the file, and what people do.
    """
    lines = [line.removeprefix("triportrait: ") for line in done.stderr.splitlines() if line.startswith("triportrait: ")]
    text = lines[-1] if lines else f"{shown} could not be read; export it again, or use another file"
    if "internal error" in text:  # such as memory that ran out
        text = f"{shown} could not be read within the server's limits; use a smaller one, or export it again"
    for name in (path, path.rpartition("/")[2]):
        text = text.replace(f"'{name}'", shown).replace(name, shown)
    return ApiError("E_NO_FACE" if "face" in text else "E_INPUT", text, field)
