"""What Real3D-Portrait's inference does with motion before it draws it: expressions of a voice, the head's pose, blinks (spec 4).

:class:`PaperVoiceDriver` and :class:`PaperVideoDriver` stand behind :class:`triportrait.types.Driver`; what measures is handed in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch

from triportrait.driver_files import check_pose_source, read_motion
from triportrait.drivers import first_poses_of
from triportrait.errors import OptionError
from triportrait.motion.files import READ_ENDINGS
from triportrait.motion.options import POSES
from triportrait.motion.retarget import pose_since
from triportrait.motion.timing import to_and_fro
from triportrait.motion.voice_controls import blink_rate, check_flag, check_seed
from triportrait.real3d.audio_to_motion import AUDIO_STRIDE, LATENT_STRIDE, PaperAudioToMotion
from triportrait.real3d.model import PaperMotion
from triportrait.types import FPS, Array, HeadModel, Motion, MotionFrame, PathLike, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.drivers import Progress

#: Frames that cameras and key points are averaged over.
_WINDOW = 7
#: Motion rows computed at a time, and rows on each side that they can depend on (the flow's convolutions reach farthest: 82).
CHUNK_ROWS, CONTEXT_ROWS = 500, 128
#: Decimetres; nobody's mouth opens so far.
_WIDEST_MOUTH_DM = 3.0
#: The published blinks: one every 125 frames, 8 to 12 frames long.
BLINKS_PER_MINUTE, BLINK_FRAMES = 60.0 * FPS / 125, (8, 12)
#: Who makes blinks; see :class:`PaperOptions`.
BLINK_MAKERS = ("auto", "picture", "network")


def expressions_of_voice(
    model: PaperAudioToMotion,
    features: Iterable[Array],
    pitch_hz: Array,
    *,
    mouth_amplitude: float = 0.45,
    temperature: float = 0.2,
    seed: int = 0,
    blinks: Array | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> Iterator[Array]:
    """Expression rows at 25 Hz, computed piece by piece with the same result as the whole.

    Args:
        model: audio to motion.
        features: blocks [k, f] of speech features at 50 Hz, one after another.
        pitch_hz: [t] of the whole recording at 50 Hz, 0 where unvoiced; its last row is repeated where it is shorter.
        mouth_amplitude: 0.9 quantile of the distance of the lips' middles that the voice should reach, in decimetres.
        temperature: standard deviation of the latent; 0 gives the most likely motion.
        seed: of the latent.
        blinks: int64 [t], 1 in the motion row in the middle of each blink that the network is to make (:func:`blink_middles`); None
            makes none, as published: blinks are drawn later.
        chunk_rows: motion rows at a time; a multiple of 4.

    Yields:
        [k, m] float32; ceil(rows / 2) rows in all.
    """
    random = np.random.default_rng(seed)
    latent_size = model.config.latent
    amounts = {"mouth": mouth_amplitude, "eye": 1.0}
    amplitudes = torch.tensor([[amounts[name] for name in model.config.amplitudes]])
    blinks = np.zeros(0, np.int64) if blinks is None else blinks
    held = np.zeros((0, model.config.features), np.float32)
    noise = np.zeros((0, latent_size), np.float32)
    first = 0  # motion row that ``held`` and ``noise`` begin with
    done = 0  # motion rows given out
    ended = False
    blocks = iter(features)
    real = 0  # audio rows that came in
    while True:
        while not ended and len(held) // AUDIO_STRIDE < done - first + chunk_rows + CONTEXT_ROWS:
            block = next(blocks, None)
            if block is None:
                ended = True
                step = AUDIO_STRIDE * LATENT_STRIDE
                held = np.concatenate([held, np.zeros((-len(held) % step, held.shape[1]), np.float32)])
            else:
                real += len(block)
                held = np.concatenate([held, block])
        total = -(-real // AUDIO_STRIDE)
        last = min(done + chunk_rows, total) if ended else done + chunk_rows
        if done >= last:
            return
        stop = min(-(-(last + CONTEXT_ROWS) // LATENT_STRIDE) * LATENT_STRIDE - first, len(held) // AUDIO_STRIDE)
        missing = stop // LATENT_STRIDE - len(noise)
        if missing > 0:
            noise = np.concatenate([noise, random.standard_normal((missing, latent_size)).astype(np.float32)])
        audio = slice(AUDIO_STRIDE * first, AUDIO_STRIDE * (first + stop))
        with torch.inference_mode():
            rows = model(
                torch.from_numpy(held[: AUDIO_STRIDE * stop])[None],
                torch.from_numpy(_padded(pitch_hz, audio, real if ended else audio.stop))[None],
                torch.from_numpy(_marked(blinks, slice(first, first + stop)))[None],
                amplitudes,
                temperature * torch.from_numpy(noise[: stop // LATENT_STRIDE].T.copy())[None],
            )[0].numpy()
        yield rows[done - first : last - first]
        done = last
        keep = max(0, (done - CONTEXT_ROWS) // LATENT_STRIDE * LATENT_STRIDE - first)
        held, noise, first = held[AUDIO_STRIDE * keep :], noise[keep // LATENT_STRIDE :], first + keep


def _padded(pitch_hz: Array, rows: slice, real: int) -> Array:
    """Rows of the pitch: the last one repeated up to row ``real``, 0 from there on; float32."""
    index = np.arange(rows.start, rows.stop)
    if not len(pitch_hz):
        return np.zeros(len(index), np.float32)
    return np.where(index < real, pitch_hz[np.minimum(index, len(pitch_hz) - 1)], 0.0).astype(np.float32)


def _marked(blinks: Array, rows: slice) -> Array:
    """Audio rows of the blink condition for these motion rows, int64; 0 behind the last blink that is known."""
    known = blinks[rows]
    return np.repeat(np.pad(known, (0, rows.stop - rows.start - len(known))), AUDIO_STRIDE)


def pose_on_portrait(rotation_rad: Array, translation: Array, own: MotionFrame, *, published: bool = False) -> tuple[Array, Array]:
    """A clip's pose [t, 3], [t, 3] moved so that its first row is the photograph's.

    Rotations are composed; ``published`` adds Euler angles instead and keeps the distance to the camera at its first value.
    """
    if not published:
        return pose_since(rotation_rad, translation, 0, own)
    moved = translation - translation[:1] + own.translation
    moved[:, 2] = own.translation[2]
    return (rotation_rad - rotation_rad[:1] + own.rotation_rad).astype(np.float32), moved.astype(np.float32)


def lid_closings(frames: int, closing: Iterable[Array], starts: Array) -> Array:
    """How far the lids are closed in each of ``frames`` frames, [frames] float32: one blink of ``closing`` from each of ``starts``."""
    lids = np.zeros(frames, np.float32)
    for start, blink in zip(starts, closing, strict=True):
        part = lids[start : start + len(blink)]
        np.maximum(part, blink[: len(part)], out=part)
    return lids


def blink_middles(frames: int, starts: Array, lengths: Array) -> Array:
    """The blink condition as it is trained: int64 [frames], 1 in the middle frame of each blink and 0 elsewhere."""
    marks = np.zeros(frames, np.int64)
    middles = starts + lengths // 2
    marks[middles[middles < frames]] = 1
    return marks


def blink_starts(frames: int, seed: int, per_minute: float = BLINKS_PER_MINUTE, *, published: bool = False) -> tuple[Array, Array]:
    """First frames and lengths of blinks: at even steps from frame 0 as published, else irregular and never at the very start."""
    random = np.random.default_rng([seed, 1])
    if per_minute <= 0.0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    period = max(BLINK_FRAMES[1], round(60.0 * FPS / per_minute))
    if published:
        starts = np.arange(0, frames, period)
    else:
        gaps = random.integers(period * 3 // 5, period * 7 // 5 + 1, frames // (period * 3 // 5) + 1)
        starts = np.cumsum(gaps) - period // 2
        starts = starts[starts < frames]
    return starts, random.integers(BLINK_FRAMES[0], BLINK_FRAMES[1] + 1, len(starts))


# -- the drivers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperOptions:
    """What a user may turn.

    Args:
        pose: ``still`` (the photograph's), ``natural``, ``driving`` (the clip's own; natural for a voice), or a video or motion file.
        head_motion: amount of natural head motion; or what ``pose`` may name; or a folder of clips, of which the ten whose first frame is
            nearest to the photograph's pose are found and one is drawn by the seed (appendix D.1).
        pose_start: a clip's pose starts at that of the ``photo`` (published: ``--map_to_init_pose True``), or is the ``clip``'s own as it
            was measured (``False``).
        mouth_amplitude: 0.9 quantile of the lips' opening that a voice should reach, in decimetres.
        temperature: of the voice's motion; 0 gives the most likely one.
        blink: ``driving`` (natural for a voice, the clip's own for a clip), ``natural`` (as often as published), ``none``, or blinks per
            minute.
        blink_by: who makes a voice's blinks. ``picture``: they are drawn into the motion picture, and the network's blink condition is
            zero (published). ``network``: the condition says when (section 4.3), and the network closes the lids. ``auto``: the network
            where audio to motion was trained here, else the picture. Blinks that are added to a clip are always drawn.
        seed: of everything random.
    """

    pose: str = "driving"
    head_motion: float | PathLike = 1.0
    pose_start: Literal["photo", "clip"] = "photo"
    mouth_amplitude: float = 0.45
    temperature: float = 0.2
    blink: str = "driving"
    blink_by: Literal["auto", "picture", "network"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.mouth_amplitude <= _WIDEST_MOUTH_DM:
            raise OptionError(f"--mouth-amplitude is {self.mouth_amplitude:g}; use a number from 0 to {_WIDEST_MOUTH_DM:g}")
        check_flag("temperature", self.temperature)
        if isinstance(self.head_motion, int | float):
            check_flag("head_motion", self.head_motion)
        elif self.pose != "driving":
            raise OptionError("--pose and --head-motion both bring a head motion; give one of them")
        if self.blink_by not in BLINK_MAKERS:
            raise OptionError(f"--blink-by is {self.blink_by!r}; use {', '.join(BLINK_MAKERS)}")
        if self.pose_start not in ("photo", "clip"):
            raise OptionError(f"--pose-start is {self.pose_start!r}; use photo or clip")
        blink_rate(self.blink, BLINKS_PER_MINUTE)
        check_seed(self.seed)

    def blinks_per_minute(self, driving: float) -> float:
        """How many blinks are made; ``driving`` stands for those where the driver decides."""
        rate = blink_rate(self.blink, BLINKS_PER_MINUTE)
        return driving if rate is None else rate

    @property
    def pose_source(self) -> str:
        """``driving``, ``still``, ``natural``, or the file or folder that the head motion comes from."""
        return self.pose if isinstance(self.head_motion, int | float) else os.fspath(self.head_motion)

    @property
    def pose_option(self) -> str:
        """The option that names it."""
        return "--pose" if self.pose == self.pose_source else "--head-motion"

    def files(self) -> tuple[PathLike, ...]:
        """The file or folder that these options name."""
        return () if self.pose_source in POSES else (self.pose_source,)

    def check_files(self) -> None:
        """Look at that, for what would end a performance minutes later.

        Raises:
            OptionError, MediaError, MotionFileError: it is missing, or cannot be read.
        """
        for path in self.files():
            check_pose_source(self.pose_option, os.fspath(path))


class Measuring(Protocol):
    """What the drivers ask of the pipeline: its head model, and measures in that model."""

    @property
    def head(self) -> HeadModel: ...

    #: Do as the published code does where it is defective.
    published: bool

    def makes_blinks(self, options: PaperOptions) -> bool: ...

    def motion_of_video(self, path: PathLike, progress: Progress | None = None) -> Motion: ...

    def expressions_of_audio(self, path: PathLike, options: PaperOptions, progress: Progress | None = None) -> Array: ...

    def key_points(self, identity: Array, frame: MotionFrame) -> Array: ...


class _PaperDriver:
    """What both drivers do with expressions: the head's pose, blinks, and smoothed cameras and key points."""

    def __init__(self, measuring: Measuring, options: PaperOptions, progress: Progress | None) -> None:
        self._measuring, self._options = measuring, options
        options.check_files()
        self.fps, self.inputs = FPS, options.files()
        self._clip: Callable[[MotionFrame], Motion] | None = self._lent(progress) if self.inputs else None

    def _lent(self, progress: Progress | None) -> Callable[[MotionFrame], Motion]:
        """For a photo that shows a row: the motion of the clip that lends its head motion."""
        option, source = self._options.pose_option, self._options.pose_source

        def measured(path: PathLike) -> Motion:
            if Path(path).suffix.lower() in READ_ENDINGS:
                return read_motion(path)
            return self._measuring.motion_of_video(path, progress)

        if os.path.isdir(source):
            poses = first_poses_of(option, source, progress)
            return lambda own: measured(poses.drawn(own.rotation_rad, self._options.seed))
        clip = measured(source)
        return lambda own: clip

    def _pose(self, pose: str, frames: int, own: MotionFrame) -> tuple[Array, Array]:
        """Rotation and translation [frames, 3] of the head: those of a clip, none, or made-up ones."""
        from triportrait.motion.controls import Controls
        from triportrait.motion.natural import idle_motion

        if pose == "still":
            return np.tile(own.rotation_rad, (frames, 1)), np.tile(own.translation, (frames, 1))
        amount = self._options.head_motion
        if self._clip is not None:
            motion = self._clip(own)
        else:
            controls = Controls(head_motion=float(amount)) if isinstance(amount, int | float) else None
            motion = idle_motion(frames, FPS, controls=controls, seed=self._options.seed)
        order = to_and_fro(frames, len(motion))
        rotation, translation = self._from_start(motion, own)
        return rotation[order], translation[order]

    def _from_start(self, motion: Motion, own: MotionFrame) -> tuple[Array, Array]:
        """A clip's pose, from the photograph's on or as it is."""
        if self._options.pose_start == "clip":
            return motion.rotation_rad, motion.translation
        return pose_on_portrait(motion.rotation_rad, motion.translation, own, published=self._measuring.published)

    def _placed(self, portrait: PreparedPortrait, expression: Array, pose: tuple[Array, Array], blinks_per_minute: float) -> PaperMotion:
        """Rows with drawn blinks, and with cameras and key points averaged over seven frames (spec 4, steps 6 and 10)."""
        from triportrait.geometry.cameras import camera_from_pose, smooth_cameras
        from triportrait.motion.smoothing import smooth_box
        from triportrait.real3d.lids import closing_of_blink

        frames, head = len(expression), self._measuring.head
        starts, lengths = blink_starts(frames, self._options.seed, blinks_per_minute, published=self._measuring.published)
        lids = lid_closings(frames, [closing_of_blink(int(length)) for length in lengths], starts)
        rotation, translation = (part.astype(np.float32) for part in pose)
        rows = expression.astype(np.float32), rotation, translation, np.zeros((frames, 2), np.float32)
        motion = Motion(*rows, FPS, head.expression_names, head.name, portrait.identity)
        cameras = smooth_cameras([camera_from_pose(row.rotation_rad, row.translation, portrait.focal) for row in motion], _WINDOW)
        points = smooth_box(np.stack([self._measuring.key_points(portrait.identity, row) for row in motion]), _WINDOW)
        return PaperMotion(
            *rows,
            FPS,
            head.expression_names,
            head.name,
            portrait.identity,
            cameras=tuple(cameras),
            key_points=points.astype(np.float32),
            lid_closings=lids,
        )


class PaperVoiceDriver(_PaperDriver):
    """A voice through the flow-VAE (paper, section 3.4), with blinks and a pose.

    Args:
        measuring: the pipeline.
        audio: a recording.
        options: see :class:`PaperOptions`.
        progress: called while the voice is listened to.

    Raises:
        MediaError, EmptyMedia, MissingPart: see ``PaperPipeline.expressions_of_audio``.
        OptionError: the pose's video is missing.
    """

    def __init__(
        self, measuring: Measuring, audio: PathLike, options: PaperOptions | None = None, *, progress: Progress | None = None
    ) -> None:
        options = options or PaperOptions()
        self._expression = measuring.expressions_of_audio(audio, options, progress)
        super().__init__(measuring, options, progress)
        self.frame_count, self.sound, self.sources = len(self._expression), Path(audio), {"voice": Path(audio)}

    def chunks(self, portrait: PreparedPortrait) -> Iterable[Motion]:
        """See :class:`triportrait.types.Driver`: one piece."""
        # A voice has no head motion of its own.
        pose = "natural" if self._options.pose_source == "driving" else self._options.pose_source
        return [self.with_pose(portrait, *self._pose(pose, len(self._expression), portrait.motion))]

    def with_pose(self, portrait: PreparedPortrait, rotation_rad: Array, translation: Array) -> PaperMotion:
        """The voice with a head motion [t, 3] each that is the portrait's already; where that is longer, the last expression is held."""
        rows = np.minimum(np.arange(len(rotation_rad)), len(self._expression) - 1)
        # Those that the network makes are in the expression already.
        drawn = 0.0 if self._measuring.makes_blinks(self._options) else self._options.blinks_per_minute(BLINKS_PER_MINUTE)
        return self._placed(portrait, self._expression[rows], (rotation_rad, translation), drawn)


class PaperVideoDriver(_PaperDriver):
    """The person in a clip, measured in the head model of the networks; the clip's sound goes along.

    Args:
        measuring: the pipeline.
        video: the clip.
        options: see :class:`PaperOptions`.
        progress: called after each frame.

    Raises:
        MediaError, NoFaceFound: see ``PaperPipeline.motion_of_video``.
        OptionError: the pose's video is missing.
    """

    def __init__(
        self, measuring: Measuring, video: PathLike, options: PaperOptions | None = None, *, progress: Progress | None = None
    ) -> None:
        from triportrait.media.probe import probe

        options = options or PaperOptions()
        self._motion = measuring.motion_of_video(video, progress)
        super().__init__(measuring, options, progress)
        self.frame_count, self.sources = len(self._motion), {"driving video": Path(video)}
        self.sound = Path(video) if probe(video).has_audio else None

    def chunks(self, portrait: PreparedPortrait) -> Iterable[Motion]:
        """See :class:`triportrait.types.Driver`: one piece."""
        motion, options, own, published = self._motion, self._options, portrait.motion, self._measuring.published
        if options.pose_source == "driving":
            pose = self._from_start(motion, own)
        else:
            pose = self._pose(options.pose_source, len(motion), own)
        drawn = options.blinks_per_minute(BLINKS_PER_MINUTE if published else 0.0)
        return [self._placed(portrait, motion.expression, pose, drawn)]
