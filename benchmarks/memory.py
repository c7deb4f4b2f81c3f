"""Peak memory of a long voice against a short one, the whole way to a signed mp4: ``python benchmarks/memory.py [--quick]``.

Each job is a process of its own (photo -> tracking -> fitting -> voice -> motion -> frames -> H.264 + AAC -> watermark ->
manifest), and the figure is the kernel's high-water mark of its resident memory. The bar is 100 MB between 20 s and
10 minutes. Frames of another size change both jobs by the same amount, so the difference is that of every size; the default
is 256 px, ``--size 512`` takes about four times as long.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BAR_MB = 100.0


def child(photo: Path, voice: Path, out: Path, size: int) -> None:
    """One job, and what it took, as a line of JSON."""
    import resource

    from triportrait.cli import main

    start = time.perf_counter()
    code = main(["animate", str(photo), "--audio", str(voice), "--size", str(size), "-o", str(out)])
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    print(json.dumps({"code": code, "peak_mb": peak_mb, "seconds": time.perf_counter() - start}))


def measure(voice_seconds: float, size: int, folder: Path) -> dict[str, float]:
    """Run a job on the example speech, repeated to ``voice_seconds``."""
    import soundfile

    samples, rate_hz = soundfile.read(ROOT / "examples" / "speech.wav", dtype="float32")
    voice, out = folder / f"{voice_seconds:.0f}.wav", folder / f"{voice_seconds:.0f}.mp4"
    soundfile.write(voice, np.resize(samples, round(voice_seconds * rate_hz)), rate_hz)
    command = [sys.executable, __file__, "--child", str(ROOT / "examples" / "portrait.png"), str(voice), str(out), "--size", str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    result = json.loads(done.stdout.splitlines()[-1])
    if result["code"] != 0:
        raise SystemExit(f"the job of {voice_seconds:.0f} s failed")
    return result | {"file_mb": out.stat().st_size / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--short", type=float, default=20.0, help="seconds of the short voice")
    parser.add_argument("--long", type=float, default=600.0, help="seconds of the long voice")
    parser.add_argument("--quick", action="store_true", help="128 px, 10 s against 90 s")
    parser.add_argument("--child", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, options.size)
        return
    if options.quick:
        options.size, options.short, options.long = 128, 10.0, 90.0
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (options.short, options.long):
            result = measure(seconds, options.size, Path(folder))
            peaks.append(result["peak_mb"])
            print(
                f"{seconds:6.0f} s of voice at {options.size} px: peak {result['peak_mb']:7.1f} MB,"
                f" {result['seconds']:6.1f} s, file {result['file_mb']:.1f} MB",
                flush=True,
            )
    difference = peaks[1] - peaks[0]
    print(f"difference {difference:.1f} MB (bar: {BAR_MB:.0f} MB)")
    raise SystemExit(difference > BAR_MB)


if __name__ == "__main__":
    main()
