"""The short way of 3 x 3 convolutions against the plain sum."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from triportrait.nn.synthesis import smooth_after_doubling
from triportrait.nn.winograd import Convolution, convolve, is_plain_inference


def picture(*shape: int, channels_last: bool = True) -> torch.Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(1, 5, 4, 4), (2, 3, 8, 36), (1, 7, 40, 12)])
def test_equal_to_the_plain_sum(shape: tuple[int, ...], threads: int) -> None:
    x, weight, bias = picture(*shape), picture(6, shape[1], 3, 3), picture(6, 1, 1, 1).flatten()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = convolve(x, weight, bias)
    finally:
        torch.set_num_threads(before)
    expected = functional.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_no_bias_and_rows_first_in_memory() -> None:
    x, weight = picture(1, 4, 8, 8, channels_last=False), picture(4, 4, 3, 3)
    torch.testing.assert_close(convolve(x, weight, None), functional.conv2d(x, weight, padding=1), rtol=1e-5, atol=1e-5)


def test_the_layer_takes_the_short_way_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    def counted(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        calls.append(tuple(x.shape))
        return convolve(x, weight, bias)

    monkeypatch.setattr("triportrait.nn.winograd.convolve", counted)
    layer, x = Convolution(64, 64, 3, padding=1), picture(1, 64, 64, 64)
    plain = nn.Conv2d.forward(layer, x)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), plain, rtol=1e-5, atol=1e-5)
        assert calls == [(1, 64, 64, 64)]
        layer(picture(1, 64, 62, 64))
        Convolution(64, 64, 3, padding=2, dilation=2)(x)
        Convolution(64, 64, 3, stride=2, padding=1)(x)
        with torch.autocast("cpu"):
            layer(x)
    layer(x).sum().backward()
    assert len(calls) == 1
    assert layer.weight.grad is not None


def test_what_counts_as_plain_inference() -> None:
    x = picture(1, 1, 4, 4)
    assert not is_plain_inference(x)
    with torch.no_grad():
        assert is_plain_inference(x)
        assert not is_plain_inference(x.double())
        assert not is_plain_inference(x.to("meta"))


@pytest.mark.parametrize("threads", [1, 2])
def test_smoothing_in_one_pass(threads: int) -> None:
    x, bias = picture(2, 5, 9, 13), picture(5, 1, 1, 1).flatten()
    expected = smooth_after_doubling(x, bias)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            found = smooth_after_doubling(x, bias)
    finally:
        torch.set_num_threads(before)
    assert found.shape == (2, 5, 8, 12)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
