"""Files and arrays in, talking portraits out: the one place that joins media, face, motion, provenance and the model."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from triportrait.concurrency import built_once
from triportrait.errors import EmptyMedia, MediaError, OptionError
from triportrait.motion.files import READ_ENDINGS
from triportrait.outputs import refuse_inputs
from triportrait.types import Frame, Motion, MotionFrame, RenderedHead, Waveform
from triportrait.types import Portrait as PreparedPortrait

if TYPE_CHECKING:
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.face.following import FollowedFace
    from triportrait.face.open_head import OpenHead
    from triportrait.face.portrait import PortraitOptions
    from triportrait.face.tracker import FaceTracker
    from triportrait.media.avatar_files import RefinedPlanes
    from triportrait.model import ModelState, PortraitModel
    from triportrait.motion.audio import AudioSettings
    from triportrait.motion.controls import ControlCurves
    from triportrait.motion.emotion import EmotionName
    from triportrait.motion.shots import Shot
    from triportrait.motion.style import SpeakingStyle
    from triportrait.provenance.manifest import VideoSigner

Array = np.ndarray
PathLike = str | os.PathLike[str]
log = logging.getLogger(__name__)

FPS = 25.0
#: Frames of a driving clip from which the driver's own shape is estimated.
_PERSON_FRAMES = 200
_PERSON_ROWS = 10
#: Rows fitted at a time; landmarks of a long clip are not kept.
_FIT_ROWS = 256
#: On voices it never heard the network opens the mouth too little (95th percentile 0.065 face heights, real speakers 0.08 to 0.17).
_VOICE_GAIN = 1.3
#: Full photographs are written up to this side; H.264 players give up beyond.
_FULL_FRAME_LIMIT_PX = 4096
#: While speaking; see NaturalSettings.
_BLINKS_PER_MINUTE = 26.0
_VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
#: Idle motion is made in one piece.
_LONGEST_IDLE_S = 3600.0
_ROWS = ("expression", "rotation_rad", "translation", "gaze_rad")


@built_once(maxsize=1)
def default_tracker() -> FaceTracker:
    """The tracker that every default uses (one per process: its networks take a second to start)."""
    from triportrait.face.tracker import MediaPipeTracker

    return MediaPipeTracker()


@built_once(maxsize=1)
def default_head() -> OpenHead:
    """The embedded open head."""
    from triportrait.face.open_head import OpenHead

    return OpenHead.embedded()


@built_once(maxsize=4)
def make_model(avatar: str | None = None, quality: str = "standard") -> PortraitModel:
    """The model of an avatar's name; None takes the quality's.

    Raises:
        MissingPart: no avatar of that name.
        OptionError: no quality of that name.
    """
    from triportrait.model import build_model
    from triportrait.presets import quality_of

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
    from triportrait.presets import quality_of

    size_px = quality_of(quality).size_px
    if isinstance(photo, np.ndarray) or not looks_like_avatar(photo):
        return prepare(photo, options or PortraitOptions(size_px)), None
    if options is not None:
        raise OptionError(
            f"'{os.fspath(photo)}' is an avatar file, prepared already; leave out --size, --face and --background-fill"
        )
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


def motion_of_frames(portrait: PreparedPortrait, frames: Iterable[Array], fps: float = FPS) -> Motion:
    """Motion of the portrait's own person in other frames of the same shot, in the portrait's crop (for reenactment).

    The crop box of the portrait applies to every frame; ``landmarks`` of the result are in its pixels.
    """
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.face.portrait import person_of
    from triportrait.face.tracker import track_clip
    from triportrait.motion.smoothing import smooth_motion

    track = track_clip(default_tracker(), frames, fps)
    size = portrait.image.shape[0]
    left, top, side = portrait.crop_box
    landmarks = (track.landmarks[..., :2] - (left, top)) * (size / side)
    fitter = LandmarkFitter(default_head(), side_px=size)
    motion = smooth_motion(fitter.fit_motion(landmarks, person_of(portrait, default_head()), fps))
    return motion.with_rows(landmarks=landmarks.astype(np.float32))


def motion_of_video(path: PathLike, fps: float = FPS, progress: Progress | None = None, face: int | None = None) -> Motion:
    """Expression, pose and gaze of one person in a clip, in that person's own shape. Bounded memory for any length.

    Behind a cut the motion goes on from the first shot's rest pose; while the face is out of sight the head is at rest.

    Args:
        path: the clip.
        fps: frames per second of the result.
        progress: called after each frame.
        face: whom to follow, counted from the left in the first frame that shows faces; None takes the largest face.

    Raises:
        MediaError: not a readable video.
        NoFaceFound: nobody in it, or fewer than ``face``.
    """
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.face.following import follow_face
    from triportrait.media.video import VideoReader
    from triportrait.motion.shots import join_shots

    fitter = LandmarkFitter(default_head())
    name = f"'{os.fspath(path)}'"
    with VideoReader(path) as reader:
        total = max(1, round(reader.seconds * fps)) if reader.seconds else 0
        frames = (frame for _, frame in reader.frames(fps))
        followed = follow_face(default_tracker(), _counted(frames, progress, "tracking", total), face, name)
        shots = [_shot_of(fitter, rows, fps) for _, rows in groupby(followed, key=lambda row: row.shot)]
    _tell_of_shots(name, [shot.seen for shot in shots], fps)
    return join_shots(shots)


def _shot_of(fitter: LandmarkFitter, rows: Iterator[FollowedFace], fps: float) -> Shot:
    """Fit the person of one shot and smooth the motion."""
    from triportrait.motion.shots import Shot
    from triportrait.motion.smoothing import smooth_motion

    opening = list(islice(rows, _PERSON_FRAMES))
    shown = [row for row in opening if row.seen] or opening
    low, high = shown[0].landmarks[:, :2].min(0), shown[0].landmarks[:, :2].max(0)
    side = 2.3 * float((high - low).max())
    if not side:  # nobody in this shot
        count = len(opening) + sum(1 for _ in rows)
        nothing = [np.zeros((count, size), np.float32) for size in (len(fitter.head.expression_names), 3, 3, 2)]
        return Shot(Motion(*nothing, fps, fitter.head.expression_names, fitter.head.name), np.zeros(count, bool))
    corner = 0.5 * (low + high) - 0.5 * side

    def in_crop(rows: list[FollowedFace]) -> Array:
        return (np.stack([row.landmarks for row in rows])[..., :2] - corner) * (512.0 / side)

    person = fitter.fit_person(in_crop(shown[:: max(1, len(shown) // _PERSON_ROWS)]))[0]
    pieces, seen = [], []
    rows = chain(opening, rows)
    while batch := list(islice(rows, _FIT_ROWS)):
        pieces.append(fitter.fit_motion(in_crop(batch), person, fps))
        seen += [row.seen for row in batch]
    return Shot(smooth_motion(join_motion(pieces)), np.array(seen))


def _tell_of_shots(name: str, seen: list[Array], fps: float) -> None:
    """One warning for cuts and one for a face out of sight."""
    from triportrait.motion.shots import absences

    cuts = [f"{frame / fps:.2f} s" for frame in np.cumsum([len(shot) for shot in seen])[:-1]]
    if cuts:
        times = ", ".join(cuts[:5]) + (f" and {len(cuts) - 5} more times" if len(cuts) > 5 else "")
        log.warning("%s cuts, or the face jumps, at %s; the head goes on from its rest pose there", name, times)
    every = np.concatenate(seen)
    away = absences(every, fps)
    if away:
        count = sum(stop - start for start, stop in away)
        log.warning(
            "%s does not show the whole face in %d of %d frames, first at %.2f s; the head rests there",
            name, count, len(every), away[0][0] / fps,
        )  # fmt: skip


def join_motion(parts: Iterable[Motion]) -> Motion:
    """Chunks of one motion in one piece, without landmarks.

    Raises:
        EmptyMedia: there is no row in them.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        raise EmptyMedia(_NOTHING)
    return parts[0].with_rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in _ROWS}, landmarks=None)


