"""Sung syllables: on their pitch, with the mouth of their vowels, and open as long as a note is held."""

from __future__ import annotations

import numpy as np

from triportrait.motion.speech_features import ProsodyTracker
from triportrait.training.voice.corpora import spoken_targets
from triportrait.training.voice.singing import CONSONANTS, FORMANTS_HZ, sung


def test_a_melody_is_sound_and_phonemes_that_fit() -> None:
    clip, again = (sung(7.0, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(clip.samples, again.samples)
    assert clip.samples.dtype == np.int16 and clip.voice == "sung"
    assert abs(len(clip.samples) / 16_000 - clip.phones[-1].end_s) < 0.01
    assert {phone.symbol for phone in clip.phones} <= {"pau", *CONSONANTS, *FORMANTS_HZ}
    for before, after in zip(clip.phones, clip.phones[1:], strict=False):
        assert before.end_s == after.start_s
    level = np.abs(clip.samples.astype(np.float64))
    assert level[: int(0.2 * 16_000)].mean() < 0.05 * level.mean()


def test_its_notes_are_heard_as_voice() -> None:
    for seed in range(3):
        clip = sung(6.0, np.random.default_rng(seed))
        prosody = ProsodyTracker().push(clip.samples.astype(np.float32) / 32767)
        rows = [int(50 * (phone.start_s + phone.end_s)) for phone in clip.phones if phone.symbol in FORMANTS_HZ]
        assert np.mean(prosody.pitch_hz[rows] > 0) > 0.9


def test_a_held_note_is_open_to_its_end() -> None:
    for seed in range(6):
        clip = sung(7.0, np.random.default_rng(seed))
        opening = spoken_targets(clip).opening
        for phone in clip.phones:
            if phone.symbol in ("aa", "ae", "ah", "eh") and phone.end_s - phone.start_s > 1.0:
                held = opening[int(25 * phone.start_s) + 4 : int(25 * phone.end_s) - 4]
                assert held.min() > 0.6 * held.max() > 0.01
