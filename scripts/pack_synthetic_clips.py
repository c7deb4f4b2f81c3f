"""Pack clips of procedural heads and of lifted portraits for the stages after image_to_plane.

python scripts/pack_synthetic_clips.py --data ../shared/data --out DIR --procedural 40 --lifted 40 --frames 12 --size 256
"""

from __future__ import annotations

import argparse
import csv
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from triportrait.errors import TriPortraitError
from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.procedural_head import HeadPose
from triportrait.training.data.clips import TrainingClip, write_clips
from triportrait.training.data.synthetic import lifted_clip, random_clip, random_performance

log = logging.getLogger("pack_synthetic_clips")


def procedural(options: argparse.Namespace) -> Iterator[TrainingClip]:
    """Clips of procedural heads."""
    factory = HeadFactory(options.data)
    for number in range(options.skip, options.skip + options.procedural):
        yield random_clip(factory, number, options.frames, options.size)


def lifted(options: argparse.Namespace) -> Iterator[TrainingClip]:
    """Clips of lifted training portraits; one without a usable face is reported and left out."""
    from triportrait.avatar.lifted.avatar import LiftedAvatar
    from triportrait.drivers import default_head, default_tracker
    from triportrait.face.portrait import PortraitOptions, prepare_portrait
    from triportrait.media.images import read_image

    with (options.data / "portraits" / "index.csv").open(newline="", encoding="utf-8") as file:
        files = [row["file"] for row in csv.DictReader(file) if row["split"] == "train"]
    order = np.random.default_rng(0).permutation(len(files))[options.skip : options.skip + options.lifted]
    tracker, head = default_tracker(), default_head()
    avatar = LiftedAvatar(head)
    for number in order:
        random = np.random.default_rng([20240613, int(number)])
        try:
            photo = read_image(options.data / "portraits" / files[number])
            portrait = prepare_portrait(photo, tracker, head, PortraitOptions(size_px=options.size), files[number])
        except TriPortraitError as error:
            log.warning("left out: %s", error)
            continue
        source = HeadPose({}, portrait.motion.gaze_rad, portrait.motion.rotation_rad, portrait.motion.translation)
        poses = random_performance(random, options.frames, source, (0.07, 0.13, 0.04))
        own = {name: float(v) for name, v in zip(head.expression_names, portrait.motion.expression, strict=True) if v > 1e-4}
        poses[0] = HeadPose(own, portrait.motion.gaze_rad, portrait.motion.rotation_rad, portrait.motion.translation)
        yield lifted_clip(portrait, avatar, poses, f"lifted_{number:06d}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the data bundle")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--procedural", type=int, default=40, help="clips of procedural heads")
    parser.add_argument("--lifted", type=int, default=40, help="clips of lifted portraits")
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, clips in (("procedural", procedural), ("lifted", lifted)):
        if getattr(options, name):
            path = options.out / f"{name}_{options.skip:06d}.tar"
            count = write_clips(path, clips(options))
            log.info("%s: %d clips, %.1f MB", path, count, path.stat().st_size / 1e6)


if __name__ == "__main__":
    main()
