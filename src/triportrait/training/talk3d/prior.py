"""What Talk3D's stages share: the person's generator, what it draws, and the files that hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from triportrait.nn.settings import rebuilt
from triportrait.personal import GENERATORS
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.eg3d_prior import Prior, load_generator
from triportrait.real3d.parts import described
from triportrait.real3d.volume import VolumeRender, VolumeRenderer
from triportrait.training.real3d.perceptual import PerceptualLoss
from triportrait.types import TriPlane
from triportrait.weights.store import Provenance, load_weights, save_weights


@dataclass(frozen=True)
class Generator:
    """EG3D, to be inverted into and tuned.

    Args:
        prior, decoder: its networks.
        volume: how it is rendered. Our cameras follow the tracked head, whose distance varies, so rays are sampled inside the box.
    """

    prior: Prior
    decoder: Decoder
    volume: VolumeRenderer.Config

    @classmethod
    def load(cls, path: Path) -> Generator:
        """Of an imported file, or of one that was tuned here.

        Raises:
            WeightsError: missing, damaged, or no generator.
        """
        prior, decoder = load_generator(path, GENERATORS)
        return cls(prior, decoder, rebuilt(VolumeRenderer.Config(), described(path).get("volume", {})))

    @property
    def picture_px(self) -> int:
        """Side of the final picture."""
        return 4 * self.prior.config.render_side

    def styles(self, style: Tensor) -> Tensor:
        """Styles [b, s] for all layers, [b, l, s]."""
        return style[:, None].expand(-1, self.prior.synthesis.layers, -1)

    def planes(self, synthesis: nn.Module, styles: Tensor) -> TriPlane:
        """Planes of styles [b, l, s] by a copy of the generator's plane synthesis."""
        return TriPlane(synthesis(styles, True).unflatten(1, (3, -1)), self.prior.config.layout)

    def drawn(self, decoder: nn.Module, planes: TriPlane, cameras: Tensor, styles: Tensor) -> tuple[VolumeRender, Tensor]:
        """What cameras [b, 25] see of planes, and the final picture [b, 3, h, h]."""
        assert isinstance(decoder, Decoder)
        volume = VolumeRenderer(decoder, self.volume)(planes, cameras)
        return volume, self.prior.super_resolve(volume.features, styles)

    def save(self, folder: Path, synthesis: nn.Module, decoder: nn.Module, notes: Mapping[str, str]) -> None:
        """Write ``talk3d_generator.safetensors`` with the given synthesis and decoder in the place of its own."""
        own = {key: value for key, value in self.prior.state_dict().items() if not key.startswith("synthesis.")}
        state = {f"prior.{key}": value for key, value in own.items()}
        state |= {f"prior.synthesis.{key}": value for key, value in synthesis.state_dict().items()}
        state |= {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
        config = {"prior": asdict(self.prior.config), "decoder": asdict(self.decoder.config), "volume": asdict(self.volume), **notes}
        write_part(folder, "talk3d_generator", state, config)


def write_part(folder: Path, layout: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None) -> None:
    """One of a person's files."""
    from triportrait import __version__

    origin = Provenance(layout, "", "trained here", __version__, "that of the generator and of the video")
    save_weights(folder / f"{layout}.safetensors", tensors, layout=layout, config=dict(config or {}), provenance=origin)


def style_of(folder: Path) -> Tensor:
    """The person's style [s] in a folder."""
    return load_weights(folder / "talk3d_person.safetensors", layout="talk3d_person").tensors["style"]


def look_of_home() -> PerceptualLoss:
    """The user's VGG networks, or what stands in for them."""
    return PerceptualLoss.from_home()


@torch.no_grad()
def mean_style(prior: Prior, camera: Tensor, samples: int, seed: int) -> tuple[Tensor, float]:
    """Mean style [s] of random latents under one camera [25], and the mean deviation of its numbers (spec A.3)."""
    latents = torch.randn(samples, prior.config.latent, generator=torch.Generator().manual_seed(seed))
    styles = torch.cat([prior.mapping(part, camera.expand(len(part), -1)) for part in latents.split(1000)])
    return styles.mean(0), float(styles.std(0).mean())
