"""Train the compact image-to-plane network: ``python scripts/train_image_to_plane.py --data SHARDS --out DIR [--recipe compact]``.

Goes on from ``DIR/state.pt`` when it exists; shards come from scripts/pack_lifted_views.py. See docs/models/image_to_plane_compact.md.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from triportrait.avatar.oneshot.image_to_plane import load_image_to_plane
from triportrait.training.oneshot.measure import evaluate
from triportrait.training.oneshot.recipe import RECIPES
from triportrait.training.oneshot.stage import train
from triportrait.training.oneshot.views import read_views


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of packed views; one at least with a split val")
    parser.add_argument("--shares", type=float, nargs="+", default=None, help="how much of the batches comes from each folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="compact")
    parser.add_argument("--steps", type=int, default=None, help="length of the run; fixed when the run begins")
    parser.add_argument("--start", type=Path, default=None, help="model.safetensors of an earlier stage")
    parser.add_argument("--stop-after", type=float, default=None, help="seconds after which to save and leave")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--photos", type=int, default=None, help="training photographs at most")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    recipe = RECIPES[options.recipe]()
    if options.steps:
        recipe = replace(recipe, steps=options.steps)
    data, held_out = read_views(options.data, "train", options.photos, options.shares), read_views(options.data, "val")
    logging.info("%d photographs to learn from, %d held out", len(data), len(held_out))
    start = load_image_to_plane(options.start) if options.start else None
    model = train(recipe, data, held_out, options.out, start, options.stop_after, options.device)
    logging.info("all held-out photographs: %s", evaluate(model, held_out.to(next(model.parameters()).device), recipe))


if __name__ == "__main__":
    main()
