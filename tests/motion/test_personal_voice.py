"""A person's own voice: what it learns, that it leaves silence alone, and that streams and wholes agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from triportrait.motion import personal_voice
from triportrait.motion.audio import AudioDriver, AudioSettings
from triportrait.motion.lips import lip_opening
from triportrait.motion.manner import Manner
from triportrait.motion.personal_voice import PersonalVoice, learn_voice, learned_numbers
from triportrait.motion.style import SpeakingStyle
from triportrait.motion.voice_graph import MouthStream, load_voice
from triportrait.types import PersonalManner, Waveform

EXAMPLE = Path(__file__).parents[2] / "examples" / "speech.wav"


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    sound, rate_hz = soundfile.read(EXAMPLE, dtype="float32")
    assert rate_hz == 16000
    return sound


@pytest.fixture(scope="module")
def said(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stream = MouthStream(load_voice())
    curves, opening, contact = (np.concatenate(parts) for parts in zip(stream.push(samples), stream.finish(), strict=True))
    return curves, opening, contact


@pytest.fixture(scope="module")
def learned(samples: np.ndarray, said: tuple[np.ndarray, ...]) -> np.ndarray:
    """Somebody who opens the mouth half as far again as the network."""
    voice = learn_voice(samples, 1.5 * 1.3 * said[1], np.ones(len(said[1]), bool))
    assert voice is not None and voice.dtype == np.float32 and len(voice) == learned_numbers()
    return voice


def test_it_opens_the_mouth_as_the_person_does(samples: np.ndarray, said: tuple[np.ndarray, ...], learned: np.ndarray) -> None:
    voice = PersonalVoice(learned)
    voice.push(samples)
    voice.finish()
    (gains, added), open_rows = voice.change(*said), said[1] > np.quantile(said[1], 0.7)
    assert added.min() >= 0.0 and added.max() <= 0.05
    assert 1.2 < np.median(gains[open_rows]) < 1.7
    assert gains.min() >= 0.0 and gains.max() <= 2.5 + 1e-6


def test_blocks_and_whole_agree(samples: np.ndarray, learned: np.ndarray) -> None:
    settings = AudioSettings(voice=learned)
    whole = AudioDriver(Waveform(samples, 16000), settings).motion()
    blocks = (Waveform(samples[start : start + 777], 16000) for start in range(0, len(samples), 777))
    streamed = AudioDriver(blocks, settings).motion()
    np.testing.assert_allclose(streamed.expression, whole.expression, atol=1e-5)
    plain = AudioDriver(Waveform(samples, 16000)).motion()
    names = whole.expression_names
    assert lip_opening(whole.expression, names).mean() > 1.15 * lip_opening(plain.expression, names).mean()


def test_silence_stays_closed(learned: np.ndarray) -> None:
    motion = AudioDriver(Waveform(np.zeros(48000, np.float32), 16000), AudioSettings(voice=learned)).motion()
    plain = AudioDriver(Waveform(np.zeros(48000, np.float32), 16000)).motion()
    np.testing.assert_allclose(motion.expression, plain.expression, atol=1e-6)


def test_too_little_speech_teaches_nothing(samples: np.ndarray) -> None:
    assert learn_voice(samples[:32000], np.zeros(50), np.ones(50, bool)) is None
    assert learn_voice(np.zeros(160000, np.float32), np.zeros(250), np.ones(250, bool)) is None


def test_a_persons_manner_is_the_default_and_yields_to_a_style_that_is_asked_for(learned: np.ndarray) -> None:
    own = SpeakingStyle(brow_gain=2.0, manner=Manner(tuple(np.linspace(-1, 1, 32).astype(np.float32).tolist())))
    manner = PersonalManner(own.numbers, learned)
    settings = AudioSettings().of_person(manner)
    assert settings.style is not None and settings.style.brow_gain == pytest.approx(2.0) and settings.voice is learned
    assert settings.style.manner == own.manner
    asked = SpeakingStyle(brow_gain=0.5)
    assert replace(AudioSettings(), style=asked).of_person(manner).style is asked
    assert AudioSettings().of_person(PersonalManner()) == AudioSettings()


def test_long_talk_that_the_sound_does_not_explain_teaches_nothing() -> None:
    random = np.random.default_rng(3)
    rows, residual = random.normal(0.0, 1.0, (600, 30)), random.normal(0.0, 0.03, 600)
    assert personal_voice._best_penalty(rows, residual) is None
    told = rows @ random.normal(0.0, 0.02, 30) + residual
    penalty = personal_voice._best_penalty(rows, told)
    assert penalty is not None
    (weights,) = personal_voice._ridge(rows, told, (penalty,))
    assert np.corrcoef(rows @ weights, told)[0, 1] > 0.9


def test_few_rows_and_many_give_the_same_ridge() -> None:
    random = np.random.default_rng(4)
    rows, values = random.normal(0.0, 1.0, (40, 30)), random.normal(0.0, 1.0, 40)
    for count in (20, 40):
        some, told = rows[:count], values[:count]
        found = personal_voice._ridge(some, told, (0.5, 5.0))
        for weights, penalty in zip(found, (0.5, 5.0), strict=True):
            np.testing.assert_allclose(some.T @ (some @ weights - told) + penalty * weights, 0.0, atol=1e-9)
