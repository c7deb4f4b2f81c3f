"""What the learned manner hears of a voice: rows at 25 per second, from our own speech features."""

from __future__ import annotations

import numpy as np

from triportrait.motion.speech_features import EnvelopeLogMel, Prosody, ProsodyTracker
from triportrait.motion.voice_graph import STRIDE, MouthStream, load_voice
from triportrait.types import Array

#: The pitch that counts as 0.
_MIDDLE_PITCH_HZ = 160.0
#: Numbers of prosody in a row.
_PROSODY = 3


class Hearing:
    """Sound blocks in; rows of what is heard, and the prosody for pauses, out.

    A row holds the mouth curves, opening and contact that the shipped voice network hears, 42 wide log-mel bands (the mean of four rows
    at 100 Hz), and prosody: octaves from 160 Hz (0 where unvoiced), voicing, tens of decibels below the running level.
    """

    def __init__(self) -> None:
        graph = load_voice()
        self._mouth, self._bands, self._prosody = MouthStream(graph), EnvelopeLogMel(), ProsodyTracker()
        #: Names of the mouth's curves, in the order of a row's first numbers.
        self.curves: tuple[str, ...] = tuple(graph.config["curves"])
        self.size = len(self.curves) + 2 + EnvelopeLogMel.size + _PROSODY
        self._heard = np.zeros((0, len(self.curves) + 2), np.float32)
        # Bands and prosody look ahead by different lengths, so each waits for the other.
        self._sounds = [np.zeros((0, size), np.float32) for size in (EnvelopeLogMel.size, _PROSODY)]

    @property
    def contact(self) -> int:
        """Column of the probability that the lips touch."""
        return len(self.curves) + 1

    @property
    def teeth(self) -> int:
        """Column of the curve by which the lower lip meets the upper teeth."""
        return self.curves.index("mouthRollLower")

    def push(self, samples: Array) -> tuple[Array, Prosody]:
        """The next samples [n] at 16 kHz -> rows [k, :attr:`size`] that are now final, and the prosody of these samples."""
        return self._taken(self._mouth.push(samples), self._bands.push(samples), self._prosody.push(samples))

    def finish(self) -> tuple[Array, Prosody]:
        """The rows that remain."""
        return self._taken(self._mouth.finish(), self._bands.finish(), self._prosody.finish(), ended=True)

    def _taken(self, mouth: tuple[Array, Array, Array], bands: Array, prosody: Prosody, ended: bool = False) -> tuple[Array, Prosody]:
        curves, opening, contact = mouth
        self._heard = np.concatenate([self._heard, np.concatenate([curves, opening[:, None], contact[:, None]], axis=1)])
        self._sounds = [np.concatenate([rows, more]) for rows, more in zip(self._sounds, (bands, _numbers(prosody)), strict=True)]
        if ended:
            self._sounds = [_to_length(rows, STRIDE * len(self._heard)) for rows in self._sounds]
        rows = min(len(self._heard), *(len(sounds) // STRIDE for sounds in self._sounds))
        means = [sounds[: rows * STRIDE].reshape(rows, STRIDE, sounds.shape[1]).mean(axis=1) for sounds in self._sounds]
        answer = np.concatenate([self._heard[:rows], *means], axis=1)
        self._heard, self._sounds = self._heard[rows:], [sounds[rows * STRIDE :] for sounds in self._sounds]
        return answer, prosody


def _to_length(rows: Array, count: int) -> Array:
    """Rows up to ``count``, the last one again where some are missing."""
    return np.pad(rows, ((0, max(0, count - len(rows))), (0, 0)), mode="edge" if len(rows) else "constant")


def _numbers(prosody: Prosody) -> Array:
    voiced = prosody.pitch_hz > 0
    octaves = np.where(voiced, np.log2(np.where(voiced, prosody.pitch_hz, _MIDDLE_PITCH_HZ) / _MIDDLE_PITCH_HZ), 0.0)
    return np.stack([octaves, prosody.voicing, prosody.energy_db / 10.0], axis=1).astype(np.float32)


def heard_rows(samples: Array) -> Array:
    """Rows of a whole sound [n] at 16 kHz."""
    hearing = Hearing()
    return np.concatenate([hearing.push(np.asarray(samples, np.float32))[0], hearing.finish()[0]])
