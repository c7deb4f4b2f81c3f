"""Motion at another frame rate, played to and fro, and its pieces joined."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from triportrait.errors import EmptyMedia
from triportrait.geometry.warp import of_head_alone
from triportrait.types import Array, Motion

NOTHING = "there is nothing to show: the voice or motion is shorter than one frame; give a longer one"


def to_and_fro(count: int, rows: int, start: int = 0) -> Array:
    """Which of ``rows`` rows to take for ``count`` frames from frame ``start`` on: forwards, backwards, forwards ... [count] int."""
    period = max(1, 2 * rows - 2)
    index = np.arange(start, start + count) % period
    return np.where(index < rows, index, period - index)


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

    names = motion.row_fields + (("landmarks",) if motion.landmarks is not None else ())
    return motion.with_rows(fps=fps, **{name: between(getattr(motion, name)) for name in names})


def without_body(motion: Motion) -> Motion:
    """Motion whose shoulders follow the head: what a warp says of where they were seen goes, too."""
    return motion.with_rows(body=None, warp=None if motion.warp is None else of_head_alone(motion.warp))


def join_motion(parts: Iterable[Motion]) -> Motion:
    """Chunks of one motion in one piece, without landmarks, and without a body or a warp unless all have one.

    Raises:
        EmptyMedia: there is no row in them.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        raise EmptyMedia(NOTHING)
    if any(part.body is None for part in parts):
        parts = [without_body(part) for part in parts]
    if any(part.warp is None for part in parts):
        parts = [part.with_rows(warp=None) for part in parts]
    names = parts[0].row_fields
    return parts[0].with_rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}, landmarks=None)
