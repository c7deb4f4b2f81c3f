"""Files and arrays in, talking portraits out: the one place that joins media, face, motion, provenance and the model."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triportrait.concurrency import built_once
from triportrait.drivers import (
    NOTHING,
    ROWS,
    Progress,
    default_head,
    default_tracker,
    motion_of_audio,
    motion_of_file,
    motion_of_video,
    nearest_pose,
    pose_library,
    read_motion,
    voice_settings,
)
from triportrait.errors import EmptyMedia, MediaError, OptionError
from triportrait.motion.options import DriveOptions
from triportrait.outputs import refuse_inputs
from triportrait.performance import Performance
from triportrait.types import FPS, Array, Motion, MotionFrame, PathLike, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.face.portrait import PortraitOptions
    from triportrait.model import ModelState, PortraitModel
    from triportrait.types import RefinedPlanes

log = logging.getLogger(__name__)

#: Idle motion is made in one piece.
_LONGEST_IDLE_S = 3600.0


@built_once(maxsize=4)
def make_model(avatar: str | None = None, quality: str = "standard") -> PortraitModel:
    """The model of an avatar's name; None takes the quality's.

    Raises:
        MissingPart: no avatar of that name.
        OptionError: no quality of that name.
    """
    from triportrait.model import build_model, quality_of

    chosen = quality_of(quality)
    return build_model(avatar or chosen.avatar, default_head(), chosen.volume)


# -- photographs ----------------------------------------------------------------------------------------------------------


def prepare(photo: PathLike | Array, options: PortraitOptions | None = None) -> PreparedPortrait:
    """A photograph (file, or uint8 RGB [h, w, 3]) -> everything known of its person.

    Raises:
        MediaError: the file is not a readable picture.
        NoFaceFound: no face, too small, or turned too far.
    """
    from triportrait.face.portrait import prepare_portrait
    from triportrait.media.images import composite_over, read_image

    if isinstance(photo, np.ndarray):
        image, name = photo, "the photo"
    else:
        image, name = read_image(photo), Path(photo).name
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4) or not image.size:
        raise MediaError(f"{name} is an array of {image.dtype} {image.shape}; give uint8 RGB [h, w, 3] with values from 0 to 255")
    if image.shape[-1] == 4:
        image = composite_over(image)
    return _with_remarks(prepare_portrait(image, default_tracker(), default_head(), options, name), name)


def _with_remarks(portrait: PreparedPortrait, name: str) -> PreparedPortrait:
    """The portrait, after saying what its photo hides."""
    from triportrait.face.coverings import remarks

    for remark in remarks(portrait):
        log.warning("%s: %s", name, remark)
    return portrait


def read_avatar(path: PathLike) -> tuple[PreparedPortrait, RefinedPlanes | None]:
    """An avatar file: nothing is tracked or fitted.

    Raises:
        MediaError: missing, foreign, newer, damaged, or of another head model.
    """
    from triportrait.media.avatar_files import load_avatar

    found, head = load_avatar(path), default_head()
    portrait = found.portrait
    sizes = (len(portrait.identity), len(portrait.vertex_offset), len(portrait.motion.expression))
    if portrait.head_model != head.name or sizes != (head.identity_size, len(head.mean), len(head.expression_names)):
        raise MediaError(
            f"'{os.fspath(path)}' belongs to another head model ({portrait.head_model}, triportrait {found.made_by}); "
            "make it again from the photo with 'triportrait portrait save'"
        )
    return _with_remarks(portrait, Path(path).name), found.refined


def _portrait_of(
    photo: PathLike | Array, options: PortraitOptions | None, quality: str = "standard"
) -> tuple[PreparedPortrait, RefinedPlanes | None]:
    """A photograph prepared, in the quality's size without ``options``; or an avatar file read, whatever its name."""
    from triportrait.face.portrait import PortraitOptions
    from triportrait.media.avatar_files import looks_like_avatar
    from triportrait.model import quality_of

    size_px = quality_of(quality).size_px
    if isinstance(photo, np.ndarray) or not looks_like_avatar(photo):
        return prepare(photo, options or PortraitOptions(size_px)), None
    if options is not None:
        raise OptionError(f"'{os.fspath(photo)}' is an avatar file, prepared already; leave out --size, --face and --background-fill")
    return read_avatar(photo)


