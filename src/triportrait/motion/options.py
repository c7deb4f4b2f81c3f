"""How motion is put on a portrait: what a user may choose."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from triportrait.errors import OptionError
from triportrait.motion.voice_controls import VoiceControls

if TYPE_CHECKING:
    from triportrait.motion.controls import ControlCurves
    from triportrait.motion.style import SpeakingStyle
    from triportrait.types import PathLike

#: Head motions that no file brings.
POSES = ("driving", "still", "natural")


@dataclass(frozen=True, kw_only=True)
class DriveOptions(VoiceControls):
    """How motion is put on a portrait. Stable: fields are added, never renamed. Defaults and ranges: :class:`VoiceControls`.

    Args:
        pose: ``"driving"`` (the clip's own, or natural for a voice), ``"still"``, ``"natural"``, or a video whose head motion is taken.
        mouth_gain: how far the mouth moves.
        blink: ``"natural"``, ``"none"``, ``"driving"`` (the clip's own), or blinks per minute as a number.
        head_motion: amount of natural head motion; or a video or motion file whose head motion is taken; or a folder of such files
            (a pose library), of which the ten whose first frame is nearest to the portrait's own pose are found and one is drawn by the
            seed, as in Real3D-Portrait (appendix D.1).
        expressiveness: brows, nods and how far the corners of the mouth drift, for voices.
        reference: which row of a clip counts as the portrait's own expression and pose.
        seed: of everything random.
        eye_contact: share of the head's turns that the eyes counter, 0..1, for voices and idling.
        gaze_motion: saccades and looks aside, for voices and idling.
        temperature: how far chance departs from the most likely motion, 0..2, for voices and idling.
        emotion: neutral, happy, sad, angry or surprised, laid over any motion.
        emotion_strength: 0..1.
        style: manner of speaking, for voices and idling: a video or motion file of the person, or a
            :class:`~triportrait.motion.style.SpeakingStyle`.
        voice_driver: who turns a voice into motion: ``"natural"``, or ``"erlnet:FOLDER"`` with the user's networks.
        controls: any of these over time, for voices and idling: a motion file with ``control_*`` curves, or a
            :class:`~triportrait.motion.controls.ControlCurves`.
        driver_face: whom to follow in the driving video, or else in the video that ``pose`` or ``head_motion`` names: counted from the
            left, 1 first, in the first frame that shows faces. Behind a cut it is whoever looks most like that person; a shot with one
            face shows that one, whoever it is. None follows the largest face.
        mouth: ``"auto"`` (a mouth that seems covered keeps the photo's own), ``"free"`` (it moves all the same) or ``"still"`` (it keeps
            the photo's own in any case).

    Raises:
        OptionError: a number out of range, or a word that is none of these.
    """

    style: SpeakingStyle | PathLike | None = None
    controls: ControlCurves | PathLike | None = None
    pose: str = "driving"
    reference: Literal["neutral", "first"] = "neutral"
    driver_face: int | None = None
    mouth: Literal["auto", "free", "still"] = "auto"

    def __post_init__(self) -> None:
        self.check()
        if not isinstance(self.head_motion, int | float) and self.pose != "driving":
            raise OptionError("--pose and --head-motion both bring a head motion; give one of them")
        if self.driver_face is not None and self.driver_face < 1:
            raise OptionError(f"--driver-face is {self.driver_face}; faces are counted from the left, the first is 1")
        if self.reference not in ("neutral", "first"):
            raise OptionError(f"--reference is {self.reference!r}; use neutral or first")
        if self.mouth not in ("auto", "free", "still"):
            raise OptionError(f"--mouth is {self.mouth!r}; use auto, free or still")

    def holds_mouth(self, is_covered: bool) -> bool:
        """Whether the mouth keeps the photo's own, given whether something seems to cover it."""
        return self.mouth == "still" or (self.mouth == "auto" and is_covered)

    @property
    def pose_source(self) -> str:
        """``"driving"``, ``"still"``, ``"natural"``, or the file or folder that the head motion comes from."""
        return self.pose if isinstance(self.head_motion, int | float) else os.fspath(self.head_motion)

    def files(self) -> tuple[PathLike, ...]:
        """Files and folders that these options name."""
        pose = self.pose_source
        named = (None if pose in POSES else pose, self.style, self.controls)
        return tuple(path for path in named if isinstance(path, str | os.PathLike))

    @property
    def head_amount(self) -> float:
        """Amount of natural head motion."""
        return float(self.head_motion) if isinstance(self.head_motion, int | float) else 1.0


def check_driver_face(options: DriveOptions) -> None:
    """Refuse a choice among people where nothing but the options can name a video, and they name none.

    Raises:
        OptionError: ``driver_face`` is given, and there is no video, a folder of videos, or a motion file.
    """
    from triportrait.motion.files import READ_ENDINGS

    pose = options.pose_source
    if options.driver_face is None:
        return
    if pose in POSES:
        raise OptionError("--driver-face chooses a person in a video, and none is given; leave it out")
    option = "--pose" if options.pose == pose else "--head-motion"
    if os.path.isdir(pose):
        raise OptionError(f"--driver-face chooses a person in one video, and {option} names a folder; name one video, or leave it out")
    if Path(pose).suffix.lower() in READ_ENDINGS:
        raise OptionError(f"--driver-face chooses a person in a video, and {option} names a motion file, which has only one; leave it out")
