"""Files and arrays in, talking portraits out: the one place that joins media, face, motion, provenance and the model."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triportrait.concurrency import built_once, calm_libraries
from triportrait.drivers import DRIVERS, Progress, default_head, default_tracker
from triportrait.errors import MediaError, OptionError
from triportrait.files import refuse_inputs
from triportrait.motion.options import DriveOptions
from triportrait.motion.voice_controls import EMOTION_STRENGTH, EmotionName
from triportrait.performance import Performance
from triportrait.shot_motion import calm_motion, warped_rows, with_warps
from triportrait.speakers import voice_driver_of
from triportrait.types import (
    Array,
    Driver,
    Frame,
    FrameModel,
    Motion,
    MotionFrame,
    PathLike,
    PersonalDelta,
    PreparedPortrait,
    Sound,
    Waveform,
)

if TYPE_CHECKING:
    from triportrait.avatar.oneshot.avatar import VolumeQuality
    from triportrait.avatar.person.learning import Teacher
    from triportrait.background import Background
    from triportrait.face.open_head import OpenHead
    from triportrait.face.person import PersonOptions, PersonTrack
    from triportrait.face.portrait import PortraitOptions
    from triportrait.face.takes import Take
    from triportrait.face.tracker import FaceTracker
    from triportrait.live.session import LiveOptions, LiveSession
    from triportrait.media.pcm import Samples
    from triportrait.types import RefinedPlanes

log = logging.getLogger(__name__)


def make_model(avatar: str | None = None, quality: str = "standard", *, head: OpenHead | None = None) -> FrameModel:
    """The model of an avatar's name; None takes the quality's.

    Raises:
        MissingPart: no avatar of that name, or its weights are not there.
        OptionError: no quality of that name.
    """
    from triportrait.model import quality_of

    chosen = quality_of(quality)
    return _built_model(avatar or chosen.avatar, default_head() if head is None else head, chosen.volume)


@built_once(maxsize=4)
def _built_model(avatar: str, head: OpenHead, volume: VolumeQuality) -> FrameModel:
    """One model serves all portraits of a process."""
    from triportrait.model import build_model

    return build_model(avatar, head, volume)


# -- photographs ----------------------------------------------------------------------------------------------------------


@calm_libraries()
def prepare(
    photo: PathLike | Array,
    options: PortraitOptions | None = None,
    *,
    tracker: FaceTracker | None = None,
    head: OpenHead | None = None,
) -> PreparedPortrait:
    """A photograph (file, or uint8 RGB [h, w, 3]) -> everything known of its person.

    Args:
        photo: see above.
        options: how it is prepared.
        tracker: finds the face and the person's outline; None takes the default.
        head: is fitted to the face; None takes the default.

    Raises:
        MediaError: the file is not a readable picture.
        NoFaceFound: no face, too small, or turned too far.
    """
    from triportrait.face.portrait import prepare_portrait
    from triportrait.media.images import composite_over

    if isinstance(photo, np.ndarray):
        image, name = photo, "the photo"
    else:
        image, name = _read_opaque(photo), Path(photo).name
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (3, 4) or not image.size:
        raise MediaError(f"{name} is an array of {image.dtype} {image.shape}; give uint8 RGB [h, w, 3] with values from 0 to 255")
    if image.shape[-1] == 4:
        image = composite_over(image)
    tracker, head = default_tracker() if tracker is None else tracker, default_head() if head is None else head
    return _with_remarks(prepare_portrait(image, tracker, head, options, name), name)


@calm_libraries()
def prepare_person(
    source: PathLike | Sequence[PathLike],
    options: PersonOptions | None = None,
    progress: Progress | None = None,
    *,
    learn: bool = True,
    teacher: Teacher | None = None,
    tracker: FaceTracker | None = None,
    head: OpenHead | None = None,
) -> PreparedPortrait:
    """Videos of one person, or photographs of one, -> the person's most telling pictures on one identity.

    Args:
        source: file of a video, or files of several videos or of photographs, the first of which is animated.
        options: how many pictures are kept, and how much of the video is looked at.
        progress: called after each frame.
        learn: what the pictures of a video lack, too; ``teacher``: learns a network beside it; see :func:`learn_delta`.
        tracker: finds the face and the person's outline; None takes the default.
        head: is fitted to the face; None takes the default.

    Raises:
        MediaError: a file cannot be read.
        NoFaceFound: there is no face.
        OptionError: a video shows two people or a cut, all of them show less than four seconds of the person or different people, or
            photos and videos are mixed.
    """
    from triportrait.face.person import PersonOptions, person_of_photos, person_of_takes
    from triportrait.media.images import looks_like_image
    from triportrait.person_files import manner_of, takes_of
    from triportrait.types import FPS

    options = options or PersonOptions()
    tracker, head = default_tracker() if tracker is None else tracker, default_head() if head is None else head
    files = [source] if isinstance(source, str | os.PathLike) else list(source)
    names = [Path(file).name for file in files]
    pictures = [looks_like_image(Path(file)) for file in files]
    if any(pictures):
        if not all(pictures):
            raise OptionError(f"'{names[pictures.index(False)]}' is no photo as the others are; give videos alone or photos alone.")
        return _with_remarks(person_of_photos([_read_opaque(file) for file in files], tracker, head, options, names), names[0])
    used, takes = takes_of(files, round(options.seconds * FPS), progress)
    portrait, track = person_of_takes(takes, FPS, tracker, head, options)
    portrait = with_warps(portrait, head)
    delta = learn_delta(portrait, takes, track, teacher=teacher, head=head) if learn else None
    return _with_remarks(replace(portrait, manner=manner_of(used, track), delta=delta), Path(used[0]).name)


def learn_delta(
    portrait: PreparedPortrait,
    takes: Sequence[Take],
    track: PersonTrack,
    *,
    teacher: Teacher | None = None,
    head: OpenHead | None = None,
) -> PersonalDelta | None:
    """What a person's pictures lack to look like the video; see :func:`triportrait.avatar.person.learning.learn_delta`.

    Args:
        portrait, track: of :func:`triportrait.face.person.person_of_takes`, of these ``takes``.
        teacher: learns a network on top of the linear map, see :func:`triportrait.training.person.teaching.teach`.
        head: of the portrait; None takes the default.
    """
    from triportrait.avatar.person import learning
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.face.portrait import person_of
    from triportrait.motion.timing import join_motion

    head = default_head() if head is None else head
    fitter, person = LandmarkFitter(head, side_px=len(portrait.image)), person_of(portrait, head)
    rows = [slice(take.start, take.start + take.count) for take in track.takes]
    motion = join_motion(calm_motion(track.motion.rows(own), track.landmarks[own], person, fitter) for own in rows)
    avatar, size = make_model("person", head=head).avatar, len(portrait.image)
    measured, first = warped_rows(portrait, head), track.takes[0]
    alike = {
        row
        for take in track.takes
        if (take.box, take.turn) == (first.box, first.turn)
        for row in range(take.start, take.start + take.count)
    }

    def place(row: int, crop: Array, frame: MotionFrame) -> MotionFrame:
        return measured(crop, frame) if row in alike else frame

    return learning.learn_delta(avatar, portrait, lambda wanted: track.crops(takes, wanted, size), motion, track.seen, teacher, place)


def save_person(
    source: PathLike | Sequence[PathLike],
    path: PathLike,
    options: PersonOptions | None = None,
    progress: Progress | None = None,
    *,
    learn: bool = True,
    teacher: Teacher | None = None,
    look: PathLike | None = None,
) -> PreparedPortrait:
    """Make a person, see :func:`prepare_person` for the arguments, and write the avatar file; returns what it holds.

    Args:
        look: file of one of the person's pictures after editing, see :func:`triportrait.looks.with_look`; ``source`` may be an avatar file
            then, and nothing is learned.

    Raises:
        OutputError: the target cannot be written, or is a source.
        OptionError: an avatar file without a look, or a look that is of none of the pictures.
    """
    from triportrait.looks import expect_square, with_look
    from triportrait.media.avatar_files import looks_like_avatar, save_avatar

    files = [source] if isinstance(source, str | os.PathLike) else list(source)
    refuse_inputs(path, files if look is None else [*files, look])
    is_avatar = len(files) == 1 and looks_like_avatar(files[0])
    if look is None:
        if is_avatar:
            raise OptionError(f"'{os.fspath(files[0])}' is an avatar file already; give a video or photos, or --replace-look")
        portrait = prepare_person(source, options, progress, learn=learn, teacher=teacher)
    else:
        edited, name = _read_opaque(look), Path(look).name
        expect_square(edited, name)
        portrait = read_avatar(files[0])[0] if is_avatar else prepare_person(source, options, progress, learn=False)
        portrait = with_look(portrait, edited, default_tracker(), default_head(), name)
    save_avatar(path, portrait)
    return portrait


def _read_opaque(photo: PathLike) -> Array:
    """A picture file as uint8 RGB [h, w, 3]; what is transparent stands before grey."""
    from triportrait.media.images import composite_over, read_image

    image = read_image(photo)
    return composite_over(image) if image.shape[-1] == 4 else image


def _with_remarks(portrait: PreparedPortrait, name: str) -> PreparedPortrait:
    """The portrait, which knows whether its mouth is covered, after saying what its photo hides."""
    from triportrait.face.coverings import mouth_is_covered, remarks

    portrait = replace(portrait, mouth_is_covered=mouth_is_covered(portrait))
    for remark in remarks(portrait):
        log.warning("%s: %s", name, remark)
    return portrait


def read_avatar(path: PathLike, *, head: OpenHead | None = None) -> tuple[PreparedPortrait, RefinedPlanes | None]:
    """An avatar file: nothing is tracked or fitted.

    Raises:
        MediaError: missing, foreign, newer, damaged, or of another head model.
    """
    from triportrait.avatar.person.learned_delta import fits
    from triportrait.avatar.person.linear_delta import delta_features
    from triportrait.media.avatar_files import load_avatar
    from triportrait.motion.personal_voice import learned_numbers
    from triportrait.motion.style import NATURAL_STYLE

    found, head = load_avatar(path), default_head() if head is None else head
    portrait = found.portrait
    sizes = (len(portrait.identity), len(portrait.vertex_offset), len(portrait.motion.expression))
    if portrait.head_model != head.name or sizes != (head.identity_size, len(head.mean), len(head.expression_names)):
        raise MediaError(
            f"'{os.fspath(path)}' belongs to another head model ({portrait.head_model}, triportrait {found.made_by}); "
            "make it again from the photo with 'triportrait portrait save'"
        )
    voice, delta = portrait.manner.voice, portrait.delta
    style = portrait.manner.style
    if (
        (voice is not None and len(voice) != learned_numbers())
        or (style is not None and len(style) != len(NATURAL_STYLE.numbers))
        or (
            delta is not None
            and delta.weights.shape[1] != len(delta_features(portrait.motion, np.zeros((3, 1 + len(portrait.others))))) + 1
        )
        or (delta is not None and delta.network is not None and not fits(delta.network))
    ):
        raise MediaError(f"'{os.fspath(path)}' was made for another voice or avatar; make it again with 'triportrait personalize'")
    return _with_remarks(portrait, Path(path).name), found.refined


def _portrait_of(
    photo: PathLike | Array,
    options: PortraitOptions | None,
    quality: str = "standard",
    *,
    tracker: FaceTracker | None = None,
    head: OpenHead | None = None,
) -> tuple[PreparedPortrait, RefinedPlanes | None]:
    """A photograph prepared, in the quality's size without ``options``; or an avatar file read, whatever its name."""
    from triportrait.face.portrait import PortraitOptions
    from triportrait.media.avatar_files import looks_like_avatar
    from triportrait.model import quality_of

    size_px = quality_of(quality).size_px
    if isinstance(photo, np.ndarray) or not looks_like_avatar(photo):
        return prepare(photo, options or PortraitOptions(size_px), tracker=tracker, head=head), None
    if options is not None:
        raise OptionError(f"'{os.fspath(photo)}' is an avatar file, prepared already; leave out --size, --face and --background-fill")
    return read_avatar(photo, head=head)


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