def read_motion(path: PathLike) -> Motion:
    """A motion file of ours.

    Raises:
        MediaError: missing, a folder, or unreadable.
        MotionFileError: no motion file, or damaged.
    """
    from triportrait.media.files import check_readable
    from triportrait.motion.files import load_motion

    check_readable(path)
    return load_motion(path)


def motion_of_audio(path: PathLike, settings: AudioSettings | None = None) -> Iterator[Motion]:
    """Motion chunks of a voice, starting at rest; memory does not grow with its length."""
    from triportrait.media.audio import stream_voice
    from triportrait.motion.audio import AudioDriver

    blocks = (Waveform(block, 16_000) for block in stream_voice(path, 16_000, 1.0))
    return AudioDriver(blocks, settings).chunks()


# -- performances ---------------------------------------------------------------------------------------------------------

_NOTHING = "there is nothing to show: the voice or motion is shorter than one frame; give a longer one"

#: Called with what is being done, how many are done and how many there are (0 = not known).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Marks:
    """How generated video is marked: a visible label, a watermark in the pixels, a signed statement in the file."""

    label: bool = True
    watermark: bool = True
    manifest: bool = True


@dataclass(frozen=True)
class Performance:
    """A portrait in motion. Iterate for :class:`Frame` objects, or :meth:`save` to a file. Frames are made on demand.

    Args:
        portrait: who.
        chunks: called anew for each pass; yields motion in the portrait's pose frame.
        fps: frames per second.
        sound: file whose sound belongs to it, or None.
        frame_count: number of frames when known beforehand, else 0.
        sources: files that went in, for the signed statement.
        inputs: files and folders that were read besides; none of either is ever written over.
    """

    portrait: Portrait
    chunks: Callable[[], Iterator[Motion]]
    fps: float = FPS
    sound: Path | None = None
    frame_count: int = 0
    sources: dict[str, Path] = field(default_factory=dict)
    inputs: tuple[PathLike, ...] = ()

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def motion(self) -> Motion:
        """All rows in one :class:`Motion`."""
        return join_motion(self.chunks())

    def frames(self, debug: bool = False, full_frame: bool = False, background: Background | None = None) -> Iterator[Frame]:
        """Finished pictures, one by one.

        Args:
            debug: put source, PNCC, raw render and depth into ``Frame.debug``.
            full_frame: the whole photograph with the animated head in its place, instead of the crop.
            background: what stands behind the person; None keeps the photo's own.
        """
        prepared = self.portrait.prepared
        paste = None
        if full_frame:
            from triportrait.model import paste_back

            paste = paste_back(prepared)
        panels = _DebugPanels(prepared) if debug else None
        index = 0
        scenes = background.frames(prepared.image.shape[0], self.fps) if background is not None else None
        for row, image, head in self._pictures(scenes):
            extra = panels(row, head, image) if panels else {}
            yield Frame(paste(image) if paste else image, index / self.fps, extra)
            index += 1
        if not index:
            raise EmptyMedia(_NOTHING)

    def _pictures(self, scenes: Iterator[Array] | None) -> Iterator[tuple[MotionFrame, Array, RenderedHead | None]]:
        """Motion rows, their crops, and the head layers that panels show."""
        model, state = self.portrait.model, self.portrait.state
        for chunk in self.chunks():
            for row in chunk:
                yield (row, *model.step(state, row, next(scenes) if scenes is not None else None))

    def save(
        self,
        path: PathLike,
        *,
        full_frame: bool = False,
        debug_panel: bool = False,
        background: Background | None = None,
        marks: Marks | None = None,
        crf: int = 18,
        progress: Progress | None = None,
    ) -> Path:
        """Write an mp4; it appears whole or not at all.

        Args:
            path: target, ending in .mp4.
            full_frame, background: see :meth:`frames`.
            debug_panel: source | PNCC | raw render | depth | final side by side.
            marks: label, watermark and manifest; all on by default.
            crf: x264 quality, lower is better.
            progress: called after each frame.

        Raises:
            OutputError: the target cannot be written, or is a file that was read.
            OptionError: ``crf`` is out of range.
        """
        from triportrait import __version__
        from triportrait.media.video import VideoWriter

        refuse_inputs(path, [*self.sources.values(), *self.inputs, self.sound, background.file if background is not None else None])
        if not 0 <= crf <= 51:
            raise OptionError(f"--crf is {crf}; use a number from 0 (lossless) to 51")
        marks = marks or Marks()
        prepared = self.portrait.prepared
        height, width = prepared.photo.shape[:2] if full_frame else prepared.image.shape[:2]
        size = (width * 5, height) if debug_panel else (width, height)
        if max(size) > _FULL_FRAME_LIMIT_PX and full_frame:
            raise MediaError(
                f"the photo is {width} x {height} px; --full-frame writes up to {_FULL_FRAME_LIMIT_PX} px a side, use a smaller copy"
            )
        finish = _Finish(marks, size)
        target = Path(path)
        signer = self._signer(target) if marks.manifest else None
        writer = VideoWriter(
            target, size, self.fps, audio=self.sound, crf=crf, background=True,
            metadata={"comment": f"AI-generated, TriPortrait {__version__}"},
            before_commit=(lambda draft: signer.sign(draft, finish.payload)) if signer is not None else None,
        )  # fmt: skip
        with writer:
            for index, frame in enumerate(self.frames(debug_panel, full_frame, background)):
                image = np.hstack([*frame.debug.values(), frame.image]) if debug_panel else frame.image
                writer.write(finish(image))
                if progress:
                    progress("rendering", index + 1, self.frame_count)
        if signer is not None:
            signer.note_beside()
        return target

    def _signer(self, target: Path) -> VideoSigner:
        """What can keep a video from being signed is tried before there is one."""
        from triportrait import __version__
        from triportrait.provenance.manifest import VideoSigner

        return VideoSigner(target, self.sources, target.name, f"TriPortrait {__version__}")


