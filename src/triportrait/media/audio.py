"""Sound: any file to float32 blocks of any rate, streaming, and back to WAV."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
import soxr

from triportrait.errors import EmptyMedia, MediaError
from triportrait.media.containers import (
    audio_stream,
    decoded_frames,
    open_container,
    stream_seconds,
    stream_start_s,
    video_stream,
)
from triportrait.types import Array, Waveform

logger = logging.getLogger(__name__)

#: Sample rates of recordings; beyond them a header lies (1 Hz would make hours of a second).
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 4_000, 768_000
#: A mix of channels that keeps less than this share of the energy its channels would have if they were unrelated cancels itself.
_CANCELLED = 0.4
#: Level of speech, in dB of full scale: what is lower is brought to the second one for analysis; below the third there is nothing.
_LOW_DB, _ANALYSED_DB, _NOTHING_DB = -45.0, -20.0, -90.0
#: Speech rises above its own pauses by more than this; steady noise does not.
_SPEECH_RANGE_DB = 8.0
#: Channels of which each is listened to alone.
_MOST_CHANNELS = 8
#: A hole in the time stamps longer than this is filled with silence (shorter ones are rounding of the container's).
_HOLE_S = 0.1
#: Holes longer than this are damage, not silence.
_MAX_HOLE_S = 600.0
#: Gains of a surround layout's speakers when it is mixed to mono; LFE carries no speech.
_SPEAKER_GAINS = {"FC": 1.0, "FL": 0.7, "FR": 0.7, "LFE": 0.0, "LFE2": 0.0}
_OTHER_SPEAKER_GAIN = 0.5


@dataclass(frozen=True, slots=True)
class Hearing:
    """How a voice is listened to: ``channel`` (None = all, mixed down) times ``gain``. The file's own sound stays as it is."""

    channel: int | None = None
    gain: float = 1.0


@dataclass(frozen=True, slots=True)
class AudioReader:
    """The sound track of an audio or video file. Build it with :meth:`open`, which checks the file.

    Args:
        path: the file.
        rate_hz: the track's own sample rate.
        channels: its number of channels.
        seconds: its length as the header announces it; 0 when unknown.
    """

    path: str
    rate_hz: int
    channels: int
    seconds: float

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> AudioReader:
        """Look at a file's header and decode its first samples.

        Raises:
            MediaError: missing, unreadable, not media, damaged, or without a sound track.
            EmptyMedia: the sound track holds no samples.
        """
        shown = os.fspath(path)
        with open_container(path) as container:
            stream = audio_stream(container)
            if stream is None:
                raise MediaError(f"'{shown}' has no sound track; give a file with speech.")
            seconds = stream_seconds(container, stream)
            frame = next(_sounding_frames(container, stream, shown), None)
            if frame is None:
                raise EmptyMedia(f"'{shown}' has a sound track of 0 s; give a file with speech.")
            _expect_rate(frame.sample_rate, shown)
            return cls(shown, frame.sample_rate, len(frame.layout.channels), seconds)

    def hearing(self) -> Hearing:
        """Listen to the whole file once, in bounded memory, for where its voice is and how loud.

        Ordinary recordings are heard as :meth:`blocks` mixes them. Where the channels cancel each other (left = -right) the
        loudest one is taken; a voice below -45 dB is brought to -20 dB. Hardly any voice at all is said in a warning.

        Raises:
            MediaError, EmptyMedia: as :meth:`open`.
        """
        meter = _VoiceMeter()
        for samples, names, rate_hz in self._native():
            meter.add(samples, names, rate_hz)
        return _hearing(meter, f"'{self.path}'")

    def blocks(self, rate_hz: int, block_seconds: float = 1.0, channels: int = 1, hearing: Hearing | None = None) -> Iterator[Array]:
        """Decode, mix and resample as a stream; memory does not grow with the length.

        In a video file sample 0 belongs to the start of the first picture: sound that starts later is preceded by
        silence, sound that starts earlier is cut.

        Args:
            rate_hz: wanted sample rate.
            block_seconds: length of the blocks; the last one may be shorter.
            channels: 1 (mixed down) or 2 (as in the file; mono is doubled).
            hearing: which channel is taken and how loud, for one channel; None mixes all as they are.

        Yields:
            float32 [n] for one channel, [n, 2] for two, in -1..1.

        Raises:
            MediaError, EmptyMedia: as :meth:`open`.
        """
        size = max(1, round(block_seconds * rate_hz))
        held: list[Array] = []
        count = 0
        for piece in self._resampled(rate_hz, channels, hearing or Hearing()):
            held.append(piece)
            count += len(piece)
            while count >= size:
                joined = np.concatenate(held)
                yield joined[:size].copy()
                held, count = [joined[size:]], count - size
        if count:
            yield np.concatenate(held)

    def _resampled(self, rate_hz: int, channels: int, hearing: Hearing) -> Iterator[Array]:
        """Pieces of any length at the wanted rate: [n] or [n, 2]."""
        resampler: soxr.ResampleStream | None = None
        source_rate = 0
        for samples, names, source_rate_now in self._native():
            if hearing.channel is not None and hearing.channel < samples.shape[1]:
                samples, names = samples[:, [hearing.channel]], ("FC",)
            mixed = _mix(samples, names, channels)
            if hearing.gain != 1.0:
                mixed = _limited(mixed * np.float32(hearing.gain))
            if resampler is None or source_rate_now != source_rate:
                _expect_rate(source_rate_now, self.path)
                # A chained stream may change its rate midway: finish the old rate, go on with the new one.
                if resampler is not None:
                    yield _limited(resampler.resample_chunk(mixed[:0], last=True))
                source_rate = source_rate_now
                resampler = soxr.ResampleStream(source_rate, rate_hz, channels, dtype="float32")
            piece = resampler.resample_chunk(mixed)
            if len(piece):
                yield _limited(piece)
        if resampler is None:
            raise EmptyMedia(f"'{self.path}' has a sound track of 0 s; give a file with speech.")
        tail = resampler.resample_chunk(np.zeros((0, channels)[:channels], np.float32), last=True)
        if len(tail):
            yield _limited(tail)

    def _native(self) -> Iterator[tuple[Array, tuple[str, ...], int]]:
        """(samples float32 [n, c], speaker names, rate) with holes filled and the start aligned with the pictures'."""
        with open_container(self.path) as container:
            stream = audio_stream(container)
            if stream is None:
                raise MediaError(f"'{self.path}' has no sound track; give a file with speech.")
            pictures = video_stream(container)
            start_s = None if pictures is None else stream_start_s(pictures)
            written = 0
            frames: Iterator[av.AudioFrame | None] = itertools.chain(_sounding_frames(container, stream, self.path), [None])
            for frame, following in itertools.pairwise(frames):
                assert frame is not None, "None comes last"
                rate = frame.sample_rate
                samples = _to_float(frame)
                if following is None and "mp4" in container.format.name and frame.duration and frame.time_base:
                    # MP4 says how much of the last frame is sound and how much the codec's padding.
                    samples = samples[: max(1, round(float(frame.duration * frame.time_base) * rate))]
                names = tuple(channel.name for channel in frame.layout.channels)
                if frame.pts is not None and frame.time_base:
                    time_s = float(frame.pts * frame.time_base)
                    start_s = time_s if start_s is None else start_s
                    shift = round((time_s - start_s) * rate) - written
                    if written == 0 and shift < 0:
                        samples = samples[-shift:]
                    elif shift > (0 if written == 0 else _HOLE_S * rate):
                        if shift > _MAX_HOLE_S * rate:
                            raise MediaError(f"'{self.path}' has damaged time stamps in its sound; export it again.")
                        yield np.zeros((shift, samples.shape[1]), np.float32), names, rate
                        written += shift
                if len(samples):
                    yield samples, names, rate
                    written += len(samples)


