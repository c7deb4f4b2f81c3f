"""The manner of a clip as 32 numbers, and a running match that brings a voice's motion to them.

ERLNet (arXiv 2404.19038) speaks "in the style of a video"; only its abstract is public, so this is our reconstruction, without a network:
what a code holds are moments of the motion: how far and how fast head, brows and lips go, how often lids close, how far groups of curves
spread and where they rest, how brows, smile, lids and head go together, and how far the head lags behind the lips.

A match compares the spread of the rows so far with the clip's, and scales the next row by their ratio; that of the head compares speeds,
too. It looks at the past alone, so that streaming gives the numbers of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.errors import MotionFileError
from triportrait.motion.filters import quadratic_fit
from triportrait.motion.lips import lip_opening
from triportrait.motion.statistics import WINDOW, blink_rows, brow_height, head_turns
from triportrait.motion.timing import resample
from triportrait.types import ARKIT_EXPRESSIONS, FPS, Array, Motion

#: Groups of curves whose spread is part of a manner.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("mouthPucker", "mouthFunnel"),
    ("mouthStretchLeft", "mouthStretchRight"),
    ("mouthUpperUpLeft", "mouthUpperUpRight"),
    ("mouthLowerDownLeft", "mouthLowerDownRight"),
    ("mouthFrownLeft", "mouthFrownRight"),
    ("mouthPressLeft", "mouthPressRight"),
)

#: Groups whose median is: where a face rests while it talks.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("mouthSmileLeft", "mouthSmileRight"),
    ("eyeBlinkLeft", "eyeBlinkRight"),
    *(group for group in GROUPS if "Lower" not in group[0]),
)


def _stem(group: tuple[str, ...]) -> str:
    return group[0].removesuffix("Left")


#: What the code's numbers are, in order. Spreads, rates, blinks and ``silent_head`` are natural logarithms.
MEASURES: tuple[str, ...] = (
    "pitch_spread", "yaw_spread", "roll_spread", "head_rate", "brow_spread", "brow_rate", "lip_spread", "lip_rate", "mouthSmile_spread",
    "blinks", "gaze_spread", "eye_contact", "brow_pitch", "brow_smile", "smile_pitch", "lid_brow", "silent_head", "head_lag",
    *(f"{_stem(group)}_spread" for group in GROUPS), "brow_level", *(f"{_stem(group)}_level" for group in LEVELS),
)  # fmt: skip

#: A spread of a curve below which it counts as still, and of an angle in degrees.
_STILL, _STILL_DEG = 0.004, 0.1

#: Rows of a match that stand for what is expected before anything was seen: two seconds.
_EXPECTED_ROWS = 50

#: A match scales no further than this, either way.
_FURTHEST = 3.0


#: What each number varies by from clip to clip of one speaker, over the root of the share of its variance that lies between speakers: 34
#: clips of GRID, 11 speakers.
_NOISE = np.array(
    [
        0.35, 0.39, 0.48, 0.19, 0.45, 0.50, 0.17, 0.29, 0.25, 0.52, 0.29, 0.65, 0.55, 0.31, 0.34, 0.39, 0.49, 0.35,
        0.25, 0.57, 0.40, 0.23, 0.69, 0.46, 0.019, 0.038, 0.029, 0.032, 0.026, 0.020, 0.015, 0.040,
    ]
)  # fmt: skip


def manner_code(motion: Motion) -> Array:
    """The manner of whoever a motion was measured on: float32 [32], in the order of :data:`MEASURES`.

    Raises:
        MotionFileError: shorter than four seconds, or a head model without ARKit curves.
    """
    if "browInnerUp" not in motion.expression_names:
        raise MotionFileError(f"motion of head model {motion.head_model!r} has no ARKit curves; no style can be taken from it")
    if len(motion) < 4 * motion.fps:
        raise MotionFileError(f"{len(motion) / motion.fps:.1f} s are too short to learn a style from; give at least 4 s of talk")
    return measured_code(motion)


def measured_code(motion: Motion) -> Array:
    """:func:`manner_code` of ARKit curves of any length from two seconds on."""
    motion = resample(motion, FPS)
    head, rows = head_turns(motion), quadratic_fit(motion.expression, WINDOW)
    brows = quadratic_fit(brow_height(motion), WINDOW)
    lips = lip_opening(motion.expression, motion.expression_names).astype(np.float64)

    def mean_of(group: tuple[str, ...]) -> Array:
        return np.mean([rows[:, motion.column(name)] for name in group], axis=0)

    smile, lids = mean_of(LEVELS[0]), mean_of(LEVELS[1])
    gaze = np.degrees(motion.gaze_rad.astype(np.float64))
    gaze -= np.median(gaze, axis=0)
    counter = np.stack([head[:, 0], -head[:, 1]], axis=1)
    speed = np.linalg.norm(np.diff(head, axis=0), axis=1) * FPS
    return np.array(
        [
            *(_log_spread(head[:, axis], _STILL_DEG) for axis in range(3)),
            np.log((speed.mean() + _STILL_DEG) / max(np.sqrt(np.square(head).sum(axis=1).mean()), _STILL_DEG)),
            _log_spread(brows, _STILL),
            _log_rate(brows, _STILL),
            np.log(max(np.sqrt(np.square(lips).mean()), _STILL)),
            _log_rate(lips, _STILL),
            _log_spread(smile, _STILL),
            np.log(60.0 * len(blink_rows(motion)) * FPS / len(motion) + 10.0),
            np.log(max(np.sqrt(np.square(gaze).sum(axis=1).mean()), _STILL_DEG)),
            np.clip((counter * gaze).sum() / max(np.square(counter).sum(), 1e-9), -1.0, 1.5),
            _correlation(brows, head[:, 0]),
            _correlation(brows, smile),
            _correlation(smile, head[:, 0]),
            _correlation(lids, brows),
            _silent_share(speed, lips[1:]),
            _lag_s(speed, lips[1:]),
            *(_log_spread(mean_of(group), _STILL) for group in GROUPS),
            brows.mean(),
            *(np.median(mean_of(group)) for group in LEVELS),
        ],
        np.float32,
    )


def distance(first: Array, second: Array) -> float:
    """How far two codes lie apart: the mean of ``log(1 + d^2)``, where d is a difference in what one speaker varies by.

    The logarithm is that of a heavy-tailed likelihood: one number that is far off, a tracker's slip or a laugh, does not decide.
    """
    apart = (np.asarray(first, np.float64) - second) / _NOISE
    return float(np.log1p(np.square(apart)).mean())


def _quiet(lips: Array) -> Array:
    """bool [t]: lips that have hardly moved within the half second round a row."""
    reach = int(0.25 * FPS)
    padded = np.pad(lips, reach, mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    return np.ptp(around, axis=1) < 0.01


def _silent_share(speed: Array, lips: Array) -> float:
    """Logarithm of the head's speed while the lips rest over its speed while they move; 0 where one of both is missing."""
    quiet = _quiet(lips)
    return float(np.log((speed[quiet].mean() + 1.0) / (speed[~quiet].mean() + 1.0))) if quiet.any() and not quiet.all() else 0.0


