"""The session's endless sound: what was pushed, silence where nothing was, cut into one slot a frame."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from triportrait.types import Array

#: An interrupted voice fades over this time instead of breaking off with a click.
FADE_S = 0.01


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """What happened to the sound.

    Args:
        kind: ``speech_started`` (the reply's first sample leaves), ``speech_finished`` (its last one has left, or it was interrupted;
            exactly once a reply), ``sound_damaged`` (a block held NaN or infinity and became silence), ``queue_full``, ``queue_ready``.
        reply: whose, from 1 on; 0 where it is nobody's.
        played_s: seconds of the reply that left, for ``speech_finished``.
        interrupted: the reply ended before its time.
    """

    kind: str
    reply: int = 0
    played_s: float = 0.0
    interrupted: bool = False


@dataclass(slots=True)
class _Reply:
    """Samples of one reply: how many came, left, and were dropped."""

    number: int
    pushed: int = 0
    played: int = 0
    dropped: int = 0
    has_begun: bool = False
    is_closed: bool = False
    is_interrupted: bool = False


@dataclass(slots=True)
class _Slot:
    """Sound of one frame, and whose it is: parts follow each other from the slot's beginning, silence fills the rest."""

    samples: Array
    parts: list[tuple[_Reply, int]] = field(default_factory=list)


class SoundQueue:
    """Replies wait here, are composed into slots, wait there until motion has caught up, and leave. Not for several threads at once.

    Args:
        rate_hz: samples per second.
        slot: samples of a frame.
    """

    def __init__(self, rate_hz: int, slot: int) -> None:
        self.rate_hz, self.slot = rate_hz, slot
        self._waiting: deque[tuple[_Reply, Array]] = deque()
        #: Samples that no slot holds yet.
        self.queued = 0
        self._composed: deque[_Slot] = deque()
        self._unfinished: deque[_Reply] = deque()
        self._replies = 0
        self._rest_has_waited = False

    @property
    def lead(self) -> int:
        """Slots that are composed and have not left."""
        return len(self._composed)

    def begin(self) -> None:
        """Open a reply where none is open: its samples are on their way."""
        if not self._unfinished or self._unfinished[-1].is_closed:
            self._replies += 1
            self._unfinished.append(_Reply(self._replies))

    def push(self, samples: Array) -> None:
        """Take samples float32 [n] of the open reply, or of a new one."""
        if not len(samples):
            return
        self.begin()
        reply = self._unfinished[-1]
        reply.pushed += len(samples)
        self.queued += len(samples)
        self._waiting.append((reply, samples))

    def flush(self) -> bool:
        """The open reply has no more samples; False where there is no reply at all."""
        if self._unfinished:
            self._unfinished[-1].is_closed = True
        return bool(self._unfinished)

    def compose(self) -> Array:
        """The next slot float32 [slot], which motion hears before it leaves.

        A rest that does not fill a slot waits for one slot, in case more of it comes.
        """
        slot = _Slot(np.zeros(self.slot, np.float32))
        is_short = self.queued < self.slot
        is_open = bool(self._waiting) and not self._waiting[-1][0].is_closed
        if is_short and is_open and not self._rest_has_waited:
            self._rest_has_waited = True
        else:
            self._fill(slot)
            self._rest_has_waited = False
        self._composed.append(slot)
        return slot.samples

    def _fill(self, slot: _Slot) -> None:
        at = 0
        while at < self.slot and self._waiting:
            reply, samples = self._waiting.popleft()
            taken = samples[: self.slot - at]
            slot.samples[at : at + len(taken)] = taken
            slot.parts.append((reply, len(taken)))
            at += len(taken)
            if len(taken) < len(samples):
                self._waiting.appendleft((reply, samples[len(taken) :]))
        self.queued -= at

    def begin_at_once(self) -> int:
        """How many silent slots a voice could take the place of that is here already for longer than they are; 0 where that is not so."""
        if self.queued < (self.lead + 1) * self.slot or any(slot.parts for slot in self._composed):
            return 0
        return self.lead

    def forget_silence(self) -> None:
        """The slots that are composed, all silent, are composed anew."""
        self._composed.clear()

    def leave(self) -> tuple[Array, int, list[LiveEvent]]:
        """The oldest slot: its samples float32 [slot], the reply that it holds (0 = none), and what happened by that."""
        slot, events = self._composed.popleft(), []
        for reply, count in slot.parts:
            if not reply.has_begun:
                reply.has_begun = True
                events.append(LiveEvent("speech_started", reply.number))
            reply.played += count
        while self._unfinished:
            reply = self._unfinished[0]
            if not reply.is_closed or reply.played + reply.dropped < reply.pushed:
                break
            events.append(LiveEvent("speech_finished", reply.number, reply.played / self.rate_hz, reply.is_interrupted))
            self._unfinished.popleft()
        return slot.samples, slot.parts[0][0].number if slot.parts else 0, events

    def interrupt(self) -> bool:
        """Drop all that has not left, but for a short fade; False where there is no reply that was not interrupted yet."""
        if all(reply.is_interrupted for reply in self._unfinished):
            return False
        for reply in self._unfinished:
            reply.is_closed = reply.is_interrupted = True
        for reply, samples in self._waiting:
            reply.dropped += len(samples)
        self._waiting.clear()
        self.queued = 0
        self._rest_has_waited = False
        fade = min(round(FADE_S * self.rate_hz), self.slot)
        for index, slot in enumerate(self._composed):
            kept = fade if index == 0 else 0
            # Motion heard the slot's own array, which is not touched.
            samples, parts, at = np.zeros_like(slot.samples), [], 0
            samples[:kept] = slot.samples[:kept] * np.linspace(1.0, 0.0, kept, dtype=np.float32)
            for reply, count in slot.parts:
                stays = min(max(kept - at, 0), count)
                reply.dropped += count - stays
                if stays:
                    parts.append((reply, stays))
                at += count
            slot.samples, slot.parts = samples, parts
        return True
