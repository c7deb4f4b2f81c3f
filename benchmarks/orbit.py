"""Whether the views of an orbit show one surface: the error by which the head's pixels miss themselves from view to view.

    python benchmarks/orbit.py [PHOTO ...] [--avatar oneshot] [--turn-deg 30]

A pixel of the head is lifted by its depth, carried into a neighbouring view, lifted there by that view's own depth, and carried back.
Columns: the median and the 95th percentile of what it is off by (pixels of 512), and the share of pixels that the other view hides.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from triportrait import pipeline
from triportrait.avatar.lifted.unseen_colours import sampled
from triportrait.errors import TriPortraitError
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.model import AVATARS
from triportrait.types import CAMERA_DISTANCE_DM, Array, MotionFrame

EXAMPLES = Path(__file__).parents[1] / "examples"
STEP_DEG = 5.0
#: Below this height in head space begins the neck, which bends (decimetres); a view hides what lies so far behind its own surface.
NECK_DM, HIDDEN_DM = -0.5, 0.1


def reprojection_errors_px(depth: Array, frame: MotionFrame, other: Array, other_frame: MotionFrame, focal: float) -> tuple[Array, float]:
    """How far pixels of one view are off after a way through the other one and back.

    Args:
        depth, other: [s, s] camera depths of the two views (decimetres), inf where nothing is.
        frame, other_frame: their poses; focal: over the picture's width.

    Returns:
        pixels [n] of the head's surface that both views show, and the share of the head that the other one hides.
    """
    size = len(depth)
    row, column = np.nonzero(np.isfinite(depth))
    pixels = np.stack([column, row], 1) + 0.5
    points = _lifted(pixels, depth[row, column], frame, focal, size)
    head = points[:, 1] > NECK_DM
    pixels, points = pixels[head], points[head]
    there, away = project(pose_points(points, other_frame.rotation_rad, other_frame.translation), size, focal)
    inside = ((there > 1.0) & (there < size - 1.0)).all(1)
    # A view's rim has no surface between its pixels.
    filled = np.where(np.isfinite(other), other, 1e3).astype(np.float32)
    own = sampled(filled[..., None], there).reshape(-1).astype(np.float64)
    seen = inside & (np.abs(away - own) < HIDDEN_DM)
    back = _lifted(there[seen], own[seen], other_frame, focal, size)
    again, _ = project(pose_points(back, frame.rotation_rad, frame.translation), size, focal)
    return np.linalg.norm(again - pixels[seen], axis=1), 1.0 - float(seen.mean())


def _lifted(pixels: Array, depth: Array, frame: MotionFrame, focal: float, size: int) -> Array:
    """Head-space points [n, 3] of pixels [n, 2] at depths [n]."""
    return (camera_points(pixels, depth, focal, size) - np.asarray(frame.translation)) @ matrix_from_euler(frame.rotation_rad)


def camera_points(pixels: Array, depth: Array, focal: float, size: int) -> Array:
    """Posed points [n, 3] of pixels [n, 2] of a picture of ``size`` at depths [n]."""
    half = size / 2
    x, y = (pixels[:, 0] - half) * depth / (focal * size), (half - pixels[:, 1]) * depth / (focal * size)
    return np.stack([x, y, CAMERA_DISTANCE_DM - depth], 1)


def measure(portrait: pipeline.Portrait, turn_deg: float) -> tuple[Array, float]:
    """Errors of all pixels and the mean hidden share, between views at every few degrees to both sides."""
    rest, prepared = portrait.prepared.motion, portrait.prepared
    turns = np.arange(-turn_deg, turn_deg + 1e-6, STEP_DEG)
    frames = [replace(rest, rotation_rad=np.array([0.0, np.radians(turn), 0.0], np.float32), landmarks=None) for turn in turns]
    depths = []
    for frame in frames:
        _, head = portrait.model.step(portrait.state, frame)
        depths.append(np.where(head.alpha > 0.9, head.depth, np.inf))
    pairs = [reprojection_errors_px(depths[k], frames[k], depths[k + 1], frames[k + 1], prepared.focal) for k in range(len(frames) - 1)]
    return np.concatenate([errors for errors, _ in pairs]), float(np.mean([hidden for _, hidden in pairs]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="*", default=[EXAMPLES / "portrait.png", EXAMPLES / "portrait2.png"])
    parser.add_argument("--avatar", choices=tuple(AVATARS), default="oneshot")
    parser.add_argument("--turn-deg", type=float, default=30.0)
    options = parser.parse_args()
    print(f"{'photo':24}  median px  95 % px  hidden")
    for photo in options.photos:
        try:
            errors, hidden = measure(pipeline.Portrait.from_image(photo, avatar=options.avatar), options.turn_deg)
        except TriPortraitError as error:
            print(f"{photo.name:24}  {error}")
            continue
        print(f"{photo.name:24}  {np.median(errors):9.3f}  {np.quantile(errors, 0.95):7.3f}  {100 * hidden:5.1f} %")


if __name__ == "__main__":
    main()
