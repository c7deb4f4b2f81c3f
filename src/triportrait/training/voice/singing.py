"""Sung syllables out of formulas: held vowels with vibrato and glides, from which the voice networks learn that singing is no music.

A harmonic source goes through the formants of a vowel (G. Fant, "Acoustic theory of speech production", 1960). Formants are the means of
G. Peterson and H. Barney, "Control methods used in a study of the vowels", 1952. Vibrato has the rates and extents of J. Sundberg,
"Acoustic and psychoacoustic aspects of vocal vibrato", 1995 (5 to 7 Hz, up to a semitone either way). Where a note lies above the first
formant, that follows it, as sopranos open the jaw (J. Sundberg, "Formant technique in a professional female singer", 1975).
"""

from __future__ import annotations

import numpy as np

from triportrait.motion.speech_features import RATE_HZ
from triportrait.training.voice.corpora import Spoken
from triportrait.training.voice.synthesisers import Phone
from triportrait.types import Array

#: First three formants of men in Hz, by ARPAbet; those of women and children lie up to 1.25 times as high.
FORMANTS_HZ: dict[str, tuple[float, float, float]] = {
    "iy": (270, 2290, 3010),
    "ih": (390, 1990, 2550),
    "eh": (530, 1840, 2480),
    "ae": (660, 1720, 2410),
    "ah": (640, 1190, 2390),
    "aa": (730, 1090, 2440),
    "ao": (570, 840, 2410),
    "uh": (440, 1020, 2240),
    "uw": (300, 870, 2240),
    "er": (490, 1350, 1690),
}
#: Sounds between vowels: resonances in Hz, and level in dB. /m/ and /n/ are murmurs through the nose.
CONSONANTS: dict[str, tuple[tuple[float, float, float], float]] = {
    "m": ((250, 1000, 2200), -12.0),
    "n": ((250, 1500, 2500), -12.0),
    "l": ((360, 1200, 2700), -6.0),
}
_HIGHER_HZ = (3500.0, 4500.0)
_BANDWIDTHS_HZ = np.array([70.0, 90.0, 120.0, 160.0, 220.0])
#: Control values per second.
_CONTROL_HZ = 200
_MOST_HARMONICS = 60


def sung(seconds: float, random: np.random.Generator) -> Spoken:
    """A melody of about ``seconds``: syllables of a consonant or none and a vowel, each on a note, and breaths now and then.

    Args:
        seconds: at least 1.
        random: draws everything.

    Returns:
        the sound at 16 kHz and its phonemes in ARPAbet.
    """
    phones, pitches, at = [Phone("pau", 0.0, 0.3)], [0.0], 0.3
    scale = float(random.uniform(1.0, 1.25))
    # A man's range or a woman's, which goes with the length of the throat.
    middle = 110.0 * 2.0 ** (random.uniform(0.0, 1.1) + 1.2 * (scale > 1.1))
    note = 0
    while at < seconds:
        note = int(np.clip(note + random.choice([-4, -2, -1, 0, 1, 2, 3, 5]), -9, 9))
        pitch = middle * 2.0 ** (note / 12)
        if random.random() < 0.55:
            consonant = str(random.choice(list(CONSONANTS)))
            phones.append(Phone(consonant, at, at + float(random.uniform(0.08, 0.2))))
            pitches.append(pitch)
            at = phones[-1].end_s
        length = float(np.exp(random.normal(np.log(0.6), 0.7)))
        phones.append(Phone(str(random.choice(list(FORMANTS_HZ))), at, at + min(max(length, 0.15), 3.0)))
        pitches.append(pitch)
        at = phones[-1].end_s
        if random.random() < 0.12:
            phones.append(Phone("pau", at, at + float(random.uniform(0.3, 0.8))))
            pitches.append(pitch)
            at = phones[-1].end_s
    phones.append(Phone("pau", at, at + 0.3))
    pitches.append(pitches[-1])
    sound = _voiced(phones, np.array(pitches), scale, random)
    return Spoken((np.clip(sound, -1.0, 1.0) * 32767).astype(np.int16), tuple(phones), "sung")


