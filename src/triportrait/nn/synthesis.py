"""StyleGAN2 blocks (Karras et al., 2020) under one constant style: the modulation is folded into the weights, and what remains are
ordinary convolutions. The gain sqrt(2) after each activation is folded too (a leaky ReLU is positively homogeneous)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.winograd import Convolution, is_plain_inference, side_by_side

#: Slope of the activation for negative values.
SLOPE = 0.2
#: The separable resampling filter, as StyleGAN2 has it.
TAPS = (1.0, 3.0, 3.0, 1.0)


def smooth_after_doubling(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """The low-pass that follows a doubling convolution: depth-wise TAPS x TAPS at gain 4, zeros outside.

    Args:
        x: [b, c, h, w].
        bias: [c] to add afterwards.

    Returns:
        [b, c, h - 1, w - 1].
    """
    if is_plain_inference(x):
        return _smooth_in_one_pass(x, bias)
    taps = torch.tensor(TAPS, dtype=x.dtype, device=x.device) * (2.0 / sum(TAPS))
    channels = x.shape[1]
    rows = taps.view(1, 1, 4, 1).expand(channels, 1, 4, 1)
    columns = taps.view(1, 1, 1, 4).expand(channels, 1, 1, 4)
    x = functional.conv2d(x, rows, padding=(1, 0), groups=channels)
    return functional.conv2d(x, columns, bias, padding=(0, 1), groups=channels)


def _smooth_in_one_pass(x: Tensor, bias: Tensor | None) -> Tensor:
    """:func:`smooth_after_doubling` without the pictures between its two axes, which are the largest of a frame."""
    from triportrait.nn.picture_kernels import smooth_rows

    batch, channels, height, width = x.shape
    pictures = x.permute(0, 2, 3, 1).contiguous().numpy()
    offset = (torch.zeros(channels) if bias is None else bias.detach()).numpy()
    result = torch.empty(batch, height - 1, width - 1, channels)
    for picture, smoothed in zip(pictures, result.numpy(), strict=True):
        side_by_side(partial(smooth_rows, picture, offset, smoothed), height - 1)
    return result.permute(0, 3, 1, 2)


def halve_smoothly(x: Tensor) -> Tensor:
    """Down by 2 with the resampling filter: [b, c, 2 h, 2 w] -> [b, c, h, w]; zeros lie outside."""
    taps = torch.tensor(TAPS, dtype=x.dtype, device=x.device) / sum(TAPS)
    channels = x.shape[1]
    x = functional.conv2d(x, taps.view(1, 1, 4, 1).expand(channels, 1, 4, 1), stride=(2, 1), padding=(1, 0), groups=channels)
    return functional.conv2d(x, taps.view(1, 1, 1, 4).expand(channels, 1, 1, 4), stride=(1, 2), padding=(0, 1), groups=channels)


def double_size(x: Tensor) -> Tensor:
    """Up by 2 with the resampling filter: [b, c, h, w] -> [b, c, 2 h, 2 w]; zeros lie outside.

    Zero insertion leaves two of the four taps at every output pixel: (1, 3) / 4 of the neighbours, alternately.
    """
    for axis in (2, 3):
        size = x.shape[axis]
        pad = (0, 0, 1, 1) if axis == 2 else (1, 1)
        padded = functional.pad(x, pad)
        before, here, after = (padded.narrow(axis, start, size) for start in range(3))
        x = torch.stack((0.25 * before + 0.75 * here, 0.75 * here + 0.25 * after), axis + 1).flatten(axis, axis + 1)
    return x


class DoublingConvolution(nn.Module):
    """3 x 3 convolution while doubling the size: [b, c, h, w] -> [b, out, 2 h, 2 w].

    ``weight`` is [c, out, 3, 3], as ``conv_transpose2d`` takes it.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, out, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out))
        nn.init.normal_(self.weight, std=(2.0 / (9 * channels)) ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        # Channels-last halves the time on a CPU. Drawing the four phases at the small size instead (one convolution with four times the
        # outputs, no low-pass) takes twice as long again: the transposed convolution does a quarter of the multiplications.
        x = functional.conv_transpose2d(x.contiguous(memory_format=torch.channels_last), self.weight, stride=2)
        return smooth_after_doubling(x, self.bias)  # from [b, out, 2 h + 1, 2 w + 1]


class SynthesisBlock(nn.Module):
    """Two activated convolutions and a skip to colour.

    Args:
        channels: channels that come in.
        out: channels that go out.
        doubling: the size doubles (the picture's too).
        colours: channels of the picture.
    """

    def __init__(self, channels: int, out: int, doubling: bool = True, colours: int = 3) -> None:
        super().__init__()
        self.doubling = doubling
        self.conv0 = DoublingConvolution(channels, out) if doubling else Convolution(channels, out, 3, padding=1)
        self.conv1 = Convolution(out, out, 3, padding=1)
        self.to_colours = nn.Conv2d(out, colours, 1)

    def forward(self, x: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Features [b, c, h, w] and picture [b, colours, h, w] -> both, twice the size where the block doubles."""
        x = functional.leaky_relu(self.conv0(x), SLOPE, inplace=True)
        x = functional.leaky_relu(self.conv1(x), SLOPE, inplace=True)
        picture = double_size(picture) if self.doubling else picture
        return x, picture + self.to_colours(x)
