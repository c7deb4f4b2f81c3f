"""How aroused a voice is, from the range of its pitch, the rate of its syllables and its energy against the speaker's own level.

Arousal widens pitch, quickens speech and lifts energy, whatever the feeling is; whether the feeling is a good one, prosody hardly says (K.
Scherer, "Vocal communication of emotion", 2003). So this module guesses no emotion. Energy comes relative to the running speech level:
louder playback changes nothing.
"""

from __future__ import annotations

import math

#: Deviation of pitch in semitones, and syllables a second, of a calm speaker: where arousal is zero.
CALM_SEMITONES, CALM_SYLLABLES_PER_S = 2.5, 3.0

#: Seconds over which a phrase's pitch and rate are taken, and over which arousal follows them.
_PHRASE_S, _FOLLOW_S = 2.5, 0.6


class Arousal:
    """Follows a voice row by row; :attr:`level` is one number for everything that shows it, about -1 (dull) to 1 (excited).

    Args:
        dt: seconds per row.
    """

    def __init__(self, dt: float) -> None:
        self._dt = dt
        self._mean = self._square = 0.0
        self._weight = 0.0
        self._syllables = CALM_SYLLABLES_PER_S
        self._energy = 0.0
        self._was_rising = False
        self._last_db = -60.0
        self.level = 0.0

    def step(self, energy_db: float, lift_semitones: float, is_voiced: bool) -> float:
        """The next row's level.

        Args:
            energy_db: relative to the running speech level.
            lift_semitones: pitch over the speaker's running mean.
            is_voiced: whether there is a pitch.
        """
        share = self._dt / _PHRASE_S
        if is_voiced:
            self._weight += (1.0 - self._weight) * share
            self._mean += (lift_semitones - self._mean) * share
            self._square += (lift_semitones**2 - self._square) * share
            self._energy += (min(max(energy_db, -20.0), 6.0) - self._energy) * share
        rising = energy_db > self._last_db
        # A syllable is a peak of energy within speech.
        is_peak = self._was_rising and not rising and self._last_db > -15.0
        self._was_rising, self._last_db = rising, energy_db
        self._syllables += ((1.0 / self._dt if is_peak else 0.0) - self._syllables) * share
        deviation = math.sqrt(max(self._square - self._mean**2, 0.0) / max(self._weight, 1e-3))
        wanted = 1.2 * math.log((deviation + 0.5) / (CALM_SEMITONES + 0.5))
        wanted += 0.5 * math.log((self._syllables + 1.0) / (CALM_SYLLABLES_PER_S + 1.0)) + 0.03 * (self._energy + 8.0)
        self.level += (math.tanh(self._weight * wanted) - self.level) * self._dt / _FOLLOW_S
        return self.level
