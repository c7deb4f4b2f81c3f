"""What drives a portrait: a voice, a video, a motion file, or nothing but time; the tracker and the head that measure it.

A new driver is a class behind :class:`triportrait.types.Driver` and a line in :data:`DRIVERS`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np

from triportrait.concurrency import built_once, calm_libraries
from triportrait.driver_files import FILE_OPTIONS, read_motion
from triportrait.errors import EmptyMedia, MediaError, NoFaceFound, OptionError
from triportrait.motion.files import READ_ENDINGS
from triportrait.motion.head_motion import FirstPoses, pose_library
from triportrait.motion.options import POSES, DriveOptions, check_driver_face
from triportrait.motion.timing import NOTHING
from triportrait.motion.voice_controls import BLINKS_PER_MINUTE
from triportrait.shot_motion import Progress, shot_of
from triportrait.types import (
    FPS,
    Array,
    Driver,
    Motion,
    MotionFrame,
    PathLike,
    PreparedPortrait,
    Sound,
    Waveform,
)

if TYPE_CHECKING:
    from triportrait.face.open_head import OpenHead
    from triportrait.face.tracker import FaceTracker
    from triportrait.media.pcm import Samples
    from triportrait.motion.audio import AudioDriver, AudioSettings
    from triportrait.motion.controls import ControlTrack

log = logging.getLogger(__name__)

#: Idle motion is made in one piece.
_LONGEST_IDLE_S = 3600.0


@built_once(maxsize=1)
def default_tracker() -> FaceTracker:
    """The tracker that every default uses (one per process: its networks take a second to start)."""
    from triportrait.face.mesh_tracker import MeshTracker

    return MeshTracker()


@built_once(maxsize=1)
def default_head() -> OpenHead:
    """The embedded open head."""
    from triportrait.face.open_head import OpenHead

    return OpenHead.embedded()


@calm_libraries()
def motion_of_video(
    path: PathLike,
    fps: float = FPS,
    progress: Progress | None = None,
    face: int | None = None,
    *,
    can_choose: bool = True,
    most: int | None = None,
    warp: bool = True,
    tracker: FaceTracker | None = None,
    head: OpenHead | None = None,
) -> Motion:
    """Expression, pose, gaze, body and warp of one person in a clip, in that person's own shape. Bounded memory for any length.

    Behind a cut the motion goes on from the first shot's rest pose; while the face is out of sight the head is at rest. A clip that lies
    on its side, or is upside down, is turned, which a warning says.

    Args:
        path: the clip.
        fps: frames per second of the result.
        progress: called after each frame.
        face: whom to follow, counted from the left in the first frame that shows faces; None takes the largest face.
        can_choose: whether ``--driver-face`` would set ``face``; a warning of several people then names it.
        most: at most so many frames, from the clip's beginning.
        warp: measure what hair and skin do besides; False saves a third of the time.
        tracker, head: the parts to use; None takes the defaults.

    Raises:
        MediaError: not a readable video.
        NoFaceFound: nobody in it, or fewer than ``face``.
    """
    from triportrait.face.body_following import with_bodies
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.face.following import follow_face, people_apart
    from triportrait.face.warp_following import with_squares
    from triportrait.media.video import VideoReader
    from triportrait.motion.shots import join_shots, tell_of_shots

    tracker = default_tracker() if tracker is None else tracker
    fitter = LandmarkFitter(default_head() if head is None else head)
    name = f"'{os.fspath(path)}'"
    with VideoReader(path) as reader:
        total = max(1, round(reader.seconds * fps)) if reader.seconds else 0
        frames = counted((frame for _, frame in islice(reader.frames(fps), most)), progress, "tracking", total)
        followed = follow_face(tracker, frames, face, name, fps=fps, can_choose=can_choose, fitter=fitter, with_pictures=True)
        with_body = with_bodies(followed, tracker.person_mask)
        followed = people_apart(with_squares(with_body) if warp else (replace(row, picture=None) for row in with_body), fitter)
        shots = [shot_of(fitter, tracker, rows, fps, progress) for _, rows in groupby(followed, key=lambda row: row.shot)]
    tell_of_shots(name, [shot.seen for shot in shots], fps, chosen=face is not None)
    return join_shots(shots)


def motion_of_audio(
    voice: PathLike | Sound, settings: AudioSettings | None = None, speaker: Callable[..., AudioDriver] | None = None
) -> Iterator[Motion]:
    """Motion chunks of a voice, a file or sound in memory, starting at rest; memory does not grow with its length.

    Args:
        voice: see above.
        settings: of the speaker.
        speaker: takes the sound and the settings; None takes :class:`~triportrait.motion.audio.AudioDriver`.
    """
    from triportrait.media.audio import heard, stream_voice
    from triportrait.motion.audio import AudioDriver

    speaker = speaker or AudioDriver
    if isinstance(voice, Waveform):
        return speaker(heard(voice), settings).chunks()
    if isinstance(voice, Sound):
        rate_hz, blocks = voice.rate_hz, voice.blocks()
    else:
        rate_hz, blocks = 16_000, stream_voice(voice, 16_000, 1.0)
    return speaker((Waveform(block, rate_hz) for block in blocks), settings).chunks()


def voice_settings(
    options: DriveOptions, progress: Progress | None = None, *, tracker: FaceTracker | None = None, head: OpenHead | None = None
) -> AudioSettings:
    """What the voice driver makes of the options; a style's clip is measured here, a file of controls is read.

    Raises:
        OptionError, MediaError, MotionFileError: the style or the controls cannot be had.
    """
    from triportrait.motion.audio import AudioSettings
    from triportrait.motion.controls import ControlCurves, Controls
    from triportrait.motion.files import load_controls
    from triportrait.motion.style import SpeakingStyle, style_of

    rate = options.blinks_per_minute()
    controls = Controls(
        mouth_gain=options.mouth_gain,
        expressiveness=options.expressiveness,
        head_motion=options.head_amount if options.pose_source in ("driving", "natural") else 0.0,
        blinks_per_minute=BLINKS_PER_MINUTE if rate is None else rate,
        gaze_motion=options.gaze_motion,
        eye_contact=options.eye_contact,
        temperature=options.temperature,
    ).with_emotion(options.emotion, options.emotion_strength)
    style, curves = options.style, options.controls
    if style is not None and not isinstance(style, SpeakingStyle):
        style = style_of(motion_of_file("--style", os.fspath(style), progress, warp=False, tracker=tracker, head=head))
    if curves is not None and not isinstance(curves, ControlCurves):
        curves = load_controls(curves)
    return AudioSettings(controls=controls, seed=options.seed, style=style, curves=curves)


def motion_of_file(
    option: str,
    path: str,
    progress: Progress | None = None,
    face: int | None = None,
    *,
    can_choose: bool = False,
    warp: bool = True,
    tracker: FaceTracker | None = None,
    head: OpenHead | None = None,
) -> Motion:
    """A motion file, or the motion of the person in a video; see :func:`motion_of_video`."""
    if not os.path.lexists(path):
        raise OptionError(f"{option} is {path!r}; {FILE_OPTIONS[option]}")
    if Path(path).suffix.lower() in READ_ENDINGS:
        return read_motion(path)
    return motion_of_video(path, FPS, progress, face, can_choose=can_choose, warp=warp, tracker=tracker, head=head)


def counted(frames: Iterable[Array], progress: Progress | None, what: str, total: int) -> Iterator[Array]:
    """The frames, of which ``progress`` is told one by one."""
    for index, frame in enumerate(frames):
        yield frame
        if progress:
            progress(what, index + 1, total)


# -- head motion of another clip ------------------------------------------------------------------------------------------


def first_pose_of_clip(path: PathLike, *, tracker: FaceTracker | None = None, head: OpenHead | None = None) -> Array | None:
    """How the head is turned in a clip's first frame, fitted with the open head whatever avatar is driven: [3] in radians.

    Args:
        path: a video, of which one frame is read, or a motion file, of which the first row counts.
        tracker, head: the parts to use; None takes the defaults.

    Returns:
        pitch, yaw, roll; None where the frame shows no face.

    Raises:
        MediaError, MotionFileError: it cannot be read.
    """
    if Path(path).suffix.lower() in READ_ENDINGS:
        return read_motion(path).rotation_rad[0]
    try:
        return motion_of_video(path, FPS, can_choose=False, most=1, warp=False, tracker=tracker, head=head).rotation_rad[0]
    except NoFaceFound:
        return None


def first_poses_of(option: str, folder: str, progress: Progress | None = None, **parts: Any) -> FirstPoses:
    """The first poses of the clips in a folder that an option names (appendix D.1); ``parts`` as for :func:`first_pose_of_clip`."""
    return FirstPoses.kept(pose_library(option, folder), partial(first_pose_of_clip, **parts), Path(folder), progress)


@dataclass(frozen=True, slots=True)
class BorrowedPose:
    """The head motion of a file or folder that options name; :meth:`on` puts it on a portrait.

    Args:
        clip: finds the motion for a photo that shows a row, at the rate of the motion whose pose it replaces.
    """

    clip: Callable[[MotionFrame], Motion]

    @classmethod
    def of(
        cls,
        options: DriveOptions,
        fps: float = FPS,
        *,
        can_choose: bool = True,
        progress: Progress | None = None,
        tracker: FaceTracker | None = None,
        head: OpenHead | None = None,
    ) -> BorrowedPose | None:
        """What the options name, or None when they name no file; ``can_choose`` as for :func:`motion_of_video`.

        Raises:
            OptionError, MediaError, MotionFileError: it cannot be had.
        """
        from triportrait.motion.timing import resample

        pose = options.pose_source
        if pose in POSES:
            return None
        option = "--pose" if options.pose == pose else "--head-motion"
        measured = partial(motion_of_file, option, progress=progress, tracker=tracker, head=head)
        if not os.path.isdir(pose):
            clip = resample(measured(pose, face=options.driver_face, can_choose=can_choose), fps)
            return cls(lambda own: clip)
        poses = first_poses_of(option, pose, progress, tracker=tracker, head=head)
        return cls(lambda own: resample(measured(os.fspath(poses.drawn(own.rotation_rad, options.seed))), fps))

    def on(self, own: MotionFrame) -> Motion:
        """In the pose frame of a portrait whose photo shows ``own``. Of a folder, one of the ten clips whose first frame is nearest to that
        is drawn by the seed (Real3D-Portrait, appendix D.1)."""
        from triportrait.motion.retarget import held_within_reach, relative

        return held_within_reach(relative(self.clip(own), "first", own, lip_contact=False), own)


# -- the drivers ----------------------------------------------------------------------------------------------------------


class DriverTools(TypedDict, total=False):
    """What every driver takes by keyword, to measure clips with: its own, and those that options name.

    Args:
        progress: called after each frame.
        tracker, head: the parts to use; None takes the defaults.
    """

    progress: Progress | None
    tracker: FaceTracker | None
    head: OpenHead | None


@dataclass(frozen=True, slots=True)
class Passes:
    """Chunks that are made anew each time they are gone through."""

    make: Callable[[], Iterator[Motion]]

    def __iter__(self) -> Iterator[Motion]:
        return self.make()


class VoiceDriver:
    """Speech, and the head, eyes and brows that go with it, from a recording. Memory does not grow with its length.

    Another way to speak is a subclass with a :attr:`_speaker` of its own.

    Args:
        source: wav, mp3, flac, m4a, ogg, or a video with sound; or sound from memory: a :class:`Waveform`, an array, or an iterable of
            blocks of either, which is asked for its next block when it is needed.
        options: how the motion is made.
        rate_hz: samples per second of arrays.
        tools: see :class:`DriverTools`.

    Raises:
        MediaError, EmptyMedia: no readable sound.
        OptionError, MotionFileError: what the options name cannot be had. So do all drivers.
    """

    #: See :func:`motion_of_audio`.
    _speaker: Callable[..., AudioDriver] | None = None

    def __init__(
        self,
        source: PathLike | Sound | Array | Iterable[Samples | Waveform],
        options: DriveOptions | None = None,
        *,
        rate_hz: int | None = None,
        **tools: Unpack[DriverTools],
    ) -> None:
        from triportrait.media.pcm import sound_of

        self._options = options or DriveOptions()
        check_driver_face(self._options)
        self._voice, seconds = sound_of(source, rate_hz)
        self.fps, self.frame_count, self.sound = FPS, round(seconds * FPS), self._voice
        self.sources = {"voice": self._voice} if isinstance(self._voice, Path) else {}
        self._settings = voice_settings(self._options, **tools)
        self._pose = BorrowedPose.of(self._options, **tools)
        self.inputs = self._options.files()

    @property
    def track(self) -> ControlTrack:
        """The controls, row by row."""
        from triportrait.motion.controls import ControlTrack

        return ControlTrack(self._settings.controls, self._settings.curves)

    def relative(self) -> Iterator[Motion]:
        """The motion without any portrait, piece by piece; it begins at rest."""
        return motion_of_audio(self._voice, self._settings, self._speaker)

    def chunks(self, portrait: PreparedPortrait) -> Iterable[Motion]:
        """See :class:`triportrait.types.Driver`."""
        own, settings = portrait.motion, self._settings.of_person(portrait.manner)
        pose = None if self._pose is None else self._pose.on(own)
        return Passes(lambda: self._spoken(settings, own, pose))

    def _spoken(self, settings: AudioSettings, own: MotionFrame, pose: Motion | None) -> Iterator[Motion]:
        from triportrait.motion.retarget import from_rest, keep_in_view, with_clip_pose

        eye_contact = self._options.eye_contact
        done, track = 0, self.track
        for chunk in motion_of_audio(self._voice, settings, self._speaker):
            placed = from_rest(keep_in_view(chunk, own, eye_contact), own, track.emotions(done, len(chunk)))
            yield placed if pose is None else with_clip_pose(placed, pose, done, eye_contact)
            done += len(chunk)


class MotionDriver:
    """Motion measured on somebody: a motion file, or a :class:`Motion` in memory.

    Args:
        source: see above.
        options: how the motion is put on the portrait.
        tools: see :class:`DriverTools`.
        sound: file whose sound belongs to it.
        sources: files that it was made from, by their part in it.

    Raises:
        MediaError, MotionFileError: no readable motion file.
        EmptyMedia: there is no row in it.
    """

    def __init__(
        self,
        source: Motion | PathLike,
        options: DriveOptions | None = None,
        *,
        sound: Path | None = None,
        sources: dict[str, Path] | None = None,
        **tools: Unpack[DriverTools],
    ) -> None:
        self._options = options or DriveOptions()
        check_driver_face(self._options)
        named = dict(sources or {})
        if isinstance(source, Motion):
            self._motion = source
        else:
            named = {"motion": Path(source)} | named
            self._motion = read_motion(source)
        if sound is not None and sound not in named.values():
            named = {"voice": Path(sound)} | named
        if not len(self._motion):
            raise EmptyMedia(NOTHING)
        # In a performance of a driving video --driver-face counts the faces of that one.
        can_choose, fps = "driving video" not in named, self._motion.fps
        self._pose = BorrowedPose.of(self._options, fps, can_choose=can_choose, **tools)
        self.fps, self.frame_count, self.sound = self._motion.fps, len(self._motion), sound
        self.sources, self.inputs = named, self._options.files()

    def chunks(self, portrait: PreparedPortrait) -> Iterable[Motion]:
        """See :class:`triportrait.types.Driver`: one piece.

        Raises:
            MediaError: the motion belongs to another head model.
        """
        from triportrait.motion import retarget
        from triportrait.motion.controls import Controls
        from triportrait.motion.emotion import EMOTIONS, with_emotion

        motion, options, own = self._motion, self._options, portrait.motion
        if motion.head_model != portrait.head_model:
            raise MediaError(
                f"the motion belongs to head model {motion.head_model!r}, the portrait to {portrait.head_model!r}; extract it again"
            )
        placed = retarget.relative(motion, options.reference, own)
        if options.mouth_gain != 1.0:
            placed = retarget.mouth_gain(placed, options.mouth_gain)
        rate = options.blinks_per_minute()
        if rate is not None:
            placed = retarget.without_blinks(placed)
            if rate > 0:
                placed = retarget.with_blinks(placed, rate, options.seed)
        if options.emotion not in ("neutral", "auto"):
            weights = [options.emotion_strength * (name == options.emotion) for name in EMOTIONS]
            placed = placed.with_rows(expression=with_emotion(placed.expression, np.array(weights)))
        if self._pose is not None:
            placed = retarget.with_clip_pose(placed, self._pose.on(own))
        elif options.pose_source == "driving":
            placed = retarget.held_within_reach(placed, own)
        else:
            pose: Literal["still", "natural"] = "still" if options.pose_source == "still" else "natural"
            controls = Controls(head_motion=options.head_amount)
            placed = retarget.with_pose(placed, pose, own, controls=controls, seed=options.seed)
        return [placed]


class VideoDriver(MotionDriver):
    """What the person in a clip does; the clip's sound goes along.

    Args:
        source: the clip.
        options: how its motion is put on the portrait; ``driver_face`` counts the faces of this clip.
        tools: see :class:`DriverTools`.

    Raises:
        MediaError, NoFaceFound: see :func:`motion_of_video`.
    """

    def __init__(self, source: PathLike, options: DriveOptions | None = None, **tools: Unpack[DriverTools]) -> None:
        from triportrait.media.probe import probe

        options = options or DriveOptions()
        motion = motion_of_video(source, FPS, face=options.driver_face, **tools)
        options = replace(options, driver_face=None)  # in a clip for the pose, the largest face is followed
        sound, sources = Path(source) if probe(source).has_audio else None, {"driving video": Path(source)}
        super().__init__(motion, options, sound=sound, sources=sources, **tools)


class IdleDriver:
    """Somebody who looks alive without speaking.

    Args:
        source: seconds, up to an hour.
        options: how the motion is made.
        tools: see :class:`DriverTools`.

    Raises:
        OptionError: no such length.
    """

    def __init__(self, source: float, options: DriveOptions | None = None, **tools: Unpack[DriverTools]) -> None:
        self._options = options or DriveOptions()
        check_driver_face(self._options)
        if not 1 / FPS <= source <= _LONGEST_IDLE_S:
            raise OptionError(f"{source:g} s is no length for idling; use up to {_LONGEST_IDLE_S:.0f} s")
        self._settings = voice_settings(self._options, **tools)
        self._pose = BorrowedPose.of(self._options, **tools)
        self.fps, self.frame_count = FPS, round(source * FPS)
        self.sound: Path | None = None
        self.sources: dict[str, Path] = {}
        self.inputs = self._options.files()

    def chunks(self, portrait: PreparedPortrait) -> Iterable[Motion]:
        """See :class:`triportrait.types.Driver`: one piece."""
        from triportrait.motion.controls import ControlTrack
        from triportrait.motion.natural import idle_motion
        from triportrait.motion.retarget import from_rest, keep_in_view, with_clip_pose

        own, settings, options = portrait.motion, self._settings, self._options
        idle = idle_motion(
            self.frame_count, FPS, seed=options.seed, controls=settings.controls, curves=settings.curves, style=settings.style
        )
        idle = keep_in_view(idle, own, options.eye_contact)
        placed = from_rest(idle, own, ControlTrack(settings.controls, settings.curves).emotions(0, len(idle)))
        if self._pose is not None:
            placed = with_clip_pose(placed, self._pose.on(own), 0, options.eye_contact)
        return [placed]


#: Kind of input -> its driver. All take what drives, the options, and by keyword what :class:`DriverTools` holds.
DRIVERS: dict[str, Callable[..., Driver]] = {"voice": VoiceDriver, "video": VideoDriver, "motion": MotionDriver, "idle": IdleDriver}
