"""Sound from memory: whatever samples come as, they are the same sound."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.errors import MediaError, OptionError
from triportrait.media.pcm import SpooledSound, mono, sound_of
from triportrait.types import Sound, Waveform

TONE = (0.5 * np.sin(np.arange(4000) * 0.1)).astype(np.float32)


@pytest.mark.parametrize(
    "samples",
    [
        np.round(TONE * 32768).astype(np.int16),
        np.round(TONE * 32768).astype("<i2").tobytes(),
        np.round(TONE * 2**31).astype(np.int64).clip(-(2**31), 2**31 - 1).astype(np.int32),
        (np.round(TONE * 128) + 128).astype(np.uint8),
        TONE.astype(np.float64),
        np.stack([TONE + 0.1, TONE - 0.1], axis=1),
    ],
)
def test_samples_of_every_kind_are_one_sound(samples) -> None:
    assert mono(samples).dtype == np.float32
    step = 1 / 128 if getattr(samples, "dtype", None) == np.uint8 else 1 / 32768
    assert np.abs(mono(samples) - TONE).max() <= step


def test_what_is_no_number_is_silence() -> None:
    assert mono(np.array([np.nan, np.inf, -np.inf, 2.0, 0.25])).tolist() == [0.0, 0.0, 0.0, 1.0, 0.25]


def test_blocks_are_asked_for_when_they_are_needed_and_kept_for_the_next_reader(seed: int) -> None:
    random, asked = np.random.default_rng(seed), []

    def source():
        at = 0
        while at < len(TONE):
            size = int(random.integers(1, 400))
            asked.append(at)
            yield TONE[at : at + size]
            at += size

    sound = SpooledSound(source(), 8000)
    assert isinstance(sound, Sound)
    first = sound.blocks()
    next(first)
    assert asked[-1] < 1600 + 2 * 400
    second = list(sound.blocks())
    assert np.array_equal(np.concatenate(second), TONE)
    # A reader that began earlier gets the same blocks.
    assert [block.tolist() for block in first] == [block.tolist() for block in second[1:]]


def test_sound_without_a_rate_or_with_two_is_one_sentence() -> None:
    with pytest.raises(MediaError, match="rate_hz"):
        sound_of(TONE)
    with pytest.raises(MediaError, match="rate_hz"):
        sound_of(iter([TONE]))
    with pytest.raises(MediaError, match="one rate"):
        list(SpooledSound([Waveform(TONE, 8000), Waveform(TONE, 16000)]).blocks())
    with pytest.raises(MediaError, match="half a sample"):
        mono(b"abc")
    with pytest.raises(MediaError, match="give numbers"):
        mono(np.zeros((2, 2, 2)))
    with pytest.raises(OptionError, match="leave it out"):
        sound_of("voice.wav", 16000)
