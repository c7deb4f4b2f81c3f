"""Pauses: where nobody speaks for three tenths of a second the lips are together, and streaming gives what the whole gives."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.motion.audio import AudioDriver
from triportrait.motion.lips import lip_opening
from triportrait.motion.pauses import PauseFinder
from triportrait.motion.speech_features import Prosody
from triportrait.types import ARKIT_EXPRESSIONS, Waveform


def prosody(energy_db: np.ndarray) -> Prosody:
    energy = np.asarray(energy_db, np.float32)
    return Prosody(np.zeros_like(energy), np.zeros_like(energy), energy)


def shares(energy_db: np.ndarray) -> np.ndarray:
    finder = PauseFinder()
    finder.hear(prosody(energy_db))
    finder.end()
    return finder.rows(-(-len(energy_db) // 4))


def spoken(pause_rows: int, floor_db: float = -50.0) -> np.ndarray:
    """A second of speech, a pause, a second of speech; rows of 10 ms."""
    return np.concatenate([np.full(100, -3.0), np.full(pause_rows, floor_db), np.full(100, -3.0)])


@pytest.mark.parametrize("floor_db", [-50.0, -28.0])
@pytest.mark.parametrize("pause_rows", [30, 40, 100])
def test_lips_close_in_pauses_and_are_free_in_speech(pause_rows: int, floor_db: float) -> None:
    share = shares(spoken(pause_rows, floor_db))
    times = np.arange(len(share)) * 4
    assert share.max() == 1.0 and 100 < times[share > 0].min() and times[share > 0].max() < 100 + pause_rows
    # The lips travel for 80 ms at least.
    assert np.abs(np.diff(share)).max() < 0.9


@pytest.mark.parametrize("pause_rows", [4, 10, 16])
def test_the_silence_of_a_plosive_is_left_alone(pause_rows: int) -> None:
    assert not shares(spoken(pause_rows)).any()


@pytest.mark.parametrize("block", [1, 7, 160])
def test_any_blocks_give_the_same(block: int) -> None:
    energy = np.concatenate([spoken(rows, floor) for rows, floor in ((35, -50.0), (8, -60.0), (60, -24.0))])
    finder, parts = PauseFinder(), []
    for start in range(0, len(energy), block):
        finder.hear(prosody(energy[start : start + block]))
        parts.append(finder.rows(finder.ready))
    finder.end()
    parts.append(finder.rows(-(-len(energy) // 4) - sum(map(len, parts))))
    np.testing.assert_array_equal(np.concatenate(parts), shares(energy))


@pytest.mark.parametrize("pause_s", [0.32, 0.6])
def test_a_voice_closes_its_lips(pause_s: float) -> None:
    t = np.arange(16_000) / 16_000
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 30)) * 0.1
    sound = np.concatenate([buzz, np.zeros(round(pause_s * 16_000)), buzz]).astype(np.float32)
    sound += 1e-4 * np.random.default_rng(0).standard_normal(len(sound)).astype(np.float32)
    opening = lip_opening(AudioDriver(Waveform(sound, 16_000)).motion().expression, ARKIT_EXPRESSIONS)
    inside = opening[25 : int((1 + pause_s) * 25) + 1]
    assert inside.min() < 0.002
