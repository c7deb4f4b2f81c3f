"""Shots of a clip joined into one motion: every shot's rest is the first one's, and a head whose face is out of sight comes to rest.

All joints are smooth: an unseen head eases to its rest and back, and what differs across a cut fades away behind it. Rows that were seen,
lie in the clip's base shot and are far from both are not touched at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from triportrait.geometry.fields import smooth_step
from triportrait.geometry.rotations import (
    euler_from_matrix,
    matrix_from_euler,
    matrix_from_vector,
    mean_rotation,
    vector_from_matrix,
)
from triportrait.motion.retarget import neutral_row
from triportrait.motion.timing import without_body
from triportrait.types import BODY_COLUMNS, WARP_COLUMNS, Array, Motion

log = logging.getLogger(__name__)

#: A face that is missed for less than this is bridged.
BRIDGED_S = 0.3
#: From where the head was to its rest, and back.
_EASE_S = 0.5
#: A difference across a cut fades in this time: of the pose, and of what the mouth says, which may not wait.
_FADE_POSE_S, _FADE_FACE_S = 0.4, 0.12
#: A shot's rest is measured on at least so many rows; shorter ones take their median all the same but are never the base.
_BASE_ROWS = 12
#: Columns of fields that a motion may lack.
_STILL = {"body": BODY_COLUMNS, "warp": WARP_COLUMNS}
#: Rows beside a long absence in which a tracker guesses already.
_MARGIN = 2


@dataclass(frozen=True, slots=True)
class Shot:
    """The motion of one shot, fitted and smoothed on its own.

    Args:
        motion: one row per frame.
        seen: [t] bool, whether the frame showed the face.
    """

    motion: Motion
    seen: Array


def absences(seen: Array, fps: float) -> list[tuple[int, int]]:
    """Stretches (start, stop) of ``seen`` [t] bool in which the face is away for more than a moment."""
    return [(start, stop) for start, stop in _gaps(seen) if stop - start > BRIDGED_S * fps]


def join_shots(shots: list[Shot]) -> Motion:
    """One motion of all shots, in the pose frame and the shape of the first that shows the face for half a second (or the longest).

    Args:
        shots: in their order, at least one row in all; same frame rate and curves.
    """
    base = _base_of(shots)
    if len(shots) == 1 and shots[0].seen.all():
        return base.motion
    bridged = [_bridged(shot) for shot in shots]
    origin = bridged[next(i for i, shot in enumerate(shots) if shot is base)]
    pairs = zip(bridged, shots, strict=True)
    placed = [motion if shot is base else _on_base(motion, shot.seen, origin, base.seen) for motion, shot in pairs]
    placed = [_warped_as(motion, origin, base.seen) for motion in placed]
    rows = _Rows(*(np.concatenate([_rows_of(motion, name) for motion in placed]).astype(np.float64) for name in _Rows.__slots__))
    seen = np.concatenate([shot.seen for shot in shots])
    fps = base.motion.fps
    if base.seen.any():
        visible = np.flatnonzero(base.seen)
        rest = neutral_row(origin.rows(visible))
        rows = _eased(rows, seen, fps, _Rows(*(np.asarray(_rows_of(origin, n)[visible[rest]], np.float64) for n in _Rows.__slots__)))
    for start in np.cumsum([len(shot.seen) for shot in shots])[:-1]:
        _fade(rows, int(start), fps)
    joined = {name: getattr(rows, name).astype(np.float32) for name in _Rows.__slots__}
    whole = base.motion.with_rows(**joined, landmarks=None)
    if all(shot.motion.warp is None for shot in shots):
        whole = whole.with_rows(warp=None)
    return without_body(whole) if any(shot.motion.body is None for shot in shots if shot.seen.any()) else whole


@dataclass(slots=True)
class _Rows:
    expression: Array
    rotation_rad: Array
    translation: Array
    gaze_rad: Array
    body: Array
    warp: Array


def _rows_of(motion: Motion, name: str) -> Array:
    """A field of a motion; a body that is not known stands still, and a warp is none."""
    values = getattr(motion, name)
    return np.zeros((len(motion), len(_STILL[name])), np.float32) if values is None else values


def _base_of(shots: list[Shot]) -> Shot:
    long = [shot for shot in shots if shot.seen.sum() >= _BASE_ROWS]
    return long[0] if long else max(shots, key=lambda shot: int(shot.seen.sum()))


def _gaps(seen: Array) -> Iterator[tuple[int, int]]:
    """Stretches (start, stop) of False."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], seen, [True]]).astype(int)))
    return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _bridged(shot: Shot) -> Motion:
    """Rows in short gaps lie between those around them, rows in long ones and at the ends repeat the nearest seen before (or after)."""
    seen, motion = shot.seen, shot.motion
    if seen.all() or not seen.any():
        return motion
    rows = {name: np.array(getattr(motion, name)) for name in motion.row_fields}
    for start, stop in _gaps(seen):
        before, after = start - 1, stop
        if before < 0 or after >= len(seen) or stop - start > BRIDGED_S * motion.fps:
            for values in rows.values():
                values[start:stop] = values[before if before >= 0 else after]
            continue
        share = (np.arange(1, stop - start + 1) / (stop - start + 1))[:, None]
        turns = matrix_from_euler(rows["rotation_rad"][[before, after]].astype(np.float64))
        between = turns[0] @ matrix_from_vector(share * vector_from_matrix(turns[0].T @ turns[1]))
        for values in rows.values():
            values[start:stop] = (1 - share) * values[before] + share * values[after]
        rows["rotation_rad"][start:stop] = euler_from_matrix(between)
    return motion.with_rows(**rows)


