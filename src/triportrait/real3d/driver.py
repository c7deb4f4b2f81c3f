"""What Real3D-Portrait's inference does with motion before it draws it: expressions of a voice, the head's pose, blinks (spec 4).

:class:`PaperVoiceDriver` and :class:`PaperVideoDriver` stand behind :class:`triportrait.types.Driver`; what measures is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from triportrait.errors import OptionError
from triportrait.motion.options import POSES
from triportrait.motion.retarget import pose_since
from triportrait.motion.timing import to_and_fro
from triportrait.motion.voice_controls import check_flag, check_seed
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
BLINK_PERIOD, BLINK_FRAMES = 125, (8, 12)


def expressions_of_voice(
    model: PaperAudioToMotion,
    features: Iterable[Array],
    pitch_hz: Array,
    *,
    mouth_amplitude: float = 0.45,
    temperature: float = 0.2,
    seed: int = 0,
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
        chunk_rows: motion rows at a time; a multiple of 4.

    Yields:
        [k, m] float32; ceil(rows / 2) rows in all. Blinks play no part, as published: they are drawn later.
    """
    random = np.random.default_rng(seed)
    latent_size = model.config.latent
    amounts = {"mouth": mouth_amplitude, "eye": 1.0}
    amplitudes = torch.tensor([[amounts[name] for name in model.config.amplitudes]])
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
                torch.zeros((1, AUDIO_STRIDE * stop), dtype=torch.int64),
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


def blink_starts(frames: int, seed: int, *, published: bool = False) -> tuple[Array, Array]:
    """First frames and lengths of blinks: every 125 frames from frame 0 as published, else irregular and never at the very start."""
    random = np.random.default_rng([seed, 1])
    if published:
        starts = np.arange(0, frames, BLINK_PERIOD)
    else:
        gaps = random.integers(BLINK_PERIOD * 3 // 5, BLINK_PERIOD * 7 // 5 + 1, frames // (BLINK_PERIOD * 3 // 5) + 1)
        starts = np.cumsum(gaps) - BLINK_PERIOD // 2
        starts = starts[starts < frames]
    return starts, random.integers(BLINK_FRAMES[0], BLINK_FRAMES[1] + 1, len(starts))


# -- the drivers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperOptions:
    """What a user may turn.

    Args:
        pose: ``still`` (the photograph's), ``natural``, ``driving`` (the clip's own; natural for a voice), or a video.
        mouth_amplitude: 0.9 quantile of the lips' opening that a voice should reach, in decimetres.
        temperature: of the voice's motion; 0 gives the most likely one.
        blink: ``driving`` (drawn blinks for a voice, the clip's own for a clip), ``natural`` (drawn), or ``none``.
        seed: of everything random.
    """

    pose: str = "driving"
    mouth_amplitude: float = 0.45
    temperature: float = 0.2
    blink: str = "driving"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.mouth_amplitude <= _WIDEST_MOUTH_DM:
            raise OptionError(f"--mouth-amplitude is {self.mouth_amplitude:g}; use a number from 0 to {_WIDEST_MOUTH_DM:g}")
        check_flag("temperature", self.temperature)
        if self.blink not in ("driving", "natural", "none"):
            raise OptionError(f"--blink is {self.blink!r}; with the paper's preset use driving, natural or none")
        check_seed(self.seed)

    def files(self) -> tuple[PathLike, ...]:
        """The video that these options name."""
        return () if self.pose in POSES else (self.pose,)

    def check_files(self) -> None:
        """Look at that video, for what would end a performance minutes later.

        Raises:
            OptionError, MediaError: it is missing, or no readable video.
        """
        from triportrait.media.video import VideoReader

        for path in self.files():
            if not Path(path).exists():
                raise OptionError(f"--pose is {path!r}; use driving, still, natural, or a video that exists")
            VideoReader(path).close()


class Measuring(Protocol):
    """What the drivers ask of the pipeline: its head model, and measures in that model."""

    @property
    def head(self) -> HeadModel: ...

    #: Do as the published code does where it is defective.
    published: bool

    def motion_of_video(self, path: PathLike, progress: Progress | None = None) -> Motion: ...

    def expressions_of_audio(self, path: PathLike, options: PaperOptions, progress: Progress | None = None) -> Array: ...

    def key_points(self, identity: Array, frame: MotionFrame) -> Array: ...


class _PaperDriver:
    """What both drivers do with expressions: the head's pose, blinks, and smoothed cameras and key points."""

    def __init__(self, measuring: Measuring, options: PaperOptions, progress: Progress | None) -> None:
        self._measuring, self._options = measuring, options
        options.check_files()
        self.fps, self.inputs = FPS, options.files()
        self._clip = measuring.motion_of_video(self.inputs[0], progress) if self.inputs else None

    def _pose(self, pose: str, frames: int, own: MotionFrame) -> tuple[Array, Array]:
        """Rotation and translation [frames, 3] of the head: those of a clip, none, or made-up ones."""
        from triportrait.motion.natural import idle_motion

        if pose == "still":
            return np.tile(own.rotation_rad, (frames, 1)), np.tile(own.translation, (frames, 1))
        motion = idle_motion(frames, FPS, seed=self._options.seed) if self._clip is None else self._clip
        order = to_and_fro(frames, len(motion))
        rotation, translation = pose_on_portrait(motion.rotation_rad, motion.translation, own, published=self._measuring.published)
        return rotation[order], translation[order]

    def _placed(self, portrait: PreparedPortrait, expression: Array, pose: tuple[Array, Array], blinks: bool) -> PaperMotion:
        """Rows with cameras and key points averaged over seven frames (spec 4, steps 6 and 10)."""
        from triportrait.geometry.cameras import camera_from_pose, smooth_cameras
        from triportrait.motion.smoothing import smooth_box
        from triportrait.real3d.lids import closing_of_blink

        frames, head = len(expression), self._measuring.head
        lids = np.zeros(frames, np.float32)
        if blinks:
            starts, lengths = blink_starts(frames, self._options.seed, published=self._measuring.published)
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
        pose = "natural" if self._options.pose == "driving" else self._options.pose
        return [self.with_pose(portrait, *self._pose(pose, len(self._expression), portrait.motion))]

    def with_pose(self, portrait: PreparedPortrait, rotation_rad: Array, translation: Array) -> PaperMotion:
        """The voice with a head motion [t, 3] each that is the portrait's already; where that is longer, the last expression is held."""
        rows = np.minimum(np.arange(len(rotation_rad)), len(self._expression) - 1)
        return self._placed(portrait, self._expression[rows], (rotation_rad, translation), self._options.blink != "none")


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
        if options.pose == "driving":
            pose = pose_on_portrait(motion.rotation_rad, motion.translation, own, published=published)
        else:
            pose = self._pose(options.pose, len(motion), own)
        blinks = options.blink == "natural" or (published and options.blink != "none")
        return [self._placed(portrait, motion.expression, pose, blinks)]
