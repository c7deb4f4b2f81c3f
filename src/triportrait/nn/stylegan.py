"""StyleGAN2 layers with their styles (Karras et al., 2020): what :mod:`triportrait.nn.synthesis` is before a constant style is folded in.

Layers are equalised: weights are stored at unit variance and scaled when they are used, so that all learn at one rate.
Legend: b batch, c channels, s numbers of a style.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.synthesis import SLOPE, TAPS, double_size, smooth_after_doubling

_GAIN = math.sqrt(2.0)


def activate(x: Tensor, clamp: float | None = None, gain: float = 1.0) -> Tensor:
    """Leaky ReLU that keeps the variance, times ``gain``, limited to +-``clamp`` (also times ``gain``)."""
    x = functional.leaky_relu(x, SLOPE) * (_GAIN * gain)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def unit_length(x: Tensor) -> Tensor:
    """Every row [b, c] divided by its root mean square."""
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


class EqualisedLinear(nn.Module):
    """[b, channels] -> [b, out]; ``rate`` multiplies weight and bias (a layer of rate 0.01 learns a hundred times slower)."""

    def __init__(self, channels: int, out: int, *, active: bool = False, rate: float = 1.0, bias: float = 0.0) -> None:
        super().__init__()
        self.active, self.rate = active, rate
        self.weight = nn.Parameter(torch.randn(out, channels) / rate)
        self.bias = nn.Parameter(torch.full((out,), bias))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.linear(x, self.weight * (self.rate / math.sqrt(self.weight.shape[1])), self.bias * self.rate)
        return activate(x) if self.active else x


class EqualisedConvolution(nn.Module):
    """[b, channels, h, w] -> [b, out, h, w], or half the size after the low-pass when ``halving``."""

    def __init__(self, channels: int, out: int, kernel: int, *, bias: bool = True, halving: bool = False) -> None:
        super().__init__()
        self.halving = halving
        self.weight = nn.Parameter(torch.randn(out, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.weight.shape[-1]
        weight = self.weight / math.sqrt(self.weight[0].numel())
        if not self.halving:
            return functional.conv2d(x, weight, self.bias, padding=kernel // 2)
        # The low-pass stands first and pads for both.
        x = _smooth(x, 1 + kernel // 2)
        return functional.conv2d(x, weight, self.bias, stride=2)


class MappingNetwork(nn.Module):
    """Latents and conditions to one style: [b, latent], [b, condition] -> [b, style].

    Args:
        latent: numbers of a latent; 0 for a network of the condition alone.
        condition: numbers of a condition.
        style: width of the layers and of the result.
        layers: how many.
    """

    def __init__(self, latent: int, condition: int, style: int, layers: int) -> None:
        super().__init__()
        self.embed = EqualisedLinear(condition, style)
        widths = [latent + style, *[style] * layers]
        self.layers = nn.ModuleList(EqualisedLinear(a, b, active=True, rate=0.01) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, latent: Tensor | None, condition: Tensor) -> Tensor:
        x = unit_length(self.embed(condition))
        if latent is not None:
            x = torch.cat([unit_length(latent), x], dim=1)
        for layer in self.layers:
            x = layer(x)
        return x


class StyledConvolution(nn.Module):
    """3 x 3 convolution whose input channels are scaled by a style and whose output keeps its variance; then noise, bias, activation.

    Args:
        channels, out: of the convolution.
        style: numbers of a style.
        side: of the output in pixels, for the constant noise.
        doubling: the size doubles.
        clamp: limit of the activations, or None.
    """

    noise: Tensor

    def __init__(self, channels: int, out: int, style: int, side: int, *, doubling: bool = False, clamp: float | None = None) -> None:
        super().__init__()
        self.doubling, self.clamp = doubling, clamp
        self.style = EqualisedLinear(style, channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out))
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(side, side))

    def forward(self, x: Tensor, style: Tensor, *, noisy: bool = False) -> Tensor:
        scale = self.style(style)  # [b, c]
        weight = self.weight * scale[:, None, :, None, None]  # [b, out, c, 3, 3]
        demodulation = torch.rsqrt(weight.square().sum((2, 3, 4)) + 1e-8)
        # Scaling pictures instead of weights serves all of a batch with one convolution.
        x = x * scale[:, :, None, None]
        if self.doubling:
            x = smooth_after_doubling(functional.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2))
        else:
            x = functional.conv2d(x, self.weight, padding=1)
        x = x * demodulation[:, :, None, None]
        if noisy:
            x = x + self.noise * self.noise_strength
        return activate(x + self.bias[:, None, None], self.clamp)


class StyledColours(nn.Module):
    """1 x 1 convolution under a style, to the channels of a picture."""

    def __init__(self, channels: int, out: int, style: int, clamp: float | None = None) -> None:
        super().__init__()
        self.clamp = clamp
        self.style = EqualisedLinear(style, channels, bias=1.0)
        self.weight = nn.Parameter(torch.randn(out, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale = self.style(style) / math.sqrt(self.weight.shape[1])
        x = functional.conv2d(x * scale[:, :, None, None], self.weight, self.bias)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class StyledBlock(nn.Module):
    """Two styled convolutions and a skip to colour.

    Args:
        channels: that come in; 0 for the first block, which starts from a learned constant.
        out: that go out.
        style: numbers of a style.
        side: of the output in pixels.
        doubling: the size doubles (the picture's too).
        colours: channels of the picture.
        clamp: limit of the activations, or None.
    """

    def __init__(
        self, channels: int, out: int, style: int, side: int, *, doubling: bool = True, colours: int = 3, clamp: float | None = None
    ) -> None:
        super().__init__()
        self.doubling = doubling and channels > 0
        if channels:
            self.conv0 = StyledConvolution(channels, out, style, side, doubling=doubling, clamp=clamp)
        else:
            self.constant = nn.Parameter(torch.randn(out, side, side))
        self.conv1 = StyledConvolution(out, out, style, side, clamp=clamp)
        self.to_colours = StyledColours(out, colours, style, clamp)
        #: Styles that a block takes from a list; the last one serves the next block's first layer too.
        self.layers = 3 if channels else 2

    def forward(self, x: Tensor | None, picture: Tensor | None, styles: Tensor, *, noisy: bool = False) -> tuple[Tensor, Tensor]:
        """Features [b, c, h, w], picture [b, colours, h, w] and one style per layer [b, layers, s] -> features and picture."""
        rows = list(styles.unbind(1))
        if x is None:
            x = self.constant.expand(len(styles), -1, -1, -1)
        else:
            x = self.conv0(x, rows.pop(0), noisy=noisy)
        x = self.conv1(x, rows[0], noisy=noisy)
        colours = self.to_colours(x, rows[1])
        if picture is None:
            return x, colours
        return x, (double_size(picture) if self.doubling else picture) + colours


class ConstantStyle(nn.Module):
    """A styled block whose style is all ones, as Real3D-Portrait trains its super-resolution: features and picture to the same."""

    def __init__(self, block: StyledBlock, style: int) -> None:
        super().__init__()
        self.block = block
        self.numbers = style

    def forward(self, x: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        return self.block(x, picture, x.new_ones(len(x), self.block.layers, self.numbers))


def _smooth(x: Tensor, padding: int) -> Tensor:
    """The low-pass TAPS x TAPS at gain 1: [b, c, h, w] -> [b, c, h + 2 padding - 3, w + 2 padding - 3]."""
    taps = torch.tensor(TAPS, dtype=x.dtype, device=x.device) / sum(TAPS)
    channels = x.shape[1]
    x = functional.conv2d(x, taps.view(1, 1, 4, 1).expand(channels, 1, 4, 1), padding=(padding, 0), groups=channels)
    return functional.conv2d(x, taps.view(1, 1, 1, 4).expand(channels, 1, 1, 4), padding=(0, padding), groups=channels)
