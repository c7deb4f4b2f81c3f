"""A live portrait without any network: sound in, pictures with their sound out, by one clock.

Frame n shows row n of one endless motion and brings samples n * T to (n + 1) * T of one endless sound; both are due at n / 25 s, so there
is nothing to synchronise and nothing drifts. Sound waits, as slots that motion has heard already, for as long as motion looks ahead.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import soxr

from triportrait.background import Background
from triportrait.concurrency import calm_libraries
from triportrait.errors import OptionError
from triportrait.live.motion import LiveMotion
from triportrait.live.quality import NO_PICTURES, Ladder, Step, steps_of
from triportrait.live.sound import LiveEvent, SoundQueue
from triportrait.media.pcm import Samples, check_rate, mono
from triportrait.motion.controls import NAMES, Controls
from triportrait.motion.options import DriveOptions
from triportrait.motion.voice_controls import EMOTION_STRENGTH
from triportrait.performance import Performer
from triportrait.provenance.marks import Finish, Marks
from triportrait.types import FPS, Array, MotionFrame

#: What a picture's time is averaged over, in pictures.
_MEAN_OF = 25.0


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """How a portrait is live.

    Args:
        drive: how it moves; ``set_controls`` changes it later.
        sample_rate_hz: of the sound that leaves; sound of other rates is resampled.
        background: what stands behind the person; None keeps the photo's own.
        pictures: False makes none: motion and sound alone, for avatars that are drawn elsewhere.
        marks: label and watermark of the pictures. A stream has no place for a signed statement: ``manifest`` and ``consent`` count where
            it is saved.
        longest_queue_s: so much sound may wait; more is back-pressure.
        longest_delay_s: who falls farther behind goes on from there instead of hurrying after.

    Raises:
        OptionError: a value out of range.
    """

    drive: DriveOptions = field(default_factory=DriveOptions)
    sample_rate_hz: int = 24_000
    background: Background | None = None
    pictures: bool = True
    marks: Marks = field(default_factory=Marks)
    longest_queue_s: float = 30.0
    longest_delay_s: float = 0.5

    def __post_init__(self) -> None:
        if self.drive.voice_driver != "natural":
            raise OptionError("--voice-driver works for videos and motion files alone; leave it out where a portrait is live")
        if not 8_000 <= self.sample_rate_hz <= 96_000 or self.sample_rate_hz % round(FPS):
            raise OptionError(f"sample_rate_hz is {self.sample_rate_hz}; use a multiple of {FPS:g} from 8000 to 96000")
        if not 0.1 <= self.longest_queue_s <= 600.0:
            raise OptionError(f"longest_queue_s is {self.longest_queue_s:g}; use a number from 0.1 to 600")
        if not 0.04 <= self.longest_delay_s <= 60.0:
            raise OptionError(f"longest_delay_s is {self.longest_delay_s:g}; use a number from 0.04 to 60")
        if self.background is not None and self.background.is_transparent:
            raise OptionError("a live portrait has a scene behind it; use a colour such as green, a picture or a video")


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """What belongs to one moment.

    Args:
        index: number of the frame.
        time_s: when it is due since the session's start: ``index / 25``.
        image: uint8 [s, s, 3]; None where it was left out, and the picture before stays.
        motion: the row that it shows, in the portrait's pose frame.
        sound: float32 [n], the 40 ms from ``time_s`` on.
        reply: whose sound it is, from 1 on; 0 is silence.
        events: what happened by it.
    """

    index: int
    time_s: float
    image: Array | None
    motion: MotionFrame
    sound: Array
    reply: int
    events: tuple[LiveEvent, ...]


@dataclass(frozen=True, slots=True)
class LiveStats:
    """How a session is doing: frames given, pictures left out, times it fell behind, sound that waits, and what is drawn how fast."""

    frames: int = 0
    skipped: int = 0
    stalls: int = 0
    queued_s: float = 0.0
    lead_s: float = 0.0
    picture_ms: float = 0.0
    quality: str = ""


class Clock(Protocol):
    """What time it is; tests have one of their own."""

    def now_s(self) -> float: ...

    def sleep_until(self, moment_s: float) -> None: ...


class _RealClock:
    """The machine's monotonic clock."""

    def now_s(self) -> float:
        return time.monotonic()

    def sleep_until(self, moment_s: float) -> None:
        if (left := moment_s - time.monotonic()) > 0:
            time.sleep(left)


class EndlessMotion(Protocol):
    """What moves the face; see :class:`triportrait.live.motion.LiveMotion`."""

    controls: Controls

    def hear(self, samples: Array) -> None: ...

    def row(self) -> MotionFrame | None: ...

    def interrupt(self) -> None: ...

    def go_back(self, slots: int) -> bool: ...

    def set_controls(self, controls: Controls) -> None: ...

    def see(self, image: Array, moment_s: float) -> bool: ...