def save_portrait(photo: PathLike | Array, path: PathLike, options: PortraitOptions | None = None, refine_s: float = 0.0) -> Path:
    """Prepare a photograph once and for all: an avatar file.

    Args:
        photo: as for :func:`prepare`, or an avatar file, to refine it further.
        path: target.
        options: how a photo is prepared.
        refine_s: seconds for fitting the learned avatar to it; 0 leaves that out.

    Raises:
        MediaError, NoFaceFound: see :func:`prepare`.
        OutputError: the target cannot be written, or is the photo.
    """
    from triportrait.media.avatar_files import save_avatar

    refuse_inputs(path, [] if isinstance(photo, np.ndarray) else [photo])
    prepared, refined = _portrait_of(photo, options)
    if refine_s:
        portrait = Portrait(prepared, "oneshot", refined=refined)
        refined = portrait.refine(refine_s)
    return save_avatar(path, prepared, refined)


def make_renderer(avatar: str, portrait: PreparedPortrait) -> Callable[[MotionFrame], Array]:
    """A function from motion rows to finished crops uint8 [s, s, 3]."""
    model = make_model(avatar)
    state = model.prepare(portrait)
    return lambda frame: model.step(state, frame)[0]


# -- motion ---------------------------------------------------------------------------------------------------------------


# -- performances ---------------------------------------------------------------------------------------------------------


