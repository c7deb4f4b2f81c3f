"""``triportrait data mouths``: windows of drawn mouths and what they should look like, for ``train mouth_painter``.

Two kinds. *Cycles*: a photograph is animated to another expression and pose; the animated picture is the source, and driving it back
gives a drawn mouth whose truth is the photograph itself. *Pairs*: two frames of a real clip. Windows hold pieces of the photographs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from triportrait import drivers, pipeline
from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.mouth.painter import PhotoMouth, cut_window, mouth_channels, mouth_window
from triportrait.errors import EmptyMedia, OptionError, OutputError, TriPortraitError
from triportrait.files import atomic_file, refuse_inputs
from triportrait.geometry.crops import cut
from triportrait.geometry.landmarks import LOWER_LIP_INSIDE, UPPER_LIP_INSIDE
from triportrait.media.images import read_image
from triportrait.media.portrait_folders import portraits_of
from triportrait.media.video import VideoReader
from triportrait.reenactment import motion_of_frames
from triportrait.training.data.pairs import clips_of_folder
from triportrait.training.data.views import Packed
from triportrait.training.options import MouthsOptions, Progress
from triportrait.types import Array, MotionFrame, PreparedPortrait

log = logging.getLogger(__name__)

#: One clip in nine is held out, so that no frame of it is on both sides.
_HELD_OUT_EVERY, _HELD_OUT = 9, 4
#: What is made so far is written after so many photographs and clips.
_SAVE_EVERY = 100
#: Lips further apart than this (decimetres) are an open mouth.
_OPEN_DM = 0.035
#: Curves that a cycle may raise, and how far.
_MOVES = {
    "jawOpen": 0.45,
    "mouthFunnel": 0.5,
    "mouthPucker": 0.5,
    "mouthSmileLeft": 0.7,
    "mouthUpperUpLeft": 0.5,
    "mouthLowerDownLeft": 0.6,
    "mouthStretchLeft": 0.4,
}


def pack_mouths(options: MouthsOptions, out: Path, progress: Progress | None = None) -> Packed:
    """Make windows of portraits, of clips, or of both. What cannot be used is reported and left out.

    Args:
        options: see there.
        out: file to write, ending in .npz.
        progress: called after every portrait or clip.

    Raises:
        EmptyMedia: nothing could be made.
        MediaError: a folder cannot be read.
        OptionError: neither is named.
        OutputError: the file cannot be written.
    """
    if options.portraits is None and options.pairs is None:
        raise OptionError("there are no mouths to take; name --portraits, --pairs or both")
    refuse_inputs(out, [options.portraits, options.pairs])
    if out.suffix != ".npz":
        raise OutputError(f"'{out}' is no name for windows; let it end in .npz")
    random = np.random.default_rng(options.seed)
    avatar = LiftedAvatar(drivers.default_head())
    photos = portraits_of(options.portraits, options.split, colour=True) if options.portraits is not None else []
    photos = [photos[i] for i in random.permutation(len(photos))[: options.limit]]
    clips = clips_of_folder(options.pairs) if options.pairs is not None else []
    clips = [clip for i, clip in enumerate(clips) if (i % _HELD_OUT_EVERY == _HELD_OUT) == (options.split == "val")]
    windows: list[Array] = []
    real: list[bool] = []
    left_out = 0
    for done, path in enumerate([*clips, *photos], 1):
        is_clip = done <= len(clips)
        try:
            if is_clip:
                found = clip_windows(path, avatar, random, options.per_clip)
            else:
                found = portrait_windows(path, avatar, random, options.closed)
        except TriPortraitError as error:
            log.warning("%s left out: %s", path.name, error)
            left_out += 1
            found = []
        windows += found
        real += [is_clip] * len(found)
        if windows and done % _SAVE_EVERY == 0:
            write_windows(out, windows, real)
        if progress is not None:
            progress("mouths", done, len(clips) + len(photos))
    if not windows:
        raise EmptyMedia("no window was made: none of the portraits and clips can be used; give other ones")
    write_windows(out, windows, real)
    return Packed(len(windows), left_out)


def write_windows(path: Path, windows: Sequence[Array], real: Sequence[bool]) -> None:
    """Windows uint8 [112, 144, 15] each, and which are of real pairs, as one file; ``oneshot.mouth_painter.read_windows`` reads it.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with atomic_file(path) as part, part.open("wb") as file:
            np.savez_compressed(file, windows=np.stack(windows), real=np.array(real, np.uint8))
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}; choose another place") from None


