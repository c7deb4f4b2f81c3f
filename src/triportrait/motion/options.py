"""How motion is put on a portrait: what a user may choose."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from triportrait.errors import OptionError
from triportrait.types import PathLike

if TYPE_CHECKING:
    from triportrait.motion.controls import ControlCurves
    from triportrait.motion.emotion import EmotionName
    from triportrait.motion.style import SpeakingStyle

#: On voices it never heard the network opens the mouth too little (95th percentile 0.065 face heights, real speakers 0.08 to 0.17).
VOICE_GAIN = 1.3
#: While speaking; see NaturalSettings.
BLINKS_PER_MINUTE = 26.0


@dataclass(frozen=True, slots=True)
class DriveOptions:
    """How motion is put on a portrait. Stable: fields are added, never renamed.

    Args:
        pose: ``"driving"`` (the clip's own, or natural for a voice), ``"still"``, ``"natural"``, or a video whose head motion is taken.
        mouth_gain: how far the mouth moves.
        blink: ``"natural"``, ``"none"``, ``"driving"`` (the clip's own), or blinks per minute as a number.
        head_motion: amount of natural head motion; or a video or motion file whose head motion is taken; or a folder of such files
            (a pose library), of which the one that comes nearest to the portrait's own pose is taken, as in Real3D-Portrait.
        expressiveness: brows and other signs of prosody, for voices.
        reference: which row of a clip counts as the portrait's own expression and pose.
        seed: of everything random.
        eye_contact: share of the head's turns that the eyes counter, 0..1, for voices and idling.
        gaze_motion: saccades and looks aside, for voices and idling.
        temperature: how far chance departs from the most likely motion, 0..2, for voices and idling.
        emotion: neutral, happy, sad, angry or surprised, laid over any motion.
        emotion_strength: 0..1.
        style: manner of speaking, for voices and idling: a video or motion file of the person, or a
            :class:`~triportrait.motion.style.SpeakingStyle`.
        controls: any of these over time, for voices and idling: a motion file with ``control_*`` curves, or a
            :class:`~triportrait.motion.controls.ControlCurves`.
        driver_face: whom to follow in the driving video, or else in the video that ``pose`` or ``head_motion`` names: counted from the
            left, 1 first, in the first frame that shows faces. None follows the largest face.
        mouth: ``"auto"`` (a mouth that seems covered keeps the photo's own), ``"free"`` (it moves all the same) or ``"still"`` (it keeps
            the photo's own in any case).

    Raises:
        OptionError: a number out of range, or a word that is none of these.
    """

    pose: str = "driving"
    mouth_gain: float = 1.0
    blink: str = "driving"
    head_motion: float | PathLike = 1.0
    expressiveness: float = 1.0
    reference: Literal["neutral", "first"] = "neutral"
    seed: int = 0
    eye_contact: float = 0.9
    gaze_motion: float = 1.0
    temperature: float = 1.0
    emotion: EmotionName = "neutral"
    emotion_strength: float = 0.7
    style: SpeakingStyle | PathLike | None = None
    controls: ControlCurves | PathLike | None = None
    driver_face: int | None = None
    mouth: Literal["auto", "free", "still"] = "auto"

    def __post_init__(self) -> None:
        from triportrait.motion.emotion import EMOTIONS

        for name in ("mouth_gain", "expressiveness", "gaze_motion"):
            _expect_within(name, getattr(self, name), 0.0, 5.0)
        if isinstance(self.head_motion, int | float):
            _expect_within("head_motion", self.head_motion, 0.0, 5.0)
        elif self.pose != "driving":
            raise OptionError("--pose and --head-motion both bring a head motion; give one of them")
        _expect_within("eye_contact", self.eye_contact, 0.0, 1.0)
        _expect_within("temperature", self.temperature, 0.0, 2.0)
        _expect_within("emotion_strength", self.emotion_strength, 0.0, 1.0)
        if self.emotion not in ("neutral", *EMOTIONS):
            raise OptionError(f"--emotion is {self.emotion!r}; use neutral, {', '.join(EMOTIONS)}")
        if self.driver_face is not None and self.driver_face < 1:
            raise OptionError(f"--driver-face is {self.driver_face}; faces are counted from the left, the first is 1")
        if self.seed < 0:
            raise OptionError(f"--seed is {self.seed}; use 0 or a positive whole number")
        self.blinks_per_minute()
        if self.reference not in ("neutral", "first"):
            raise OptionError(f"--reference is {self.reference!r}; use neutral or first")
        if self.mouth not in ("auto", "free", "still"):
            raise OptionError(f"--mouth is {self.mouth!r}; use auto, free or still")

    def holds_mouth(self, is_covered: bool) -> bool:
        """Whether the mouth keeps the photo's own, given whether something seems to cover it."""
        return self.mouth == "still" or (self.mouth == "auto" and is_covered)

    def blinks_per_minute(self) -> float | None:
        """Blinks to add per minute; None leaves the motion's own."""
        if self.blink in ("driving", "none"):
            return 0.0 if self.blink == "none" else None
        if self.blink == "natural":
            return BLINKS_PER_MINUTE
        try:
            rate = float(self.blink)
        except ValueError:
            rate = -1.0
        if not 0.0 <= rate <= 120.0:
            raise OptionError(f"--blink is {self.blink!r}; use natural, none, driving or a number from 0 to 120 per minute")
        return rate

    @property
    def pose_source(self) -> str:
        """``"driving"``, ``"still"``, ``"natural"``, or the file or folder that the head motion comes from."""
        return self.pose if isinstance(self.head_motion, int | float) else os.fspath(self.head_motion)

    def files(self) -> tuple[PathLike, ...]:
        """Files and folders that these options name."""
        pose = self.pose_source
        named = (None if pose in ("driving", "still", "natural") else pose, self.style, self.controls)
        return tuple(path for path in named if isinstance(path, str | os.PathLike))

    @property
    def head_amount(self) -> float:
        """Amount of natural head motion."""
        return float(self.head_motion) if isinstance(self.head_motion, int | float) else 1.0


def _expect_within(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise OptionError(f"--{name.replace('_', '-')} is {value:g}; use a number from {low:g} to {high:g}")
