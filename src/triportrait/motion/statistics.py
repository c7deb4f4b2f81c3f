"""How lively a motion is, in numbers that can be compared between tracked video and motion of our own.

Tracked video trembles, and a tremble of 0.2 degrees from frame to frame is 5 degrees per second. So everything is
measured on rows at 25 per second after the same filter, a quadratic fit over nine frames (A. Savitzky and M. Golay,
1964; it passes what is slower than about 3 Hz, which is where head gestures of speakers lie, and takes tracker noise
away), whether the motion is tracked or generated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.geometry.rotations import matrix_from_euler, mean_rotation, vector_from_matrix
from triportrait.motion.filters import quadratic_fit, running_median
from triportrait.motion.lips import lip_opening
from triportrait.types import FPS, Array, Motion

#: Frames of the fit that both tracked and generated motion go through.
WINDOW = 9

#: A blink: lids this much more closed than they usually are, for at most so long.
BLINK_RISE, BLINK_LONGEST_S = 0.35, 0.7


@dataclass(frozen=True, slots=True)
class MotionStatistics:
    """Figures of one clip.

    Args:
        seconds: its length.
        pitch_speed, yaw_speed, roll_speed: mean absolute speeds in degrees per second.
        head_speed: mean angular speed in degrees per second.
        pitch_range, yaw_range, roll_range: 5th to 95th percentile in degrees.
        translation_speed: mean speed of the head's centre in millimetres per second.
        brow_amplitude: 5th to 95th percentile of brow height (inner and outer raise less the frown).
        brow_speed: its mean absolute speed per second.
        blinks_per_minute: blinks counted, of the lids of both eyes together.
        gaze_deviation: standard deviation of the eyes' direction in the head, in degrees, both axes together.
        eye_contact: share of the head's slow turns that the eyes counter: minus the slope of gaze over head angle, 0..1.
        lip_opening: 95th percentile in face heights.
        smile: median of the smile curves.
    """

    seconds: float
    pitch_speed: float
    yaw_speed: float
    roll_speed: float
    head_speed: float
    pitch_range: float
    yaw_range: float
    roll_range: float
    translation_speed: float
    brow_amplitude: float
    brow_speed: float
    blinks_per_minute: float
    gaze_deviation: float
    eye_contact: float
    lip_opening: float
    smile: float


def _fit(values: Array) -> Array:
    return quadratic_fit(np.asarray(values, np.float64), WINDOW)


def brow_height(motion: Motion) -> Array:
    """Raise of the brows less their frown, both sides' mean: [t]."""
    rows = motion.expression.astype(np.float64)
    column = motion.column
    outer = 0.5 * (rows[:, column("browOuterUpLeft")] + rows[:, column("browOuterUpRight")])
    down = 0.5 * (rows[:, column("browDownLeft")] + rows[:, column("browDownRight")])
    return 0.5 * (rows[:, column("browInnerUp")] + outer) - down


def blink_rows(motion: Motion) -> Array:
    """First rows of blinks [n]: both lids close by :data:`BLINK_RISE` beyond the median of the two seconds around and open again soon."""
    lids = np.minimum(motion.expression[:, motion.column("eyeBlinkLeft")], motion.expression[:, motion.column("eyeBlinkRight")])
    rest = running_median(lids, max(3, int(2 * motion.fps) | 1))
    # The rise is taken relative to what is left to close, so that heavy lids blink, too.
    shut = np.concatenate([[False], (lids - rest) / np.maximum(1.0 - rest, 0.2) > BLINK_RISE, [False]])
    edges = np.flatnonzero(np.diff(shut.astype(int)))
    starts, ends = edges[::2], edges[1::2]
    return starts[(ends - starts) <= BLINK_LONGEST_S * motion.fps]


def head_turns(motion: Motion) -> Array:
    """Pitch, yaw and roll about the mean pose, in degrees, fitted over :data:`WINDOW` rows: float64 [t, 3]."""
    turns = matrix_from_euler(motion.rotation_rad.astype(np.float64))
    # Rotation vectors at the mean pose are (pitch, yaw, roll) for the small turns of a speaker.
    return np.degrees(_fit(vector_from_matrix(mean_rotation(turns).T @ turns)))


def measure(motion: Motion) -> MotionStatistics:
    """Figures of a motion of the open head; it is brought to 25 rows per second first.

    Raises:
        ValueError: fewer than two seconds, or a head model without ARKit curves.
    """
    from triportrait.motion.timing import resample

    if "browInnerUp" not in motion.expression_names:
        raise ValueError(f"motion of head model {motion.head_model!r} has no ARKit curves")
    motion = resample(motion, FPS)
    if len(motion) < 2 * FPS:
        raise ValueError(f"{len(motion) / FPS:.1f} s are too short to measure; give at least 2 s")
    vectors = head_turns(motion)
    speed = np.diff(vectors, axis=0) * FPS
    span = np.quantile(vectors, 0.95, axis=0) - np.quantile(vectors, 0.05, axis=0)
    brows = _fit(brow_height(motion))
    gaze = np.degrees(motion.gaze_rad.astype(np.float64))
    steady = gaze - np.median(gaze, axis=0)
    counter = np.stack([vectors[:, 0], -vectors[:, 1]], axis=1)
    slope = float((counter * steady).sum() / max((counter**2).sum(), 1e-9))
    shift = np.linalg.norm(np.diff(_fit(motion.translation), axis=0), axis=1) * FPS * 100.0
    smile = motion.expression[:, [motion.column("mouthSmileLeft"), motion.column("mouthSmileRight")]]
    return MotionStatistics(
        seconds=len(motion) / FPS,
        pitch_speed=float(np.abs(speed[:, 0]).mean()),
        yaw_speed=float(np.abs(speed[:, 1]).mean()),
        roll_speed=float(np.abs(speed[:, 2]).mean()),
        head_speed=float(np.linalg.norm(speed, axis=1).mean()),
        pitch_range=float(span[0]),
        yaw_range=float(span[1]),
        roll_range=float(span[2]),
        translation_speed=float(shift.mean()),
        brow_amplitude=float(np.quantile(brows, 0.95) - np.quantile(brows, 0.05)),
        brow_speed=float(np.abs(np.diff(brows)).mean() * FPS),
        blinks_per_minute=60.0 * len(blink_rows(motion)) / (len(motion) / FPS),
        gaze_deviation=float(np.sqrt((steady**2).sum(axis=1).mean())),
        eye_contact=float(np.clip(slope, 0.0, 1.0)),
        lip_opening=float(np.quantile(lip_opening(motion.expression, motion.expression_names), 0.95)),
        smile=float(np.median(smile)),
    )