class LiveSession:
    """A portrait that goes on until it is closed. Push sound from any thread while one thread goes through :meth:`run`.

    >>> with portrait.live() as session:                      # doctest: +SKIP
    ...     threading.Thread(target=speak, args=[session]).start()  # it pushes sound and flushes
    ...     for frame in session.run():
    ...         show(frame.image, frame.sound)

    Args:
        motion: see :class:`EndlessMotion`.
        steps: qualities, finest first.
        options: see :class:`LiveOptions`.
        clock: what time it is; None takes the machine's.
    """

    def __init__(self, motion: EndlessMotion, steps: Sequence[Step], options: LiveOptions, clock: Clock | None = None) -> None:
        self.options = options
        self._motion, self._steps, self._clock = motion, steps, clock or _RealClock()
        rate_hz = options.sample_rate_hz
        self._queue = SoundQueue(rate_hz, round(rate_hz / FPS))
        self._ladder = Ladder(len(steps))
        self._changed = threading.Condition()
        self._events: list[LiveEvent] = []
        self._resampler: tuple[int, Any] | None = None
        self._wanted = motion.controls
        self._is_full = self._is_running = self._is_closed = False
        self._stats = LiveStats(quality=steps[0].name)
        self._pictures = 0

    @classmethod
    def of(cls, portrait: Performer, options: LiveOptions | None = None) -> LiveSession:
        """A portrait live, with its coarser steps prepared.

        Raises:
            OptionError, MediaError, MotionFileError: what the options name cannot be had.
        """
        options = options or LiveOptions()
        prepared = portrait.prepared
        finish = Finish(options.marks, (len(prepared.image),) * 2, options.marks.account().number)
        holds_mouth = options.drive.holds_mouth(bool(prepared.mouth_is_covered))
        with calm_libraries():
            motion = LiveMotion(prepared, options.drive, options.sample_rate_hz)
            steps = steps_of(portrait, options.background, finish, holds_mouth) if options.pictures else [NO_PICTURES]
            return cls(motion, steps, options)

    # -- sound and wishes in ---------------------------------------------------------------------------------------------

    def push_audio(self, samples: Samples, rate_hz: int | None = None, *, wait: bool = True) -> bool:
        """Sound of the open reply, or the beginning of a new one.

        Args:
            samples: float or integer samples [n] or [n, channels], or bytes (16 bit, little-endian, mono). A block with NaN or infinity
                becomes silence, which an event says.
            rate_hz: samples per second; None is the session's.
            wait: while the queue is full, wait until there is room.

        Returns:
            Whether it was taken: False where the session is closed, or the queue is full and ``wait`` is not.

        Raises:
            MediaError: no samples, or no such rate.
        """
        rate_hz = self.options.sample_rate_hz if rate_hz is None else check_rate(rate_hz)
        block = mono(samples)
        given = None if isinstance(samples, bytes | bytearray | memoryview) else np.asarray(samples)
        is_damaged = given is not None and given.dtype.kind == "f" and not np.isfinite(given).all()
        with self._changed:
            while not self._is_closed and self._queue.queued > self.options.longest_queue_s * self._queue.rate_hz:
                if not self._is_full:
                    self._is_full = True
                    self._events.append(LiveEvent("queue_full"))
                if not wait:
                    return False
                self._changed.wait()
            if self._is_closed:
                return False
            if is_damaged:
                block = np.zeros_like(block)
                self._events.append(LiveEvent("sound_damaged"))
            at_own_rate = self._at_own_rate(block, rate_hz)
            if len(block):
                # A resampler may hold all of a short block back; it is a reply all the same, and will have its end.
                self._queue.begin()
            self._queue.push(at_own_rate)
        return True

    def flush(self) -> bool:
        """The reply is complete: its ``speech_finished`` comes when its last sample has left. False where there is none to come."""
        with self._changed:
            self._end_resampler()
            return self._queue.flush()

    def interrupt(self) -> bool:
        """Barge-in: sound fades within 10 ms, what waits is dropped, the mouth closes. In silence it does nothing and returns False."""
        with self._changed:
            self._resampler = None
            is_interrupted = self._queue.interrupt()
            if is_interrupted:
                self._motion.interrupt()
            self._changed.notify_all()
            return is_interrupted

    def push_frame(self, image: Array) -> bool:
        """A picture of a webcam, whose face the portrait follows; half a second of a relaxed face comes first.

        Out of sight for half a second, the portrait idles, and its mouth is the sound's. One thread pushes pictures.

        Args:
            image: uint8 [h, w, 3] RGB.

        Returns:
            Whether it shows a face.
        """
        return self._motion.see(image, self._clock.now_s())

    def set_controls(self, *, emotion: str | None = None, emotion_strength: float = EMOTION_STRENGTH, **amounts: float) -> None:
        """Other controls from the next frame on; those that are not named stay.

        Args:
            emotion: neutral, happy, sad, angry or surprised; None leaves it.
            emotion_strength: 0 to 1, of ``emotion``.
            amounts: numbers of :class:`triportrait.motion.controls.Controls`.

        Raises:
            OptionError: no such control, or a value out of range.
        """
        with self._changed:
            try:
                wanted = replace(self._wanted, **amounts)
            except TypeError:
                raise OptionError(f"{', '.join(amounts)}: not all of these are controls; use emotion, {', '.join(NAMES)}") from None
            self._wanted = wanted if emotion is None else wanted.with_emotion(emotion, emotion_strength)
            self._motion.set_controls(self._wanted)

    def close(self) -> None:
        """End the session: :meth:`run` gives one more frame, which ends open replies, and is over."""
        with self._changed:
            self._is_closed = True
            self._queue.interrupt()
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @property
    def stats(self) -> LiveStats:
        """How the session is doing."""
        with self._changed:
            rate_hz = self._queue.rate_hz
            return replace(self._stats, queued_s=self._queue.queued / rate_hz, lead_s=self._queue.lead / FPS)

    def _at_own_rate(self, block: Array, rate_hz: int) -> Array:
        if self._resampler is not None and self._resampler[0] != rate_hz:
            self._end_resampler()
        if rate_hz == self._queue.rate_hz:
            return block
        if self._resampler is None:
            self._resampler = rate_hz, soxr.ResampleStream(rate_hz, self._queue.rate_hz, 1, dtype="float32")
        return np.asarray(self._resampler[1].resample_chunk(block))

    def _end_resampler(self) -> None:
        if self._resampler is not None:
            self._queue.push(np.asarray(self._resampler[1].resample_chunk(np.zeros(0, np.float32), last=True)))
            self._resampler = None

    # -- frames out ------------------------------------------------------------------------------------------------------

    def run(self) -> Iterator[LiveFrame]:
        """Frames as they are due, 25 a second, until :meth:`close`. Who is late misses pictures, never sound.

        Raises:
            RuntimeError: somebody goes through it already.
        """
        with self._changed:
            if self._is_running:
                raise RuntimeError("this session is running already; go through run() once")
            self._is_running = True
        clock, index = self._clock, 0
        start_s = clock.now_s()
        try:
            with calm_libraries():
                is_last = False
                while not is_last:
                    is_last = self._is_closed
                    due_s = start_s + index / FPS
                    clock.sleep_until(due_s)
                    late_s = clock.now_s() - due_s
                    if late_s > self.options.longest_delay_s:
                        start_s += late_s
                        self._stats = replace(self._stats, stalls=self._stats.stalls + 1)
                    yield self._frame(index, late_s)
                    index += 1
        finally:
            # Nobody waits for a session that has come to its end, whatever ended it.
            self.close()

    async def run_async(self) -> AsyncIterator[LiveFrame]:
        """:meth:`run` for asyncio: frames are waited for and drawn in a thread of their own.

        Raises:
            RuntimeError: see :meth:`run`.
        """
        frames, loop = self.run(), asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "live") as thread:
            try:
                while (frame := await loop.run_in_executor(thread, next, frames, None)) is not None:
                    yield frame
            finally:
                self.close()

    def _frame(self, index: int, late_s: float) -> LiveFrame:
        with self._changed:
            silent = self._queue.begin_at_once()
            if silent and self._motion.go_back(silent):
                self._queue.forget_silence()
            row = self._motion.row()
            while row is None or not self._queue.lead:
                self._motion.hear(self._queue.compose())
                row = self._motion.row() if row is None else row
            step = self._steps[self._ladder.level]
        image, is_late = None, late_s * FPS >= 1.0
        drawn = step.draw is not None and index % step.every == 0
        began_s = self._clock.now_s()
        if step.draw is not None and drawn and not is_late and not self._is_closed:
            image = step.draw(row)
        else:
            step.leave_out()
        busy_s = self._clock.now_s() - began_s
        self._ladder.note(is_late, busy_s * FPS / step.every if image is not None else 0.0)
        with self._changed:
            sound, reply, events = self._queue.leave()
            if self._is_full and self._queue.queued <= 0.8 * self.options.longest_queue_s * self._queue.rate_hz:
                self._is_full = False
                self._events.append(LiveEvent("queue_ready"))
            events, self._events = [*self._events, *events], []
            self._note(index, step.name, drawn and image is None, None if image is None else 1000 * busy_s)
            self._changed.notify_all()
        return LiveFrame(index, index / FPS, image, row, sound, reply, tuple(events))

    def _note(self, index: int, quality: str, is_skipped: bool, picture_ms: float | None) -> None:
        old = self._stats
        mean_ms = old.picture_ms
        if picture_ms is not None:
            self._pictures += 1
            mean_ms += (picture_ms - mean_ms) / min(self._pictures, _MEAN_OF)
        self._stats = replace(old, frames=index + 1, skipped=old.skipped + is_skipped, picture_ms=mean_ms, quality=quality)
