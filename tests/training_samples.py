"""Clips for tests of training: the open head painted with its own coordinates, turning and talking before a plain wall."""

from __future__ import annotations

import numpy as np

from triportrait.face.open_head import OpenHead
from triportrait.face.pncc import PnccRenderer
from triportrait.geometry.cameras import pose_points, project
from triportrait.training.data.clips import TrainingClip
from triportrait.types import ARKIT_EXPRESSIONS, FOCAL_IN_WIDTHS

#: As our own speech features have it.
FEATURES, ROWS_PER_FRAME = 82, 4


def painted_clip(seed: int, frames: int = 8, size_px: int = 64, sound: bool = True) -> TrainingClip:
    """A head that opens its mouth as its sound says, and turns."""
    random = np.random.default_rng(seed)
    head = OpenHead.embedded()
    drawer = PnccRenderer(head, size_px, FOCAL_IN_WIDTHS)
    identity = random.normal(0, 0.4, head.identity_size).astype(np.float32)
    shape = head.shape(identity)
    loud = np.abs(np.sin(np.arange(frames) * random.uniform(0.5, 1.2) + random.uniform(0, 6)))
    expression = np.zeros((frames, len(ARKIT_EXPRESSIONS)), np.float32)
    expression[:, ARKIT_EXPRESSIONS.index("jawOpen")] = 0.7 * loud
    expression[frames // 2, [ARKIT_EXPRESSIONS.index("eyeBlinkLeft"), ARKIT_EXPRESSIONS.index("eyeBlinkRight")]] = 1.0
    turn = np.zeros((frames, 3), np.float32)
    turn[:, 1] = np.linspace(-0.25, 0.25, frames) + random.uniform(-0.1, 0.1)
    move = np.tile(np.float32([0.0, -0.2, -3.0]), (frames, 1))
    background = np.full((size_px, size_px, 3), random.integers(60, 200, 3), np.uint8)
    torso = np.zeros((size_px, size_px, 4), np.uint8)
    torso[size_px * 2 // 3 :, size_px // 5 : -size_px // 5] = (*random.integers(0, 256, 3), 255)
    pictures, mattes, landmarks = [], [], []
    for row in range(frames):
        vertices = head.deform(shape, expression[row])
        colours = np.round(127.5 * (drawer.render(vertices, turn[row], move[row]).transpose(1, 2, 0) + 1)).astype(np.uint8)
        matte = np.isfinite(drawer.depth)
        scene = np.where(torso[..., 3:] > 0, torso[..., :3], background)
        pictures.append(np.where(matte[..., None], colours, scene))
        mattes.append(np.uint8(255) * matte)
        points, _ = project(pose_points(head.landmarks478(vertices), turn[row], move[row]), size_px)
        landmarks.append(points)
    rows = ROWS_PER_FRAME * frames
    speech = np.zeros((rows, FEATURES), np.float16)
    speech[:, 0] = np.repeat(loud, ROWS_PER_FRAME)
    speech[:, 1:] = random.normal(0, 0.1, (rows, FEATURES - 1))
    return TrainingClip(
        np.stack(pictures),
        np.stack(mattes).astype(np.uint8),
        np.tile(torso, (frames, 1, 1, 1)),
        background,
        identity,
        expression,
        turn,
        move,
        np.zeros((frames, 2), np.float32),
        np.stack(landmarks).astype(np.float32),
        25.0,
        "open",
        f"painted_{seed}",
        speech if sound else None,
        np.full(rows, 120.0, np.float32) if sound else None,
    )
