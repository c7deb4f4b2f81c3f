"""``triportrait data manner``: clips of people who speak, filmed, captured or synthetic, for ``train erlnet.manner``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from triportrait import drivers
from triportrait.erlnet.hearing import heard_rows
from triportrait.erlnet.parts import motion_rows
from triportrait.errors import EmptyMedia, MediaError, OptionError, OutputError, TriPortraitError
from triportrait.face.fitting import LandmarkFitter
from triportrait.files import refuse_inputs
from triportrait.media.audio import read_audio
from triportrait.motion.audio import AudioDriver, AudioSettings
from triportrait.motion.audio_network import load_model
from triportrait.motion.lips import close_lips
from triportrait.motion.manner import MEASURES, Manner, manner_code
from triportrait.motion.smoothing import smooth_motion
from triportrait.motion.speech_features import RATE_HZ
from triportrait.motion.style import SpeakingStyle
from triportrait.training.data.views import Packed
from triportrait.training.erlnet.clips import MannerClip, is_held_out, write_manner_clips
from triportrait.training.options import MannerOptions, Progress
from triportrait.training.voice.capture import CONTROL_MAP, load_captured
from triportrait.training.voice.lip_tracks import lip_opening_of, load_speech_av
from triportrait.types import ARKIT_EXPRESSIONS, Array, FaceTrack, Motion, Waveform

log = logging.getLogger(__name__)

_VIDEO_ENDINGS = (".mp4", ".mov", ".webm", ".mkv")
_SOUND_ENDINGS = (".flac", ".wav", ".mp3", ".ogg", ".m4a")
#: Clips of a filmed person from which the person's shape is fitted, and side of the square that landmarks are brought into.
_SHAPE_CLIPS, _SQUARE_PX = 12, 512.0
#: Utterances that a synthetic person speaks.
_UTTERANCES = 5


def pack_manners(options: MannerOptions, out: Path, progress: Progress | None = None) -> Packed:
    """Make clips of all sources that are named. Videos and sounds that cannot be used are reported and left out.

    Args:
        options: see there.
        out: file to write, ending in .npz.
        progress: called after every clip.

    Raises:
        EmptyMedia: nothing could be made.
        MediaError: a folder cannot be read.
        OptionError: no source is named.
        OutputError: the file cannot be written.
    """
    named = (*options.videos, *options.voices, options.tracked, options.captured)
    if not any(named):
        raise OptionError("there is nobody to learn a manner from; name --videos, --tracked, --captured or --voices")
    if out.suffix != ".npz":
        raise OutputError(f"'{out}' is no name for packed clips; let it end in .npz")
    refuse_inputs(out, named)
    tell = progress or (lambda what, done, total: None)
    clips: list[MannerClip] = []
    left_out = 0
    for source in _sources(options, tell):
        if source is None:
            left_out += 1
        else:
            clips.append(source)
    write_manner_clips(out, clips)
    return Packed(len(clips), left_out)


def _sources(options: MannerOptions, tell: Progress) -> Iterator[MannerClip | None]:
    for folder in options.videos:
        yield from _filmed(folder, tell)
    if options.tracked is not None:
        yield from _tracked(options.tracked, tell)
    if options.captured is not None:
        yield from _captured(options.captured, options, tell)
    if options.voices:
        yield from _synthetic(options, tell)


def _files(folder: Path, endings: tuple[str, ...], what: str) -> list[Path]:
    if not folder.is_dir():
        raise MediaError(f"there is no folder '{folder}'; check the path")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings)
    if not found:
        raise EmptyMedia(f"there is no {what} in '{folder}'; give a folder of {what}s")
    return found


def _filmed(folder: Path, tell: Progress) -> Iterator[MannerClip | None]:
    """Videos; those of one subfolder show one person."""
    videos = _files(folder, _VIDEO_ENDINGS, "video")
    for index, path in enumerate(videos):
        try:
            rows = motion_rows(drivers.motion_of_video(path, can_choose=False))
            person = path.stem if path.parent == folder else path.parent.name
            yield MannerClip(*_of_one_length(rows, _heard_in(path)), person, "filmed", is_held_out(index))
        except TriPortraitError as error:
            log.warning("%s left out: %s", path.name, error)
            yield None
        tell("videos", index + 1, len(videos))


def _heard_in(path: Path) -> Array | None:
    """What is heard in a video; None where it is silent."""
    try:
        return heard_rows(read_audio(path, RATE_HZ).samples)
    except EmptyMedia:
        return None
    except MediaError as error:
        log.info("%s is learned from without its sound: %s", path.name, error)
        return None


def _of_one_length(motion: Array, heard: Array | None) -> tuple[Array, Array | None]:
    if heard is None:
        return motion, None
    count = min(len(motion), len(heard))
    return motion[:count], heard[:count]


def _tracked(folder: Path, tell: Progress) -> Iterator[MannerClip]:
    """A folder of ``speech_av``'s layout: one filmed speaker as landmarks, and the sound."""
    tracks = load_speech_av(folder)
    fitter = LandmarkFitter(drivers.default_head(), side_px=_SQUARE_PX)
    names = list(tracks)
    squares = {name: _in_square(track) for name, (_, track) in tracks.items()}
    spread = np.concatenate([squares[name][::25] for name in names[:: max(1, len(names) // _SHAPE_CLIPS)]])
    person = fitter.fit_person(spread)[0]
    for index, name in enumerate(names):
        split, track = tracks[name]
        motion = smooth_motion(fitter.fit_motion(squares[name], person))
        # Inner lips that touch in the picture touch in the curves.
        contact = np.clip((0.013 - lip_opening_of(track)) / 0.008, 0.0, 1.0)
        motion = motion.with_rows(expression=close_lips(motion.expression, ARKIT_EXPRESSIONS, contact, jaw_share=0.0))
        heard = heard_rows(read_audio(folder / "audio" / f"{name}.flac", RATE_HZ).samples)
        yield MannerClip(*_of_one_length(motion_rows(motion), heard), folder.name, "filmed", split == "val")
        tell("tracked clips", index + 1, len(names))


def _in_square(track: FaceTrack) -> Array:
    """Landmarks [t, 478, 2] in a square of 512 px round the face."""
    points = track.landmarks[..., :2]
    low, high = points.min((0, 1)), points.max((0, 1))
    side = 1.8 * float((high - low).max())
    return (points - (0.5 * (low + high) - 0.5 * side)) * (_SQUARE_PX / side)


def _captured(folder: Path, options: MannerOptions, tell: Progress) -> Iterator[MannerClip]:
    """Captured lips; what the capture does not move is our natural motion's."""
    held_out = options.captured_held_out or sorted(path.stem for path in folder.glob("*.npz"))[-1]
    pieces = load_captured(folder, load_model(), held_out)
    lips = [ARKIT_EXPRESSIONS.index(name) for name in (*CONTROL_MAP, "mouthClose")]
    for index, (split, piece) in enumerate(pieces):
        samples = piece.samples.astype(np.float32) / 32768.0
        natural = AudioDriver(Waveform(samples, RATE_HZ), AudioSettings(seed=index)).motion()
        count = min(len(natural), len(piece.targets.expression))
        expression = natural.expression[:count].copy()
        expression[:, lips] = piece.targets.expression[:count, lips]
        motion = motion_rows(natural.rows(slice(0, count)).with_rows(expression=expression))
        yield MannerClip(*_of_one_length(motion, heard_rows(samples)), folder.name, "captured", split.endswith("test"))
        tell("captured clips", index + 1, len(pieces))


# -- synthetic people -------------------------------------------------------------------------------------------------------


def drawn_style(random: np.random.Generator, middle: Array) -> SpeakingStyle:
    """A manner of speaking by chance: factors on natural motion, and spreads about those of ``middle``, a code [32] of natural motion."""
    code = middle.astype(np.float64)
    head, brows, lips = random.normal(0.0, (0.5, 0.5, 0.25))

    def move(name: str, by: float) -> None:
        code[MEASURES.index(name)] += by

    for axis in ("pitch", "yaw", "roll"):
        move(f"{axis}_spread", head + random.normal(0.0, 0.3))
    move("brow_spread", brows)
    move("lip_spread", lips)
    levels = {"mouthSmile": 0.3, "mouthStretch": 0.12, "mouthFrown": 0.12, "mouthPress": 0.12}
    for name, most in levels.items():
        code[MEASURES.index(f"{name}_level")] = most * random.beta(1.0, 2.0)
    return SpeakingStyle(
        head_rate=float(np.exp(random.normal(0.0, 0.3))),
        blink_rate=float(np.exp(random.normal(0.0, 0.5))),
        gaze_gain=float(np.exp(random.normal(0.0, 0.35))),
        eye_contact=float(random.uniform(0.4, 1.1)),
        manner=Manner(tuple(code.tolist())),
    )


def _synthetic(options: MannerOptions, tell: Progress) -> Iterator[MannerClip | None]:
    """People by chance, who say some of the recordings each in a manner of their own; one of ten is held out."""
    paths = [path for folder in options.voices for path in _files(folder, _SOUND_ENDINGS, "recording")]
    random = np.random.default_rng(options.seed)
    sounds: dict[Path, tuple[Array, Array]] = {}
    middle: Array | None = None
    for person in range(options.people):
        chosen = [paths[i] for i in random.permutation(len(paths))[:_UTTERANCES]]
        seeds = random.integers(1 << 31, size=len(chosen))
        drawn: SpeakingStyle | None = None
        for path, seed in zip(chosen, seeds.tolist(), strict=True):
            if path not in sounds:
                samples = read_audio(path, RATE_HZ).samples
                sounds[path] = samples, heard_rows(samples)
            samples, heard = sounds[path]
            if middle is None:
                middle = manner_code(_spoken(samples, 0, None))
            drawn = drawn or drawn_style(random, middle)
            motion = motion_rows(_spoken(samples, seed, drawn))
            yield MannerClip(*_of_one_length(motion, heard), f"synthetic_{options.seed}_{person}", "synthetic", is_held_out(person))
        tell("synthetic people", person + 1, options.people)


def _spoken(samples: Array, seed: int, style: SpeakingStyle | None) -> Motion:
    return AudioDriver(Waveform(samples, RATE_HZ), replace(AudioSettings(seed=seed), style=style)).motion()
