"""Voice to motion file: real-time factor and memory of ``triportrait motion`` for a short and a long recording.

    python benchmarks/voice.py [--minutes 60] [--speech examples/speech.wav ...] [--kind csv]

Each run is a process of its own: its peak memory is the operating system's figure, and its time is the whole command's,
start-up included. The long recording also comes in live, in blocks of 40 ms, with the memory on the way. Streamed blocks of
20 ms are compared with the whole file on the first 30 s.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

#: Of the process itself, in MB; what getrusage says of a child begins with its parent's.
MEMORY = """
from pathlib import Path
def memory_mb(kind="VmRSS"):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))
"""
CHILD = """
import sys, time
from triportrait.cli import main
began, cpu = time.perf_counter(), time.process_time()
code = main(["motion", sys.argv[1], "-o", sys.argv[2]])
seconds, busy = time.perf_counter() - began, time.process_time() - cpu
print(code, seconds, busy, memory_mb("VmHWM"))
"""

LIVE = """
import sys, time
import soundfile
from triportrait.motion.audio import AudioDriver
from triportrait.types import Waveform

rate_hz = soundfile.info(sys.argv[1]).samplerate
blocks = soundfile.blocks(sys.argv[1], blocksize=rate_hz // 25, dtype="float32")
rows, at = 0, [float(minute) for minute in sys.argv[2:]]
began, cpu = time.perf_counter(), time.process_time()
for chunk in AudioDriver(Waveform(block, rate_hz) for block in blocks).chunks():
    rows += len(chunk)
    if at and rows >= at[0] * 60 * 25 - 50:
        busy_ms = 1000 * (time.process_time() - cpu)
        print(f"  live, {at.pop(0):g} min: {memory_mb():.0f} MB, {busy_ms / (rows / 25):.0f} CPU-ms a second of sound", flush=True)
print(f"  {rows} rows in {time.perf_counter() - began:.0f} s")
"""


def long_recording(speech: list[Path], minutes: float, target: Path) -> float:
    """The ``speech`` files over and over, at slowly changing loudness; returns the seconds."""
    rate_hz = soundfile.info(speech[0]).samplerate
    parts = [part for path in speech for part, its_rate in [soundfile.read(path, dtype="float32", always_2d=True)] if its_rate == rate_hz]
    samples = np.concatenate([part.mean(axis=1) for part in parts])
    total = int(minutes * 60 * rate_hz)
    with soundfile.SoundFile(target, "w", rate_hz, 1, subtype="PCM_16") as file:
        written = 0
        while written < total:
            block = samples[: total - written] * (0.6 + 0.4 * np.sin(written / rate_hz / 37.0))
            file.write(block)
            written += len(block)
    return total / rate_hz


def streaming_difference(speech: Path) -> float:
    """Largest difference of any number between 20 ms blocks and the whole."""
    from triportrait.motion.audio import AudioDriver, AudioSettings
    from triportrait.motion.controls import Controls
    from triportrait.types import Waveform

    samples, rate_hz = soundfile.read(speech, dtype="float32")
    samples = np.resize(samples if samples.ndim == 1 else samples.mean(axis=1), rate_hz * 30)
    settings = AudioSettings(Controls().with_emotion("happy"))
    whole = AudioDriver(Waveform(samples, rate_hz), settings).motion()
    step = rate_hz // 50
    blocks = (Waveform(samples[start : start + step], rate_hz) for start in range(0, len(samples), step))
    parts = list(AudioDriver(blocks, settings).chunks())
    fields = ("expression", "rotation_rad", "translation", "gaze_rad")
    return max(float(np.abs(np.concatenate([getattr(part, f) for part in parts]) - getattr(whole, f)).max()) for f in fields)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--speech", type=Path, nargs="+", default=[Path("examples/speech.wav")])
    parser.add_argument("--kind", default="csv", help="csv, npz, json or livelink.csv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for minutes in (1.0, options.minutes):
            sound, out = Path(folder) / "sound.wav", Path(folder) / f"motion.{options.kind}"
            seconds = long_recording(options.speech, minutes, sound)
            began = time.perf_counter()
            child = subprocess.run([sys.executable, "-c", MEMORY + CHILD, str(sound), str(out)], capture_output=True, text=True, check=True)
            code, wall, busy, peak = child.stdout.split("\n")[-2].split()
            print(
                f"{minutes:g} min of sound -> {options.kind} ({out.stat().st_size / 1e6:.1f} MB): {float(wall):.1f} s, "
                f"{seconds / float(wall):.0f}x real time; {float(busy):.1f} s of processor time, {seconds / float(busy):.0f}x; "
                f"peak memory {float(peak):.0f} MB; exit code {code}; with start-up {time.perf_counter() - began:.1f} s"
            )
        minutes_at = [str(options.minutes * share) for share in (1 / 12, 0.25, 0.5, 0.75, 1.0)]
        subprocess.run([sys.executable, "-c", MEMORY + LIVE, str(sound), *minutes_at], check=True)
    print(f"20 ms blocks against the whole, 30 s: largest difference {streaming_difference(options.speech[0]):.1e}")


if __name__ == "__main__":
    main()
