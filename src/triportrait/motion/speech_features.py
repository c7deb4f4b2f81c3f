"""What the voice says, in numbers: log-mel spectra on a causal level, and prosody (pitch, energy, voicing). Streams
or runs whole.

Frame k is centred at sample ``k * hop``; it looks 12.5 ms ahead. Both extractors take sound in blocks of any length
and give the same numbers as for the whole, because all memory (pending samples, running level) is kept between calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np

from triportrait.types import Array

#: Sampling rate that all extractors expect.
RATE_HZ = 16000

#: Samples between two feature frames: 100 frames per second.
HOP = 160

_WINDOW = 400
_FFT = 512

#: The level that all sound is heard at: that of a well modulated recording, -15 dB, in the scale ``(dB + 35) / 20`` of the networks.
LEVEL = 1.0

#: Power, of 1 for a full-scale sine, that digital silence is given: far below what 16-bit sound can tell.
_SILENT_POWER = 1e-12


@runtime_checkable
class SpeechFeatures(Protocol):
    """Sound in, feature rows out. ``size`` numbers per row, ``rate_hz`` rows per second, row k at ``k / rate_hz`` seconds."""

    name: str
    size: int
    rate_hz: float

    def push(self, samples: Array) -> Array:
        """Take the next samples [n] float32 at 16 kHz; give the rows [k, size] that are now complete."""
        ...

    def finish(self) -> Array:
        """The rows that remain once the sound has ended; the extractor is then as new."""
        ...


@lru_cache(maxsize=4)
def mel_filterbank(count: int = 80, low_hz: float = 60.0, high_hz: float = 7600.0) -> Array:
    """Triangles of equal area on O'Shaughnessy's mel scale, ``2595 log10(1 + f / 700)``: float32 [count, 257]."""
    edges_mel = np.linspace(2595 * np.log10(1 + low_hz / 700), 2595 * np.log10(1 + high_hz / 700), count + 2)
    edges_hz = 700 * (10 ** (edges_mel / 2595) - 1)
    bins_hz = np.arange(_FFT // 2 + 1) * RATE_HZ / _FFT
    rise = (bins_hz - edges_hz[:-2, None]) / (edges_hz[1:-1] - edges_hz[:-2])[:, None]
    fall = (edges_hz[2:, None] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rise, fall))
    # A narrow triangle between two bins would be empty: give it its nearest bin.
    for row in np.flatnonzero(triangles.sum(axis=1) < 1e-6):
        triangles[row, int(round(edges_hz[row + 1] * _FFT / RATE_HZ))] = 1.0
    return (triangles / triangles.sum(axis=1, keepdims=True)).astype(np.float32)


class _Framer:
    """Cuts a stream into overlapping windows centred at multiples of the hop."""

    def __init__(self, window: int, hop: int) -> None:
        self._window, self._hop = window, hop
        self.reset()

    def reset(self) -> None:
        # Half a window of silence before the first sample centres window 0 on it.
        self._pending = np.zeros(self._window // 2, np.float32)
        self._samples = 0
        self._frames = 0

    def push(self, samples: Array) -> Array:
        self._samples += len(samples)
        self._pending = np.concatenate([self._pending, np.asarray(samples, np.float32)])
        count = (len(self._pending) - self._window) // self._hop + 1
        if count <= 0:
            return np.zeros((0, self._window), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(self._pending, self._window)[:: self._hop][:count].copy()
        self._pending = self._pending[count * self._hop :]
        self._frames += count
        return windows

    def finish(self) -> Array:
        """Windows up to the one centred on the last sample, silence after the end."""
        total = -(-self._samples // self._hop)
        missing = total - self._frames
        if missing <= 0:
            self.reset()
            return np.zeros((0, self._window), np.float32)
        needed = (missing - 1) * self._hop + self._window
        padded = np.zeros(max(needed, self._window), np.float32)
        keep = self._pending[: len(padded)]
        padded[: len(keep)] = keep
        windows = np.lib.stride_tricks.sliding_window_view(padded, self._window)[:: self._hop][:missing].copy()
        self.reset()
        return windows


class LevelFollower:
    """A running speech level in dB: rises within 30 ms, falls in 3 s while someone speaks and slowly (0.5 dB/s) in
    pauses.

    It starts at the first frame, so that a recording that is played louder has the same levels, only higher by as much. All decisions look
    backwards only.
    """

    #: Nothing below it is a voice; the noise of 16-bit sound lies lower.
    FLOOR_DB = -65.0

    def __init__(self) -> None:
        self.level_db: float | None = None

    def follow(self, energy_db: Array) -> Array:
        """Levels [k] for frame energies [k]."""
        levels = np.empty(len(energy_db), np.float32)
        if not len(levels):
            return levels
        level = float(energy_db[0]) if self.level_db is None else self.level_db
        for index, energy in enumerate(energy_db.tolist()):
            if energy > level:
                level += (energy - level) * 0.28
            elif energy > level - 15.0:
                level += (energy - level) * 0.0033
            else:
                level -= 0.005
            level = max(level, self.FLOOR_DB)
            levels[index] = level
        self.level_db = level
        return levels


class LogMel:
    """80 log-mel bands and the frame's energy, both relative to the running level, and :data:`LEVEL`: 82 numbers, 100 Hz.

    The last number was the level itself. How loud a recording is played says nothing about lips, so it is always the same; its place stays,
    because weights that were learned with it count on it.
    """

    name = "log_mel"
    size = 82
    rate_hz = float(RATE_HZ / HOP)

    def __init__(self) -> None:
        self._framer = _Framer(_WINDOW, HOP)
        self._follower = LevelFollower()
        self._shape = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)

    def push(self, samples: Array) -> Array:
        return self._rows(self._framer.push(samples))

    def finish(self) -> Array:
        rows = self._rows(self._framer.finish())
        self._follower = LevelFollower()
        return rows

    def _rows(self, windows: Array) -> Array:
        rows = [self._transform(windows[i : i + 4096]) for i in range(0, len(windows), 4096)]
        return np.concatenate(rows) if rows else np.zeros((0, self.size), np.float32)

    def _power(self, windows: Array) -> Array:
        """Power spectra [k, 257]; a full-scale sine has power 1 in its bin."""
        spectrum = np.fft.rfft(windows * self._shape, _FFT)
        return (spectrum.real**2 + spectrum.imag**2).astype(np.float32) / (self._shape.sum() / 2) ** 2

    def _transform(self, windows: Array) -> Array:
        power = self._power(windows)
        bands_db = 10 * np.log10(power @ mel_filterbank().T + _SILENT_POWER)
        energy_db = 10 * np.log10(power.sum(axis=1) + _SILENT_POWER)
        level_db = self._follower.follow(energy_db)
        rows = np.empty((len(windows), self.size), np.float32)
        rows[:, :80] = np.clip((bands_db - level_db[:, None] + 30.0) / 20.0, -2.0, 2.0)
        rows[:, 80] = np.clip((energy_db - level_db + 20.0) / 20.0, -2.0, 2.0)
        rows[:, 81] = LEVEL
        return rows


@lru_cache(maxsize=1)
def envelope_filterbank() -> Array:
    """40 triangles on the mel scale, each at least 240 Hz wide so that single harmonics do not show: float32 [40, 257]."""
    mel = np.linspace(2595 * np.log10(1 + 150 / 700), 2595 * np.log10(1 + 7000 / 700), 42)
    centre_hz = 700 * (10 ** (mel / 2595) - 1)
    half_hz = np.maximum((centre_hz[2:] - centre_hz[:-2]) / 2, 120.0)
    bins_hz = np.arange(_FFT // 2 + 1) * RATE_HZ / _FFT
    triangles = np.maximum(0.0, 1.0 - np.abs(bins_hz - centre_hz[1:-1, None]) / half_hz[:, None])
    return (triangles / triangles.sum(axis=1, keepdims=True)).astype(np.float32)


#: Mean of the 40 bands in speech, dB relative to the running level (LJSpeech, GRID and synthesised voices, equal parts).
SPEECH_MEAN_DB = np.array([
    -22, -23, -24, -25, -26, -28, -31, -34, -38, -41, -43, -45, -46, -47, -47, -48, -48, -49, -49, -50,
    -51, -51, -51, -50, -50, -51, -52, -52, -52, -53, -54, -56, -58, -60, -61, -62, -64, -65, -65, -65,
], np.float32)  # fmt: skip


class EnvelopeLogMel(LogMel):
    """Spectral envelopes freed of voice and microphone: 40 wide log-mel bands less their running mean over speech, the
    frame's energy relative to the running level, and :data:`LEVEL` as in :class:`LogMel`: 42 numbers, 100 Hz.

    The mean is causal: it starts at :data:`SPEECH_MEAN_DB` (worth one second of speech) and follows with a memory of
    four seconds, in frames within 15 dB of the level. Source: cepstral mean normalisation, B. Atal, "Effectiveness of
    linear prediction characteristics of the speech wave for automatic speaker identification and verification", 1974.
    """

    name = "envelope_log_mel"
    size = 42

    def __init__(self) -> None:
        super().__init__()
        self._reset_mean()

    def _reset_mean(self) -> None:
        self._mean_db = SPEECH_MEAN_DB.copy()
        self._heard = 100

    def finish(self) -> Array:
        rows = super().finish()
        self._reset_mean()
        return rows

    def _transform(self, windows: Array) -> Array:
        power = self._power(windows)
        energy_db = 10 * np.log10(power.sum(axis=1) + _SILENT_POWER)
        level_db = self._follower.follow(energy_db)
        bands_db = 10 * np.log10(power @ envelope_filterbank().T + _SILENT_POWER) - level_db[:, None]
        bands_db = np.maximum(bands_db, -80.0)
        rows = np.empty((len(windows), self.size), np.float32)
        speaking = (energy_db > level_db - 15.0) & (level_db > LevelFollower.FLOOR_DB)
        for row, voice in enumerate(speaking.tolist()):
            if voice:
                self._heard = min(self._heard + 1, 400)
                self._mean_db += (bands_db[row] - self._mean_db) / self._heard
            rows[row, :40] = self._mean_db
        rows[:, :40] = np.clip((bands_db - rows[:, :40]) / 12.0, -2.5, 2.5)
        rows[:, 40] = np.clip((energy_db - level_db + 20.0) / 20.0, -2.0, 2.0)
        rows[:, 41] = LEVEL
        return rows


class PairedLogMel:
    """Rows of :class:`LogMel` and :class:`EnvelopeLogMel` side by side, for networks that listen together: 124 numbers, 100 Hz."""

    name = "log_mel+envelope_log_mel"
    size = LogMel.size + EnvelopeLogMel.size
    rate_hz = LogMel.rate_hz

    def __init__(self) -> None:
        self._parts = (LogMel(), EnvelopeLogMel())

    def push(self, samples: Array) -> Array:
        return np.concatenate([part.push(samples) for part in self._parts], axis=1)

    def finish(self) -> Array:
        return np.concatenate([part.finish() for part in self._parts], axis=1)


#: Extractors by the name that a network's file gives.
EXTRACTORS: dict[str, type[SpeechFeatures]] = {kind.name: kind for kind in (LogMel, EnvelopeLogMel, PairedLogMel)}


#: Bins of 15.6 Hz at which the bands of :class:`Prosody` meet: 62, 500, 1500 and 4000 Hz.
_BAND_BINS = (4, 32, 96, 256)


@dataclass(frozen=True, slots=True)
class Prosody:
    """Prosody at 100 rows per second, row k at k / 100 s.

    Args:
        pitch_hz: [k] fundamental frequency, 0 where unvoiced.
        voicing: [k] 0..1, strength of periodicity.
        energy_db: [k] relative to the running speech level; 0 = as loud as the speaker gets.
        bands_db: [k, 2] levels of 500 to 1500 Hz and of 1500 to 4000 Hz relative to those up to 500 Hz; left out, it is as of a hum.
    """

    pitch_hz: Array
    voicing: Array
    energy_db: Array
    bands_db: Array = field(default=None)  # type: ignore[arg-type]  # :meth:`__post_init__` makes it an array

    def __post_init__(self) -> None:
        if self.bands_db is None:
            object.__setattr__(self, "bands_db", np.full((len(self.pitch_hz), 2), -60.0, np.float32))

    def __len__(self) -> int:
        return len(self.pitch_hz)


class ProsodyTracker:
    """Pitch by the normalised autocorrelation of 40 ms windows, energy and voicing; streams like :class:`LogMel`.

    Source: P. Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of
        a sampled sound",
    1993: the window's own autocorrelation is divided out. Of peaks that nearly reach the highest one the shortest lag
    wins, which avoids octaves down (P. McLeod and G. Wyvill, "A smarter way to find pitch", 2005); a candidate near
    the last pitch is preferred. Nothing looks into the future, unlike a path over the whole sound.
    """

    def __init__(self, low_hz: float = 65.0, high_hz: float = 420.0) -> None:
        self._window = 640
        self._framer = _Framer(self._window, HOP)
        self._shape = np.hanning(self._window + 1)[:-1].astype(np.float32)
        own = self._autocorrelation(self._power(self._shape[None]))[0]
        self._own = np.maximum(own / own[0], 1e-3)
        self._lags = np.arange(int(RATE_HZ / high_hz), int(RATE_HZ / low_hz) + 2)
        self._reset()

    def _reset(self) -> None:
        self._follower = LevelFollower()
        self._last_pitch_hz = 0.0

    @staticmethod
    def _power(windows: Array) -> Array:
        """Power spectra [k, 513] of [k, 640]."""
        spectrum = np.fft.rfft(windows, 1024)
        return spectrum.real**2 + spectrum.imag**2

    @staticmethod
    def _autocorrelation(power: Array) -> Array:
        """Lags 0..383 out of power spectra [k, 513]: with 1024 points later ones would wrap around."""
        return np.fft.irfft(power, 1024)[:, :384].astype(np.float32)

    @staticmethod
    def _bands_db(power: Array) -> Array:
        """See :class:`Prosody`: power spectra [k, 513] -> [k, 2]."""
        low, middle, high = (power[:, first:last].sum(axis=1) + _SILENT_POWER for first, last in pairwise(_BAND_BINS))
        return (10 * np.log10(np.stack([middle, high], axis=1) / low[:, None])).astype(np.float32)

    def push(self, samples: Array) -> Prosody:
        """Take the next samples [n] at 16 kHz; give the rows that are now complete."""
        return self._rows(self._framer.push(samples))

    def finish(self) -> Prosody:
        """The rows that remain; the tracker is then as new."""
        rows = self._rows(self._framer.finish())
        self._reset()
        return rows

    def _rows(self, windows: Array) -> Prosody:
        parts = [self._transform(windows[i : i + 1024]) for i in range(0, len(windows), 1024)]
        if not parts:
            empty = np.zeros(0, np.float32)
            return Prosody(empty, empty, empty, np.zeros((0, 2), np.float32))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return Prosody(*columns)

    def _transform(self, windows: Array) -> tuple[Array, Array, Array, Array]:
        windows = windows - windows.mean(axis=1, keepdims=True)
        energy_db = (10 * np.log10(np.mean(windows**2, axis=1) * 2 + _SILENT_POWER)).astype(np.float32)
        level_db = self._follower.follow(energy_db)
        power = self._power(windows * self._shape)
        correlation = self._autocorrelation(power)
        normal = correlation / np.maximum(correlation[:, :1], 1e-9) / self._own
        band = normal[:, self._lags]
        peak = (band[:, 1:-1] >= band[:, :-2]) & (band[:, 1:-1] >= band[:, 2:])
        pitch_hz = np.zeros(len(windows), np.float32)
        voicing = np.zeros(len(windows), np.float32)
        relative = energy_db - level_db
        for row in range(len(windows)):
            if relative[row] < -35.0 or energy_db[row] < LevelFollower.FLOOR_DB:
                self._last_pitch_hz = 0.0
                continue
            candidates = np.flatnonzero(peak[row]) + 1
            if not len(candidates):
                self._last_pitch_hz = 0.0
                continue
            values = band[row, candidates]
            if self._last_pitch_hz > 0:
                jump = np.abs(np.log2(RATE_HZ / self._lags[candidates] / self._last_pitch_hz))
                values = values - 0.1 * np.minimum(jump, 1.0)
            best = candidates[int(np.argmax(values >= 0.88 * values.max()))]
            strength = float(np.clip(band[row, best], 0.0, 1.0))
            voicing[row] = strength
            if strength < 0.55:
                self._last_pitch_hz = 0.0
                continue
            left, middle, right = band[row, best - 1 : best + 2]
            bend = left - 2 * middle + right
            shift = 0.5 * (left - right) / bend if bend < -1e-6 else 0.0
            self._last_pitch_hz = float(RATE_HZ / (self._lags[best] + np.clip(shift, -0.5, 0.5)))
            pitch_hz[row] = self._last_pitch_hz
        return pitch_hz, voicing, np.clip(relative, -60.0, 10.0).astype(np.float32), self._bands_db(power)