def _log_spread(values: Array, still: float) -> float:
    return float(np.log(max(values.std(), still)))


def _log_rate(values: Array, still: float) -> float:
    """Mean speed over spread, per second, as a logarithm."""
    return float(np.log((np.abs(np.diff(values)).mean() * FPS + still) / max(values.std(), still)))


def _correlation(first: Array, second: Array) -> float:
    if first.std() < 1e-6 or second.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _lag_s(head: Array, lips: Array) -> float:
    """Seconds, up to 0.6 either way, by which the head's speed follows the lips' opening where both agree most."""
    reach = int(0.6 * FPS)
    lags = range(-reach, reach + 1)
    middle = lips[reach : len(lips) - reach]
    agreement = [_correlation(head[reach + lag : len(head) - reach + lag], middle) for lag in lags]
    return float(lags[int(np.argmax(agreement))] / FPS)


@dataclass(frozen=True, slots=True)
class Manner:
    """Spreads that generated motion is brought to, out of a code.

    Args:
        code: float32 [32] of :func:`manner_code`.
    """

    code: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.code) != len(MEASURES) or not np.isfinite(self.code).all():
            raise MotionFileError(f"a manner's code has {len(self.code)} numbers; give {len(MEASURES)} finite ones")

    def spread(self, name: str) -> float:
        """The standard deviation (root mean square for the lips) that stands in the code as ``name``."""
        return float(np.exp(self.code[MEASURES.index(name)]))

    def level(self, name: str) -> float:
        """A number that stands in the code as itself."""
        return float(self.code[MEASURES.index(name)])

    def head_match(self, dt: float) -> HeadMatch:
        """For pitch, yaw and roll in radians, a row every ``dt`` seconds."""
        spreads = np.radians([self.spread(f"{axis}_spread") for axis in ("pitch", "yaw", "roll")])
        return HeadMatch(spreads, self.spread("head_rate"), dt)

    def brow_match(self) -> BrowMatch:
        """For the height of the brows."""
        return BrowMatch(self.spread("brow_spread"))

    def mouth_match(self) -> MouthMatch:
        """For rows of a speaking mouth."""
        return MouthMatch(self)


#: Spreads of natural motion in minutes of speech: what a match expects before it has seen any.
HEAD_SPREAD_DEG, BROW_SPREAD, LIP_SPREAD = (2.6, 6.6, 3.8), 0.24, 0.060


