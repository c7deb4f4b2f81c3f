"""How far brows follow: a clip's first frame performs the clip; a real brow rises by 1, the fitted and the drawn one by so much.

python benchmarks/brows.py ../shared/data/clips --every 8

Heights of the inner end, the middle and the outer end over the eye's corners; what they would be at rest in the same pose is taken away.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from triportrait import drivers, pipeline
from triportrait.evaluation.parts import EVALUATED_FPS, track_each
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.landmarks import BROW_LEFT, BROW_RIGHT, CHIN, EYE_LEFT_CORNERS, EYE_RIGHT_CORNERS, FOREHEAD_TOP
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.media.video import VideoReader
from triportrait.reenactment import motion_of_frames
from triportrait.types import Array, Motion, PreparedPortrait

#: Places in a brow's landmarks.
PARTS = {"inner": [4, 9], "middle": [2, 3, 7, 8], "outer": [0, 5]}


def landmarks_of(portrait: PreparedPortrait, motion: Motion) -> Array:
    """Of the portrait's head: [t, 478, 2] pixels."""
    head = drivers.default_head()
    shape = head.shape(portrait.identity) + portrait.vertex_offset
    moved = (pose_points(head.landmarks478(head.deform(shape, m.expression, m.gaze_rad)), m.rotation_rad, m.translation) for m in motion)
    return np.stack([project(points, len(portrait.image), portrait.focal)[0] for points in moved])


def heights(landmarks: Array, rotation_rad: Array) -> Array:
    """Of both brows' parts over their eyes, in heights of the face: [t, 2, 3]."""
    up = matrix_from_euler(rotation_rad)[:, :2, 1] * (1, -1)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    height = np.einsum("tnc,tc->tn", landmarks, up)
    sides = ((BROW_RIGHT, EYE_RIGHT_CORNERS), (BROW_LEFT, EYE_LEFT_CORNERS))
    rows = [[height[:, brow[part]].mean(1) - height[:, list(eye)].mean(1) for part in PARTS.values()] for brow, eye in sides]
    return np.moveaxis(np.array(rows), -1, 0) / np.median(height[:, FOREHEAD_TOP] - height[:, CHIN])


def gains(real: Array, made: Array) -> list[float]:
    """By how much each part of ``made`` [t, 2, 3] moves where ``real`` moves by 1."""
    real, made = real - real.mean(0), made - made.mean(0)
    return [float((real[..., k] * made[..., k]).sum() / max(float((real[..., k] ** 2).sum()), 1e-12)) for k in range(len(PARTS))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--every", type=int, default=8, help="every n-th frame is drawn")
    parser.add_argument("--avatar", default="oneshot")
    options = parser.parse_args()
    tracker, rows = drivers.default_tracker(), []
    print("clip                  moves %   fitted inner middle outer   drawn inner middle outer")
    for path in sorted(options.clips.glob("*.mp4")):
        first = next(iter(VideoReader(path).frames(EVALUATED_FPS)))[1]
        portrait = pipeline.prepare(first)
        motion = motion_of_frames(portrait, (frame for _, frame in VideoReader(path).frames(EVALUATED_FPS)), EVALUATED_FPS)
        chosen = np.arange(1, len(motion), options.every)
        seen, few = motion.landmarks[chosen], motion.rows(chosen)
        draw = pipeline.make_renderer(options.avatar, portrait)
        drawn = track_each(tracker, (draw(row) for row in few)).landmarks[..., :2]
        rest = heights(landmarks_of(portrait, few.with_rows(expression=0 * few.expression)), few.rotation_rad)
        real, fitted, made = (heights(points, few.rotation_rad) - rest for points in (seen, landmarks_of(portrait, few), drawn))
        rows.append([100 * float(real.std(0).mean()), *gains(real, fitted), *gains(real, made)])
        print(f"{path.stem:20s} {rows[-1][0]:8.2f}" + " ".join(f"{value:8.2f}" for value in rows[-1][1:]), flush=True)
    print(f"{'mean':20s} {np.mean([row[0] for row in rows]):8.2f}" + " ".join(f"{value:8.2f}" for value in np.mean(rows, 0)[1:]))


if __name__ == "__main__":
    main()
