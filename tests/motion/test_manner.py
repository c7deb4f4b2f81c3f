"""A manner's code, and the running match that brings a voice's motion to it."""

from __future__ import annotations

import numpy as np
import pytest

from motion.test_controls import babble, fake_speech
from triportrait.errors import MotionFileError
from triportrait.evaluation.style import halves, style_markdown, transfer
from triportrait.motion.audio import AudioDriver, AudioSettings
from triportrait.motion.lips import lip_opening
from triportrait.motion.manner import MEASURES, Manner, RunningMatch, distance, manner_code
from triportrait.motion.natural import idle_motion
from triportrait.motion.style import SpeakingStyle, style_of
from triportrait.types import ARKIT_EXPRESSIONS, Motion, Waveform


def speaker(size: float, seed: int, seconds: int = 40) -> Motion:
    style = SpeakingStyle((size, size, size), brow_gain=size, smile=0.15 * size)
    return idle_motion(25 * seconds, seed=seed, prosody=fake_speech(seconds, seed), style=style)


def test_a_match_brings_spread_to_its_aim_and_looks_at_the_past_alone() -> None:
    values = np.random.default_rng(0).normal(0.0, [2.0, 0.1], (2000, 2))
    match = RunningMatch(np.array([1.0, 0.2]), np.array([1.5, 0.15]))
    factors = np.array([match.factors(row) for row in values])
    np.testing.assert_allclose((factors * values)[1000:].std(axis=0), [1.0, 0.2], rtol=0.1)
    again = RunningMatch(np.array([1.0, 0.2]), np.array([1.5, 0.15]))
    np.testing.assert_array_equal([again.factors(row) for row in values[:50]], factors[:50])


def test_halves_of_different_speakers_find_each_other() -> None:
    motions = {str(size): speaker(size, seed) for seed, size in enumerate((0.4, 2.2))}
    assert halves(motions)["both"] == 2
    codes = [manner_code(motion) for motion in motions.values()]
    assert len(codes[0]) == len(MEASURES) == 32 and distance(codes[0], codes[0]) == 0.0
    assert distance(codes[0], codes[1]) > distance(codes[0], manner_code(speaker(0.4, 7)))


def test_a_voice_takes_on_a_manner_and_keeps_its_closures_streaming_or_not() -> None:
    voice, lender = babble(8.0), speaker(0.5, 5)
    settings = AudioSettings(seed=1, style=style_of(lender))
    plain, made = AudioDriver(voice, AudioSettings(seed=1)).motion(), AudioDriver(voice, settings).motion()
    aim, before, after = (manner_code(motion) for motion in (lender, plain, made))
    for name in ("yaw_spread", "brow_spread", "mouthSmile_level"):
        column = MEASURES.index(name)
        assert abs(after[column] - aim[column]) < 0.6 * abs(before[column] - aim[column]), name
    shut = lip_opening(plain.expression, ARKIT_EXPRESSIONS) < 0.004
    assert (lip_opening(made.expression, ARKIT_EXPRESSIONS)[shut] < 0.004).mean() > 0.97
    assert not made.rotation_rad[0].any()
    blocks = (Waveform(part, 16000) for part in np.array_split(voice.samples, 37))
    parts = list(AudioDriver(blocks, settings).chunks())
    np.testing.assert_allclose(np.concatenate([part.expression for part in parts]), made.expression, atol=1e-4)
    np.testing.assert_allclose(np.concatenate([part.rotation_rad for part in parts]), made.rotation_rad, atol=1e-4)


@pytest.mark.parametrize("slower", [-0.25, 0.0, 0.25, 0.5])
def test_a_head_takes_on_the_speed_of_a_manner_and_keeps_its_range(slower: float) -> None:
    prosody = fake_speech(40, 3)
    plain = manner_code(idle_motion(1000, seed=3, prosody=prosody))
    rate = MEASURES.index("head_rate")
    wanted = plain.copy()
    wanted[rate] += slower
    made = manner_code(idle_motion(1000, seed=3, prosody=prosody, style=SpeakingStyle(manner=Manner(tuple(wanted.tolist())))))
    assert abs(made[rate] - wanted[rate]) < 0.1 + 0.4 * abs(slower)
    np.testing.assert_allclose(made[:3], wanted[:3], atol=0.35)


def test_the_report_says_what_was_closed() -> None:
    motions = {"a": speaker(0.5, 1, 8), "b": speaker(3.0, 2, 8)}
    found = transfer(motions, {"a": babble(8.0), "b": babble(8.0)})
    assert found["pairs"] == 2 and found["gap_closed"]["brows"] > 0.3
    text = style_markdown({"halves": halves(motions), "transfer": found})
    assert "| brows |" in text and "closed rows stay closed" in text


def test_a_manner_refuses_what_is_no_code() -> None:
    with pytest.raises(MotionFileError, match="32"):
        Manner((0.0,) * 31)
    with pytest.raises(MotionFileError, match="too short"):
        manner_code(speaker(1.0, 0, 3))
