"""Pack views of lifted photographs: ``python scripts/pack_lifted_views.py --portraits ../shared/data/portraits --split train --out DIR``.

Shards hold renderings of the photographs; keep them out of the repository. A photo without a usable face is reported and left out.
"""

from __future__ import annotations

import argparse
import csv
import logging
import time
from pathlib import Path

import numpy as np

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.drivers import default_head, default_tracker
from triportrait.errors import TriPortraitError
from triportrait.media.images import read_image
from triportrait.synth.lifted_views import (
    HELD_OUT_TURNS_DEG,
    LiftedViews,
    lifted_views,
    padded_portrait,
    training_turns_deg,
    write_index,
    write_shard,
)

log = logging.getLogger("pack_lifted_views")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with index.csv (columns file, split)")
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=400, help="photographs at most")
    parser.add_argument("--skip", type=int, default=0, help="photographs (in the shuffled order) that earlier runs packed")
    parser.add_argument("--views", type=int, default=7, help="turned views of a training photograph")
    parser.add_argument("--per-shard", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with (options.portraits / "index.csv").open(newline="", encoding="utf-8") as file:
        files = [row["file"] for row in csv.DictReader(file) if row["split"] == options.split]
    order = np.random.default_rng(options.seed).permutation(len(files))[options.skip : options.skip + options.limit]
    options.out.mkdir(parents=True, exist_ok=True)
    tracker, head = default_tracker(), default_head()
    avatar = LiftedAvatar(head)
    rows: list[LiftedViews] = []
    shards: list[str] = []
    counts: list[int] = []
    left_out = 0
    notes = {"seed": str(options.seed), "skip": str(options.skip)}

    def flush() -> None:
        name = f"{options.split}_{options.skip:05d}_{len(shards):03d}.npz"
        size = write_shard(options.out / name, rows)
        shards.append(name)
        counts.append(len(rows))
        log.info("%s: %d photographs, %.1f MB", name, len(rows), size / 1e6)
        rows.clear()
        write_index(options.out, options.split, shards, counts, {**notes, "left_out": str(left_out)})

    began = time.process_time()
    for done, which in enumerate(order, 1):
        name = files[which]
        if options.split == "train":
            turns = training_turns_deg(options.views, np.random.default_rng([options.seed, int(which)]))
        else:
            turns = np.array(HELD_OUT_TURNS_DEG, float)
        try:
            portrait = padded_portrait(read_image(options.portraits / name), tracker, head, name=name)
        except TriPortraitError as error:
            left_out += 1
            log.warning("left out: %s", error)
            continue
        rows.append(lifted_views(portrait, avatar, turns, name))
        if len(rows) == options.per_shard:
            flush()
        if done % 50 == 0:
            log.info("%d of %d, %.2f CPU-s each", done, len(order), (time.process_time() - began) / done)
    if rows:
        flush()


if __name__ == "__main__":
    main()
