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
        self._sounds = np.zeros((0, EnvelopeLogMel.size + _PROSODY), np.float32)

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
        count = min(len(bands), len(prosody))
        self._sounds = np.concatenate([self._sounds, np.concatenate([bands[:count], _numbers(prosody)[:count]], axis=1)])
        if ended and len(self._sounds) < STRIDE * len(self._heard):
            missing = STRIDE * len(self._heard) - len(self._sounds)
            self._sounds = np.pad(self._sounds, ((0, missing), (0, 0)), mode="edge" if len(self._sounds) else "constant")
        rows = min(len(self._heard), len(self._sounds) // STRIDE)
        sounds = self._sounds[: rows * STRIDE].reshape(rows, STRIDE, self._sounds.shape[1]).mean(axis=1)
        answer = np.concatenate([self._heard[:rows], sounds], axis=1)
        self._heard, self._sounds = self._heard[rows:], self._sounds[rows * STRIDE :]
        return answer, prosody


def _numbers(prosody: Prosody) -> Array:
    voiced = prosody.pitch_hz > 0
    octaves = np.where(voiced, np.log2(np.where(voiced, prosody.pitch_hz, _MIDDLE_PITCH_HZ) / _MIDDLE_PITCH_HZ), 0.0)
    return np.stack([octaves, prosody.voicing, prosody.energy_db / 10.0], axis=1).astype(np.float32)


def heard_rows(samples: Array) -> Array:
    """Rows of a whole sound [n] at 16 kHz."""
    hearing = Hearing()
    return np.concatenate([hearing.push(np.asarray(samples, np.float32))[0], hearing.finish()[0]])
