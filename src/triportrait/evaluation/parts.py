"""What an evaluation borrows from the rest of the package, as small functions that tests can replace."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triportrait import drivers
from triportrait.errors import NoFaceFound
from triportrait.motion import options as motion_options
from triportrait.types import Array, FaceTrack, HeadModel, Motion, MotionFrame, PreparedPortrait, Waveform

if TYPE_CHECKING:
    from triportrait.face.open_head import OpenHead
    from triportrait.face.tracker import FaceTracker

log = logging.getLogger(__name__)

Renderer = Callable[[MotionFrame], Array]

#: Clips of other rates are read at this one, so that "every 5th frame" and jitter mean the same everywhere.
EVALUATED_FPS = 25.0


@dataclass(frozen=True, slots=True)
class ReenactTools:
    """The parts of the pipeline that the protocol calls.

    Args:
        read_frames: video file -> (frames per second, frames uint8 RGB [h, w, 3] one by one).
        prepare_portrait: first frame uint8 RGB -> PreparedPortrait.
        drive: (portrait, all frames one by one, frames per second) -> Motion with one row per frame, with
            ``landmarks`` in the portrait's crop pixels.
        make_renderer: (avatar's name, portrait) -> a function from a motion row to the finished crop, uint8 [s, s, 3].
        track: pictures of one face, each on its own -> FaceTrack (no smoothing over time: it measures jitter).
        crop: (picture, crop box, side) -> the square crop, as ``prepare_portrait`` cut it.
        fit: (portrait, landmarks [t, 478, 2] in its crop's pixels) -> Motion of the portrait's person, for AED and APD;
            None leaves them out.
        person_mask: picture -> how surely each pixel belongs to a person, [h, w] in 0..1; None leaves the error by region out.
    """

    read_frames: Callable[[Path], tuple[float, Iterator[Array]]]
    prepare_portrait: Callable[[Array], PreparedPortrait]
    drive: Callable[[PreparedPortrait, Iterable[Array], float], Motion]
    make_renderer: Callable[[str, PreparedPortrait], Renderer]
    track: Callable[[Iterable[Array]], FaceTrack]
    crop: Callable[[Array, tuple[float, float, float], int], Array]
    fit: Callable[[PreparedPortrait, Array], Motion] | None = None
    person_mask: Callable[[Array], Array] | None = None


@dataclass(frozen=True, slots=True)
class ActingTools:
    """What the audio-driven and the cross-identity protocols call besides.

    Args:
        base: the parts shared with the same-identity protocol.
        talk: (portrait, file with a voice, ``"natural"`` or ``"still"``, seed) -> Motion at 25 rows per second.
        clip_motion: video file -> Motion of whoever is in it, in that person's own shape.
        follow: (portrait, Motion of somebody) -> that motion on the portrait, in its pose frame.
        with_landmarks: (portrait, Motion) -> the same with ``landmarks`` in the portrait's crop, for the 2-D baselines.
        track_video: pictures of one face in order -> FaceTrack; without any face, one in which nothing is found.
        read_voice: file -> its sound at 16 kHz.
        lend: (portrait, Motion of a voice, Motion of a clip) -> the voice's with the clip's head motion.
        speak: (avatar's name, portrait, file with a voice, Motion whose head pose is to be taken, seed) -> finished crops of an avatar
            that turns voices into motion itself; None for others.
        curve_sync: (motion of a made video, sound) -> (cosine, confidence, lag in frames), or None.
    """

    base: ReenactTools
    talk: Callable[[PreparedPortrait, Path, str, int], Motion]
    clip_motion: Callable[[Path], Motion]
    follow: Callable[[PreparedPortrait, Motion], Motion]
    with_landmarks: Callable[[PreparedPortrait, Motion], Motion]
    track_video: Callable[[Iterable[Array]], FaceTrack]
    read_voice: Callable[[Path], Waveform]
    lend: Callable[[PreparedPortrait, Motion, Motion], Motion]
    speak: Callable[[str, PreparedPortrait, Path, Motion, int], Iterator[Array] | None]
    curve_sync: Callable[[Motion, Waveform], tuple[float, float, float]] | None = None


def track_each(tracker: FaceTracker, frames: Iterable[Array]) -> FaceTrack:
    """The largest face of every picture on its own, without memory of the one before: jitter stays what it is."""
    rows: list[Array] = []
    found: list[bool] = []
    size = (1, 1)
    for frame in frames:
        size = (frame.shape[1], frame.shape[0])
        faces = tracker.detect(frame)
        found.append(bool(faces))
        last = rows[-1] if rows else np.zeros((478, 3), np.float32)
        rows.append(faces[0].landmarks if faces else last)
    return FaceTrack(np.stack(rows), np.array(found), size)


def track_through(tracker: FaceTracker, frames: Iterable[Array]) -> FaceTrack:
    """One face through a video; where none is found in any picture, zeros that count as not found."""
    from triportrait.face.tracker import track_clip

    count, size = 0, (1, 1)

    def counted() -> Iterator[Array]:
        nonlocal count, size
        for frame in frames:
            count, size = count + 1, (frame.shape[1], frame.shape[0])
            yield frame

    try:
        return track_clip(tracker, counted(), EVALUATED_FPS)
    except NoFaceFound:
        return FaceTrack(np.zeros((count, 478, 3), np.float32), np.zeros(count, bool), size, EVALUATED_FPS)


def baseline_renderer(name: str, portrait: PreparedPortrait, head_model: HeadModel) -> Renderer:
    """The finished crops of a baseline, whose head layer is already the whole picture."""
    from triportrait.evaluation.baselines import make_baseline

    avatar = make_baseline(name, head_model)
    state = avatar.prepare(portrait)
    return lambda frame: np.round(avatar.render(state, frame).rgb * 255.0).astype(np.uint8)


def landmarks_of_motion(portrait: PreparedPortrait, motion: Motion, head_model: OpenHead) -> Motion:
    """``motion`` with landmarks: the photo's own, moved as the portrait's fitted head moves -> in pixels of its crop.

    So the 2-D baselines can be driven by a voice or by another person without copying a face shape.
    """
    from triportrait.face.portrait import moved_landmarks

    moved = moved_landmarks(portrait, head_model)
    return motion.with_rows(landmarks=np.stack([moved(frame) for frame in motion]).astype(np.float32))


def default_acting_tools() -> ActingTools:
    """As :func:`default_tools`, with the pipeline's voice driver and retargeting."""
    from triportrait import pipeline
    from triportrait.evaluation.baselines import BASELINE_NAMES
    from triportrait.media.audio import read_audio
    from triportrait.motion.retarget import with_clip_pose
    from triportrait.motion.timing import resample
    from triportrait.real3d.on_open_head import PaperOnOpenHead

    head = drivers.default_head()

    def talk(portrait: PreparedPortrait, voice: Path, pose: str, seed: int) -> Motion:
        options = motion_options.DriveOptions(pose=pose, seed=seed)
        return pipeline.Portrait(portrait).talk(voice, options).motion()

    def follow(portrait: PreparedPortrait, motion: Motion) -> Motion:
        return pipeline.Portrait(portrait).perform(motion).motion()

    def clip_motion(path: Path) -> Motion:
        return resample(drivers.motion_of_file("--head-motion", str(path), None), EVALUATED_FPS)

    def lend(portrait: PreparedPortrait, voice: Motion, clip: Motion) -> Motion:
        pose = drivers.BorrowedPose(lambda row: clip).on(portrait.motion)
        return with_clip_pose(voice, pose, eye_contact=motion_options.DriveOptions().eye_contact)

    def speak(name: str, portrait: PreparedPortrait, voice: Path, asked: Motion, seed: int) -> Iterator[Array] | None:
        model = None if name in BASELINE_NAMES else pipeline.make_model(name)
        if not isinstance(model, PaperOnOpenHead):
            return None
        if not model.speaks:
            log.warning("%s has no audio-to-motion network or no HuBERT at hand; its lips follow ours", name)
            return None
        return model.spoken(model.prepare(portrait), voice, asked, seed)

    return ActingTools(
        default_tools(),
        talk,
        clip_motion,
        follow,
        lambda portrait, motion: landmarks_of_motion(portrait, motion, head),
        partial(track_through, drivers.default_tracker()),
        read_audio,
        lend,
        speak,
        _curve_sync(),
    )


def _curve_sync() -> Callable[[Motion, Waveform], tuple[float, float, float]] | None:
    """Our curve expert's score, or None where this version comes without its weights."""
    from triportrait.errors import WeightsError

    try:
        from triportrait.motion.sync_expert import load_sync_expert, sync_score

        load_sync_expert()
    except (ImportError, WeightsError):
        return None

    def score(motion: Motion, voice: Waveform) -> tuple[float, float, float]:
        found = sync_score(motion, voice)
        return found.similarity, found.confidence, float(found.lag_frames)

    return score


def default_tools() -> ReenactTools:
    """The protocol's parts as the package has them: the pipeline, and the baselines of their own."""
    from triportrait import pipeline
    from triportrait.evaluation.baselines import BASELINE_NAMES
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.face.mesh_tracker import MeshTracker
    from triportrait.face.open_head import OpenHead
    from triportrait.face.portrait import person_of
    from triportrait.geometry.crops import cut
    from triportrait.media.video import VideoReader
    from triportrait.reenactment import motion_of_frames

    tracker = MeshTracker()

    def read_frames(path: Path) -> tuple[float, Iterator[Array]]:
        reader = VideoReader(path)
        return EVALUATED_FPS, (frame for _, frame in reader.frames(EVALUATED_FPS))

    def make_renderer(name: str, portrait: PreparedPortrait) -> Renderer:
        if name in BASELINE_NAMES:
            return baseline_renderer(name, portrait, OpenHead.embedded())
        return pipeline.make_renderer(name, portrait)

    def fit(portrait: PreparedPortrait, landmarks: Array) -> Motion:
        head = drivers.default_head()
        fitter = LandmarkFitter(head, side_px=len(portrait.image))
        return fitter.fit_motion(landmarks, person_of(portrait, head), EVALUATED_FPS)

    track = partial(track_each, tracker)
    return ReenactTools(read_frames, pipeline.prepare, motion_of_frames, make_renderer, track, cut, fit, tracker.person_mask)
