"""Sung and other held vowels, found in prosody: the lips network takes them for music and shuts the mouth.

A held vowel has one steady pitch, is as loud as before, and has the spectrum of an open mouth. A hum through the nose has not: above 500 Hz
it is weaker by 25 dB and more. Most chords have no single period, plucked notes fade, and sounds of speech are shorter. What vowel it is
tells how far the jaw opens, for the first formant rises with the jaw (B. Lindblom and J. Sundberg, "Acoustical consequences of lip, tongue,
jaw, and larynx movement", JASA 50, 1971).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from triportrait.motion.speech_features import Prosody

#: Least periodicity; least energy in dB against the running level.
_VOICING, _LOUD_DB = 0.93, -15.0
#: Within 0.1 s a sung pitch moves by no more than this (a semitone of vibrato either way, some more for a slide), in semitones; within
#: 0.2 s its energy falls by no more than this, in dB.
_SLIDE, _FADE_DB = 2.5, 2.0
_SLIDE_ROWS, _FADE_ROWS = 10, 20
#: Levels of 500 to 1500 Hz and of 1500 to 4000 Hz below those up to 500 Hz from which a sound comes out of an open mouth.
_MIDDLE_DB, _HIGH_DB = -12.0, -31.0
#: Seconds after which a steady sound counts as held, and in which it then comes to count in full.
_HELD_S, _GROW_S = 0.2, 0.08
#: Openings in face heights of the closest vowel (/u/), of /i/, and of the most open one (/a/): those of ``training/voice/articulation.py``.
_CLOSE, _FRONT, _OPEN = 0.015, 0.045, 0.07


class HeldVowels:
    """Rows of prosody in, how far the lips are to stand apart for what is held: (share 0..1, opening in face heights), 100 a second."""

    def __init__(self) -> None:
        self._pitches: deque[float] = deque([0.0] * _SLIDE_ROWS, _SLIDE_ROWS)
        self._energies: deque[float] = deque([-60.0] * _FADE_ROWS, _FADE_ROWS)
        self._rows = 0

    def follow(self, prosody: Prosody) -> Iterator[tuple[float, float]]:
        """The next rows."""
        rows = zip(prosody.pitch_hz.tolist(), prosody.voicing.tolist(), prosody.energy_db.tolist(), prosody.bands_db.tolist(), strict=True)
        for pitch, voicing, energy, (middle, high) in rows:
            before = self._pitches[0]
            is_vowel = voicing > _VOICING and pitch > 0 and energy > _LOUD_DB and (middle > _MIDDLE_DB or high > _HIGH_DB)
            slides = before > 0 and pitch > 0 and abs(12.0 * np.log2(pitch / before)) > _SLIDE
            # At an onset the running level comes later than the sound, which then seems louder than it goes on to be.
            fades = energy < min(self._energies[0], 0.0) - _FADE_DB
            self._rows = self._rows + 1 if is_vowel and not slides and not fades else 0
            self._pitches.append(pitch)
            self._energies.append(energy)
            share = min(max((0.01 * self._rows - _HELD_S) / _GROW_S, 0.0), 1.0)
            jaw = min(max((middle + 15.0) / 15.0, 0.0), 1.0)
            front = min(max((high - _HIGH_DB) / 10.0, 0.0), 1.0)
            yield share, max(_CLOSE + (_OPEN - _CLOSE) * jaw, _CLOSE + (_FRONT - _CLOSE) * front)