def read_audio(path: str | os.PathLike[str], rate_hz: int = 16_000) -> Waveform:
    """A whole sound track in memory, mono, at ``rate_hz``. For long files use :func:`stream_audio`.

    Raises:
        MediaError: missing, unreadable, not media, damaged, or without a sound track.
        EmptyMedia: the sound track holds no samples.
    """
    return Waveform(np.concatenate(list(AudioReader.open(path).blocks(rate_hz))), rate_hz)


def stream_audio(path: str | os.PathLike[str], rate_hz: int = 16_000, block_seconds: float = 1.0) -> Iterator[Array]:
    """A sound track as mono float32 blocks [n] of ``block_seconds`` (the last may be shorter), in bounded memory.

    The file is checked when this is called, not when the first block is asked for.

    Raises:
        MediaError, EmptyMedia: as :func:`read_audio`.
    """
    return AudioReader.open(path).blocks(rate_hz, block_seconds)


def stream_voice(path: str | os.PathLike[str], rate_hz: int = 16_000, block_seconds: float = 1.0) -> Iterator[Array]:
    """As :func:`stream_audio`, for analysis: the file is listened to first (:meth:`AudioReader.hearing`).

    Raises:
        MediaError, EmptyMedia: as :func:`read_audio`.
    """
    reader = AudioReader.open(path)
    return reader.blocks(rate_hz, block_seconds, hearing=reader.hearing())


def heard(sound: Waveform) -> Waveform:
    """Sound in memory as :func:`stream_voice` gives a file's, at its own rate: a low voice is brought up for analysis."""
    meter = _VoiceMeter()
    meter.add(sound.samples[:, None], ("FC",), sound.rate_hz)
    gain = _hearing(meter, "the sound").gain
    return sound if gain == 1.0 else Waveform(_limited(sound.samples * np.float32(gain)), sound.rate_hz)


def _hearing(meter: _VoiceMeter, name: str) -> Hearing:
    channel, level_db, range_db = meter.result()
    if level_db < _NOTHING_DB or (level_db < _LOW_DB and range_db < _SPEECH_RANGE_DB):
        logger.warning("hardly any voice was found in %s; raise the level of the recording", name)
        return Hearing(channel)
    return Hearing(channel, 10 ** ((_ANALYSED_DB - level_db) / 20) if level_db < _LOW_DB else 1.0)


