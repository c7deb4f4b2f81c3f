"""Does a clip's training data depend on what its process did before? Prepares clips in many orders and compares bytes.

    python benchmarks/shuffled_preparation.py [--shuffles 20] [--clips 3] [--frames 12] [--size 64]

Clips of a talking example are prepared as 'triportrait data prepare' does it, each in another order per process, with unrelated pictures
found, tracked and segmented in between; every second process begins with two threads instead of one. Prints one line per process and
ends with an error if any byte of any clip differs from those of the first process. About 5 CPU seconds a shuffle at the defaults.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
#: Environment variables that say how many threads the libraries use.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def write_clips(folder: Path, count: int, frames: int) -> None:
    """Clips of 256 x 256 in which the example portrait says different parts of the example speech."""
    import soundfile

    from triportrait.face.portrait import PortraitOptions
    from triportrait.pipeline import Portrait
    from triportrait.provenance.marks import Marks

    portrait = Portrait.from_image(EXAMPLES / "portrait.png", PortraitOptions(256))
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav")
    length = round(frames / 25 * rate_hz)
    for index in range(count):
        start = round(index * (len(samples) - length) / max(1, count - 1))
        soundfile.write(folder / "voice.wav", samples[start : start + length], rate_hz)
        portrait.talk(folder / "voice.wav").save(folder / f"clip{index}.mp4", marks=Marks(False, False, False))
    (folder / "voice.wav").unlink()


def digests(folder: Path, size_px: int, seed: int) -> dict[str, str]:
    """SHA-256 of every clip's sample, prepared in the order that ``seed`` gives, with other pictures in between."""
    from triportrait.drivers import default_tracker
    from triportrait.errors import NoFaceFound
    from triportrait.media.images import read_image
    from triportrait.training.data.clip import PrepareSettings
    from triportrait.training.data.sources import find_videos
    from triportrait.training.data.work import work_on

    random, tracker = np.random.default_rng(seed), default_tracker()
    others = [np.ascontiguousarray(read_image(EXAMPLES / name)[::2, ::2, :3]) for name in ("portrait2.png", "portrait.png")]
    others += [random.integers(0, 255, (240, 320, 3), np.uint8)]
    sources, made = find_videos(folder), {}
    for index in random.permutation(len(sources)):
        picture = others[random.integers(len(others))]
        match random.integers(4):
            case 0:
                tracker.detect(picture)
            case 1:
                tracker.person_mask(picture)
            case 2:
                try:
                    list(tracker.track([picture] * int(random.integers(1, 4))))
                except NoFaceFound:
                    pass
            case _:  # left in the middle
                rows = tracker.track([others[0]] * 3)
                next(rows)
        reply = work_on(sources[index], PrepareSettings(size_px=size_px))
        if reply.outcome is None or not reply.outcome.prepared:
            raise SystemExit(f"{sources[index].path} was not prepared: {reply.outcome}")
        made[sources[index].key] = hashlib.sha256(reply.sample).hexdigest()
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shuffles", type=int, default=20, help="processes, each with another order")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--frames", type=int, default=12, help="of each clip, at 25 per second")
    parser.add_argument("--size", type=int, default=64, help="side of the square in pixels")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prepare is not None:
        print(json.dumps(digests(options.prepare, options.size, options.seed)))
        return
    first: dict[str, str] = {}
    different = 0
    with tempfile.TemporaryDirectory() as name:
        write_clips(Path(name), options.clips, options.frames)
        for seed in range(options.shuffles):
            threads = 1 + seed % 2
            command = [sys.executable, __file__, "--prepare", name, "--seed", str(seed), "--size", str(options.size)]
            environment = os.environ | dict.fromkeys(THREADS, str(threads))
            answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if answer.returncode:
                raise SystemExit(answer.stderr)
            made = json.loads(answer.stdout.splitlines()[-1])
            first = first or made
            unlike = sorted(key for key in first if made[key] != first[key])
            different += len(unlike)
            print(f"{seed}: {threads} thread(s), {' '.join(made)}: {'differs: ' + ', '.join(unlike) if unlike else 'same'}", flush=True)
    print(f"{different} of {options.shuffles * options.clips} samples differ from the first process's")
    if different:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
