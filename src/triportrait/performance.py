"""A portrait in motion: frames one by one, or a marked video in a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from triportrait.background import Background
from triportrait.drivers import NOTHING, Progress, default_head, join_motion
from triportrait.errors import EmptyMedia, MediaError
from triportrait.outputs import refuse_inputs
from triportrait.provenance.marks import Finish, Marks
from triportrait.types import FPS, Array, Frame, Motion, MotionFrame, PathLike, PreparedPortrait, RenderedHead

if TYPE_CHECKING:
    from triportrait.provenance.manifest import VideoSigner

if TYPE_CHECKING:
    from triportrait.model import PortraitModel

#: Full photographs are written up to this side; H.264 players give up beyond.
_FULL_FRAME_LIMIT_PX = 4096


class Performer(Protocol):
    """What a performance asks of a portrait: what is known of the photo, the model that draws it, and that model's state."""

    prepared: PreparedPortrait
    model: PortraitModel
    state: Any


@dataclass(frozen=True)
class Performance:
    """A portrait in motion. Iterate for :class:`Frame` objects, or :meth:`save` to a file. Frames are made on demand.

    Args:
        portrait: who.
        chunks: called anew for each pass; yields motion in the portrait's pose frame.
        fps: frames per second.
        sound: file whose sound belongs to it, or None.
        frame_count: number of frames when known beforehand, else 0.
        sources: files that went in, for the signed statement.
        inputs: files and folders that were read besides; none of either is ever written over.
    """

    portrait: Performer
    chunks: Callable[[], Iterator[Motion]]
    fps: float = FPS
    sound: Path | None = None
    frame_count: int = 0
    sources: dict[str, Path] = field(default_factory=dict)
    inputs: tuple[PathLike, ...] = ()

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def motion(self) -> Motion:
        """All rows in one :class:`Motion`."""
        return join_motion(self.chunks())

    def frames(self, debug: bool = False, full_frame: bool = False, background: Background | None = None) -> Iterator[Frame]:
        """Finished pictures, one by one.

        Args:
            debug: put source, PNCC, raw render and depth into ``Frame.debug``.
            full_frame: the whole photograph with the animated head in its place, instead of the crop.
            background: what stands behind the person; None keeps the photo's own.
        """
        prepared = self.portrait.prepared
        paste = None
        if full_frame:
            from triportrait.model import paste_back

            paste = paste_back(prepared)
        panels = _DebugPanels(prepared) if debug else None
        index = 0
        scenes = background.frames(prepared.image.shape[0], self.fps) if background is not None else None
        for row, image, head in self._pictures(scenes):
            extra = panels(row, head, image) if panels else {}
            yield Frame(paste(image) if paste else image, index / self.fps, extra)
            index += 1
        if not index:
            raise EmptyMedia(NOTHING)

    def _pictures(self, scenes: Iterator[Array] | None) -> Iterator[tuple[MotionFrame, Array, RenderedHead | None]]:
        """Motion rows, their crops, and the head layers that panels show."""
        model, state = self.portrait.model, self.portrait.state
        for chunk in self.chunks():
            for row in chunk:
                yield (row, *model.step(state, row, next(scenes) if scenes is not None else None))

    def save(
        self,
        path: PathLike,
        *,
        full_frame: bool = False,
        debug_panel: bool = False,
        background: Background | None = None,
        marks: Marks | None = None,
        crf: int = 18,
        progress: Progress | None = None,
    ) -> Path:
        """Write an mp4; it appears whole or not at all.

        Args:
            path: target, ending in .mp4.
            full_frame, background: see :meth:`frames`.
            debug_panel: source | PNCC | raw render | depth | final side by side.
            marks: label, watermark and manifest; all on by default.
            crf: x264 quality, lower is better.
            progress: called after each frame.

        Raises:
            OutputError: the target cannot be written, or is a file that was read.
            OptionError: ``crf`` is out of range.
        """
        from triportrait import __version__
        from triportrait.media.video import VideoWriter, check_crf

        refuse_inputs(path, [*self.sources.values(), *self.inputs, self.sound, background.file if background is not None else None])
        check_crf(crf)
        marks = marks or Marks()
        prepared = self.portrait.prepared
        height, width = prepared.photo.shape[:2] if full_frame else prepared.image.shape[:2]
        size = (width * 5, height) if debug_panel else (width, height)
        if max(size) > _FULL_FRAME_LIMIT_PX and full_frame:
            raise MediaError(
                f"the photo is {width} x {height} px; --full-frame writes up to {_FULL_FRAME_LIMIT_PX} px a side, use a smaller copy"
            )
        finish = Finish(marks, size)
        target = Path(path)
        signer = self._signer(target) if marks.manifest else None
        writer = VideoWriter(
            target, size, self.fps, audio=self.sound, crf=crf, background=True,
            metadata={"comment": f"AI-generated, TriPortrait {__version__}"},
            before_commit=(lambda draft: signer.sign(draft, finish.payload)) if signer is not None else None,
        )  # fmt: skip
        with writer:
            for index, frame in enumerate(self.frames(debug_panel, full_frame, background)):
                image = np.hstack([*frame.debug.values(), frame.image]) if debug_panel else frame.image
                writer.write(finish(image))
                if progress:
                    progress("rendering", index + 1, self.frame_count)
        if signer is not None:
            signer.note_beside()
        return target

    def _signer(self, target: Path) -> VideoSigner:
        """What can keep a video from being signed is tried before there is one."""
        from triportrait import __version__
        from triportrait.provenance.manifest import VideoSigner

        return VideoSigner(target, self.sources, target.name, f"TriPortrait {__version__}")


class _DebugPanels:
    """Source, PNCC, raw render and depth of one portrait's frames."""

    def __init__(self, portrait: PreparedPortrait) -> None:
        from triportrait.face.pncc import PnccRenderer

        self._portrait = portrait
        self._size = portrait.image.shape[0]
        self._head = default_head()
        self._shape = self._head.shape(portrait.identity)
        self._pncc = PnccRenderer(self._head, self._size)

    def __call__(self, row: MotionFrame, head: RenderedHead, final: Array) -> dict[str, Array]:
        coloured = self._pncc.render(self._head.deform(self._shape, row.expression, row.gaze_rad))
        pncc = ((coloured.transpose(1, 2, 0) + 1.0) * 127.5).astype(np.uint8)
        raw = np.clip(head.rgb * 255.0 + 0.5, 0, 255).astype(np.uint8)
        seen = np.isfinite(head.depth)
        near = 10.0 - head.depth - row.translation[2]
        level = np.where(seen, np.clip((near + 1.2) / 2.0, 0.05, 1.0), 0.0)
        depth = np.repeat((level * 255).astype(np.uint8)[..., None], 3, axis=2)
        return {"source": self._portrait.image, "pncc": pncc, "raw": raw, "depth": depth}
