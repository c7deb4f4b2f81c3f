"""Features of a point to density and colours (EG3D's decoder; Real3D-Portrait, Table 6: 4,257 parameters)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


class Decoder(nn.Module):
    """Two linear layers with a softplus between. The view direction plays no part."""

    @dataclass(frozen=True, slots=True)
    class Config:
        """Sizes; the defaults are the published ones.

        Args:
            plane_channels: features of a point.
            hidden: hidden channels.
            colours: channels that are composited; the first three are the raw picture.
        """

        plane_channels: int = 32
        hidden: int = 64
        colours: int = 32

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or self.Config()
        self.hidden = nn.Linear(config.plane_channels, config.hidden)
        #: Rows: density, then the colours.
        self.out = nn.Linear(config.hidden, 1 + config.colours)

    def hide(self, features: Tensor) -> Tensor:
        """Features [..., plane_channels] -> hidden channels [..., hidden]: all that density and colours share."""
        return functional.softplus(self.hidden(features))

    def density(self, hidden: Tensor) -> Tensor:
        """Hidden channels -> density before its activation [...]."""
        return functional.linear(hidden, self.out.weight[:1], self.out.bias[:1]).squeeze(-1)

    def colours(self, hidden: Tensor) -> Tensor:
        """Hidden channels -> colours [..., colours] in -0.001..1.001 (mip-NeRF's widened sigmoid)."""
        return torch.sigmoid(functional.linear(hidden, self.out.weight[1:], self.out.bias[1:])) * 1.002 - 0.001

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [..., plane_channels] -> densities [...] and colours [..., colours]."""
        hidden = self.hide(features)
        return self.density(hidden), self.colours(hidden)
