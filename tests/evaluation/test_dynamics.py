"""Liveliness and lip-sync statistics: laws with curves whose values are known."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.evaluation import dynamics

FPS = 25.0


def face(count: int) -> np.ndarray:
    """``count`` times the same 478 points, eye corners 60 px apart."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (478, 2))
    points[33], points[263] = (20, 40), (80, 40)
    return np.tile(points, (count, 1, 1))


def test_silences_are_found_by_loudness():
    rate = 16_000
    tone = 0.3 * np.sin(np.arange(rate) * 2 * np.pi * 200 / rate)
    sound = np.concatenate([tone, np.zeros(rate // 2), tone, np.zeros(rate // 5), tone])
    level = dynamics.loudness(sound, rate, 93, FPS)
    assert level[5] == pytest.approx(0.3 / np.sqrt(2), rel=0.02) and level[30] == 0
    silent = dynamics.silent_frames(level, FPS)
    # Half a second is a silence, a fifth is not.
    assert silent[26:37].all() and not silent[:24].any() and not silent[39:].any()
    assert len(dynamics.loudness(sound[:100], rate, 50, FPS)) == 50


def test_lips_in_silence_and_in_time_with_the_sound():
    t = np.arange(100)
    level = np.abs(np.sin(t / 5))
    silent = t >= 60
    gap = np.where(silent, 0.1 + 0.01 * (t % 2), 0.05 + 0.4 * level)
    assert dynamics.silent_lip_stability(gap, silent) == pytest.approx(0.005)
    assert dynamics.lip_sync_gap(gap, level, silent) == pytest.approx(0, abs=1e-9)
    assert dynamics.lip_sync_gap(gap.max() - gap, level, silent) > 0.3
    assert np.isnan(dynamics.silent_lip_stability(gap, t < 0)) and np.isnan(dynamics.lip_sync_gap(gap, level * 0, silent))


def test_dynamics_of_stillness_are_zero_and_do_not_depend_on_scale():
    still = face(20)
    assert dynamics.lip_dynamics(still) == pytest.approx(0, abs=1e-9) and dynamics.brow_dynamics(still) == pytest.approx(0, abs=1e-9)
    assert dynamics.head_motion(np.zeros((20, 3)), dynamics.box_centre(still)) == 0
    moving = still + np.random.default_rng(1).normal(0, 1, still.shape)
    moving[:, [33, 263]] = still[:, [33, 263]]
    for measure in (dynamics.lip_dynamics, dynamics.brow_dynamics):
        assert measure(moving) > 0 and measure(3 * moving) == pytest.approx(measure(moving))
    assert np.isnan(dynamics.lip_dynamics(still[:1]))


def test_head_motion_is_the_published_formula():
    t = np.arange(50)
    rotation = np.zeros((50, 3))
    rotation[:, 1] = np.radians(np.where(t % 2 == 0, -1.0, 1.0))
    # Deviation 1 degree of one angle in three; changes +-2 degrees; the head's place varies by 4 px squared on one axis.
    centre = np.stack([np.where(t < 25, -2.0, 2.0), np.zeros(50)], -1)
    change = np.diff(np.where(t % 2 == 0, -1.0, 1.0)).var()
    assert dynamics.head_motion(rotation, centre) == pytest.approx(np.sqrt(1 / 3 * change / 3 + 2.0))
    assert dynamics.closeness(0.5, 2.0) == pytest.approx(0.25) and np.isnan(dynamics.closeness(1.0, 0.0))


def test_lag_is_found_with_its_sign():
    rng = np.random.default_rng(0)
    real = np.convolve(rng.normal(size=120), np.ones(4), "same")
    late = np.roll(real, 3)
    lag, best = dynamics.best_lag(dynamics.correlation_by_lag(late, real))
    assert (lag, best) == (3, pytest.approx(1.0, abs=0.05))
    assert np.isnan(dynamics.best_lag(dynamics.correlation_by_lag(np.ones(50), real[:50]))[1])


def test_mouth_distances_ignore_what_they_should():
    made = face(5)
    assert dynamics.mouth_shape_distance(made, made + (30, -7)) == pytest.approx(0, abs=1e-9)
    assert dynamics.mouth_shape_distance(made, 1.1 * made) > 0.1
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    assert dynamics.upright_mouth_distance(made, 1.7 * made @ turn.T + (5, 9)) == pytest.approx(0, abs=1e-9)
    assert np.isnan(dynamics.mouth_shape_distance(made[:0], made[:0]))