class _Finish:
    """Label and watermark on every frame."""

    #: A fixed payload tells that this project made the picture; the signed statement says more.
    PAYLOAD = 0x3D50

    def __init__(self, marks: Marks, size: tuple[int, int]) -> None:
        from triportrait.provenance.label import draw_label
        from triportrait.provenance.watermark import Watermarker

        self._label = draw_label if marks.label else None
        self._watermark = Watermarker(size, self.PAYLOAD) if marks.watermark and min(size) >= 128 else None
        self.payload = self.PAYLOAD if self._watermark else None

    def __call__(self, image: Array) -> Array:
        if self._label:
            image = self._label(image)
        return self._watermark.apply(image) if self._watermark else image


class _DebugPanels:
    """Source, PNCC, raw render and depth of one portrait's frames."""

    def __init__(self, portrait: PreparedPortrait) -> None:
        from triportrait.face.pncc import PnccRenderer

        self._portrait = portrait
        self._size = portrait.image.shape[0]
        self._head = default_head()
        self._shape = self._head.shape(portrait.identity)
        self._pncc = PnccRenderer(self._head, self._size)

    def __call__(self, row: MotionFrame, head: RenderedHead, final: Array) -> dict[str, Array]:
        coloured = self._pncc.render(self._head.deform(self._shape, row.expression, row.gaze_rad))
        pncc = ((coloured.transpose(1, 2, 0) + 1.0) * 127.5).astype(np.uint8)
        raw = np.clip(head.rgb * 255.0 + 0.5, 0, 255).astype(np.uint8)
        seen = np.isfinite(head.depth)
        near = 10.0 - head.depth - row.translation[2]
        level = np.where(seen, np.clip((near + 1.2) / 2.0, 0.05, 1.0), 0.0)
        depth = np.repeat((level * 255).astype(np.uint8)[..., None], 3, axis=2)
        return {"source": self._portrait.image, "pncc": pncc, "raw": raw, "depth": depth}