# -- performances ---------------------------------------------------------------------------------------------------------


class Portrait:
    """One photographed person, ready to be driven. Preparation is done once; performances are cheap.

    >>> portrait = Portrait.from_image("photo.jpg")          # doctest: +SKIP
    >>> portrait.talk("voice.wav").save("talking.mp4")       # doctest: +SKIP
    """

    @calm_libraries()
    def __init__(
        self,
        prepared: PreparedPortrait,
        avatar: str | None = None,
        source: Path | None = None,
        quality: str = "standard",
        refined: RefinedPlanes | None = None,
        *,
        tracker: FaceTracker | None = None,
        head: OpenHead | None = None,
    ) -> None:
        from triportrait.face.coverings import mouth_is_covered

        self.prepared = prepared
        self.source = source
        #: Measure clips that drive this portrait; None takes the defaults.
        self.tracker, self.head = tracker, head
        self.model = make_model(avatar or ("person" if prepared.others or prepared.delta is not None else None), quality, head=head)
        self.state = self.model.prepare(prepared)
        self._mouth_is_covered = mouth_is_covered(prepared)
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
        cls,
        photo: PathLike | Array,
        options: PortraitOptions | None = None,
        avatar: str | None = None,
        quality: str = "standard",
        *,
        tracker: FaceTracker | None = None,
        head: OpenHead | None = None,
    ) -> Portrait:
        """Prepare a photograph: a file, or uint8 RGB [h, w, 3]; or read an avatar file, whatever its name, in which that is done.

        Args:
            photo: see above.
            options: how a photograph is prepared; None takes the quality's size. For avatar files only None.
            avatar: draws the head, see :data:`triportrait.model.AVATARS`; None takes the quality's.
            quality: ``"draft"``, ``"standard"`` or ``"high"``, see :data:`triportrait.model.QUALITIES`.
            tracker: finds faces and outlines, here and in clips that drive the portrait; None takes the default.
            head: is fitted to them; None takes the default.

        Raises:
            MediaError, NoFaceFound: see :func:`prepare` and :func:`read_avatar`.
            OptionError: no such quality, or options for an avatar file.
        """
        source = None if isinstance(photo, np.ndarray) else Path(photo)
        prepared, refined = _portrait_of(photo, options, quality, tracker=tracker, head=head)
        return cls(prepared, avatar, source, quality, refined, tracker=tracker, head=head)

    @classmethod
    def from_video(
        cls,
        source: PathLike | Sequence[PathLike],
        options: PersonOptions | None = None,
        avatar: str | None = None,
        progress: Progress | None = None,
        *,
        learn: bool = True,
        teacher: Teacher | None = None,
        tracker: FaceTracker | None = None,
        head: OpenHead | None = None,
    ) -> Portrait:
        """A portrait from a video of the person, or from several photographs; see :func:`prepare_person` for arguments and errors.

        Args:
            avatar: draws the head; None takes ``person``, which uses all pictures.
        """
        prepared = prepare_person(source, options, progress, learn=learn, teacher=teacher, tracker=tracker, head=head)
        first = source if isinstance(source, str | os.PathLike) else source[0]
        return cls(prepared, avatar, Path(first), tracker=tracker, head=head)

    def with_look(self, edited: PathLike | Array) -> Portrait:
        """The same person after a picture was edited by hand: hair, skin, glasses, age; see :func:`triportrait.looks.with_look`.

        Args:
            edited: file of one of the person's pictures (``self.prepared.image``, or those of ``self.prepared.others``) after editing, or
                uint8 RGB [n, n, 3].

        Raises:
            MediaError: the file cannot be read.
            OptionError: it is not square, or looks like none of the pictures.
        """
        from triportrait.looks import with_look

        picture, name = (edited, "the picture") if isinstance(edited, np.ndarray) else (_read_opaque(edited), Path(edited).name)
        tracker, head = self.tracker or default_tracker(), self.head or default_head()
        return Portrait(with_look(self.prepared, picture, tracker, head, name), source=self.source, tracker=tracker, head=head)

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

    def talk(
        self,
        audio: PathLike | Sound | Array | Iterable[Samples | Waveform],
        options: DriveOptions | None = None,
        progress: Progress | None = None,
        *,
        rate_hz: int | None = None,
    ) -> Performance:
        """The portrait says what is on a recording, or in sound from memory.

        Args:
            audio: a file (wav, mp3, flac, m4a, ogg, or the sound of a video), a :class:`Waveform`, an array of samples, or an iterable of
                blocks of samples, which is asked for its next block when it is needed.
            options: how the portrait moves.
            progress: called after each frame of a clip that the options name.
            rate_hz: samples per second of arrays and blocks.
        """
        make = voice_driver_of(options or DriveOptions())
        driver = make(audio, options, progress=progress, tracker=self.tracker, head=self.head, rate_hz=rate_hz)
        return self.driven_by(driver, options)

    def drive(self, video: PathLike, options: DriveOptions | None = None, progress: Progress | None = None) -> Performance:
        """The portrait does what the person in a clip does; the clip's sound goes along."""
        return self._driven_by("video", video, options, progress)

    def perform(
        self,
        motion: Motion | PathLike,
        options: DriveOptions | None = None,
        sound: Path | None = None,
        sources: dict[str, Path] | None = None,
        progress: Progress | None = None,
    ) -> Performance:
        """Motion measured on somebody (or a saved motion file) on this portrait; see :class:`triportrait.drivers.MotionDriver`."""
        return self._driven_by("motion", motion, options, progress, sound=sound, sources=sources)

    def idle(self, seconds: float, options: DriveOptions | None = None) -> Performance:
        """The portrait looks alive without speaking."""
        return self._driven_by("idle", seconds, options, None)

    def still(
        self,
        curves: Mapping[str, float] | None = None,
        *,
        rotation_rad: Sequence[float] = (0.0, 0.0, 0.0),
        translation_dm: Sequence[float] = (0.0, 0.0, 0.0),
        gaze_rad: Sequence[float] = (0.0, 0.0),
        emotion: EmotionName = "neutral",
        emotion_strength: float = EMOTION_STRENGTH,
        background: Background | None = None,
    ) -> Frame:
        """One picture of the portrait in a pose of your own; see :class:`triportrait.motion.stills.StillDriver`. It bears no marks.

        Raises:
            OptionError: no such curve or emotion, or a value out of range.
        """
        from triportrait.motion.stills import StillDriver

        driver = StillDriver(
            curves,
            rotation_rad=rotation_rad,
            translation_dm=translation_dm,
            gaze_rad=gaze_rad,
            emotion=emotion,
            emotion_strength=emotion_strength,
        )
        return next(Performance(self, driver).frames(background=background))

    def live(self, options: LiveOptions | None = None) -> LiveSession:
        """The portrait speaks while its sound still comes in; see :class:`triportrait.live.session.LiveSession`.

        Raises:
            OptionError, MediaError, MotionFileError: what the options name cannot be had.
        """
        from triportrait.live.session import LiveSession

        return LiveSession.of(self, options)

    def driven_by(self, driver: Driver, options: DriveOptions | None = None) -> Performance:
        """The portrait does what any driver says, one of your own, too; of the options, ``mouth`` alone is looked at here.

        Raises:
            MediaError: the driver's motion does not fit the portrait.
        """
        return Performance(self, driver, still_mouth=(options or DriveOptions()).holds_mouth(self._mouth_is_covered))

    def _driven_by(self, kind: str, source: Any, options: DriveOptions | None, progress: Progress | None, **more: Any) -> Performance:
        driver = DRIVERS[kind](source, options, progress=progress, tracker=self.tracker, head=self.head, **more)
        return self.driven_by(driver, options)
