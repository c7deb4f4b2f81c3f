"""Video in and out: frames at any rate, streaming, upright; H.264 + AAC in MP4, sound and pictures in step."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import queue
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from triportrait.concurrency import thread_count
from triportrait.errors import EmptyMedia, MediaError, MissingPart, OptionError, OutputError, TooLarge
from triportrait.files import AtomicFile
from triportrait.media.containers import (
    DECODER_ERRORS,
    audio_stream,
    decoded_frames,
    open_container,
    stream_seconds,
    video_stream,
)
from triportrait.media.sound_track import AAC, SoundTrack, open_sound
from triportrait.media.ticks import constant_rate, from_start, native_ticks
from triportrait.types import Array, Sound

logger = logging.getLogger(__name__)

#: What is decoded at most per frame: DCI 4K with some margin in height.
MAX_FRAME_PIXELS = 4096 * 2304
#: Decoders that are used; the rest of FFmpeg's some hundred see no data.
_CODECS = frozenset(
    "h264 hevc av1 libdav1d libaom-av1 vp8 vp9 libvpx libvpx-vp9 mpeg4 mpeg1video mpeg2video mjpeg prores dnxhd ffv1 "
    "theora h263 rawvideo".split()
)
#: Up to here, half a minute in full HD, samples of a video are found by decoding all of it.
_MOST_DECODED_PIXELS = 2_000_000_000
#: Frames that are decoded at most on the way to a sample; x264 sets a key frame after 250.
_LONGEST_LEAD_FRAMES = 260
_MOST_DECODER_THREADS = 4
_WRITE_ERRORS = (av.FFmpegError, OSError)


class VideoReader:
    """A video file, checked at construction (its first frame is decoded). Can be iterated any number of times.

    Args:
        path: MP4, MOV, MKV, WebM, AVI or OGG.

    Attributes:
        size: (width, height) in pixels as shown: after rotation, with square pixels.
        fps: the average frame rate.
        seconds: length as the header announces it; 0 when unknown.
        has_audio: whether there is a sound track.

    Raises:
        MediaError: missing, unreadable, not media, without pictures, damaged or cut off.
        EmptyMedia: no frame in it.
        TooLarge: more than ``MAX_FRAME_PIXELS`` per frame.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._iterations: weakref.WeakSet[Generator[tuple[int, Array]]] = weakref.WeakSet()
        with open_container(path) as container:
            stream = self._checked_stream(container)
            rate = stream.average_rate or stream.guessed_rate
            # Time stamps rule; the rate only serves files without any, and damaged headers announce absurd ones.
            self.fps = float(rate) if rate and 0.1 <= rate <= 1000 else 25.0
            self.seconds = stream_seconds(container, stream)
            self._announced_frames = stream.frames
            self.has_audio = audio_stream(container) is not None
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise EmptyMedia(f"'{path}' is a video without a single frame; give another one.")
            frame = first[0]
            self._first_s = float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else 0.0
            width, height = _square_pixel_size(frame, stream.sample_aspect_ratio)
            self._quarter_turns = round(frame.rotation / 90) % 4
            self._unturned_size = width, height
            self.size = (height, width) if self._quarter_turns % 2 else (width, height)

    @property
    def frame_count(self) -> int:
        """How many frames the header announces or its length implies: an estimate for progress bars, at least 1."""
        return max(1, self._announced_frames or round(self.seconds * self.fps))

    def frames(
        self, fps: float | None = 25.0, max_side: int | None = None, start_s: float = 0.0, seconds: float | None = None
    ) -> Iterator[tuple[int, Array]]:
        """Decode as a stream: (index, uint8 RGB [h, w, 3]).

        With ``fps`` each source frame is placed by its time stamp on the nearest tick ``index / fps``, counted from the
        first frame; where several meet the nearest stays, empty ticks repeat the frame before. So variable rates come
        out constant, and a new frame appears within half a tick of the time it was recorded for.

        Args:
            fps: wanted frame rate; None yields each source frame once.
            max_side: frames whose longer side exceeds this are scaled down to it.
            start_s: where to start, in seconds from the first frame; tick 0 is there. Nothing long before it is decoded.
            seconds: length of what is wanted; None goes on to the end.

        Raises:
            MediaError: the file is damaged so that no frame decodes. If only its end is missing, a warning is logged.
        """
        if fps is not None and not fps > 0:
            raise ValueError(f"fps is {fps}, expected a positive number")
        if start_s < 0 or (seconds is not None and not seconds > 0):
            raise ValueError(f"start_s is {start_s} and seconds {seconds}, expected a time in the video and a positive length")
        iteration = self._frames(fps, max_side, start_s, seconds)
        self._iterations.add(iteration)
        return iteration

    def _frames(self, fps: float | None, max_side: int | None, start_s: float, seconds: float | None) -> Generator[tuple[int, Array]]:
        limit = None if seconds is None else max(1, round(seconds * (fps or self.fps)))
        with open_container(self.path) as container:
            decoded = self._decoded(container, self._checked_stream(container), start_s)
            if start_s > 0:
                decoded = from_start(decoded, 0.5 / (fps or self.fps))
            ticks = native_ticks(decoded) if fps is None else constant_rate(decoded, fps, 1.0 / self.fps, self.path)
            reformatter = VideoReformatter()
            index = 0
            for frame, repeats in ticks:
                image = self._to_rgb(frame, reformatter, max_side)
                for repeat in range(repeats):
                    # Whoever gets a frame may draw on it, so a repeated one is a copy.
                    yield index, image if repeat == repeats - 1 else image.copy()
                    index += 1
                    if index == limit:
                        return
            if index == 0:
                raise EmptyMedia(f"'{self.path}' is a video without a single frame; give another one.")

    def sampled(self, limit: int, run_frames: int = 10) -> Iterator[Array]:
        """At most ``limit`` source frames from the whole file, in runs of neighbours: uint8 RGB [h, w, 3].

        A short video is given whole. Of a longer one runs are taken at even distances; where decoding all of it would take
        long, each run begins at the key frame before its place. Time and memory have bounds whatever the file's length.

        Raises:
            MediaError: the file is damaged so that no frame decodes.
        """
        count = self.frame_count
        places = max(1, limit // run_frames)
        is_costly = count * self.size[0] * self.size[1] > _MOST_DECODED_PIXELS
        reformatter = VideoReformatter()
        with open_container(self.path) as container:
            stream = self._checked_stream(container)
            if is_costly:
                chosen = self._runs(container, stream, places, run_frames)
            else:
                every = self._decoded(container, stream)
                starts = {round(place * count / places) + step for place in range(places) for step in range(run_frames)}
                chosen = (frame for index, (frame, _, _) in enumerate(every) if count <= limit or index in starts)
            for frame in itertools.islice(chosen, limit):
                yield self._to_rgb(frame, reformatter, None)

    def _runs(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream, places: int, run_frames: int
    ) -> Iterator[av.VideoFrame]:
        """Runs of frames at even distances, none of them twice, each from the key frame before its place."""
        last_s = -math.inf
        for place in range(places):
            start_s = place * self.seconds / places
            taken = 0
            for frame, time_s, _ in itertools.islice(self._decoded(container, stream, start_s), _LONGEST_LEAD_FRAMES):
                if start_s + time_s > last_s:
                    last_s = start_s + time_s
                    taken += 1
                    yield frame
                    if taken == run_frames:
                        break

    def __iter__(self) -> Iterator[tuple[int, Array]]:
        return self.frames()

    def close(self) -> None:
        """End the iterations that were left unfinished, and close their files."""
        for iteration in list(self._iterations):
            iteration.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked_stream(self, container: av.container.InputContainer) -> av.video.stream.VideoStream:
        stream = video_stream(container)
        if stream is None:
            raise MediaError(f"'{self.path}' has no pictures in it; give a video.")
        context = stream.codec_context
        if context is None or context.name not in _CODECS:
            raise MediaError(f"'{self.path}' holds video of a kind that is not read here; convert it to H.264 in MP4.")
        if context.width * context.height > MAX_FRAME_PIXELS:
            raise TooLarge(f"'{self.path}' has frames of {context.width} x {context.height} pixels; scale it to 4K.")
        # The header is checked above; this stops a stream that grows midway.
        context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        context.thread_type = "AUTO"
        context.thread_count = min(_MOST_DECODER_THREADS, thread_count())
        return stream

    def _decoded(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream, from_s: float = 0.0
    ) -> Iterator[tuple[av.VideoFrame, float, float]]:
        """(frame, seconds from ``from_s`` after the first frame, its duration or 0), in the order shown; damaged packets are skipped.

        With ``from_s`` the first frames may lie before it: decoding starts at a key frame.
        """
        damaged = 0
        count = 0
        start_s = 0.0
        last_s = -1.0 / self.fps
        try:
            if from_s > 0:
                start_s, last_s = self._first_s + from_s, -math.inf
                assert stream.time_base is not None, "streams of an opened file have one"
                container.seek(int(start_s / stream.time_base), stream=stream, backward=True)
            for frame in decoded_frames(container, stream):
                if frame is None:
                    damaged += 1
                    continue
                unit_s = frame.time_base if frame.pts is not None else None
                time_s = float(frame.pts * unit_s) if frame.pts is not None and unit_s else None
                if count == 0 and not from_s:
                    start_s = time_s or 0.0
                # Time never runs backwards; a frame without a stamp follows at the average rate.
                if time_s is None:
                    time_s = max(last_s, -1.0 / self.fps) + 1.0 / self.fps
                else:
                    time_s = max(time_s - start_s, last_s)
                duration_s = float(frame.duration * unit_s) if unit_s and frame.duration else 0.0
                count += 1
                last_s = time_s
                yield frame, time_s, duration_s
        except DECODER_ERRORS:  # no way to the moment asked for, or time stamps that are no numbers
            damaged += 1
        if damaged and not count:
            raise MediaError(f"The pictures of '{self.path}' are damaged or cut off; export or copy it again.")
        if damaged or (self._announced_frames and not from_s and count < 0.95 * self._announced_frames):
            logger.warning(
                "'%s' is damaged or cut off: %d of %s frames could be decoded, the rest is left out.",
                self.path,
                count,
                self._announced_frames or "an unknown number of",
            )

    def _to_rgb(self, frame: av.VideoFrame, reformatter: VideoReformatter, max_side: int | None) -> Array:
        width, height = self._unturned_size
        if max_side is not None and max(width, height) > max_side:
            scale = max_side / max(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        same_size = (width, height) == (frame.width, frame.height)
        rgb = reformatter.reformat(
            frame,
            width,
            height,
            # Planar, as accurate rounding is twice as fast there as in "rgb24"; without that rounding a photograph
            # comes out one level too dark and luma loses 11 dB.
            "gbrp",
            src_colorspace=_colour_matrix(frame),
            interpolation=Interpolation.ACCURATE_RND | (Interpolation.BICUBIC if same_size else Interpolation.AREA),
        )
        image = rgb.to_ndarray()
        # MP4's display matrix turns counter-clockwise, as numpy does.
        return np.ascontiguousarray(np.rot90(image, self._quarter_turns)) if self._quarter_turns else image


def _square_pixel_size(frame: av.VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height of a frame once its pixels are square (anamorphic video is widened)."""
    if not aspect or not Fraction(1, 4) <= aspect <= 4:
        return frame.width, frame.height
    return max(1, round(frame.width * aspect)), frame.height


def _colour_matrix(frame: av.VideoFrame) -> int | None:
    """BT.709 for untagged HD, as players do (FFmpeg takes BT.601 for all that is untagged); None keeps the tag."""
    untagged = frame.colorspace not in tuple(Colorspace)
    return Colorspace.ITU709 if untagged and frame.height >= 720 else None


def check_crf(crf: int) -> None:
    """OptionError unless x264 knows this constant rate factor."""
    if not 0 <= crf <= 51:
        raise OptionError(f"--crf is {crf}; use a number from 0 (lossless) to 51")


def check_video_output(path: str | os.PathLike[str]) -> None:
    """What would keep :class:`VideoWriter` from writing there, before any work is done.

    Raises:
        OutputError: another ending, a folder whose name is no text, or a target that cannot be written.
        MissingPart: the build of FFmpeg has no encoder.
    """
    shown = os.fspath(path)
    if Path(shown).suffix.lower() not in (".mp4", ".m4v"):
        raise OutputError(f"'{shown}' should end in .mp4; the video is written in that format.")
    for name, kind in (("libx264", "H.264"), ("aac", "AAC")):
        try:
            av.Codec(name, "w")
        except (av.FFmpegError, ValueError):
            raise MissingPart(f"PyAV has no {kind} encoder here; run 'pip install --force-reinstall av' for a build that has.") from None
    output = AtomicFile(path)
    try:
        os.fspath(output.part).encode()
    except UnicodeEncodeError:  # FFmpeg takes names as UTF-8 only
        raise OutputError(f"'{shown}' lies in a folder whose name is no UTF-8 text; choose another folder.") from None
    finally:
        output.discard()


class VideoWriter:
    """Write frames, and sound in step with them, to an MP4 file that appears whole or not at all.

    Use it as a context manager: the file is finished when the block ends well, and nothing is left when it does not.
    Sound is cut or filled with silence to the length of the pictures. The bytes depend only on frames, sound and
    settings (x264's depend on ``threads``, so that is a fixed number).

    Args:
        path: target, ending in .mp4 or .m4v.
        size: (width, height) of the frames. An odd side is made even by repeating the last column or row.
        fps: frame rate.
        audio: None; the path of an audio or video file; a :class:`Sound`; or an iterable of mono float32 blocks.
        audio_rate_hz: sample rate of the blocks when ``audio`` is an iterable.
        crf: x264's constant rate factor, 0 (lossless) to 51; 18 looks like the original.
        preset: x264's speed preset.
        threads: encoder threads.
        metadata: tags; MP4 keeps title, artist, comment, description, copyright and date.
        background: encode in a thread, so that rendering the next frame and encoding this one overlap.
        queue_frames: frames that may wait for the encoder before :meth:`write` blocks.
        before_commit: called with the complete file just before it takes its name; it may rewrite it, and when it raises
            there is no file.

    Raises:
        OutputError: the target cannot be written, at construction, or its disk fills up later.
        OptionError: ``crf`` is out of range.
        MissingPart: the build of FFmpeg has no encoder.
        MediaError: the sound's file cannot be read.
        EmptyMedia: no frame was written when the block ended.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        fps: float = 25.0,
        *,
        audio: str | os.PathLike[str] | Sound | Iterable[Array] | None = None,
        audio_rate_hz: int = 16_000,
        crf: int = 18,
        preset: str = "veryfast",
        threads: int = 2,
        metadata: Mapping[str, str] | None = None,
        background: bool = False,
        queue_frames: int = 8,
        before_commit: Callable[[Path], None] | None = None,
    ) -> None:
        self._before_commit = before_commit
        self.path = os.fspath(path)
        self.size = size
        self.frames_written = 0
        self._encoded = 0
        if min(size) < 1 or not fps > 0:
            raise ValueError(f"size is {size} and fps {fps}, expected positive numbers")
        check_crf(crf)
        check_video_output(path)
        self._rate = Fraction(fps).limit_denominator(1001)
        sound = open_sound(audio, audio_rate_hz, AAC)
        self._output = AtomicFile(path)
        self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        try:
            self._container = av.open(os.fspath(self._output.part), "w", format="mp4", container_options={"movflags": "+faststart"})
            self._container.metadata.update(metadata or {})
            self._video = self._add_video(crf, preset, threads)
            self._track = None if sound is None else SoundTrack(self._container, AAC, *sound)
        except BaseException as error:
            self._abandon()
            if isinstance(error, _WRITE_ERRORS):
                raise self._output.error(error) from error
            raise
        self._reformatter = VideoReformatter()
        if background:
            self._queue: queue.Queue[Array | None] = queue.Queue(queue_frames)
            self._thread = threading.Thread(target=self._encode_queued, name="video-writer", daemon=True)
            self._thread.start()

    def write(self, frame: Array) -> None:
        """Append one frame, uint8 RGB [h, w, 3]; the array may be reused afterwards.

        Raises:
            OutputError: writing failed, now or (with ``background``) at an earlier frame.
            ValueError: another shape or type than announced.
        """
        width, height = self.size
        if frame.dtype != np.uint8 or frame.shape != (height, width, 3):
            raise ValueError(f"frame is {frame.dtype} {frame.shape}, expected uint8 ({height}, {width}, 3)")
        if self._closed:
            raise ValueError("write after close")
        if self._error is not None:
            raise self._failure(self._error)
        if self._thread is None:
            try:
                self._encode(frame)
            except _WRITE_ERRORS as error:
                raise self._failure(error) from error
        else:
            self._queue.put(frame.copy())
        self.frames_written += 1

    def close(self) -> None:
        """Finish the file and move it to its place. Done by the ``with`` block; calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self._stop_thread()
            if self._error is not None:
                raise self._failure(self._error)
            if not self.frames_written:
                raise EmptyMedia(f"'{self.path}' was not written: there was not a single frame.")
            try:
                self._container.mux(self._video.encode(None))
                if self._track is not None:
                    self._track.finish(self._seconds(self.frames_written))
                self._container.close()
            except _WRITE_ERRORS as error:
                raise self._failure(error) from error
            if self._before_commit is not None:
                self._before_commit(self._output.part)
            self._output.commit()
        except BaseException:
            self._abandon()
            raise

    def abort(self) -> None:
        """Drop everything; the target stays as it was."""
        if not self._closed:
            self._closed = True
            self._error = self._error or RuntimeError("aborted")
            self._stop_thread()
            self._abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _add_video(self, crf: int, preset: str, threads: int) -> av.video.stream.VideoStream:
        stream = self._container.add_stream("libx264", rate=self._rate)
        width, height = self.size
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        stream.options = {"crf": str(crf), "preset": preset}
        context = stream.codec_context
        context.thread_count = threads
        context.gop_size = max(1, round(2 * self._rate))
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = ColorRange.MPEG
        return stream

    def _seconds(self, frames: int) -> Fraction:
        return frames / self._rate

    def _encode(self, image: Array) -> None:
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(image, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC,
        )
        index = self._encoded
        frame.pts, frame.time_base = index, 1 / self._rate
        self._encoded = index + 1
        self._container.mux(self._video.encode(frame))
        if self._track is not None:
            self._track.advance(self._seconds(index + 1))

    def _encode_queued(self) -> None:
        while (frame := self._queue.get()) is not None:
            # After an error the queue is still emptied, so that write() never waits for ever.
            if self._error is None:
                try:
                    self._encode(frame)
                except BaseException as error:  # handed to the thread that writes
                    self._error = error

    def _stop_thread(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _failure(self, error: BaseException) -> BaseException:
        """What to raise for an error of the encoder or of the sound's source."""
        return self._output.error(error) if isinstance(error, _WRITE_ERRORS) else error

    def _abandon(self) -> None:
        # Closing writes the rest of the file, which fails when the disk is full: the file goes anyway.
        with contextlib.suppress(*_WRITE_ERRORS):
            if getattr(self, "_container", None) is not None:
                self._container.close()
        self._output.discard()