class Background:
    """A scene behind the person: a colour (``#rrggbb`` or a name), a picture or a video file.

    Attributes:
        file: the file, or None for a colour.

    Raises:
        MediaError: neither a colour nor a picture or video that can be read.
    """

    _COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (127, 127, 127), "gray": (127, 127, 127),
                "green": (0, 177, 64), "blue": (0, 71, 187)}  # fmt: skip

    def __init__(self, what: str) -> None:
        self._what = what
        self._colour = self._COLOURS.get(what.lower()) or self._hex(what)
        self._kind = "colour"
        self.file: Path | None = None
        if self._colour is None:
            from triportrait.media.images import read_image
            from triportrait.media.probe import probe

            if what.startswith("#") or not os.path.lexists(what):
                raise MediaError(
                    f"--background is {what!r}, neither a colour nor a file; use #rrggbb, {', '.join(self._COLOURS)}, a picture or a video"
                )

            self._kind = probe(what).kind
            if self._kind not in ("image", "video"):
                raise MediaError(f"{what}: a background is a colour such as #204060, a picture or a video")
            self.file = Path(what)
            if self._kind == "image":
                read_image(what)  # a damaged picture is known before any work is done, as a damaged video is

    @staticmethod
    def _hex(what: str) -> tuple[int, int, int] | None:
        digits = what.removeprefix("#")
        if not what.startswith("#") or len(digits) != 6 or any(c not in "0123456789abcdefABCDEF" for c in digits):
            return None
        return tuple(int(digits[i : i + 2], 16) for i in (0, 2, 4))

    def frames(self, size: int, fps: float) -> Iterator[Array]:
        """Endless square pictures uint8 [size, size, 3]; videos start again at their end."""
        if self._kind == "colour":
            plain = np.full((size, size, 3), self._colour, np.uint8)
            while True:
                yield plain
        elif self._kind == "image":
            from triportrait.media.images import composite_over, read_image

            image = read_image(self._what)
            still = _cover(composite_over(image) if image.shape[-1] == 4 else image, size)
            while True:
                yield still
        else:
            from triportrait.media.video import VideoReader

            while True:
                with VideoReader(self._what) as reader:
                    for _, frame in reader.frames(fps):
                        yield _cover(frame, size)


