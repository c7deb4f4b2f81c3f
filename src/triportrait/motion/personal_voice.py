"""A person's own way of opening the mouth: ridge regression on top of the shipped lip network.

From what the network says and the log-mel spectrum around a row follows by how much this person's lips stand farther apart or closer than
the network's. Some seconds of video suffice, because only this residual is learned, and little of it where there is little evidence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from triportrait.motion.speech_features import LogMel
from triportrait.motion.voice_graph import STRIDE, MouthStream, load_voice
from triportrait.nn.runtime import Graph
from triportrait.types import Array

#: The network's answer to what it is unsure of is an average, which is smaller than any speaker's movement. On voices it never heard it
#: opens the mouth too little: 95th percentile 0.065 face heights, where real speakers have 0.08 to 0.17.
VOICE_GAIN = 1.3
#: Feature rows (100 per second) around a motion row that count. The last lies within what the network looks ahead.
_OFFSETS = np.arange(-28, 17, 4)
#: So many motion rows of the network, the present one included.
_ROWS = 5
#: The ridge's penalties that are tried, in squared residuals of one row whose inputs are as long as usual, and the stretches of the talk,
#: each of which judges what the others teach. Twenty seconds make that many rows; from less, stretches tell too little, and the last number
#: is taken.
_PENALTIES, _STRETCHES, _TELLING_ROWS, _PENALTY = (0.2, 0.4, 0.6, 1.0, 2.0, 4.0, 6.0, 20.0, 60.0), 5, 500, 6.0
#: A person must talk for so long; a feature row is speech if its energy (the 81st number) is above 0, 20 dB below the running level.
SHORTEST_S, _ENERGY = 4.0, 80
#: Feature rows beside speech that belong to the talk.
_PAUSE = 40
#: A constant part of every input's spread that is added to it, so that what hardly varies does not count much.
_FLOOR = 0.1
#: By how much at most the mouth opens more than the network says, and the opening (face heights) below which nothing is changed.
_MOST, _LEAST_OPENING = 2.5, 0.004
#: So much is added at most where the network hardly opens the mouth (face heights).
_MOST_ADDED = 0.05


class Ears:
    """The regression's inputs as sound comes in: rows [k, f] that belong to the network's rows."""

    def __init__(self) -> None:
        self._mel = LogMel()
        self._spectra = np.zeros((0, self._mel.size), np.float32)
        self._first = self._done = 0
        self._said: Array | None = None

    def push(self, samples: Array) -> None:
        """Take the next samples [n] at 16 kHz."""
        self._spectra = np.concatenate([self._spectra, self._mel.push(samples)])

    def finish(self) -> None:
        """No more sound will come."""
        self._spectra = np.concatenate([self._spectra, self._mel.finish()])

    @property
    def speech_rows(self) -> int:
        """Feature rows of talk among those that are still needed: speech, and the pauses between words."""
        loud = (self._spectra[:, _ENERGY] > 0).astype(int)
        return int((np.convolve(loud, np.ones(2 * _PAUSE + 1, int), "same") > 0).sum())

    def rows(self, curves: Array, opening: Array, contact: Array) -> Array:
        """Inputs [k, f] of the network's next rows: curves [k, c], opening [k], contact [k]."""
        count = len(curves)
        said = np.concatenate([curves, 10.0 * opening[:, None], contact[:, None]], axis=1).astype(np.float32)
        if not count:
            return np.zeros((0, len(_OFFSETS) * self._mel.size + _ROWS * said.shape[1]), np.float32)
        before = np.repeat(said[:1], _ROWS - 1, 0) if self._said is None else self._said
        whole = np.concatenate([before, said])
        self._said = whole[len(whole) - (_ROWS - 1) :]
        back = [whole[_ROWS - 1 - row : _ROWS - 1 - row + count] for row in range(_ROWS)]
        places = (self._done + np.arange(count))[:, None] * STRIDE + _OFFSETS
        places = np.clip(places, 0, self._first + len(self._spectra) - 1) - self._first
        heard = self._spectra[np.maximum(places, 0)].reshape(count, -1)
        self._done += count
        stale = max(self._done * STRIDE + int(_OFFSETS[0]) - self._first, 0)
        # The sound's first row stands for what was before it.
        if stale and self._first + stale <= self._first + len(self._spectra) - 1:
            self._spectra, self._first = self._spectra[stale:], self._first + stale
        return np.concatenate([heard, *back], axis=1)


def learned_numbers() -> int:
    """How many numbers :func:`learn_voice` gives with the lip network that ships."""
    return len(_OFFSETS) * LogMel.size + _ROWS * (len(load_voice().config["curves"]) + 2) + 1


