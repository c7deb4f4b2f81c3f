"""Controls, emotions and styles: what they change, what they may never change, and their way through motion files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motion.test_audio import babble, joined
from motion.test_natural import blinks, fake_speech
from triportrait.errors import MotionFileError, OptionError
from triportrait.motion.audio import AudioDriver, AudioSettings
from triportrait.motion.controls import NAMES, ControlCurves, Controls, ControlTrack
from triportrait.motion.emotion import EMOTION_CURVES, EMOTIONS, with_emotion
from triportrait.motion.files import load_controls, load_motion, save_motion, write_motion
from triportrait.motion.lips import close_lips, lip_opening
from triportrait.motion.natural import idle_motion
from triportrait.motion.statistics import measure
from triportrait.motion.style import SpeakingStyle, style_of
from triportrait.types import ARKIT_EXPRESSIONS, Motion, Waveform

FIELDS = ("expression", "rotation_rad", "translation", "gaze_rad")


def speaking_rows(count: int = 400, seed: int = 0) -> np.ndarray:
    """Faces that speak, every third with lips brought together by any mixture of curves."""
    random = np.random.default_rng(seed)
    rows = (random.random((count, 44)) ** 3).astype(np.float32)
    return close_lips(rows, ARKIT_EXPRESSIONS, (np.arange(count) % 3 == 0).astype(np.float32), jaw_share=0.0)


@pytest.mark.parametrize("strength", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("emotion", EMOTIONS)
def test_emotions_never_part_closed_lips(emotion: str, strength: float) -> None:
    rows = speaking_rows()
    weights = np.array([strength * (name == emotion) for name in EMOTIONS])
    felt = with_emotion(rows, weights)
    before, after = lip_opening(rows, ARKIT_EXPRESSIONS), lip_opening(felt, ARKIT_EXPRESSIONS)
    # mouthClose may be used up on faces that nobody makes: those are few.
    touching = (before < 0.004) & (felt[:, ARKIT_EXPRESSIONS.index("mouthClose")] < 1.0)
    assert touching.sum() > 100
    assert (after[touching] <= before[touching] + 1e-5).all()
    assert felt.min() >= 0 and felt.max() <= 1
    strongest = max(EMOTION_CURVES[emotion], key=EMOTION_CURVES[emotion].__getitem__)
    column = [i for i, name in enumerate(ARKIT_EXPRESSIONS) if name.removesuffix("Left") == strongest][0]
    assert felt[:, column].mean() > rows[:, column].mean() + 0.3 * strength * EMOTION_CURVES[emotion][strongest]
    np.testing.assert_array_equal(with_emotion(rows, np.zeros(4)), rows)


def test_emotion_of_a_voice_keeps_its_closures_and_its_rest() -> None:
    voice = babble(4.0)
    neutral = AudioDriver(voice).motion()
    shut = lip_opening(neutral.expression, ARKIT_EXPRESSIONS) < 0.002
    for emotion in EMOTIONS:
        felt = AudioDriver(voice, AudioSettings(Controls().with_emotion(emotion, 1.0))).motion()
        assert lip_opening(felt.expression[shut], ARKIT_EXPRESSIONS).max() < 0.003
        assert not felt.rotation_rad[0].any() and not felt.gaze_rad[0].any()
        assert not (felt.expression[0] - neutral.expression[0]).any()


def test_streaming_equals_offline_with_everything_on() -> None:
    voice, random = babble(6.0), np.random.default_rng(0)
    ramps = {"head_motion": (0.2, 2.0, 150), "happy": (0.0, 1.0, 80), "mouth_gain": (2.0, 0.5, 100)}
    curves = ControlCurves({name: np.linspace(*ramp) for name, ramp in ramps.items()})
    style = SpeakingStyle((1.2, 0.8, 1.5), 1.2, smile=0.1)
    settings = AudioSettings(Controls(temperature=1.4), seed=4, style=style, curves=curves)
    whole = AudioDriver(voice, settings).motion()
    cuts = np.sort(random.integers(0, len(voice.samples), 150))
    blocks = (Waveform(part, 16000) for part in np.split(voice.samples, cuts))
    parts = list(AudioDriver(blocks, settings).chunks())
    for field in FIELDS:
        np.testing.assert_allclose(joined(parts, field), getattr(whole, field), atol=1e-4)


def test_curves_act_where_they_say() -> None:
    calm_then_lively = ControlCurves({"head_motion": np.repeat([0.0, 1.0], 500), "blinks_per_minute": np.repeat([0.0, 60.0], 500)})
    motion = idle_motion(2000, seed=1, prosody=fake_speech(80), curves=calm_then_lively)
    assert not motion.rotation_rad[:500].any() and motion.rotation_rad[550:].std() > 0.02
    lid = motion.expression[:, motion.column("eyeBlinkLeft")]
    assert not lid[:490].any() and lid[520:].max() > 0.9
    frozen = idle_motion(500, controls=Controls(temperature=0.0, gaze_motion=0.0, blinks_per_minute=0.0))
    assert np.abs(frozen.rotation_rad).max() < 1e-6
    for bad in ({"mouth": np.ones(3)}, {"happy": np.array([0.5, 1.5])}, {"happy": np.zeros(0)}):
        with pytest.raises(OptionError):
            ControlCurves(bad)
    with pytest.raises(OptionError, match="--emotion"):
        Controls().with_emotion("bored")


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_controls_travel_in_the_motion_file(kind: str, tmp_path: Path) -> None:
    motion = idle_motion(60, seed=3)
    track = ControlTrack(Controls(mouth_gain=1.25), ControlCurves({"sad": np.linspace(0, 1, 60)}))
    parts = [motion.rows(slice(0, 7)), motion.rows(slice(7, 60))]
    path = tmp_path / f"motion.{kind}"
    assert write_motion(iter(parts), path, track) == 60
    again, controls = load_motion(path), load_controls(path)
    for field in (*FIELDS, "body"):
        np.testing.assert_allclose(getattr(again, field), getattr(motion, field), atol=1e-6)
    assert set(controls.values) == set(NAMES)
    np.testing.assert_allclose(controls.values["sad"], np.linspace(0, 1, 60), atol=1e-5)
    np.testing.assert_allclose(controls.values["mouth_gain"], 1.25)
    save_motion(motion, path)
    with pytest.raises(MotionFileError, match="no controls"):
        load_controls(path)


def test_style_of_a_lively_speaker_is_lively_and_survives_its_code() -> None:
    def speaker(style: SpeakingStyle, seed: int) -> Motion:
        return idle_motion(25 * 60, seed=seed, prosody=fake_speech(60, seed), style=style)

    lively = SpeakingStyle((1.4, 1.4, 1.4), brow_gain=1.5, blink_rate=1.5, smile=0.2)
    calm = SpeakingStyle((0.5, 0.5, 0.5), brow_gain=0.5, blink_rate=0.4)
    found = [style_of(speaker(style, seed)) for seed, style in enumerate((lively, calm))]
    assert all(a > 1.6 * b for a, b in zip(found[0].head_gain, found[1].head_gain, strict=True))
    assert found[0].brow_gain > 1.6 * found[1].brow_gain and found[0].blink_rate > 1.6 * found[1].blink_rate
    assert found[0].smile > 0.08 > found[1].smile
    again = SpeakingStyle.from_code(found[0].code)
    np.testing.assert_allclose(again.code, found[0].code, atol=1e-6)
    assert not SpeakingStyle().code.any()
    with pytest.raises(MotionFileError, match="too short"):
        style_of(idle_motion(50))


def test_statistics_are_those_of_a_known_motion() -> None:
    """A head that swings about yaw at 0.5 Hz by 10 degrees has a mean speed of 2 pi 0.5 10 2 / pi degrees per second."""
    motion = idle_motion(500, controls=Controls(head_motion=0.0, gaze_motion=0.0, blinks_per_minute=0.0))
    rotation = np.zeros((500, 3), np.float32)
    rotation[:, 1] = np.radians(10 * np.sin(np.arange(500) / 25 * np.pi))
    expression = np.zeros((500, 44), np.float32)
    for start in (50, 150, 290, 400):
        expression[start : start + 5, [motion.column("eyeBlinkLeft"), motion.column("eyeBlinkRight")]] = 0.9
    found = measure(motion.with_rows(rotation_rad=rotation, expression=expression, gaze_rad=-0.8 * rotation[:, [0, 1]]))
    assert found.yaw_speed == pytest.approx(20.0, rel=0.03) and found.head_speed == pytest.approx(20.0, rel=0.03)
    assert found.pitch_speed < 0.1 and found.blinks_per_minute == 12.0
    assert found.eye_contact == pytest.approx(0.8, abs=0.03)
    with pytest.raises(ValueError, match="too short"):
        measure(idle_motion(20))


@pytest.mark.parametrize("sound", ["silence", "noise", "music"])
def test_without_speech_the_face_goes_on_living(sound: str) -> None:
    random, count = np.random.default_rng(0), 16000 * 30
    time_s = np.arange(count) / 16000
    samples = {
        "silence": np.zeros(count),
        "noise": 0.03 * random.standard_normal(count),
        "music": 0.05 * sum(np.sin(2 * np.pi * note * time_s) * (np.sin(2 * np.pi * 0.9 * time_s + note) > 0) for note in (220, 277, 330)),
    }[sound]
    motion = AudioDriver(Waveform(samples.astype(np.float32), 16000)).motion()
    assert blinks(motion) >= 4
    # Nobody speaks: the head idles, and does not gesticulate. (Music has a pitch.)
    if sound != "music":
        assert measure(motion).head_speed < 5.0
    half = len(motion) // 2
    for rows in (slice(25, half), slice(half, None)):
        assert np.degrees(motion.rotation_rad[rows]).std(axis=0).max() > 0.7
        assert np.degrees(motion.gaze_rad[rows]).std(axis=0).max() > 0.7
