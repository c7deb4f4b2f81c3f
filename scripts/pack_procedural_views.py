"""Pack views of procedural heads: ``python scripts/pack_procedural_views.py --data ../shared/data --out DIR --heads 300 --moving 100``.

Shards have the format of scripts/pack_lifted_views.py. Split ``train`` holds rigid views, split ``moving`` views with other expressions
and the offsets that lead back to the photograph's; every row follows from its number, so a killed run is continued with ``--skip``.
"""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.lifted_views import LiftedViews, write_index, write_shard
from triportrait.synth.procedural_views import random_row

log = logging.getLogger("pack_procedural_views")


def pack(factory: HeadFactory, out: Path, split: str, numbers: range, views: int, per_shard: int) -> None:
    """Write rows ``numbers`` of one kind; the index names what has been written so far."""
    shards, counts, rows = [], [], []
    began = time.process_time()
    for done, number in enumerate(numbers, 1):
        rows.append(random_row(factory, number, views, split == "moving"))
        if len(rows) == per_shard or done == len(numbers):
            flush(out, split, numbers.start, rows, shards, counts)
            log.info("%s: %d of %d heads, %.2f CPU-s each", split, done, len(numbers), (time.process_time() - began) / done)


def flush(out: Path, split: str, first: int, rows: list[LiftedViews], shards: list[str], counts: list[int]) -> None:
    """One shard and the index."""
    name = f"{split}_{first:06d}_{len(shards):03d}.npz"
    size = write_shard(out / name, rows)
    shards.append(name)
    counts.append(len(rows))
    log.info("%s: %d heads, %.1f MB", name, len(rows), size / 1e6)
    rows.clear()
    write_index(out, split, shards, counts, {"kind": "procedural", "first": str(first)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the data bundle (makehuman, hdri)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--heads", type=int, default=300, help="rigid rows")
    parser.add_argument("--moving", type=int, default=100, help="rows with other expressions")
    parser.add_argument("--skip", type=int, default=0, help="number of the first row")
    parser.add_argument("--views", type=int, default=7)
    parser.add_argument("--per-shard", type=int, default=100)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    factory = HeadFactory(options.data)
    for split, count, first in (("train", options.heads, 0), ("moving", options.moving, 500_000)):
        if count:
            start = first + options.skip
            pack(factory, options.out, split, range(start, start + count), options.views, options.per_shard)


if __name__ == "__main__":
    main()