def _voiced(phones: list[Phone], pitches_hz: Array, scale: float, random: np.random.Generator) -> Array:
    """The sound [n] of phonemes at the pitches of their notes [phonemes]."""
    count = int(phones[-1].end_s * _CONTROL_HZ) + 1
    times = np.arange(count) / _CONTROL_HZ
    place = np.clip(np.searchsorted([phone.start_s for phone in phones], times, side="right") - 1, 0, None)
    since = times - np.array([phone.start_s for phone in phones])[place]
    depth, rate = float(random.uniform(0.0, 1.0)) / 12, float(random.uniform(5.0, 7.0))
    vibrato = depth * np.clip((since - 0.15) / 0.3, 0.0, 1.0) * np.sin(2 * np.pi * rate * times + float(random.uniform(0, 6.28)))
    pitches = np.where(pitches_hz > 0, pitches_hz, pitches_hz[1])
    pitch = 2.0 ** (_smooth(np.log2(pitches)[place], 0.08) + vibrato + 0.004 * random.standard_normal())
    resonances = np.array([_resonances(phone.symbol, scale) for phone in phones])[place]
    resonances[:, 0] = np.maximum(resonances[:, 0], np.where(resonances[:, 0] > 260 * scale, pitch, 0.0))
    resonances = _smooth(resonances, 0.06)
    levels_db = np.array([_level_db(phone.symbol) for phone in phones])[place]
    level = _smooth(10.0 ** (levels_db / 20), 0.05) * (0.75 + 0.25 * _smooth(random.random(len(phones))[place], 0.2))

    samples = np.arange(int(phones[-1].end_s * RATE_HZ)) * (_CONTROL_HZ / RATE_HZ)

    def fine(control: Array) -> Array:
        return np.interp(samples, np.arange(count), control)

    phase = 2 * np.pi * np.cumsum(fine(pitch)) / RATE_HZ
    # 6 to 12 dB an octave: from a loud voice to a soft one.
    tilt, sound = float(random.uniform(1.0, 2.0)), np.zeros(len(samples))
    for number in range(1, min(_MOST_HARMONICS, int(7600 / pitch.min())) + 1):
        hertz = number * pitch
        size = _response(hertz, resonances) * number**-tilt * (hertz < 7600)
        sound += fine(level * size) * np.sin(number * phase + 0.3 * number**2)
    sound *= 0.1 / max(float(np.sqrt(np.mean(sound**2))), 1e-9)
    hiss = random.standard_normal(len(samples)) * fine(level)
    return np.asarray(sound + float(random.uniform(0.0, 0.006)) * hiss)


def _resonances(symbol: str, scale: float) -> Array:
    low = FORMANTS_HZ.get(symbol) or (CONSONANTS[symbol][0] if symbol in CONSONANTS else FORMANTS_HZ["ah"])
    return scale * np.array([*low, *_HIGHER_HZ])


def _level_db(symbol: str) -> float:
    return -80.0 if symbol == "pau" else CONSONANTS[symbol][1] if symbol in CONSONANTS else 0.0


def _response(hertz: Array, resonances: Array) -> Array:
    """Amplitude of a chain of resonances [t, 5] at frequencies [t]: [t]; 1 at 0 Hz."""
    squared = np.square(resonances)
    wide = hertz[:, None] * _BANDWIDTHS_HZ
    return np.prod(squared / np.hypot(squared - np.square(hertz)[:, None], wide), axis=1)


def _smooth(values: Array, seconds: float) -> Array:
    """Running mean of control values [t] or [t, k] over so many seconds."""
    reach = max(int(seconds * _CONTROL_HZ) // 2, 1)
    padded = np.pad(values, [(reach, reach)] + [(0, 0)] * (values.ndim - 1), mode="edge")
    summed = np.cumsum(np.concatenate([np.zeros_like(padded[:1]), padded]), axis=0)
    return np.asarray((summed[2 * reach + 1 :] - summed[: -2 * reach - 1]) / (2 * reach + 1))
