"""Phoneme times of a real recording with a transcript: speak the transcript with a synthesiser and warp its time onto the recording.

Source: dynamic time warping of spectra, H. Sakoe and S. Chiba, "Dynamic programming algorithm optimization for spoken
word recognition", 1978. Good to some tens of milliseconds on read speech, which is what lips need.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from triportrait.motion.speech_features import LogMel
from triportrait.training.synthesis import Phone, Utterance
from triportrait.types import Waveform

Array = np.ndarray


def _spectra(waveform: Waveform) -> Array:
    """Log-mel shapes [k, d] at 100 Hz, each band at zero mean and unit deviation, with slopes over 50 ms."""
    extractor = LogMel()
    rows = np.concatenate([extractor.push(waveform.samples), extractor.finish()])
    bands = rows[:, :80].reshape(len(rows), 20, 4).mean(axis=2)
    bands = np.concatenate([bands, 3.0 * rows[:, 80:81]], axis=1)
    bands = (bands - bands.mean(axis=0)) / (bands.std(axis=0) + 1e-3)
    slope = np.zeros_like(bands)
    slope[2:-2] = (bands[4:] - bands[:-4]) / 2
    return np.concatenate([bands, slope], axis=1).astype(np.float32)


@njit(cache=True)
def _path(first: Array, second: Array) -> tuple[Array, float]:
    """For each row of ``first`` the row of ``second`` on the cheapest path, and its mean cost; steps of slope 1/2 to 2."""
    rows, columns, size = first.shape[0], second.shape[0], first.shape[1]
    cost = np.empty((rows, columns), np.float32)
    for i in range(rows):
        for j in range(columns):
            total = 0.0
            for k in range(size):
                difference = first[i, k] - second[j, k]
                total += difference * difference
            cost[i, j] = np.sqrt(total)
    best = np.full((rows, columns), np.inf, np.float32)
    came = np.zeros((rows, columns), np.int8)
    for i in range(rows):
        for j in range(columns):
            if i == 0 and j == 0:
                best[i, j] = cost[i, j]
                continue
            # Staying on one side costs more than going on together.
            choice, value = 0, np.inf
            if i > 0 and j > 0:
                value = best[i - 1, j - 1] + cost[i, j]
            if i > 0 and best[i - 1, j] + 1.3 * cost[i, j] < value:
                choice, value = 1, best[i - 1, j] + 1.3 * cost[i, j]
            if j > 0 and best[i, j - 1] + 1.3 * cost[i, j] < value:
                choice, value = 2, best[i, j - 1] + 1.3 * cost[i, j]
            best[i, j] = value
            came[i, j] = choice
    match = np.zeros(rows, np.int64)
    i, j = rows - 1, columns - 1
    while i > 0 or j > 0:
        match[i] = j
        if came[i, j] == 0:
            i, j = i - 1, j - 1
        elif came[i, j] == 1:
            i -= 1
        else:
            j -= 1
    return match, best[rows - 1, columns - 1] / (rows + columns)


def aligned_phones(spoken: Utterance, recording: Waveform) -> tuple[tuple[Phone, ...], float]:
    """Phonemes of ``spoken`` in the time of ``recording`` (both 16 kHz, same words), and the mean cost of the match."""
    match, cost = _path(_spectra(spoken.waveform), _spectra(recording))

    def warp(time_s: float) -> float:
        return float(np.interp(time_s * 100.0, np.arange(len(match)), match)) / 100.0

    phones = []
    for phone in spoken.phones:
        start, end = warp(phone.start_s), warp(phone.end_s)
        if end > start:
            phones.append(Phone(phone.symbol, start, end))
    return tuple(phones), cost
