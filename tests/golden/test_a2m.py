"""Audio-to-motion against the published model's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from golden_folder import check, check_fill, golden, golden_fill, key_shapes
from triportrait.real3d.audio_to_motion import PaperAudioToMotion, kl_divergence, pitch_bins
from triportrait.weights.real3d_a2m import audio_to_motion_config, audio_to_motion_state


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return golden("real3d/a2m.json")


@pytest.fixture(scope="module")
def model(reference: dict[str, Any]) -> PaperAudioToMotion:
    published = golden_fill().fill_real3d(key_shapes("real3d_a2m.json"), reference["seed"])
    check_fill(published, reference)
    network = PaperAudioToMotion(PaperAudioToMotion.Config(**audio_to_motion_config(published)))
    network.load_state_dict(audio_to_motion_state(published))
    return network.eval().requires_grad_(False)


def inputs(rows: int, seed: int, *, blinking: bool = True) -> dict[str, torch.Tensor]:
    fill = golden_fill()
    u = fill.unit("a2m.f0", 2 * rows, seed)
    f0 = np.where(u[rows:] < 0.3, 0, 60 + 500 * u[:rows]).astype(np.float32)
    blink = (fill.unit("a2m.blink", rows, seed) < 0.1) & blinking
    return {
        "features": fill.rand_in((1, rows, 1024), "a2m.audio", seed),
        "f0_hz": torch.from_numpy(f0)[None],
        "blink": torch.from_numpy(blink.astype(np.int64))[None],
        "amplitudes": torch.tensor([[0.45]]),
    }


@pytest.mark.parametrize(
    ("case", "rows", "temperature", "blinking"),
    [("T64_z0", 64, 0.0, True), ("T64_z0_noblink", 64, 0.0, False), ("T64_temp1", 64, 1.0, True), ("T200_temp02", 200, 0.2, True)],
)
def test_motion(model: PaperAudioToMotion, reference: dict[str, Any], case: str, rows: int, temperature: float, blinking: bool) -> None:
    seed, expected = reference["seed"], reference["cases"][case]
    given = inputs(rows, seed, blinking=blinking)
    noise = temperature * golden_fill().rand_in((1, 16, rows // 8), "a2m.z", seed)
    conditions = model.conditions(**given)
    squeezed = model.squeezed(conditions)
    results = {
        "cond": conditions,
        "g_sqz": squeezed,
        "z_flow": model.flow.inverse(noise, squeezed),
        "exp": model(**given, noise=noise),
    }
    for name, result in results.items():
        check(result, expected[name])


def test_training_pass(model: PaperAudioToMotion, reference: dict[str, Any]) -> None:
    fill, seed, expected = golden_fill(), reference["seed"], reference["cases"]["train_T64"]
    conditions = model.conditions(**inputs(64, seed))
    mean, log_std = model.encode(fill.rand_in((1, 32, 64), "a2m.y", seed), conditions)
    posterior = mean + torch.exp(log_std) * fill.rand_in((1, 16, 8), "a2m.eps", seed)
    prior = model.flow(posterior, model.squeezed(conditions))
    check(mean.transpose(1, 2), expected["mu"])
    check(log_std.transpose(1, 2), expected["logs"])
    check(prior.transpose(1, 2), expected["z_p"])
    check(model.decode(posterior, conditions), expected["exp_recon"])
    divergence = float(kl_divergence(mean, log_std, posterior, prior))
    assert divergence == pytest.approx(expected["loss_kl"]["val"][0], rel=2e-5)


def test_pitch_bins(reference: dict[str, Any]) -> None:
    assert pitch_bins(inputs(64, reference["seed"])["f0_hz"][0, ::2]).tolist() == reference["f0_bins_T64"]
