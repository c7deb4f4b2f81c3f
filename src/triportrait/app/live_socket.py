"""The live portrait over a WebSocket: sound in, pictures and sound out by one clock.

A binary message from the client is PCM of 16 bit, mono. Binary messages to it have a header of 16 bytes (little-endian: kind, flags,
reply, number, time in microseconds) before a JPEG (kind 1), PCM (kind 3) or a row of motion (kind 4). Text is JSON with a ``type``. The
portrait is drawn by a process of its own (:mod:`triportrait.app.live_process`); should that one end before its time, the client is told and
another one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect

from triportrait.app import live_process as wire
from triportrait.app.schemas import ApiError, fault_of
from triportrait.app.store import Avatar
from triportrait.motion.exports import LIVE_LINK_CURVES

log = logging.getLogger(__name__)

#: Samples per second of a session that may go over WebRTC.
RTC_RATE_HZ = 48_000
#: Conversations at a time; each draws 25 pictures a second.
_MOST = 2
#: A session must be opened within this time, and ends after so long in all, or after so long without a word.
_OPEN_WITHIN_S, _LONGEST_S, _IDLE_S = 60.0, 2 * 3600.0, 300.0
#: A message with sound or text is no longer than this.
_LONGEST_BYTES, _LONGEST_TEXT = 1 << 20, 64 << 10
#: Messages that wait for a client; who cannot keep up with the sound has left.
_WAITING = 256
#: A process has so long to get ready, is silent for so long at most, and is replaced so often.
_READY_S, _SILENT_S, _LIVES = 90.0, 10.0, 3
_END_S = 3.0
#: Nobody came for a process that was made ready.
_SPARE_S = 300.0


class Link(Protocol):
    """What connects a client: a WebSocket, or a peer connection (:class:`triportrait.app.live_rtc.PeerLink`) with its verbs."""

    async def accept(self) -> None: ...

    async def send_text(self, data: str) -> None: ...

    async def send_bytes(self, data: bytes) -> None: ...

    async def receive(self) -> Any: ...

    async def close(self, code: int = 1000) -> None: ...


#: Whose avatar file a process gets ready for, at which rate of the sound, and whether it draws pictures.
Likely = tuple[Path, int, bool]


class LiveProcess:
    """The process of one session, seen from the server.

    Args:
        likely: for what it gets ready at once; None leaves that out.
    """

    def __init__(self, likely: Likely | None = None) -> None:
        self.likely = likely
        self._ring = wire.PictureRing() if wire.PictureRing.IS_THERE else None
        handles = () if self._ring is None else (self._ring.handle,)
        more = [] if likely is None else [str(likely[0]), f"{likely[1]}", f"{likely[2]:d}"]
        command = [sys.executable, "-m", "triportrait.app.live_process", f"{handles[0] if handles else -1}", *more]
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self.began_s = time.monotonic()
        try:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1 << 16, pass_fds=handles)
        except OSError:
            self._drop_ring()
            raise ApiError("E_FULL", "The server cannot start another process.", None, "Try again later.") from None

    def open(self, avatar: Avatar, rate_hz: int, wanted: tuple[str, ...]) -> LiveProcess:
        """Say whom it draws; returns itself.

        Args:
            avatar: who.
            rate_hz: of the sound.
            wanted: what it tells besides sound, see :data:`triportrait.app.live_process.PICTURES_WANTED`.
        """
        self.send(wire.OPEN, json.dumps({"avatar": str(avatar.file), "rate_hz": rate_hz, "wanted": wanted}).encode())
        return self

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def read(self, take: Callable[[bytes, bytes], None]) -> None:
        """Call ``take`` from a thread with each message, pictures with their bytes; at the end with an empty kind."""
        self._reader = threading.Thread(target=self._read, args=(take,), name="live-reader", daemon=True)
        self._reader.start()

    def _read(self, take: Callable[[bytes, bytes], None]) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            while (message := wire.receive(self._process.stdout)) is not None:
                kind, data = message
                if kind == wire.PICTURE and self._ring is not None:
                    picture = self._ring.take(wire.HEADER.unpack_from(data)[3])
                    if picture is None:  # a newer one is on its way
                        continue
                    data += picture
                take(kind, data)
        take(b"", b"")

    def send(self, kind: bytes, data: bytes = b"") -> None:
        """Tell the process something; nothing happens where it is gone. This may wait."""
        with self._lock, contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            wire.send(self._process.stdin, kind, data)

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """End it, and wait until it and its thread are gone."""
        killer = threading.Timer(_END_S, self.kill)
        killer.start()
        with contextlib.suppress(OSError, ValueError):
            # Not under the lock: who waits to write is freed by the reader's end.
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.wait()
        killer.cancel()
        if self._reader is not None and self._reader is not threading.current_thread():
            self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._drop_ring()

    def _drop_ring(self) -> None:
        with self._lock:
            ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()


@dataclass(frozen=True, slots=True)
class Ticket:
    """A session that may be opened once; its process gets ready meanwhile."""

    id: str
    token: str
    avatar: Avatar
    sample_rate: int
    wanted: tuple[str, ...]
    until: float
    process: LiveProcess
    done: threading.Event


def _process_of(ticket: Ticket) -> LiveProcess:
    return LiveProcess().open(ticket.avatar, ticket.sample_rate, ticket.wanted)


def _drop(process: LiveProcess | None) -> None:
    """End a process that nobody has heard yet. It may be getting ready and read nothing, so it is not asked."""
    if process is not None:
        process.kill()
        process.close()


@cache
def has_webrtc() -> bool:
    """Whether this server answers offers of WebRTC: the library is installed and can be imported."""
    if find_spec("aiortc") is None:
        return False
    try:
        import triportrait.app.live_rtc  # noqa: F401 - whether it works is the question
    except ImportError as error:
        log.warning("WebRTC is left out, because aiortc cannot be imported (%s); install it again: pip install 'triportrait[live]'", error)
        return False
    return True


class LiveSessions:
    """Who may converse."""

    def __init__(self) -> None:
        #: A process that is warm, for who comes next.
        self._spare: LiveProcess | None = None
        self._waiting: dict[str, Ticket] = {}
        self._open: dict[str, Ticket] = {}
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many converse."""
        with self._lock:
            return len([ticket for ticket in self._open.values() if not ticket.done.is_set()])

    def add(self, avatar: Avatar, sample_rate: int, wanted: tuple[str, ...] = (wire.PICTURES_WANTED,)) -> dict[str, Any]:
        """A session, with the token that opens its socket once.

        Args:
            avatar, sample_rate, wanted: see :meth:`LiveProcess.open`.

        Raises:
            ApiError: as many converse as may.
        """
        self.sweep()
        likely = avatar.file, sample_rate, wire.PICTURES_WANTED in wanted
        with self._lock:
            if len(self._open) + len(self._waiting) >= _MOST:
                raise ApiError("E_FULL", "As many conversations are going on as this machine can draw.", None, "Try again later.")
            until = time.monotonic() + _OPEN_WITHIN_S
            spare, process = self._spare, None
            if spare is not None and spare.is_alive and spare.likely == likely:
                process, self._spare, spare = spare, None, None
            process = (process or LiveProcess()).open(avatar, sample_rate, wanted)
            names = f"ses_{secrets.token_hex(12)}", secrets.token_urlsafe(24)
            ticket = Ticket(*names, avatar, sample_rate, wanted, until, process, threading.Event())
            self._waiting[ticket.id] = ticket
            # With the last place taken, nobody can come for one that was made ready for somebody else.
            if len(self._open) + len(self._waiting) < _MOST:
                spare = None
            elif spare is not None:
                self._spare = None
        _drop(spare)
        socket = f"/v1/sessions/{ticket.id}/socket?token={ticket.token}"
        # Sound of WebRTC has one rate.
        offer = f"/v1/sessions/{ticket.id}/offer?key={ticket.token}" if sample_rate == RTC_RATE_HZ and has_webrtc() else None
        answer = {"id": ticket.id, "object": "session", "token": ticket.token, "socket": socket, "offer": offer}
        return answer | {"fps": 25, "sample_rate": sample_rate}

    def prepare(self, avatar: Avatar, sample_rate: int, has_pictures: bool = True) -> None:
        """Have a process ready for a conversation that is likely to begin soon; it takes the place of one for another conversation."""
        self.sweep()
        likely = avatar.file, sample_rate, has_pictures
        with self._lock:
            spare = self._spare
            if len(self._open) + len(self._waiting) >= _MOST or (spare is not None and spare.is_alive and spare.likely == likely):
                return
            self._spare = LiveProcess(likely)
        _drop(spare)

    def take(self, session_id: str, token: str, rate_hz: int | None = None) -> Ticket:
        """Open a session.

        Args:
            session_id, token: as :meth:`add` gave them.
            rate_hz: the sample rate that the session must have; None takes any.

        Raises:
            ApiError: there is none that waits, or the token or the rate is wrong.
        """
        with self._lock:
            ticket = self._waiting.get(session_id)
            if ticket is None or ticket.until < time.monotonic() or not secrets.compare_digest(ticket.token.encode(), token.encode()):
                raise ApiError("E_NO_TOKEN", "The session is over, or its token is wrong.", None, "Begin another one.")
            if rate_hz is not None and ticket.sample_rate != rate_hz:
                raise ApiError(
                    "E_OPTION", f"The session's sample_rate is {ticket.sample_rate}.", "sample_rate", f"Use {rate_hz} for WebRTC."
                )
            self._open[session_id] = self._waiting.pop(session_id)
            return ticket

    def end(self, session_id: str, token: str) -> None:
        """End a conversation that is going on, or one that nobody has opened yet.

        Raises:
            ApiError: there is none, or the token is wrong.
        """
        with self._lock:
            ticket = self._open.get(session_id) or self._waiting.get(session_id)
            if ticket is None or ticket.done.is_set() or not secrets.compare_digest(ticket.token.encode(), token.encode()):
                raise ApiError("E_NOT_FOUND", "There is no such conversation.", "id", "It has ended; begin another one.")
            ticket.done.set()
            is_waiting = self._waiting.pop(session_id, None) is not None
        if is_waiting:
            _drop(ticket.process)

    def sweep(self) -> None:
        """Forget those that ended, and end those that nobody opened in time."""
        now = time.monotonic()
        with self._lock:
            late = [ticket for ticket in self._waiting.values() if ticket.until <= now]
            for ticket in late:
                del self._waiting[ticket.id]
            self._open = {key: ticket for key, ticket in self._open.items() if not ticket.done.is_set()}
            spare = self._spare
            if spare is not None and (now - spare.began_s > _SPARE_S or not spare.is_alive):
                self._spare = None
            else:
                spare = None
        for process in [*(ticket.process for ticket in late), *([] if spare is None else [spare])]:
            process.close()

    def close(self) -> None:
        """End all."""
        with self._lock:
            waiting = list(self._waiting.values())
            self._waiting.clear()
            for ticket in self._open.values():
                ticket.done.set()
            spare, self._spare = self._spare, None
        for process in [*(ticket.process for ticket in waiting), *([] if spare is None else [spare])]:
            process.close()