def _on_base(motion: Motion, seen: Array, base: Motion, base_seen: Array) -> Motion:
    """A shot whose typical pose and gaze are the base shot's; its own where it never shows the face."""
    if not seen.any() or not base_seen.any():
        return motion
    turns, base_turns = (matrix_from_euler(m.rotation_rad.astype(np.float64)) for m in (motion, base))
    turns = mean_rotation(base_turns[base_seen]) @ mean_rotation(turns[seen]).T @ turns
    moved = {
        name: getattr(motion, name) + np.median(getattr(base, name)[base_seen], 0) - np.median(getattr(motion, name)[seen], 0)
        for name in motion.row_fields
        if name in ("translation", "gaze_rad") or (name in ("body", "warp") and getattr(base, name) is not None)
    }
    return motion.with_rows(rotation_rad=euler_from_matrix(turns).astype(np.float32), **{k: v.astype(np.float32) for k, v in moved.items()})


def _warped_as(motion: Motion, base: Motion, base_seen: Array) -> Motion:
    """A shot whose warp nobody measured has the base shot's typical one, from which all are counted later."""
    if motion.warp is not None or base.warp is None or not base_seen.any():
        return motion
    return motion.with_rows(warp=np.tile(np.median(base.warp[base_seen], 0), (len(motion), 1)).astype(np.float32))


def _eased(rows: _Rows, seen: Array, fps: float, rest: _Rows) -> _Rows:
    """Rows that go to ``rest`` where the face is away, and come back from it."""
    here = _presence(seen, fps)
    away = here < 1.0
    if not away.any():
        return rows
    held = _held_rows(seen, fps)
    share = here[:, None]
    eased = _Rows(*(getattr(rows, name)[held] for name in _Rows.__slots__))
    for name in ("expression", "translation", "gaze_rad", "body", "warp"):
        values = getattr(eased, name)
        values[away] = (share * values + (1 - share) * getattr(rest, name))[away]
    home = matrix_from_euler(rest.rotation_rad)
    turns = home @ matrix_from_vector(share[away] * vector_from_matrix(home.T @ matrix_from_euler(eased.rotation_rad[away])))
    eased.rotation_rad[away] = euler_from_matrix(turns)
    return eased


def _widened(seen: Array, fps: float) -> list[tuple[int, int]]:
    """Absences with the rows beside them in which the tracker guesses; those that then meet are one."""
    wide = np.ones(len(seen), bool)
    for start, stop in absences(seen, fps):
        wide[max(0, start - _MARGIN) : stop + _MARGIN] = False
    return list(_gaps(wide))


def _held_rows(seen: Array, fps: float) -> Array:
    """Row to look at for each row: its own, in an absence the last before it (or the first after one at the start)."""
    index = np.arange(len(seen))
    for start, stop in _widened(seen, fps):
        index[start:stop] = start - 1 if start else min(stop, len(seen) - 1)
    return index


def _presence(seen: Array, fps: float) -> Array:
    """Share [t] of the measured motion: 1 where the face is seen, 0 where it is away, smooth between; it is 0 before a face returns."""
    level = np.ones(len(seen))
    ease = max(1.0, _EASE_S * fps)
    gaps = _widened(seen, fps)
    now, done = 1.0, 0
    for start, stop in [*gaps, (len(seen), len(seen))]:
        level[done:start] = np.minimum(1.0, now + np.arange(1, start - done + 1) / ease)
        now = 0.0 if start == 0 else level[start - 1]
        out = min(ease, max(1.0, 0.6 * (stop - start)))
        level[start:stop] = np.maximum(0.0, now - np.arange(1, stop - start + 1) / out)
        now, done = 0.0, stop
    return smooth_step(level)


def _fade(rows: _Rows, start: int, fps: float) -> None:
    """Let what differs between rows ``start - 1`` and ``start`` fade behind the cut, in place."""
    pose, face = (_fading(seconds * fps, len(rows.expression) - start) for seconds in (_FADE_POSE_S, _FADE_FACE_S))
    before, after = matrix_from_euler(rows.rotation_rad[[start - 1, start]])
    turn = vector_from_matrix(before @ after.T)
    behind = slice(start, start + len(pose))
    rows.rotation_rad[behind] = euler_from_matrix(matrix_from_vector(pose[:, None] * turn) @ matrix_from_euler(rows.rotation_rad[behind]))
    for name, share in (("translation", pose), ("body", pose), ("warp", pose), ("expression", face), ("gaze_rad", face)):
        values = getattr(rows, name)
        difference = values[start - 1] - values[start]
        values[start : start + len(share)] += share[:, None] * difference


def _fading(frames: float, at_most: int) -> Array:
    """From 1 at the cut smoothly to 0."""
    return smooth_step(1.0 - np.arange(max(1, min(round(frames), at_most))) / max(1.0, round(frames)))


def tell_of_shots(name: str, seen: list[Array], fps: float, chosen: bool = False) -> None:
    """One warning for cuts and one for a face out of sight.

    Args:
        name: the clip's.
        seen: per shot, whether its frames [t] show the face.
        fps: frames per second.
        chosen: whether the user says whom to follow.
    """
    cuts = [f"{frame / fps:.2f} s" for frame in np.cumsum([len(shot) for shot in seen])[:-1]]
    if cuts:
        times = ", ".join(cuts[:5]) + (f" and {len(cuts) - 5} more times" if len(cuts) > 5 else "")
        whom = ", and whoever looks most like the chosen person is followed" if chosen else ""
        log.warning("%s cuts, or the face jumps, at %s; the head goes on from its rest pose there%s", name, times, whom)
    every = np.concatenate(seen)
    away = absences(every, fps)
    if away:
        count = sum(stop - start for start, stop in away)
        log.warning(
            "%s does not show the whole face in %d of %d frames, first at %.2f s; the head rests there",
            name,
            count,
            len(every),
            away[0][0] / fps,
        )
