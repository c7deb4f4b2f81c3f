"""Real3D-Portrait's avatar: one photograph to a canonical tri-plane, motion pictures to what they change of it, rays to features.

The networks, the renderer and the drawing of motion pictures are handed in: this room knows only how they follow one another (paper,
section 3.2 and figure 2; spec 4). Everything is deterministic unless the renderer that is handed in is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from triportrait.geometry.cameras import EG3D_SCALE, camera_from_pose
from triportrait.nn.seen_volume import SeenVolume
from triportrait.types import Array, Camera, MotionFrame, PreparedPortrait, RenderedHead, TriPlane

#: Below this alpha a pixel has no depth.
_NOTHING = 0.02


#: What the networks compute in under autocast; ``auto`` is bfloat16 on a GPU and float32 elsewhere.
Precision = Literal["auto", "float32", "bfloat16", "float16"]


class MotionPictures(Protocol):
    """Draws identity [i] and expression [e] as a PNCC float32 [3, s, s] in -1..1, the lids closed by a further fraction."""

    def __call__(self, identity: Array, expression: Array, lid_closing: float = 0.0) -> Array: ...


@dataclass(frozen=True, slots=True)
class OneShotState:
    """What depends on the photograph alone.

    Args:
        planes: canonical, [1, 3, c, h, w].
        pictures: canonical and source motion pictures, [1, 3 or 6, s, s].
        identity: of whom.
    """

    planes: Tensor
    pictures: Tensor
    identity: Array


class OneShotAvatar:
    """Implements :class:`triportrait.types.Avatar` with the paper's networks.

    Args:
        image_to_plane: head picture [1, 3, s, s] to planes [1, 3, c, h, w].
        motion_adapter: motion pictures [1, 3 k, s, s] to planes that are added.
        renderer: planes and cameras [1, 25] to a :class:`SeenVolume`.
        draw: motion pictures of the head model that portraits were fitted with.
        side_px: side of the pictures that go in.
        pictures: 3 (canonical, source, driving) or 2 (source, driving).
        precision: of the networks; the renderer stays in single precision.
    """

    name = "oneshot"

    def __init__(
        self,
        image_to_plane: nn.Module,
        motion_adapter: nn.Module,
        renderer: Callable[[TriPlane, Tensor], SeenVolume],
        draw: MotionPictures,
        side_px: int = 512,
        pictures: int = 3,
        *,
        precision: Precision = "auto",
    ) -> None:
        self._image_to_plane, self._motion_adapter, self._renderer, self._draw = image_to_plane, motion_adapter, renderer, draw
        self.side_px, self._pictures = side_px, pictures
        self.device = next(motion_adapter.parameters()).device
        if precision == "auto":
            precision = "bfloat16" if self.device.type == "cuda" else "float32"
        self.precision = precision

    @torch.inference_mode()
    def prepare(self, portrait: PreparedPortrait, source_expression: Array | None = None) -> OneShotState:
        """Planes and motion pictures of a portrait whose coefficients belong to the head model of ``draw``.

        Args:
            portrait: its crop must be ``side_px`` wide.
            source_expression: [e] that stands for the photograph's own in the source picture; None takes the true one.
                (The published code takes the first driving one, unlike its training: spec 8.1.)

        Raises:
            ValueError: the crop has another size.
        """
        if len(portrait.image) != self.side_px:
            raise ValueError(f"the portrait's crop is {len(portrait.image)} px wide, the networks take {self.side_px}")
        head = np.where((portrait.head_alpha > 0.5)[..., None], portrait.image, 0)
        image = torch.from_numpy(head.astype(np.float32) / 127.5 - 1.0).permute(2, 0, 1)[None].to(self.device)
        with self.autocast():
            planes = self._image_to_plane(image).float()
        own = portrait.motion.expression
        own = own if source_expression is None else np.asarray(source_expression, np.float32)
        source = self._picture(portrait.identity, own)
        if self._pictures == 3:
            source = torch.cat([self._picture(portrait.identity, np.zeros_like(own)), source], 1)
        return OneShotState(planes, source, portrait.identity)

    def with_source_expression(self, state: OneShotState, expression: Array) -> OneShotState:
        """The state with another expression in the source picture; the planes stay."""
        pictures = state.pictures.clone()
        pictures[:, -3:] = self._picture(state.identity, expression)
        return replace(state, pictures=pictures)

    def motion_picture(self, state: OneShotState, frame: MotionFrame, lid_closing: float = 0.0) -> Array:
        """The driving PNCC of a motion row, float32 [3, s, s]; the drawer may use it again."""
        return self._draw(state.identity, frame.expression, lid_closing)

    @torch.inference_mode()
    def planes(self, state: OneShotState, frames: Sequence[MotionFrame], lid_closings: Sequence[float] | None = None) -> TriPlane:
        """The tri-planes of motion rows, one picture each."""
        closings = lid_closings or [0.0] * len(frames)
        drawn = [self._picture(state.identity, row.expression, closing) for row, closing in zip(frames, closings, strict=True)]
        driving = torch.cat(drawn)
        with self.autocast():
            change = self._motion_adapter(torch.cat([state.pictures.expand(len(drawn), -1, -1, -1), driving], 1))
        return TriPlane(state.planes + change.float())  # eq. 2: P_cano + P_diff

    @torch.inference_mode()
    def look(
        self,
        state: OneShotState,
        frames: Sequence[MotionFrame],
        cameras: Sequence[Camera | None] | None = None,
        lid_closings: Sequence[float] | None = None,
    ) -> SeenVolume:
        """The heads of motion rows as tensors on the networks' device, all at once.

        Args:
            state: from :meth:`prepare`.
            frames: expressions and poses.
            cameras: smoothed ones instead of the rows' own; None takes the row's.
            lid_closings: 0..1 each, drawn into the motion pictures.
        """
        numbers = np.stack([camera.to_eg3d() for camera in cameras_of(frames, cameras)])
        return self._renderer(self.planes(state, frames, lid_closings), torch.from_numpy(numbers).to(self.device))  # eq. 2: VR

    def render(self, state: OneShotState, frame: MotionFrame, *, camera: Camera | None = None, lid_closing: float = 0.0) -> RenderedHead:
        """The head layer of one motion row, at the renderer's size, with features; see :meth:`look`."""
        seen = self.look(state, [frame], [camera], [lid_closing])
        return rendered_head(seen, 0, cameras_of([frame], [camera])[0])

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of the networks, for all that runs beside them."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.precision))

    def _picture(self, identity: Array, expression: Array, lid_closing: float = 0.0) -> Tensor:
        picture = self._draw(identity, expression, lid_closing)
        # The drawer may use its picture again.
        return torch.from_numpy(picture)[None].to(self.device, copy=True)


