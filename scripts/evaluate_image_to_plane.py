"""Figures and a contact sheet of an image-to-plane network.

    python scripts/evaluate_image_to_plane.py [--weights MODEL] --data SHARDS            (figures on the split val)
    python scripts/evaluate_image_to_plane.py [--weights MODEL] --photos A.png B.png --sheet sheet.png

Columns of the sheet: the photo's head, the teacher turned by -18 and 18 degrees, the network at -30, -18, 0, 18, 30 degrees and at a pitch
of 12, depth at 0 and at 30 degrees. Nothing is known to the network about a turned view but its pose.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from triportrait.avatar.oneshot.image_to_plane import CompactImageToPlane, load_image_to_plane
from triportrait.avatar.oneshot.planes import DEPTH_RANGE_DM
from triportrait.synth.lifted_views import HELD_OUT_TURNS_DEG, LiftedViews, lifted_views, padded_portrait, read_split
from triportrait.training.oneshot.losses import draw
from triportrait.training.oneshot.measure import evaluate
from triportrait.training.oneshot.recipe import RECIPES
from triportrait.training.oneshot.views import ViewSet, collate
from triportrait.types import CAMERA_DISTANCE_DM

Array = np.ndarray
TURNS_DEG = ((0, -30), (0, -18), (0, 0), (0, 18), (0, 30), (12, 0))
GREY = 0.5


def over_grey(rgba: torch.Tensor) -> Array:
    """Premultiplied [4, s, s] -> uint8 [s, s, 3] over grey."""
    picture = rgba[:3] + GREY * (1 - rgba[3:])
    return (255 * picture.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()


@torch.no_grad()
def sheet_row(model: CompactImageToPlane, row: LiftedViews, size_px: int) -> Array:
    """One portrait's pictures side by side."""
    recipe = RECIPES["compact"]()
    left, right = HELD_OUT_TURNS_DEG.index((0, -18)) + 1, HELD_OUT_TURNS_DEG.index((0, 18)) + 1
    batch = collate(ViewSet.of([row]), torch.tensor([0]), torch.tensor([[0, left, right]]), model.config.photo_px, size_px)
    turn, move = batch.source
    turns = turn[:, None] + torch.from_numpy(np.radians([[(*t, 0) for t in TURNS_DEG]])).float()
    moves = move[:, None].expand(-1, len(TURNS_DEG), -1)
    planes = model.encode(batch.picture, batch.prior, batch.known, turn)
    guide = torch.zeros(1, len(TURNS_DEG), 1, size_px, size_px)
    rgb, alpha, depth = draw(model, planes, guide, (turns, moves), batch.source, recipe.slab, march=True)
    cells = [over_grey(view) for view in batch.rgba[0]]
    cells += [over_grey(torch.cat([colour, matte])) for colour, matte in zip(rgb[0], alpha[0], strict=True)]
    for which in (TURNS_DEG.index((0, 0)), TURNS_DEG.index((0, 30))):
        w = (depth[0, which, 0] - (CAMERA_DISTANCE_DM - move[0, 2])) / DEPTH_RANGE_DM
        shade = torch.where(alpha[0, which, 0] > 0.5, (0.45 - w).clamp(0, 1), torch.zeros(()))
        cells.append((255 * shade).byte().numpy()[..., None].repeat(3, -1))
    return np.hstack(cells)


def lift(path: Path) -> LiftedViews:
    """A photo, lifted and turned as held-out photographs are."""
    from triportrait.avatar.lifted.avatar import LiftedAvatar
    from triportrait.drivers import default_head, default_tracker
    from triportrait.media.images import read_image

    head = default_head()
    portrait = padded_portrait(read_image(path)[..., :3], default_tracker(), head, name=path.name)
    return lifted_views(portrait, LiftedAvatar(head), HELD_OUT_TURNS_DEG, path.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=None, help="the embedded network when left out")
    parser.add_argument("--data", type=Path, default=None, help="packed views with the split val")
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--limit", type=int, default=None, help="held-out photographs at most")
    parser.add_argument("--sheet", type=Path, default=None, help="PNG to write")
    parser.add_argument("--sheet-rows", type=int, default=8, help="held-out photographs on the sheet (when no photos are given)")
    parser.add_argument("--cell-px", type=int, default=128)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    model = load_image_to_plane(options.weights)
    recipe = RECIPES["compact"]()
    if options.data:
        held_out = ViewSet.of(read_split(options.data, "val", options.limit))
        for name, changes in {
            "as used": {},
            "at 128 px": {"render_px": 128},
            "samples round the teacher's own depth": {"march": False},
            "without the fitted depth": {"prior": False},
        }.items():
            logging.info("%s, %d photographs: %s", name, len(held_out), json.dumps(asdict(evaluate(model, held_out, recipe, **changes))))
    if options.sheet:
        from PIL import Image

        rows = [lift(path) for path in options.photos] or list(read_split(options.data, "val", options.sheet_rows))
        sheet = Image.fromarray(np.vstack([sheet_row(model, row, options.cell_px) for row in rows]))
        sheet.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(options.sheet, optimize=True)


if __name__ == "__main__":
    main()
