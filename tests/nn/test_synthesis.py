"""Equivalences of the doubling layers."""

from __future__ import annotations

import torch
from torch.nn import functional

from triportrait.nn.synthesis import TAPS, DoublingConvolution, double_size, halve_smoothly


def test_doubling_convolution_is_zero_insertion_convolution_and_low_pass() -> None:
    torch.manual_seed(0)
    layer = DoublingConvolution(3, 5)
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 4, 6)
    apart = torch.zeros(2, 3, 8, 12)
    apart[..., ::2, ::2] = x
    # A transposed convolution is a true one: the taps are turned round.
    convolved = functional.conv2d(functional.pad(apart, (2, 1, 2, 1)), layer.weight.transpose(0, 1).flip(2, 3))
    taps = torch.tensor(TAPS) / 4
    kernel = (taps[:, None] * taps).expand(5, 1, 4, 4)
    expected = functional.conv2d(functional.pad(convolved, (1, 2, 1, 2)), kernel, groups=5) + layer.bias.view(-1, 1, 1)
    torch.testing.assert_close(layer(x), expected[..., :8, :12], atol=1e-5, rtol=1e-5)


def test_double_size_is_zero_insertion_and_low_pass() -> None:
    x = torch.randn(1, 2, 4, 5)
    apart = torch.zeros(1, 2, 8, 10)
    apart[..., ::2, ::2] = x
    taps = torch.tensor(TAPS) / 4
    kernel = (taps[:, None] * taps).expand(2, 1, 4, 4)
    expected = functional.conv2d(functional.pad(apart, (2, 1, 2, 1)), kernel, groups=2)
    torch.testing.assert_close(double_size(x), expected, atol=1e-5, rtol=1e-5)


def test_doubling_keeps_a_constant_inside() -> None:
    torch.testing.assert_close(double_size(torch.ones(1, 1, 5, 5))[..., 1:-1, 1:-1], torch.ones(1, 1, 8, 8))


def test_halving_is_a_low_pass_and_every_second_pixel() -> None:
    x = torch.randn(1, 2, 8, 10)
    taps = torch.tensor(TAPS) / 8
    kernel = (taps[:, None] * taps).expand(2, 1, 4, 4)
    torch.testing.assert_close(halve_smoothly(x), functional.conv2d(x, kernel, stride=2, padding=1, groups=2), atol=1e-6, rtol=1e-5)
