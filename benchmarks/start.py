"""From the start of a process to its first frame: wall time and processor time, with kernels that are kept and without.

    python benchmarks/start.py [--runs 5] [--photo examples/portrait.png] [--voice examples/speech.wav]

Every run is a process of its own. "warm" has compiled kernels and byte code on disk, as from the second video on; "cold" compiles the
kernels into an empty folder, as the first video after an installation does. ``--python`` measures another environment.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIRST_FRAME = """
import sys
from triportrait import Portrait
next(Portrait.from_image(sys.argv[1]).talk(sys.argv[2]).frames())
sys.stdout.write("there")
sys.stdout.flush()
"""


def seconds_of(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds until the command says something, and seconds of processor time in all its life."""
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.read(1)
        wall = time.perf_counter() - began
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or not said:
        raise SystemExit(f"{command} ended with {process.returncode}")
    return wall, usage.ru_utime + usage.ru_stime


def report(name: str, command: list[str], environment: dict[str, str], runs: int) -> None:
    """One line: the least and the median of the runs."""
    times = [seconds_of(command, environment) for _ in range(runs)]
    walls, busy = zip(*times, strict=True)
    print(f"{name:28s} {min(walls):6.2f} s, median {statistics.median(walls):6.2f} s; processor time {statistics.median(busy):6.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--photo", type=Path, default=Path("examples/portrait.png"))
    parser.add_argument("--voice", type=Path, default=Path("examples/speech.wav"))
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    first = [options.python, "-c", FIRST_FRAME, str(options.photo), str(options.voice)]
    # Some places forbid byte code, whose writing is part of what is measured here.
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "NUMBA_CACHE_DIR")}
    with tempfile.TemporaryDirectory() as folder:
        kept = plain | {"NUMBA_CACHE_DIR": f"{folder}/kept"}
        report("first frame, cold", first, kept, 1)
        report("first frame, warm", first, kept, options.runs)
    report("import triportrait", [options.python, "-c", "import triportrait; print(1)"], plain, options.runs)
    report("python alone", [options.python, "-c", "print(1)"], plain, options.runs)
    report("triportrait --help", [options.python, "-m", "triportrait", "--help"], plain, options.runs)


if __name__ == "__main__":
    main()
