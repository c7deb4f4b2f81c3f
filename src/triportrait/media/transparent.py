"""Pictures with alpha out: VP9 in WebM, ProRes 4444 in MOV, or PNG files in a ZIP, with sound in step."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Protocol, Self, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from triportrait.errors import EmptyMedia, MediaError, MissingPart, OptionError, OutputError
from triportrait.files import AtomicFile
from triportrait.media.sound_track import OPUS, PCM, SoundBlocks, SoundCodec, SoundTrack, open_sound
from triportrait.types import Array, PathLike, Sound

_WRITE_ERRORS = (av.FFmpegError, OSError)
#: What a quality is where none is asked for; see ``media.video.VideoWriter``.
_DEFAULT_CRF = 18


@dataclass(frozen=True, slots=True)
class _Coding:
    """How a kind of file is encoded; FFmpeg's names."""

    container: str
    video: str
    pixels: str
    options: dict[str, str]
    sound: SoundCodec
    has_crf: bool


_CODINGS = {
    ".webm": _Coding(
        "webm", "libvpx-vp9", "yuva420p", {"b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1", "auto-alt-ref": "0"}, OPUS, True
    ),
    # The 5th of ProRes's profiles is 4444.
    ".mov": _Coding("mov", "prores_ks", "yuva444p10le", {"profile": "4", "alpha_bits": "16"}, PCM, False),
}
_ENDINGS = (*_CODINGS, ".zip")
#: PNG files carry a fixed date: the same frames give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def check_transparent_output(path: PathLike, crf: int = _DEFAULT_CRF) -> None:
    """What would keep :class:`TransparentWriter` from writing there, before any work is done.

    Raises:
        OutputError: an ending of a file that carries no alpha, or a target that cannot be written.
        OptionError: a quality for a file that has none, or out of range.
        MissingPart: the build of FFmpeg has no encoder.
    """
    ending = Path(path).suffix.lower()
    if ending not in _ENDINGS:
        raise OutputError(
            f"'{os.fspath(path)}' cannot be transparent; name it .webm (VP9), .mov (ProRes 4444) or .zip (PNG files), "
            "or choose another background"
        )
    coding = _CODINGS.get(ending)
    if crf != _DEFAULT_CRF and (coding is None or not coding.has_crf):
        raise OptionError(f"--crf does nothing for {ending} files, which lose next to nothing; leave it out")
    if not 0 <= crf <= 51:
        raise OptionError(f"--crf is {crf}; use a number from 0 to 51")
    if coding is not None:
        for name in (coding.video, coding.sound.name):
            try:
                av.Codec(name, "w")
            except (av.FFmpegError, ValueError):
                raise MissingPart(
                    f"PyAV has no encoder {name} here; run 'pip install --force-reinstall av' for a build that has."
                ) from None
    AtomicFile(path).discard()


class _Target(Protocol):
    """What a writer fills."""

    def write(self, image: Array, alpha: Array, index: int) -> None: ...

    def finish(self, frames: int) -> None: ...

    def close(self) -> None: ...


class TransparentWriter:
    """Write frames with alpha, and sound in step with them, to a file that appears whole or not at all; a context manager.

    Args:
        path: target, ending in .webm, .mov or .zip.
        size: (width, height) of the frames. Odd sides are made even by a transparent row or column, but not in a .zip.
        fps: frame rate.
        audio: None, a file, or sound; cut or filled with silence to the length of the pictures.
        crf: quality of a .webm, 0 to 51, lower is better; see :func:`check_transparent_output`.
        metadata: tags, for .webm and .mov.
        before_commit: called with the complete file just before it takes its name; when it raises there is no file.

    Raises:
        OutputError: the target cannot be written, at construction, or its disk fills up later.
        OptionError, MissingPart: see :func:`check_transparent_output`.
        MediaError: the sound's file cannot be read.
        EmptyMedia: no frame was written when the block ended.
    """

    def __init__(
        self,
        path: PathLike,
        size: tuple[int, int],
        fps: float = 25.0,
        *,
        audio: PathLike | Sound | None = None,
        crf: int = _DEFAULT_CRF,
        metadata: Mapping[str, str] | None = None,
        before_commit: Callable[[Path], None] | None = None,
    ) -> None:
        check_transparent_output(path, crf)
        self.path, self.size, self.frames_written = os.fspath(path), size, 0
        self._before_commit = before_commit
        coding = _CODINGS.get(Path(path).suffix.lower())
        rate = Fraction(fps).limit_denominator(1001)
        sound = open_sound(audio, 0, PCM if coding is None else coding.sound)
        self._output = AtomicFile(path)
        try:
            self._target: _Target
            if coding is None:
                self._target = _PngArchive(self._output.part, rate, sound)
            else:
                self._target = _Film(self._output.part, coding, size, rate, sound, crf, metadata or {})
        except BaseException as error:
            self._output.discard()
            if isinstance(error, _WRITE_ERRORS):
                raise self._output.error(error) from error
            raise

    def write(self, image: Array, alpha: Array) -> None:
        """Append one frame: uint8 RGB [h, w, 3] not multiplied by alpha, and alpha uint8 [h, w].

        Raises:
            OutputError: writing failed.
            ValueError: another shape or type than announced.
        """
        width, height = self.size
        if any(part.dtype != np.uint8 for part in (image, alpha)) or (image.shape, alpha.shape) != ((height, width, 3), (height, width)):
            raise ValueError(f"frame is {image.dtype} {image.shape} with alpha {alpha.dtype} {alpha.shape}, expected uint8 of {self.size}")
        try:
            self._target.write(image, alpha, self.frames_written)
        except _WRITE_ERRORS as error:
            raise self._output.error(error) from error
        self.frames_written += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            with contextlib.suppress(*_WRITE_ERRORS):
                self._target.close()
            self._output.discard()

    def _finish(self) -> None:
        if not self.frames_written:
            raise EmptyMedia(f"'{self.path}' was not written: there was not a single frame.")
        try:
            self._target.finish(self.frames_written)
        except _WRITE_ERRORS as error:
            raise self._output.error(error) from error
        if self._before_commit is not None:
            self._before_commit(self._output.part)
        self._output.commit()


