"""Real3D-Portrait's head, torso and background joined: motion rows in, pictures out (sections 3.3 and 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from triportrait.errors import NumericError
from triportrait.types import Array, Camera, Motion, MotionFrame, PreparedPortrait, RenderedHead

if TYPE_CHECKING:
    import torch

    from triportrait.real3d.avatar import OneShotAvatar, OneShotState, SeenVolume
    from triportrait.real3d.head_torso_background import HtbSuperResolution, SceneSource


@dataclass(frozen=True, slots=True)
class PaperFrame(MotionFrame):
    """A motion row with what the paper's pipeline smooths over neighbouring rows.

    Args:
        camera: instead of the row's own pose.
        key_points: [68, 2] landmarks in -1..1, y down, that move the torso; None takes the row's own.
        lid_closing: 0..1, a blink drawn into the motion picture.
    """

    camera: Camera | None = None
    key_points: Array | None = None
    lid_closing: float = 0.0


@dataclass(frozen=True, slots=True)
class PaperMotion(Motion):
    """Motion whose rows are :class:`PaperFrame` objects.

    Args:
        cameras: of the rows.
        key_points: [t, 68, 2].
        lid_closings: [t].
    """

    cameras: tuple[Camera, ...] = ()
    key_points: Array | None = None
    lid_closings: Array | None = None

    def __getitem__(self, index: int) -> PaperFrame:
        return PaperFrame(
            self.expression[index],
            self.rotation_rad[index],
            self.translation[index],
            self.gaze_rad[index],
            camera=self.cameras[index] if self.cameras else None,
            key_points=None if self.key_points is None else self.key_points[index],
            lid_closing=0.0 if self.lid_closings is None else float(self.lid_closings[index]),
        )


@dataclass(frozen=True, slots=True)
class PaperState:
    """What depends on the portrait alone, for :class:`PaperModel`."""

    portrait: PreparedPortrait
    avatar: OneShotState
    scene: SceneSource


class PaperModel:
    """Real3D-Portrait: the one-shot avatar and the head-torso-background super-resolution; see :class:`triportrait.types.FrameModel`.

    Args:
        avatar: draws the head with features.
        super_resolution: joins head, torso and background.
        landmarks: identity [i] and a motion row to the 68 landmarks [68, 2] in -1..1, y down.
        truncate: colours are cut down to whole numbers as published, instead of rounded.
        batch: rows that :meth:`draw` puts through the networks at once.
    """

    def __init__(
        self,
        avatar: OneShotAvatar,
        super_resolution: HtbSuperResolution,
        landmarks: Callable[[Array, MotionFrame], Array],
        *,
        truncate: bool = False,
        batch: int = 1,
    ) -> None:
        self.avatar, self.super_resolution = avatar, super_resolution
        self._landmarks = landmarks
        self._rounding = 0.0 if truncate else 0.5
        self._batch = batch
        #: The last scene that was put behind a person, with its features.
        self._last: tuple[Array, torch.Tensor, torch.Tensor] | None = None

    def prepare(self, portrait: PreparedPortrait, masks: Array | None = None, source_expression: Array | None = None) -> PaperState:
        """Everything that is computed once per portrait.

        Args:
            portrait: fitted with the avatar's head model; its torso stands on black.
            masks: float32 [2, s, s], neck and clothes; None takes all of the torso for clothes.
            source_expression: see ``OneShotAvatar.prepare``.
        """
        import torch

        if masks is None:
            clothes = (portrait.torso[..., 3] > 127).astype(np.float32)
            masks = np.stack([np.zeros_like(clothes), clothes])
        device = self.avatar.device
        key_points = torch.from_numpy(self._landmarks(portrait.identity, portrait.motion).astype(np.float32))[None].to(device)
        head = np.where((portrait.head_alpha > 0.5)[..., None], portrait.image, 0).astype(np.uint8)
        with torch.inference_mode(), self.avatar.autocast():
            scene = self.super_resolution.prepare(
                _to_network(portrait.torso[..., :3], device),
                torch.from_numpy(masks)[None].to(device),
                _to_network(portrait.background, device),
                key_points,
                _to_network(head, device),
            )
        return PaperState(portrait, self.avatar.prepare(portrait, source_expression), scene)

    def with_still_mouth(self, state: PaperState) -> PaperState:
        """The same: mouths are drawn by the networks alone, nothing is painted over them."""
        return state

    def motion_picture(self, state: PaperState, frame: MotionFrame) -> Array:
        """See :meth:`triportrait.types.FrameModel.motion_picture`: what the motion adapter sees, blinks included."""
        closing = frame.lid_closing if isinstance(frame, PaperFrame) else 0.0
        return self.avatar.motion_picture(state.avatar, frame, closing)

    def step(self, state: PaperState, frame: MotionFrame, background: Array | None = None) -> tuple[Array, RenderedHead]:
        """One picture of the crop; see :class:`triportrait.types.FrameModel`. A :class:`PaperFrame` brings its own camera and key points.

        Raises:
            NumericError: the motion row or the networks' picture holds NaN or infinity.
        """
        from triportrait.real3d.avatar import cameras_of, rendered_head

        seen = self._look(state, [frame])
        picture = self._draw(state, [frame], seen, None if background is None else [background])[0]
        camera = cameras_of([frame], [frame.camera if isinstance(frame, PaperFrame) else None])[0]
        return picture, rendered_head(seen, 0, camera)

    def cut_out(self, state: PaperState, frame: MotionFrame) -> Array:
        """See :meth:`triportrait.types.FrameModel.cut_out`; the networks join person and scene, so they are asked for two scenes."""
        from triportrait.composite.cut_out import layer_of_two_scenes

        scenes = [np.full_like(state.portrait.background, level) for level in (0, 255)]
        return layer_of_two_scenes(*self.steps(state, [frame, frame], scenes))

    def steps(self, state: PaperState, frames: Sequence[MotionFrame], backgrounds: Sequence[Array] | None = None) -> Array:
        """The pictures uint8 [n, s, s, 3] of n motion rows at once: on a GPU faster than one by one, on a CPU hardly.

        Args:
            state: from :meth:`prepare`.
            frames: rows, as for :meth:`step`.
            backgrounds: one scene per row; None keeps the photo's own.

        Raises:
            NumericError: see :meth:`step`.
        """
        return self._draw(state, frames, self._look(state, frames), backgrounds)

    def draw(
        self, state: PaperState, frames: Iterable[MotionFrame], scenes: Iterator[Array] | None = None
    ) -> Iterator[tuple[MotionFrame, Array, RenderedHead | None]]:
        """Several rows at once, without head layers; see :meth:`triportrait.types.FrameModel.draw`."""
        rows = iter(frames)
        while batch := list(islice(rows, self._batch)):
            behind = None if scenes is None else list(islice(scenes, len(batch)))
            for row, picture in zip(batch, self.steps(state, batch, behind), strict=True):
                yield row, picture, None

    def _look(self, state: PaperState, frames: Sequence[MotionFrame]) -> SeenVolume:
        """The rendered heads."""
        for frame in frames:
            frame.expect_finite()
        own = [frame if isinstance(frame, PaperFrame) else None for frame in frames]
        cameras = [frame.camera if frame else None for frame in own]
        return self.avatar.look(state.avatar, frames, cameras, [frame.lid_closing if frame else 0.0 for frame in own])

    def _draw(self, state: PaperState, frames: Sequence[MotionFrame], seen: SeenVolume, backgrounds: Sequence[Array] | None) -> Array:
        """Torso and background to the rendered heads."""
        import torch

        points = np.stack([self._points(state, frame) for frame in frames])
        with torch.inference_mode(), self.avatar.autocast():
            scene = state.scene if backgrounds is None else self._in_front_of(state.scene, backgrounds)
            pictures = self.super_resolution(
                seen.features.float(), seen.alpha.float(), scene, torch.from_numpy(points).to(self.avatar.device)
            )
            if not torch.isfinite(pictures).all():
                raise NumericError("the networks gave NaN or infinity; 'triportrait weights verify' tells whether their weights are sound")
            bytes_ = (pictures.float() * 127.5 + (127.5 + self._rounding)).clamp(0.0, 255.0).to(torch.uint8)
        return bytes_.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def _points(self, state: PaperState, frame: MotionFrame) -> Array:
        own = frame.key_points if isinstance(frame, PaperFrame) else None
        return np.asarray(self._landmarks(state.portrait.identity, frame) if own is None else own, np.float32)

    def _in_front_of(self, scene: SceneSource, backgrounds: Sequence[Array]) -> SceneSource:
        import torch

        first, device = backgrounds[0], self.avatar.device
        if any(other is not first for other in backgrounds):
            prepared = self.super_resolution.prepare_background(torch.cat([_to_network(one, device) for one in backgrounds]))
            return replace(scene, background=prepared[0], background_features=prepared[1])
        last = self._last  # read once: portraits in other threads share this model
        if last is None or last[0] is not first:
            last = self._last = (first, *self.super_resolution.prepare_background(_to_network(first, device)))
        return replace(scene, background=last[1], background_features=last[2])


def _to_network(image: Array, device: torch.device) -> torch.Tensor:
    """uint8 [s, s, 3] -> [1, 3, s, s] in -1..1."""
    import torch

    return (torch.from_numpy(image.astype(np.float32)) / 127.5 - 1.0).permute(2, 0, 1)[None].to(device)
