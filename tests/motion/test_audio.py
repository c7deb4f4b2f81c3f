"""The voice as a driver, with the embedded network: streaming, silence, controls, clear errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triportrait.errors import MediaError, WeightsError
from triportrait.motion.audio import AudioDriver, AudioSettings, eased, mouth_expression
from triportrait.motion.audio_network import (
    AudioToMotion,
    AudioToMotionConfig,
    AudioToMotionEnsemble,
    as_graph,
    export_model,
    load_model,
    save_model,
)
from triportrait.motion.controls import Controls
from triportrait.motion.lips import lip_opening
from triportrait.motion.speech_features import EXTRACTORS, RATE_HZ, EnvelopeLogMel, LogMel
from triportrait.motion.voice_graph import MouthStream, load_voice
from triportrait.types import ARKIT_EXPRESSIONS, Motion, Waveform

FIELDS = ("expression", "rotation_rad", "translation", "gaze_rad")


def babble(seconds: float = 6.0, rate_hz: int = 16000, seed: int = 0) -> Waveform:
    """Vowel-like sound: a pitched buzz through moving resonances, in syllables with pauses."""
    random = np.random.default_rng(seed)
    count = int(seconds * rate_hz)
    time_s = np.arange(count) / rate_hz
    phase = 2 * np.pi * np.cumsum(120 * 2 ** (0.2 * np.sin(1.1 * time_s))) / rate_hz
    formant = 600 + 250 * np.sin(2 * np.pi * 2.1 * time_s)
    sound = np.zeros(count)
    for k in range(1, 25):
        gain = np.exp(-(((120 * k - formant) / 200) ** 2)) + 0.3 * np.exp(-(((120 * k - 1500) / 300) ** 2))
        sound += gain * np.sin(k * phase)
    syllable = np.clip(1.5 * np.sin(2 * np.pi * 3.7 * time_s) + 0.3, 0, 1)
    pause = (time_s % 2.5 < 1.9) & (time_s > 0.4)
    sound = 0.15 * sound * syllable * pause + 0.0005 * random.standard_normal(count)
    return Waveform(sound.astype(np.float32), rate_hz)


def joined(parts: list[Motion], field: str) -> np.ndarray:
    return np.concatenate([getattr(part, field) for part in parts])


@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_streaming_equals_offline(rate_hz: int) -> None:
    voice = babble(rate_hz=rate_hz)
    whole = AudioDriver(voice).motion()
    random = np.random.default_rng(2)

    def blocks():
        start = 0
        while start < len(voice.samples):
            size = int(random.integers(1, rate_hz // 4))
            yield Waveform(voice.samples[start : start + size], rate_hz)
            start += size

    parts = list(AudioDriver(blocks()).chunks())
    assert len(parts) > 5
    for field in FIELDS:
        np.testing.assert_allclose(joined(parts, field), getattr(whole, field), atol=1e-4)


@pytest.mark.parametrize("samples", [1, 639, 640, 641, 16000, 16001])
def test_one_row_per_40_ms(samples: int) -> None:
    motion = AudioDriver(Waveform(np.zeros(samples, np.float32), 16000)).motion()
    assert len(motion) == -(-samples // 640)
    assert motion.fps == 25.0 and motion.expression_names == ARKIT_EXPRESSIONS


def test_look_ahead_is_at_most_200_ms() -> None:
    first = babble(4.0).samples
    second = first.copy()
    second[32000:] = 0.3 * np.random.default_rng(0).standard_normal(len(first) - 32000)
    motions = [AudioDriver(Waveform(samples, 16000)).motion() for samples in (first, second)]
    differs = np.abs(motions[0].expression - motions[1].expression).max(axis=1) > 1e-6
    # Sample 32000 is heard at 2.0 s: rows before 1.8 s cannot know.
    assert not differs[: int(1.8 * 25)].any()
    assert differs[50:].any()


def test_rows_come_soon() -> None:
    voice = babble(3.0).samples
    heard, given, worst = 0, 0, 0.0
    driver = AudioDriver(())

    def blocks():
        nonlocal heard
        for start in range(0, len(voice), 640):
            heard = start + 640
            yield Waveform(voice[start : start + 640], 16000)

    driver = AudioDriver(blocks())
    for chunk in driver.chunks():
        worst = max(worst, heard / RATE_HZ - given / 25)
        given += len(chunk)
    assert worst <= 0.32


def test_silence_keeps_the_mouth_shut_and_the_head_alive() -> None:
    motion = AudioDriver(Waveform(np.zeros(16000 * 20, np.float32), 16000)).motion()
    assert lip_opening(motion.expression, ARKIT_EXPRESSIONS).max() < 0.002
    assert motion.expression[:, motion.column("eyeBlinkLeft")].max() > 0.8
    assert motion.rotation_rad.std() > 0.003


def test_sound_opens_it() -> None:
    opening = lip_opening(AudioDriver(babble()).motion().expression, ARKIT_EXPRESSIONS)
    assert np.quantile(opening, 0.9) > 0.02
    assert opening[:5].max() < 0.005


def test_controls() -> None:
    voice = babble()
    usual = AudioDriver(voice).motion()
    bigger = AudioDriver(voice, AudioSettings(Controls(mouth_gain=1.5))).motion()
    ratio = lip_opening(bigger.expression, ARKIT_EXPRESSIONS).mean() / lip_opening(usual.expression, ARKIT_EXPRESSIONS).mean()
    assert 1.3 < ratio < 1.6
    nothing = Controls(head_motion=0.0, blinks_per_minute=0.0, gaze_motion=0.0, eye_contact=0.0, expressiveness=0.0)
    still = AudioDriver(voice, AudioSettings(nothing)).motion()
    assert not still.rotation_rad.any() and not still.gaze_rad.any()
    assert not still.expression[:, still.column("eyeBlinkLeft")].any()
    assert not still.expression[:, still.column("browInnerUp")].any()
    mouth = [i for i, name in enumerate(ARKIT_EXPRESSIONS) if name.startswith(("mouth", "jaw"))]
    corners = [i for i in mouth if ARKIT_EXPRESSIONS[i].startswith(("mouthSmile", "mouthFrown", "mouthDimple", "mouthLeft", "mouthRight"))]
    spoken = np.setdiff1d(mouth, corners)
    np.testing.assert_array_equal(still.expression[:, spoken], usual.expression[:, spoken])
    assert (still.expression[:, corners] <= usual.expression[:, corners]).all()
    calm = AudioDriver(voice, AudioSettings(Controls(head_motion=0.3))).motion()
    assert np.abs(calm.rotation_rad).max() < 0.4 * np.abs(usual.rotation_rad).max()
    other = AudioDriver(voice, AudioSettings(seed=1)).motion()
    assert np.abs(other.rotation_rad - usual.rotation_rad).max() > 1e-3
    assert not usual.rotation_rad[0].any() and not usual.translation[0].any()


def test_clear_errors(tmp_path) -> None:
    with pytest.raises(MediaError, match="no sound"):
        AudioDriver(Waveform(np.zeros(0, np.float32), 16000)).motion()
    with pytest.raises(MediaError, match="one rate"):
        AudioDriver([babble(0.1), babble(0.1, 8000)]).motion()
    with pytest.raises(WeightsError, match="do not exist"):
        load_model(tmp_path / "absent.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(WeightsError, match="audio-to-motion weights"):
        load_model(tmp_path / "bad.safetensors")


def test_weights_round_trip_in_half_precision(tmp_path) -> None:
    torch.manual_seed(0)
    model = AudioToMotion(AudioToMotionConfig(channels=16, front_channels=8, dilations=(1, 2), curves=("jawOpen", "mouthClose"))).eval()
    save_model(model, tmp_path / "m.safetensors", {"note": "a"})
    again = load_model(tmp_path / "m.safetensors")
    assert again.config == model.config
    features = torch.randn(1, 40, 82)
    for first, second in zip(model(features), again(features), strict=True):
        torch.testing.assert_close(first, second, atol=5e-3, rtol=0)


def test_an_ensemble_is_the_mean_of_its_members_and_streams(tmp_path) -> None:
    torch.manual_seed(1)
    sizes = {"channels": 16, "front_channels": 8, "curves": ("jawOpen", "mouthClose")}
    first = AudioToMotion(AudioToMotionConfig(dilations=(1, 2), **sizes)).eval()
    second = AudioToMotion(AudioToMotionConfig(features=42, extractor="envelope_log_mel", dilations=(1,), visemes=5, **sizes)).eval()
    save_model(AudioToMotionEnsemble([first, second]), tmp_path / "m.safetensors")
    both = load_model(tmp_path / "m.safetensors")
    assert both.config.features == EXTRACTORS[both.config.extractor].size == 124
    samples = babble(3.0).samples
    rows = [np.concatenate([ears.push(samples), ears.finish()]) for ears in (LogMel(), EnvelopeLogMel())]
    with torch.inference_mode():
        alone = [model(torch.from_numpy(part)[None]) for model, part in zip((first, second), rows, strict=True)]
    contact = sum(torch.sigmoid(part[2][0]) for part in alone).numpy() / 2
    for pieces in ([samples], np.array_split(samples, 23)):
        stream = MouthStream(as_graph(both))
        parts = [stream.push(piece) for piece in pieces] + [stream.finish()]
        np.testing.assert_allclose(np.concatenate([part[2] for part in parts]), contact, atol=5e-3)
        curves = sum(part[0][0].clamp(0, 1) for part in alone).numpy() / 2
        np.testing.assert_allclose(np.concatenate([part[0] for part in parts]), curves, atol=5e-3)


def test_experts_speak_for_known_speakers_and_stream(tmp_path) -> None:
    """Untrained experts change nothing; trained ones change what the gate is sure of; streams and the file give what the whole gives."""
    torch.manual_seed(1)
    sizes = {"channels": 16, "front_channels": 8, "curves": ("jawOpen", "mouthClose")}
    first = AudioToMotion(AudioToMotionConfig(dilations=(1, 2), **sizes)).eval()
    second = AudioToMotion(AudioToMotionConfig(features=42, extractor="envelope_log_mel", dilations=(1,), **sizes)).eval()
    plain, known = AudioToMotionEnsemble([first, second]).eval(), AudioToMotionEnsemble([first, second], {"rows": 7}).eval()
    assert known.known is not None
    samples = babble(3.0).samples
    ears = EXTRACTORS[known.config.extractor]()
    rows = torch.from_numpy(np.concatenate([ears.push(samples), ears.finish()]))[None]
    with torch.inference_mode():
        for before, after in zip(plain(rows), known(rows), strict=True):
            torch.testing.assert_close(before, after)
    torch.nn.init.normal_(known.known.experts[-1].weight)
    shifts = []
    for logit in (-20.0, 20.0):
        with torch.no_grad():
            known.known.gate[-1].bias.copy_(torch.tensor([0.0, logit, -20.0]))
        with torch.inference_mode():
            shifts.append(float((known(rows)[0] - plain(rows)[0]).abs().mean()))
    assert shifts[0] < 1e-4 < 1e-2 < shifts[1]
    with torch.no_grad():
        known.known.gate[-1].bias.zero_()
    save_model(known, tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    with torch.inference_mode():
        whole = again(rows)
    for pieces in ([samples], np.array_split(samples, 23)):
        stream = MouthStream(as_graph(again))
        parts = [stream.push(piece) for piece in pieces] + [stream.finish()]
        np.testing.assert_allclose(np.concatenate([part[0] for part in parts]), whole[0][0].numpy(), atol=1e-5)
        np.testing.assert_allclose(np.concatenate([part[2] for part in parts]), torch.sigmoid(whole[2][0]).numpy(), atol=1e-5)


def test_the_lower_lip_reaches_the_teeth() -> None:
    names = ("jawOpen", "mouthLowerDownLeft", "mouthRollLower")
    curves = np.array([[0.3, 0.2, 0.02], [0.3, 0.2, 0.3]], np.float32)
    free, touching = (mouth_expression(row[None], np.zeros(1), names)[0] for row in curves)
    column = ARKIT_EXPRESSIONS.index
    assert free[column("jawOpen")] == pytest.approx(0.3) and free[column("mouthRollLower")] == pytest.approx(0.02)
    assert touching[column("mouthRollLower")] == pytest.approx(0.45) and touching[column("mouthLowerDownLeft")] == 0
    assert lip_opening(touching, ARKIT_EXPRESSIONS) < 0.4 * lip_opening(free, ARKIT_EXPRESSIONS)
    loud = mouth_expression(curves[1:], np.zeros(1), names, opening=3.0)[0]
    assert loud[column("mouthRollLower")] == pytest.approx(0.45)


@pytest.mark.parametrize("features", [0, 1, 3, 4, 5, 7, 8, 40, 41])
def test_a_step_knows_where_the_voice_begins_and_ends(features: int) -> None:
    """Step by step, row by row, the network sees the same zeros before the first and after the last row as in one piece."""
    torch.manual_seed(2)
    sizes = {"channels": 16, "front_channels": 8, "curves": ("jawOpen", "mouthClose"), "dilations": (1, 2, 4)}
    model = AudioToMotion(AudioToMotionConfig(**sizes)).eval()
    rows = np.random.default_rng(features).standard_normal((features, 82)).astype(np.float32)

    class Ears:
        def push(self, samples: np.ndarray) -> np.ndarray:
            return rows[len(samples) : len(samples) + 1]

        def finish(self) -> np.ndarray:
            return rows[:0]

    stream = MouthStream(as_graph(model))
    stream._extractor = Ears()
    parts = [stream.push(np.zeros(i)) for i in range(features)] + [stream.finish()]
    curves, opening, contact = (np.concatenate(part) for part in zip(*parts, strict=True))
    assert len(curves) == -(-features // 4)
    if features:
        with torch.inference_mode():
            whole = model(torch.from_numpy(rows)[None])
        np.testing.assert_allclose(curves, whole[0][0].clamp(0, 1), atol=1e-5)
        np.testing.assert_allclose(opening, whole[1][0].clamp(min=0), atol=1e-5)
        np.testing.assert_allclose(contact, torch.sigmoid(whole[2][0]), atol=1e-5)


def test_an_exported_voice_is_the_trained_one(tmp_path) -> None:
    torch.manual_seed(3)
    model = AudioToMotion(AudioToMotionConfig(channels=16, front_channels=8, dilations=(1,), visemes=4, curves=("jawOpen",))).eval()
    export_model(model, tmp_path / "m.onnx")
    save_model(model, tmp_path / "m.safetensors")
    for first, second in zip(model.state_dict().values(), load_model(tmp_path / "m.onnx").state_dict().values(), strict=True):
        torch.testing.assert_close(first, second, atol=2e-3, rtol=1e-3)
    graphs = (load_voice(tmp_path / "m.onnx"), as_graph(load_model(tmp_path / "m.safetensors")))
    motions = [AudioDriver(babble(2.0), model=graph).motion() for graph in graphs]
    np.testing.assert_allclose(motions[0].expression, motions[1].expression, atol=2e-3)


def test_the_embedded_model_is_small() -> None:
    from importlib import resources

    path = resources.files("triportrait.motion") / "data" / "audio_to_motion.onnx"
    assert len(path.read_bytes()) < 8_000_000
    assert set(load_model().config.curves) < set(ARKIT_EXPRESSIONS)


def test_not_a_number_in_the_sound_does_not_spread() -> None:
    samples = babble(2.0).samples.copy()
    samples[5000:5100] = np.nan
    assert np.isfinite(AudioDriver(Waveform(samples, 16000)).motion().expression).all()


def test_the_lower_lip_takes_two_rows_to_the_teeth_and_back() -> None:
    touch = np.zeros((9, 2))
    touch[4, 0] = touch[3:6, 1] = 1.0
    soft = eased(touch, np.zeros(2), np.array([0.0, 1.0]))
    np.testing.assert_array_equal(soft[:, 0], touch[:, 0])
    np.testing.assert_allclose(soft[:, 1], [0, 0, 0.5, 1, 1, 1, 0.5, 0, 0.5])
    parts = [eased(touch[:4], np.zeros(2), touch[4]), eased(touch[4:], touch[3], np.array([0.0, 1.0]))]
    np.testing.assert_array_equal(np.concatenate(parts), soft)
