"""Motion pictures (PNCC) to what they change of a canonical tri-plane (Real3D-Portrait, section 3.2, eq. 2; layers as published,
spec 2.2). The caller adds the result to the canonical planes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.tokens import PatchEmbedding, TokenBlock
from triportrait.nn.winograd import Convolution
from triportrait.real3d.planes import planes_from_channels

#: Slope of the leaky ReLUs.
SLOPE = 0.01


class Stage(nn.Module):
    """Embedding, blocks and a norm: [b, c, h, w] -> [b, width, h / stride, w / stride]."""

    def __init__(self, config: MotionAdapter.Config, index: int) -> None:
        super().__init__()
        width = config.widths[index]
        if index == 0:
            self.embed = PatchEmbedding(3, width, kernel=7, stride=4, padding=3)
        else:
            self.embed = PatchEmbedding(config.widths[index - 1], width, kernel=3, stride=2, padding=1)
        first, total = sum(config.depths[:index]), sum(config.depths)
        # The norms of MiT's blocks differ from PyTorch's default eps; those of embedding and reduction do not.
        self.blocks = nn.Sequential(
            *(
                TokenBlock(
                    width,
                    config.heads[index],
                    config.mlp_ratio,
                    config.reductions[index],
                    norm_eps=1e-6,
                    drop_path=config.drop_path * (first + i) / max(total - 1, 1),
                )
                for i in range(config.depths[index])
            )
        )
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.embed(x))
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class StageFusion(nn.Module):
    """All stages at the size of the first: list of [b, width_i, h_i, w_i] -> [b, channels, h_0, w_0].

    SegFormer projects each stage, enlarges it, joins all and mixes them with a 1 x 1 convolution. All of this is linear and enlarging
    is the same for every channel, so projection and mixing are multiplied into one matrix per stage and applied before enlarging.
    """

    def __init__(self, widths: tuple[int, ...], channels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.project = nn.ModuleList(nn.Linear(width, channels) for width in widths)
        #: Columns: the stages' channels, last stage first.
        self.mix = nn.Linear(len(widths) * channels, channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, stages: list[Tensor]) -> Tensor:
        parts = self.mix.weight.chunk(len(stages), 1)[::-1]
        total: Tensor | None = None
        for stage, project, mix in zip(stages, self.project, parts, strict=True):
            assert isinstance(project, nn.Linear)
            part = functional.conv2d(stage, (mix @ project.weight)[..., None, None], mix @ project.bias)
            if total is not None:
                part = functional.interpolate(part, size=total.shape[2:], mode="bilinear", align_corners=False)
            total = part if total is None else total + part
        return self.dropout(functional.relu(self.norm(total)))


class MotionAdapter(nn.Module):
    """Motion pictures to residual planes."""

    @dataclass(frozen=True, slots=True)
    class Config:
        """Sizes; the defaults are those of the published weights (SegFormer's MiT-b0).

        Args:
            plane_channels: channels of each of the three planes.
            pictures: PNCC pictures that come in: 3 (canonical, source, driving; published) or 2 (source, driving; the paper's text).
            widths: token widths of the four stages.
            depths: their blocks.
            heads: their attention heads.
            reductions: sides of their squares of tokens that share a key.
            mlp_ratio: hidden channels of a block's MLP, in token widths.
            channels: channels of the fused stages and of the convolutions.
            layers: activated convolutions before the planes are drawn.
            drop_path: probability of leaving a branch of the last block out in training; grows linearly from 0.
        """

        plane_channels: int = 32
        pictures: int = 3
        widths: tuple[int, ...] = (32, 64, 160, 256)
        depths: tuple[int, ...] = (2, 2, 2, 2)
        heads: tuple[int, ...] = (1, 2, 5, 8)
        reductions: tuple[int, ...] = (8, 4, 2, 1)
        mlp_ratio: int = 4
        channels: int = 256
        layers: int = 3
        drop_path: float = 0.1

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or self.Config()
        self.squeeze = nn.Conv2d(3 * config.pictures, 3, 1)
        self.stages = nn.ModuleList(Stage(config, index) for index in range(len(config.widths)))
        self.fuse = StageFusion(config.widths, config.channels)
        self.layers = nn.ModuleList(Convolution(config.channels, config.channels, 3, padding=1) for _ in range(config.layers))
        self.out = Convolution(config.channels, 3 * config.plane_channels, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """PNCC pictures [b, 3 * pictures, h, w] in -1..1 (canonical, source, driving) -> [b, 3, plane_channels, h / 2, w / 2]."""
        x = self.squeeze(pictures.contiguous(memory_format=torch.channels_last))
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        x = self.fuse(stages)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), SLOPE, inplace=True)
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        return planes_from_channels(self.out(x))
