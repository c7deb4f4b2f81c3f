"""A person's manner of speaking, measured on a clip and given to a voice-driven face.

A style is a handful of ratios between what :func:`triportrait.motion.statistics.measure` finds on a clip and what it
finds on our own natural motion: how far and how fast the head goes about each axis, how brows, lids and eyes join in,
how far the mouth opens, whether it smiles. Their logarithms are the style's code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from triportrait.errors import MotionFileError
from triportrait.motion.manner import MEASURES, Manner, manner_code
from triportrait.types import Array, Motion


@dataclass(frozen=True, slots=True)
class SpeakingStyle:
    """Factors on natural motion; 1 is our default speaker.

    Args:
        head_gain: range of pitch, yaw, roll.
        head_rate: speed of the head over its range.
        brow_gain: height of brow movements.
        blink_rate: blinks per blink of the default.
        gaze_gain: size of saccades and looks aside.
        eye_contact: share of eye contact.
        mouth_gain: opening of the mouth.
        smile: added to the smile curves all the time, 0..0.4.
        manner: spreads that head, brows and lips are brought to, and where the mouth rests; they take the place of ``head_gain``,
            ``brow_gain``, ``mouth_gain`` and ``smile``.
    """

    head_gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    head_rate: float = 1.0
    brow_gain: float = 1.0
    blink_rate: float = 1.0
    gaze_gain: float = 1.0
    eye_contact: float = 1.0
    mouth_gain: float = 1.0
    smile: float = 0.0
    manner: Manner | None = None

    @property
    def code(self) -> Array:
        """The style as numbers [10] float32: natural logarithms of the factors, then the smile; all zero = default."""
        factors = [*self.head_gain, self.head_rate, self.brow_gain, self.blink_rate, self.gaze_gain, self.eye_contact, self.mouth_gain]
        return np.array([*np.log(factors), self.smile], np.float32)

    @property
    def numbers(self) -> Array:
        """All of the style, to be kept: :attr:`code`, and after it the manner's [32], NaN where there is none; float32 [42]."""
        manner = np.full(len(MEASURES), np.nan, np.float32) if self.manner is None else np.array(self.manner.code, np.float32)
        return np.concatenate([self.code, manner])

    @classmethod
    def from_numbers(cls, numbers: Array) -> SpeakingStyle:
        """The inverse of :attr:`numbers`."""
        manner = numbers[10:]
        style = cls.from_code(numbers[:10])
        return replace(style, manner=Manner(tuple(float(value) for value in manner))) if np.isfinite(manner).all() else style

    @classmethod
    def from_code(cls, code: Array) -> SpeakingStyle:
        """The inverse of :attr:`code`."""
        factors = (float(value) for value in np.exp(np.asarray(code, np.float64)[:9]))
        pitch, yaw, roll, head_rate, brow_gain, blink_rate, gaze_gain, eye_contact, mouth_gain = factors
        return cls((pitch, yaw, roll), head_rate, brow_gain, blink_rate, gaze_gain, eye_contact, mouth_gain, float(code[9]))


NATURAL_STYLE = SpeakingStyle()

#: Figures of our own default over ten minutes of speech.
REFERENCE = {
    "pitch_range": 8.2,
    "yaw_range": 19.0,
    "roll_range": 10.6,
    "head_speed": 17.0,
    "brow_amplitude": 0.78,
    "blinks_per_minute": 33.0,
    "gaze_deviation": 6.2,
    "eye_contact": 0.875,
    "lip_opening": 0.113,
    "smile": 0.02,
}


def style_of(motion: Motion) -> SpeakingStyle:
    """The manner of whoever a motion was measured on, of at least four seconds of talk.

    Factors stay within what looks like a person: a third to two and a half times the default.

    Raises:
        MotionFileError: shorter than four seconds, or a head model without ARKit curves.
    """
    from triportrait.motion.statistics import measure

    if len(motion) < 4 * motion.fps:
        raise MotionFileError(f"{len(motion) / motion.fps:.1f} s are too short to learn a style from; give at least 4 s of talk")
    try:
        found = measure(motion)
    except ValueError as error:
        raise MotionFileError(f"{error}; no style can be taken from it") from None

    def factor(name: str, low: float = 1 / 3, high: float = 2.5) -> float:
        return float(np.clip(max(getattr(found, name), 1e-6) / REFERENCE[name], low, high))

    gains = (factor("pitch_range"), factor("yaw_range"), factor("roll_range"))
    # What the head is faster than its larger range explains is a quicker temper.
    rate = float(np.clip(factor("head_speed", 0.2, 4.0) / np.exp(np.mean(np.log(gains))), 0.6, 1.6))
    return SpeakingStyle(
        head_gain=gains,
        head_rate=rate,
        brow_gain=factor("brow_amplitude"),
        blink_rate=factor("blinks_per_minute"),
        gaze_gain=factor("gaze_deviation", 0.5, 2.0),
        eye_contact=factor("eye_contact", 0.3, 1.1),
        mouth_gain=factor("lip_opening", 0.6, 1.8),
        smile=float(np.clip(0.6 * (found.smile - REFERENCE["smile"]), 0.0, 0.3)),
        manner=Manner(tuple(manner_code(motion).tolist())),
    )
