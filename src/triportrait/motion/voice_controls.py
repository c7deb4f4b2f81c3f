"""What a user may turn while a voice moves a face. Defaults, ranges and words are declared here and nowhere else.

The command line shows :class:`VoiceControls` as flags, :class:`~triportrait.motion.options.DriveOptions` is the public form of it, and
the driver takes its numbers as :class:`~triportrait.motion.controls.Controls`, which also travel in motion files. This module imports
neither numpy nor anything else that takes time, so that ``--help`` can read it.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Literal, get_args

from triportrait.errors import OptionError

ShownEmotion = Literal["neutral", "happy", "sad", "angry", "surprised"]
EmotionName = Literal[ShownEmotion, "auto"]
#: All but neutral; columns of emotion weights stand in this order.
EMOTIONS: tuple[str, ...] = get_args(ShownEmotion)[1:]

#: Amount of what lively speakers do.
NATURAL = 1.0
#: Share of the head's turns that the eyes counter.
EYE_CONTACT = 0.9
#: Of an emotion.
EMOTION_STRENGTH = 0.7
#: In conversation. Source: A. R. Bentivoglio et al., "Analysis of blink rate patterns in normal subjects", 1997.
BLINKS_PER_MINUTE = 26.0
#: Of the same people at rest.
BLINKS_AT_REST_PER_MINUTE = 17.0

#: Highest value of each number; the lowest is 0.
HIGHEST: dict[str, float] = {
    "mouth_gain": 5.0,
    "expressiveness": 5.0,
    "head_motion": 5.0,
    "blinks_per_minute": 120.0,
    "gaze_motion": 5.0,
    "eye_contact": 1.0,
    "temperature": 2.0,
    "emotion_strength": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class VoiceControls:
    """Settings of a voice; those that are not marked so count for videos and motion files, too."""

    mouth_gain: float = NATURAL
    """How far the mouth moves; closures stay closed."""
    expressiveness: float = NATURAL
    """Brows, nods and other signs of prosody, for voices."""
    head_motion: float | str | os.PathLike[str] = NATURAL
    """Amount of natural head motion; or a video or motion file to take it from; or a folder: one that begins near the photo."""
    blink: str = "driving"
    """natural, none, driving (the clip's own; natural for a voice), or blinks per minute."""
    eye_contact: float = EYE_CONTACT
    """Share of the head's turns that the eyes counter (0 to 1), for voices."""
    gaze_motion: float = NATURAL
    """Looks aside and other movements of the eyes, for voices."""
    emotion: EmotionName = "neutral"
    """Laid over any motion; lips that touch go on touching. auto, for voices: as aroused as the voice, neither glad nor sad."""
    emotion_strength: float = EMOTION_STRENGTH
    """0 to 1."""
    style: Any = None
    """Manner of speaking, for voices: a video or motion file of the person to speak like."""
    voice_driver: str = "natural"
    """Who turns a voice into motion: natural, or erlnet:FOLDER, networks that 'triportrait train erlnet.manner --export' made."""
    controls: Any = None
    """Controls over time, for voices: a file of 'triportrait motion', edited; its control columns take the place of the flags."""
    temperature: float = NATURAL
    """How far chance departs from a voice's most likely motion, 0 to 2."""
    seed: int = 0
    """Of everything random."""

    def check(self) -> None:
        """OptionError for a number out of range, or a word that is none of those named."""
        for name in ("mouth_gain", "expressiveness", "gaze_motion", "eye_contact", "temperature", "emotion_strength"):
            check_flag(name, getattr(self, name))
        if isinstance(self.head_motion, int | float):
            check_flag("head_motion", self.head_motion)
        if self.emotion not in get_args(EmotionName):
            raise OptionError(f"--emotion is {self.emotion!r}; use neutral, {', '.join(EMOTIONS)} or auto")
        check_seed(self.seed)
        self.blinks_per_minute()

    def blinks_per_minute(self) -> float | None:
        """Blinks to add per minute; None leaves the motion's own."""
        return blink_rate(self.blink, BLINKS_PER_MINUTE)


def blink_rate(word: str, natural: float) -> float | None:
    """Blinks per minute that a word of ``--blink`` stands for; None leaves the driver's own.

    Args:
        word: natural, none, driving, or a number.
        natural: what natural stands for.

    Raises:
        OptionError: it is none of these.
    """
    words = {"driving": None, "none": 0.0, "natural": natural}
    if word in words:
        return words[word]
    try:
        rate = float(word)
    except ValueError:
        rate = -1.0
    highest = HIGHEST["blinks_per_minute"]
    if not 0.0 <= rate <= highest:
        raise OptionError(f"--blink is {word!r}; use natural, none, driving or a number from 0 to {highest:g} per minute")
    return rate


def check_flag(name: str, value: float) -> None:
    """OptionError, which names the flag, unless ``value`` lies in the range of the number ``name``."""
    if not (math.isfinite(value) and 0.0 <= value <= HIGHEST[name]):
        raise OptionError(f"--{name.replace('_', '-')} is {value:g}; use a number from 0 to {HIGHEST[name]:g}")


def check_seed(seed: int) -> None:
    """OptionError for a negative seed."""
    if seed < 0:
        raise OptionError(f"--seed is {seed}; use 0 or a positive whole number")
