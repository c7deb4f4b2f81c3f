"""The learned one-shot avatar, small enough for a laptop's CPU.

Once per photograph, the compact image-to-plane network turns it into feature planes in its own camera's frame. Per frame, rays near the
moved surface sample them (the mesh's offsets bring expression: the motion adapter of this size), which gives the head's volume: what it
looks like from here, where each pixel was in the photograph, and whether that saw it. What it saw is re-projected from the photo at
full resolution; what it did not see, or only at a glance, comes from the volume; the mouth is repainted by a learned painter.
(Real3D-Portrait, sections 4.1 to 4.3, with re-projection for its super-resolution.)

The renderer is handed in: this room does not know the other one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from triportrait.avatar.lifted.avatar import LiftedAvatar, LiftedLayer, LiftedState, Skinning
from triportrait.avatar.mouth.painter import PhotoMouth, mouth_window, paint_mouth
from triportrait.avatar.oneshot import unseen_kernels as kernels
from triportrait.avatar.oneshot.guide import GuideMesh, guide_mesh, render_guide
from triportrait.avatar.oneshot.planes import DEPTH_RANGE_DM, PhotoPlanes, PlaneEncoder
from triportrait.avatar.photo_tone import PhotoTone
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import OVAL
from triportrait.geometry.masks import outline_mask
from triportrait.nn.runtime import Graph
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, MotionFrame, PreparedPortrait, RenderedHead

#: A surface so far (decimetres) behind what the photograph shows at the same place begins to count as unseen, and is so entirely.
_BEHIND_DM = np.array([0.05, 0.2], np.float32)
#: Beside the face, a pixel that shows less than so many pixels of the photograph in one direction begins to count as unseen, and does so.
_STRETCHED = np.array([0.45, 0.2], np.float32)


class DrawnVolume(Protocol):
    """What a renderer gives: see ``volume_kernels.SurfaceRender``."""

    @property
    def rgb(self) -> Array: ...
    @property
    def alpha(self) -> Array: ...
    @property
    def source_place(self) -> Array: ...
    @property
    def source_depth(self) -> Array: ...


@dataclass(frozen=True, slots=True)
class VolumeRenderer:
    """Two functions of ``volume_kernels``: ``pack_field`` and ``render_near_surface``."""

    pack: Callable[..., Any]
    draw: Callable[..., DrawnVolume]


@dataclass(frozen=True, slots=True)
class VolumeQuality:
    """Side of the volume's pictures in pixels and samples per ray."""

    size_px: int = 128
    samples: int = 10
    half_dm: float = 0.35


@dataclass(frozen=True, slots=True)
class CompactState:
    """What depends on the photograph alone.

    Args:
        lifted: the photo on the mesh; mesh: its maps' triangles.
        planes: of the photo, and field: the same packed; prior: float32 [k, k], camera depth of what the photo shows, decimetres.
        mouth: the photo's mouth.
    """

    lifted: LiftedState
    mesh: GuideMesh
    planes: PhotoPlanes
    field: Any
    prior: Array
    mouth: PhotoMouth | None