def cameras_of(frames: Sequence[MotionFrame], cameras: Sequence[Camera | None] | None = None) -> list[Camera]:
    """The cameras that are given, and those of the rows' poses where None is."""
    given = cameras or [None] * len(frames)
    return [camera or camera_from_pose(frame.rotation_rad, frame.translation) for frame, camera in zip(frames, given, strict=True)]


def rendered_head(seen: SeenVolume, index: int, camera: Camera) -> RenderedHead:
    """One of the pictures that a renderer gave, as the head layer of a frame."""
    features = seen.features[index].float()
    alpha = seen.alpha[index, 0].float().cpu().numpy()
    rgb = (0.5 * features[:3] + 0.5).clamp(0.0, 1.0).permute(1, 2, 0).cpu().numpy()
    along = seen.depth[index, 0].float().cpu().numpy() * _cosines(len(alpha), camera) / EG3D_SCALE
    depth = np.where(alpha > _NOTHING, along, np.inf).astype(np.float32)
    return RenderedHead(np.ascontiguousarray(rgb), alpha, depth, features)


def _cosines(side_px: int, camera: Camera) -> Array:
    """Cosine of each pixel's ray to the optical axis, [side_px, side_px]."""
    line = (np.arange(side_px) + 0.5) / side_px
    x, y = (line - camera.centre[0]) / camera.focal, (line - camera.centre[1]) / camera.focal
    return 1.0 / np.sqrt(1.0 + x[None] ** 2 + y[:, None] ** 2)
