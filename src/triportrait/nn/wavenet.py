"""Gated convolutions conditioned on a second sequence (van den Oord et al., "WaveNet", 2016; WaveGlow's arrangement, Prenger et al., 2018).

Legend: b batch, c channels, t rows in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class WaveNet(nn.Module):
    """x [b, channels, t] and a condition [b, condition, t] -> the sum of all layers' skip outputs [b, channels, t].

    Every layer: ``tanh(a) * sigmoid(b)`` of a convolution plus its slice of one shared projection of the condition, then a 1 x 1
    convolution to a residual and a skip half; the last layer has a skip output only.
    """

    @dataclass(frozen=True)
    class Config:
        """Sizes. ``weight_normed`` is the form that is trained; imported weights have the norms multiplied in."""

        channels: int
        condition: int
        layers: int
        kernel: int
        weight_normed: bool = False

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.channels
        normed = weight_norm if config.weight_normed else nn.Identity()
        self.condition = normed(nn.Conv1d(config.condition, 2 * width * config.layers, 1))
        self.gates = nn.ModuleList(
            normed(nn.Conv1d(width, 2 * width, config.kernel, padding=config.kernel // 2)) for _ in range(config.layers)
        )
        last = config.layers - 1
        self.outputs = nn.ModuleList(normed(nn.Conv1d(width, width if i == last else 2 * width, 1)) for i in range(config.layers))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        slices = self.condition(condition).chunk(len(self.gates), dim=1)  # one [b, 2 c, t] per layer
        skips = torch.zeros_like(x)
        for gate, output, slice_ in zip(self.gates, self.outputs, slices, strict=True):
            signal, opening = (gate(x) + slice_).chunk(2, dim=1)
            y = output(torch.tanh(signal) * torch.sigmoid(opening))
            if y.shape[1] > x.shape[1]:
                residual, y = y.chunk(2, dim=1)
                x = x + residual
            skips = skips + y
        return skips
