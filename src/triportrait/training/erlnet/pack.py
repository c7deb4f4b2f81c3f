"""``triportrait data manner``: clips of people who speak, filmed, captured or synthetic, for ``train erlnet.manner``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np

from triportrait import drivers
from triportrait.erlnet.hearing import heard_rows
from triportrait.erlnet.parts import motion_rows
from triportrait.errors import EmptyMedia, MediaError, OptionError, OutputError, TriPortraitError
from triportrait.face.fitting import LandmarkFitter, Person
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


@dataclass(frozen=True, slots=True)
class _Source:
    """One file to make.

    Args:
        name: of the file, without ending.
        kind: for the progress.
        make: its clips.
    """

    name: str
    kind: str
    make: Callable[[], list[MannerClip]]


def pack_manners(options: MannerOptions, out: Path, progress: Progress | None = None) -> Packed:
    """Make clips of all sources that are named, a file each; those that are there are kept. What cannot be used is reported and left out.

    Args:
        options: see there.
        out: folder to write.
        progress: called after every source.

    Raises:
        EmptyMedia: nothing could be made.
        MediaError: a folder cannot be read.
        OptionError: no source is named.
        OutputError: the folder cannot be written.
    """
    named = (*options.videos, *options.voices, options.tracked, options.captured)
    if not any(named):
        raise OptionError("there is nobody to learn a manner from; name --videos, --tracked, --captured or --voices")
    refuse_inputs(out, named)
    sources = [*_filmed(options.videos), *_tracked(options.tracked), *_captured(options), *_synthetic(options)]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"'{out}' cannot be written: {error.strerror or error}; choose another folder") from None
    left_out = 0
    for done, source in enumerate(sources, 1):
        path = out / f"{source.name}.npz"
        if not path.exists():
            try:
                write_manner_clips(path, source.make())
            except OutputError:
                raise
            except TriPortraitError as error:
                log.warning("%s left out: %s", source.name, error)
                left_out += 1
        if progress is not None:
            progress(source.kind, done, len(sources))
    if left_out == len(sources):
        raise EmptyMedia("no clip was made: none of the sources can be used; give other ones")
    return Packed(len(sources) - left_out, left_out)


def _files(folder: Path, endings: tuple[str, ...], what: str) -> list[Path]:
    if not folder.is_dir():
        raise MediaError(f"there is no folder '{folder}'; check the path")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings)
    if not found:
        raise EmptyMedia(f"there is no {what} in '{folder}'; give a folder of {what}s")
    return found


def _filmed(folders: Sequence[Path]) -> Iterator[_Source]:
    """Videos; those of one subfolder show one person."""

    def made(path: Path, person: str, held_out: bool) -> list[MannerClip]:
        rows = motion_rows(drivers.motion_of_video(path, can_choose=False, warp=False))
        return [MannerClip(*_of_one_length(rows, _heard_in(path)), person, "filmed", held_out)]

    for folder in folders:
        for index, path in enumerate(_files(folder, _VIDEO_ENDINGS, "video")):
            person = path.stem if path.parent == folder else path.parent.name
            name = "_".join(("video", folder.name, *path.relative_to(folder).with_suffix("").parts))
            yield _Source(name, "videos", partial(made, path, person, is_held_out(index)))


def _heard_in(path: Path) -> Array | None:
    """What is heard in a video; None where it is silent."""
    try:
        return heard_rows(read_audio(path, RATE_HZ).samples)
    except MediaError as error:
        log.info("%s is learned from without its sound: %s", path.name, error)
        return None


def _of_one_length(motion: Array, heard: Array | None) -> tuple[Array, Array | None]:
    if heard is None:
        return motion, None
    count = min(len(motion), len(heard))
    return motion[:count], heard[:count]


def _tracked(folder: Path | None) -> Iterator[_Source]:
    """A folder of ``speech_av``'s layout: one filmed speaker as landmarks, and the sound."""
    if folder is None:
        return
    tracks = load_speech_av(folder)
    names = list(tracks)
    fitter = LandmarkFitter(drivers.default_head(), side_px=_SQUARE_PX)

    @cache
    def shape() -> Person:
        spread = [_in_square(tracks[name][1])[::25] for name in names[:: max(1, len(names) // _SHAPE_CLIPS)]]
        return fitter.fit_person(np.concatenate(spread))[0]

    def made(name: str) -> list[MannerClip]:
        split, track = tracks[name]
        motion = smooth_motion(fitter.fit_motion(_in_square(track), shape()))
        # Inner lips that touch in the picture touch in the curves.
        contact = np.clip((0.013 - lip_opening_of(track)) / 0.008, 0.0, 1.0)
        motion = motion.with_rows(expression=close_lips(motion.expression, ARKIT_EXPRESSIONS, contact, jaw_share=0.0))
        heard = heard_rows(read_audio(folder / "audio" / f"{name}.flac", RATE_HZ).samples)
        return [MannerClip(*_of_one_length(motion_rows(motion), heard), folder.name, "filmed", split == "val")]

    for name in names:
        yield _Source(f"tracked_{folder.name}_{name}", "tracked clips", partial(made, name))


def _in_square(track: FaceTrack) -> Array:
    """Landmarks [t, 478, 2] in a square of 512 px round the face."""
    points = track.landmarks[..., :2]
    low, high = points.min((0, 1)), points.max((0, 1))
    side = 1.8 * float((high - low).max())
    return (points - (0.5 * (low + high) - 0.5 * side)) * (_SQUARE_PX / side)


def _captured(options: MannerOptions) -> Iterator[_Source]:
    """Captured lips; what the capture does not move is our natural motion's."""
    folder = options.captured
    if folder is None:
        return
    lips = [ARKIT_EXPRESSIONS.index(name) for name in (*CONTROL_MAP, "mouthClose")]

    def made(folder: Path) -> list[MannerClip]:
        held_out = options.captured_held_out or max((path.stem for path in folder.glob("*.npz")), default="")
        clips = []
        for index, (split, piece) in enumerate(load_captured(folder, load_model(), held_out)):
            samples = piece.samples.astype(np.float32) / 32768.0
            natural = AudioDriver(Waveform(samples, RATE_HZ), AudioSettings(seed=index)).motion()
            count = min(len(natural), len(piece.targets.expression))
            expression = natural.expression[:count].copy()
            expression[:, lips] = piece.targets.expression[:count, lips]
            motion = motion_rows(natural.rows(slice(0, count)).with_rows(expression=expression))
            clips.append(MannerClip(*_of_one_length(motion, heard_rows(samples)), folder.name, "captured", split.endswith("test")))
        return clips

    yield _Source(f"captured_{folder.name}", "captured clips", partial(made, folder))


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


def _synthetic(options: MannerOptions) -> Iterator[_Source]:
    """People by chance, who say some of the recordings each in a manner of their own; one of ten is held out."""
    if not options.voices:
        return
    paths = [path for folder in options.voices for path in _files(folder, _SOUND_ENDINGS, "recording")]

    @lru_cache(maxsize=64)
    def sound(path: Path) -> tuple[Array, Array]:
        samples = read_audio(path, RATE_HZ).samples
        return samples, heard_rows(samples)

    @cache
    def middle() -> Array:
        return manner_code(_spoken(sound(paths[0])[0], 0, None))

    def made(person: int) -> list[MannerClip]:
        random, clips = np.random.default_rng([options.seed, person]), []
        style = drawn_style(random, middle())
        for index in random.permutation(len(paths))[:_UTTERANCES]:
            samples, heard = sound(paths[index])
            motion = motion_rows(_spoken(samples, int(random.integers(1 << 31)), style))
            name = f"synthetic_{options.seed}_{person}"
            clips.append(MannerClip(*_of_one_length(motion, heard), name, "synthetic", is_held_out(person)))
        return clips

    for person in range(options.people):
        yield _Source(f"synthetic_{options.seed}_{person}", "synthetic people", partial(made, person))


def _spoken(samples: Array, seed: int, style: SpeakingStyle | None) -> Motion:
    return AudioDriver(Waveform(samples, RATE_HZ), AudioSettings(seed=seed, style=style)).motion()
