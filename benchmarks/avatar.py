"""Speed of an avatar, end to end: start-up, per-frame stages, frames encoded. Prints times of one run and their shares.

python benchmarks/avatar.py [PHOTO] [--quality draft|standard|high] [--avatar NAME] [--frames 200] [--size 512]
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from triportrait import drivers

EXAMPLES = Path(__file__).parents[1] / "examples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path, nargs="?", default=EXAMPLES / "portrait.png")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", type=int, default=None, help="default: the quality's")
    parser.add_argument("--quality", default="standard")
    parser.add_argument("--avatar", default=None, help="default: the quality's")
    options = parser.parse_args()

    start = time.perf_counter()
    import numpy as np

    from triportrait import pipeline
    from triportrait.composite.fusion import fuse
    from triportrait.composite.torso import warp_torso
    from triportrait.face.portrait import PortraitOptions
    from triportrait.model import quality_of

    drivers.default_head(), drivers.default_tracker()
    loaded = time.perf_counter()
    size_px = options.size or quality_of(options.quality).size_px
    prepared = pipeline.prepare(options.photo, PortraitOptions(size_px))
    fitted = time.perf_counter()
    portrait = pipeline.Portrait(prepared, options.avatar, quality=options.quality)
    first = portrait.idle(options.frames / 25)
    next(iter(first))
    ready = time.perf_counter()
    print(
        f"start-up {ready - start:.2f} s: imports {loaded - start:.2f}, tracking, fitting, layers {fitted - loaded:.2f}, "
        f"lifting, first frame {ready - fitted:.2f}"
    )

    motion = first.motion()
    stages: dict[str, list[float]] = {"head": [], "torso": [], "fusion": []}
    for row in motion:
        a = time.perf_counter()
        head = portrait.model.avatar.render(portrait.state.avatar, row)
        b = time.perf_counter()
        torso = warp_torso(portrait.state.torso, row)
        c = time.perf_counter()
        fuse(head, torso, prepared.background)
        d = time.perf_counter()
        for name, value in zip(stages, (b - a, c - b, d - c), strict=True):
            stages[name].append(value)
    total = sum(np.median(v) for v in stages.values())
    for name, values in stages.items():
        print(f"{name:7s} {1e3 * np.median(values):6.2f} ms  {100 * np.median(values) / total:3.0f} %")
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        portrait.perform(motion).save(Path(folder) / "speed.mp4")
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GB, load {os.getloadavg()[0]:.1f}")
    print(f"end to end (motion known -> frames marked and encoded): {len(motion) / seconds:.1f} fps at {size_px} px")


if __name__ == "__main__":
    main()