class _Conversation:
    """What the server knows of one conversation while processes come and go.

    Frames, pictures and replies are numbered by each process from its own beginning; here they go on.
    """

    def __init__(self, ticket: Ticket) -> None:
        self.ticket, self.process = ticket, ticket.process
        self.messages: asyncio.Queue[tuple[LiveProcess, bytes, bytes]] = asyncio.Queue(_WAITING)
        self.reason = ""
        self._loop = asyncio.get_running_loop()
        self._began: float | None = None
        self._controls: dict[str, Any] = {}
        #: Frames, pictures and replies of the processes before, the last ones told, and the reply that is open.
        self._base = self._last = (0, 0, 0)
        self._open_reply: int | None = None
        self._played_from = 0

    def attach(self) -> None:
        """Hear the process from now on."""
        process = self.process

        def take(kind: bytes, data: bytes) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is over
                self._loop.call_soon_threadsafe(put, kind, data)

        def put(kind: bytes, data: bytes) -> None:
            if not self.messages.full():
                self.messages.put_nowait((process, kind, data))
            elif process is self.process:
                self.reason = "The sound could not be sent fast enough. Use a faster connection."
                self.ticket.done.set()

        process.read(take)

    async def ready(self) -> None:
        """Wait until the process can draw, and begin.

        Raises:
            ApiError: it cannot.
        """
        until = time.monotonic() + _READY_S
        while not self.ticket.done.is_set():
            try:
                process, kind, data = await asyncio.wait_for(self.messages.get(), max(until - time.monotonic(), 0.01))
            except TimeoutError:
                break
            if process is not self.process:
                continue
            if kind == wire.READY:
                if self._controls:
                    said = json.dumps({"type": "session.update", "controls": self._controls}).encode()
                    await run_in_threadpool(process.send, wire.SAID, said)
                now = time.monotonic()
                if self._began is None:
                    self._began = now
                else:
                    # The clock went on while nobody drew.
                    self._base = max(round(25 * (now - self._began)), self._last[0] + 1), self._last[1], self._last[2]
                await run_in_threadpool(process.send, wire.BEGIN)
                return
            if kind == wire.REFUSED:
                fault = json.loads(data)
                raise ApiError(fault["code"], fault["message"], fault["field"], fault["remedy"])
            if not kind:
                break
        raise ApiError("E_INTERNAL", "The portrait cannot be drawn.", None, "Begin another session, and report it if it happens again.")

    def placed(self, data: bytes) -> bytes:
        """A picture or sound with its numbers and its time in the whole conversation."""
        kind, flags, reply, number, pts = wire.HEADER.unpack_from(data)
        frames, pictures, replies = self._base
        reply += replies if reply else 0
        number += pictures if kind == wire.JPEG else frames
        known = self._last
        self._last = (known[0], number, known[2]) if kind == wire.JPEG else (number, known[1], max(known[2], reply))
        numbers = reply & 0xFFFF, number & 0xFFFFFFFF, pts + frames * 40_000
        return wire.HEADER.pack(kind, flags, *numbers) + data[wire.HEADER.size :]

    def told(self, data: bytes) -> dict[str, Any]:
        """A text with its numbers in the whole conversation."""
        said: dict[str, Any] = json.loads(data)
        frames, _, replies = self._base
        if "reply" in said:
            said["reply"] += replies
        if "pts" in said:
            said["pts"] += frames * 40_000
        if said["type"] == "speech.started":
            self._open_reply, self._played_from = said["reply"], self._last[0]
        elif said["type"] == "speech.finished":
            self._open_reply = None
        elif said["type"] == "session.updated":
            self._controls |= said["controls"]
        return said

    def seen(self, number: int) -> bytes:
        """A client's count of pictures, as the present process counts."""
        return f"{max(number - self._base[1], 0)}".encode()

    def lost(self) -> list[dict[str, Any]]:
        """What a client is told when the process has gone: the reply that was open ends, and what happens now."""
        told: list[dict[str, Any]] = []
        if self._open_reply is not None:
            played_ms = 40 * (self._last[0] - self._played_from)
            told.append({"type": "speech.finished", "reply": self._open_reply, "played_ms": played_ms, "interrupted": True})
            self._open_reply = None
        remedy = "It starts again by itself; send the reply again that was interrupted."
        error = ApiError("E_LIVE_STOPPED", "The process that draws the portrait has ended.", None, remedy)
        return [*told, {"type": "error", **fault_of(error)}]


