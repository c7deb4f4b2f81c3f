"""Phoneme times of a real recording with a transcript: speak the transcript with a synthesiser and warp its time onto the recording.

Source: dynamic time warping of spectra, H. Sakoe and S. Chiba, "Dynamic programming algorithm optimization for spoken
word recognition", 1978. Good to some tens of milliseconds on read speech, which is what lips need.
"""

from __future__ import annotations

import numpy as np
import torch

from triportrait.compiling import njit
from triportrait.motion.audio_network import STRIDE, AudioToMotion
from triportrait.motion.speech_features import EXTRACTORS, LogMel
from triportrait.training.voice.articulation import VISEME_SYMBOL, VISEMES, visemes_of
from triportrait.training.voice.synthesisers import Phone, Utterance
from triportrait.types import Array, Waveform


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


@njit(cache=True)
def _segment_path(scores: Array, first: Array, last: Array, shortest: int) -> Array:
    """Start row of each segment on the best path through ``scores`` [rows, segments]; segment s may only start in
    rows ``first[s]`` to ``last[s]`` and lasts ``shortest`` rows at least."""
    rows, segments = scores.shape
    total = np.zeros((rows + 1, segments))
    for row in range(rows):
        total[row + 1] = total[row] + scores[row]
    best = np.full((segments + 1, rows + 1), -np.inf)
    came = np.zeros((segments + 1, rows + 1), np.int64)
    best[0, 0] = 0.0
    for s in range(segments):
        # best[s, r]: segments before s fill rows before r.
        begin, end = (0, 0) if s == 0 else (first[s], last[s])
        for start in range(begin, end + 1):
            if best[s, start] == -np.inf:
                continue
            to_first, to_last = (rows, rows) if s == segments - 1 else (first[s + 1], last[s + 1])
            for stop in range(max(to_first, start + shortest), to_last + 1):
                value = best[s, start] + total[stop, s] - total[start, s]
                if value > best[s + 1, stop]:
                    best[s + 1, stop], came[s + 1, stop] = value, start
    starts = np.full(segments, -1, np.int64)
    if best[segments, rows] == -np.inf:
        return starts
    row = rows
    for s in range(segments - 1, -1, -1):
        row = came[s + 1, row]
        starts[s] = row
    return starts


def refined_phones(phones: tuple[Phone, ...], log_posterior: Array, within_s: float = 0.15) -> tuple[Phone, ...]:
    """Boundaries moved to where a network hears them (Viterbi search over segments).

    Args:
        phones: phonemes with times that are right to about ``within_s``, without gaps.
        log_posterior: [rows, visemes] at 100 Hz, log probabilities of each viseme less the log of its share.
        within_s: how far a boundary may move.

    Returns:
        One phone per viseme (diphthongs and affricates are split); ``phones`` themselves where no path fits.
    """
    rows = len(log_posterior)
    parts = []
    for phone in phones:
        names = visemes_of(phone.symbol)
        step = (phone.end_s - phone.start_s) / len(names)
        parts += [(VISEME_SYMBOL[name], name, phone.start_s + i * step) for i, name in enumerate(names)]
    if not parts:
        return phones
    numbers = np.array([list(VISEMES).index(name) for _, name, _ in parts])
    start = np.array([at for _, _, at in parts])
    reach = round(within_s * 100)
    middle = np.round(start * 100).astype(np.int64)
    first, last = np.clip(middle - reach, 0, rows), np.clip(middle + reach, 0, rows)
    found = _segment_path(log_posterior[:, numbers].astype(np.float64), first, last, 3)
    if found[0] < 0:
        return phones
    edges = np.append(found, rows) / 100.0
    return tuple(Phone(symbol, float(a), float(b)) for (symbol, _, _), a, b in zip(parts, edges[:-1], edges[1:], strict=True))


def viseme_scores(model: AudioToMotion, samples: Array) -> Array:
    """How much better than by chance each sound fits: log posterior less log share, [rows at 100 Hz, visemes].

    The network names sounds 25 times per second; shifting its input by one feature row gives the moments between.
    """
    extractor = EXTRACTORS[model.config.extractor]()
    rows = torch.from_numpy(np.concatenate([extractor.push(samples), extractor.finish()]))
    count = len(rows) // STRIDE
    result = np.empty((count * STRIDE, model.config.visemes), np.float32)
    rows = torch.cat([rows, rows[-1:].expand(STRIDE, -1)])
    with torch.inference_mode():
        for shift in range(STRIDE):
            logits = model.visemes(model.trunk(rows[None, shift : shift + count * STRIDE]))[0]
            result[shift::STRIDE] = torch.log_softmax(logits, -1).numpy()
    share = np.log(np.exp(result).mean(axis=0) + 0.01)
    return np.maximum(result - share, -6.0)
