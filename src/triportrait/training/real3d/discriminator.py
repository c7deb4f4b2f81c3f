"""EG3D's dual discriminator: is a picture real, does its raw render agree with it, and was it seen by this camera? (Chan et al., 2022)

Legend: b batch, c channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.errors import OptionError
from triportrait.nn.stylegan import EqualisedConvolution, EqualisedLinear, MappingNetwork, activate

_HALF = math.sqrt(0.5)


class ResidualHalving(nn.Module):
    """Two convolutions around a shortcut, both at half of the energy: [b, channels, h, w] -> [b, out, h / 2, w / 2]."""

    def __init__(self, channels: int, out: int, clamp: float | None) -> None:
        super().__init__()
        self.clamp = clamp
        self.conv0 = EqualisedConvolution(channels, channels, 3)
        self.conv1 = EqualisedConvolution(channels, out, 3, halving=True)
        self.shortcut = EqualisedConvolution(channels, out, 1, bias=False, halving=True)

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.conv0(x), self.clamp)
        y = activate(self.conv1(y), self.clamp, _HALF)
        return y + self.shortcut(x) * _HALF


def batch_deviation(x: Tensor, group: int) -> Tensor:
    """One more channel: the mean standard deviation within groups of a batch (Karras et al., 2018, section 3).

    Args:
        x: [b, c, h, w]; b is a multiple of ``group``, or smaller than it.
        group: pictures that are compared. Group i holds every (b / group)-th picture from i on.
    """
    group = min(group, len(x))
    y = x.unflatten(0, (group, -1))
    deviation = torch.sqrt(y.var(0, correction=0) + 1e-8).mean((1, 2, 3))  # [b / group]
    channel = deviation.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], dim=1)


class DualDiscriminator(nn.Module):
    """Picture, raw render and camera -> logit [b, 1], positive for real."""

    @dataclass(frozen=True)
    class Config:
        """Sizes as published.

        Args:
            side: of the pictures.
            condition: numbers of a camera label.
            style: width of the condition's mapping and of the last layer.
            mapping_layers: of the condition's mapping.
            base_channels, most_channels: a layer of side s has ``min(base / s, most)`` channels.
            group: of :func:`batch_deviation`; Real3D-Portrait trains with 2.
            camera_noise: standard deviation, in those of the batch, of noise on the cameras; Real3D-Portrait trains with 1.
            clamp: limit of the activations, or None.
        """

        side: int = 512
        condition: int = 25
        style: int = 512
        mapping_layers: int = 8
        base_channels: int = 32768
        most_channels: int = 512
        group: int = 4
        camera_noise: float = 0.0
        clamp: float | None = 256.0

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        sides = [config.side // 2**i for i in range((config.side // 4).bit_length())]  # side .. 4
        widths = [min(config.base_channels // side, config.most_channels) for side in sides]
        self.mapping = MappingNetwork(0, config.condition, config.style, config.mapping_layers)
        self.stem = EqualisedConvolution(6, widths[0], 1)
        self.blocks = nn.ModuleList(ResidualHalving(a, b, config.clamp) for a, b in zip(widths, widths[1:], strict=False))
        self.last = EqualisedConvolution(widths[-1] + 1, widths[-1], 3)
        self.flat = EqualisedLinear(16 * widths[-1], widths[-1], active=True)
        self.out = EqualisedLinear(widths[-1], config.style)

    def forward(self, image: Tensor, raw: Tensor, camera: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits.

        Args:
            image: [b, 3, side, side] in -1..1.
            raw: [b, 3, any, any] the render before super-resolution, in -1..1.
            camera: [b, 25] as :meth:`triportrait.types.Camera.to_eg3d` writes it.
            generator: of the cameras' noise.
        """
        raw = functional.interpolate(raw, size=image.shape[-2:], mode="bilinear", align_corners=False, antialias=True)
        x = activate(self.stem(torch.cat([image, raw], dim=1)), self.config.clamp)
        for block in self.blocks:
            x = block(x)
        x = activate(self.last(batch_deviation(x, self.config.group)), self.config.clamp)
        x = self.out(self.flat(x.flatten(1)))
        if self.config.camera_noise:
            noise = torch.randn(camera.shape, generator=generator, dtype=camera.dtype, device=camera.device)
            # A single camera has no spread.
            spread = camera.std(0) if len(camera) > 1 else torch.zeros_like(camera[0])
            camera = camera + noise * spread * self.config.camera_noise
        return (x * self.mapping(None, camera)).sum(1, keepdim=True) / math.sqrt(x.shape[1])


def load_discriminator(path: Path, network: DualDiscriminator) -> None:
    """Begin as EG3D's discriminator, as appendix B.1 does: ``eg3d_discriminator.safetensors`` of 'triportrait weights import'.

    Args:
        path: the file.
        network: takes its numbers; group and camera noise stay as they are.

    Raises:
        WeightsError: the file is missing, damaged, or holds something else.
        OptionError: it judges pictures of another size.
    """
    from triportrait.weights.store import load_weights

    tensors = load_weights(path, layout="eg3d_discriminator").tensors
    wanted = network.state_dict()
    wrong = [key for key in wanted if key not in tensors or tensors[key].shape != wanted[key].shape] or sorted(set(tensors) - set(wanted))
    if wrong:
        raise OptionError(
            f"'{path}' does not fit the discriminator of this preset, which judges pictures of {network.config.side} px ({wrong[0]}); "
            "EG3D's published one judges 512 px, as the presets paper and paper_schedule do"
        )
    network.load_state_dict(tensors)
