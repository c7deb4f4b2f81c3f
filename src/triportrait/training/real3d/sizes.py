"""Sizes of the paper's networks for training: ``tiny`` for tests, ``small`` for one small GPU, ``paper`` as published."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from triportrait.real3d.audio_to_motion import PaperAudioToMotion
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.head_super_resolution import SuperResolution
from triportrait.real3d.head_torso_background import HtbSuperResolution
from triportrait.real3d.image_to_plane import ImageToPlane
from triportrait.real3d.motion_adapter import MotionAdapter
from triportrait.real3d.networks import PaperNetworks, paper, tiny, trained_form
from triportrait.real3d.torso import TorsoNetwork
from triportrait.real3d.volume import VolumeRenderer
from triportrait.training.real3d.discriminator import DualDiscriminator


@dataclass(frozen=True)
class TrainedNetworks:
    """All that a stage of the paper may need, in the form in which it is trained.

    Args:
        inference: the networks that a finished model has.
        head_super_resolution: stands for HTB-SR until that is trained.
        discriminator: of the adversarial losses.
    """

    inference: PaperNetworks
    head_super_resolution: SuperResolution.Config = field(default_factory=lambda: SuperResolution.Config(trained_form=True))
    # Real3D-Portrait compares pairs and disturbs the cameras (spec 5.4).
    discriminator: DualDiscriminator.Config = field(default_factory=lambda: DualDiscriminator.Config(group=2, camera_noise=1.0))


def paper_networks() -> TrainedNetworks:
    """As published."""
    return TrainedNetworks(trained_form(paper()))


def tiny_networks() -> TrainedNetworks:
    """64 px, some thousand parameters each."""
    small = trained_form(tiny())
    adapter = replace(small.motion_adapter, drop_path=0.0)
    return TrainedNetworks(
        replace(small, motion_adapter=adapter),
        SuperResolution.Config(8, (8, 8), 16, trained_form=True),
        DualDiscriminator.Config(side=64, style=16, mapping_layers=2, base_channels=256, most_channels=16, group=2),
    )


def small_networks() -> TrainedNetworks:
    """256 px, about a tenth of the paper's parameters and a thirtieth of its work: one GPU of 12 GB, or patience on a CPU."""
    torso = TorsoNetwork.Config(
        appearance_channels=(32, 64, 128),
        volume_channels=16,
        depth=8,
        residual_blocks=3,
        motion_channels=(32, 64, 128, 256),
        motion_out=16,
        generator_channels=(128, 64, 32),
        occlusion_channels=16,
        head_channels=16,
    )
    networks = PaperNetworks(
        photo_px=256,
        image_to_plane=ImageToPlane.Config(
            encoder_width=32,
            encoder_blocks=(2, 2, 2, 2),
            encoder_channels=128,
            token_width=256,
            heads=4,
            low_blocks=4,
            low_channels=64,
            branch_channels=48,
            detail_stem=32,
            predictor_channels=(128, 64),
        ),
        motion_adapter=MotionAdapter.Config(widths=(16, 32, 80, 128), channels=96, layers=2),
        decoder=Decoder.Config(),
        volume=VolumeRenderer.Config(size_px=64, coarse=32, fine=32),
        super_resolution=HtbSuperResolution.Config(head_side=64, channels=96, out_channels=48, background_channels=32, torso=torso),
        audio_to_motion=PaperAudioToMotion.Config(hidden=128, encoder_layers=4),
    )
    return TrainedNetworks(
        trained_form(networks),
        SuperResolution.Config(32, (96, 48), 64, trained_form=True),
        DualDiscriminator.Config(side=256, base_channels=8192, most_channels=256, style=256, group=2, camera_noise=1.0),
    )