def window_of(avatar: LiftedAvatar, state: Any, portrait: PreparedPortrait, frame: MotionFrame, truth: Array) -> Array:
    """Channels of the drawn mouth and the true colours: uint8 [112, 144, 15]."""
    drawn = avatar.draw(state, frame)
    window = mouth_window(drawn.landmarks, portrait, frame)
    channels = mouth_channels(drawn.rgb, drawn.surface, drawn.landmarks, window, PhotoMouth.of(portrait))
    return np.round(np.concatenate([255 * channels, cut_window(truth, window)], -1)).clip(0, 255).astype(np.uint8)


def other_motion(portrait: PreparedPortrait, names: Sequence[str], is_open: bool, random: np.random.Generator) -> MotionFrame:
    """Another expression of the mouth, and a small turn."""
    expression = portrait.motion.expression.copy()
    mouth = [i for i, name in enumerate(names) if name.startswith(("mouth", "jaw"))]
    expression[mouth] *= random.uniform(0.0, 0.4)
    if not is_open or random.random() < 0.4:
        for name, most in _MOVES.items():
            if random.random() < 0.5:
                amount = random.uniform(0, most)
                expression[names.index(name)] = amount
                if name.endswith("Left"):
                    expression[names.index(name[:-4] + "Right")] = amount * random.uniform(0.8, 1.2)
    turn = np.radians(random.normal(0, (4, 7, 2)).clip(-12, 12)).astype(np.float32)
    return replace(portrait.motion, expression=expression, rotation_rad=portrait.motion.rotation_rad + turn, landmarks=None)


def portrait_windows(path: Path, avatar: LiftedAvatar, random: np.random.Generator, closed_share: float) -> list[Array]:
    """Windows of one photograph."""
    head = avatar.head
    portrait = pipeline.prepare(read_image(path))
    landmarks = head.landmarks478(head.deform(head.shape(portrait.identity) + portrait.vertex_offset, portrait.motion.expression))
    is_open = float(np.linalg.norm(landmarks[UPPER_LIP_INSIDE] - landmarks[LOWER_LIP_INSIDE])) > _OPEN_DM
    if not is_open and random.random() > closed_share:
        return []
    model = pipeline.make_model("lifted")
    state = model.prepare(portrait)
    result = []
    for _ in range(2 if is_open else 1):
        picture = model.step(state, other_motion(portrait, head.expression_names, is_open, random))[0]
        source = pipeline.prepare(picture)
        motion = motion_of_frames(source, [portrait.image])
        result.append(window_of(avatar, avatar.prepare(source), source, motion[0], cut(portrait.image, source.crop_box, len(source.image))))
    return result


def clip_windows(path: Path, avatar: LiftedAvatar, random: np.random.Generator, count: int) -> list[Array]:
    """Windows of one clip: a random frame as the source, others as truths."""
    with VideoReader(path) as reader:
        frames = [frame for _, frame in reader.frames(25.0)]
    source = pipeline.prepare(frames[int(random.integers(len(frames)))])
    state = avatar.prepare(source)
    motion = motion_of_frames(source, frames)
    chosen = random.permutation(len(frames))[:count]
    return [window_of(avatar, state, source, motion[int(i)], cut(frames[int(i)], source.crop_box, len(source.image))) for i in chosen]
