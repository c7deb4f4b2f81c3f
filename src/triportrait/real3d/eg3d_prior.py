"""EG3D's generator: a latent and a camera to a tri-plane, and its super-resolution (Chan et al., 2022).

The prior that image-to-plane is distilled from and that a personal avatar is inverted into. The renderer in between is not its own:
planes go out as a :class:`~triportrait.types.TriPlane`, rendered features come back.
Legend: b batch, c channels, l styled layers, s numbers of a style.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.errors import WeightsError
from triportrait.nn.settings import rebuilt
from triportrait.nn.stylegan import MappingNetwork, StyledBlock
from triportrait.real3d.decoder import Decoder
from triportrait.types import TriPlane


class PlaneSynthesis(nn.Module):
    """Styles to the channels of three planes: a learned 4 x 4 constant, doubled until it has the planes' size."""

    def __init__(self, side: int, colours: int, style: int, base_channels: int, most_channels: int) -> None:
        super().__init__()
        sides = [4 * 2**i for i in range((side // 4).bit_length())]
        widths = [0, *(min(base_channels // s, most_channels) for s in sides)]
        blocks = [StyledBlock(a, b, style, s, colours=colours) for a, b, s in zip(widths, widths[1:], sides, strict=False)]
        self.blocks = nn.ModuleList(blocks)
        self._styles_taken = [block.layers for block in blocks]
        #: Styles that are read: every block's last one serves the next block's first layer too.
        self.layers = sum(count - 1 for count in self._styles_taken) + 1

    def forward(self, styles: Tensor, noisy: bool) -> Tensor:
        """[b, l, s] -> [b, colours, side, side]."""
        x: Tensor | None = None
        picture: Tensor | None = None
        first = 0
        for block, count in zip(self.blocks, self._styles_taken, strict=True):
            x, picture = block(x, picture, styles[:, first : first + count], noisy=noisy)
            first += count - 1
        assert picture is not None, "there is at least one block"
        return picture


class Prior(nn.Module):
    """Mapping network, plane synthesis and super-resolution."""

    @dataclass(frozen=True)
    class Config:
        """Sizes of the published generators.

        Args:
            latent, style: numbers of a latent and of a style.
            condition: numbers of a camera label.
            mapping_layers: of the mapping network.
            plane_side, plane_channels: of the tri-plane; ``layout`` says which axes its planes span.
            base_channels, most_channels: a layer of side s has ``min(base / s, most)`` channels.
            render_side: of the rendered features.
            super_channels: widths of the two blocks of the super-resolution.
            clamp: limit of the super-resolution's activations (it was trained in half precision), or None.
        """

        latent: int = 512
        style: int = 512
        condition: int = 25
        mapping_layers: int = 2
        plane_side: int = 256
        plane_channels: int = 32
        layout: str = "eg3d_original"
        base_channels: int = 32768
        most_channels: int = 512
        render_side: int = 128
        super_channels: tuple[int, int] = (256, 128)
        clamp: float | None = 256.0

    mean_style: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.mapping = MappingNetwork(config.latent, config.condition, config.style, config.mapping_layers)
        self.register_buffer("mean_style", torch.zeros(config.style))
        self.synthesis = PlaneSynthesis(
            config.plane_side, 3 * config.plane_channels, config.style, config.base_channels, config.most_channels
        )
        widths = (config.plane_channels, *config.super_channels)
        blocks = [
            StyledBlock(a, b, config.style, 2 * config.render_side * 2**i, clamp=config.clamp)
            for i, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
        ]
        self.super_resolution = nn.ModuleList(blocks)
        self._styles_taken = [block.layers for block in blocks]

    def styles(self, latent: Tensor, camera: Tensor, truncation: float = 1.0) -> Tensor:
        """One style for all layers.

        Args:
            latent: [b, latent] normal numbers.
            camera: [b, 25] as :meth:`triportrait.types.Camera.to_eg3d` writes it.
            truncation: 1 leaves the style as it is, 0 gives the mean one.

        Returns:
            [b, l, s], the same for every layer.
        """
        style = torch.lerp(self.mean_style, self.mapping(latent, camera), truncation)
        return style[:, None].expand(-1, self.synthesis.layers, -1)

    def planes(self, styles: Tensor, *, noisy: bool = True) -> TriPlane:
        """Styles [b, l, s] -> tri-plane; ``noisy`` adds the published constant noise."""
        return TriPlane(self.synthesis(styles, noisy).unflatten(1, (3, -1)), self.config.layout)

    def super_resolve(self, features: Tensor, styles: Tensor) -> Tensor:
        """Rendered features [b, c, h, w] in -1..1, colour first, under the last of the styles [b, l, s] -> picture [b, 3, 4 h, 4 w]."""
        side = self.config.render_side
        if features.shape[-1] != side:
            features = functional.interpolate(features, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        x, picture = features, features[:, :3]
        for block, count in zip(self.super_resolution, self._styles_taken, strict=True):
            x, picture = block(x, picture, styles[:, -1:].expand(-1, count, -1))
        return picture


def load_generator(path: Path, layouts: Sequence[str] = ("eg3d",)) -> tuple[Prior, Decoder]:
    """Generator and decoder of an imported file.

    Args:
        path: of the file.
        layouts: that it may have.

    Raises:
        WeightsError: missing, damaged, or of another layout.
    """
    from triportrait.weights.store import load_weights

    stored = load_weights(path)
    if stored.layout not in layouts:
        raise WeightsError(f"'{path}' holds {stored.layout} weights where a generator ({' or '.join(layouts)}) is needed; name that file.")
    prior = Prior(rebuilt(Prior.Config(), stored.config.get("prior", {})))
    decoder = Decoder(rebuilt(Decoder.Config(), stored.config.get("decoder", {})))
    for name, network in (("prior", prior), ("decoder", decoder)):
        state = {key.removeprefix(f"{name}."): value for key, value in stored.tensors.items() if key.startswith(f"{name}.")}
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(f"'{path}' does not fit its own sizes ({str(error).splitlines()[0]}); import it again.") from None
    return prior, decoder
