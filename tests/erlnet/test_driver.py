"""The learned manner as a driver: it streams, closes lips, needs no torch, and refuses what it has no handle for.

The networks are untrained: what they learn is judged in ``tests/training/erlnet``.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from motion.test_audio import babble
from triportrait.drivers import VoiceDriver
from triportrait.erlnet.driver import LearnedManner, LearnedSpeaker
from triportrait.erlnet.hearing import Hearing, heard_rows
from triportrait.erlnet.model import ErlnetModel, Joined, load_erlnet
from triportrait.errors import MotionFileError, OptionError, WeightsError
from triportrait.evaluation.style import Learned, halves, transfer
from triportrait.live.session import LiveOptions
from triportrait.motion.audio import AudioDriver, AudioSettings
from triportrait.motion.controls import Controls
from triportrait.motion.files import save_motion
from triportrait.motion.lips import lip_opening
from triportrait.motion.natural import idle_motion
from triportrait.motion.options import DriveOptions
from triportrait.motion.statistics import blink_rows
from triportrait.motion.style import SpeakingStyle
from triportrait.pipeline import Portrait
from triportrait.speakers import voice_driver_of
from triportrait.types import ARKIT_EXPRESSIONS, Driver, Waveform


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a finished run leaves it, of tiny networks."""
    import torch

    from triportrait.nn.model_files import save_network
    from triportrait.training.erlnet.export import export_manner
    from triportrait.training.erlnet.manner import KIND, tiny
    from triportrait.training.erlnet.networks import build, config_of

    folder, sizes = tmp_path_factory.mktemp("erlnet"), tiny().network
    torch.manual_seed(0)
    save_network(folder / "model.safetensors", build(sizes), kind=KIND, config=config_of(sizes))
    return export_manner(folder / "model.safetensors")


@pytest.fixture(scope="session")
def model(weights: Path) -> ErlnetModel:
    return load_erlnet(weights)


def spoken(voice: Waveform, model: ErlnetModel, style: np.ndarray | None = None, **controls: float) -> LearnedSpeaker:
    return LearnedSpeaker(voice, AudioSettings(controls=Controls(**controls), seed=1), model=model, style=style)


def test_what_is_heard_does_not_depend_on_blocks() -> None:
    samples = babble(3.0).samples
    whole, hearing = heard_rows(samples), Hearing()
    parts = [hearing.push(block)[0] for block in np.array_split(samples, 23)]
    assert whole.shape == (75, hearing.size)
    np.testing.assert_allclose(np.concatenate([*parts, hearing.finish()[0]]), whole, atol=1e-4)


def test_networks_take_what_is_heard_as_they_are_preset() -> None:
    from triportrait.training.erlnet.networks import MannerSizes

    assert MannerSizes().heard == Hearing().size


def test_tokens_run_into_each_other_the_same_in_any_blocks() -> None:
    rows = np.repeat(np.random.default_rng(0).normal(size=(10, 3)), 4, axis=0).astype(np.float32)
    whole, parts = Joined(4, 3), Joined(4, 3)
    smooth = np.concatenate([whole.push(rows), whole.finish()])
    pieces = np.concatenate([*(parts.push(block) for block in np.array_split(rows, 13)), parts.finish()])
    assert smooth.shape == rows.shape and np.abs(np.diff(smooth, axis=0)).max() < 0.3 * np.abs(np.diff(rows, axis=0)).max()
    np.testing.assert_allclose(pieces, smooth, atol=1e-6)
    still = Joined(4, 3)
    np.testing.assert_allclose(np.concatenate([still.push(np.ones((9, 3), np.float32)), still.finish()]), 1.0, atol=1e-6)
    assert Joined(4, 3).finish().shape == (0, 3)


def test_motion_begins_at_rest_and_is_the_same_in_any_blocks(model: ErlnetModel) -> None:
    voice = babble(6.0)
    style = model.style(idle_motion(200, seed=1))
    whole = spoken(voice, model, style).motion()
    assert len(whole) == 150
    assert not whole.rotation_rad[0].any() and not whole.gaze_rad[0].any()
    assert not np.delete(whole.expression[0], ARKIT_EXPRESSIONS.index("mouthRollLower")).any()
    blocks = (Waveform(part, 16_000) for part in np.array_split(voice.samples, 31))
    chunks = list(LearnedSpeaker(blocks, AudioSettings(seed=1), model=model, style=style).chunks())
    assert len(chunks) > 5
    for name in ("expression", "rotation_rad", "translation", "gaze_rad"):
        np.testing.assert_allclose(np.concatenate([getattr(part, name) for part in chunks]), getattr(whole, name), atol=1e-4)


def test_lips_touch_where_the_shipped_network_hears_a_contact_and_rest_in_silence(model: ErlnetModel) -> None:
    voice = babble(6.0)
    plain, made = AudioDriver(voice, AudioSettings(seed=1)).motion(), spoken(voice, model).motion()
    shut = lip_opening(plain.expression, ARKIT_EXPRESSIONS) < 0.004
    assert shut.any()
    assert (lip_opening(made.expression, ARKIT_EXPRESSIONS)[shut] < 0.004).mean() > 0.9
    silence = spoken(Waveform(np.zeros(48_000, np.float32), 16_000), model).motion()
    assert lip_opening(silence.expression, ARKIT_EXPRESSIONS).max() < 0.004


