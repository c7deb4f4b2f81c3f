"""A portrait in motion: frames one by one, or a marked video in a file."""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from triportrait.background import Background
from triportrait.composite.cut_out import straight
from triportrait.composite.fusion import PasteBack
from triportrait.concurrency import calm_libraries, in_order, thread_count
from triportrait.drivers import Progress
from triportrait.errors import EmptyMedia, MediaError, OptionError
from triportrait.files import make_folder, refuse_inputs
from triportrait.geometry.crops import resized
from triportrait.geometry.warp import of_head_alone
from triportrait.motion.timing import NOTHING, join_motion
from triportrait.provenance.maker import Account
from triportrait.provenance.marks import Finish, Marks
from triportrait.types import (
    CAMERA_DISTANCE_DM,
    Array,
    Driver,
    Frame,
    FrameModel,
    Motion,
    MotionFrame,
    PathLike,
    PreparedPortrait,
    RenderedHead,
    Sound,
)

if TYPE_CHECKING:
    from triportrait.provenance.manifest import VideoSigner

#: Frames of a piece of a video that can be resumed, and the ending of the folder that keeps the pieces.
PIECE_FRAMES, PIECES_SUFFIX = 100, ".parts"
#: Full photographs are written up to this side; H.264 players give up beyond.
_FULL_FRAME_LIMIT_PX = 4096