async def converse(link: Link, ticket: Ticket) -> None:
    """One conversation, until either side ends it."""
    talk = _Conversation(ticket)
    talk.attach()
    reason = ""
    tasks: list[asyncio.Task[Any]] = []
    try:
        await link.accept()
        await talk.ready()
        created: dict[str, Any] = {"type": "session.created", "session": ticket.id, "sample_rate": ticket.sample_rate, "fps": 25}
        if wire.MOTION_WANTED in ticket.wanted:
            created["curves"] = LIVE_LINK_CURVES
        await link.send_text(json.dumps(created))
        tasks = [asyncio.create_task(_write(link, talk)), asyncio.create_task(_listen(link, talk))]
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            reason = task.result() or reason
    except ApiError as error:
        fault = fault_of(error)
        reason = f"{fault['message']} {fault['remedy']}"
    except (WebSocketDisconnect, RuntimeError):  # it went while something was sent
        pass
    finally:
        ticket.done.set()
        # A server that stops cancels this, and then nothing may be waited for.
        threading.Thread(target=talk.process.close, name="live-closer").start()
        for task in tasks:
            task.cancel()
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # what a client that left makes of it is no news
    await asyncio.sleep(0)  # the tasks end
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        if reason:
            await asyncio.wait_for(link.send_text(json.dumps({"type": "session.ended", "reason": reason})), 2.0)
        await link.close()


