"""What Real3D-Portrait's inference does with motion before it draws it: expressions of a voice, the head's pose, blinks (spec 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler
from triportrait.real3d.audio_to_motion import AUDIO_STRIDE, LATENT_STRIDE, PaperAudioToMotion
from triportrait.types import Array, MotionFrame

#: Motion rows computed at a time, and rows on each side that they can depend on (the flow's convolutions reach farthest: 82).
CHUNK_ROWS, CONTEXT_ROWS = 500, 128
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


def to_and_fro(count: int, rows: int) -> Array:
    """Which of ``rows`` rows to take for each of ``count`` frames: forwards, backwards, forwards ... [count] int."""
    period = max(1, 2 * rows - 2)
    index = np.arange(count) % period
    return np.where(index < rows, index, period - index)


def pose_on_portrait(rotation_rad: Array, translation: Array, own: MotionFrame, *, published: bool = False) -> tuple[Array, Array]:
    """A clip's pose [t, 3], [t, 3] moved so that its first row is the photograph's.

    Rotations are composed; ``published`` adds Euler angles instead and keeps the distance to the camera at its first value.
    """
    if published:
        moved = translation - translation[:1] + own.translation
        moved[:, 2] = own.translation[2]
        return (rotation_rad - rotation_rad[:1] + own.rotation_rad).astype(np.float32), moved.astype(np.float32)
    turns = matrix_from_euler(rotation_rad)
    rotation = euler_from_matrix(matrix_from_euler(own.rotation_rad) @ turns[0].T @ turns)
    return rotation.astype(np.float32), (translation - translation[:1] + own.translation).astype(np.float32)


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