@dataclass(frozen=True, slots=True)
class _Look:
    """What a video shows, see :meth:`Performance.save`."""

    full_frame: bool
    debug_panel: bool
    background: Background | None


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
            background: what stands behind the person; None keeps the photo's own. Transparent frames carry their alpha.

        Raises:
            EmptyMedia: there is no frame.
            OptionError: panels or a background in the whole photograph, or panels with a transparent background.
        """
        _check_look(debug, full_frame, background)
        if background is not None and background.is_transparent:
            yield from self._timed(self._cut_out(self._rows(still_body=False)))
            return
        side = self.portrait.prepared.image.shape[0]
        scenes = background.frames(side, self.fps) if background is not None else None
        yield from self._timed(self._drawn(self._rows(still_body=full_frame), scenes, debug, full_frame))

    def _timed(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Frames with the moments to which they belong."""
        index = 0
        for frame in frames:
            yield replace(frame, time_s=index / self.fps)
            index += 1
        if not index:
            raise EmptyMedia(NOTHING)

    def _drawn(self, rows: Iterator[MotionFrame], scenes: Iterator[Array] | None, debug: bool, full_frame: bool) -> Iterator[Frame]:
        """Pictures of some rows, before scenes from where these stand."""
        paste = PasteBack(self.portrait.prepared) if full_frame else None
        with calm_libraries():
            for image, panels in self._pictures_with_panels(rows, scenes) if debug else self._pictures(rows, scenes):
                yield Frame(paste(image) if paste else image, 0.0, panels)

    def _cut_out(self, rows: Iterator[MotionFrame]) -> Iterator[Frame]:
        """Crops of some rows, with alpha."""
        model, state = self.portrait.model, self._state()
        with calm_libraries():
            for image, alpha in in_order(lambda row: straight(model.cut_out(state, row)), rows, thread_count()):
                yield Frame(image, 0.0, alpha=alpha)

    def _state(self) -> Any:
        state = self.portrait.state
        return self.portrait.model.with_still_mouth(state) if self.still_mouth else state

    def _rows(self, still_body: bool) -> Iterator[MotionFrame]:
        """The motion row by row. In the full photograph the body stands still: beyond the crop it is the photo's own."""
        for chunk in self.chunks():
            if still_body:
                warp = None if chunk.warp is None else of_head_alone(chunk.warp)
                chunk = chunk.with_rows(body=np.zeros((len(chunk), 4), np.float32), warp=warp)
            yield from chunk

    def _pictures(self, rows: Iterator[MotionFrame], scenes: Iterator[Array] | None) -> Iterator[tuple[Array, dict[str, Array]]]:
        """Crops, several at once where that is faster; no panels."""
        for _, image, _ in self.portrait.model.draw(self._state(), rows, scenes):
            yield image, {}

    def _pictures_with_panels(
        self, rows: Iterator[MotionFrame], scenes: Iterator[Array] | None
    ) -> Iterator[tuple[Array, dict[str, Array]]]:
        """Crops one by one, with source, PNCC, raw render and depth (Real3D-Portrait's Demo 4)."""
        model, state, source = self.portrait.model, self._state(), self.portrait.prepared.image
        for row in rows:
            image, layer = model.step(state, row, next(scenes) if scenes is not None else None)
            yield image, _panels(source, model.motion_picture(state, row), layer, row)

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
        resume: bool = False,
    ) -> Path:
        """Write a video; it appears whole or not at all.

        Args:
            path: target, ending in .mp4; with a transparent background in .webm (VP9), .mov (ProRes 4444) or .zip (PNG files).
            full_frame, background: see :meth:`frames`.
            debug_panel: source | PNCC | raw render | depth | final side by side.
            marks: label, watermark and manifest, all on by default, and who answers for the video.
            crf: x264's and VP9's quality, lower is better.
            progress: called after each frame.
            resume: finish the video in pieces of 100 frames, which lie in the folder ``<path>.parts`` until it is complete. After an
                interruption, whatever it was, the same call draws what is missing and nothing else.

        Raises:
            OutputError: the target cannot be written, is a file that was read, or carries no alpha where that is asked for.
            OptionError: ``crf`` is out of range, or the marks' maker or consent cannot be stated.
        """
        from triportrait import __version__

        sound = None if isinstance(self.sound, Sound) else self.sound
        refuse_inputs(path, [*self.sources.values(), *self.inputs, sound, background.file if background is not None else None])
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
        settings: dict[str, Any] = {
            "audio": self.sound,
            "crf": crf,
            "metadata": {"comment": f"AI-generated, TriPortrait {__version__}"},
            "before_commit": (lambda draft: signer.sign(draft, finish.payload)) if signer is not None else None,
        }
        is_transparent = background is not None and background.is_transparent
        if resume:
            look = _Look(full_frame, debug_panel, background)
            self._save_in_pieces(target, size, finish, look, settings.pop("crf"), progress, **settings)
            if signer is not None:
                signer.note_beside()
            return target
        write = self._write_transparent if is_transparent else self._write
        with write(target, size, finish, **settings) as put:
            for index, frame in enumerate(frames):
                put(frame)
                if progress:
                    progress("rendering", index + 1, self.frame_count)
        if signer is not None:
            signer.note_beside()
        return target

    @calm_libraries()
    def _save_in_pieces(
        self,
        target: Path,
        size: tuple[int, int],
        finish: Finish,
        look: _Look,
        crf: int,
        progress: Progress | None,
        **settings: Any,
    ) -> None:
        """Draw the pieces that are not there yet, then join all."""
        from triportrait.media.segments import frames_in, join_segments
        from triportrait.media.transparent import check_transparent_output
        from triportrait.media.video import check_video_output

        _check_look(look.debug_panel, look.full_frame, look.background)
        is_transparent = look.background is not None and look.background.is_transparent
        if is_transparent:
            check_transparent_output(target, crf)
        else:
            check_video_output(target)
        folder = target.with_name(f"{target.name}{PIECES_SUFFIX}")
        make_folder(folder)
        rows, done = self._rows(still_body=look.full_frame), 0
        side = len(self.portrait.prepared.image)
        scenes = None if look.background is None or is_transparent else look.background.frames(side, self.fps)
        write = self._write_transparent if is_transparent else self._write
        pieces: list[Path] = []
        key = b""
        while batch := list(islice(rows, PIECE_FRAMES)):
            key = key or self._key(batch[0], size, look, finish, crf)
            piece = folder / f"{len(pieces):06d}-{_fingerprint(key, batch)}{target.suffix.lower()}"
            pieces.append(piece)
            if frames_in(piece) == len(batch):
                done += len(batch)
                if scenes is not None:
                    deque(islice(scenes, len(batch)), maxlen=0)
                if progress:
                    progress("rendering", done, self.frame_count)
                continue
            if is_transparent:
                frames = self._cut_out(iter(batch))
            else:
                frames = self._drawn(iter(batch), scenes, look.debug_panel, look.full_frame)
            with write(piece, size, finish, crf=crf) as put:
                for frame in frames:
                    put(frame)
                    done += 1
                    if progress:
                        progress("rendering", done, self.frame_count)
        if not pieces:
            raise EmptyMedia(NOTHING)
        join_segments(pieces, target, self.fps, **settings)
        shutil.rmtree(folder, ignore_errors=True)

    def _key(self, row: MotionFrame, size: tuple[int, int], look: _Look, finish: Finish, crf: int) -> bytes:
        """What all pieces depend on besides their rows. One picture stands for the portrait, the avatar and its weights."""
        from triportrait import __version__

        picture = next(self._drawn(iter([row]), None, False, False)).image
        photo = self.portrait.prepared.photo if look.full_frame else None
        scene = None if look.background is None else look.background.fingerprint
        parts = (__version__, size, self.fps, look.debug_panel, look.full_frame, scene, finish.fingerprint, crf, picture, photo)
        return _fingerprint(b"", parts).encode()

    @contextmanager
    def _write(self, target: Path, size: tuple[int, int], finish: Finish, **settings: Any) -> Iterator[Callable[[Frame], None]]:
        """What takes marked frames one by one; the file is there when the block ends well."""
        from triportrait.media.video import VideoWriter

        with VideoWriter(target, size, self.fps, background=True, **settings) as writer:
            yield lambda frame: writer.write(finish(_side_by_side(frame)))

    @contextmanager
    def _write_transparent(self, target: Path, size: tuple[int, int], finish: Finish, **settings: Any) -> Iterator[Callable[[Frame], None]]:
        """The same for frames with alpha."""
        from triportrait.media.transparent import TransparentWriter

        def put(frame: Frame) -> None:
            assert frame.alpha is not None, "there is no scene"
            writer.write(*finish.without_scene(frame.image, frame.alpha))

        with TransparentWriter(target, size, self.fps, **settings) as writer:
            yield put

    def _signer(self, target: Path, account: Account) -> VideoSigner:
        """What can keep a video from being signed is tried before there is one."""
        from triportrait import __version__
        from triportrait.provenance.manifest import VideoSigner

        return VideoSigner(target, self.sources, target.name, f"TriPortrait {__version__}", account=account)


