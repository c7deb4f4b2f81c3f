"""Train the audio-to-motion network: ``python scripts/train_audio_to_motion.py --synthesised DIR --shared
../shared/data --out DIR``.

Continues from ``OUT/state.pt`` when it exists. See docs/models/audio_to_motion.md for the data and the figures.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from triportrait.training.audio_to_motion import TrainingSettings, load_synthesised, load_tracked, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthesised", type=Path, required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    spoken, tracked = load_synthesised(options.synthesised, "train"), load_tracked(options.shared, "train")
    logging.info("%d synthesised and %d tracked clips", len(spoken), len(tracked))
    train(spoken, tracked, options.out, TrainingSettings(steps=options.steps, batch=options.batch))


if __name__ == "__main__":
    main()
