"""The filter's laws: it holds still what trembles, lets pass what moves, and does not care how often it is asked."""

from __future__ import annotations

import numpy as np

from triportrait.motion.one_euro import OneEuroFilter

NOISE = np.array([0.02])


def run(values: np.ndarray, fps: float = 25.0) -> np.ndarray:
    smooth = OneEuroFilter(NOISE, cutoff_hz=1.5, slope=0.03)
    return np.array([smooth(np.array([value]), 1.0 / fps)[0] for value in values])


def test_trembling_is_taken_away_and_movement_is_not(seed: int) -> None:
    tremble = NOISE * np.random.default_rng(seed).normal(size=500)
    assert run(0.3 + tremble)[50:].std() < 0.5 * tremble.std()
    assert abs(run(0.3 + tremble)[50:].mean() - 0.3) < 0.003
    # A blink, shut within two frames, is seen within three.
    blink = np.concatenate([np.zeros(25), [0.5], np.ones(4)])
    assert run(blink)[27] > 0.8 and run(blink)[25] > 0.25


def test_steps_of_any_length_reach_the_same_value() -> None:
    slow, fast = run(np.ones(26) * np.r_[0, np.ones(25)], 25.0), run(np.ones(51) * np.r_[0, np.ones(50)], 50.0)
    assert abs(slow[13] - fast[26]) < 0.05 and slow[-1] > 0.95