def _check_look(debug: bool, full_frame: bool, background: Background | None) -> None:
    """OptionError for what one video cannot show together."""
    if full_frame and (debug or background is not None):
        raise OptionError("the whole photograph has no panels and keeps its own background; leave out full_frame, or the others")
    if debug and background is not None and background.is_transparent:
        raise OptionError("--background transparent shows the person alone; leave out --debug-panel and --full-frame")


def _side_by_side(frame: Frame) -> Array:
    return np.hstack([*frame.debug.values(), frame.image])


def _fingerprint(key: bytes, value: Any) -> str:
    """32 hexadecimal digits that tell values apart: arrays, numbers, texts, and sequences and records of them."""
    found = hashlib.blake2b(key, digest_size=16)

    def take(part: Any) -> None:
        if isinstance(part, np.ndarray):
            found.update(f"{part.dtype} {part.shape}".encode())
            found.update(np.ascontiguousarray(part).data)
        elif is_dataclass(part):
            take([getattr(part, one.name) for one in fields(part)])
        elif isinstance(part, list | tuple):
            found.update(f"{len(part)}".encode())
            for one in part:
                take(one)
        else:
            found.update(repr(part).encode())

    take(value)
    return found.hexdigest()


def _panels(source: Array, pncc: Array, head: RenderedHead, row: MotionFrame) -> dict[str, Array]:
    """Source, PNCC, raw render and depth of one frame, all of the source's size; nearer is brighter."""
    coloured = ((pncc.transpose(1, 2, 0) + 1.0) * 127.5).astype(np.uint8)
    raw = np.clip(head.rgb * 255.0 + 0.5, 0, 255).astype(np.uint8)
    near = CAMERA_DISTANCE_DM - head.depth - row.translation[2]
    level = np.where(np.isfinite(head.depth), np.clip((near + 1.2) / 2.0, 0.05, 1.0), 0.0)
    depth = np.repeat((level * 255).astype(np.uint8)[..., None], 3, axis=2)
    shown = {"pncc": coloured, "raw": raw, "depth": depth}
    return {"source": source} | {name: resized(picture, len(source)) for name, picture in shown.items()}
