"""Laws of the flow-enhanced VAE at a tiny size, and the published size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from triportrait.nn.flow import CouplingFlow
from triportrait.nn.wavenet import WaveNet
from triportrait.real3d.audio_to_motion import PaperAudioToMotion, kl_divergence
from triportrait.weights.folding import fold_weight_norm
from triportrait.weights.real3d_a2m import trained_audio_to_motion_state
from triportrait.weights.tables import key_table

TINY = PaperAudioToMotion.Config(
    features=6, motion=5, condition=8, hidden=8, latent=4, encoder_layers=2, decoder_layers=2, flow_steps=3, flow_hidden=8, flow_layers=2
)


def tiny_inputs(rows: int) -> dict[str, torch.Tensor]:
    return {
        "features": torch.randn(2, rows, 6),
        "f0_hz": 300 * torch.rand(2, rows),
        "blink": torch.randint(2, (2, rows)),
        "amplitudes": torch.rand(2, 1),
    }


def test_published_size() -> None:
    with torch.device("meta"):
        model = PaperAudioToMotion(PaperAudioToMotion.Config(trained_form=True))
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_864_064


def test_trained_form_takes_the_published_keys() -> None:
    published = {key: torch.empty(shape, device="meta") for key, shape in key_table("real3d_a2m").shapes.items()}
    with torch.device("meta"):
        model = PaperAudioToMotion(PaperAudioToMotion.Config(trained_form=True))
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert {key: tensor.shape for key, tensor in trained_audio_to_motion_state(published).items()} == shapes


@torch.no_grad()
def test_folding_changes_nothing() -> None:
    torch.manual_seed(0)
    whole, folded = PaperAudioToMotion(replace(TINY, trained_form=True)).eval(), PaperAudioToMotion(TINY).eval()
    for step in whole.flow.steps:
        torch.nn.init.normal_(step.after.weight)
    folded.load_state_dict(fold_weight_norm(whole.state_dict()))
    noise, inputs = torch.randn(2, 4, 2), tiny_inputs(16)
    torch.testing.assert_close(folded(**inputs, noise=noise), whole(**inputs, noise=noise), atol=1e-5, rtol=1e-5)


def test_flow_is_undone_by_its_inverse() -> None:
    torch.manual_seed(0)
    flow = CouplingFlow(CouplingFlow.Config(6, 3, WaveNet.Config(8, 5, 2, 3))).double()
    for step in flow.steps:
        torch.nn.init.normal_(step.after.weight)
    x, condition = torch.randn(2, 6, 7).double(), torch.randn(2, 5, 7).double()
    there = flow(x, condition)
    assert (there - x).abs().max() > 0.1
    torch.testing.assert_close(flow.inverse(there, condition), x)


def test_flow_keeps_volume() -> None:
    torch.manual_seed(0)
    flow = CouplingFlow(CouplingFlow.Config(4, 2, WaveNet.Config(8, 5, 2, 3))).double()
    for step in flow.steps:
        torch.nn.init.normal_(step.after.weight)
    x, condition = torch.randn(1, 4, 3).double(), torch.randn(1, 5, 3).double()
    jacobian = torch.autograd.functional.jacobian(lambda value: flow(value, condition), x).reshape(12, 12)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, torch.zeros((), dtype=torch.float64))


def test_divergence_of_equal_distributions_is_zero() -> None:
    x = torch.randn(1, 4, 3)
    assert float(kl_divergence(torch.zeros_like(x), torch.zeros_like(x), x, x)) == 0.0
    mask = torch.tensor([[[1.0, 1.0, 0.0]]])
    masked = kl_divergence(torch.ones_like(x), torch.zeros_like(x), x, x, mask)
    torch.testing.assert_close(masked, kl_divergence(torch.ones(1, 4, 2), torch.zeros(1, 4, 2), x[..., :2], x[..., :2]))


def test_training_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    model = PaperAudioToMotion(TINY)
    given = tiny_inputs(16)
    conditions = model.conditions(**given)
    mean, log_std = model.encode(torch.randn(2, 8, 5), conditions)
    posterior = mean + torch.exp(log_std) * torch.randn_like(mean)
    prior = model.flow(posterior, model.squeezed(conditions))
    (kl_divergence(mean, log_std, posterior, prior) + model.decode(posterior, conditions).square().mean()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="12 rows"):
        PaperAudioToMotion(TINY).conditions(**tiny_inputs(12))