class CompactOneShotAvatar:
    """:class:`triportrait.types.Avatar` with the embedded networks.

    Args:
        head: a head with eyes and a mouth, e.g. the open head.
        encoder: makes a photograph's planes.
        painter: repaints the mouth, see :func:`triportrait.avatar.mouth.painter.load_painter`.
        renderer: draws the volume.
        quality: of the volume.
        skinning: if the head's field alone is to be drawn; see :class:`LiftedAvatar`.
    """

    name = "oneshot"
    whole_person = True

    def __init__(
        self,
        head: FullHead,
        encoder: PlaneEncoder,
        painter: Graph,
        renderer: VolumeRenderer,
        quality: VolumeQuality | None = None,
        skinning: Skinning | None = None,
    ) -> None:
        self.head = head
        self.lifted = LiftedAvatar(head, whole_person=True, skinning=skinning)
        self.encoder, self.painter, self.renderer = encoder, painter, renderer
        self.quality = quality or VolumeQuality()

    def prepare(self, portrait: PreparedPortrait) -> CompactState:
        """Lift the photo and encode it."""
        state = self.lifted.prepare(portrait)
        size = self.encoder.photo_px
        matte = portrait.head_alpha[..., None]
        plain = state.mantle.plain
        # Turned to the viewer, hair through which the scene shines would be a piece of scene on the head.
        colours = state.photo[..., :3] + plain.tainted[..., None] * (plain.low + plain.detail - state.photo[..., :3])
        photo = np.concatenate([colours * matte / 255.0, matte], -1)
        own = self.lifted.draw(state, portrait.motion)
        centre = CAMERA_DISTANCE_DM - float(portrait.motion.translation[2])
        prior, known = _mean_depth(np.where(portrait.head_alpha > 0.5, own.depth, np.inf), size // 2)
        relative = np.where(known > 0, (prior - centre) / DEPTH_RANGE_DM, 0.0)
        filled = push_pull(relative[..., None].astype(np.float32), known)[..., 0].clip(-1.0, 1.0)
        planes = self.encoder(_area_mean(photo, size), filled, known, portrait.motion.rotation_rad)
        mesh, mouth = guide_mesh(state, self.head), PhotoMouth.of(portrait)
        return CompactState(state, mesh, planes, self._packed(planes), filled * DEPTH_RANGE_DM + centre, mouth)

    def with_planes(self, state: CompactState, planes: PhotoPlanes) -> CompactState:
        """The same portrait with other planes, e.g. refined ones."""
        return replace(state, planes=planes, field=self._packed(planes))

    def with_covered_mouth(self, state: CompactState) -> CompactState:
        """The same portrait without the painter, who would paint lips on whatever covers the mouth."""
        return replace(state, mouth=None)

    def _packed(self, planes: PhotoPlanes) -> Any:
        picture = planes.picture_for(self.quality.size_px)
        return self.renderer.pack(planes.front, planes.across, planes.down, picture, planes.prior, planes.decoder, DEPTH_RANGE_DM)

    def render(self, state: CompactState, frame: MotionFrame) -> RenderedHead:
        """See :class:`triportrait.types.Avatar`."""
        portrait = state.lifted.portrait
        drawn = self.lifted.draw(state.lifted, frame)
        if state.mouth is not None:
            window = mouth_window(drawn.landmarks, portrait, frame)
            paint_mouth(self.painter, drawn, drawn.landmarks, window, state.mouth, state.lifted.tone)
        volume, unseen = self._volume(state, frame, drawn)
        _blend(drawn.rgb, drawn.alpha, _toned(volume.rgb, volume.alpha, state.lifted.tone), volume.alpha, unseen)
        return RenderedHead(drawn.rgb, drawn.alpha, drawn.depth)

    def _volume(self, state: CompactState, frame: MotionFrame, drawn: LiftedLayer) -> tuple[DrawnVolume, Array]:
        """The volume's picture, and how far each of its pixels shows what the photograph hardly does: float32 [v, v]."""
        quality, photo, portrait_px = self.quality, state.lifted.portrait.motion, len(state.lifted.portrait.image)
        guide = render_guide(state.mesh, frame, quality.size_px, moved=drawn.moved, nodes=drawn.nodes)
        volume = self.renderer.draw(
            state.field,
            guide.depth,
            (frame.rotation_rad, frame.translation),
            (photo.rotation_rad, photo.translation),
            quality.samples,
            quality.half_dm,
            guide.offset,
        )
        # Lips and lids stretch too: there the photograph knows best.
        face = _face(drawn.landmarks * (quality.size_px / portrait_px), quality.size_px)
        unseen = np.empty_like(volume.alpha)
        kernels.unseen(volume.source_place, volume.source_depth, volume.alpha, state.prior, face, _BEHIND_DM, _STRETCHED, unseen)
        return volume, unseen


def _toned(rgb: Array, alpha: Array, tone: PhotoTone) -> Array:
    """Colours [v, v, 3], premultiplied by ``alpha`` [v, v], in the photo's tone."""
    if not tone.strength:
        return rgb
    share = np.maximum(alpha, 0.05)[..., None]
    return share * tone.apply(255.0 * rgb / share) / np.float32(255.0)


def _face(landmarks: Array, size_px: int) -> Array:
    """The face's outline drawn in a little: uint8 [s, s]."""
    middle = landmarks[OVAL].mean(0)
    return outline_mask(middle + 0.93 * (landmarks[OVAL] - middle), size_px)


def _blend(rgb: Array, alpha: Array, volume: Array, volume_alpha: Array, unseen: Array) -> None:
    """Colours [s, s, 3], premultiplied by ``alpha``, go over into the volume's [v, v, 3] where ``unseen`` [v, v] is 1, in place."""
    import cv2

    share = cv2.GaussianBlur(unseen, (0, 0), 1.0)
    rows, columns = (np.flatnonzero((share > 0.004).any(axis)) for axis in (1, 0))
    if not len(rows):
        return
    guess = np.dstack([volume / np.maximum(volume_alpha, 0.05)[..., None], share])
    kernels.go_over(rgb, alpha, guess, np.array([rows[0], rows[-1], columns[0], columns[-1]]))


def _area_mean(picture: Array, size_px: int) -> Array:
    """[s, s, c] averaged to [size, size, c], float32."""
    import cv2

    return np.ascontiguousarray(cv2.resize(picture, (size_px, size_px), interpolation=cv2.INTER_AREA), np.float32)


def _mean_depth(depth: Array, size_px: int) -> tuple[Array, Array]:
    """Mean of the finite depths in each cell, and in which cells there are enough: float32 [size, size] each."""
    finite = np.isfinite(depth).astype(np.float32)
    share = _area_mean(finite, size_px)
    mean = _area_mean(np.where(finite > 0, depth, 0.0).astype(np.float32), size_px) / np.maximum(share, 1e-6)
    return mean, (share > 0.3).astype(np.float32)
