"""Invertible networks between a posterior and its prior (Rezende and Mohamed, 2015; coupling layers: Dinh et al., 2017).

Legend: b batch, c channels, t rows in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from triportrait.nn.wavenet import WaveNet


class ResidualCoupling(nn.Module):
    """Shifts the second half of the channels by a function of the first half and a condition; volume preserving."""

    def __init__(self, channels: int, wavenet: WaveNet.Config) -> None:
        super().__init__()
        half = channels // 2
        self.before = nn.Conv1d(half, wavenet.channels, 1)
        self.wavenet = WaveNet(wavenet)
        self.after = nn.Conv1d(wavenet.channels, half, 1)
        # The flow starts as the identity.
        for parameter in self.after.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, condition: torch.Tensor, direction: int) -> torch.Tensor:
        """``direction`` is +1 (posterior to prior) or -1 (back); x [b, c, t]."""
        kept, moved = x.chunk(2, dim=1)
        shift = self.after(self.wavenet(self.before(kept), condition))
        return torch.cat([kept, moved + direction * shift], dim=1)


class CouplingFlow(nn.Module):
    """Coupling layers, each followed by a reversal of the channels, so that both halves are moved in turn."""

    @dataclass(frozen=True)
    class Config:
        """Sizes: ``channels`` of the latent, ``steps`` coupling layers, the network inside each."""

        channels: int
        steps: int
        wavenet: WaveNet.Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.steps = nn.ModuleList(ResidualCoupling(config.channels, config.wavenet) for _ in range(config.steps))

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Posterior sample [b, c, t] to prior sample."""
        for step in self.steps:
            x = step(x, condition, +1).flip(1)
        return x

    def inverse(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Prior sample [b, c, t] to posterior sample: undoes :meth:`forward` exactly."""
        for step in reversed(self.steps):
            x = step(x.flip(1), condition, -1)
        return x
