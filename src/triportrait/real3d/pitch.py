"""Pitch of a whole recording by autocorrelation and the best path through its candidates.

Source: P. Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound"
(1993), with the constants of Praat's ``To Pitch (ac)`` and the settings that Real3D-Portrait's audio-to-motion was trained on (spec 2.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.types import Array

RATE_HZ = 16_000
#: Samples between two rows: 50 rows per second, as HuBERT gives.
HOP = 320
_FFT = 1024
_CANDIDATES = 14
#: Windows transformed at a time.
_BATCH = 512


@dataclass(frozen=True, slots=True)
class PitchSettings:
    """What counts as voiced, and what a path costs.

    Args:
        low_hz, high_hz: range of the pitch; the window holds three periods of the lowest.
        voicing_threshold: strength of the candidate "unvoiced".
        silence_threshold: share of the recording's peak below which sound is silence.
        octave_cost: advantage of higher candidates, per octave.
        octave_jump_cost: of a change of pitch, per octave in 10 ms.
        voicing_cost: of a change between voiced and unvoiced in 10 ms.
    """

    low_hz: float = 80.0
    high_hz: float = 750.0
    voicing_threshold: float = 0.6
    silence_threshold: float = 0.03
    octave_cost: float = 0.01
    octave_jump_cost: float = 0.35
    voicing_cost: float = 0.14


class PitchTracker:
    """Sound in, pitch of the whole out. Keeps 15 candidates per row, not the sound: 6 kB per second."""

    def __init__(self, settings: PitchSettings | None = None) -> None:
        self.settings = settings = settings or PitchSettings()
        self._window = round(3.0 * RATE_HZ / settings.low_hz)
        self._shape = np.hanning(self._window + 2)[1:-1]
        own = _autocorrelation(self._shape[None])[0]
        self._own = own / own[0]
        self._pending = np.zeros(0, np.float32)
        self._lags: list[Array] = []
        self._strengths: list[Array] = []
        self._peaks: list[Array] = []
        self._peak = 0.0

    def push(self, samples: Array) -> None:
        """Take the next samples [n] at 16 kHz."""
        samples = np.asarray(samples, np.float32)
        if len(samples):
            self._peak = max(self._peak, float(np.abs(samples).max()))
        self._pending = np.concatenate([self._pending, samples])
        count = (len(self._pending) - self._window) // HOP + 1
        if count <= 0:
            return
        windows = np.lib.stride_tricks.sliding_window_view(self._pending, self._window)[::HOP][:count]
        for start in range(0, count, _BATCH):
            self._look(windows[start : start + _BATCH].astype(np.float64))
        self._pending = self._pending[count * HOP :].copy()

    def finish(self) -> Array:
        """Pitch [t] float32 in Hz, 0 where unvoiced; row k belongs to the window that starts at sample ``320 k``."""
        if not self._lags:
            return np.zeros(0, np.float32)
        settings = self.settings
        lags, strengths = np.concatenate(self._lags), np.concatenate(self._strengths)
        loudness = np.concatenate(self._peaks) / max(self._peak, 1e-9)
        silence = settings.silence_threshold / (1.0 + settings.voicing_threshold)
        unvoiced = settings.voicing_threshold + np.maximum(0.0, 2.0 - loudness / silence)
        pitch = np.concatenate([np.zeros((len(lags), 1)), RATE_HZ / lags], 1)
        return _best_path(pitch, np.concatenate([unvoiced[:, None], strengths], 1), settings).astype(np.float32)

    def _look(self, windows: Array) -> None:
        """Candidates of windows [k, w]: lags [k, 14] in samples and their strengths, -inf where there is none."""
        settings = self.settings
        self._peaks.append(np.abs(windows - windows.mean(1, keepdims=True)).max(1))
        correlation = _autocorrelation((windows - windows.mean(1, keepdims=True)) * self._shape)
        normal = correlation / np.maximum(correlation[:, :1], 1e-12) / self._own
        first, last = int(RATE_HZ / settings.high_hz), int(np.ceil(RATE_HZ / settings.low_hz))
        middle = normal[:, first : last + 1]
        left, right = normal[:, first - 1 : last], normal[:, first + 1 : last + 2]
        bend = left - 2.0 * middle + right
        top = (middle > left) & (middle >= right) & (middle > 0.5 * settings.voicing_threshold)
        shift = np.where(top, 0.5 * (left - right) / np.where(top, bend, -1.0), 0.0)
        lag = np.arange(first, last + 1) + shift
        # Sums of sines can exceed 1 between samples, where the parabola is only an approximation.
        height = np.minimum(middle - 0.25 * (left - right) * shift, 1.0)
        inside = top & (lag >= RATE_HZ / settings.high_hz) & (lag <= RATE_HZ / settings.low_hz)
        strength = np.where(inside, height - settings.octave_cost * np.log2(settings.low_hz * lag / RATE_HZ), -np.inf)
        best = np.argsort(-strength, 1)[:, :_CANDIDATES]
        self._lags.append(np.take_along_axis(lag, best, 1).astype(np.float32))
        self._strengths.append(np.take_along_axis(strength, best, 1).astype(np.float32))


def _autocorrelation(windows: Array) -> Array:
    """Lags 0..383 of [k, w], w at most 640."""
    spectrum = np.fft.rfft(windows, _FFT)
    return np.fft.irfft(spectrum.real**2 + spectrum.imag**2, _FFT)[:, :384]


def _best_path(pitch: Array, strength: Array, settings: PitchSettings) -> Array:
    """One of the candidates [t, c] of every row (0 Hz is unvoiced): greatest strength less the cost of changes (Viterbi)."""
    per_step = 0.01 * RATE_HZ / HOP
    voiced = pitch > 0
    octaves = np.log2(np.where(voiced, pitch, 1.0))
    came_from = np.zeros(pitch.shape, np.int8)
    score = strength[0].astype(np.float64)
    for row in range(1, len(pitch)):
        before, now = voiced[row - 1][:, None], voiced[row][None]
        jump = settings.octave_jump_cost * np.abs(octaves[row - 1][:, None] - octaves[row][None])
        cost = np.where(before & now, jump, np.where(before | now, settings.voicing_cost, 0.0)) * per_step
        total = score[:, None] - cost
        came_from[row] = total.argmax(0)
        score = total.max(0) + strength[row]
    path = np.empty(len(pitch), np.int64)
    path[-1] = score.argmax()
    for row in range(len(pitch) - 1, 0, -1):
        path[row - 1] = came_from[row, path[row]]
    return pitch[np.arange(len(pitch)), path]