class RunningMatch:
    """Factors that bring the spread of values to an aim, learned from the rows so far.

    Args:
        aims: [n] spreads to reach.
        expected: [n] spreads that the values are thought to have.
        about_mean: whether spread is the deviation from the mean, or the root mean square.
    """

    def __init__(self, aims: Array, expected: Array, about_mean: bool = True) -> None:
        self._aims, self._about_mean = np.asarray(aims, np.float64), about_mean
        self._rows = float(_EXPECTED_ROWS)
        self._sum = np.zeros(len(self._aims))
        self._squares = _EXPECTED_ROWS * np.square(np.asarray(expected, np.float64))

    def factors(self, values: Array) -> Array:
        """Take the next row [n]; what it is to be multiplied by: [n]."""
        self._rows += 1.0
        self._sum += values
        self._squares += np.square(values)
        mean = self._sum / self._rows if self._about_mean else 0.0
        spread = np.sqrt(np.maximum(self._squares / self._rows - np.square(mean), 1e-10))
        return np.clip(self._aims / spread, 1.0 / _FURTHEST, _FURTHEST)


class BrowMatch:
    """Factors that bring the spread of the brows' height to an aim, although high brows come out lower than they are asked for.

    Args:
        spread: to reach.
    """

    #: How much the spread that came out counts: the aim is missed by a third of what it would be without.
    _INSIST = 3.0

    def __init__(self, spread: float) -> None:
        aim = np.array([spread])
        self._asked, self._reached, self._mended = RunningMatch(aim, np.array([BROW_SPREAD])), RunningMatch(aim, aim), 1.0

    def factor(self, height: float) -> float:
        """What the next row's height is to be multiplied by."""
        return float(np.clip(self._asked.factors(np.array([height]))[0] * self._mended, 1.0 / _FURTHEST, _FURTHEST))

    def came_out(self, height: float) -> None:
        """How high the brows of that row stand."""
        self._mended = float(self._reached.factors(np.array([height]))[0]) ** self._INSIST


