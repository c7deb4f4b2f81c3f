"""Audio-to-motion against the published model's outputs."""

from __future__ import annotations

from typing import Any

import golden
import numpy as np
import pytest
import torch

from triportrait.motion.paper_audio_to_motion import PaperAudioToMotion, kl_divergence, pitch_bins
from triportrait.weights.real3d_a2m import audio_to_motion_config, audio_to_motion_state

golden.require("real3d/a2m.json")

REFERENCE = golden.read("real3d/a2m.json")
SEED = REFERENCE["seed"]


@pytest.fixture(scope="module")
def model() -> PaperAudioToMotion:
    published = golden.filled_real3d("real3d_a2m", "", SEED)
    golden.assert_fill(published, REFERENCE)
    network = PaperAudioToMotion(PaperAudioToMotion.Config(**audio_to_motion_config(published)))
    network.load_state_dict(audio_to_motion_state(published))
    return network.eval().requires_grad_(False)


def inputs(rows: int, *, blinking: bool = True) -> dict[str, torch.Tensor]:
    fill = golden.fill()
    u = fill.unit("a2m.f0", 2 * rows, SEED)
    f0 = np.where(u[rows:] < 0.3, 0, 60 + 500 * u[:rows]).astype(np.float32)
    blink = (fill.unit("a2m.blink", rows, SEED) < 0.1) & blinking
    return {
        "features": fill.rand_in((1, rows, 1024), "a2m.audio", SEED),
        "f0_hz": torch.from_numpy(f0)[None],
        "blink": torch.from_numpy(blink.astype(np.int64))[None],
        "amplitudes": torch.tensor([[0.45]]),
    }


@pytest.mark.parametrize(
    ("case", "rows", "temperature", "blinking"),
    [("T64_z0", 64, 0.0, True), ("T64_z0_noblink", 64, 0.0, False), ("T64_temp1", 64, 1.0, True), ("T200_temp02", 200, 0.2, True)],
)
def test_motion(model: PaperAudioToMotion, case: str, rows: int, temperature: float, blinking: bool) -> None:
    given, expected = inputs(rows, blinking=blinking), REFERENCE["cases"][case]
    noise = temperature * golden.fill().rand_in((1, 16, rows // 8), "a2m.z", SEED)
    conditions = model.conditions(**given)
    squeezed = model.squeezed(conditions)
    results = {
        "cond": conditions,
        "g_sqz": squeezed,
        "z_flow": model.flow.inverse(noise, squeezed),
        "exp": model(**given, noise=noise),
    }
    for name, result in results.items():
        golden.assert_close(result, expected[name], 2e-5)


def test_training_pass(model: PaperAudioToMotion) -> None:
    fill, expected = golden.fill(), REFERENCE["cases"]["train_T64"]
    conditions = model.conditions(**inputs(64))
    mean, log_std = model.encode(fill.rand_in((1, 32, 64), "a2m.y", SEED), conditions)
    posterior = mean + torch.exp(log_std) * fill.rand_in((1, 16, 8), "a2m.eps", SEED)
    prior = model.flow(posterior, model.squeezed(conditions))
    golden.assert_close(mean.transpose(1, 2), expected["mu"], 2e-5)
    golden.assert_close(log_std.transpose(1, 2), expected["logs"], 2e-5)
    golden.assert_close(prior.transpose(1, 2), expected["z_p"], 2e-5)
    golden.assert_close(model.decode(posterior, conditions), expected["exp_recon"], 2e-5)
    divergence = float(kl_divergence(mean, log_std, posterior, prior))
    assert divergence == pytest.approx(expected["loss_kl"]["val"][0], rel=2e-5)


def test_pitch_bins() -> None:
    assert pitch_bins(inputs(64)["f0_hz"][0, ::2]).tolist() == REFERENCE["f0_bins_T64"]