class _Film:
    """A container with a video codec that keeps alpha."""

    def __init__(
        self, part: Path, coding: _Coding, size: tuple[int, int], rate: Fraction, sound: Any, crf: int, metadata: Mapping[str, str]
    ) -> None:
        self._coding, self._rate = coding, rate
        self._container = av.open(os.fspath(part), "w", format=coding.container)
        self._container.metadata.update(metadata)
        stream = cast(av.video.stream.VideoStream, self._container.add_stream(coding.video, rate=rate))
        width, height = size
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, coding.pixels
        stream.options = {**coding.options, **({"crf": str(crf)} if coding.has_crf else {})}
        context = stream.codec_context
        context.thread_count = 2
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = ColorRange.MPEG
        self._video = stream
        self._track = None if sound is None else SoundTrack(self._container, coding.sound, *sound)
        self._reformatter = VideoReformatter()

    def write(self, image: Array, alpha: Array, index: int) -> None:
        rgba = np.dstack([image, alpha])
        height, width = alpha.shape
        if height % 2 or width % 2:
            rgba = np.pad(rgba, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            rgba[height:, :, 3] = rgba[:, width:, 3] = 0
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(rgba, format="rgba"),
            format=self._coding.pixels,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC,
        )
        frame.pts, frame.time_base = index, 1 / self._rate
        self._container.mux(self._video.encode(frame))
        if self._track is not None:
            self._track.advance((index + 1) / self._rate)

    def finish(self, frames: int) -> None:
        self._container.mux(self._video.encode(None))
        if self._track is not None:
            self._track.finish(frames / self._rate)
        self._container.close()

    def close(self) -> None:
        self._container.close()


def pictures_in(archive: Path) -> int:
    """How many frames a .zip of ours holds; 0 where it is none, or damaged."""
    try:
        with zipfile.ZipFile(archive) as file:
            return sum(name.endswith(".png") for name in file.namelist())
    except (zipfile.BadZipFile, OSError):
        return 0


def join_archives(pieces: Sequence[Path], part: Path, fps: float, audio: PathLike | Sound | None) -> None:
    """Put the frames of several .zip files of ours, without sound, into one; sound is added here.

    Args:
        pieces: in order.
        part: is written.
        fps: of the pieces.
        audio: a file, or sound; cut or filled with silence to the length of the pictures.

    Raises:
        MediaError: a piece or the sound cannot be read.
        OSError: the file cannot be written.
    """
    archive, count = _PngArchive(part, Fraction(fps).limit_denominator(1001), open_sound(audio, 0, PCM)), 0
    try:
        for piece in pieces:
            try:
                with zipfile.ZipFile(piece) as source:
                    for name in sorted(source.namelist()):
                        archive.add(source.read(name), count)
                        count += 1
            except zipfile.BadZipFile:
                raise MediaError(f"'{piece}' is no piece of a video; remove its folder and begin again.") from None
        archive.finish(count)
    finally:
        archive.close()


class _PngArchive:
    """``000000.png`` and so on, and ``sound.wav``, stored in a ZIP as they are: PNG files do not become smaller."""

    def __init__(self, part: Path, rate: Fraction, sound: Any) -> None:
        self._archive = zipfile.ZipFile(part, "w", zipfile.ZIP_STORED)
        self._rate = rate
        self._sound = None if sound is None else (SoundBlocks(sound[0], sound[2]), *sound[1:])
        # An archive takes one file at a time, so the sound waits beside it.
        self._samples, self._sent = TemporaryFile(prefix="triportrait-sound-"), 0

    def write(self, image: Array, alpha: Array, index: int) -> None:
        from PIL import Image

        buffer = io.BytesIO()
        Image.fromarray(np.dstack([image, alpha])).save(buffer, "PNG", compress_level=3)
        self.add(buffer.getvalue(), index)

    def add(self, picture: bytes, index: int) -> None:
        """A frame as a PNG file, and the sound up to its end."""
        self._archive.writestr(zipfile.ZipInfo(f"{index:06d}.png", _DATE), picture)
        if self._sound is not None:
            blocks, rate_hz, _ = self._sound
            samples = blocks.take(round((index + 1) / self._rate * rate_hz) - self._sent)
            self._sent += len(samples)
            self._samples.write((np.clip(samples, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes())

    def finish(self, frames: int) -> None:
        if self._sound is not None:
            _, rate_hz, channels = self._sound
            size = min(2 * channels * self._sent, 2**32 - 37)  # a WAV file that says less than it has is still played
            head = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt "
            head += struct.pack("<IHHIIHH", 16, 1, channels, rate_hz, 2 * channels * rate_hz, 2 * channels, 16) + b"data"
            self._samples.seek(0)
            with self._archive.open(zipfile.ZipInfo("sound.wav", _DATE), "w", force_zip64=True) as file:
                file.write(head + struct.pack("<I", size))
                while piece := self._samples.read(1 << 20):
                    file.write(piece)
        self._archive.close()

    def close(self) -> None:
        self._samples.close()
        self._archive.close()
