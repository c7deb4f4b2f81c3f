"""The one boundary where untrusted audio and video is opened: white lists, limits, each failure as one sentence."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import av

from triportrait.errors import MediaError
from triportrait.files import check_readable

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

#: Container formats that are opened. No playlist (HLS, ffconcat, SDP): those make FFmpeg read other files.
#: What a sentence calls them -> FFmpeg's names.
_FORMATS = {
    "MP4, MOV, M4A": "mov,mp4,m4a,3gp,3g2,mj2",
    "MKV, WebM": "matroska,webm",
    "AVI": "avi",
    "WAV": "wav",
    "MP3": "mp3",
    "FLAC": "flac",
    "OGG": "ogg",
    "AAC": "aac",
    "AIFF": "aiff",
    "CAF": "caf",
    "W64": "w64",
    "AU": "au",
    "AMR": "amr,amrnb,amrwb",
}
FORMATS = ",".join(_FORMATS.values())
_FORMAT_NAMES = " or ".join(", ".join(_FORMATS).rsplit(", ", 1))

#: Damaged files make PyAV raise these, besides its own errors (seen with mutated files).
DECODER_ERRORS: tuple[type[Exception], ...] = (
    av.FFmpegError,
    ArithmeticError,
    AssertionError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    ValueError,
)


@contextlib.contextmanager
def open_container(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """Open an audio or video file for reading.

    Raises:
        MediaError: missing, unreadable, of a format that is not on the list, damaged or cut off.
    """
    absolute = check_readable(path)
    try:
        container = av.open(
            os.fspath(absolute),
            container_options={"format_whitelist": FORMATS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except DECODER_ERRORS as error:
        raise MediaError(_unopened(os.fspath(absolute), path)) from error
    try:
        yield container
    finally:
        container.close()


def _unopened(absolute: str, path: str | os.PathLike[str]) -> str:
    with open(absolute, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3":
        return f"'{path}' is a damaged or cut-off recording (its index is missing); export or copy it again."
    return f"'{path}' is not audio or video of a kind that is read here; convert it to {_FORMAT_NAMES}."


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first moving picture; a cover picture inside a sound file is none."""
    for stream in container.streams.video:
        if not stream.disposition & stream.disposition.attached_pic:
            return stream
    return None


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The first sound track, or None."""
    return next(iter(container.streams.audio), None)


def stream_start_s(stream: VideoStream | AudioStream) -> float:
    """When the header says the stream starts, in seconds; 0 when it does not say."""
    return float(stream.start_time * stream.time_base) if stream.start_time and stream.time_base else 0.0


def stream_seconds(container: InputContainer, stream: VideoStream | AudioStream) -> float:
    """The length that the header announces, in seconds; 0 when it does not."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else 0.0
