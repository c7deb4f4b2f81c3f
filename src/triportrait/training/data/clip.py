"""One video (or one piece of it) becomes one :class:`TrainingClip`: track, crop, fit, mattes, layers, sound.

The work of one process; nothing here knows of shards or of other clips. Two passes over the pictures: the first only tracks, on small
pictures, and decides whether the clip can be used; the second cuts the fixed square and makes the layers. Memory depends on the clip's
length and on the crop's size, hardly on the video's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from triportrait.errors import EmptyMedia, MediaError, NoFaceFound, TriPortraitError
from triportrait.training.data.clips import QUALITY, TrainingClip
from triportrait.training.data.sources import VideoSource
from triportrait.types import FOCAL_IN_WIDTHS, FPS, Array, Motion

if TYPE_CHECKING:
    from triportrait.face.fitting import LandmarkFitter, Person
    from triportrait.media.video import VideoReader

Box = tuple[float, float, float]

#: Pictures are tracked at this size at most: the landmark network looks at 192 px anyway.
_TRACKED_SIDE_PX = 960
#: One picture a second is searched for further faces.
_SEARCH_EVERY = 25
#: A second face counts when it is at least this wide, in widths of the first.
_SECOND_FACE = 0.5
#: Shares of frames: with a face at least, and with a second face at most (of those that were searched).
_FOUND, _WITH_SECOND = 0.9, 0.25
#: Between two frames a head moves less than this many face sizes; more is a cut, or another person.
_JUMP = 0.35
#: A cut changes small grey pictures by this much (0 to 255), and by this many times the clip's median change.
_CUT_CHANGE, _CUT_TIMES = 20.0, 6.0
_THUMBNAIL_PX = 24
_SMALLEST_FACE_PX = 64
_FEWEST_FRAMES = 8
#: Of a video with cuts the longest stretch without one is taken when it has so many frames.
_FEWEST_BETWEEN_CUTS = 25
#: Root mean square distance of the fitted landmarks, in 512-px pixels, beyond which the fit is not to be trusted.
_WORST_FIT_PX = 8.0
#: Rows from which the shape is estimated, and pictures from which the background is merged.
_PERSON_ROWS, _BACKGROUND_FRAMES = 10, 16
#: Shares of the announced length below which the report says that the video ends early.
_WHOLE = 0.9
#: Room round everything the face covers in the clip, in its own size.
_MOVING_ROOM = 1.25
#: Videos longer than this many clips are cut into pieces; a shorter last piece joins the one before.
_LONGEST_CLIPS = 1.5
_TURNED = "the face lies on its side, or is upside down; turn the video until it is upright"


@dataclass(frozen=True, slots=True)
class PrepareSettings:
    """What every clip of a set has in common.

    Args:
        size_px: side of the square.
        clip_seconds: longer videos are cut into pieces of this length.
        minimum_fps: slower videos are refused: at 25 frames per second they would stand still and jump.
        face_widths: side of the square in face sizes.
        hubert: folder of HuBERT, or None for the built-in log-mel features.
        need_sound: refuse clips without sound.
        quality: of the JPEG pictures in the shards.
        head: the head model whose coefficients the clips hold: a name of ``real3d.head_models.HEAD_MODELS``.
    """

    size_px: int = 512
    clip_seconds: float = 4.0
    minimum_fps: float = 20.0
    face_widths: float = 2.3
    hubert: str | None = None
    need_sound: bool = False
    quality: int = QUALITY
    head: str = "open"


class UnusableClip(TriPortraitError):
    """A video that is in order, but of which no training clip can be made; ``code`` says why."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What the report says of a clip beside its fate.

    Args:
        fps, width, height: of the video.
        frames: of the clip, at 25 per second.
        face_px: median size of the face in the video.
        fit_px: root mean square distance of the fitted landmarks, in 512-px pixels.
        background_change: mean difference of the scene between frames, 0 to 255; large when the camera moves.
        note: what is missing in the clip though it was prepared.
    """

    fps: float = 0.0
    width: int = 0
    height: int = 0
    frames: int = 0
    face_px: float = 0.0
    fit_px: float = 0.0
    background_change: float = 0.0
    note: str = ""


@dataclass(slots=True)
class _Watched:
    """What the first pass sees besides the face itself."""

    sizes: list[tuple[int, int]] = field(default_factory=list)
    thumbnails: list[Array] = field(default_factory=list)
    searched: int = 0
    second_faces: int = 0
    #: Whether the first searched picture with a face is upright; None before it.
    upright: bool | None = None


def pieces_of(source: VideoSource, settings: PrepareSettings) -> list[VideoSource]:
    """The source itself, or its pieces of ``clip_seconds`` when it is a longer video.

    Raises:
        MediaError: the file cannot be read as a video.
    """
    from triportrait.media.video import VideoReader

    with VideoReader(source.path) as reader:
        seconds = _seconds(source, reader)
    if seconds <= _LONGEST_CLIPS * settings.clip_seconds:
        return [source]
    # Whole frames, so that no frame is in two pieces.
    length = round(settings.clip_seconds * FPS) / FPS
    count = max(1, int(seconds / length + 0.5))
    return [source.piece(number, number * length, length if number < count - 1 else seconds - number * length) for number in range(count)]


#: Samples [n] at 16 kHz to feature rows and how many there are per second.
SpeechRows = Callable[[Array], tuple[Array, float]]


def prepare_clip(source: VideoSource, settings: PrepareSettings, speech: SpeechRows | None = None) -> tuple[TrainingClip, ClipFacts]:
    """Make the clip.

    Args:
        source: the video, or the piece of it.
        settings: of all clips.
        speech: makes the rows of ``speech``; None takes what the settings say.

    Raises:
        MediaError: the file is damaged, or not a video.
        NoFaceFound: nobody in it.
        UnusableClip: two people, too slow, too short, too small, a cut, no sound where it is needed.
    """
    from triportrait.media.video import VideoReader

    with VideoReader(source.path) as reader:
        if reader.fps < settings.minimum_fps:
            raise UnusableClip("E_FRAME_RATE", f"{reader.fps:.1f} frames per second; at least {settings.minimum_fps:g} are needed")
        seconds = min(_seconds(source, reader), _LONGEST_CLIPS * settings.clip_seconds)
        landmarks, found, stretch = _track(reader, source, seconds)
        if stretch is not None:
            source = replace(source, start_s=source.start_s + stretch.start / FPS)
            seconds = len(stretch) / FPS
        box, face_px = _square(landmarks, found, _view(source, reader.size), settings)
        scale = settings.size_px / box[2]
        in_crop = np.concatenate([(landmarks[..., :2] - box[:2]) * scale, landmarks[..., 2:] * scale], -1).astype(np.float32)
        fitter, person, motion, fit_px = _fit(in_crop, found, settings.size_px)
        # Mattes and torso need a whole head, which only the open one is.
        identity, told, told_px = person.identity, motion, fit_px
        if settings.head != "open":
            identity, told, told_px = _fit_own(settings.head, in_crop, found, settings.size_px)
        pictures = _pictures(reader, source, seconds, box, settings.size_px)
        layers, change = _layers(pictures, in_crop, motion, fitter, person)
        size = reader.size
    frames = len(layers["frames"])
    sound, note = _sound(source, frames, settings, speech or partial(_speech, settings=settings))
    if stretch is not None:
        note = "; ".join(filter(None, [f"between cuts: frames {stretch.start} to {stretch.stop - 1} of the video or piece", note]))
    if frames < _WHOLE * seconds * FPS:
        note = "; ".join(filter(None, [f"the video ends early: {frames} of {round(seconds * FPS)} frames", note]))
    clip = TrainingClip(
        **layers,
        **sound,
        identity=identity.astype(np.float32),
        expression=told.expression[:frames],
        rotation_rad=told.rotation_rad[:frames],
        translation=told.translation[:frames],
        gaze_rad=motion.gaze_rad[:frames],
        landmarks=np.ascontiguousarray(in_crop[:frames, :, :2]),
        fps=FPS,
        head_model=settings.head,
        key=source.key,
    )
    facts = ClipFacts(round(reader.fps, 3), *size, frames, round(face_px, 1), round(told_px, 3), round(change, 2), note)
    return clip, facts


def _seconds(source: VideoSource, reader: VideoReader) -> float:
    """How long the source is: its own length, or what the file has left."""
    whole = reader.seconds or reader.frame_count / reader.fps
    rest = max(whole - source.start_s, 0.0)
    return min(source.seconds, rest) if source.seconds is not None else rest


def _view(source: VideoSource, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of what is looked at, whole pixels of a picture of ``size`` (width, height)."""
    if source.box is None:
        return 0, 0, *size
    left, top, right, bottom = np.multiply(source.box, (*size, *size))
    return round(left), round(top), max(round(left) + 1, round(right)), max(round(top) + 1, round(bottom))


