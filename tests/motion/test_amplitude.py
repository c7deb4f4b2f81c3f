"""Amplitude: gains per group of curves, and chance parts no lips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from motion.test_controls import babble
from triportrait.motion.amplitude import GAINS, UNSAID, in_group, with_unsaid
from triportrait.motion.audio import AudioDriver, AudioSettings, mouth_expression
from triportrait.motion.controls import Controls
from triportrait.motion.lips import lip_opening
from triportrait.motion.voice_graph import load_voice
from triportrait.types import ARKIT_EXPRESSIONS

NAMES = tuple(load_voice().config["curves"])


def test_each_group_has_its_own_gain() -> None:
    curves = np.full((1, len(NAMES)), 0.1, np.float32)
    # A lower lip that rolls in would come to the teeth.
    curves[:, NAMES.index("mouthRollLower")] = 0.0
    row = mouth_expression(curves, np.zeros(1), NAMES, opening=1.5)[0]
    for name, wanted in (("jawOpen", 1.5), ("mouthPucker", GAINS["rounding"]), ("mouthStretchLeft", GAINS["spreading"])):
        np.testing.assert_allclose(row[ARKIT_EXPRESSIONS.index(name)], 0.1 * wanted, rtol=1e-5)
    places = [in_group(NAMES, group) for group in GAINS]
    assert all(places) and len({place for group in places for place in group}) == sum(map(len, places))


def test_lips_that_touch_go_on_touching_whatever_chance_adds() -> None:
    curves = np.random.default_rng(0).uniform(0.0, 0.4, (200, len(NAMES))).astype(np.float32)
    shut = mouth_expression(curves, np.ones(200), NAMES, opening=2.5, shape=1.5)
    noise = 3.0 * np.random.default_rng(1).standard_normal((200, len(UNSAID)))
    assert lip_opening(with_unsaid(shut, ARKIT_EXPRESSIONS, noise), ARKIT_EXPRESSIONS).max() < 1e-3


def test_chance_has_its_spread_while_somebody_speaks_and_temperature_takes_it_away() -> None:
    voice, settings = babble(20.0), AudioSettings(Controls(temperature=0.0), seed=3)
    plain, other = (AudioDriver(voice, replace(settings, seed=seed)).motion() for seed in (3, 4))
    columns = [plain.column(f"{stem}{side}") for stem in ("mouthSmile", "mouthStretch") for side in ("Left", "Right")]
    np.testing.assert_array_equal(plain.expression[:, columns], other.expression[:, columns])
    lively = AudioDriver(voice, replace(settings, controls=Controls())).motion()
    added = (lively.expression - plain.expression)[15:, columns]
    assert 0.02 < added.std() < 0.13
