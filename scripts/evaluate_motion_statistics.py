"""Head, brows, lids and eyes of our voice-driven motion beside those of tracked video, clip by clip and as medians.

    python scripts/evaluate_motion_statistics.py --clips ../shared/data/clips [--motions DIR] [--seeds 3] [--out FILE.json]

Each clip is tracked (or its motion is read from ``--motions``, where tracked motions are also kept), and its sound
drives our own motion; both go through the same smoothing and the same measures
(:mod:`triportrait.motion.statistics`). ``--rendered PHOTO`` also draws our motion with that portrait, tracks the video
and measures that: what a viewer, and a metric on pixels, get to see. ``--reference`` prints the figures of our default
over all sounds, against which styles are measured. Clips are compared with, nothing is fitted to them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from triportrait import drivers, pipeline
from triportrait.motion import options as motion_options
from triportrait.motion.files import load_motion, save_motion
from triportrait.motion.statistics import measure
from triportrait.motion.style import REFERENCE
from triportrait.motion.timing import join_motion
from triportrait.provenance import marks as provenance_marks
from triportrait.types import Motion

SHOWN = (
    "head_speed",
    "pitch_speed",
    "yaw_speed",
    "roll_speed",
    "pitch_range",
    "yaw_range",
    "roll_range",
    "brow_amplitude",
    "brow_speed",
    "blinks_per_minute",
    "gaze_deviation",
    "eye_contact",
)
#: What issue E asks for: within a factor of 1.5 of the real median.
BARS = ("head_speed", "brow_amplitude", "blinks_per_minute")


def tracked(clip: Path, folder: Path | None) -> Motion:
    """The person's motion, kept in ``folder`` for the next time."""
    kept = folder / f"{clip.stem}.npz" if folder else None
    if kept is not None and kept.exists():
        return load_motion(kept)
    motion = drivers.motion_of_video(clip, warp=False)
    if kept is not None:
        save_motion(motion, kept)
    return motion


def spoken(sound: Path, seed: int) -> Motion:
    """What our default makes of a sound."""
    settings = drivers.voice_settings(motion_options.DriveOptions(seed=seed))
    return join_motion(drivers.motion_of_audio(sound, settings))


def rendered(portrait: pipeline.Portrait, sound: Path, seed: int) -> Motion:
    """Our motion drawn, and tracked in the picture."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "talk.mp4"
        portrait.talk(sound, motion_options.DriveOptions(seed=seed)).save(path, marks=provenance_marks.Marks(False, False, False))
        return drivers.motion_of_video(path, warp=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--motions", type=Path, default=None)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rendered", type=Path, default=None)
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = sorted(options.clips.glob("*.mp4"))
    rows: dict[str, list[dict]] = {"real": [asdict(measure(tracked(clip, options.motions))) for clip in clips]}
    # Every clip another seed: real people do not move alike either.
    rows["ours"] = [
        asdict(measure(spoken(clip, seed * len(clips) + index))) for seed in range(options.seeds) for index, clip in enumerate(clips)
    ]
    if options.rendered:
        portrait = pipeline.Portrait.from_image(options.rendered)
        rows["rendered"] = [asdict(measure(rendered(portrait, clip, index))) for index, clip in enumerate(clips)]
    medians = {who: {name: float(np.median([row[name] for row in found])) for name in found[0]} for who, found in rows.items()}

    print("clip".ljust(20) + "".join(name.replace("_", " ")[:12].rjust(13) for name in SHOWN))
    for clip, row in zip(clips, rows["real"], strict=True):
        print(clip.stem.ljust(20) + "".join(f"{row[name]:13.2f}" for name in SHOWN))
    for who, values in medians.items():
        print(f"median {who}".ljust(20) + "".join(f"{values[name]:13.2f}" for name in SHOWN))
    for who in list(medians)[1:]:
        print(f"{who} / real".ljust(20) + "".join(f"{medians[who][name] / medians['real'][name]:13.2f}" for name in SHOWN))
    for name in BARS:
        ratio = medians["ours"][name] / medians["real"][name]
        print(f"{name}: {ratio:.2f} of real, {'within' if 1 / 1.5 <= ratio <= 1.5 else 'NOT within'} a factor of 1.5")
    if options.reference:
        print({name: round(float(np.mean([row[name] for row in rows["ours"]])), 3) for name in REFERENCE})
    if options.out:
        each = dict(zip((clip.stem for clip in clips), rows["real"], strict=True))
        options.out.write_text(json.dumps({"median": medians, "clips": each}, indent=1))


if __name__ == "__main__":
    main()
