"""What changes in a person's tri-plane from frame to frame (Talk3D, Ko et al., 2024, sec. 3; sizes as published, spec A.4).

The person's own planes, computed once, go through a U-Net; in its middle every place attends to the tokens that drive the frame
(:mod:`triportrait.talk3d.tokens`). What comes out is added to the planes. Convolutions of the three planes have weights of their
own, grouped convolutions here, and see the other planes as profiles (:func:`triportrait.nn.plane_layers.roll_out`).
Legend: b batch, c channels of one plane, n tokens (pixels) of one plane, t tokens that drive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from triportrait.nn.plane_layers import ConditionAttention, PlaneAttention, PlaneGatedMlp, PlaneLinear, PlaneNorm, roll_out
from triportrait.nn.synthesis import double_size, halve_smoothly
from triportrait.nn.volume_conv import ConvNormAct

PLANES = 3
#: Slope of the activations for negative values.
SLOPE = 0.01

RollOut = Literal["aligned", "published"]

#: Rows and columns of the planes. The published network takes them for other ones than the layout ``eg3d_fixed`` has, which its planes
#: follow: profiles then lie along the wrong axes, and its weights have learnt to live with that.
AXES: dict[RollOut, tuple[str, str, str]] = {"aligned": ("yx", "zx", "yz"), "published": ("yx", "zy", "xz")}


def position_encoding(side: int, channels: int) -> Tensor:
    """Waves that tell where on its plane a pixel lies: [3, side * side, channels], planes xy, yz and xz with the first letter as row.

    The encoding of a cube of side ** 3 (Vaswani et al., 2017, sec. 3.5, for each axis in turn: sine and cosine alternate), averaged over
    the two slices in the middle of the axis that a plane does not have.
    """
    per_axis = 2 * -(-channels // 6)
    rates = 10_000.0 ** (-torch.arange(0, per_axis, 2, dtype=torch.float64) / per_axis)
    angles = torch.arange(side, dtype=torch.float64)[:, None] * rates
    waves = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)  # [side, per_axis]
    middle = waves[(side - 1) // 2 : side // 2 + 1].mean(0).expand(side, side, -1)
    rows, columns = waves[:, None].expand(side, side, -1), waves.expand(side, side, -1)
    cubes = ((rows, columns, middle), (middle, rows, columns), (rows, middle, columns))
    return torch.stack([torch.cat(cube, -1)[..., :channels].flatten(0, 1) for cube in cubes]).float()


class PlaneConvolutions(nn.Module):
    """Roll-out and two convolutions, each with batch norm and leaky ReLU: [b, 3 c, h, w] -> [b, 3 out, h, w]."""

    def __init__(self, channels: int, out: int, axes: tuple[str, str, str], trained_form: bool, split: bool = True) -> None:
        super().__init__()
        self.axes = axes if split else None
        wide, groups = (PLANES * PLANES * channels, PLANES) if split else (PLANES * channels, 1)
        self.conv0 = ConvNormAct(2, wide, PLANES * out, slope=SLOPE, trained_form=trained_form, groups=groups)
        self.conv1 = ConvNormAct(2, PLANES * out, PLANES * out, slope=SLOPE, trained_form=trained_form, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.axes is not None:
            x = roll_out(x.unflatten(1, (PLANES, -1)), self.axes)
        return self.conv1(self.conv0(x))


class DrivenBlock(nn.Module):
    """Places attend to their plane, then to the driving tokens: [b, 3, n, c], [b, t, token] -> as the first."""

    def __init__(self, channels: int, token: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = PlaneNorm(PLANES, channels)
        self.attention = PlaneAttention(PLANES, channels, heads)
        self.norm2 = PlaneNorm(PLANES, channels)
        self.drive = ConditionAttention(channels, token, heads)
        self.norm3 = PlaneNorm(PLANES, channels)
        self.mlp = PlaneGatedMlp(PLANES, channels, hidden)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        x = x + self.drive(self.norm2(x), tokens)
        return x + self.mlp(self.norm3(x))


class DrivenTransformer(nn.Module):
    """The middle of the U-Net: [b, 3 c, h, w] and tokens -> the same shape."""

    def __init__(self, channels: int, side: int, config: PersonalDeltaPlane.Config) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(PLANES * config.norm_groups, PLANES * channels)
        self.enter = PlaneLinear(PLANES, channels, channels)
        self.register_buffer("position", position_encoding(side, channels))
        self.blocks = nn.ModuleList(DrivenBlock(channels, config.token, config.heads, config.hidden) for _ in range(config.blocks))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        places = self.enter(self.norm(x).unflatten(1, (PLANES, -1)).flatten(3).transpose(2, 3))
        for block in self.blocks:
            places = block(places + self.position, tokens)
        return x + places.transpose(2, 3).reshape(x.shape)


class PersonalDeltaPlane(nn.Module):
    """The U-Net."""

    @dataclass(frozen=True)
    class Config:
        """Sizes, as published.

        Args:
            plane_side, plane_channels: of the person's tri-plane, layout ``eg3d_fixed``.
            channels: of one plane after each halving.
            up_channels: of one plane before each doubling but the last, which has ``plane_channels``.
            token: width of a driving token.
            blocks, heads, hidden: of the transformer; hidden channels of its gated MLP.
            norm_groups: of the group norm of one plane.
            roll_out: see :data:`AXES`; the published weights need ``published``.
            gated: multiply what comes out by one learned number that starts at 0. Without it the last convolution starts at 0, as
                published, and the batch norm after it blows the first gradients up.
            trained_form: with the batch norms that an import folds into the convolutions.
            split: each plane has convolutions of its own and sees the others as profiles (sec. 3); else the planes' channels lie in one
                picture, as in the paper's ablation.
        """

        plane_side: int = 256
        plane_channels: int = 32
        channels: tuple[int, ...] = (64, 128, 256)
        up_channels: tuple[int, ...] = (128, 64)
        token: int = 64
        blocks: int = 2
        heads: int = 4
        hidden: int = 1024
        norm_groups: int = 32
        roll_out: RollOut = "aligned"
        gated: bool = True
        trained_form: bool = True
        split: bool = True

        @classmethod
        def published(cls, *, trained_form: bool = False) -> PersonalDeltaPlane.Config:
            """What ``weights.talk3d`` makes of the published files; ``trained_form`` for the state that still has the batch norms."""
            return cls(roll_out="published", gated=False, trained_form=trained_form)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        down = (config.plane_channels, *config.channels)
        up = (config.channels[-1], *config.up_channels, config.plane_channels)
        self.down = nn.ModuleList(_convolutions(a, b, config) for a, b in zip(down, down[1:], strict=False))
        self.transformer = DrivenTransformer(config.channels[-1], config.plane_side >> len(config.channels), config)
        layers = [_convolutions(a, b, config) for a, b in zip(up, up[1:], strict=False)]
        self.up = nn.ModuleList(layers)
        self.gate = nn.Parameter(torch.zeros(())) if config.gated else None
        if self.gate is None:
            for parameter in layers[-1].conv1.conv.parameters():
                nn.init.zeros_(parameter)

    def forward(self, planes: Tensor, tokens: Tensor) -> Tensor:
        """One frame.

        Args:
            planes: [b, 3, c, side, side] the person's.
            tokens: [b, t, token] what drives.

        Returns:
            What to add to the planes, of their shape.
        """
        x = planes.flatten(1, 2)
        passed = []
        for layer in self.down:
            x = halve_smoothly(layer(x))
            passed.append(x)
        x = self.transformer(passed.pop(), tokens)
        for layer in self.up:
            x = double_size(layer(x))
            if passed:
                x = x + passed.pop()
        x = x if self.gate is None else x * self.gate
        return x.unflatten(1, (PLANES, -1))


def _convolutions(channels: int, out: int, config: PersonalDeltaPlane.Config) -> PlaneConvolutions:
    return PlaneConvolutions(channels, out, AXES[config.roll_out], config.trained_form, config.split)
