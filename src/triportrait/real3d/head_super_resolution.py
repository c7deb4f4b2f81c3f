"""Rendered features to the final picture (EG3D's 8X super-resolution; Real3D-Portrait's head stage, spec 2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.stylegan import ConstantStyle, StyledBlock
from triportrait.nn.synthesis import SynthesisBlock

#: Numbers of a StyleGAN2 style.
_STYLE = 512


class SuperResolution(nn.Module):
    """Features [b, c, h, w] to a picture of 2 ** blocks times ``input_px``."""

    @dataclass(frozen=True, slots=True)
    class Config:
        """Sizes; the defaults are the published ones.

        Args:
            feature_channels: channels that come in; the first three are the raw picture.
            channels: of the blocks; each doubles the size.
            input_px: side that the features are brought to first.
            trained_form: with the layers that make styles of an input that is always ones (1,649,578 parameters, as published); else
                they are folded into the convolutions (1,107,846).
        """

        feature_channels: int = 32
        channels: tuple[int, ...] = (256, 128)
        input_px: int = 128
        trained_form: bool = False

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or self.Config()
        widths = (config.feature_channels, *config.channels)
        self.blocks = nn.ModuleList(
            _block(widths[i], widths[i + 1], config.input_px << (i + 1), config.trained_form) for i in range(len(config.channels))
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features [b, feature_channels, h, w] -> picture [b, 3, side, side], about -1..1, not clipped."""
        side = self.config.input_px
        if features.shape[2:] != (side, side):
            features = functional.interpolate(features, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        x, picture = features.contiguous(memory_format=torch.channels_last), features[:, :3]
        for block in self.blocks:
            x, picture = block(x, picture)
        return picture


def _block(channels: int, out: int, side: int, trained_form: bool) -> nn.Module:
    return ConstantStyle(StyledBlock(channels, out, _STYLE, side), _STYLE) if trained_form else SynthesisBlock(channels, out)
