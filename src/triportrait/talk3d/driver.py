"""What drives a person of Talk3D: a voice, or a clip with sound, and how the head moves to it (spec A.6)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triportrait.driver_files import check_option_files
from triportrait.drivers import BorrowedPose, Passes, motion_of_video
from triportrait.errors import EmptyMedia, OptionError
from triportrait.motion.options import POSES, DriveOptions
from triportrait.motion.timing import to_and_fro
from triportrait.talk3d.model import PersonalMotion
from triportrait.talk3d.person import Person
from triportrait.talk3d.speech import SpeechWindows
from triportrait.types import FPS, Array, Motion, PathLike, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.drivers import Progress
    from triportrait.motion.speech_features import SpeechFeatures
    from triportrait.nn.speech_networks import Level

#: Frames that stored cameras are averaged over unless a user says otherwise, and at most.
WINDOW, _WIDEST = 7, 101
_RATE_HZ = 16_000
_SAMPLES = round(_RATE_HZ / FPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalOptions:
    """What a user may turn.

    Args:
        pose: ``driving`` (the cameras of the person's own video for a voice, the clip's own for a clip), ``still``, ``natural``, or a video
            or motion file whose head motion is taken.
        blink: ``driving`` (natural for a voice, the clip's own for a clip), ``natural``, ``none``, or blinks per minute.
        camera_window: frames that the cameras of the person's video are averaged over, odd; 1 leaves them as they are.
        seed: of everything random.
    """

    pose: str = "driving"
    blink: str = "driving"
    camera_window: int = WINDOW
    seed: int = 0

    def __post_init__(self) -> None:
        if not (1 <= self.camera_window <= _WIDEST and self.camera_window % 2):
            raise OptionError(f"--camera-window is {self.camera_window}; use an odd number from 1 to {_WIDEST}")
        self.as_drive().check()

    def as_drive(self) -> DriveOptions:
        """Those that our own drivers have, too."""
        return DriveOptions(pose=self.pose, blink=self.blink, seed=self.seed)

    def files(self) -> tuple[PathLike, ...]:
        """The video or motion file that these options name."""
        return () if self.pose in POSES else (self.pose,)

    def check_files(self) -> None:
        """Look at that file, for what would end a performance minutes later.

        Raises:
            OptionError, MediaError, MotionFileError: it is missing, unreadable, or of another kind.
        """
        check_option_files(self.as_drive())


class PersonalDriver:
    """A recording, or a clip with sound, behind :class:`triportrait.types.Driver`. Memory does not grow with its length.

    Args:
        person: whose cameras are taken.
        source: whose sound moves the lips; of a clip also the head and the lids.
        features: makes the extractor of speech rows at 50 per second from the level of the whole recording.
        window: entries of a frame's window.
        options: see :class:`PersonalOptions`.
        is_clip: whether ``source`` is a video to be followed.
        progress: called while it is listened to and tracked.

    Raises:
        MediaError, EmptyMedia, NoFaceFound: no readable sound, or nobody in the clip.
        OptionError, MotionFileError: what the options name cannot be had.
    """

    def __init__(
        self,
        person: Person,
        source: PathLike,
        features: Callable[[Level], SpeechFeatures],
        window: int = 8,
        options: PersonalOptions | None = None,
        *,
        is_clip: bool = False,
        progress: Progress | None = None,
    ) -> None:
        from triportrait.media.audio import AudioReader
        from triportrait.nn.speech_networks import Level

        self._person, self._options, self._window = person, options or PersonalOptions(), window
        self._cameras = person.smoothed(self._options.camera_window)
        self._options.check_files()
        self._reader = AudioReader.open(source)
        self._hearing = self._reader.hearing()
        samples = 0

        def heard() -> Iterator[Array]:
            nonlocal samples
            for block in self._blocks():
                samples += len(block)
                yield block

        level = Level.of(heard())
        self._features = lambda: features(level)
        self.fps, self.frame_count = FPS, -(-samples // _SAMPLES)
        if not self.frame_count:
            raise EmptyMedia("there is nothing to show: the voice is shorter than one frame; give a longer one")
        self.sound: Path | None = Path(source)
        self.sources = {"driving video" if is_clip else "voice": Path(source)}
        self.inputs = self._options.files()
        self._clip = motion_of_video(source, FPS, progress, warp=False) if is_clip else None
        self._borrowed = BorrowedPose.of(self._options.as_drive(), progress=progress)

    def chunks(self, portrait: PreparedPortrait) -> Iterable[Motion]:
        """See :class:`triportrait.types.Driver`: pieces of 20 s of sound at most."""
        idle = self._idle()
        moved = self._moved(portrait, idle)
        lids = self._lids(idle)
        return Passes(lambda: self._rows(moved, lids))

    def _rows(self, moved: Motion | None, lids: Array) -> Iterator[Motion]:
        extractor: Any = self._features()
        windows = SpeechWindows(extractor.size, self._window)
        done = 0
        for block in self._blocks():
            ready = windows.push(extractor.push(block))[: self.frame_count - done]
            if len(ready):
                yield self._piece(done, ready, moved, lids)
                done += len(ready)
        rest = [windows.push(extractor.finish()), windows.finish(self.frame_count)]
        ready = np.concatenate(rest)[: self.frame_count - done]
        if len(ready):
            yield self._piece(done, ready, moved, lids)

    def _piece(self, done: int, speech: Array, moved: Motion | None, lids: Array) -> PersonalMotion:
        """Rows from frame ``done`` on, one for each window of ``speech``."""
        count = len(speech)
        rows = to_and_fro(count, len(lids), done)
        expression, gaze = lids[rows], np.zeros((count, 2), np.float32)
        if moved is not None:
            rows = to_and_fro(count, len(moved), done)
            return PersonalMotion(expression, moved.rotation_rad[rows], moved.translation[rows], gaze, FPS, speech=speech)
        person, still = self._person, np.zeros((count, 3), np.float32)
        rows = to_and_fro(count, len(self._cameras), done)
        return PersonalMotion(
            expression,
            still,
            still,
            gaze,
            FPS,
            speech=speech,
            cameras=tuple(self._cameras[row] for row in rows),
            rotations_deg=person.rotation_deg[rows],
            points=person.points[rows],
        )

    def _idle(self) -> Motion:
        """Natural head motion and blinks of the whole length."""
        from triportrait.motion.controls import Controls
        from triportrait.motion.natural import idle_motion
        from triportrait.motion.voice_controls import BLINKS_PER_MINUTE

        rate = self._options.as_drive().blinks_per_minute()
        controls = Controls(blinks_per_minute=BLINKS_PER_MINUTE if rate is None else rate)
        return idle_motion(self.frame_count, FPS, seed=self._options.seed, controls=controls)

    def _moved(self, portrait: PreparedPortrait, idle: Motion) -> Motion | None:
        """Head motion from rest; None takes the cameras of the person's video."""
        from triportrait.motion.retarget import held_within_reach, relative

        own, pose = portrait.motion, self._options.pose
        if self._borrowed is not None:
            return self._borrowed.on(own)
        if pose == "still":
            return idle.with_rows(rotation_rad=np.zeros_like(idle.rotation_rad), translation=np.zeros_like(idle.translation), body=None)
        if pose == "natural":
            return idle
        return None if self._clip is None else held_within_reach(relative(self._clip, "first", own, lip_contact=False), own)

    def _lids(self, idle: Motion) -> Array:
        """Curves [t, 44] of which the lids count: the clip's own, or natural ones."""
        if self._clip is not None and self._options.blink == "driving":
            return self._clip.expression
        return idle.expression

    def _blocks(self) -> Iterator[Array]:
        return self._reader.blocks(_RATE_HZ, hearing=self._hearing)
