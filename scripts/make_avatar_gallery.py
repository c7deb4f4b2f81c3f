"""Contact sheet of an avatar for docs/: twelve held-out portraits, five expressions, five poses, depth.

    python scripts/make_avatar_gallery.py [--avatar oneshot] [--data ../shared/data] [--out docs/avatar_gallery.jpg]

The portraits are AI-generated, CC0 or MIT (see the data bundle's README); only small renderings of ours are written.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from triportrait import pipeline
from triportrait.evaluation.contact_sheet import contact_sheet
from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler
from triportrait.media.images import read_image
from triportrait.types import MotionFrame, RenderedHead

Array = np.ndarray
EXPRESSIONS = {
    "smile": {"mouthSmile": 0.8, "cheekSquint": 0.5, "eyeSquint": 0.4},
    "open": {"jawOpen": 0.55},
    "oo": {"mouthPucker": 0.8, "mouthFunnel": 0.3},
    "blink": {"eyeBlink": 1.0},
    "brows": {"browOuterUp": 0.8, "browInnerUp": 0.9, "eyeWide": 0.5},
}
TURNS_DEG = {"yaw -25": (0, -25), "yaw -12": (0, -12), "yaw +12": (0, 12), "yaw +25": (0, 25), "pitch -12": (-12, 0)}


def expressed(frame: MotionFrame, names: tuple[str, ...], curves: dict[str, float]) -> MotionFrame:
    """The frame with curves set; a name without a side means both."""
    expression = frame.expression.copy()
    for name, value in curves.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in names:
                expression[names.index(full)] = value
    return replace(frame, expression=expression, landmarks=None)


def turned(frame: MotionFrame, pitch_deg: float, yaw_deg: float) -> MotionFrame:
    """The head turned about its own origin."""
    matrix = matrix_from_euler(np.radians((pitch_deg, yaw_deg, 0.0))) @ matrix_from_euler(frame.rotation_rad)
    return replace(frame, rotation_rad=euler_from_matrix(matrix).astype(np.float32), landmarks=None)


def depth_picture(head: RenderedHead) -> Array:
    """Nearer is brighter: uint8 [s, s, 3]."""
    there = np.isfinite(head.depth) & (head.alpha > 0.5)
    low, high = np.quantile(head.depth[there], (0.01, 0.99))
    shade = np.where(there, np.clip((high - head.depth) / (high - low), 0, 1), 0.0)
    return np.round(255 * shade[..., None].repeat(3, 2)).astype(np.uint8)


def row(photo: Path, avatar: str) -> list[Array]:
    """The pictures of one portrait."""
    portrait = pipeline.prepare(read_image(photo))
    model = pipeline.make_model(avatar)
    state = model.prepare(portrait)
    names = model.head.expression_names
    frames = [expressed(portrait.motion, names, curves) for curves in EXPRESSIONS.values()]
    frames += [turned(portrait.motion, *angles) for angles in TURNS_DEG.values()]
    depth = depth_picture(model.step(state, turned(portrait.motion, 0, 25))[1])
    return [portrait.image, *(model.step(state, frame)[0] for frame in frames), depth]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--avatar", default="oneshot")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("docs/avatar_gallery.jpg"))
    parser.add_argument("--seed", type=int, default=1, help="of the choice among held-out portraits")
    parser.add_argument("--cell-px", type=int, default=128)
    options = parser.parse_args()
    folder = options.data / "portraits"
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        held_out = [line["file"] for line in csv.DictReader(file) if line["split"] == "val"]
    chosen = [held_out[i] for i in np.random.default_rng(options.seed).permutation(len(held_out))[:12]]
    rows = [row(folder / name, options.avatar) for name in chosen]
    labels = ["photo", *EXPRESSIONS, *TURNS_DEG, "depth +25"]
    sheet = contact_sheet(rows, row_labels=[Path(name).stem for name in chosen], column_labels=labels, cell_px=options.cell_px)
    Image.fromarray(sheet).save(options.out, quality=85)


if __name__ == "__main__":
    main()