def test_controls_and_the_seed_do_what_they_say(model: ErlnetModel) -> None:
    voice = babble(3.0)
    assert not spoken(voice, model, head_motion=0.0).motion().rotation_rad.any()
    calm, lively = (spoken(voice, model, temperature=0.0, head_motion=amount).motion().rotation_rad for amount in (1.0, 2.0))
    np.testing.assert_allclose(lively, 2.0 * calm, atol=1e-6)
    smile = ARKIT_EXPRESSIONS.index("mouthSmileLeft")
    happy = spoken(voice, model, happy=0.8).motion().expression[:, smile].mean()
    assert happy > spoken(voice, model).motion().expression[:, smile].mean() + 0.1


def test_blinks_and_breath_are_natural(model: ErlnetModel) -> None:
    voice, lid = babble(20.0), ARKIT_EXPRESSIONS.index("eyeBlinkLeft")
    made = spoken(voice, model).motion()
    assert len(blink_rows(made)) >= 2 and made.expression[:, lid].max() > 0.9
    often, never = (len(blink_rows(spoken(voice, model, blinks_per_minute=rate).motion())) for rate in (90.0, 0.0))
    assert often > never + 5
    assert made.body is not None and made.body[:, 1].max() > 0.01 and not made.body[:, 0].any()


def test_it_is_a_driver_that_performs_and_can_be_gone_through_again(weights: Path, voice: Path, talking_portrait: Portrait) -> None:
    driver = LearnedManner(voice, weights=weights)
    assert isinstance(driver, Driver) and driver.sources == {"voice": voice}
    first, second = (list(talking_portrait.driven_by(driver).chunks()) for _ in range(2))
    assert sum(map(len, first)) == driver.frame_count
    np.testing.assert_array_equal(first[-1].expression, second[-1].expression)
    named = talking_portrait.talk(voice, DriveOptions(voice_driver=f"erlnet:{weights}"))
    np.testing.assert_array_equal(next(named.chunks()).rotation_rad, first[0].rotation_rad)


def test_a_style_is_a_clip_of_some_seconds(weights: Path, voice: Path, tmp_path: Path) -> None:
    save_motion(idle_motion(200, seed=3), tmp_path / "long.npz")
    save_motion(idle_motion(50, seed=3), tmp_path / "short.npz")
    styled = LearnedManner(voice, DriveOptions(style=tmp_path / "long.npz", seed=2), weights=weights)
    assert isinstance(styled._speaker, partial)
    np.testing.assert_array_equal(styled._speaker.keywords["style"], load_erlnet(weights).style(idle_motion(200, seed=3)))
    assert tmp_path / "long.npz" in styled.inputs
    with pytest.raises(MotionFileError, match="too short"):
        LearnedManner(voice, DriveOptions(style=tmp_path / "short.npz"), weights=weights)


def test_what_it_has_no_handle_for_is_refused(weights: Path, tmp_path: Path) -> None:
    chosen = DriveOptions(voice_driver=f"erlnet:{weights}")
    assert voice_driver_of(DriveOptions()) is VoiceDriver
    for options in (replace(chosen, expressiveness=2.0), replace(chosen, controls="curves.npz")):
        with pytest.raises(OptionError, match="does nothing with --voice-driver erlnet"):
            voice_driver_of(options)
    with pytest.raises(OptionError, match="takes its style from a clip"):
        voice_driver_of(replace(chosen, style=SpeakingStyle()))
    with pytest.raises(OptionError, match="use natural or erlnet:FOLDER"):
        voice_driver_of(DriveOptions(voice_driver="someone"))
    with pytest.raises(OptionError, match="none ship"):
        voice_driver_of(DriveOptions(voice_driver="erlnet"))
    with pytest.raises(OptionError, match="has no weights"):
        voice_driver_of(DriveOptions(voice_driver="natural:x"))
    with pytest.raises(WeightsError, match="do not exist"):
        voice_driver_of(DriveOptions(voice_driver=f"erlnet:{tmp_path}"))
    with pytest.raises(OptionError, match="where a portrait is live"):
        LiveOptions(drive=chosen)


def test_files_of_different_runs_are_refused(weights: Path, tmp_path: Path) -> None:
    for name in ("expression.onnx", "style.onnx"):
        (tmp_path / name).write_bytes((weights / name).read_bytes())
    (tmp_path / "pose.onnx").write_bytes((weights / "expression.onnx").read_bytes())
    with pytest.raises(WeightsError, match="where erlnet-pose weights are needed"):
        load_erlnet(tmp_path)


def test_it_speaks_without_torch(weights: Path, voice: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from triportrait.erlnet.driver import LearnedManner\n"
        f"rows = sum(map(len, LearnedManner({str(voice)!r}, weights=Path({str(weights)!r})).relative()))\n"
        "assert rows == 25 and 'torch' not in sys.modules, rows"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_the_evaluation_measures_it_as_it_measures_moments(model: ErlnetModel) -> None:
    manners = Learned(model)
    motions = {str(seed): idle_motion(200, seed=seed) for seed in range(2)}
    found = transfer(motions, {name: babble(4.0) for name in motions}, manners=manners)
    assert found["pairs"] == 2 and 0.0 <= found["nearest_by_own_code"] <= 1.0
    assert halves(motions, manners)["clips"] == 2
