"""Accuracy of the synchrony expert: in step against 5 frames early or late, on held-out GRID, unseen synthesised voices, and talking clips.

``python scripts/evaluate_sync_expert.py --shared ../shared/data --synthesised DIR [--model FILE] [--motions DIR]``

``--motions``: folder of motion files measured on the clips (``triportrait extract``), named like the clips; evaluation only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from triportrait.media.audio import read_audio
from triportrait.motion.audio_network import load_model
from triportrait.motion.files import load_motion
from triportrait.motion.speech_features import RATE_HZ
from triportrait.motion.sync_expert import load_sync_expert
from triportrait.training.voice.corpora import aligned, load_synthesised, load_tracked, spoken_targets
from triportrait.training.voice.measure import predict
from triportrait.training.voice.sync_expert import cosines_of, shift_accuracy
from triportrait.training.voice.sync_loss import MOST

Array = np.ndarray
WINDOWS = {"1 s": 25, "2 s": 50, "whole clip": 100000}


def summary(clips: list[Array], shift: int) -> dict:
    result = {name: round(float(np.mean([shift_accuracy(clip, shift, rows) for clip in clips])), 3) for name, rows in WINDOWS.items()}
    lags = np.array([int(np.argmax(clip.mean(axis=0))) - MOST for clip in clips])
    result |= {"clips": len(clips), "best_lag_median": float(np.median(lags))}
    result["best_lag_within_1"] = round(float(np.mean(np.abs(lags) <= 1)), 3)
    result["similarity"] = round(float(np.mean([clip[:, MOST].mean() for clip in clips])), 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--synthesised", type=Path, default=None)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--motions", type=Path, default=None)
    parser.add_argument("--shift", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    expert = load_sync_expert(options.model)
    held_out = aligned(load_tracked(options.shared, "val"), load_model())
    grid = [(clip.samples.astype(np.float32) / 32767, clip.targets.expression) for clip in held_out]
    report = {"grid_held_out": summary([cosines_of(expert, *pair) for pair in grid], options.shift)}
    lips = [(samples, predict(load_model(), samples)[0]) for samples, _ in grid]
    report["grid_sound_with_our_lips"] = summary([cosines_of(expert, *pair) for pair in lips], options.shift)
    if options.synthesised:
        spoken = [clip for clip in load_synthesised(options.synthesised, "test", 80) if len(clip.samples) > 2.5 * RATE_HZ]
        pairs = [(clip.samples.astype(np.float32) / 32767, spoken_targets(clip).expression) for clip in spoken]
        report["synthesised_unseen_voices"] = summary([cosines_of(expert, *pair) for pair in pairs], options.shift)
    if options.motions:
        tracked, ours = {}, {}
        for path in sorted((options.shared / "clips").glob("*.mp4")):
            samples = read_audio(path, RATE_HZ).samples
            tracked[path.stem] = cosines_of(expert, samples, load_motion(options.motions / f"{path.stem}.npz").expression)
            ours[path.stem] = cosines_of(expert, samples, predict(load_model(), samples)[0])
        report["talking_clips"] = summary(list(tracked.values()), options.shift)
        report["talking_clips_each"] = {name: summary([clip], options.shift) for name, clip in tracked.items()}
        report["talking_clips_with_our_lips"] = summary(list(ours.values()), options.shift)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
