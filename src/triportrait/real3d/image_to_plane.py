"""One picture of a head to its canonical tri-plane (Real3D-Portrait, section 3.1; layers as published, spec 2.1).

A transformer branch understands the head as a whole at low resolution, a convolutional branch keeps its details, and a predictor
joins both. Published sizes: ``low_blocks`` 2 (small, 62 M), 5 (standard, 87 M), or 10 with ``predictor_blocks`` 3 (large, 155 M).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.deeplab import DeepLab
from triportrait.nn.tokens import PatchEmbedding, TokenBlock
from triportrait.nn.winograd import Convolution
from triportrait.real3d.planes import planes_from_channels

#: Slope of the leaky ReLUs.
SLOPE = 0.01


def with_coordinates(image: Tensor) -> Tensor:
    """Append row / h and column / w in 0..1 as two channels: [b, c, h, w] -> [b, c + 2, h, w]."""
    count, _, height, width = image.shape
    rows = torch.arange(height, dtype=image.dtype, device=image.device) / height
    columns = torch.arange(width, dtype=image.dtype, device=image.device) / width
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return torch.cat([image, grid.expand(count, -1, -1, -1)], 1)


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def _convolution(channels: int, out: int) -> nn.Conv2d:
    return Convolution(channels, out, 3, padding=1)


class LowResolutionBranch(nn.Module):
    """Transformer on 1 / 16 of the picture's side, brought back to 1 / 2: [b, c, h / 8, w / 8] -> [b, branch, h / 2, w / 2].

    Without the encoder it takes the picture itself.
    """

    def __init__(self, config: ImageToPlane.Config, channels: int) -> None:
        super().__init__()
        if config.has_encoder:
            self.embed = PatchEmbedding(channels, config.token_width, kernel=3, stride=2, padding=1)
        else:
            self.embed = PatchEmbedding(channels, config.token_width, kernel=16, stride=16, padding=0)
        self.blocks = nn.Sequential(*(TokenBlock(config.token_width, config.heads, config.mlp_ratio) for _ in range(config.low_blocks)))
        self.conv1 = _convolution(config.token_width // 4, config.low_channels)
        self.conv2 = _convolution(config.low_channels, config.low_channels)
        self.out = _convolution(config.low_channels, config.branch_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pixel_shuffle(self.blocks(self.embed(x)), 2)
        x = functional.relu(self.conv1(_doubled(x)))
        return self.out(functional.relu(self.conv2(_doubled(x))))


class DetailBranch(nn.Module):
    """Convolutions at 1 / 2 of the picture's side: [b, c, h, w] -> [b, branch, h / 2, w / 2]."""

    def __init__(self, config: ImageToPlane.Config, channels: int) -> None:
        super().__init__()
        out = config.branch_channels
        # No activation follows the stem (as published).
        self.stem = nn.Conv2d(channels, config.detail_stem, 7, 2, 3)
        widths = [config.detail_stem, *[out] * (config.detail_layers - 2)]
        self.layers = nn.ModuleList(_convolution(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.out = _convolution(out, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), SLOPE, inplace=True)
        return self.out(x)


class PlanePredictor(nn.Module):
    """Joins the branches, [b, branch, h, w] each, and draws the planes: [b, 3 * plane_channels, h, w]."""

    def __init__(self, config: ImageToPlane.Config) -> None:
        super().__init__()
        branch, (wide, narrow) = config.branch_channels, config.predictor_channels
        self.conv1 = _convolution(2 * branch, wide)
        self.conv2 = _convolution(wide, narrow)
        self.embed = PatchEmbedding(narrow, config.token_width, kernel=3, stride=2, padding=1)
        self.blocks = nn.Sequential(
            *(
                TokenBlock(config.token_width, config.heads, config.mlp_ratio, config.predictor_reduction)
                for _ in range(config.predictor_blocks)
            )
        )
        self.merge1 = _convolution(config.token_width // 4 + branch, wide)
        self.merge2 = _convolution(wide, narrow)
        self.merge3 = _convolution(narrow, narrow)
        self.out = _convolution(narrow, 3 * config.plane_channels)

    def forward(self, low: Tensor, detail: Tensor) -> Tensor:
        x = torch.cat([low, detail], 1)
        for layer in (self.conv1, self.conv2):
            x = functional.leaky_relu(layer(x), SLOPE, inplace=True)
        x = functional.pixel_shuffle(self.blocks(self.embed(x)), 2)
        x = torch.cat([x, low], 1)
        for layer in (self.merge1, self.merge2, self.merge3):
            x = functional.leaky_relu(layer(x), SLOPE, inplace=True)
        return self.out(x)


class ImageToPlane(nn.Module):
    """Picture of a head to its canonical planes."""

    @dataclass(frozen=True, slots=True)
    class Config:
        """Sizes; the defaults are those of the published weights.

        Args:
            plane_channels: channels of each of the three planes.
            has_encoder: a dilated ResNet stands before the transformer (published, not in the paper's text).
            encoder_width: channels of its first stage.
            encoder_blocks: residual blocks of its four stages.
            encoder_channels: channels that it hands on.
            token_width: channels of a token; divides by 4.
            heads: attention heads.
            mlp_ratio: hidden channels of a block's MLP, in token widths.
            low_blocks: blocks of the low-resolution transformer.
            low_channels: channels of the convolutions that follow it.
            branch_channels: channels of the two branches where they are joined.
            detail_stem: channels of the convolutional branch's first layer.
            detail_layers: its layers, first and last included.
            predictor_blocks: blocks of the predictor's transformer.
            predictor_channels: channels of the predictor's wide and narrow convolutions.
            predictor_reduction: side of the squares of tokens that share a key in the predictor.
        """

        plane_channels: int = 32
        has_encoder: bool = True
        encoder_width: int = 64
        encoder_blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
        encoder_channels: int = 256
        token_width: int = 1024
        heads: int = 4
        mlp_ratio: int = 2
        low_blocks: int = 5
        low_channels: int = 128
        branch_channels: int = 96
        detail_stem: int = 64
        detail_layers: int = 6
        predictor_blocks: int = 1
        predictor_channels: tuple[int, int] = (256, 128)
        predictor_reduction: int = 2

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or self.Config()
        channels = 3 + 2
        self.encoder: DeepLab | None = None
        if config.has_encoder:
            self.encoder = DeepLab(channels, config.encoder_channels, config.encoder_width, config.encoder_blocks)
            self.low = LowResolutionBranch(config, config.encoder_channels)
        else:
            self.low = LowResolutionBranch(config, channels)
        self.detail = DetailBranch(config, channels)
        self.predictor = PlanePredictor(config)

    def forward(self, image: Tensor) -> Tensor:
        """Image [b, 3, h, w] in -1..1, -1 outside the head, sides divisible by 16 -> planes [b, 3, plane_channels, h / 2, w / 2]."""
        image = with_coordinates(image).contiguous(memory_format=torch.channels_last)
        low = self.low(image if self.encoder is None else self.encoder(image))
        return planes_from_channels(self.predictor(low, self.detail(image)))
