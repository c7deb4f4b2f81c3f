"""Doubling folded into a convolution equals doubling followed by it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from triportrait.nn.volume_conv import RepeatedConvolution, halve_size, repeat_twice
from triportrait.weights.real3d_torso import doubled_phases


@pytest.mark.parametrize("axes", [2, 3])
def test_repeated_convolution_is_repeat_then_convolve(axes: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, *((4,) if axes == 3 else ()), 5, 6)
    weight, bias = torch.randn(7, 3, *[3] * axes), torch.randn(7)
    layer = RepeatedConvolution(axes, 3, 7)
    layer.load_state_dict({"weight": doubled_phases(weight), "bias": bias})
    convolve = functional.conv2d if axes == 2 else functional.conv3d
    torch.testing.assert_close(layer(x), convolve(repeat_twice(x), weight, bias, padding=1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (1, 2, 5, 3, 4)])
def test_halving_undoes_repeating(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    torch.testing.assert_close(halve_size(repeat_twice(x)), x)