async def _write(link: Link, talk: _Conversation) -> str:
    """Send what the process says, and replace it when it dies; returns why the session ends."""
    lives = _LIVES
    while not talk.ticket.done.is_set():
        try:
            process, kind, data = await asyncio.wait_for(talk.messages.get(), _SILENT_S)
        except TimeoutError:
            talk.process.kill()
            continue
        if process is not talk.process:
            continue
        if kind == wire.TEXT:
            await link.send_text(json.dumps(talk.told(data)))
        elif kind:
            await link.send_bytes(talk.placed(data))
        elif not talk.ticket.done.is_set():
            for message in talk.lost():
                await link.send_text(json.dumps(message))
            log.warning("the process of live session %s has ended", talk.ticket.id)
            lives -= 1
            await run_in_threadpool(process.close)
            if not lives:
                return "The portrait stopped several times. Begin another session, and report it if it happens again."
            talk.process = await run_in_threadpool(_process_of, talk.ticket)
            talk.attach()
            await talk.ready()
            await link.send_text(json.dumps({"type": "session.restarted", "session": talk.ticket.id}))
    return talk.reason


async def _listen(link: Link, talk: _Conversation) -> str:
    """Hear the client until it goes; returns why the session ends, empty where the client ended it."""
    began = heard = time.monotonic()
    while not talk.ticket.done.is_set():
        now = time.monotonic()
        if now - began > _LONGEST_S:
            return f"A session lasts {_LONGEST_S / 3600:g} hours at most. Begin another one."
        if now - heard > _IDLE_S:
            return f"Nobody said anything for {_IDLE_S / 60:g} minutes. Begin another session."
        try:
            message = await asyncio.wait_for(link.receive(), 1.0)
        except TimeoutError:
            continue
        if message["type"] == "websocket.disconnect":
            return ""
        data, text = message.get("bytes"), message.get("text")
        if data is not None:
            heard = time.monotonic()
            if len(data) % 2 or len(data) > _LONGEST_BYTES:
                await _complain(link, "The sound cannot be read.", "Send PCM of 16 bit in messages of up to 1 MB.")
            else:
                await run_in_threadpool(talk.process.send, wire.SOUND, data)
        elif text is not None:
            if await _told(link, text, talk):
                heard = time.monotonic()
    return talk.reason


async def _told(link: Link, text: str, talk: _Conversation) -> bool:
    """Pass on what a text message says; whether it says more than that pictures were seen."""
    try:
        if len(text) > _LONGEST_TEXT:
            raise ValueError
        said = json.loads(text)
        kind = said["type"]
        if kind == "ack":
            await run_in_threadpool(talk.process.send, wire.SEEN, talk.seen(int(said["pictures"])))
            return False
        await run_in_threadpool(talk.process.send, wire.SAID, json.dumps(said).encode())
        return True
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        await _complain(link, "The message cannot be read.", "Send JSON with a type.")
        return False


async def _complain(link: Link, message: str, remedy: str) -> None:
    await link.send_text(json.dumps({"type": "error", "code": "E_INPUT", "message": message, "remedy": remedy, "field": None}))