class Portrait:
    """One photographed person, ready to be driven. Preparation is done once; performances are cheap.

    >>> portrait = Portrait.from_image("photo.jpg")          # doctest: +SKIP
    >>> portrait.talk("voice.wav").save("talking.mp4")       # doctest: +SKIP
    """

    def __init__(
        self,
        prepared: PreparedPortrait,
        avatar: str | None = None,
        source: Path | None = None,
        quality: str = "standard",
        refined: RefinedPlanes | None = None,
    ) -> None:
        from triportrait.face.coverings import mouth_is_covered

        self.prepared = prepared
        self.source = source
        self.model: PortraitModel = make_model(avatar, quality)
        self.state: ModelState = self.model.prepare(prepared)
        self._mouth_is_covered = mouth_is_covered(prepared)
        if self._mouth_is_covered:
            self.state = self.model.with_covered_mouth(self.state)
        #: Planes fitted to this photo: drawn by avatars that have planes, kept for :meth:`save` by others.
        self.refined = refined
        if refined is not None:
            self._take(refined)

    def _take(self, refined: RefinedPlanes) -> None:
        from triportrait.avatar.oneshot.refine import has_planes, use_refined

        if not has_planes(self.model.avatar):
            return
        drawn = use_refined(self.model.avatar, self.state.avatar, refined)
        if drawn is None:
            log.warning("this portrait was refined for other weights of the avatar, which is left out; refine it again")
            self.refined = None
        else:
            self.state = replace(self.state, avatar=drawn)

    @classmethod
    def from_image(
        cls, photo: PathLike | Array, options: PortraitOptions | None = None, avatar: str | None = None, quality: str = "standard"
    ) -> Portrait:
        """Prepare a photograph: a file, or uint8 RGB [h, w, 3]; or read an avatar file, whatever its name, in which that is done.

        Args:
            photo: see above.
            options: how a photograph is prepared; None takes the quality's size. For avatar files only None.
            avatar: draws the head; None takes the quality's.
            quality: ``"draft"``, ``"standard"`` or ``"high"``, see :data:`triportrait.model.QUALITIES`.

        Raises:
            MediaError, NoFaceFound: see :func:`prepare` and :func:`read_avatar`.
            OptionError: no such quality, or options for an avatar file.
        """
        source = None if isinstance(photo, np.ndarray) else Path(photo)
        prepared, refined = _portrait_of(photo, options, quality)
        return cls(prepared, avatar, source, quality, refined)

    def save(self, path: PathLike) -> Path:
        """Write an avatar file, from which :meth:`from_image` makes this portrait again without tracking and fitting.

        Raises:
            OutputError: the target cannot be written, or is the photo.
        """
        from triportrait.media.avatar_files import save_avatar

        refuse_inputs(path, [self.source])
        return save_avatar(path, self.prepared, self.refined)

    def refine(self, seconds: float = 5.0, steps: int | None = None) -> RefinedPlanes:
        """Fit the learned avatar's planes to this photograph; see :func:`triportrait.avatar.oneshot.refine.refine`.

        Raises:
            MissingPart: the avatar has no planes.
            OptionError: ``seconds`` is out of range.
        """
        from triportrait.avatar.oneshot.refine import refine

        drawn, self.refined = refine(self.model.avatar, self.state.avatar, seconds, steps)
        self.state = replace(self.state, avatar=drawn)
        return self.refined

    def talk(self, audio: PathLike, options: DriveOptions | None = None, progress: Progress | None = None) -> Performance:
        """The portrait says what is on a recording (wav, mp3, flac, m4a, ogg, or the sound of a video)."""
        from triportrait.media.audio import AudioReader

        options = options or DriveOptions()
        reader = AudioReader.open(audio)
        settings = voice_settings(options, progress)
        pose = self._pose_clip(options, progress)

        def chunks() -> Iterator[Motion]:
            from triportrait.motion.controls import ControlTrack
            from triportrait.motion.retarget import from_rest, keep_in_view

            own = self.prepared.motion
            done, track = 0, ControlTrack(settings.controls, settings.curves)
            for chunk in motion_of_audio(audio, settings):
                chunk = keep_in_view(chunk, own, options.eye_contact)
                placed = from_rest(chunk, own, track.emotions(done, len(chunk)))
                yield placed if pose is None else _with_clip_pose(placed, pose, done, options.eye_contact)
                done += len(chunk)

        sources = {"voice": Path(audio)}
        count = round(reader.seconds * FPS) if reader.seconds else 0
        return self._performance(chunks, FPS, Path(audio), count, sources, options.files())

    def drive(self, video: PathLike, options: DriveOptions | None = None, progress: Progress | None = None) -> Performance:
        """The portrait does what the person in a clip does; the clip's sound goes along."""
        from triportrait.media.probe import probe

        options = options or DriveOptions()
        motion = motion_of_video(video, FPS, progress, options.driver_face)
        options = replace(options, driver_face=None)  # it counts the faces of this video
        sound = Path(video) if probe(video).has_audio else None
        return self.perform(motion, options, sound=sound, sources={"driving video": Path(video)}, progress=progress)

    def perform(
        self,
        motion: Motion | PathLike,
        options: DriveOptions | None = None,
        sound: Path | None = None,
        sources: dict[str, Path] | None = None,
        progress: Progress | None = None,
    ) -> Performance:
        """Motion measured on somebody (or a saved motion file) on this portrait."""
        from triportrait.motion import retarget
        from triportrait.motion.controls import Controls
        from triportrait.motion.emotion import EMOTIONS, with_emotion

        options = options or DriveOptions()
        if not isinstance(motion, Motion):
            sources = {"motion": Path(motion)} | (sources or {})
            motion = read_motion(motion)
        if sound is not None and sound not in (sources or {}).values():
            sources = {"voice": Path(sound)} | (sources or {})
        if motion.head_model != self.prepared.head_model:
            raise MediaError(
                f"the motion belongs to head model {motion.head_model!r}, the portrait to {self.prepared.head_model!r}; extract it again"
            )
        if not len(motion):
            raise EmptyMedia(NOTHING)
        placed = retarget.relative(motion, options.reference, self.prepared.motion)
        if options.mouth_gain != 1.0:
            placed = retarget.mouth_gain(placed, options.mouth_gain)
        rate = options.blinks_per_minute()
        if rate is not None:
            placed = retarget.without_blinks(placed)
            if rate > 0:
                placed = retarget.with_blinks(placed, rate, options.seed)
        if options.emotion != "neutral":
            weights = [options.emotion_strength * (name == options.emotion) for name in EMOTIONS]
            placed = placed.with_rows(expression=with_emotion(placed.expression, np.array(weights)))
        source = options.pose_source
        if source in ("still", "natural"):
            controls = Controls(head_motion=options.head_amount)
            placed = retarget.with_pose(placed, source, self.prepared.motion, controls, options.seed)
        elif source == "driving":
            placed = self._within_reach(placed)
        else:
            placed = _with_clip_pose(placed, self._pose_clip(options, progress, placed.fps), 0)
        return self._performance(lambda: iter([placed]), placed.fps, sound, len(placed), sources or {}, options.files())

    def idle(self, seconds: float, options: DriveOptions | None = None) -> Performance:
        """The portrait looks alive without speaking."""
        from triportrait.motion.controls import ControlTrack
        from triportrait.motion.natural import idle_motion
        from triportrait.motion.retarget import from_rest, keep_in_view

        options = options or DriveOptions()
        if not 1 / FPS <= seconds <= _LONGEST_IDLE_S:
            raise OptionError(f"{seconds:g} s is no length for idling; use up to {_LONGEST_IDLE_S:.0f} s")
        settings = voice_settings(options)
        pose = self._pose_clip(options, None)
        idle = idle_motion(
            round(seconds * FPS), FPS, seed=options.seed, controls=settings.controls, curves=settings.curves, style=settings.style
        )
        idle = keep_in_view(idle, self.prepared.motion, options.eye_contact)
        emotions = ControlTrack(settings.controls, settings.curves).emotions(0, len(idle))
        motion = _with_clip_pose(from_rest(idle, self.prepared.motion, emotions), pose, 0, options.eye_contact)
        return self._performance(lambda: iter([motion]), FPS, None, len(motion), {}, options.files())

    def _performance(
        self, chunks: Callable[[], Iterator[Motion]], fps: float, sound: Path | None, count: int, sources: dict[str, Path],
        inputs: tuple[PathLike, ...],
    ) -> Performance:  # fmt: skip
        from triportrait.motion.retarget import hold_mouth

        named = {"portrait": self.source} if self.source else {}
        if self._mouth_is_covered:
            moving, own = chunks, self.prepared.motion

            def chunks() -> Iterator[Motion]:
                return (hold_mouth(chunk, own) for chunk in moving())

        return Performance(self, chunks, fps, sound, count, named | sources, inputs)

    def _pose_clip(self, options: DriveOptions, progress: Progress | None, fps: float = FPS) -> Motion | None:
        """The head motion of another clip on this portrait, at ``fps``, or None when the options name no file.

        Of a folder, the clip is taken that has the row nearest to the portrait's own pose, from that row on.
        """
        from triportrait.motion.retarget import relative
        from triportrait.motion.timing import resample

        pose = options.pose_source
        if pose in ("driving", "still", "natural"):
            return None
        option = "--pose" if options.pose == pose else "--head-motion"
        if not os.path.isdir(pose):
            clip = resample(motion_of_file(option, pose, progress, options.driver_face), fps)
            return self._within_reach(relative(clip, "first", self.prepared.motion, lip_contact=False))
        library = pose_library(option, pose)
        clips = [resample(motion_of_file(option, str(path), progress), fps) for path in library]
        chosen, row = nearest_pose(clips, self.prepared.motion)
        log.info("head motion of %s from frame %d", library[chosen].name, row)
        clip = clips[chosen]
        clip = clip.with_rows(**{name: getattr(clip, name)[row:] for name in ROWS}, landmarks=None)
        return self._within_reach(relative(clip, "first", self.prepared.motion, lip_contact=False))

    def _within_reach(self, motion: Motion) -> Motion:
        """Head motion of a clip, limited to what a portrait can show; a warning says so."""
        from triportrait.motion.retarget import within_reach

        kept, limited = within_reach(motion, self.prepared.motion)
        if limited:
            log.warning(
                "the clip's head moves farther than a portrait can show (%s); it was held back in %d of %d frames",
                " and ".join(limited), max(limited.values()), len(motion),
            )  # fmt: skip
        return kept


def _with_clip_pose(motion: Motion, pose: Motion | None, start: int, eye_contact: float = 0.0) -> Motion:
    """Rotation and translation of ``pose`` from row ``start`` on, to and fro when it is shorter; eyes counter its turns by a share."""
    if pose is None:
        return motion
    index = np.arange(start, start + len(motion))
    period = max(1, 2 * len(pose) - 2)
    index = index % period
    index = np.where(index < len(pose), index, period - index)
    turn = pose.rotation_rad[index] - pose.rotation_rad[0]
    gaze = motion.gaze_rad + eye_contact * np.stack([turn[:, 0], -turn[:, 1]], axis=1)
    return motion.with_rows(rotation_rad=pose.rotation_rad[index], translation=pose.translation[index], gaze_rad=gaze.astype(np.float32))
