"""Motion at another frame rate or of another length."""

from __future__ import annotations

from typing import Literal

import numpy as np

from triportrait.types import Array, Motion


def fit_length(motion: Motion, frames: int, how: Literal["ping_pong", "loop", "hold"] = "ping_pong") -> Motion:
    """``frames`` rows of a motion: cut when longer, played to and fro, again, or held at the last row when shorter."""
    count = len(motion)
    index = np.arange(frames)
    if how == "loop":
        index = index % count
    elif how == "hold" or count == 1:
        index = np.minimum(index, count - 1)
    else:
        index = index % (2 * count - 2)
        index = np.where(index < count, index, 2 * count - 2 - index)
    rows = {name: getattr(motion, name)[index] for name in ("expression", "rotation_rad", "translation", "gaze_rad")}
    if motion.landmarks is not None:
        rows["landmarks"] = motion.landmarks[index]
    return motion.with_rows(**rows)


def resample(motion: Motion, fps: float) -> Motion:
    """The motion at another frame rate, linear between rows; landmarks too."""
    if abs(fps - motion.fps) < 1e-6 or len(motion) < 2:
        return motion.with_rows(fps=fps)
    frames = int((len(motion) - 1) * fps / motion.fps + 1e-6) + 1
    at = np.arange(frames) * motion.fps / fps
    low = np.minimum(at.astype(int), len(motion) - 2)
    mix = (at - low).astype(np.float32)

    def between(rows: Array) -> Array:
        share = mix.reshape(-1, *([1] * (rows.ndim - 1)))
        return (rows[low] * (1 - share) + rows[low + 1] * share).astype(np.float32)

    names = ("expression", "rotation_rad", "translation", "gaze_rad") + (("landmarks",) if motion.landmarks is not None else ())
    return motion.with_rows(fps=fps, **{name: between(getattr(motion, name)) for name in names})
