"""Runs that are killed at random moments: no output may be lost or half-written, and nothing may be left behind.

Each run animates a portrait over the video of the run before it and gets SIGKILL, SIGTERM, SIGHUP or SIGINT at a moment
drawn from its whole length. Afterwards the target must be the old video or a whole new one, the inputs must be as they
were, and the folder must hold nothing else, except after SIGKILL, whose rests the next run has to remove.

    python benchmarks/killed_runs.py examples/portrait.png voice.wav --runs 50
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from triportrait.media.video import VideoReader

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def frames_of(path: Path) -> int:
    """Frames that decode; raises for a file that is not whole."""
    with VideoReader(path) as reader:
        assert reader.has_audio, f"{path} has no sound"
        return sum(1 for _ in reader.frames(None))


def rests(folder: Path, target: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path != target)


def killed(command: list[str], sent: signal.Signals, after_s: float, folder: Path | None = None) -> int:
    """Start a command, send it a signal after a time, and return its exit code (negative: died of that signal).

    With ``folder`` the time counts from the moment that a part file in it has grown.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A background job of a shell ignores SIGINT, one of nohup SIGHUP, and so would its children.
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)],
    )
    known = {} if folder is None else {path: path.stat().st_size for path in folder.glob(".*.part")}
    while folder is not None and process.poll() is None:
        if any(path.stat().st_size > known.get(path, 0) for path in folder.glob(".*.part") if path.exists()):
            break
        time.sleep(0.005)
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.send_signal(sent)
    return process.wait(120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("voice", type=Path)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs, out = folder / "inputs", folder / "out"
        inputs.mkdir()
        out.mkdir()
        photo, voice = (Path(shutil.copy(path, inputs)) for path in (options.photo, options.voice))
        before = [digest(path) for path in (photo, voice)]
        target = out / "o.mp4"
        command = [sys.executable, "-m", "triportrait", "animate", str(photo), str(voice), "--quality", "draft", "-o", str(target)]
        subprocess.run(command, check=True, capture_output=True)  # the kernels are compiled
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not rests(out, target):
            time.sleep(0.01)
        first_s = time.perf_counter() - began
        assert process.wait() == 0
        length_s, frames = time.perf_counter() - began, frames_of(target)
        writing_s = length_s - first_s
        print(f"a whole run takes {length_s:.1f} s, {writing_s:.1f} s of them with a part file, and gives {frames} frames")
        ends: Counter[str] = Counter()
        wrong: list[str] = []
        for run in range(options.runs):
            old, sent = digest(target), chance.choice(SIGNALS)
            # One in three at any moment; the others while the video is written, signed and moved to its place.
            writing = run % 3 > 0
            after_s = chance.uniform(0.0, 1.3 * writing_s if writing else 1.05 * length_s)
            # The seed makes each run's video another one.
            code = killed([*command, "--seed", str(run + 1)], sent, after_s, out if writing else None)
            new = digest(target) if target.exists() else None
            left = rests(out, target)
            ends[f"{sent.name} -> {code}, {'new' if new != old else 'old'} video, {len(left)} rests"] += 1
            print(f"{run + 1}: {sent.name} -> {code}, {'new' if new != old else 'old'} video, {len(left)} rests", file=sys.stderr)
            here = f"run {run} ({sent.name} {after_s:.2f} s after the {'first bytes' if writing else 'start'}, code {code})"
            if new is None:
                wrong.append(f"{here}: the old video is gone")
            elif new != old and frames_of(target) != frames:
                wrong.append(f"{here}: the new video is not whole")
            if code == 0 and new == old:
                wrong.append(f"{here}: success and no new video")
            if left and sent != signal.SIGKILL:
                wrong.append(f"{here}: left {left}")
            if [digest(path) for path in (photo, voice)] != before:
                wrong.append(f"{here}: an input has changed")
        subprocess.run(command, check=True, capture_output=True)
        if left := rests(out, target):
            wrong.append(f"a whole run at the end left {left}")
    for end, count in sorted(ends.items()):
        print(f"{count:3d}  {end}")
    print("\n".join(wrong) or f"{options.runs} runs: nothing lost, nothing half-written, nothing left")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
