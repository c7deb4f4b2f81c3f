"""Train the synchrony expert: ``python scripts/train_sync_expert.py --synthesised DIR --shared ../shared/data --out FILE``.

See docs/models/sync_expert.md for the data and the figures.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from triportrait.motion.audio_network import load_model
from triportrait.training.voice.corpora import aligned, load_synthesised, load_tracked
from triportrait.training.voice.sync_expert import SyncSettings, train_sync_expert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synthesised", type=Path, required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seconds", type=float, default=840.0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    spoken = load_synthesised(options.synthesised, "train")
    spoken += 8 * load_synthesised(options.synthesised, "recording")
    tracked = aligned(load_tracked(options.shared, "train"), load_model())
    logging.info("%d spoken and %d tracked clips", len(spoken), len(tracked))
    train_sync_expert(spoken, tracked, options.out, SyncSettings(steps=options.steps, seconds=options.seconds))


if __name__ == "__main__":
    main()