def _cover(image: Array, size: int) -> Array:
    """The largest centred square of a picture, scaled to ``size``."""
    from triportrait.face.portrait import cut

    height, width = image.shape[:2]
    side = float(min(height, width))
    return cut(image, ((width - side) / 2, (height - side) / 2, side), size)


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

    def blinks_per_minute(self) -> float | None:
        """Blinks to add per minute; None leaves the motion's own."""
        if self.blink in ("driving", "none"):
            return 0.0 if self.blink == "none" else None
        if self.blink == "natural":
            return _BLINKS_PER_MINUTE
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

    def check_files(self) -> None:
        """Look at every file that these options name, for what would end a performance minutes later.

        Raises:
            OptionError, MediaError, MotionFileError: one is missing, unreadable, or of another kind.
        """
        from triportrait.motion.files import load_controls
        from triportrait.motion.style import style_of

        if isinstance(self.style, str | os.PathLike):
            measured = _check_motion_source("--style", os.fspath(self.style))
            if measured is not None:
                style_of(measured)
        if isinstance(self.controls, str | os.PathLike):
            load_controls(self.controls)
        pose = self.pose_source
        if pose not in ("driving", "still", "natural"):
            option = "--pose" if self.pose == pose else "--head-motion"
            for path in _pose_library(option, pose) if os.path.isdir(pose) else [pose]:
                _check_motion_source(option, os.fspath(path))

    @property
    def head_amount(self) -> float:
        """Amount of natural head motion."""
        return float(self.head_motion) if isinstance(self.head_motion, int | float) else 1.0


def voice_settings(options: DriveOptions, progress: Progress | None = None) -> AudioSettings:
    """What the voice driver makes of the options; a style's clip is measured here, a file of controls is read.

    Raises:
        OptionError, MediaError, MotionFileError: the style or the controls cannot be had.
    """
    from triportrait.motion.audio import AudioSettings
    from triportrait.motion.controls import ControlCurves
    from triportrait.motion.files import load_controls
    from triportrait.motion.natural import NaturalSettings
    from triportrait.motion.style import SpeakingStyle, style_of

    rate = options.blinks_per_minute()
    natural = NaturalSettings(
        head_motion=options.head_amount if options.pose_source in ("driving", "natural") else 0.0,
        blinks_per_minute=_BLINKS_PER_MINUTE if rate is None else rate,
        gaze_motion=options.gaze_motion,
        eye_contact=options.eye_contact,
    )
    style, curves = options.style, options.controls
    if style is not None and not isinstance(style, SpeakingStyle):
        style = style_of(_motion_of_file("--style", os.fspath(style), progress))
    if curves is not None and not isinstance(curves, ControlCurves):
        curves = load_controls(curves)
    return AudioSettings(
        options.mouth_gain, options.expressiveness, natural, options.seed, options.temperature, options.emotion,
        options.emotion_strength, style, curves, _VOICE_GAIN,
    )  # fmt: skip


#: What an option that names a file can be.
_FILE_OPTIONS = {
    "--style": "give a video or motion file that exists",
    "--pose": "use driving, still, natural, or a video or motion file that exists",
    "--head-motion": "use a number, a video or motion file that exists, or a folder of them",
}


def _check_motion_source(option: str, path: str) -> Motion | None:
    """Raise what :func:`_motion_of_file` would raise of a file that is missing, unreadable or of another kind.

    Returns:
        what is in a motion file; None for a video, which takes minutes to measure.
    """
    if not os.path.lexists(path):
        raise OptionError(f"{option} is {path!r}; {_FILE_OPTIONS[option]}")
    if Path(path).suffix.lower() in READ_ENDINGS:
        return read_motion(path)
    from triportrait.media.video import VideoReader

    VideoReader(path).close()
    return None


