"""How much of the teeth people show while they talk, in millimetres of a face whose outer corners of the eyes are 92 mm apart.

python benchmarks/teeth.py VIDEO_OR_FOLDER...     # real or made videos, one line each
python benchmarks/teeth.py --voice SOUND --portraits FOLDER --count 24 --seed 7     # photos that speak by a voice

Columns between the lips are searched for teeth from either lip: what is nearly white in the light of the cheeks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from triportrait import drivers, pipeline
from triportrait.errors import TriPortraitError
from triportrait.geometry.landmarks import LOWER_LIP_INSIDE, UPPER_LIP_INSIDE
from triportrait.media.video import VideoReader
from triportrait.motion.timing import join_motion
from triportrait.types import Array, MotionFrame

EYE_CORNERS_MM, EYE_CORNERS = 92.0, (33, 263)
#: Inner lips' middles from right to left, and places on the cheeks.
UPPER, LOWER, CHEEKS = [81, 82, 13, 312, 311], [178, 87, 14, 317, 402], [50, 280, 205, 425]
#: Samples from a little above the upper lip to a little below the lower one; teeth are lighter than this share of the cheeks' red, and
#: their green is this share of it at least.
SAMPLES, BEYOND, LIGHT, GREEN = 48, 0.1, 0.4, 0.95
#: Teeth begin within this share of the way from their lip, and a run that ends beyond the other share may be both rows.
BEGIN, BOTH = 0.42, 0.8
#: Lips that are less far apart say little (millimetres).
PARTED_MM = 8.0


def shown_mm(image: Array, landmarks: Array) -> tuple[float, float, float]:
    """Between the lips, of the upper teeth and of the lower teeth, in a picture [h, w, 3] with landmarks [478, 2]; NaN: both rows touch."""
    import cv2

    mm = EYE_CORNERS_MM / float(np.linalg.norm(np.diff(landmarks[list(EYE_CORNERS)], axis=0)))
    across = np.linspace(0.8, 3.2, 9)
    upper, lower = (np.stack([np.interp(across, np.arange(5), landmarks[line, c]) for c in (0, 1)], -1) for line in (UPPER, LOWER))
    down = np.linspace(-BEYOND, 1 + BEYOND, SAMPLES)[:, None, None]
    places = (upper + (lower - upper) * down).astype(np.float32)
    seen = cv2.remap(image, places[..., 0], places[..., 1], cv2.INTER_LINEAR).astype(np.float32)
    reach = max(round(2.8 / mm), 1)
    centres = np.clip(landmarks[CHEEKS].astype(int), reach, np.array(image.shape[1::-1]) - reach - 1)
    cheeks = [image[y - reach : y + reach + 1, x - reach : x + reach + 1].reshape(-1, 3) for x, y in centres]
    seen /= np.maximum(np.median(np.concatenate(cheeks), 0), 8.0)
    teeth = (seen[..., 0] > LIGHT) & (seen[..., 1] > GREEN * seen[..., 0])
    gap = float(np.linalg.norm(lower - upper, axis=1).mean()) * mm

    def run(column: Array) -> float:
        first = int(column.argmax())
        if not column[: int(BEGIN * SAMPLES)].any():
            return 0.0
        rest = ~column[first:]
        last = first + int(rest.argmax()) if rest.any() else SAMPLES
        return np.nan if last >= BOTH * SAMPLES else (last - first) * gap * (1 + 2 * BEYOND) / SAMPLES

    heights = [[run(column) for column in rows.T] for rows in (teeth, teeth[::-1])]
    return gap, *(float(np.nanmean(row)) if np.isfinite(row).any() else np.nan for row in heights)


def measured(frames: Iterable[Array]) -> Array:
    """Of the frames whose lips are parted: [n, 3]."""
    rows = []
    try:
        frames = list(frames)
        for frame, (landmarks, seen) in zip(frames, drivers.default_tracker().track(iter(frames)), strict=False):
            points = np.asarray(landmarks)[:, :2]
            corners = float(np.linalg.norm(np.diff(points[list(EYE_CORNERS)], axis=0)))
            if seen and EYE_CORNERS_MM * np.linalg.norm(points[UPPER_LIP_INSIDE] - points[LOWER_LIP_INSIDE]) > PARTED_MM * corners:
                rows.append(shown_mm(frame, points))
    except TriPortraitError as error:
        print(f"A video or photo is left out: {error}")
    return np.array(rows).reshape(-1, 3)


def shown(video: Path, every: int) -> Iterator[Array]:
    """One in so many of the first 400 frames of a video."""
    for _, image in islice(VideoReader(video).frames(), 0, 400, every):
        yield image


def spoken(portrait: Path, sound: Path) -> Iterator[Array]:
    """The twelve pictures of a portrait speaking in which the jaw is lowest, in the photo's pose."""
    made = pipeline.Portrait.from_image(portrait)
    still = made.prepared.motion
    motion = join_motion(drivers.VoiceDriver(sound).chunks(made.prepared))
    for row in np.argsort(-motion.expression[:, list(motion.expression_names).index("jawOpen")])[:12]:
        frame = MotionFrame(motion.expression[row], still.rotation_rad, still.translation, still.gaze_rad)
        yield np.ascontiguousarray(np.asarray(made.model.step(made.state, frame)[0])[..., :3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--voice", type=Path)
    parser.add_argument("--portraits", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--every", type=int, default=2)
    given = parser.parse_args()
    if given.voice is not None and given.portraits is None:
        parser.error("--voice needs --portraits, the folder of the photos that shall speak")
    means = []
    sources: list[tuple[str, Iterable[Array]]] = []
    for path in given.videos:
        for video in sorted(path.glob("*.mp4")) if path.is_dir() else [path]:
            sources.append((video.stem, shown(video, given.every)))
    if given.voice is not None:
        photos = sorted(file for file in given.portraits.rglob("*") if file.suffix in {".jpg", ".png"})
        for i in np.random.default_rng(given.seed).choice(len(photos), given.count, replace=False):
            sources.append((photos[i].stem, spoken(photos[i], given.voice)))
    for name, frames in sources:
        rows = measured(frames)
        if len(rows) > 2:
            means.append(np.nanmean(rows, 0))
            gap, upper, lower = means[-1]
            print(f"{name:24s} {len(rows):4d} frames, lips {gap:4.1f} mm apart, upper teeth {upper:.1f}, lower {lower:.1f}")
    if not means:
        parser.error("no parted lips were found; name videos of people who talk, or a voice and a folder of photos")
    print("mean of", len(means), np.nanmean(means, 0).round(1), "spread", np.nanstd(means, 0).round(1))


if __name__ == "__main__":
    main()
