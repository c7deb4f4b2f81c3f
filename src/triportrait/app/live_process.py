"""The process that draws one live portrait: ``python -m triportrait.app.live_process RING [AVATAR RATE PICTURES]``.

With an avatar it gets ready for that one, at that rate and with (1) or without (0) pictures, before it hears whom it is to draw. It hears
commands on its standard input and answers on its standard output, as messages with a length before them. Pictures go through a ring of
shared memory, whose oldest slot is written over, so that nothing waits for who does not look. Its input's end is its own.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import struct
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from triportrait.errors import TriPortraitError

#: Kinds of messages to the process: whom it draws (JSON), sound, what a client said, how many pictures it saw, that the clock may begin.
OPEN, SOUND, SAID, SEEN, BEGIN = b"O", b"A", b"J", b"K", b"B"
#: And from it: it is ready, why it is not, text, sound or motion with its header, and a picture's place in the ring with its header.
READY, REFUSED, TEXT, PLAYED, PICTURE = b"R", b"E", b"T", b"S", b"P"
#: Before JPEG, PCM and motion: kind, flags, reply, number, time in microseconds.
HEADER = struct.Struct("<BBHIQ")
JPEG, PCM, MOTION = 1, 3, 4
#: What a client wants to have besides sound.
PICTURES_WANTED, MOTION_WANTED = "pictures", "motion"
FIRST, LAST = 2, 4
_FRAME = struct.Struct("<cI")
_SLOT = struct.Struct("<II")
#: Pictures that the client has not acknowledged; more are left out, sound never.
_UNSEEN = 3
#: Nobody begins a session so late.
_BEGIN_WITHIN_S = 120.0
_SLOTS, _SLOT_BYTES = 6, 1 << 20
#: Python lets another thread run after so long at the latest.
_SWITCH_S = 0.0005
_QUALITIES = (85, 60, 30)


def send(pipe: IO[bytes], kind: bytes, data: bytes = b"") -> None:
    """A message."""
    pipe.write(_FRAME.pack(kind, len(data)) + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> tuple[bytes, bytes] | None:
    """The next message; None at the end."""
    head = pipe.read(_FRAME.size)
    if head is None or len(head) < _FRAME.size:
        return None
    kind, size = _FRAME.unpack(head)
    data = pipe.read(size)
    return (kind, data) if len(data) == size else None


class PictureRing:
    """Shared memory with a few pictures. It has no name: when both processes are gone, however they went, so is the memory.

    Args:
        handle: of the other process's ring; None makes one.
    """

    #: Windows hands no handles down; there pictures go through the pipe.
    IS_THERE = os.name == "posix"

    def __init__(self, handle: int | None = None) -> None:
        if handle is not None:
            self.handle = handle
        elif hasattr(os, "memfd_create"):
            self.handle = os.memfd_create("triportrait-pictures")
        else:
            with tempfile.TemporaryFile() as file:
                self.handle = os.dup(file.fileno())
        size = _SLOTS * _SLOT_BYTES
        if handle is None:
            os.ftruncate(self.handle, size)
        self._memory = mmap.mmap(self.handle, size)

    def put(self, number: int, picture: bytes) -> bool:
        """Write a picture over the oldest one; False where it is too large for a slot."""
        if len(picture) > _SLOT_BYTES - _SLOT.size:
            return False
        start = number % _SLOTS * _SLOT_BYTES
        _SLOT.pack_into(self._memory, start, 0, 0)  # who reads now sees that it is too late
        self._memory[start + _SLOT.size : start + _SLOT.size + len(picture)] = picture
        _SLOT.pack_into(self._memory, start, number, len(picture))
        return True

    def take(self, number: int) -> bytes | None:
        """A picture, or None where a newer one has its slot."""
        start = number % _SLOTS * _SLOT_BYTES
        found, size = _SLOT.unpack_from(self._memory, start)
        if found != number or size > _SLOT_BYTES - _SLOT.size:
            return None
        picture = bytes(self._memory[start + _SLOT.size : start + _SLOT.size + size])
        return picture if _SLOT.unpack_from(self._memory, start) == (number, size) else None

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self.handle)


class _Player:
    """One session, between the pipe in and the pipe out."""

    def __init__(self, session: Any, rate_hz: int, out: IO[bytes], ring: PictureRing | None, tells_motion: bool) -> None:
        self._session, self._rate_hz, self._out, self._ring = session, rate_hz, out, ring
        self._tells_motion = tells_motion
        self._lock = threading.Lock()
        self._sent = self._seen = 0
        self.begun = threading.Event()

    def tell(self, kind: str, **what: Any) -> None:
        self.send(TEXT, json.dumps({"type": kind, **what}).encode())

    def send(self, kind: bytes, data: bytes = b"") -> None:
        with self._lock:
            send(self._out, kind, data)

    def listen(self, pipe: IO[bytes]) -> None:
        """Do what messages say until they end; then the session ends."""
        import numpy as np

        try:
            while (message := receive(pipe)) is not None:
                kind, data = message
                if kind == SOUND:
                    if not self._session.push_audio(np.frombuffer(data, "<i2"), self._rate_hz, wait=False):
                        self.tell("input.full")
                elif kind == SEEN:
                    self._seen = max(self._seen, min(int(data), self._sent))
                elif kind == BEGIN:
                    self.begun.set()
                else:
                    self._do(json.loads(data))
        finally:
            self._session.close()
            self.begun.set()

    def _do(self, said: dict[str, Any]) -> None:
        """What a client's message says."""
        kind = said["type"]
        try:
            if kind == "input_audio_buffer.commit":
                self._session.flush()
            elif kind in ("interrupt", "response.cancel", "output_audio_buffer.clear"):
                self._session.interrupt()
            elif kind == "session.update":
                controls = {str(name): value for name, value in dict(said.get("controls", {})).items()}
                self._session.set_controls(**controls)
                self.tell("session.updated", controls=controls)
            else:
                self.tell("error", message="There is no message of this type.", remedy="Look into the guide for those that there are.")
        except TriPortraitError as error:
            from triportrait.app.schemas import fault_of

            self.tell("error", **fault_of(error))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.tell("error", message="The message cannot be read.", remedy="Send the fields that the guide names.")

    def play(self) -> None:
        """Frames as they are due, until the session ends."""
        import numpy as np

        from triportrait.motion.packets import row_numbers

        first: int = 0
        with self._session:
            for frame in self._session.run():
                flags = 0
                for event in frame.events:
                    flags |= self._event(event, round(frame.time_s * 1e6))
                if frame.reply > first:
                    first = frame.reply
                    flags |= FIRST
                place = frame.reply & 0xFFFF, frame.index & 0xFFFFFFFF, round(frame.time_s * 1e6)
                sound = (np.clip(frame.sound, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
                self.send(PLAYED, HEADER.pack(PCM, flags, *place) + sound)
                if self._tells_motion:
                    self.send(PLAYED, HEADER.pack(MOTION, flags, *place) + row_numbers(frame.motion).astype("<f4").tobytes())
                if frame.image is not None and self._sent - self._seen < _UNSEEN:
                    self._show(frame.image, flags, place[0], place[2])
                if frame.index % 25 == 0:
                    stats = self._session.stats
                    self.tell("stats", level=stats.quality, render_ms=stats.picture_ms, dropped=stats.skipped)

    def _show(self, image: Any, flags: int, reply: int, pts: int) -> None:
        from triportrait.media.images import picture_to_bytes

        number = self._sent + 1
        header = HEADER.pack(JPEG, flags, reply, number & 0xFFFFFFFF, pts)
        if self._ring is None:
            self.send(PICTURE, header + picture_to_bytes(image, _QUALITIES[0]))
        elif any(self._ring.put(number, picture_to_bytes(image, quality)) for quality in _QUALITIES):
            self.send(PICTURE, header)
        else:
            return
        self._sent = number

    def _event(self, event: Any, pts: int) -> int:
        if event.kind == "speech_started":
            self.tell("speech.started", reply=event.reply, pts=pts)
        elif event.kind == "speech_finished":
            self.tell("speech.finished", reply=event.reply, played_ms=round(1000 * event.played_s), interrupted=event.interrupted)
            return LAST
        else:
            self.tell(event.kind.replace("queue_", "input."))
        return 0


def _session_of(avatar: Path, rate_hz: int, has_pictures: bool) -> Any:
    """A session whose clock may begin."""
    from triportrait.live.session import LiveOptions
    from triportrait.pipeline import Portrait

    portrait = Portrait.from_image(avatar, quality="draft")
    session = portrait.live(LiveOptions(sample_rate_hz=rate_hz, pictures=has_pictures))
    session.warm_up(portrait.prepared.motion)
    return session


def main() -> None:
    """The process."""
    handle, likely = int(sys.argv[1]), sys.argv[2:]
    # Whoever prints must not stand between two messages.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # An interruption must not wait for the thread that draws.
    sys.setswitchinterval(_SWITCH_S)
    # Ctrl-C is for the server, which closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ring = None if handle < 0 else PictureRing(handle)
    prepared: dict[tuple[Path, int, bool], Any] = {}
    if likely:
        key = Path(likely[0]), int(likely[1]), likely[2] == "1"
        with contextlib.suppress(TriPortraitError):  # it may be deleted by now
            prepared[key] = _session_of(*key)
    message = receive(sys.stdin.buffer)
    if message is None:  # nobody needs it
        return
    asked = json.loads(message[1])
    avatar, rate_hz, wanted = Path(asked["avatar"]), asked["rate_hz"], asked["wanted"]
    key = avatar, rate_hz, PICTURES_WANTED in wanted
    try:
        session = prepared.pop(key, None) or _session_of(*key)
    except TriPortraitError as error:
        from triportrait.app.schemas import fault_of

        send(out, REFUSED, json.dumps(fault_of(error, None, {str(avatar): "the portrait"})).encode())
        return
    player = _Player(session, rate_hz, out, ring, MOTION_WANTED in wanted)
    threading.Thread(target=player.listen, args=(sys.stdin.buffer,), daemon=True).start()
    # The server may have gone; then nobody listens.
    with contextlib.suppress(BrokenPipeError):
        player.send(READY)
        if player.begun.wait(_BEGIN_WITHIN_S):
            player.play()
    # The thread that listens may hold the input's lock for ever.
    os._exit(0)


if __name__ == "__main__":
    main()