def _pose_library(option: str, folder: str) -> list[Path]:
    try:
        library = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in (*READ_ENDINGS, *_VIDEO_ENDINGS))
    except OSError as error:
        raise OptionError(f"{option}: the folder {folder!r} cannot be read ({error.strerror}); change its rights") from None
    if not library:
        raise OptionError(f"{option}: the folder {folder!r} holds no video and no motion file; add some, or name one")
    return library


def _motion_of_file(option: str, path: str, progress: Progress | None, face: int | None = None) -> Motion:
    """A motion file, or the motion of the person in a video."""
    if not os.path.lexists(path):
        raise OptionError(f"{option} is {path!r}; {_FILE_OPTIONS[option]}")
    return read_motion(path) if Path(path).suffix.lower() in READ_ENDINGS else motion_of_video(path, FPS, progress, face)


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
        from triportrait.refine import has_planes, use_refined

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
            quality: ``"draft"``, ``"standard"`` or ``"high"``, see :data:`triportrait.presets.QUALITIES`.

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
        """Fit the learned avatar's planes to this photograph; see :func:`triportrait.refine.refine`.

        Raises:
            MissingPart: the avatar has no planes.
            OptionError: ``seconds`` is out of range.
        """
        from triportrait.refine import refine

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
            done, track = 0, ControlTrack(settings.controls(), settings.curves)
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
        from triportrait.motion.emotion import EMOTIONS, with_emotion
        from triportrait.motion.natural import NaturalSettings

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
            raise EmptyMedia(_NOTHING)
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
            settings = NaturalSettings(head_motion=options.head_amount)
            placed = retarget.with_pose(placed, source, self.prepared.motion, settings, options.seed)
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
            round(seconds * FPS), FPS, seed=options.seed, controls=settings.controls(), curves=settings.curves, style=settings.style
        )
        idle = keep_in_view(idle, self.prepared.motion, options.eye_contact)
        emotions = ControlTrack(settings.controls(), settings.curves).emotions(0, len(idle))
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
        from triportrait.motion.retarget import relative, resample

        pose = options.pose_source
        if pose in ("driving", "still", "natural"):
            return None
        option = "--pose" if options.pose == pose else "--head-motion"
        if not os.path.isdir(pose):
            clip = resample(_motion_of_file(option, pose, progress, options.driver_face), fps)
            return self._within_reach(relative(clip, "first", self.prepared.motion, lip_contact=False))
        library = _pose_library(option, pose)
        clips = [resample(_motion_of_file(option, str(path), progress), fps) for path in library]
        chosen, row = nearest_pose(clips, self.prepared.motion)
        log.info("head motion of %s from frame %d", library[chosen].name, row)
        clip = clips[chosen]
        clip = clip.with_rows(**{name: getattr(clip, name)[row:] for name in _ROWS}, landmarks=None)
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


def nearest_pose(clips: list[Motion], own: MotionFrame) -> tuple[int, int]:
    """Which clip, and which of its rows, has the head turned most like ``own``; a clip's last second is left out.

    Source: Real3D-Portrait, section 4 (the head poses of a voice come from the clip of a library whose pose is nearest).
    """
    from triportrait.geometry.rotations import matrix_from_euler

    best = (math.inf, 0, 0)
    for index, clip in enumerate(clips):
        rows = max(1, len(clip) - round(clip.fps))
        turns = matrix_from_euler(clip.rotation_rad[:rows].astype(np.float64))
        trace = np.einsum("ij,tij->t", matrix_from_euler(np.asarray(own.rotation_rad, np.float64)), turns)
        angle = np.arccos(np.clip((trace - 1) / 2, -1.0, 1.0))
        row = int(np.argmin(angle))
        best = min(best, (float(angle[row]), index, row))
    return best[1], best[2]


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
    return motion.with_rows(
        rotation_rad=pose.rotation_rad[index], translation=pose.translation[index], gaze_rad=gaze.astype(np.float32)
    )


def _expect_within(name: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise OptionError(f"--{name.replace('_', '-')} is {value:g}; use a number from {low:g} to {high:g}")


def _counted(frames: Iterable[Array], progress: Progress | None, what: str, total: int) -> Iterator[Array]:
    for index, frame in enumerate(frames):
        yield frame
        if progress:
            progress(what, index + 1, total)
