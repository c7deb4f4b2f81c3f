"""What :mod:`~triportrait.motion.voice_controls` comes to: numbers, or curves over time that travel in the motion file.

A curve of a control holds one value per row (25 per second); its last value goes on for ever. In motion files curves
stand beside the motion as ``control_<name>`` (columns of a CSV, arrays of an NPZ): ``triportrait motion`` writes what
it used, a person edits it, ``--controls FILE`` makes the motion anew with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from triportrait.errors import OptionError
from triportrait.motion import voice_controls
from triportrait.motion.voice_controls import BLINKS_PER_MINUTE, EMOTION_STRENGTH, EMOTIONS, EYE_CONTACT, NATURAL
from triportrait.types import Array

#: Prefix of the controls' columns in motion files.
PREFIX = "control_"


@dataclass(frozen=True, slots=True)
class Controls:
    """Amounts. All of them may also come as curves (:class:`ControlCurves`).

    Args:
        mouth_gain: how far the mouth moves, 0..5; closures stay closed.
        expressiveness: brows, nods and how far the corners of the mouth drift, 0..5; 1 = natural.
        head_motion: 0..5; 1 = natural, 0 = still.
        blinks_per_minute: 0..120 while speaking; in long silence a third fewer.
        gaze_motion: saccades and looks aside, 0..5.
        eye_contact: share of the head's turns that the eyes counter, 0..1.
        temperature: how far chance departs from the most likely motion, 0..2; 0 leaves only what the voice asks for.
        happy, sad, angry, surprised: strength of emotions, 0..1.
        arousal: how much of the voice's arousal brows, head, gaze and blinks take on together, 0..1 (``--emotion auto``).
    """

    mouth_gain: float = NATURAL
    expressiveness: float = NATURAL
    head_motion: float = NATURAL
    blinks_per_minute: float = BLINKS_PER_MINUTE
    gaze_motion: float = NATURAL
    eye_contact: float = EYE_CONTACT
    temperature: float = NATURAL
    happy: float = 0.0
    sad: float = 0.0
    angry: float = 0.0
    surprised: float = 0.0
    arousal: float = 0.0

    def __post_init__(self) -> None:
        for name, value in self.items():
            check(name, value)

    def items(self) -> list[tuple[str, float]]:
        """Names and values in the order of :data:`NAMES`."""
        return [(name, getattr(self, name)) for name in NAMES]

    def with_emotion(self, name: str, strength: float = EMOTION_STRENGTH) -> Controls:
        """A copy that feels ``name`` alone, with ``strength`` 0..1; ``"auto"`` takes on the voice's arousal instead.

        Raises:
            OptionError: no such emotion, or a strength out of range.
        """
        if name not in ("neutral", *EMOTIONS, "auto"):
            raise OptionError(f"--emotion is {name!r}; use neutral, {', '.join(EMOTIONS)} or auto")
        check("arousal", strength)
        felt = {emotion: strength if emotion == name else 0.0 for emotion in EMOTIONS}
        return replace(self, **felt, arousal=strength if name == "auto" else 0.0)


NAMES: tuple[str, ...] = tuple(field.name for field in fields(Controls))

#: Highest value of each control; the lowest is 0.
HIGHEST: dict[str, float] = {name: voice_controls.HIGHEST["emotion_strength" if name in (*EMOTIONS, "arousal") else name] for name in NAMES}


def check(name: str, value: float) -> None:
    """OptionError unless ``value`` is a number that control ``name`` can take."""
    if not (math.isfinite(value) and 0.0 <= value <= HIGHEST[name]):
        raise OptionError(f"{name} is {value:g}; use a number from 0 to {HIGHEST[name]:g}")


@dataclass(frozen=True, slots=True)
class ControlCurves:
    """Controls over time.

    Args:
        values: name -> [t] float32, at 25 rows per second; names not given keep the number of :class:`Controls`.

    Raises:
        OptionError: an unknown name, an empty curve, or a value out of range.
    """

    values: dict[str, Array]

    def __post_init__(self) -> None:
        for name, curve in self.values.items():
            if name not in NAMES:
                raise OptionError(f"{name!r} is no control; use {', '.join(NAMES)}")
            if np.ndim(curve) != 1 or not len(curve):
                raise OptionError(f"the curve of {name} needs one number per row, and at least one")
            wrong = ~np.isfinite(curve) | (curve < 0) | (curve > HIGHEST[name])
            if wrong.any():
                row = int(np.argmax(wrong))
                raise OptionError(f"{name} is {curve[row]:g} in row {row}; use numbers from 0 to {HIGHEST[name]:g}")

    def __bool__(self) -> bool:
        return bool(self.values)


def control_rows(controls: Controls, curves: ControlCurves | None, start: int, count: int) -> Array:
    """All controls for rows ``start`` to ``start + count``: [count, 12] float64, columns as :data:`NAMES`."""
    table = np.tile(np.array([value for _, value in controls.items()]), (count, 1))
    for name, curve in (curves.values if curves else {}).items():
        table[:, NAMES.index(name)] = curve[np.minimum(np.arange(start, start + count), len(curve) - 1)]
    return table


@dataclass(frozen=True, slots=True)
class ControlTrack:
    """What a voice's motion was made with, row by row: numbers, and the curves that take their place."""

    controls: Controls
    curves: ControlCurves | None = None

    def rows(self, start: int, count: int) -> Array:
        """[count, 12], columns as :data:`NAMES`."""
        return control_rows(self.controls, self.curves, start, count)

    def emotions(self, start: int, count: int) -> Array:
        """Weights [count, 4] of the emotions, growing from nothing in the first 0.6 s (at 25 rows per second)."""
        since = np.clip(np.arange(start, start + count) / 15.0, 0.0, 1.0)
        grown = since**3 * (10 - 15 * since + 6 * since * since)
        return self.rows(start, count)[:, [NAMES.index(name) for name in EMOTIONS]] * grown[:, None]
