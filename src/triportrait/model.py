"""An avatar, the torso and the background joined: motion rows in, pictures out. And who can do that, by name.

A new avatar is a class behind :class:`triportrait.types.Avatar` and a line in :data:`AVATARS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.oneshot.avatar import VolumeQuality
from triportrait.composite.cut_out import person_layer
from triportrait.composite.fusion import fuse
from triportrait.composite.torso import TorsoState, prepare_torso, warp_torso
from triportrait.concurrency import in_order, thread_count
from triportrait.errors import MissingPart, OptionError
from triportrait.types import Array, Avatar, FrameModel, FullHead, MotionFrame, PreparedPortrait, RenderedHead

if TYPE_CHECKING:
    from triportrait.avatar.lifted.avatar import Skinning
    from triportrait.avatar.oneshot.avatar import CompactOneShotAvatar
    from triportrait.face.open_head import OpenHead


@dataclass(frozen=True, slots=True)
class ModelState:
    """What depends on the portrait alone; the caller holds it and hands it back to :meth:`PortraitModel.step`."""

    portrait: PreparedPortrait
    avatar: Any
    torso: TorsoState | None


class PortraitModel:
    """Head, torso and background of an avatar that draws a head layer; see :class:`triportrait.types.FrameModel`.

    Args:
        avatar: draws the head layer.
        head: gives the torso its neck.
    """

    def __init__(self, avatar: Avatar, head: FullHead) -> None:
        self.avatar = avatar
        self.head = head

    def prepare(self, portrait: PreparedPortrait) -> ModelState:
        """Everything that is computed once per portrait."""
        torso = None if self.avatar.whole_person else prepare_torso(portrait, self.head)
        return ModelState(portrait, self.avatar.prepare(portrait), torso)

    def with_still_mouth(self, state: ModelState) -> ModelState:
        """The same portrait for a mouth that never moves: avatars that paint lips leave that."""
        covered = getattr(self.avatar, "with_covered_mouth", None)
        return replace(state, avatar=covered(state.avatar)) if covered else state

    def motion_picture(self, state: ModelState, frame: MotionFrame) -> Array:
        """See :meth:`triportrait.types.FrameModel.motion_picture`; of the crop's size."""
        from triportrait.face.pncc import PnccRenderer

        vertices = self.head.deform(self.head.shape(state.portrait.identity), frame.expression, frame.gaze_rad)
        return PnccRenderer(self.head, len(state.portrait.image)).render(vertices)

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
        head, torso = self._layers(state, frame)
        return fuse(head, torso, state.portrait.background if background is None else background), head

    def cut_out(self, state: ModelState, frame: MotionFrame) -> Array:
        """See :meth:`triportrait.types.FrameModel.cut_out`."""
        return person_layer(*self._layers(state, frame))

    def _layers(self, state: ModelState, frame: MotionFrame) -> tuple[RenderedHead, Array | None]:
        frame.expect_finite()
        head = self.avatar.render(state.avatar, frame)
        return head, None if state.torso is None else warp_torso(state.torso, frame)

    def draw(
        self, state: ModelState, frames: Iterable[MotionFrame], scenes: Iterator[Array] | None = None
    ) -> Iterator[tuple[MotionFrame, Array, RenderedHead | None]]:
        """Rows in order, several at a time; see :meth:`triportrait.types.FrameModel.draw`."""

        def drawn(row: tuple[MotionFrame, Array | None]) -> tuple[MotionFrame, Array, RenderedHead]:
            return (row[0], *self.step(state, *row))

        rows = ((frame, next(scenes) if scenes is not None else None) for frame in frames)
        yield from in_order(drawn, rows, thread_count())


# -- who can draw, by name ------------------------------------------------------------------------------------------------


class AvatarMaker(Protocol):
    """Makes the model of one kind of avatar. What is no concern of a kind is refused or left alone by it.

    Args:
        head: the open head.
        volume: how finely a learned volume is drawn; avatars without one leave that alone.
        weights: folder or file of the user's weights; None takes those that ship, or the usual place.

    Raises:
        MissingPart, WeightsError: the weights are not there, damaged, or of another kind.
        OptionError: this kind has no weights.
    """

    def __call__(self, head: OpenHead, *, volume: VolumeQuality | None = None, weights: Path | None = None) -> FrameModel: ...


