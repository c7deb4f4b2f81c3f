"""A long video in pieces: each is a whole file, which outlives a killed process, and they are joined without encoding them again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av

from triportrait.errors import MediaError, OutputError
from triportrait.files import AtomicFile
from triportrait.media.containers import open_container, video_stream
from triportrait.media.sound_track import AAC, OPUS, PCM, SoundCodec, SoundTrack, open_sound
from triportrait.media.transparent import join_archives, pictures_in
from triportrait.types import Array, Sound

_WRITE_ERRORS = (av.FFmpegError, OSError)
#: Ending -> FFmpeg's name of the container, its options, the coding of sound, the rate of sound that has none of its own (0 = any), and
#: tags of the pictures, which tell players of WebM that there is alpha.
_KINDS: dict[str, tuple[str, dict[str, str], SoundCodec, int, dict[str, str]]] = {
    ".mp4": ("mp4", {"movflags": "+faststart"}, AAC, 16_000, {}),
    ".mov": ("mov", {}, PCM, 0, {}),
    ".webm": ("webm", {}, OPUS, 0, {"alpha_mode": "1"}),
}


def frames_in(segment: Path) -> int:
    """How many frames a piece of ours holds; 0 where it is none, or damaged."""
    if segment.suffix == ".zip":
        return pictures_in(segment)
    try:
        with open_container(segment) as container:
            stream = video_stream(container)
            if stream is None:
                return 0
            # WebM does not say how many there are.
            return stream.frames or sum(packet.pts is not None for packet in container.demux(stream))
    except (MediaError, av.FFmpegError):
        return 0


def join_segments(
    segments: Sequence[Path],
    path: str | os.PathLike[str],
    fps: float,
    *,
    audio: str | os.PathLike[str] | Sound | None = None,
    metadata: Mapping[str, str] | None = None,
    before_commit: Callable[[Path], None] | None = None,
) -> None:
    """Join pieces that one writer of ours wrote alike, without encoding them again; sound is encoded here.

    Writers are :class:`triportrait.media.video.VideoWriter` and :class:`triportrait.media.transparent.TransparentWriter`.

    Args:
        segments: without sound, in order.
        path: file to write, of the pieces' kind; it appears whole or not at all.
        fps: of the pieces.
        audio: a file, or sound; cut or filled with silence to the length of the pictures.
        metadata: tags, but not of a .zip.
        before_commit: called with the complete file just before it takes its name.

    Raises:
        OutputError: the target cannot be written, or the pieces do not fit each other.
        MediaError: a piece or the sound cannot be read.
    """
    ending = Path(path).suffix.lower()
    sound = None if ending == ".zip" else open_sound(audio, _KINDS[ending][3], _KINDS[ending][2])
    output = AtomicFile(path)
    try:
        if ending == ".zip":
            join_archives(segments, output.part, fps, audio)
        else:
            container, options, codec, _, tags = _KINDS[ending]
            with av.open(os.fspath(output.part), "w", format=container, container_options=options) as target:
                target.metadata.update(metadata or {})
                _join(segments, target, Fraction(fps).limit_denominator(1001), (codec, sound), tags, os.fspath(path))
        if before_commit is not None:
            before_commit(output.part)
        output.commit()
    except _WRITE_ERRORS as error:
        raise output.error(error) from error
    finally:
        output.discard()


def _join(
    segments: Sequence[Path],
    target: av.container.OutputContainer,
    rate: Fraction,
    sound: tuple[SoundCodec, tuple[Iterator[Array], int, int] | None],
    tags: Mapping[str, str],
    shown: str,
) -> None:
    stream = track = headers = None
    done = 0
    for segment in segments:
        with open_container(segment) as source:
            piece = video_stream(source)
            if piece is None or piece.time_base is None:
                raise MediaError(f"'{segment}' is no piece of a video; remove its folder and begin again.")
            if stream is None:
                stream, headers = target.add_stream_from_template(piece), piece.codec_context.extradata
                stream.metadata.update(tags)
                codec, blocks = sound
                track = None if blocks is None else SoundTrack(target, codec, *blocks)
            if piece.codec_context.extradata != headers:
                raise OutputError(f"'{shown}' cannot be joined: '{segment}' was encoded otherwise; remove its folder and begin again.")
            # Time goes on behind the pieces before; decoding times of neighbours fit, because all have the same delay.
            offset = round(done / rate / piece.time_base)
            for packet in source.demux(piece):
                if packet.dts is None or packet.pts is None:  # the end of the file
                    continue
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                packet.stream = stream
                target.mux(packet)
                done += 1
            if track is not None:
                track.advance(done / rate)
    if track is not None:
        track.finish(done / rate)
