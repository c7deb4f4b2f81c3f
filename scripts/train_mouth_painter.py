"""Train the mouth painter: ``python scripts/train_mouth_painter.py --data TRAIN.npz --held-out VAL.npz --out RUN``.

A killed run goes on with the same line.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from triportrait.training.oneshot.mouth_painter import MouthPainterRecipe, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--held-out", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--start", type=Path, default=None, help="weights of an earlier run")
    parser.add_argument("--adversarial", type=float, default=None, help="weight of the discriminator; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    recipe = MouthPainterRecipe()
    recipe = recipe if options.steps is None else replace(recipe, steps=options.steps)
    if options.adversarial is not None:
        recipe = replace(recipe, adversarial_weight=options.adversarial)
    train(recipe, options.data, options.held_out, options.out, options.start)


if __name__ == "__main__":
    main()