#: What is slower than this is posture, what is faster gesture, in hertz.
_POSTURE_HZ = 0.5
#: The balance of gesture and posture moves no further than this, either way; steps of the search for it, and rows until the next one.
_FURTHEST_BALANCE, _SEARCH, _PATIENCE = 4.0, 10, 5
#: What is expected before any was seen, as measured on natural motion to captured and recorded voices, in pieces of ten seconds: variances
#: and covariance of posture and gesture as shares of the whole, and the variances of their speeds over it, per second squared.
_EXPECTED_SHARES = np.array([[0.80, 0.02], [0.02, 0.16]])
_EXPECTED_SPEEDS = np.array([[1.78, 0.28], [0.28, 4.05]])
#: Rows that these stand for: a posture lasts some seconds, so that spread shows late; speed shows soon.
_EXPECTED_HEAD_ROWS, _EXPECTED_SPEED_ROWS = 100, 25
#: Mean speed over root mean square.
_EXPECTED_PEAKEDNESS = 0.80
#: Weights of the rows in the speed that a manner is measured in: the difference of two neighbours of
#: :func:`~triportrait.motion.filters.quadratic_fit`.
_SLOPE = np.diff(quadratic_fit(np.eye(WINDOW + 1), WINDOW)[WINDOW // 2 : WINDOW // 2 + 2], axis=0)[0]


class HeadMatch:
    """Brings spread and speed of the head's turns to those of a manner: a spectrum of two bands, posture and gesture.

    A slow head that is to be a quick one gets more gesture and less posture of the same motion. Per axis the sum keeps the spread that is
    asked for; the balance of both, one number for all axes, is where the speed comes out right. Both are learned from the rows so far.

    Args:
        spreads_rad: [3] of pitch, yaw and roll.
        rate_hz: mean speed over the root mean square of all three, per second.
        dt: seconds per row.
    """

    def __init__(self, spreads_rad: Array, rate_hz: float, dt: float) -> None:
        self._aims = np.maximum(np.asarray(spreads_rad, np.float64), 1e-5)
        self._speed = rate_hz * float(np.linalg.norm(self._aims))
        self._dt, self._follow = dt, 1.0 - np.exp(-2 * np.pi * _POSTURE_HZ * dt)
        self._slow, self._latest, self._matched = np.zeros(3), np.zeros((WINDOW + 1, 2, 3)), np.zeros((WINDOW + 1, 3))
        # Sums of the bands [2, 3], their products [2, 2, 3] and those of their speeds; mean and mean square of the speed that came out.
        expected = np.square(np.radians(HEAD_SPREAD_DEG))
        self._rows, self._sums = 0, np.zeros((2, 3))
        self._products = _EXPECTED_HEAD_ROWS * _EXPECTED_SHARES[..., None] * expected
        self._speeds = _EXPECTED_SPEED_ROWS * _EXPECTED_SPEEDS[..., None] * expected
        self._came_out = _EXPECTED_SPEED_ROWS * np.array([_EXPECTED_PEAKEDNESS * self._speed, self._speed**2])
        self._gains = np.ones((2, 3))

    def matched(self, rotation_rad: Array) -> Array:
        """The next row's turn [3] as the manner has it."""
        self._slow = self._slow + (rotation_rad - self._slow) * self._follow
        bands = np.stack([self._slow, rotation_rad - self._slow])
        self._latest = np.concatenate([self._latest[1:], bands[None]])
        slopes = np.tensordot(_SLOPE, self._latest, 1) / self._dt
        self._sums += bands
        self._products += bands[:, None] * bands[None]
        self._speeds += slopes[:, None] * slopes[None]
        if self._rows % _PATIENCE == 0:
            self._gains = self._solved()
        self._rows += 1
        result = (self._gains * bands).sum(axis=0)
        self._matched = np.concatenate([self._matched[1:], result[None]])
        speed = float(np.linalg.norm(_SLOPE @ self._matched)) / self._dt
        self._came_out += (speed, speed**2)
        return np.asarray(result)

    def _solved(self) -> Array:
        """Gains of posture and gesture per axis [2, 3]."""
        rows, soon = self._rows + _EXPECTED_HEAD_ROWS, self._rows + _EXPECTED_SPEED_ROWS
        means = self._sums / rows
        spread = self._products / rows - means[:, None] * means[None]
        speed = self._speeds / soon
        mean, square = self._came_out / soon
        wanted = square * np.square(self._speed / max(mean, 1e-9))
        low, high = -np.log(_FURTHEST_BALANCE), np.log(_FURTHEST_BALANCE)
        for _ in range(_SEARCH):
            middle = 0.5 * (low + high)
            faster = _mixed(middle, speed) / np.maximum(_mixed(middle, spread), 1e-12)
            low, high = (middle, high) if (np.square(self._aims) * faster).sum() < wanted else (low, middle)
        balance = 0.5 * (low + high)
        plain = np.sqrt(np.maximum(_mixed(balance, spread), 1e-12))
        return np.asarray(np.clip(self._aims / plain, 1.0 / _FURTHEST, _FURTHEST) * _balanced(balance)[:, None])


def _balanced(balance: float) -> Array:
    """Factors [2] of posture and gesture whose ratio has the logarithm ``balance``."""
    return np.exp([-0.5 * balance, 0.5 * balance])


def _mixed(balance: float, products: Array) -> Array:
    """Mean square [3] of both bands together, out of their products [2, 2, 3]."""
    mix = _balanced(balance)
    return np.asarray(np.einsum("i,j,ijk->k", mix, mix, products))


#: Groups whose level a mouth takes: none of them parts lips that touch.
_RESTING = tuple(group for group in LEVELS if _stem(group) in ("mouthSmile", "mouthStretch", "mouthFrown", "mouthPress"))

#: A level is moved by no more than this.
_FURTHEST_LEVEL = 0.3


class MouthMatch:
    """Brings the opening of the lips, and where the corners of the mouth rest, to those of a manner.

    Args:
        manner: whose.
    """

    def __init__(self, manner: Manner) -> None:
        self._opening = RunningMatch(np.array([manner.spread("lip_spread")]), np.array([LIP_SPREAD]), about_mean=False)
        self._aims = np.array([manner.level(f"{_stem(group)}_level") for group in _RESTING])
        self._sum, self._rows = np.zeros(len(_RESTING)), 0

    def gains(self, spoken: Array) -> Array:
        """Factors [t] on the mouth of the next rows, whose expression would be ``spoken`` [t, 44] without them."""
        openings = lip_opening(spoken, ARKIT_EXPRESSIONS)
        return np.array([self._opening.factors(np.array([opening]))[0] for opening in openings], np.float32).reshape(len(spoken))

    def rested(self, spoken: Array) -> Array:
        """Rows [t, 44], in order, with the corners of the mouth where the manner has them; grown into in 0.6 s."""
        result = np.array(spoken, np.float32)
        for row in result:
            means = np.array([np.mean([row[ARKIT_EXPRESSIONS.index(name)] for name in group]) for group in _RESTING])
            self._sum += means
            self._rows += 1
            away = self._aims - self._sum / (self._rows + _EXPECTED_ROWS)
            added = np.clip(away, -_FURTHEST_LEVEL, _FURTHEST_LEVEL) * min((self._rows - 1) / 15.0, 1.0)
            for group, amount in zip(_RESTING, added, strict=True):
                for name in group:
                    row[ARKIT_EXPRESSIONS.index(name)] += amount
        return np.clip(result, 0.0, 1.0)
