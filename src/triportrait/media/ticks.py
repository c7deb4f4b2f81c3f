"""When frames are shown: from a start on, each once, or at a constant rate. They come with their time and duration in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import av

from triportrait.errors import MediaError

#: A still longer than this is taken for damaged time stamps.
_MAX_STILL_S = 600.0


def from_start(frames: Iterable[tuple[av.VideoFrame, float, float]], tolerance_s: float) -> Iterator[tuple[av.VideoFrame, float, float]]:
    """Frames from time 0 on; where none lies at it, the one before stands in."""
    before: tuple[av.VideoFrame, float, float] | None = None
    started = False
    for frame, time_s, duration_s in frames:
        if not started:
            if time_s < -tolerance_s:
                before = frame, 0.0, duration_s
                continue
            started = True
            if before is not None and time_s > tolerance_s:
                yield before
        yield frame, time_s, duration_s


def native_ticks(frames: Iterable[tuple[av.VideoFrame, float, float]]) -> Iterator[tuple[av.VideoFrame, int]]:
    """Each frame once, whatever its time."""
    return ((frame, 1) for frame, _, _ in frames)


def constant_rate(
    frames: Iterable[tuple[av.VideoFrame, float, float]], fps: float, frame_seconds: float, path: str
) -> Iterator[tuple[av.VideoFrame, int]]:
    """(frame, how many ticks it fills) for frames with their times; see :meth:`.VideoReader.frames`.

    Raises:
        MediaError: a still of ten minutes, which only damaged time stamps make.
    """
    pending: av.VideoFrame | None = None
    pending_tick = 0
    pending_distance = pending_time = pending_duration = 0.0
    for frame, time_s, duration_s in frames:
        if time_s - pending_time > _MAX_STILL_S:
            raise MediaError(f"'{path}' has damaged time stamps in its pictures; export it again.")
        tick = math.floor(time_s * fps + 0.5)
        distance = abs(time_s * fps - tick)
        if pending is not None:
            if tick == pending_tick and pending_distance <= distance:
                pending_time, pending_duration = time_s, duration_s
                continue
            if tick > pending_tick:
                yield pending, tick - pending_tick
        pending, pending_tick, pending_distance = frame, tick, distance
        pending_time, pending_duration = time_s, duration_s
    if pending is not None:
        end_s = pending_time + min(pending_duration or frame_seconds, _MAX_STILL_S)
        yield pending, max(1, math.floor(end_s * fps + 0.5) - pending_tick)
