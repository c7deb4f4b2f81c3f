"""Sound from memory: samples as programs have them, and blocks that come in one by one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from triportrait.errors import MediaError, OptionError
from triportrait.media.audio import HIGHEST_RATE_HZ, LOWEST_RATE_HZ, AudioReader
from triportrait.types import Array, PathLike, Sound, Waveform

#: Blocks are handed on in this length, whatever length they came in, so that each pass is the same.
_BLOCK_S = 0.2
_SAMPLE_BYTES = 4

#: A piece of sound: float in -1..1 or whole numbers, [n] or [n, channels]; bytes are 16 bit, little-endian, mono.
Samples = Array | bytes | bytearray | memoryview


def mono(samples: Samples) -> Array:
    """Samples of any kind as float32 [n] in -1..1; channels are averaged, NaN and infinity are silence.

    Raises:
        MediaError: no samples: another shape, or numbers of another kind.
    """
    if isinstance(samples, bytes | bytearray | memoryview):
        data = bytes(samples)
        if len(data) % 2:
            raise MediaError(f"a block of {len(data)} bytes holds half a sample; give whole samples of 16 bit")
        samples = np.frombuffer(data, "<i2")
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "iuf":
        raise MediaError(f"the sound is an array of {samples.dtype} {samples.shape}; give numbers [n] or [n, channels]")
    if samples.dtype.kind == "f":
        values = np.clip(np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)
    else:
        # Unsigned sound has its zero in the middle.
        half = float(1 << (8 * samples.dtype.itemsize - 1))
        values = ((samples.astype(np.float64) - (half if samples.dtype.kind == "u" else 0.0)) / half).astype(np.float32)
    return values if values.ndim == 1 else values.mean(axis=1, dtype=np.float32)


def check_rate(rate_hz: int | None) -> int:
    """MediaError unless sound from memory comes with a sample rate that recordings have."""
    if rate_hz is None:
        raise MediaError("sound from memory does not say how fast it is; give its sample rate as rate_hz")
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise MediaError(f"rate_hz is {rate_hz}; sound has {LOWEST_RATE_HZ:,} to {HIGHEST_RATE_HZ:,} samples per second")
    return rate_hz


class SpooledSound:
    """Sound that comes in blocks, once; see :class:`triportrait.types.Sound`.

    What has come is kept in a temporary file, so that it can be gone through again, by several readers, in bounded memory. Blocks are
    asked for when a reader needs them.

    Args:
        blocks: see :data:`Samples`, or :class:`Waveform`.
        rate_hz: their sample rate; None takes it from the first one, a :class:`Waveform`.

    Raises:
        MediaError: no sample rate. A later block of another rate, or of another kind, raises where it is met.
    """

    def __init__(self, blocks: Iterable[Samples | Waveform], rate_hz: int | None = None) -> None:
        self._source = iter(blocks)
        self._waiting: Samples | Waveform | None = next(self._source, None)
        if isinstance(self._waiting, Waveform) and rate_hz is None:
            rate_hz = self._waiting.rate_hz
        self.rate_hz = check_rate(rate_hz)
        self._file = TemporaryFile(prefix="triportrait-sound-")
        self._count = 0
        self._lock = threading.Lock()

    def blocks(self) -> Iterator[Array]:
        """See :class:`triportrait.types.Sound`."""
        size, at = max(1, round(_BLOCK_S * self.rate_hz)), 0
        while True:
            with self._lock:
                while self._count < at + size and self._pull():
                    pass
                self._file.seek(_SAMPLE_BYTES * at)
                block = np.frombuffer(self._file.read(_SAMPLE_BYTES * size), np.float32)
            if not len(block):
                return
            at += len(block)
            yield block

    def _pull(self) -> bool:
        """Keep the next block; False at the end."""
        block = self._waiting
        if block is None:
            return False
        if isinstance(block, Waveform):
            if block.rate_hz != self.rate_hz:
                raise MediaError(f"the voice changes from {self.rate_hz} to {block.rate_hz} Hz; give blocks of one rate")
            block = block.samples
        samples = mono(block)
        self._file.seek(_SAMPLE_BYTES * self._count)
        self._file.write(samples.tobytes())
        self._count += len(samples)
        # A source that fails here is not asked again: what it gave stands once.
        self._waiting = None
        self._waiting = next(self._source, None)
        return True


def sound_of(source: PathLike | Sound | Array | Iterable[Samples | Waveform], rate_hz: int | None = None) -> tuple[Path | Sound, float]:
    """A recording or sound from memory, looked at: the file or the sound, and its length in seconds, 0 when that is not known.

    Args:
        source: a file; a :class:`Waveform`; an array; or an iterable of blocks of either.
        rate_hz: of arrays and blocks of them.

    Raises:
        MediaError, EmptyMedia: the file has no readable sound, or it cannot be told what the samples are.
        OptionError: a rate for a file.
    """
    if isinstance(source, str | os.PathLike):
        if rate_hz is not None:
            raise OptionError(f"rate_hz is {rate_hz}, and '{os.fspath(source)}' is a file, which has its own; leave it out")
        return Path(source), AudioReader.open(source).seconds
    if isinstance(source, np.ndarray | bytes | bytearray | memoryview):
        whole = Waveform(mono(source), check_rate(rate_hz))
        return whole, whole.seconds
    if isinstance(source, Sound):
        return source, len(source.samples) / source.rate_hz if isinstance(source, Waveform) else 0.0
    return SpooledSound(source, rate_hz), 0.0
