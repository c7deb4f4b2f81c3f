"""What drives a portrait: motion of voices, of driving videos and of motion files; the tracker and the head that measure it."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from triportrait.concurrency import built_once
from triportrait.errors import EmptyMedia, OptionError
from triportrait.motion.files import READ_ENDINGS
from triportrait.motion.options import DriveOptions
from triportrait.motion.voice_controls import BLINKS_PER_MINUTE
from triportrait.types import FPS, Array, Motion, MotionFrame, PathLike, PreparedPortrait, Waveform

if TYPE_CHECKING:
    from triportrait.face.fitting import LandmarkFitter
    from triportrait.face.following import FollowedFace
    from triportrait.face.open_head import OpenHead
    from triportrait.face.tracker import FaceTracker
    from triportrait.motion.audio import AudioSettings
    from triportrait.motion.shots import Shot

log = logging.getLogger(__name__)

#: Frames of a driving clip from which the driver's own shape is estimated.
_PERSON_FRAMES = 200
_PERSON_ROWS = 10
#: Rows fitted at a time; landmarks of a long clip are not kept.
_FIT_ROWS = 256
_VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
ROWS = ("expression", "rotation_rad", "translation", "gaze_rad")


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
        raise EmptyMedia(NOTHING)
    return parts[0].with_rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in ROWS}, landmarks=None)


def read_motion(path: PathLike) -> Motion:
    """A motion file of ours.

    Raises:
        MediaError: missing, a folder, or unreadable.
        MotionFileError: no motion file, or damaged.
    """
    from triportrait.files import check_readable
    from triportrait.motion.files import load_motion

    check_readable(path)
    return load_motion(path)


def motion_of_audio(path: PathLike, settings: AudioSettings | None = None) -> Iterator[Motion]:
    """Motion chunks of a voice, starting at rest; memory does not grow with its length."""
    from triportrait.media.audio import stream_voice
    from triportrait.motion.audio import AudioDriver

    blocks = (Waveform(block, 16_000) for block in stream_voice(path, 16_000, 1.0))
    return AudioDriver(blocks, settings).chunks()


NOTHING = "there is nothing to show: the voice or motion is shorter than one frame; give a longer one"
#: Called with what is being done, how many are done and how many there are (0 = not known).
Progress = Callable[[str, int, int], None]


def voice_settings(options: DriveOptions, progress: Progress | None = None) -> AudioSettings:
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
        style = style_of(motion_of_file("--style", os.fspath(style), progress))
    if curves is not None and not isinstance(curves, ControlCurves):
        curves = load_controls(curves)
    return AudioSettings(controls=controls, seed=options.seed, style=style, curves=curves)


#: What an option that names a file can be.
_FILE_OPTIONS = {
    "--style": "give a video or motion file that exists",
    "--pose": "use driving, still, natural, or a video or motion file that exists",
    "--head-motion": "use a number, a video or motion file that exists, or a folder of them",
}


def check_option_files(options: DriveOptions) -> None:
    """Look at every file that these options name, for what would end a performance minutes later.

    Raises:
        OptionError, MediaError, MotionFileError: one is missing, unreadable, or of another kind.
    """
    from triportrait.motion.files import load_controls
    from triportrait.motion.style import style_of

    if isinstance(options.style, str | os.PathLike):
        measured = _check_motion_source("--style", os.fspath(options.style))
        if measured is not None:
            style_of(measured)
    if isinstance(options.controls, str | os.PathLike):
        load_controls(options.controls)
    pose = options.pose_source
    if pose not in ("driving", "still", "natural"):
        option = "--pose" if options.pose == pose else "--head-motion"
        for path in pose_library(option, pose) if os.path.isdir(pose) else [pose]:
            _check_motion_source(option, os.fspath(path))


def _check_motion_source(option: str, path: str) -> Motion | None:
    """Raise what :func:`motion_of_file` would raise of a file that is missing, unreadable or of another kind.

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


def pose_library(option: str, folder: str) -> list[Path]:
    try:
        library = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in (*READ_ENDINGS, *_VIDEO_ENDINGS))
    except OSError as error:
        raise OptionError(f"{option}: the folder {folder!r} cannot be read ({error.strerror}); change its rights") from None
    if not library:
        raise OptionError(f"{option}: the folder {folder!r} holds no video and no motion file; add some, or name one")
    return library


def motion_of_file(option: str, path: str, progress: Progress | None, face: int | None = None) -> Motion:
    """A motion file, or the motion of the person in a video."""
    if not os.path.lexists(path):
        raise OptionError(f"{option} is {path!r}; {_FILE_OPTIONS[option]}")
    return read_motion(path) if Path(path).suffix.lower() in READ_ENDINGS else motion_of_video(path, FPS, progress, face)


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


def _counted(frames: Iterable[Array], progress: Progress | None, what: str, total: int) -> Iterator[Array]:
    for index, frame in enumerate(frames):
        yield frame
        if progress:
            progress(what, index + 1, total)
