"""Sizes of Real3D-Portrait's networks: Table 6 of the paper, and a tiny one for tests; variants of them: ``real3d.variants``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from triportrait.nn.settings import rebuilt
from triportrait.real3d.audio_to_motion import PaperAudioToMotion
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.head_torso_background import HtbSuperResolution
from triportrait.real3d.image_to_plane import ImageToPlane
from triportrait.real3d.motion_adapter import MotionAdapter
from triportrait.real3d.torso import TorsoNetwork
from triportrait.real3d.volume import VolumeRenderer

#: Settings that files of earlier versions carry and that are none of the sizes: of training, and of a layer that is always painted in.
_FORMER = frozenset({"laplacian_weight", "inpaint_torso"})


@dataclass(frozen=True)
class PaperNetworks:
    """All networks of Real3D-Portrait.

    Attributes:
        photo_px: side of the picture that goes in and of the frame that comes out.
        image_to_plane, motion_adapter, decoder, super_resolution, audio_to_motion: sizes.
        volume: how the tri-plane is rendered; nothing in it is trained.
        inpaint_background: what the person hides of the scene is painted in before the networks see it (appendix B.4).
    """

    photo_px: int = 512
    image_to_plane: ImageToPlane.Config = field(default_factory=ImageToPlane.Config)
    motion_adapter: MotionAdapter.Config = field(default_factory=MotionAdapter.Config)
    decoder: Decoder.Config = field(default_factory=Decoder.Config)
    volume: VolumeRenderer.Config = field(default_factory=VolumeRenderer.Config)
    super_resolution: HtbSuperResolution.Config = field(default_factory=HtbSuperResolution.Config.published)
    audio_to_motion: PaperAudioToMotion.Config = field(default_factory=PaperAudioToMotion.Config)
    inpaint_background: bool = True


def paper() -> PaperNetworks:
    """The sizes of the weights that the paper's authors give away; Table 6 has nearly the same."""
    return PaperNetworks()


def tiny() -> PaperNetworks:
    """Every network of the paper, built the same way, in a size for tests: 64 px, a few thousand parameters each."""
    torso = TorsoNetwork.Config(
        appearance_channels=(8, 8, 8),
        volume_channels=4,
        depth=4,
        residual_blocks=1,
        motion_channels=(8, 8),
        motion_out=4,
        generator_channels=(8, 8, 8),
        occlusion_channels=4,
        head_channels=4,
        detector_channels=(8, 8),
    )
    return PaperNetworks(
        photo_px=64,
        image_to_plane=ImageToPlane.Config(
            plane_channels=8,
            encoder_width=4,
            encoder_blocks=(1, 1, 1, 1),
            encoder_channels=8,
            token_width=16,
            heads=2,
            low_blocks=2,
            low_channels=8,
            branch_channels=6,
            detail_stem=4,
            predictor_channels=(8, 6),
        ),
        motion_adapter=MotionAdapter.Config(
            plane_channels=8, widths=(4, 8), depths=(1, 1), heads=(1, 2), reductions=(2, 1), channels=8, layers=1
        ),
        decoder=Decoder.Config(plane_channels=8, hidden=8, colours=8),
        volume=VolumeRenderer.Config(size_px=16, coarse=8, fine=8),
        super_resolution=HtbSuperResolution.Config(
            head_side=16, head_channels=8, channels=8, out_channels=8, background_channels=4, torso=torso
        ),
        audio_to_motion=PaperAudioToMotion.Config(
            condition=8, hidden=8, latent=4, encoder_layers=2, decoder_layers=2, flow_steps=2, flow_hidden=8, flow_layers=2
        ),
    )


def from_settings(settings: Mapping[str, Any]) -> PaperNetworks:
    """The sizes that ``dataclasses.asdict`` wrote down, as they come back from a file of ours.

    Raises:
        WeightsError: they belong to another version of this program.
    """
    return rebuilt(PaperNetworks(), settings, former=_FORMER)


#: Part -> (what the paper calls it, its figure in Table 6 in millions).
TABLE_6 = {
    "image_to_plane": ("I2P", "87"),
    "motion_adapter": ("MA", "5.7"),
    "decoder": ("VR", "0.004"),
    "htb_super_resolution": ("HTB-SR", "50"),
    "audio_to_motion": ("A2M", "10"),
}


#: Sizes that a weight file may name.
SIZES: dict[str, Callable[[], PaperNetworks]] = {"paper": paper, "tiny": tiny}


def build(sizes: PaperNetworks, parts: Collection[str] | None = None) -> dict[str, nn.Module]:
    """The networks with untrained weights, named as the parts of an imported file are.

    Inside ``with torch.device("meta")`` they take no memory; load them with ``load_state_dict(..., assign=True)`` then.

    Args:
        sizes: of the networks.
        parts: names of those that are wanted; None builds all.
    """
    kinds: dict[str, tuple[Callable[[Any], nn.Module], Any]] = {
        "image_to_plane": (ImageToPlane, sizes.image_to_plane),
        "motion_adapter": (MotionAdapter, sizes.motion_adapter),
        "decoder": (Decoder, sizes.decoder),
        "htb_super_resolution": (HtbSuperResolution, sizes.super_resolution),
        "audio_to_motion": (PaperAudioToMotion, sizes.audio_to_motion),
    }
    return {name: kind(config) for name, (kind, config) in kinds.items() if parts is None or name in parts}


def trained_form(sizes: PaperNetworks) -> PaperNetworks:
    """The same networks with the re-parametrisations that serve training and that an import multiplies out."""
    torso = replace(sizes.super_resolution.torso, trained_form=True)
    return replace(
        sizes,
        super_resolution=replace(sizes.super_resolution, torso=torso, trained_form=True),
        audio_to_motion=replace(sizes.audio_to_motion, trained_form=True),
    )
