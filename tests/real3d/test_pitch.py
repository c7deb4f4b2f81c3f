"""Pitch on sounds whose pitch is known."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.real3d.pitch import HOP, RATE_HZ, PitchTracker


def track(samples: np.ndarray, block: int = 16_000) -> np.ndarray:
    tracker = PitchTracker()
    for start in range(0, len(samples), block):
        tracker.push(samples[start : start + block])
    return tracker.finish()


def voice(pitch_hz: np.ndarray) -> np.ndarray:
    """Harmonics that fall off like a voice's, float32, for a pitch per sample."""
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    return (0.2 * sum(np.sin(k * phase) / k for k in range(1, 8))).astype(np.float32)


@pytest.mark.parametrize("pitch_hz", [85.0, 120.0, 220.0, 433.0, 700.0])
def test_a_steady_tone_is_met_to_half_a_percent(pitch_hz: float) -> None:
    found = track(voice(np.full(RATE_HZ, pitch_hz)))
    assert len(found) == (RATE_HZ - 600) // HOP + 1
    np.testing.assert_allclose(found, pitch_hz, rtol=5e-3)


def test_a_chirp_is_followed_without_octave_jumps() -> None:
    pitch_hz = np.geomspace(110.0, 440.0, 2 * RATE_HZ)
    found = track(voice(pitch_hz))
    middles = np.arange(len(found)) * HOP + 300
    np.testing.assert_allclose(found, pitch_hz[middles], rtol=1e-2)


def test_silence_and_noise_have_no_pitch(seed: int) -> None:
    random = np.random.default_rng(seed)
    assert not track(np.zeros(RATE_HZ, np.float32)).any()
    assert (track(random.normal(0, 0.1, 2 * RATE_HZ).astype(np.float32)) > 0).mean() < 0.1


def test_a_quiet_passage_beside_a_loud_one_is_silence() -> None:
    tone = voice(np.full(RATE_HZ, 150.0))
    found = track(np.concatenate([tone, 0.001 * tone, tone]))
    assert (found[:46] > 0).all() and (found[102:] > 0).all() and not found[53:97].any()


def test_blocks_of_any_length_give_the_same(seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = voice(np.geomspace(100.0, 300.0, RATE_HZ)) + random.normal(0, 0.01, RATE_HZ).astype(np.float32)
    np.testing.assert_array_equal(track(samples, 777), track(samples, RATE_HZ))


def test_too_short_a_sound_has_no_rows() -> None:
    assert track(np.ones(100, np.float32)).shape == (0,)
