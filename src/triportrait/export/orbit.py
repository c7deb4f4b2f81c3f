"""A video that goes round a portrait, with its depth beside it: the papers' novel views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from triportrait.drivers import Progress
from triportrait.media.video import VideoWriter
from triportrait.pipeline import Portrait
from triportrait.provenance.marks import Finish, Marks
from triportrait.types import CAMERA_DISTANCE_DM, FPS, Array, MotionFrame, PathLike

#: The head turns so far to each side, and nods so far; once round takes so long.
TURN_RAD, NOD_RAD, SECONDS = np.radians(30.0), np.radians(8.0), 6.0
#: Depths that are shown from white to black, before and behind the head's middle (decimetres).
_NEAR_DM, _FAR_DM = 1.2, 2.0


def orbit_frames(rest: MotionFrame) -> Iterator[MotionFrame]:
    """Rows of one turn: to both sides and back, up and down, at the photo's own expression."""
    count = round(SECONDS * FPS)
    for phase in np.linspace(0.0, 2.0 * np.pi, count, endpoint=False):
        turn = np.array([NOD_RAD * np.sin(2.0 * phase), TURN_RAD * np.sin(phase), 0.0], np.float32)
        yield replace(rest, rotation_rad=rest.rotation_rad * 0 + turn, landmarks=None)


def write_orbit(portrait: Portrait, path: PathLike, progress: Progress | None = None) -> Path:
    """Write the video, labelled and watermarked: the portrait at the left, its depth at the right, near white and far black.

    Raises:
        OutputError: the target cannot be written.
    """
    size, rest = len(portrait.prepared.image), portrait.prepared.motion
    total, marks = round(SECONDS * FPS), Marks()
    finish = Finish(marks, (2 * size, size), marks.account().number)
    with VideoWriter(path, (2 * size, size)) as writer:
        for index, frame in enumerate(orbit_frames(rest)):
            picture, head = portrait.model.step(portrait.state, frame)
            depth = depth_picture(head.depth, head.alpha, float(rest.translation[2]))
            writer.write(finish(np.concatenate([picture, depth], axis=1)))
            if progress:
                progress("rendering", index + 1, total)
    return Path(path)


def depth_picture(depth: Array | None, alpha: Array, towards_dm: float) -> Array:
    """Depth [s, s] from the camera in decimetres as grey, uint8 [s, s, 3]; black where there is nobody."""
    if depth is None:
        return np.zeros((*alpha.shape, 3), np.uint8)
    middle = CAMERA_DISTANCE_DM - towards_dm
    near = 1.0 - (depth - (middle - _NEAR_DM)) / (_NEAR_DM + _FAR_DM)
    grey = np.where(np.isfinite(depth), np.clip(near, 0.0, 1.0), 0.0) * np.clip(alpha, 0.0, 1.0)
    return np.repeat((255.0 * grey).astype(np.uint8)[..., None], 3, axis=2)
