"""Laws of the EG3D generator at a tiny size, and its published size."""

from __future__ import annotations

import pytest
import torch

from triportrait.nn.stylegan import StyledBlock, unit_length
from triportrait.nn.synthesis import SynthesisBlock
from triportrait.real3d.eg3d_prior import Prior
from triportrait.weights.real3d_head import synthesis_block_state

TINY = Prior.Config(
    latent=6, style=8, plane_side=16, plane_channels=4, base_channels=64, most_channels=8, render_side=8, super_channels=(8, 4)
)


@pytest.fixture
def prior() -> Prior:
    torch.manual_seed(0)
    return Prior(TINY)


def test_published_size() -> None:
    with torch.device("meta"):
        model = Prior(Prior.Config())
    # The published generator has 4,257 more in its decoder, which belongs to the renderer.
    assert sum(parameter.numel() for parameter in model.parameters()) == 30_662_136 - 4_257
    assert model.synthesis.layers == 14


def test_planes_and_picture(prior: Prior) -> None:
    styles = prior.styles(torch.randn(2, 6), torch.randn(2, 25))
    planes = prior.planes(styles)
    assert planes.planes.shape == (2, 3, 4, 16, 16) and planes.layout == "eg3d_original"
    assert prior.super_resolve(torch.randn(2, 4, 8, 8), styles).shape == (2, 3, 32, 32)


def test_truncation_leads_to_the_mean_style(prior: Prior) -> None:
    prior.mean_style.normal_()
    latent, camera = torch.randn(2, 6), torch.randn(2, 25)
    full, half, none = (prior.styles(latent, camera, amount) for amount in (1.0, 0.5, 0.0))
    torch.testing.assert_close(none, prior.mean_style.expand_as(none))
    torch.testing.assert_close(half, 0.5 * (full + none))


def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(prior: Prior) -> None:
    styles = prior.styles(torch.randn(3, 6), torch.randn(3, 25))
    torch.testing.assert_close(prior.planes(styles).planes[1:2], prior.planes(styles[1:2]).planes, atol=1e-5, rtol=1e-5)


def test_noise_is_constant_and_can_be_left_out(prior: Prior) -> None:
    styles = prior.styles(torch.randn(1, 6), torch.randn(1, 25))
    assert torch.equal(prior.planes(styles).planes, prior.planes(styles, noisy=False).planes)  # strengths start at 0
    for block in prior.synthesis.blocks:
        torch.nn.init.ones_(block.conv1.noise_strength)
    assert torch.equal(prior.planes(styles).planes, prior.planes(styles).planes)
    assert not torch.allclose(prior.planes(styles).planes, prior.planes(styles, noisy=False).planes)


@pytest.mark.parametrize("doubling", [True, False])
def test_a_block_under_a_constant_style_folds_into_ordinary_convolutions(doubling: bool) -> None:
    torch.manual_seed(0)
    styled = StyledBlock(5, 4, 8, 12, doubling=doubling)
    published = {}
    for key, tensor in styled.state_dict().items():
        published["b." + key.replace("to_colours", "torgb").replace(".style.", ".affine.")] = tensor
    published = {key: tensor for key, tensor in published.items() if "noise" not in key}
    folded = SynthesisBlock(5, 4, doubling)
    folded.load_state_dict(synthesis_block_state(published, "b", doubling=doubling))
    x, picture = torch.randn(2, 5, 6, 6), torch.randn(2, 3, 6, 6)
    for ours, theirs in zip(folded(x, picture), styled(x, picture, torch.ones(2, 3, 8)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_unit_length() -> None:
    torch.testing.assert_close(unit_length(7 * torch.randn(3, 5)).square().mean(1), torch.ones(3))
