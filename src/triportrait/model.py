"""An avatar, the torso and the background joined: motion rows in, pictures out. Parts are handed in; nothing is loaded here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.oneshot.avatar import VolumeQuality
from triportrait.composite.fusion import PasteBack, fuse
from triportrait.composite.torso import TorsoState, prepare_torso, warp_torso
from triportrait.errors import MissingPart, NumericError, OptionError
from triportrait.types import Array, Avatar, FullHead, MotionFrame, PreparedPortrait, RenderedHead

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class ModelState:
    """What depends on the portrait alone; the caller holds it and hands it back to :meth:`PortraitModel.step`."""

    portrait: PreparedPortrait
    avatar: Any
    torso: TorsoState


class PortraitModel:
    """Head, torso and background of one kind of avatar.

    Args:
        avatar: draws the head layer.
        head: gives the torso its neck.
    """

    def __init__(self, avatar: Avatar, head: FullHead) -> None:
        self.avatar = avatar
        self.head = head

    def prepare(self, portrait: PreparedPortrait) -> ModelState:
        """Everything that is computed once per portrait."""
        return ModelState(portrait, self.avatar.prepare(portrait), prepare_torso(portrait, self.head))

    def with_covered_mouth(self, state: ModelState) -> ModelState:
        """The same portrait for a photo whose mouth is covered: avatars that paint lips leave that."""
        covered = getattr(self.avatar, "with_covered_mouth", None)
        return replace(state, avatar=covered(state.avatar)) if covered else state

    def step(self, state: ModelState, frame: MotionFrame, background: Array | None = None) -> tuple[Array, RenderedHead]:
        """One picture of the crop.

        Args:
            state: from :meth:`prepare`.
            frame: one motion row in the portrait's pose frame.
            background: uint8 [s, s, 3] to stand behind the person; None keeps the photo's own.

        Returns:
            uint8 [s, s, 3] and the head layer it was made from.

        Raises:
            NumericError: the motion row holds NaN or infinity.
        """
        expect_finite(frame)
        head = self.avatar.render(state.avatar, frame)
        torso = warp_torso(state.torso, frame)
        return fuse(head, torso, state.portrait.background if background is None else background), head


def expect_finite(frame: MotionFrame) -> None:
    if not all(np.isfinite(rows).all() for rows in (frame.expression, frame.rotation_rad, frame.translation, frame.gaze_rad)):
        raise NumericError("a motion row holds NaN or infinity; the motion file or its source is damaged")


def compact_avatar(head: FullHead, quality: VolumeQuality | None = None) -> Avatar:
    """The embedded one-shot avatar on this machine's CPU."""
    from triportrait.avatar.mouth.painter import CHANNELS, HEIGHT_PX, WIDTH_PX, embedded_mouth_painter
    from triportrait.avatar.oneshot.avatar import CompactOneShotAvatar, VolumeRenderer
    from triportrait.avatar.oneshot.image_to_plane import load_image_to_plane
    from triportrait.avatar.oneshot.volume_kernels import pack_field, render_near_surface
    from triportrait.nn.fast import accelerated

    renderer = VolumeRenderer(pack_field, render_near_surface)
    painter = accelerated(embedded_mouth_painter(), (1, CHANNELS, HEIGHT_PX, WIDTH_PX))
    return CompactOneShotAvatar(head, load_image_to_plane(), painter, renderer, quality)


#: Avatars by name.
AVATARS: dict[str, Callable[[FullHead], Avatar]] = {"lifted": LiftedAvatar, "oneshot": compact_avatar}


def build_model(avatar: str, head: FullHead, quality: VolumeQuality | None = None) -> PortraitModel:
    """The model of an avatar's name; ``quality`` is of its volume, where it has one.

    Raises:
        MissingPart: no avatar of that name.
    """
    if avatar not in AVATARS:
        raise MissingPart(f"there is no avatar {avatar!r}; available: {', '.join(sorted(AVATARS))}")
    make = AVATARS[avatar]
    return PortraitModel(make(head, quality) if make is compact_avatar else make(head), head)


def paste_back(portrait: PreparedPortrait) -> PasteBack:
    """A function from animated crops to the full photograph."""
    return PasteBack(portrait)


@dataclass(frozen=True, slots=True)
class Quality:
    """What a word of ``--quality`` stands for.

    Args:
        avatar: draws the head, unless one is named.
        size_px: side of the portrait, unless one is given.
        volume: of avatars that have one.
    """

    avatar: str = "oneshot"
    size_px: int = 512
    volume: VolumeQuality = VolumeQuality()


#: The default is ``standard``.
QUALITIES: dict[str, Quality] = {
    "draft": Quality("lifted", 384, VolumeQuality(96, 6)),
    "standard": Quality(),
    "high": Quality(volume=VolumeQuality(192, 16)),
}


def quality_of(name: str) -> Quality:
    """The quality of a name.

    Raises:
        OptionError: there is none of that name.
    """
    if name not in QUALITIES:
        raise OptionError(f"--quality is {name!r}; use {', '.join(QUALITIES)}")
    return QUALITIES[name]
