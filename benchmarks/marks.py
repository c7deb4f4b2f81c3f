"""What the watermark survives, costs and changes: ``python benchmarks/marks.py`` prints a table of transformation x material.

Material are both examples, made to speak, and one real portrait, drawn by a seed from ``../shared`` where that is present.
Every video is written at crf 18 as ``animate`` does, changed, and written again at crf 23 where the change names no other.
Then the detector looks at pictures and clips without a mark. CPU seconds are of this process.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT / "tests"))

from marked_clips import (  # noqa: E402
    Frames,
    as_gif,
    at_rate,
    brightened,
    cropped,
    encoded,
    greyed,
    halved,
    middle_third,
    on_a_phone,
    pillarboxed,
    psnr_db,
)
from triportrait.media.images import read_image  # noqa: E402
from triportrait.media.sampling import sampled_frames  # noqa: E402
from triportrait.pipeline import Portrait  # noqa: E402
from triportrait.provenance.label import draw_label  # noqa: E402
from triportrait.provenance.maker import maker_number  # noqa: E402
from triportrait.provenance.reading import FRAME_LIMIT, detect_watermark, false_positive_bound  # noqa: E402
from triportrait.provenance.watermark import Watermarker  # noqa: E402

PAYLOAD = maker_number("Ada Example")

TRANSFORMATIONS: dict[str, Callable[[Frames], Frames]] = {
    "crf 23": lambda frames: encoded(frames, 23),
    "crf 28": lambda frames: encoded(frames, 28),
    "crf 33": lambda frames: encoded(frames, 33),
    "half size": lambda frames: encoded(halved(frames), 23),
    "half size, crf 28": lambda frames: encoded(halved(frames), 28),
    "quarter size": lambda frames: encoded(halved(frames, 4), 23),
    "crop 10 %": lambda frames: encoded(cropped(frames, 0.9), 23),
    "crop 25 %": lambda frames: encoded(cropped(frames, 0.75), 23),
    "mirror": lambda frames: encoded([frame[:, ::-1] for frame in frames], 23),
    "rotate 90": lambda frames: encoded([np.rot90(frame) for frame in frames], 23),
    "15 fps": lambda frames: encoded(at_rate(frames, 15), 23, 15),
    "middle third": lambda frames: encoded(middle_third(frames), 23),
    "brightness +20 %": lambda frames: encoded(brightened(frames), 23),
    "grey": lambda frames: encoded(greyed(frames), 23),
    "pillarbox": lambda frames: encoded(pillarboxed(frames), 23),
    "phone canvas": lambda frames: encoded(on_a_phone(frames), 23),
    "GIF": as_gif,
    "one PNG frame": lambda frames: frames[len(frames) // 2 :][:1],
}


def materials(seconds: float, seed: int) -> Iterator[tuple[str, Frames]]:
    """Rendered frames without marks."""
    photos = [ROOT / "examples/portrait.png", ROOT / "examples/portrait2.png"]
    if SHARED.is_dir():
        with (SHARED / "portraits/index.csv").open(newline="") as file:
            names = [row["file"] for row in csv.DictReader(file)]
        photos.append(SHARED / "portraits" / names[int(np.random.default_rng(seed).choice(len(names), 3, replace=False)[0])])
    for photo in photos:
        performance = Portrait.from_image(photo).talk(ROOT / "examples/speech.wav")
        yield photo.stem, [draw_label(frame.image) for frame in itertools.islice(performance, round(25 * seconds))]


def milliseconds_a_frame(frames: Frames) -> float:
    """CPU time of marking, after one frame to warm up."""
    watermarker = Watermarker((frames[0].shape[1], frames[0].shape[0]), PAYLOAD)
    watermarker.apply(frames[0])
    start = time.process_time()
    for frame in frames:
        watermarker.apply(frame)
    return 1000 * (time.process_time() - start) / len(frames)


def print_survival(name: str, frames: Frames) -> None:
    """One row a transformation, and what the mark changes and costs."""
    watermarker = Watermarker((frames[0].shape[1], frames[0].shape[0]), PAYLOAD)
    marked = [watermarker.apply(frame) for frame in frames]
    print(
        f"\n{name}: PSNR of marked to unmarked {psnr_db(frames, marked):.1f} dB, marking {milliseconds_a_frame(frames):.2f} CPU-ms a frame"
    )
    print(f"{'':20} {'found':>6} {'payload':>8} {'scores':>12} {'CPU s':>6}")
    written = encoded(marked, 18)
    found = read = 0
    for title, change in TRANSFORMATIONS.items():
        after = change(written)
        start = time.process_time()
        seen = detect_watermark(after)
        spent = time.process_time() - start
        right = seen.payload == PAYLOAD
        found, read = found + seen.found, read + right
        verdict = "right" if right else "unread" if seen.payload is None else "WRONG"
        scores = f"{seen.score:.1f}/{seen.payload_score:.1f}"
        print(f"{title:20} {'yes' if seen.found else 'no':>6} {verdict:>8} {scores:>12} {spent:6.1f}", flush=True)
    print(f"{'of ' + str(len(TRANSFORMATIONS)):20} {found:6} {read:8}")


def unmarked(count: int, seed: int) -> Iterator[tuple[str, Frames]]:
    """Real clips and portraits."""
    clips = [*sorted((SHARED / "clips").glob("*.mp4")), *sorted((SHARED / "pairs").glob("*.mp4"))]
    portraits = sorted((SHARED / "portraits").glob("*/*.jpg"))
    np.random.default_rng(seed).shuffle(portraits)  # type: ignore[arg-type]
    for path in [*clips, *portraits][:count]:
        yield path.name, list(sampled_frames(path, 50)) if path.suffix == ".mp4" else [read_image(path)[..., :3]]


def print_false_positives(rendered: list[tuple[str, Frames]], count: int, seed: int) -> None:
    """How many of the pictures and clips without a mark count as marked, and how near the nearest came."""
    seen = []
    start = time.process_time()
    for name, frames in itertools.islice(itertools.chain(rendered, unmarked(count, seed)), count):
        detection = detect_watermark(frames[:FRAME_LIMIT])
        seen.append((detection.score / detection.threshold, detection.found, name))
        if len(seen) % 20 == 0:
            print(f"{len(seen)} of {count} looked at", file=sys.stderr, flush=True)
    share, _, nearest = max(seen)
    print(
        f"\nunmarked: {sum(found for _, found, _ in seen)} of {len(seen)} found; {nearest} came nearest, at {share:.0%} of the threshold",
        end="",
    )
    print(f" ({(time.process_time() - start) / len(seen):.1f} CPU-s each)")
    print(f"bound from the statistic: {false_positive_bound():.1e} for each video")


def main() -> None:
    """Print it all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each video (default 4)")
    parser.add_argument("--unmarked", type=int, default=200, help="pictures and clips without a mark (default 200; some 3 CPU-s each)")
    parser.add_argument("--survival", action=argparse.BooleanOptionalAction, default=True, help="the table; without it false findings only")
    parser.add_argument("--seed", type=int, default=9, help="which portraits are drawn (default 9)")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rendered = []
    for name, frames in materials(arguments.seconds, arguments.seed):
        if arguments.survival:
            print_survival(name, frames)
        rendered.append((f"{name}, rendered", frames))
    if arguments.unmarked:
        print_false_positives(rendered, arguments.unmarked, arguments.seed)


if __name__ == "__main__":
    main()
