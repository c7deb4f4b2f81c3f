"""Sound in step with the pictures of a file that is being written."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import numpy as np

from triportrait.media.audio import AudioReader
from triportrait.types import Array, Sound


@dataclass(frozen=True, slots=True)
class SoundCodec:
    """How sound is written.

    Args:
        name: FFmpeg's encoder.
        sample_format: what it takes.
        rates_hz: sample rates that it has, rising; the last one serves all others.
        kbit_per_channel: below 32 kHz, and from there on; None where nothing is lost.
    """

    name: str
    sample_format: str
    rates_hz: tuple[int, ...]
    kbit_per_channel: tuple[int, int] | None


AAC = SoundCodec("aac", "fltp", (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000), (64, 96))
OPUS = SoundCodec("libopus", "flt", (8_000, 12_000, 16_000, 24_000, 48_000), (48, 64))
PCM = SoundCodec("pcm_s16le", "s16", (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000), None)


class SoundTrack:
    """Encodes sound as far as the pictures have got."""

    def __init__(
        self, container: av.container.OutputContainer, codec: SoundCodec, blocks: Iterator[Array], rate_hz: int, channels: int
    ) -> None:
        self._layout = "mono" if channels == 1 else "stereo"
        self._container = container
        self._blocks = SoundBlocks(blocks, channels)
        self._rate_hz = rate_hz
        stream = container.add_stream(codec.name, rate=rate_hz, layout=self._layout, format=codec.sample_format)
        self._stream = cast(av.audio.stream.AudioStream, stream)
        if codec.kbit_per_channel is not None:
            self._stream.bit_rate = channels * 1000 * codec.kbit_per_channel[rate_hz >= 32_000]
        self._sent = 0

    def advance(self, seconds: Fraction) -> None:
        """Send all samples before ``seconds``; silence once the source has ended."""
        samples = self._blocks.take(round(seconds * self._rate_hz) - self._sent)
        if len(samples):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), "fltp", self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate_hz, self._sent, Fraction(1, self._rate_hz)
            self._sent += len(samples)
            self._container.mux(self._stream.encode(frame))

    def finish(self, seconds: Fraction) -> None:
        self.advance(seconds)
        self._container.mux(self._stream.encode(None))


class SoundBlocks:
    """Blocks of any length, taken by numbers of samples; silence follows the last one."""

    def __init__(self, blocks: Iterator[Array], channels: int) -> None:
        self._blocks, self._channels = blocks, channels
        self._rest: Array = np.zeros((0, channels), np.float32)

    def take(self, count: int) -> Array:
        """The next samples: float32 [count, channels]."""
        parts: list[Array] = [np.zeros((0, self._channels), np.float32)]
        while count > 0:
            if not len(self._rest):
                block = next(self._blocks, None)
                self._rest = np.zeros((count, self._channels)) if block is None else np.asarray(block).reshape(-1, self._channels)
            parts.append(self._rest[:count].astype(np.float32))
            self._rest = self._rest[count:]
            count -= len(parts[-1])
        return np.concatenate(parts)


def open_sound(
    audio: str | os.PathLike[str] | Sound | Iterable[Array] | None, rate_hz: int, codec: SoundCodec
) -> tuple[Iterator[Array], int, int] | None:
    """(blocks, rate, channels) of whatever was given as sound, resampled to a rate that the codec has.

    Args:
        audio: a file, sound, or blocks of mono samples.
        rate_hz: of blocks.
        codec: what it will be written with.

    Raises:
        MediaError: the file cannot be read.
    """
    rates_hz = codec.rates_hz
    if audio is None:
        return None
    if isinstance(audio, str | os.PathLike):
        reader = AudioReader.open(audio)
        rate_hz = next((rate for rate in rates_hz if rate >= reader.rate_hz), rates_hz[-1])
        channels = min(reader.channels, 2)
        return reader.blocks(rate_hz, 0.5, channels), rate_hz, channels
    if isinstance(audio, Sound):
        rate_hz, audio = audio.rate_hz, audio.blocks()
    if rate_hz in rates_hz:
        return iter(audio), rate_hz, 1
    return _resampled_blocks(iter(audio), rate_hz, rates_hz[-1]), rates_hz[-1], 1


def _resampled_blocks(blocks: Iterator[Array], rate_hz: int, wanted_hz: int) -> Iterator[Array]:
    import soxr

    resampler = soxr.ResampleStream(rate_hz, wanted_hz, 1, dtype="float32")
    for block in itertools.chain(blocks, [None]):
        last = block is None
        yield resampler.resample_chunk(np.zeros(0, np.float32) if last else np.asarray(block, np.float32), last=last)
