"""Rendered features to the final picture (EG3D's 8X super-resolution; Real3D-Portrait's head stage, spec 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.synthesis import SynthesisBlock


class SuperResolution(nn.Module):
    """Features [b, c, h, w] to a picture of 2 ** blocks times ``input_px``.

    The published network holds 1,649,578 parameters; 541,732 of them make styles from an input that is always ones, and are folded into
    the 1,107,846 here.
    """

    @dataclass(frozen=True, slots=True)
    class Config:
        """Sizes; the defaults are the published ones.

        Args:
            feature_channels: channels that come in; the first three are the raw picture.
            channels: of the blocks; each doubles the size.
            input_px: side that the features are brought to first.
        """

        feature_channels: int = 32
        channels: tuple[int, ...] = (256, 128)
        input_px: int = 128

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or self.Config()
        widths = (config.feature_channels, *config.channels)
        self.blocks = nn.ModuleList(SynthesisBlock(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def forward(self, features: Tensor) -> Tensor:
        """Features [b, feature_channels, h, w] -> picture [b, 3, side, side], about -1..1, not clipped."""
        side = self.config.input_px
        if features.shape[2:] != (side, side):
            features = functional.interpolate(features, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        x, picture = features.contiguous(memory_format=torch.channels_last), features[:, :3]
        for block in self.blocks:
            x, picture = block(x, picture)
        return picture
