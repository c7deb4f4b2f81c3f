"""``--emotion auto``: as aroused as the voice, against the speaker's own level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from motion.test_controls import babble, fake_speech
from triportrait.motion.audio import AudioDriver, AudioSettings
from triportrait.motion.controls import Controls
from triportrait.motion.natural import idle_motion
from triportrait.motion.statistics import measure
from triportrait.types import Motion, Waveform

AUTO = Controls().with_emotion("auto", 1.0)


@pytest.mark.parametrize("controls", [AUTO, Controls()])
def test_louder_playback_changes_nothing(controls: Controls) -> None:
    voice = babble(5.0)
    louder = Waveform(4.0 * voice.samples, voice.rate_hz)
    first, second = (AudioDriver(sound, AudioSettings(controls)).motion() for sound in (voice, louder))
    for field in ("expression", "rotation_rad", "gaze_rad", "translation"):
        np.testing.assert_allclose(getattr(first, field), getattr(second, field), atol=2e-3, err_msg=field)


def test_wider_pitch_raises_brows_and_head_step_by_step() -> None:
    def wide(factor: float, controls: Controls) -> Motion:
        voice = fake_speech(40)
        middle = np.median(voice.pitch_hz[voice.pitch_hz > 0])
        pitch = np.where(voice.pitch_hz > 0, middle * (np.maximum(voice.pitch_hz, 1.0) / middle) ** factor, 0.0)
        return idle_motion(1000, prosody=replace(voice, pitch_hz=pitch.astype(np.float32)), controls=controls, seed=2)

    found = [measure(wide(factor, AUTO)) for factor in (0.5, 1.0, 1.5, 2.0)]
    assert all(np.diff([one.brow_amplitude for one in found]) > 0)
    assert all(np.diff([one.head_speed for one in found]) > 0)
    plain = [measure(wide(factor, Controls())) for factor in (0.5, 2.0)]
    assert found[-1].brow_amplitude / found[0].brow_amplitude > plain[1].brow_amplitude / plain[0].brow_amplitude
