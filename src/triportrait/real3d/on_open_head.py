"""Real3D-Portrait's networks for portraits and motion of the open head, as every other avatar is given them.

So the paper's model takes part in evaluations and can be driven by whatever drives the others. The portrait is prepared as the paper
prepares its own, in the crop that is given. Motion is carried over by landmarks: those of a row, or those that the open head has with its
coefficients, are fitted with the networks' head model. What the paper smooths over neighbouring rows is not smoothed here, where each
row stands alone. A voice moves face and lids by the paper's own audio-to-motion where its weights are at
hand (:meth:`PaperOnOpenHead.spoken`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from triportrait.face.portrait import moved_landmarks
from triportrait.geometry.crops import resized
from triportrait.types import Array, Motion, MotionFrame, PathLike, PreparedPortrait, RenderedHead

if TYPE_CHECKING:
    from triportrait.face.open_head import OpenHead
    from triportrait.real3d.model import PaperState
    from triportrait.real3d.pipeline import PaperPipeline


@dataclass(frozen=True, slots=True)
class OpenHeadState:
    """What depends on the portrait alone.

    Args:
        size_px: side of the portrait's crop.
        landmarks: a row of the open head to landmarks [478, 2] in that crop's pixels.
        paper: the same crop in the networks' size and head model.
    """

    size_px: int
    landmarks: Callable[[MotionFrame], Array]
    paper: PaperState

    @property
    def avatar(self) -> object:
        """The state of the networks."""
        return self.paper.avatar


class PaperOnOpenHead:
    """See the module, and :class:`triportrait.types.FrameModel`.

    Args:
        pipeline: the paper's parts.
        head: of the portraits.
    """

    def __init__(self, pipeline: PaperPipeline, head: OpenHead) -> None:
        from triportrait.face.open_head import OpenHead
        from triportrait.real3d.head_models import fitter_of

        self.pipeline, self.head, self.avatar, self._model = pipeline, head, pipeline.avatar, pipeline.model
        own = pipeline.head
        self._fitter = None if isinstance(own, OpenHead) else fitter_of(own, pipeline.preset.photo_px, video=True)

    def prepare(self, portrait: PreparedPortrait) -> OpenHeadState:
        """Everything that is computed once per portrait."""
        size, box = len(portrait.image), portrait.crop_box
        landmarks = portrait.landmarks * np.float32(box[2] / size)
        landmarks[:, :2] += np.array(box[:2], np.float32)
        paper = self.pipeline.portrait_in(portrait.photo, box, landmarks)
        return OpenHeadState(size, moved_landmarks(portrait, self.head), paper.state)

    def with_still_mouth(self, state: OpenHeadState) -> OpenHeadState:
        """The same; see :meth:`PaperModel.with_still_mouth`."""
        return state

    def motion_picture(self, state: OpenHeadState, frame: MotionFrame) -> Array:
        """See :meth:`triportrait.types.FrameModel.motion_picture`: of the networks' head model, in their size."""
        return self._model.motion_picture(state.paper, self._row(state, frame))

    def step(self, state: OpenHeadState, frame: MotionFrame, background: Array | None = None) -> tuple[Array, RenderedHead]:
        """One picture of the crop; see :meth:`triportrait.types.FrameModel.step`."""
        scene = None if background is None else resized(background, self.pipeline.preset.photo_px)
        picture, head = self._model.step(state.paper, self._row(state, frame), scene)
        return resized(picture, state.size_px), head

    def cut_out(self, state: OpenHeadState, frame: MotionFrame) -> Array:
        """See :meth:`PaperModel.cut_out`."""
        return resized(self._model.cut_out(state.paper, self._row(state, frame)), state.size_px)

    def draw(
        self, state: OpenHeadState, frames: Iterable[MotionFrame], scenes: Iterator[Array] | None = None
    ) -> Iterator[tuple[MotionFrame, Array, RenderedHead | None]]:
        """As :meth:`PaperModel.draw`; the rows that come back are those of the networks' head model."""
        side = self.pipeline.preset.photo_px
        behind = None if scenes is None else (resized(scene, side) for scene in scenes)
        for row, picture, _ in self._model.draw(state.paper, (self._row(state, frame) for frame in frames), behind):
            yield row, resized(picture, state.size_px), None

    @property
    def speaks(self) -> bool:
        """Whether the weights hold the paper's audio-to-motion, and what it hears with is there."""
        return self.pipeline.audio_to_motion is not None

    def spoken(self, state: OpenHeadState, voice: PathLike, asked: Motion, seed: int = 0) -> Iterator[Array]:
        """A voice drawn by the paper's whole audio-driven chain (section 3.4), with a head motion that is handed in.

        Args:
            state: from :meth:`prepare`.
            voice: a recording, or a video with sound.
            asked: rows of the open head at 25 Hz, of which the head's pose is taken; as many pictures come.
            seed: of the flow-VAE and of the blinks.

        Returns:
            uint8 [s, s, 3] each, in the portrait's crop.

        Raises:
            MediaError, EmptyMedia: no readable sound.
            MissingPart: it does not speak, see :attr:`speaks`.
        """
        from triportrait.real3d.driver import PaperOptions, PaperVoiceDriver

        driver = PaperVoiceDriver(self.pipeline, voice, PaperOptions(seed=seed))
        rows = [self._row(state, frame) for frame in asked]
        pose = np.stack([row.rotation_rad for row in rows]), np.stack([row.translation for row in rows])
        for _, picture, _ in self._model.draw(state.paper, driver.with_pose(state.paper.portrait, *pose)):
            yield resized(picture, state.size_px)

    def _row(self, state: OpenHeadState, frame: MotionFrame) -> MotionFrame:
        """The row in the networks' head model, for its pose in the same crop."""
        frame.expect_finite()
        if self._fitter is None:
            return replace(frame, landmarks=None)
        points = state.landmarks(frame) if frame.landmarks is None else frame.landmarks
        points = points * (self.pipeline.preset.photo_px / state.size_px)
        return self._fitter.fit_motion(points[None], state.paper.portrait.identity)[0]
