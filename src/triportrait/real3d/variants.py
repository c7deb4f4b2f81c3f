"""What can be trained besides the whole system: the rows of the paper's Table 4, and its text where the published code differs.

This is the one place that says what a variant is. ``triportrait train real3d.* --variant NAME`` takes them at every size, and
``triportrait weights describe --ablations`` lists them. A trained file carries its sizes, so that nobody has to name the variant again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from triportrait.real3d.image_to_plane import ImageToPlane
from triportrait.real3d.networks import PaperNetworks

#: As many as face-vid2vid has (Wang et al., 2021); the paper does not say how many its ablation has.
UNSUPERVISED_KEY_POINTS = 20
#: All of the classic landmarks, which eq. 9 projects.
ALL_KEY_POINTS = tuple(range(68))
#: Widths of audio to motion: as published, and as the paper's Table 6 has it.
_PUBLISHED_HIDDEN, _PRINTED_HIDDEN = 256, 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One switch.

    Args:
        row: its name in Table 4, or where the paper says it.
        what: what is different, in a sentence.
        stages: stages of training that it changes; the others are the whole system's.
        networks: sizes of the whole system -> its own.
        pretrained: the motion adapter's stage begins with the networks of stage image_to_plane (section 3.1).
        finetuned: that stage trains image to plane on (section 3.2).
        laplacian: that stage has the loss of eq. 4.
    """

    row: str
    what: str
    stages: tuple[str, ...]
    networks: Callable[[PaperNetworks], PaperNetworks] = lambda networks: networks
    pretrained: bool = True
    finetuned: bool = True
    laplacian: bool = True


def _of_blocks(config: ImageToPlane.Config, blocks: int) -> int:
    """As many blocks of the transformer as there are in ``blocks`` of the published size, which has 5; at least one."""
    return max(1, round(config.low_blocks * blocks / ImageToPlane.Config().low_blocks))


def _forty_million(networks: PaperNetworks) -> PaperNetworks:
    config = networks.image_to_plane
    return replace(networks, image_to_plane=replace(config, has_encoder=False, low_blocks=_of_blocks(config, 3)))


def _two_hundred_million(networks: PaperNetworks) -> PaperNetworks:
    config = networks.image_to_plane
    return replace(networks, image_to_plane=replace(config, low_blocks=_of_blocks(config, 15), predictor_blocks=3))


def _concatenation(networks: PaperNetworks) -> PaperNetworks:
    fusion = replace(networks.super_resolution, head_torso="concatenate", scene="concatenate")
    return replace(networks, super_resolution=fusion)


def _unsupervised_key_points(networks: PaperNetworks) -> PaperNetworks:
    torso = replace(networks.super_resolution.torso, unsupervised_key_points=UNSUPERVISED_KEY_POINTS)
    return replace(networks, super_resolution=replace(networks.super_resolution, torso=torso))


def _equation_5(networks: PaperNetworks) -> PaperNetworks:
    # The torso branch of the text sees the torso's picture and the key points only (eq. 10).
    torso = replace(networks.super_resolution.torso, mask_channels=0, head_channels=0)
    return replace(networks, super_resolution=replace(networks.super_resolution, head_torso="blend", scene="blend", torso=torso))


def _text(networks: PaperNetworks) -> PaperNetworks:
    config, voice = networks.image_to_plane, networks.audio_to_motion
    printed = _equation_5(networks)
    torso = replace(printed.super_resolution.torso, key_points=ALL_KEY_POINTS)  # eq. 9
    return replace(
        printed,
        image_to_plane=replace(config, has_encoder=False, low_blocks=_of_blocks(config, 8)),
        motion_adapter=replace(networks.motion_adapter, pictures=2),  # eq. 2
        super_resolution=replace(printed.super_resolution, torso=torso),
        audio_to_motion=replace(voice, hidden=voice.hidden * _PRINTED_HIDDEN // _PUBLISHED_HIDDEN),
    )


_WITH_IMAGE_TO_PLANE = ("image_to_plane", "motion_adapter", "torso")

#: Variants by name.
VARIANTS: dict[str, Variant] = {
    "no_pretraining": Variant(
        row="w/o pre-train",
        what="the motion adapter's stage begins with fresh networks and trains all of them from its first step",
        stages=("motion_adapter",),
        pretrained=False,
    ),
    "no_finetuning": Variant(
        row="w/o finetune",
        what="image to plane stands still while the motion adapter learns",
        stages=("motion_adapter",),
        finetuned=False,
    ),
    "40m": Variant(
        row="w/ 40M params",
        what="a smaller image to plane",
        stages=_WITH_IMAGE_TO_PLANE,
        networks=_forty_million,
    ),
    "200m": Variant(
        row="w/ 200M params",
        what="a larger image to plane",
        stages=_WITH_IMAGE_TO_PLANE,
        networks=_two_hundred_million,
    ),
    "no_laplacian": Variant(
        row="w/o Lap loss",
        what="eq. 4 does not count",
        stages=("motion_adapter",),
        laplacian=False,
    ),
    "unsupervised_key_points": Variant(
        row="w/ unsup. KP.",
        what=f"{UNSUPERVISED_KEY_POINTS} key points, which an hourglass finds in the head's picture, move the torso",
        stages=("torso",),
        networks=_unsupervised_key_points,
    ),
    "concatenation": Variant(
        row="w/ concat",
        what="head, torso and background stand side by side and are convolved, without alpha",
        stages=("torso",),
        networks=_concatenation,
    ),
    "no_inpainting": Variant(
        row="w/o inpaint",
        what="the scene stays black where the person stood",
        stages=("torso",),
        networks=lambda networks: replace(networks, inpaint_background=False),
    ),
    "equation_5": Variant(
        row="eq. 5",
        what="features are fused by alpha alone; the torso branch sees neither masks nor the head",
        stages=("torso",),
        networks=_equation_5,
    ),
    "paper_text": Variant(
        row="sections 3 and B, Table 6",
        what="image to plane without ResNet, motion pictures of source and target only, 68 key points, eq. 5, a narrower audio to motion",
        stages=(*_WITH_IMAGE_TO_PLANE, "audio_to_motion"),
        networks=_text,
    ),
}