# -- first pass -------------------------------------------------------------------------------------------------------------


def _track(reader: VideoReader, source: VideoSource, seconds: float) -> tuple[Array, Array, range | None]:
    """Landmarks [t, 478, 3] in pixels of the video, where a face was found [t], and which frames these are when there are cuts.

    Raises:
        NoFaceFound, UnusableClip: see :func:`prepare_clip`.
    """
    import cv2

    from triportrait.drivers import default_tracker
    from triportrait.face.tracker import MAX_ROLL_DEGREES, DetectedFace
    from triportrait.face.upright import turned_upright_in_clip

    tracker = default_tracker()
    watched = _Watched()

    def frames() -> Iterator[Array]:
        for index, frame in reader.frames(FPS, _TRACKED_SIDE_PX, source.start_s, seconds):
            left, top, right, bottom = _view(source, (frame.shape[1], frame.shape[0]))
            view = np.ascontiguousarray(frame[top:bottom, left:right])
            watched.sizes.append((frame.shape[1], frame.shape[0]))
            small = cv2.resize(view, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
            watched.thumbnails.append(small.astype(np.float32).mean(-1))
            if index % _SEARCH_EVERY == 0:
                faces = tracker.detect(view)
                watched.searched += 1
                # Upside down, a face may be seen in the turned frame alone.
                if watched.upright is None:
                    if turned_upright_in_clip(tracker, view, faces)[0]:
                        raise UnusableClip("E_TURNED", _TURNED)
                    watched.upright = True if faces else None
                watched.second_faces += len(faces) > 1 and faces[1].width_px >= _SECOND_FACE * faces[0].width_px
            yield view

    try:
        rows = list(tracker.track(frames()))
    except NoFaceFound:
        raise NoFaceFound("no frame shows a face") from None
    if len(rows) < _FEWEST_FRAMES:
        raise UnusableClip("E_TOO_SHORT", f"only {len(rows)} frames; at least {_FEWEST_FRAMES} are needed")
    if watched.second_faces > _WITH_SECOND * watched.searched:
        raise UnusableClip("E_TWO_FACES", f"more than one face in {watched.second_faces} of {watched.searched} frames that were searched")
    found = np.array([row[1] for row in rows])
    landmarks = np.stack([row[0] for row in rows]).astype(np.float64)
    if np.median([abs(DetectedFace(row).roll_degrees) for row in landmarks]) > MAX_ROLL_DEGREES:
        raise UnusableClip("E_TURNED", _TURNED)
    stretch = _uncut(landmarks, watched.thumbnails)
    if stretch is not None:
        if len(stretch) < _FEWEST_BETWEEN_CUTS:
            raise UnusableClip("E_CUT", f"cuts, or other people, leave {len(stretch)} frames; at least {_FEWEST_BETWEEN_CUTS} are needed")
        landmarks, found = landmarks[stretch.start : stretch.stop], found[stretch.start : stretch.stop]
    if found.mean() < _FOUND:
        raise NoFaceFound(f"a face in only {100 * found.mean():.0f} % of the frames; at least {100 * _FOUND:.0f} % are needed")
    width, height = watched.sizes[0]
    left, top, _, _ = _view(source, (width, height))
    grow_x, grow_y = reader.size[0] / width, reader.size[1] / height
    return (landmarks + (left, top, 0.0)) * (grow_x, grow_y, grow_x), found, stretch


def _uncut(landmarks: Array, thumbnails: list[Array]) -> range | None:
    """The longest stretch of frames between cuts, or None when there is no cut."""
    change = np.abs(np.diff(np.stack(thumbnails), axis=0)).mean((1, 2))
    extent = np.ptp(landmarks[..., :2], axis=1).max(1)
    centre = 0.5 * (landmarks[..., :2].min(1) + landmarks[..., :2].max(1))
    jump = np.linalg.norm(np.diff(centre, axis=0), axis=1) / np.minimum(extent[1:], extent[:-1])
    cuts = np.flatnonzero((change > max(_CUT_CHANGE, _CUT_TIMES * float(np.median(change)))) | (jump > _JUMP)) + 1
    if not len(cuts):
        return None
    edges = [0, *cuts.tolist(), len(landmarks)]
    return max((range(first, end) for first, end in zip(edges, edges[1:], strict=False)), key=len)


def _square(landmarks: Array, found: Array, view: tuple[int, int, int, int], settings: PrepareSettings) -> tuple[Box, float]:
    """(left, top, side) of the fixed square that holds the head in all frames, and the face's median size; pixels of the video."""
    shown = landmarks[found][..., :2]
    low, high = shown.min((0, 1)), shown.max((0, 1))
    face_px = float(np.median(np.ptp(shown, axis=1).max(1)))
    if face_px < _SMALLEST_FACE_PX:
        raise UnusableClip("E_SMALL_FACE", f"the face is only {face_px:.0f} px tall; at least {_SMALLEST_FACE_PX} are needed")
    left, top, right, bottom = view
    most = float(min(right - left, bottom - top))
    side = min(max(settings.face_widths * face_px, _MOVING_ROOM * float((high - low).max())), most)
    if (high - low).max() > side:
        raise UnusableClip("E_MOVES", "the face moves too far for one fixed square")
    centre = 0.5 * (low + high) + (0.0, 0.02 * face_px)
    x = float(np.clip(centre[0] - side / 2, left, right - side))
    y = float(np.clip(centre[1] - side / 2, top, bottom - side))
    return (x, y, side), face_px


def _fit(landmarks: Array, found: Array, size_px: int) -> tuple[LandmarkFitter, Person, Motion, float]:
    """Shape and motion of landmarks [t, 478, 3] in crop pixels, and their root mean square distance in 512-px pixels."""
    from triportrait.drivers import default_head
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.motion.smoothing import smooth_motion

    fitter = LandmarkFitter(default_head(), side_px=size_px)
    person = fitter.fit_person(landmarks[_person_rows(found)])[0]
    motion = smooth_motion(fitter.fit_motion(landmarks, person, FPS))
    fit_px = float(np.median(np.sqrt((fitter.residual_px(landmarks, person, motion) ** 2).mean(1))))
    _refuse_bad_fit(fit_px)
    return fitter, person, motion, fit_px


def _fit_own(name: str, landmarks: Array, found: Array, size_px: int) -> tuple[Array, Motion, float]:
    """The same in a user's head model: identity [i], motion, and distance."""
    from triportrait.motion.smoothing import smooth_motion
    from triportrait.real3d.head_models import fitter_of, load_user_head

    fitter = fitter_of(load_user_head(name), size_px, video=True)
    identity, _ = fitter.fit_person(landmarks[_person_rows(found)])
    motion = smooth_motion(fitter.fit_motion(landmarks, identity, FPS))
    fit_px = float(np.median(np.sqrt((fitter.residual_px(landmarks, motion) ** 2).mean(1))))
    _refuse_bad_fit(fit_px)
    return identity, motion, fit_px


def _person_rows(found: Array) -> Array:
    """Rows with a face from which the shape is estimated."""
    rows = np.flatnonzero(found)
    return rows[np.unique(np.linspace(0, len(rows) - 1, _PERSON_ROWS).astype(int))]


def _refuse_bad_fit(fit_px: float) -> None:
    if not fit_px < _WORST_FIT_PX:
        raise UnusableClip("E_FIT", f"the head model misses the landmarks by {fit_px:.1f} px; at most {_WORST_FIT_PX:g} are taken")


# -- second pass ------------------------------------------------------------------------------------------------------------


def _pictures(reader: VideoReader, source: VideoSource, seconds: float, box: Box, size_px: int) -> Iterator[Array]:
    """The square of every frame: uint8 [s, s, 3]."""
    from triportrait.geometry.crops import cut

    # Large videos shrink while they are converted; what is cut is never smaller than the crop.
    longest = max(reader.size)
    limit = math.ceil(longest * min(1.0, 1.5 * size_px / box[2]))
    for _, frame in reader.frames(FPS, limit, source.start_s, seconds):
        scale = frame.shape[1] / reader.size[0]
        side = min(box[2] * scale, float(min(frame.shape[:2])))
        left = min(box[0] * scale, frame.shape[1] - side)
        top = min(box[1] * frame.shape[0] / reader.size[1], frame.shape[0] - side)
        yield cut(frame, (left, top, side), size_px)


def _layers(
    pictures: Iterator[Array], landmarks: Array, motion: Motion, fitter: LandmarkFitter, person: Person
) -> tuple[dict[str, Array], float]:
    """Frames, head, torso and background, and how much the scene changes."""
    from triportrait.drivers import default_tracker
    from triportrait.face.layers import scene_colours
    from triportrait.face.mattes import head_cover, head_share, refine_matte
    from triportrait.face.portrait import inside_face, torso_layer

    tracker, head = default_tracker(), fitter.head
    shape, offset = head.shape(person.identity.astype(np.float32)), fitter.vertex_offset(person)
    frames, heads, torsos = [], [], []
    scene = _Scene(max(1, len(landmarks) // _BACKGROUND_FRAMES))
    # Both passes decode the same file in the same way; a file that changes meanwhile ends with the shorter of both.
    for index, (image, points) in enumerate(zip(pictures, landmarks, strict=False)):
        size = image.shape[0]
        row = motion[index]
        alpha = refine_matte(image, tracker.person_mask(image), inside_face(points, size))
        vertices = head.deform(shape, row.expression, row.gaze_rad) + offset
        cover = head_cover(head, vertices, row, size, FOCAL_IN_WIDTHS)
        share = head_share(cover, points)
        behind = scene_colours(image, alpha)
        torso = torso_layer(image, alpha, share, cover, head=head, vertices=vertices, frame=row, background=behind, landmarks=points)
        torsos.append(torso)
        frames.append(image)
        heads.append(np.round(255.0 * np.minimum(alpha, alpha * share)).astype(np.uint8))
        scene.see(index, image, alpha)
    background, change = scene.merged()
    layers = {"frames": np.stack(frames), "head_alpha": np.stack(heads), "torso": np.stack(torsos), "background": background}
    return layers, change


class _Scene:
    """The scene behind the person, gathered from every n-th frame: what no frame shows is painted in."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._total: Array | None = None
        self._first: Array | None = None

    def see(self, index: int, image: Array, alpha: Array) -> None:
        """Take what frame ``index`` shows beside the person."""
        from triportrait.face.layers import persons_pixels

        if index % self._every:
            return
        free = 1.0 - persons_pixels(image, alpha).astype(np.float32)[..., None]
        picture = image.astype(np.float32)
        if self._total is None:
            self._total, self._weight = np.zeros_like(picture), np.zeros_like(free)
            self._squares = np.zeros_like(picture)
        self._total += free * picture
        self._squares += free * picture**2
        self._weight += free

    def merged(self) -> tuple[Array, float]:
        """uint8 [s, s, 3], and the standard deviation over time of what several frames showed, 0 to 255."""
        from triportrait.face.layers import background_behind

        weight = np.maximum(self._weight, 1.0)
        mean = self._total / weight
        spread = np.sqrt(np.maximum(self._squares / weight - mean**2, 0.0)).mean(-1)
        often = self._weight[..., 0] > 1
        change = float(spread[often].mean()) if often.any() else 0.0
        unseen = (self._weight[..., 0] < 1).astype(np.float32)
        image = np.clip(mean + 0.5, 0, 255).astype(np.uint8)
        return (background_behind(image, unseen) if unseen.any() else image), change


# -- sound ------------------------------------------------------------------------------------------------------------------


def _sound(source: VideoSource, frames: int, settings: PrepareSettings, speech_of: SpeechRows) -> tuple[dict[str, Any], str]:
    """Speech features and pitch of the clip's ``frames``, and what is to be said about them.

    Raises:
        UnusableClip: there is no sound, and it is needed.
    """
    from triportrait.real3d.pitch import HOP, RATE_HZ, PitchTracker

    try:
        samples = _samples(source, round(frames / FPS * RATE_HZ), RATE_HZ)
    except (MediaError, EmptyMedia) as error:
        if settings.need_sound:
            raise UnusableClip("E_NO_SOUND", f"no usable sound ({error})") from None
        return {}, f"no usable sound: {error}"
    speech, rate_hz = speech_of(samples)
    per_frame = round(rate_hz / FPS)
    pitch = PitchTracker()
    pitch.push(samples)
    rows = np.repeat(pitch.finish(), round(rate_hz * HOP / RATE_HZ))
    return {"speech": _of_length(speech, frames * per_frame).astype(np.float16), "pitch_hz": _of_length(rows, frames * per_frame)}, ""


def _speech(samples: Array, settings: PrepareSettings) -> tuple[Array, float]:
    """Feature rows [n, f] and how many there are per second."""
    if settings.hubert is None:
        from triportrait.motion.speech_features import LogMel

        extractor: Any = LogMel()
    else:
        from triportrait.real3d.hubert import HubertFeatures, Level

        extractor = HubertFeatures(_hubert(settings.hubert), Level.of([samples]))
    return np.concatenate([extractor.push(samples), extractor.finish()]), extractor.rate_hz


@lru_cache(maxsize=1)
def _hubert(folder: str) -> Any:
    from triportrait.real3d.hubert import load_hubert

    return load_hubert(folder)


def _samples(source: VideoSource, count: int, rate_hz: int) -> Array:
    """The clip's own ``count`` samples; silence where the sound is shorter than the pictures."""
    from triportrait.media.audio import stream_audio

    skip = round(source.start_s * rate_hz)
    blocks, seen = [], 0
    for block in stream_audio(source.sound or source.path, rate_hz):
        if seen + len(block) > skip:
            blocks.append(block[max(0, skip - seen) : skip + count - seen])
        seen += len(block)
        if seen >= skip + count:
            break
    if not blocks:
        raise EmptyMedia("the sound ends before the clip starts")
    return _of_length(np.concatenate(blocks), count)


def _of_length(rows: Array, count: int) -> Array:
    """Cut to ``count`` rows, or filled with zeros."""
    if len(rows) >= count:
        return rows[:count]
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
