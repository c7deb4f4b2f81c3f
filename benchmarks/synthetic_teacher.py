"""Speed of the synthetic teacher: ``python benchmarks/synthetic_teacher.py --data ../shared/data [--processes 2]``.

A pair is one (source view, novel view) sample with colours, matte, depth, classes, PNCC and visibility; the source view and the person are
shared by ``--views`` pairs. Figures are pairs per CPU second of one process, and per second of wall time of all processes together.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import numpy as np

from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.people import random_person
from triportrait.synth.procedural_head import ProceduralHead
from triportrait.synth.procedural_views import labelled_views, novel_poses, random_pose, slight_expression


def work(data: Path, seed: int, heads: int, views: int, size_px: int, samples: int) -> tuple[int, float, float, float]:
    """Pairs, CPU seconds, wall seconds, and CPU seconds that people took."""
    factory = HeadFactory(data)
    random = np.random.default_rng(seed)

    def one() -> float:
        began = time.process_time()
        head = ProceduralHead(factory, random_person(random, factory.targets, len(factory.hdri)))
        built = time.process_time() - began
        source = random_pose(random, *slight_expression(random))
        for _ in labelled_views(head, source, novel_poses(source, views, random), size_px, samples):
            pass
        return built

    for _ in range(12):  # textures, grown hair and compiled code are warm
        one()
    cpu, wall = time.process_time(), time.perf_counter()
    built = sum(one() for _ in range(heads))
    return heads * views, time.process_time() - cpu, time.perf_counter() - wall, built


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--views", type=int, default=15)
    options = parser.parse_args()
    for size_px, samples, bar in ((64, 3, 25.0), (128, 3, 6.0), (128, 2, 6.0)):
        tasks = [(options.data, seed, options.heads, options.views, size_px, samples) for seed in range(options.processes)]
        if options.processes == 1:
            results = [work(*tasks[0])]
        else:
            with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
                results = pool.starmap(work, tasks)
        pairs = sum(r[0] for r in results)
        cpu, wall, built = sum(r[1] for r in results), max(r[2] for r in results), sum(r[3] for r in results)
        print(
            f"{size_px} px, {samples} x {samples} samples, {options.views} pairs per person: {pairs / cpu:.1f} pairs per CPU second "
            f"(person {1000 * built / (options.heads * options.processes):.0f} ms), "
            f"on two cores {2 * pairs / cpu / bar:.2f} times the bar of {bar:g}/s; "
            f"{pairs / wall:.1f} pairs/s of wall time with {options.processes} processes"
        )


if __name__ == "__main__":
    main()