def lifted(head: OpenHead, *, volume: VolumeQuality | None = None, weights: Path | None = None) -> PortraitModel:
    """The photo on the fitted head; there is nothing learned in it."""
    if weights is not None:
        raise OptionError(f"the avatar lifted has no weights; leave out ':{weights}'")
    return PortraitModel(LiftedAvatar(head, whole_person=True), head)


def oneshot(head: OpenHead, *, volume: VolumeQuality | None = None, weights: Path | None = None) -> PortraitModel:
    """The learned avatar on this machine's CPU; ``weights`` is a file of 'triportrait train', None the one that ships."""
    return PortraitModel(_compact(head, volume, weights), head)


def dual_field(head: OpenHead, *, volume: VolumeQuality | None = None, weights: Path | None = None) -> PortraitModel:
    """A head's field and a static one, summed along the ray; ``weights`` as of :func:`oneshot`."""
    from triportrait.avatar.dual_field.avatar import DualFieldAvatar
    from triportrait.avatar.dual_field.skinning import skinning

    return PortraitModel(DualFieldAvatar(_compact(head, volume, weights, skinning)), head)


def _compact(head: OpenHead, volume: VolumeQuality | None, weights: Path | None, skinning: Skinning | None = None) -> CompactOneShotAvatar:
    """The embedded networks on the whole person, or, with ``skinning``, on the head's field."""
    from triportrait.avatar.mouth.painter import load_painter
    from triportrait.avatar.oneshot.avatar import CompactOneShotAvatar, VolumeRenderer
    from triportrait.avatar.oneshot.planes import load_plane_encoder
    from triportrait.avatar.oneshot.volume_kernels import pack_field, render_near_surface

    if weights is None or weights.suffix == ".onnx":
        encoder = load_plane_encoder(weights)
    else:  # as training saves them
        from triportrait.avatar.oneshot.image_to_plane import trained_plane_encoder

        encoder = trained_plane_encoder(weights)
    renderer = VolumeRenderer(pack_field, render_near_surface)
    return CompactOneShotAvatar(head, encoder, load_painter(), renderer, volume, skinning)


def person(head: OpenHead, *, volume: VolumeQuality | None = None, weights: Path | None = None) -> PortraitModel:
    """Several pictures of one person on one head; a photo alone is drawn as ``lifted`` draws it."""
    from triportrait.avatar.person.avatar import PersonAvatar

    if weights is not None:
        raise OptionError(f"the avatar person has no weights; leave out ':{weights}'")
    return PortraitModel(PersonAvatar(LiftedAvatar(head, whole_person=True)), head)


def real3d(head: OpenHead, *, volume: VolumeQuality | None = None, weights: Path | None = None) -> FrameModel:
    """Real3D-Portrait's networks; ``weights`` is a folder as 'triportrait weights import' fills it, or that of a training run."""
    from triportrait.real3d.on_open_head import PaperOnOpenHead
    from triportrait.real3d.parts import can_hear
    from triportrait.real3d.pipeline import load_pipeline

    places = (place if weights is not None and (place := weights / name).is_dir() else None for name in ("bfm", "flame", "hubert"))
    bfm, flame, speech = places
    return PaperOnOpenHead(load_pipeline(weights, bfm, speech, flame=flame, voice=can_hear(weights, bfm, speech, flame)), head)


#: Avatars by name.
AVATARS: dict[str, AvatarMaker] = {"lifted": lifted, "oneshot": oneshot, "dual_field": dual_field, "person": person, "real3d": real3d}


def build_model(avatar: str, head: OpenHead, volume: VolumeQuality | None = None) -> FrameModel:
    """The model of an avatar's name, such as ``oneshot`` or ``real3d:FOLDER``, where what follows the colon is the user's weights.

    Raises:
        MissingPart: no avatar of that name, or its weights are not there.
        OptionError, WeightsError: see :class:`AvatarMaker`.
    """
    name, _, place = avatar.partition(":")
    if name not in AVATARS:
        raise MissingPart(f"there is no avatar {name!r}; available: {', '.join(sorted(AVATARS))}")
    return AVATARS[name](head, volume=volume, weights=Path(place) if place else None)


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
