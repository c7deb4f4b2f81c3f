"""Singing: held vowels keep the mouth open; a hum, chords and plucked notes do not."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.motion.audio import AudioDriver, AudioSettings
from triportrait.motion.controls import Controls
from triportrait.motion.held_vowels import HeldVowels
from triportrait.motion.lips import lip_opening
from triportrait.motion.natural import NaturalMotion
from triportrait.motion.speech_features import Prosody, ProsodyTracker
from triportrait.training.voice.augment import music_bed
from triportrait.types import ARKIT_EXPRESSIONS, Waveform

VOWELS = {"a": (700, 1150, 2500, 3400), "i": (300, 2200, 2900, 3600)}
HUM = (250, 1000, 2200, 3400)


def sung(resonances_hz: tuple[float, ...], pitch_hz: float, vibrato_semitones: float = 0.5, level: float = 0.1) -> np.ndarray:
    """Two seconds on one note, half a second of silence on both sides: harmonics that fall by 6 dB an octave, through resonances."""
    time_s = np.arange(32_000) / 16_000
    phase = 2 * np.pi * np.cumsum(pitch_hz * 2 ** (vibrato_semitones / 12 * np.sin(2 * np.pi * 5.5 * time_s))) / 16_000
    sound = np.zeros_like(time_s)
    for number in range(1, int(7000 / pitch_hz)):
        hertz = number * pitch_hz
        chain = np.prod([f**2 / np.hypot(f**2 - hertz**2, 100.0 * hertz) for f in resonances_hz])
        sound += chain / number * np.sin(number * phase)
    sound *= level / sound.std() * np.clip(time_s / 0.08, 0, 1) * np.clip((2.0 - time_s) / 0.1, 0, 1)
    return np.pad(sound, 8000).astype(np.float32)


def opening_of(samples: np.ndarray, controls: Controls | None = None) -> np.ndarray:
    motion = AudioDriver(Waveform(samples, 16_000), AudioSettings(controls or Controls())).motion()
    return lip_opening(motion.expression, ARKIT_EXPRESSIONS)


@pytest.mark.parametrize("vowel", VOWELS)
@pytest.mark.parametrize("pitch_hz", [130.0, 220.0, 392.0])
def test_a_sung_vowel_stays_open_and_its_silence_closed(vowel: str, pitch_hz: float) -> None:
    opening = opening_of(sung(VOWELS[vowel], pitch_hz))
    assert np.quantile(opening[22:60], 0.05) > 0.02
    assert max(opening[:10].max(), opening[-3:].max()) < 0.004


def test_an_a_opens_wider_than_an_i() -> None:
    first, second = (np.median(opening_of(sung(VOWELS[vowel], 196.0))[22:60]) for vowel in ("a", "i"))
    assert first > 1.3 * second


def test_a_hum_stays_closed() -> None:
    assert np.quantile(opening_of(sung(HUM, 130.0)), 0.95) < 0.004


@pytest.mark.parametrize("seed", range(4))
def test_plucked_chords_hold_no_vowel(seed: int) -> None:
    samples = 0.05 * music_bed(8 * 16_000, np.random.default_rng(seed))
    shares = [share for share, _ in HeldVowels().follow(ProsodyTracker().push(samples.astype(np.float32)))]
    assert np.mean(shares) < 0.02


def test_prosody_that_knows_no_bands_holds_nothing() -> None:
    steady = np.full(100, 0.0, np.float32)
    assert not any(share for share, _ in HeldVowels().follow(Prosody(steady + 200.0, steady + 1.0, steady)))


def test_any_blocks_give_the_same_and_silence_can_be_taken_back() -> None:
    samples = sung(VOWELS["a"], 220.0)
    rows = ProsodyTracker().push(samples)

    def part(start: int, stop: int) -> Prosody:
        return Prosody(*(getattr(rows, name)[start:stop] for name in ("pitch_hz", "voicing", "energy_db", "bands_db")))

    whole, parts = NaturalMotion(), NaturalMotion()
    whole.hear(rows)
    whole.advance(60)
    parts.hear(part(0, 120))
    silence = np.zeros(40, np.float32)
    parts.hear(Prosody(silence, silence, silence - 60.0))
    parts.take_back(40)
    parts.hear(part(120, len(rows)))
    parts.advance(60)
    np.testing.assert_array_equal(parts.held[:24], whole.held[:24])
    assert whole.held[30:57, 0].min() == 1.0 and parts.held[45:57, 0].min() == 1.0


def test_mouth_gain_holds_for_singing_too() -> None:
    assert opening_of(sung(VOWELS["a"], 220.0), Controls(mouth_gain=0.0)).max() < 0.004
