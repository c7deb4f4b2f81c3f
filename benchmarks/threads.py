"""Threads that share the package: mixed calls at once, each compared with the same call made alone.

    python benchmarks/threads.py [--threads 8] [--calls 50]

Prints how many answers differ from the serial ones, how many calls failed, and whether standard error is still there.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FRAMES = 3


def calls(folder: Path) -> dict[str, Callable[[], str]]:
    """Every kind of call, by name; each gives a digest of its answer."""
    from triportrait import Portrait
    from triportrait.motion.options import DriveOptions
    from triportrait.provenance.marks import Marks

    photos = {name: EXAMPLES / f"{name}.png" for name in ("portrait", "portrait2")}
    made = {name: Portrait.from_image(photo, quality="draft") for name, photo in photos.items()}
    clip = made["portrait"].idle(0.4).save(folder / "clip.mp4", marks=Marks(False, False, False))

    def digest(performance: object) -> str:
        return hashlib.sha256(b"".join(frame.image.tobytes() for frame in itertools.islice(performance, FRAMES))).hexdigest()

    def photo(name: str) -> str:
        prepared = Portrait.from_image(photos[name], quality="draft").prepared
        return hashlib.sha256(prepared.landmarks.tobytes() + prepared.head_alpha.tobytes()).hexdigest()

    kinds: dict[str, Callable[[], str]] = {}
    for name, portrait in made.items():
        kinds[f"photo {name}"] = lambda name=name: photo(name)
        kinds[f"talk {name}"] = lambda portrait=portrait: digest(portrait.talk(EXAMPLES / "speech.wav"))
        kinds[f"drive {name}"] = lambda portrait=portrait: digest(portrait.drive(clip, DriveOptions()))
    return kinds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--calls", type=int, default=50)
    settings = parser.parse_args()
    wrong: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        kinds = calls(Path(folder))
        alone = {name: call() for name, call in kinds.items()}
        started = time.perf_counter()

        def work(index: int) -> None:
            order = random.Random(index)
            for _ in range(settings.calls):
                name = order.choice(sorted(kinds))
                try:
                    if kinds[name]() != alone[name]:
                        wrong[f"{name}: another answer"] += 1
                except Exception as error:
                    wrong[f"{name}: {type(error).__name__}: {error}"] += 1

        threads = [threading.Thread(target=work, args=(index,)) for index in range(settings.threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
    print(f"{settings.threads} threads x {settings.calls} calls: {sum(wrong.values())} wrong, {seconds:.0f} s")
    for what, count in wrong.items():
        print(f"  {count} x {what}")
    os.write(2, b"standard error is there\n")
    return min(1, len(wrong))


if __name__ == "__main__":
    sys.exit(main())
