"""The synchrony expert: it hears and sees what belongs together, its loss reaches the curves, its file is small and checked."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from triportrait.errors import MediaError, WeightsError
from triportrait.media.audio import read_audio
from triportrait.motion.audio import AudioDriver, AudioSettings
from triportrait.motion.controls import Controls
from triportrait.motion.sync_expert import (
    SyncExpert,
    SyncExpertConfig,
    load_sync_expert,
    mouth_channels,
    save_sync_expert,
    similarity_by_lag,
    sync_score,
)
from triportrait.training.voice.corpora import CURVES
from triportrait.training.voice.sync_expert import shift_accuracy
from triportrait.training.voice.sync_loss import lag_loss, sync_loss
from triportrait.types import Motion, Waveform

SPEECH = Path(__file__).resolve().parents[2] / "examples" / "speech.wav"


@pytest.fixture(scope="module")
def spoken() -> tuple[Waveform, Motion]:
    voice = read_audio(SPEECH, 16000)
    still = Controls(head_motion=0.0, blinks_per_minute=0.0, gaze_motion=0.0, eye_contact=0.0)
    return voice, AudioDriver(voice, AudioSettings(still)).motion()


def shifted(motion: Motion, frames: int) -> Motion:
    return motion.with_rows(expression=np.roll(motion.expression, frames, axis=0))


def test_lips_in_step_score_best_at_lag_zero(spoken: tuple[Waveform, Motion]) -> None:
    voice, motion = spoken
    score = sync_score(motion, voice)
    assert abs(score.lag_frames) <= 1 and score.similarity > 0.4 and score.confidence > 0.2
    late, early = (sync_score(shifted(motion, frames), voice) for frames in (5, -5))
    assert abs(late.lag_frames - 5) <= 1 and abs(early.lag_frames + 5) <= 1
    assert max(late.similarity, early.similarity) < score.similarity - 0.2
    faster = Waveform(np.interp(np.arange(0, len(voice.samples), 1 / 1.5), np.arange(len(voice.samples)), voice.samples), 24000)
    assert sync_score(motion, faster).similarity == pytest.approx(score.similarity, abs=0.1)


def test_lag_is_the_mouths_delay() -> None:
    sound = torch.nn.functional.normalize(torch.randn(1, 80, 16), dim=-1)
    cosines = similarity_by_lag(sound, torch.roll(sound, 4, 1), 15)[0].mean(0)
    assert int(cosines.argmax()) - 15 == 4
    assert shift_accuracy(similarity_by_lag(sound, sound, 15)[0].numpy(), 5, 25) == 1.0
    assert lag_loss(sound, sound, 1) < 1.0 < lag_loss(sound, torch.roll(sound, 4, 1), 1)


def test_loss_reaches_the_curves_and_prefers_the_right_moment(spoken: tuple[Waveform, Motion]) -> None:
    from triportrait.motion.speech_features import EXTRACTORS

    voice, motion = spoken
    expert = load_sync_expert()
    extractor = EXTRACTORS[expert.config.extractor]()
    features = np.concatenate([extractor.push(voice.samples), extractor.finish()])
    count = min(len(features) // 4, len(motion))
    columns = [motion.column(name) for name in CURVES]
    curves = torch.from_numpy(motion.expression[None, :count, columns]).requires_grad_()
    heard = torch.from_numpy(features[None, : 4 * count])
    loss = sync_loss(heard, curves, CURVES)
    loss.backward()
    assert curves.grad is not None and curves.grad.abs().sum() > 0
    assert sync_loss(heard, torch.roll(curves.detach(), 5, 1), CURVES) > loss + 0.5
    with pytest.raises(ValueError, match="features"):
        sync_loss(heard[..., :10], curves, CURVES)


def test_file(tmp_path: Path) -> None:
    assert len((resources.files("triportrait.motion") / "data" / "sync_expert.safetensors").read_bytes()) < 1_000_000
    expert = SyncExpert(SyncExpertConfig(channels=16, embedding=8, dilations=(1,))).eval()
    save_sync_expert(expert, tmp_path / "e.safetensors")
    again = load_sync_expert(tmp_path / "e.safetensors")
    channels = mouth_channels(torch.rand(1, 40, len(CURVES)), CURVES)
    torch.testing.assert_close(again.mouth(channels), expert.mouth(channels), atol=5e-3, rtol=0)
    with pytest.raises(WeightsError, match="do not exist"):
        load_sync_expert(tmp_path / "absent.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(WeightsError, match="sync-expert weights"):
        load_sync_expert(tmp_path / "bad.safetensors")


def test_clear_errors(spoken: tuple[Waveform, Motion]) -> None:
    voice, motion = spoken
    short = motion.rows(slice(20))
    with pytest.raises(MediaError, match="too short"):
        sync_score(short, voice)
