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
from triportrait.media.sound_track import AAC, SoundTrack, open_sound
from triportrait.types import Array, Sound

_WRITE_ERRORS = (av.FFmpegError, OSError)


def frames_in(segment: Path) -> int:
    """How many frames a piece of ours holds; 0 where it is none, or damaged."""
    try:
        with open_container(segment) as container:
            stream = video_stream(container)
            return 0 if stream is None else stream.frames
    except MediaError:
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
    """Join pieces that :class:`triportrait.media.video.VideoWriter` wrote alike, without encoding them again; sound is encoded here.

    Args:
        segments: without sound, in order.
        path: MP4 to write; it appears whole or not at all.
        fps: of the pieces.
        audio: a file, or sound; cut or filled with silence to the length of the pictures.
        metadata: tags.
        before_commit: called with the complete file just before it takes its name.

    Raises:
        OutputError: the target cannot be written, or the pieces do not fit each other.
        MediaError: a piece or the sound cannot be read.
    """
    sound = open_sound(audio, 16_000, AAC)
    output = AtomicFile(path)
    try:
        with av.open(os.fspath(output.part), "w", format="mp4", container_options={"movflags": "+faststart"}) as target:
            target.metadata.update(metadata or {})
            _join(segments, target, Fraction(fps).limit_denominator(1001), sound, os.fspath(path))
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
    sound: tuple[Iterator[Array], int, int] | None,
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
                track = None if sound is None else SoundTrack(target, AAC, *sound)
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
            done += piece.frames
            if track is not None:
                track.advance(done / rate)
    if track is not None:
        track.finish(done / rate)