def learn_voice(samples: Array, opening: Array, seen: Array, network: Graph | None = None) -> Array | None:
    """What :class:`PersonalVoice` takes, from somebody's own video.

    Args:
        samples: [n], 16 kHz, from the first frame on.
        opening: [t] of the lips in face heights, 25 per second; seen: bool [t], where it was measured.
        network: says what the person differs from; None takes the lip network that ships.

    Returns:
        float32 [f + 1]; None where the person speaks for less than four seconds, or long enough to see that nothing helps.
    """
    stream, ears = MouthStream(load_voice() if network is None else network), Ears()
    ears.push(np.asarray(samples, np.float32))
    ears.finish()
    if ears.speech_rows < SHORTEST_S * LogMel.rate_hz:
        return None
    curves, said, contact = (np.concatenate(parts) for parts in zip(stream.push(samples), stream.finish(), strict=True))
    inputs = ears.rows(curves, said, contact).astype(np.float64)
    count = min(len(inputs), len(opening))
    use = np.flatnonzero(seen[:count])
    inputs, said, opening = inputs[use], said[use], opening[use]
    # How far the network is to be believed at all is one number, which needs no penalty.
    spoken = said - said.mean()
    believed = float(spoken @ opening / max(float(spoken @ spoken), 1e-9)) if len(use) >= _TELLING_ROWS else VOICE_GAIN
    believed = min(max(believed, 0.0), 2.0 * VOICE_GAIN)
    residual = opening - believed * said
    mean, spread = inputs.mean(0), inputs.std(0)
    heard = len(_OFFSETS) * LogMel.size
    scale = np.empty_like(spread)
    for part in (slice(heard), slice(heard, None)):
        # Both kinds of input count alike.
        scale[part] = (spread[part] + _FLOOR * inputs[:, part].std() + 1e-6) * np.sqrt(inputs[:, part].shape[1])
    rows = (inputs - mean) / scale
    penalty = _best_penalty(rows, residual) if len(rows) >= _TELLING_ROWS else _PENALTY
    if penalty is None:
        return None
    middle = residual.mean()
    (weights,) = _ridge(rows, residual - middle, (penalty,)) / scale
    constant = middle - mean @ weights
    # Inputs hold ten times what the network says of this row, behind the spectra and its curves.
    weights[heard + curves.shape[1]] += 0.1 * (believed - VOICE_GAIN)
    return np.append(weights, constant).astype(np.float32)


def _best_penalty(rows: Array, residual: Array) -> float | None:
    """The penalty with which stretches of the talk are best predicted from the others; None where none leaves less than no map does."""
    stretch = np.arange(len(rows)) * _STRETCHES // len(rows)
    left = np.zeros(len(_PENALTIES))
    for number in range(_STRETCHES):
        own = stretch == number
        middle = residual[~own].mean()
        guesses = rows[own] @ _ridge(rows[~own], residual[~own] - middle, _PENALTIES).T + middle
        left += ((residual[own, None] - guesses) ** 2).sum(0)
    best = int(left.argmin())
    return _PENALTIES[best] if left[best] < (residual**2).sum() else None


def _ridge(rows: Array, values: Array, penalties: Sequence[float]) -> Array:
    """Weights [p, f] for which ``rows`` [n, f] times them is near ``values`` [n], for each penalty."""
    few = len(rows) <= rows.shape[1]
    spread, axes = np.linalg.eigh(rows @ rows.T if few else rows.T @ rows)
    seen = axes.T @ (values if few else rows.T @ values)
    solved = np.stack([axes @ (seen / (np.maximum(spread, 0.0) + penalty)) for penalty in penalties])
    return solved @ rows if few else solved


class PersonalVoice:
    """How to change the network's mouth, row by row.

    Args:
        learned: from :func:`learn_voice`.
    """

    def __init__(self, learned: Array) -> None:
        self._learned = learned
        self._ears = Ears()

    def anew(self) -> PersonalVoice:
        """The same voice, which has heard nothing."""
        return PersonalVoice(self._learned)

    def push(self, samples: Array) -> None:
        """Take the next samples [n] at 16 kHz."""
        self._ears.push(samples)

    def finish(self) -> None:
        """No more sound will come."""
        self._ears.finish()

    def change(self, curves: Array, opening: Array, contact: Array) -> tuple[Array, Array]:
        """For the network's next rows: factors [k], and openings [k] in face heights to add where no factor suffices."""
        residual = self._ears.rows(curves, opening, contact) @ self._learned[:-1] + self._learned[-1]
        said = VOICE_GAIN * np.maximum(opening, 0.0)
        speaks = said > _LEAST_OPENING
        gains = np.where(speaks, np.clip((said + residual) / np.maximum(said, _LEAST_OPENING), 0.0, _MOST), 1.0)
        added = np.where(speaks, np.clip(said + residual - gains * said, 0.0, _MOST_ADDED), 0.0)
        return gains.astype(np.float32), added.astype(np.float32)
