"""Figures of the audio-to-motion network, as JSON.

``python scripts/evaluate_audio_to_motion.py --shared DIR --synthesised DIR [--model FILE]``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from triportrait.motion.audio_network import load_model
from triportrait.training.voice.measure import against_phonemes, against_tracks, against_videos, without_speech


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--synthesised", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--clips", type=Path, default=None, help="folder of talking videos of unseen people")
    parser.add_argument("--per-clip", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    tracks = against_tracks(model, options.shared)
    if not options.per_clip:
        del tracks["per_clip"]
    report = {
        "speech_av_val": tracks,
        "synthesised_test": against_phonemes(model, options.synthesised),
        "without_speech_closed": without_speech(model),
    }
    if options.clips:
        report["talking_clips"] = against_videos(model, options.clips)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
