"""Pack pairs of real frames of one person: ``python scripts/pack_real_pairs.py --videos ../shared/data/pairs --out DIR``.

Also takes prepared clips: ``--clips SHARDS`` (made by ``triportrait data prepare``). Split ``moving``: every view has the expression of its
frame and the offsets that lead back to the source's. A clip that cannot be used is reported and left out.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from triportrait.drivers import default_head, default_tracker
from triportrait.errors import TriPortraitError
from triportrait.media.video import VideoReader
from triportrait.synth.lifted_views import LiftedViews, write_index, write_shard
from triportrait.synth.real_pairs import PairFrames, Refinement, frames_of_video, pair_rows
from triportrait.training.data.clips import iterate_clips
from triportrait.training.data.synthetic import pair_frames

log = logging.getLogger("pack_real_pairs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="folder of head-and-shoulders square clips")
    parser.add_argument("--clips", type=Path, help="prepared clips")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sources", type=int, default=2, help="frames of each clip that serve as photograph")
    parser.add_argument("--views", type=int, default=7)
    parser.add_argument("--per-shard", type=int, default=100)
    parser.add_argument("--limit", type=int, default=None, help="clips at most")
    options = parser.parse_args()
    if not options.videos and not options.clips:
        parser.error("name --videos or --clips")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    head = default_head()
    rows: list[LiftedViews] = []
    shards: list[str] = []
    counts: list[int] = []
    refined: list[Refinement] = []

    def flush() -> None:
        name = f"moving_{len(shards):03d}.npz"
        size = write_shard(options.out / name, rows)
        shards.append(name)
        counts.append(len(rows))
        log.info("%s: %d rows, %.1f MB", name, len(rows), size / 1e6)
        rows.clear()
        write_index(options.out, "moving", shards, counts, {"kind": "real pairs"})

    began = time.process_time()
    for number, frames in enumerate(sources(options), 1):
        made, poses = pair_rows(frames, head, options.sources, options.views)
        rows.extend(made)
        refined.extend(poses)
        log.info(
            "%d: %s, brightness error %.4f -> %.4f, %.1f CPU-s per clip",
            number,
            frames.name,
            np.mean([r.before for r in poses]),
            np.mean([r.after for r in poses]),
            (time.process_time() - began) / number,
        )
        if len(rows) >= options.per_shard:
            flush()
    if rows:
        flush()
    log.info(
        "%d pairs, brightness error %.4f -> %.4f", len(refined), np.mean([r.before for r in refined]), np.mean([r.after for r in refined])
    )


def sources(options: argparse.Namespace) -> Iterator[PairFrames]:
    """Frames of every clip that can be used."""
    if options.videos:
        tracker, head = default_tracker(), default_head()
        for path in sorted(options.videos.glob("*.mp4"))[: options.limit]:
            try:
                with VideoReader(path) as reader:
                    images = [frame for _, frame in reader]
                yield frames_of_video(images, tracker, head, options.views + 1, path.stem)
            except TriPortraitError as error:
                log.warning("left out: %s: %s", path.name, error)
    if options.clips:
        for clip in iterate_clips([options.clips]):
            yield pair_frames(clip)


if __name__ == "__main__":
    main()
