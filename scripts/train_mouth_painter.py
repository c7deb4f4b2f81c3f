"""Train the mouth painter: ``python scripts/train_mouth_painter.py --data TRAIN.npz --held-out VAL.npz --out RUN``; a killed run goes on."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from triportrait.training.mouth_painter import MouthPainterRecipe, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--held-out", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    recipe = MouthPainterRecipe()
    recipe = recipe if options.steps is None else replace(recipe, steps=options.steps)
    train(recipe, options.data, options.held_out, options.out)


if __name__ == "__main__":
    main()
