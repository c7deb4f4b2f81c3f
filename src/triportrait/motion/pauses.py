"""Pauses of speech, found as the sound comes in: where nobody speaks for three tenths of a second, the lips close.

The network of :mod:`triportrait.motion.audio_network` sees 0.19 s ahead, which does not tell a pause from the silence
before a plosive, and its answer to what it is unsure of is a mouth left ajar. Here a row knows how long it has been quiet
and, as far as the sound that the network needs anyway reaches, how long it will stay so: no delay is added.
"""

from __future__ import annotations

import numpy as np

from triportrait.geometry.fields import smooth_step
from triportrait.motion.speech_features import Prosody
from triportrait.types import Array

#: Rows of prosody per row of motion.
_STRIDE = 4
#: Rows of prosody that are looked at after a row: 0.16 s.
AHEAD = 16
#: Quiet is this much above the running noise floor, within bounds relative to the speech level, all in dB.
_ABOVE_FLOOR_DB, _LOWEST_DB, _HIGHEST_DB = 8.0, -32.0, -15.0
#: The noise floor follows falls at once and rises by 3 dB a second.
_FLOOR_RISE_DB, _FLOOR_START_DB = 0.03, 0.0
#: Seconds of known silence (past and to come) between which the lips close, and before the next sound in which they open.
_CLOSE_FROM_S, _CLOSE_TO_S, _OPEN_S = 0.18, 0.26, 0.08


class PauseFinder:
    """Rows of prosody in, the share by which the lips are closed out (0 in speech, 1 in a pause), 25 a second."""

    def __init__(self) -> None:
        # Before the first sample it was quiet for long.
        self._quiet_before = 100
        self._floor_db = _FLOOR_START_DB
        self._quiet = np.zeros(0, bool)
        #: Rows that were used before they were taken back, and that come again.
        self._again = 0

    def hear(self, prosody: Prosody) -> None:
        """Take the next rows."""
        quiet = np.empty(len(prosody), bool)
        for row, energy in enumerate(prosody.energy_db.tolist()):
            self._floor_db = min(self._floor_db + _FLOOR_RISE_DB, energy)
            quiet[row] = energy < min(max(self._floor_db + _ABOVE_FLOOR_DB, _LOWEST_DB), _HIGHEST_DB)
        self._quiet, self._again = np.concatenate([self._quiet, quiet[self._again :]]), max(self._again - len(quiet), 0)

    def take_back(self, count: int) -> None:
        """The last ``count`` rows, which were silent, were never heard: others come in their place."""
        left = len(self._quiet) - count
        self._quiet, self._again = self._quiet[: max(left, 0)], self._again + max(-left, 0)

    def end(self) -> None:
        """Nothing more comes: silence follows."""
        self._quiet = np.concatenate([self._quiet, np.ones(AHEAD + 2 * _STRIDE, bool)])

    @property
    def ready(self) -> int:
        """How many rows :meth:`rows` can give."""
        return max(0, (len(self._quiet) - AHEAD - 1) // _STRIDE + 1)

    def rows(self, count: int) -> Array:
        """The next ``count`` rows, at most :attr:`ready`: float32 [count] in 0..1."""
        share = np.zeros(count, np.float32)
        for row in range(count):
            at = row * _STRIDE
            if not self._quiet[at]:
                continue
            before = self._run(self._quiet[:at][::-1])
            past_s = (before + (self._quiet_before if before == at else 0)) / 100
            coming_s = self._run(self._quiet[at + 1 : at + 1 + AHEAD]) / 100
            known = np.clip((past_s + coming_s - _CLOSE_FROM_S) / (_CLOSE_TO_S - _CLOSE_FROM_S), 0.0, 1.0)
            share[row] = smooth_step(min(known, coming_s / _OPEN_S, 1.0))
        used = count * _STRIDE
        before = self._run(self._quiet[:used][::-1])
        self._quiet_before = min(100, before + (self._quiet_before if before == used else 0))
        self._quiet = self._quiet[used:]
        return share

    @staticmethod
    def _run(quiet: Array) -> int:
        """How many of the first are quiet."""
        return len(quiet) if quiet.all() else int(np.argmin(quiet))
