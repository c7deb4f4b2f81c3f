"""A portrait in motion: frames one by one, or a marked video in a file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from triportrait.background import Background
from triportrait.composite.fusion import PasteBack
from triportrait.drivers import Progress
from triportrait.errors import EmptyMedia, MediaError, OptionError
from triportrait.files import refuse_inputs
from triportrait.motion.timing import NOTHING, join_motion
from triportrait.provenance.maker import Account
from triportrait.provenance.marks import Finish, Marks
from triportrait.types import Array, Driver, Frame, FrameModel, FullHead, Motion, MotionFrame, PathLike, PreparedPortrait, RenderedHead

if TYPE_CHECKING:
    from triportrait.provenance.manifest import VideoSigner

#: Full photographs are written up to this side; H.264 players give up beyond.
_FULL_FRAME_LIMIT_PX = 4096


class Performer(Protocol):
    """What a performance asks of a portrait: what is known of the photo and its file, the model that draws it, and that model's state."""

    prepared: PreparedPortrait
    state: Any
    source: Path | None

    @property
    def model(self) -> FrameModel: ...


class Performance:
    """A portrait in motion. Iterate for :class:`Frame` objects, or :meth:`save` to a file. Frames are made on demand.

    Args:
        portrait: who.
        driver: what moves it. Its ``fps``, ``sound``, ``frame_count``, ``sources`` and ``inputs`` are the performance's, too; none of
            the files is ever written over.
        still_mouth: the mouth keeps what the photo shows, whatever the driver does.

    Raises:
        MediaError: the driver's motion does not fit the portrait.
    """

    def __init__(self, portrait: Performer, driver: Driver, *, still_mouth: bool = False) -> None:
        self.portrait, self.driver, self.still_mouth = portrait, driver, still_mouth
        self.fps, self.sound, self.frame_count = driver.fps, driver.sound, driver.frame_count
        self.sources = ({"portrait": portrait.source} if portrait.source else {}) | driver.sources
        self.inputs: tuple[PathLike, ...] = driver.inputs
        self._chunks = driver.chunks(portrait.prepared)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def chunks(self) -> Iterator[Motion]:
        """The motion in the portrait's pose frame, anew for each pass."""
        from triportrait.motion.retarget import hold_mouth

        own = self.portrait.prepared.motion
        return (hold_mouth(chunk, own) if self.still_mouth else chunk for chunk in self._chunks)

    def motion(self) -> Motion:
        """All rows in one :class:`Motion`."""
        return join_motion(self.chunks())

    def frames(self, debug: bool = False, full_frame: bool = False, background: Background | None = None) -> Iterator[Frame]:
        """Finished pictures, one by one.

        Args:
            debug: put source, PNCC, raw render and depth into ``Frame.debug``.
            full_frame: the whole photograph with the animated head in its place, instead of the crop.
            background: what stands behind the person; None keeps the photo's own.

        Raises:
            OptionError: ``debug`` with an avatar that has nothing to show there.
            EmptyMedia: there is no frame.
        """
        if debug and self.portrait.model.panel_head is None:
            raise OptionError("--debug-panel shows the head before torso and background, which this avatar draws in one; leave it out")
        return self._frames(debug, full_frame, background)

    def _frames(self, debug: bool, full_frame: bool, background: Background | None) -> Iterator[Frame]:
        prepared = self.portrait.prepared
        paste = PasteBack(prepared) if full_frame else None
        head = self.portrait.model.panel_head
        panels = _DebugPanels(prepared, head) if debug and head is not None else None
        index = 0
        scenes = background.frames(prepared.image.shape[0], self.fps) if background is not None else None
        for row, image, layer in self._pictures(scenes):
            extra = panels(row, layer, image) if panels and layer else {}
            yield Frame(paste(image) if paste else image, index / self.fps, extra)
            index += 1
        if not index:
            raise EmptyMedia(NOTHING)

    def _pictures(self, scenes: Iterator[Array] | None) -> Iterator[tuple[MotionFrame, Array, RenderedHead | None]]:
        """Motion rows, their crops, and the head layers that panels show."""
        model, state = self.portrait.model, self.portrait.state
        if self.still_mouth:
            state = model.with_still_mouth(state)
        return model.draw(state, chain.from_iterable(self.chunks()), scenes)

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
            marks: label, watermark and manifest, all on by default, and who answers for the video.
            crf: x264 quality, lower is better.
            progress: called after each frame.

        Raises:
            OutputError: the target cannot be written, or is a file that was read.
            OptionError: ``crf`` is out of range, the avatar has no debug panel, or the marks' maker or consent cannot be stated.
        """
        from triportrait import __version__
        from triportrait.media.video import VideoWriter, check_crf

        refuse_inputs(path, [*self.sources.values(), *self.inputs, self.sound, background.file if background is not None else None])
        check_crf(crf)
        marks = marks or Marks()
        account = marks.account()
        prepared = self.portrait.prepared
        height, width = prepared.photo.shape[:2] if full_frame else prepared.image.shape[:2]
        size = (width * 5, height) if debug_panel else (width, height)
        if max(size) > _FULL_FRAME_LIMIT_PX and full_frame:
            raise MediaError(
                f"the photo is {width} x {height} px; --full-frame writes up to {_FULL_FRAME_LIMIT_PX} px a side, use a smaller copy"
            )
        frames = self.frames(debug_panel, full_frame, background)
        finish = Finish(marks, size, account.number)
        target = Path(path)
        signer = self._signer(target, account) if marks.manifest else None
        writer = VideoWriter(
            target,
            size,
            self.fps,
            audio=self.sound,
            crf=crf,
            background=True,
            metadata={"comment": f"AI-generated, TriPortrait {__version__}"},
            before_commit=(lambda draft: signer.sign(draft, finish.payload)) if signer is not None else None,
        )
        with writer:
            for index, frame in enumerate(frames):
                image = np.hstack([*frame.debug.values(), frame.image]) if debug_panel else frame.image
                writer.write(finish(image))
                if progress:
                    progress("rendering", index + 1, self.frame_count)
        if signer is not None:
            signer.note_beside()
        return target

    def _signer(self, target: Path, account: Account) -> VideoSigner:
        """What can keep a video from being signed is tried before there is one."""
        from triportrait import __version__
        from triportrait.provenance.manifest import VideoSigner

        return VideoSigner(target, self.sources, target.name, f"TriPortrait {__version__}", account=account)


class _DebugPanels:
    """Source, PNCC, raw render and depth of one portrait's frames."""

    def __init__(self, portrait: PreparedPortrait, head: FullHead) -> None:
        from triportrait.face.pncc import PnccRenderer

        self._portrait = portrait
        self._size = portrait.image.shape[0]
        self._head = head
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
