"""Super-resolution and its blocks at small sizes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from triportrait.nn.synthesis import TAPS, SynthesisBlock, double_size
from triportrait.real3d.head_super_resolution import SuperResolution


def test_doubling_is_zero_insertion_and_the_filter() -> None:
    x = torch.randn((2, 3, 5, 4), generator=torch.Generator().manual_seed(1))
    spread = torch.zeros((2, 3, 10, 8))
    spread[..., ::2, ::2] = x
    taps = torch.tensor(TAPS) / 8
    kernel = (4 * taps[:, None] * taps).expand(3, 1, 4, 4)
    expected = functional.conv2d(functional.pad(spread, (2, 1, 2, 1)), kernel, groups=3)
    torch.testing.assert_close(double_size(x), expected)


def test_a_block_without_doubling_keeps_the_size() -> None:
    features, picture = SynthesisBlock(4, 6, doubling=False)(torch.rand(1, 4, 8, 8), torch.rand(1, 3, 8, 8))
    assert features.shape == (1, 6, 8, 8) and picture.shape == (1, 3, 8, 8)


@pytest.mark.parametrize(("side", "trained_form"), [(8, False), (12, False), (8, True)])
def test_sizes_and_gradients(side: int, trained_form: bool) -> None:
    network = SuperResolution(SuperResolution.Config(feature_channels=4, channels=(6, 5), input_px=8, trained_form=trained_form))
    features = torch.rand((2, 4, side, side), requires_grad=True)
    picture = network(features)
    assert picture.shape == (2, 3, 32, 32)
    picture.square().mean().backward()
    used = [p for name, p in network.named_parameters() if not name.endswith("strength")]  # of a noise that stays off
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [features, *used])
