"""A few numbers to a vector: waves of rising frequency (Mildenhall et al., "NeRF", 2020, eq. 4, without pi) and a small network on them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def frequency_encoding(numbers: Tensor, octaves: int) -> Tensor:
    """The numbers themselves, then sine and cosine of all of them at each of the frequencies 1, 2, 4, ... 2 ** (octaves - 1).

    Args:
        numbers: [..., n].
        octaves: how many frequencies.

    Returns:
        [..., n * (1 + 2 * octaves)].
    """
    frequencies = 2.0 ** torch.arange(octaves, dtype=numbers.dtype, device=numbers.device)
    angles = numbers[..., None, :] * frequencies[:, None]  # [..., octaves, n]
    waves = torch.stack((angles.sin(), angles.cos()), -2)  # [..., octaves, 2, n]
    return torch.cat([numbers, waves.flatten(-3)], -1)


class FrequencyMlp(nn.Module):
    """Frequency encoding and three linear layers with ReLU between them: [..., numbers] -> [..., width]."""

    def __init__(self, numbers: int, octaves: int, width: int) -> None:
        super().__init__()
        self.octaves = octaves
        widths = (numbers * (1 + 2 * octaves), width, width, width)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, numbers: Tensor) -> Tensor:
        first, *rest = self.layers
        x = first(frequency_encoding(numbers, self.octaves))
        for layer in rest:
            x = layer(functional.relu(x))
        return x
