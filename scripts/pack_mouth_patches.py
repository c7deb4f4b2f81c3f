"""Training windows for the mouth painter: ``python scripts/pack_mouth_patches.py --portraits DIR --pairs DIR --out FILE.npz``.

Two kinds. *Cycles*: a photograph is animated to another expression and pose; the animated picture is the source, and driving it back
gives a drawn mouth whose truth is the photograph itself. *Pairs*: two frames of a real clip. Windows hold pieces of the photographs: keep
the file out of the repository.
"""

from __future__ import annotations

import argparse
import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from triportrait import drivers, pipeline
from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.mouth.painter import PhotoMouth, cut_window, mouth_channels, mouth_window
from triportrait.errors import TriPortraitError
from triportrait.geometry.crops import cut
from triportrait.media.images import read_image
from triportrait.media.video import VideoReader
from triportrait.types import MotionFrame, PreparedPortrait

Array = np.ndarray
log = logging.getLogger("pack_mouth_patches")
#: Lips further apart than this (decimetres) are an open mouth.
_OPEN_DM = 0.035
#: Curves that a cycle may raise, and how far.
_MOVES = {
    "jawOpen": 0.45, "mouthFunnel": 0.5, "mouthPucker": 0.5, "mouthSmileLeft": 0.7, "mouthUpperUpLeft": 0.5, "mouthLowerDownLeft": 0.6,
    "mouthStretchLeft": 0.4,
}  # fmt: skip


def sample(avatar: LiftedAvatar, state: object, portrait: PreparedPortrait, frame: MotionFrame, truth: Array) -> Array:
    """Channels of the drawn mouth and the true colours: uint8 [112, 144, 15]."""
    drawn = avatar.draw(state, frame)
    window = mouth_window(drawn.landmarks, portrait, frame)
    channels = mouth_channels(drawn.rgb, drawn.surface, drawn.landmarks, window, PhotoMouth.of(portrait))
    return np.round(np.concatenate([255 * channels, cut_window(truth, window)], -1)).clip(0, 255).astype(np.uint8)


def other_motion(portrait: PreparedPortrait, names: tuple[str, ...], is_open: bool, random: np.random.Generator) -> MotionFrame:
    """Another expression of the mouth, and a small turn."""
    expression = portrait.motion.expression.copy()
    mouth = [i for i, name in enumerate(names) if name.startswith(("mouth", "jaw"))]
    expression[mouth] *= random.uniform(0.0, 0.4)
    if not is_open or random.random() < 0.4:
        for name, most in _MOVES.items():
            if random.random() < 0.5:
                amount = random.uniform(0, most)
                expression[names.index(name)] = amount
                if name.endswith("Left"):
                    expression[names.index(name[:-4] + "Right")] = amount * random.uniform(0.8, 1.2)
    turn = np.radians(random.normal(0, (4, 7, 2)).clip(-12, 12)).astype(np.float32)
    return replace(portrait.motion, expression=expression, rotation_rad=portrait.motion.rotation_rad + turn, landmarks=None)


def cycles(path: Path, avatar: LiftedAvatar, random: np.random.Generator, closed_share: float) -> list[Array]:
    """Windows of one photograph."""
    head = avatar.head
    portrait = pipeline.prepare(read_image(path))
    landmarks = head.landmarks478(head.deform(head.shape(portrait.identity) + portrait.vertex_offset, portrait.motion.expression))
    is_open = float(np.linalg.norm(landmarks[13] - landmarks[14])) > _OPEN_DM
    if not is_open and random.random() > closed_share:
        return []
    model = pipeline.make_model("lifted")
    state = model.prepare(portrait)
    result = []
    for _ in range(2 if is_open else 1):
        picture = model.step(state, other_motion(portrait, head.expression_names, is_open, random))[0]
        source = pipeline.prepare(picture)
        motion = drivers.motion_of_frames(source, [portrait.image])
        result.append(sample(avatar, avatar.prepare(source), source, motion[0], cut(portrait.image, source.crop_box, len(source.image))))
    return result


def pairs(path: Path, avatar: LiftedAvatar, random: np.random.Generator, count: int) -> list[Array]:
    """Windows of one clip: a random frame as the source, others as truths."""
    with VideoReader(path) as reader:
        frames = [frame for _, frame in reader.frames(25.0)]
    source = pipeline.prepare(frames[int(random.integers(len(frames)))])
    state = avatar.prepare(source)
    motion = drivers.motion_of_frames(source, frames)
    chosen = random.permutation(len(frames))[:count]
    return [sample(avatar, state, source, motion[int(i)], cut(frames[int(i)], source.crop_box, len(source.image))) for i in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=600, help="photographs at most")
    parser.add_argument("--per-clip", type=int, default=12)
    parser.add_argument("--closed", type=float, default=0.4, help="share of photographs with closed lips that are taken")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    random = np.random.default_rng(options.seed)
    avatar = LiftedAvatar(drivers.default_head())
    with (options.portraits / "index.csv").open(newline="", encoding="utf-8") as file:
        photos = [options.portraits / row["file"] for row in csv.DictReader(file) if row["split"] == options.split and row["grey"] != "1"]
    photos = [photos[i] for i in random.permutation(len(photos))[: options.limit]]
    clips = sorted(options.pairs.glob("*.mp4"))
    # One clip in nine is held out, so that no frame of it is on both sides.
    clips = [clip for i, clip in enumerate(clips) if (i % 9 == 4) == (options.split == "val")]
    rows: list[Array] = []
    kinds: list[int] = []

    def save() -> None:
        draft = options.out.with_suffix(".part.npz")
        np.savez_compressed(draft, windows=np.stack(rows), real=np.array(kinds, np.uint8))
        draft.replace(options.out)

    for done, path in enumerate([*clips, *photos], 1):
        try:
            got = pairs(path, avatar, random, options.per_clip) if path.suffix == ".mp4" else cycles(path, avatar, random, options.closed)
        except TriPortraitError as error:
            log.warning("%s left out: %s", path.name, error)
            continue
        rows += got
        kinds += [int(path.suffix == ".mp4")] * len(got)
        if done % 100 == 0:
            log.info("%d of %d, %d windows", done, len(clips) + len(photos), len(rows))
            save()
    save()
    log.info("%d windows, %d of real pairs", len(rows), sum(kinds))


if __name__ == "__main__":
    main()