class _VoiceMeter:
    """Levels of 20 ms pieces of the mix and of each channel, counted in steps of one dB."""

    def __init__(self) -> None:
        self._energy = np.zeros(1 + _MOST_CHANNELS)
        #: What the mix would have if the channels were unrelated.
        self._unrelated = 0.0
        self._counts = np.zeros((1 + _MOST_CHANNELS, 161), np.int64)
        self._rest = np.zeros((0, 0), np.float32)
        self._layout: tuple[tuple[str, ...], int] = ((), 0)

    def add(self, samples: Array, names: tuple[str, ...], rate_hz: int) -> None:
        if self._layout != (names, rate_hz):
            self._rest, self._layout = samples[:0], (names, rate_hz)
        samples = np.concatenate([self._rest, samples])
        size = rate_hz // 50
        count = len(samples) // size
        self._rest = samples[count * size :].copy()
        if not count:
            return
        samples = samples[: count * size]
        heard = samples[:, :_MOST_CHANNELS]
        signals = np.concatenate([_mix(samples, names, 1)[:, None], heard], axis=1).reshape(count, size, -1).astype(np.float64)
        power = signals.var(axis=1)
        width = power.shape[1]
        self._energy[:width] += power.sum(0)
        self._unrelated += float(power.sum(0)[1:] @ _gains(names)[:_MOST_CHANNELS] ** 2)
        level = np.clip(np.round(10 * np.log10(power + 1e-16)).astype(int) + 160, 0, 160)
        for signal in range(width):
            self._counts[signal] += np.bincount(level[:, signal], minlength=161)

    def result(self) -> tuple[int | None, float, float]:
        """(channel or None for the mix, level of its loudest half second or tenth, range above its quietest tenth), in dB."""
        channel = None
        if self._energy[0] < _CANCELLED * self._unrelated:
            channel = int(np.argmax(self._energy[1:]))
        counts = self._counts[0 if channel is None else channel + 1]
        # Digital silence tells nothing of a recording's noise.
        counts = np.where(np.arange(161) > 20, counts, 0)
        total = int(counts.sum())
        if not total:
            return channel, -160.0, 0.0
        from_below = np.cumsum(counts)
        loud = int(np.argmax(from_below >= total - max(0, min(25, total // 10) - 1)))
        quiet = int(np.argmax(from_below > total // 10))
        return channel, loud - 160.0, float(loud - quiet)


def _sounding_frames(container: av.container.InputContainer, stream: av.audio.stream.AudioStream, path: str) -> Iterator[av.AudioFrame]:
    """Frames that hold sound: a damaged packet is skipped, a file of which nothing decodes is an error."""
    damaged = 0
    decoded = 0
    for frame in decoded_frames(container, stream):
        if frame is None:
            damaged += 1
        elif frame.samples and frame.sample_rate:
            decoded += 1
            yield frame
    if damaged and not decoded:
        raise MediaError(f"The sound of '{path}' is damaged and cannot be decoded; export or copy it again.")
    if damaged:
        logger.warning("'%s': %d damaged pieces of its sound were left out.", path, damaged)


def _expect_rate(rate_hz: int, path: str) -> None:
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise MediaError(
            f"The header of '{path}' announces {rate_hz:,} samples per second, which no recording has "
            f"({LOWEST_RATE_HZ:,} to {HIGHEST_RATE_HZ:,} are read); export it again."
        )


def _to_float(frame: av.AudioFrame) -> Array:
    """Samples of one frame in any format -> float32 [n, c] in -1..1."""
    array = frame.to_ndarray()
    channels = len(frame.layout.channels)
    array = array.T if frame.format.is_planar else array.reshape(-1, channels)
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128.0) / 128.0
    if array.dtype.kind == "i":
        return array.astype(np.float32) / float(1 << (8 * array.dtype.itemsize - 1))
    return np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _mix(samples: Array, names: tuple[str, ...], channels: int) -> Array:
    """float32 [n, c] of named speakers -> [n] for one channel, [n, 2] for two; gains sum to one: nothing clips."""
    count = samples.shape[1]
    if channels == 2:
        if count == 2:
            return np.ascontiguousarray(samples)
        return np.repeat(_mix(samples, names, 1)[:, None], 2, axis=1)
    if count == 1:
        return np.ascontiguousarray(samples[:, 0])
    return samples @ _gains(names)


def _gains(names: tuple[str, ...]) -> Array:
    """Shares [c] of the speakers in a mono mix, float32; their sum is one."""
    gains = np.full(len(names), 1.0, np.float32)
    if len(names) > 2:
        gains[:] = [_SPEAKER_GAINS.get(name, _OTHER_SPEAKER_GAIN) for name in names]
    total = float(gains.sum())
    return gains / total if total else np.full(len(names), 1.0 / len(names), np.float32)


def _limited(samples: Array) -> Array:
    return np.clip(samples, -1.0, 1.0)
