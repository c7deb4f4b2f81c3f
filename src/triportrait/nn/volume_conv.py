"""Convolution blocks over pictures and feature volumes, with batch norm while they are trained and without when it is folded.

Legend: b batch, c channels, d h w depth and size; pictures [b, c, h, w], volumes [b, c, d, h, w].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from triportrait.nn.winograd import Convolution

_CONVOLUTION = {2: Convolution, 3: nn.Conv3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def _convolution(axes: int, channels: int, out: int, kernel: int, spectral: bool, groups: int = 1) -> nn.Module:
    layer = _CONVOLUTION[axes](channels, out, kernel, padding=kernel // 2, groups=groups)
    return spectral_norm(layer) if spectral else layer


class ConvNormAct(nn.Module):
    """Convolution, batch norm, leaky ReLU: channels -> out, same size.

    Args:
        axes: 2 for pictures, 3 for volumes.
        channels, out, kernel: of the convolution.
        slope: of the activation for negative values.
        trained_form: with the batch norm; else it is folded into the convolution.
        spectral: in the trained form, the weights are divided by their spectral norm.
        groups: parts of the channels that do not see one another.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        out: int,
        kernel: int = 3,
        *,
        slope: float = 0.0,
        trained_form: bool = False,
        spectral: bool = False,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.slope = slope
        self.conv = _convolution(axes, channels, out, kernel, spectral and trained_form, groups)
        self.norm = _NORM[axes](out) if trained_form else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(self.norm(self.conv(x)), self.slope, inplace=True)


class ResidualBlock(nn.Module):
    """x plus two convolutions, each after a batch norm and ReLU; the second norm can be folded, the first stands behind the shortcut."""

    def __init__(self, axes: int, channels: int, *, trained_form: bool = False, spectral: bool = False) -> None:
        super().__init__()
        spectral = spectral and trained_form
        self.norm1 = _NORM[axes](channels)
        self.conv1 = _convolution(axes, channels, channels, 3, spectral)
        self.norm2 = _NORM[axes](channels) if trained_form else nn.Identity()
        self.conv2 = _convolution(axes, channels, channels, 3, spectral)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(functional.relu(self.norm1(x), inplace=True))
        return x + self.conv2(functional.relu(self.norm2(y), inplace=True))


def halve_size(x: Tensor) -> Tensor:
    """Mean over 2 x 2 in height and width; the depth of a volume stays."""
    return functional.avg_pool2d(x, 2) if x.ndim == 4 else functional.avg_pool3d(x, (1, 2, 2))


def repeat_twice(x: Tensor) -> Tensor:
    """Every value twice in height and width (nearest neighbour); the depth of a volume stays."""
    return functional.interpolate(x, scale_factor=2 if x.ndim == 4 else (1, 2, 2), mode="nearest")


class RepeatedConvolution(nn.Module):
    """``repeat_twice`` followed by a convolution of width 3, at 4/9 of its cost: [b, c, (d,) h, w] -> [b, out, (d,) 2 h, 2 w].

    A doubled picture shows every tap one of two neighbours, so each of the four phases of the output is a convolution of width 2 of the
    small picture. ``weight`` is [4 out, c, (3,) 2, 2], phases in the order (row 0, column 0), (0, 1), (1, 0), (1, 1).
    """

    def __init__(self, axes: int, channels: int, out: int) -> None:
        super().__init__()
        self.depth = (3,) if axes == 3 else ()
        self.weight = nn.Parameter(torch.empty(4 * out, channels, *self.depth, 2, 2))
        self.bias = nn.Parameter(torch.zeros(out))
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        convolve = functional.conv3d if self.depth else functional.conv2d
        y = convolve(x, self.weight, self.bias.repeat(4), padding=(*(1 for _ in self.depth), 1, 1))  # h + 1, w + 1
        height, width = x.shape[-2:]
        rows = []
        for row in range(2):
            columns = [
                phase[..., row : row + height, column : column + width]
                for column, phase in enumerate(y.chunk(4, dim=1)[2 * row : 2 * row + 2])
            ]
            rows.append(torch.stack(columns, -1).flatten(-2))
        return torch.stack(rows, -2).flatten(-3, -2)


class UpBlock(nn.Module):
    """Twice the size, convolution, batch norm, ReLU."""

    def __init__(self, axes: int, channels: int, out: int, *, trained_form: bool = False, spectral: bool = False) -> None:
        super().__init__()
        self.trained_form = trained_form
        self.conv = _convolution(axes, channels, out, 3, spectral) if trained_form else RepeatedConvolution(axes, channels, out)
        self.norm = _NORM[axes](out) if trained_form else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(repeat_twice(x) if self.trained_form else x)), inplace=True)
