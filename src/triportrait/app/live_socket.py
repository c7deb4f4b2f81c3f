"""The live portrait over a WebSocket: sound in, pictures and sound out by one clock.

A binary message from the client is PCM of 16 bit, mono. Binary messages to it have a header of 16 bytes (little-endian: kind, flags, reply,
number, time in microseconds) before a JPEG (kind 1) or PCM (kind 3). Text is JSON with a ``type``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import struct
import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from triportrait.app.schemas import ApiError
from triportrait.app.store import Avatar
from triportrait.errors import TriPortraitError

log = logging.getLogger(__name__)

#: Conversations at a time; each draws 25 pictures a second.
_MOST = 2
#: A session must be opened within this time, and ends after so long in all.
_OPEN_WITHIN_S, _LONGEST_S = 60.0, 2 * 3600.0
#: Pictures that the client has not acknowledged; more are left out, sound never.
_UNSEEN = 3
_JPEG, _PCM = 1, 3
_HEADER = struct.Struct("<BBHIQ")
_FIRST, _LAST = 2, 4
#: A message with sound is no longer than this.
_LONGEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Ticket:
    """A session that may be opened once."""

    id: str
    token: str
    avatar: Avatar
    sample_rate: int
    until: float
    done: threading.Event


class LiveSessions:
    """Who may converse."""

    def __init__(self) -> None:
        self._waiting: dict[str, Ticket] = {}
        self._open: dict[str, Ticket] = {}
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """How many converse."""
        return len([ticket for ticket in self._open.values() if not ticket.done.is_set()])

    def add(self, avatar: Avatar, sample_rate: int) -> dict[str, Any]:
        """A session, with the token that opens its socket once.

        Raises:
            ApiError: as many converse as may.
        """
        if sample_rate % 25:
            raise ApiError("E_OPTION", "sample_rate must be a multiple of 25, such as 16000, 24000 or 48000.", "sample_rate")
        now = time.monotonic()
        with self._lock:
            self._waiting = {key: ticket for key, ticket in self._waiting.items() if ticket.until > now}
            self._open = {key: ticket for key, ticket in self._open.items() if not ticket.done.is_set()}
            if len(self._open) + len(self._waiting) >= _MOST:
                raise ApiError("E_FULL", "As many conversations are going on as this machine can draw; try again later.")
            ticket = Ticket(
                f"ses_{secrets.token_hex(12)}", secrets.token_urlsafe(24), avatar, sample_rate, now + _OPEN_WITHIN_S, threading.Event()
            )
            self._waiting[ticket.id] = ticket
        socket = f"/v1/sessions/{ticket.id}/socket?token={ticket.token}"
        return {"id": ticket.id, "object": "session", "token": ticket.token, "socket": socket, "fps": 25, "sample_rate": sample_rate}

    def take(self, session_id: str, token: str) -> Ticket:
        """Open a session.

        Raises:
            ApiError: there is none that waits, or the token is wrong.
        """
        with self._lock:
            ticket = self._waiting.get(session_id)
            if ticket is None or ticket.until < time.monotonic() or not secrets.compare_digest(ticket.token.encode(), token.encode()):
                raise ApiError("E_NO_TOKEN", "The session is over, or its token is wrong; begin another one.")
            self._open[session_id] = self._waiting.pop(session_id)
            return ticket

    def close(self) -> None:
        """End all."""
        for ticket in self._open.values():
            ticket.done.set()


async def converse(websocket: WebSocket, ticket: Ticket) -> None:
    """One conversation, until either side ends it."""
    await websocket.accept()
    loop = asyncio.get_running_loop()
    out: asyncio.Queue[bytes | str | None] = asyncio.Queue(256)
    seen = [0, 0]  # pictures sent and acknowledged

    def send(message: bytes | str | None) -> None:
        # Who cannot keep up with the sound has left.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lambda: ticket.done.set() if out.full() else out.put_nowait(message))

    started: asyncio.Future[Any] = loop.create_future()
    threading.Thread(target=_draw, args=(ticket, send, seen, loop, started), daemon=True).start()
    writer = asyncio.create_task(_write(websocket, out))
    try:
        session = await started
        await _listen(websocket, ticket, session, seen, send)
    except TriPortraitError as error:
        send(json.dumps({"type": "session.ended", "reason": str(error)}))
    except WebSocketDisconnect:
        pass
    finally:
        ticket.done.set()
        send(None)
        with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
            await asyncio.wait_for(writer, 5.0)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close()


async def _write(websocket: WebSocket, out: asyncio.Queue[bytes | str | None]) -> None:
    while (message := await out.get()) is not None:
        if isinstance(message, bytes):
            await websocket.send_bytes(message)
        else:
            await websocket.send_text(message)


async def _listen(websocket: WebSocket, ticket: Ticket, session: Any, seen: list[int], send: Any) -> None:
    until = time.monotonic() + _LONGEST_S
    while not ticket.done.is_set() and time.monotonic() < until:
        try:
            message = await asyncio.wait_for(websocket.receive(), 1.0)
        except TimeoutError:
            continue
        if message["type"] == "websocket.disconnect":
            return
        data, text = message.get("bytes"), message.get("text")
        if data is not None:
            if len(data) % 2 or len(data) > _LONGEST_BYTES:
                send(json.dumps({"type": "error", "message": "Sound must be PCM of 16 bit in messages of up to 1 MB."}))
            elif not session.push_audio(np.frombuffer(data, "<i2"), ticket.sample_rate, wait=False):
                send(json.dumps({"type": "input.full"}))
        elif text is not None:
            _told(text, session, seen, send)


def _told(text: str, session: Any, seen: list[int], send: Any) -> None:
    """Do what a text message says."""
    try:
        said = json.loads(text)
        kind = said["type"]
        if kind == "input_audio_buffer.commit":
            session.flush()
        elif kind in ("interrupt", "response.cancel", "output_audio_buffer.clear"):
            session.interrupt()
        elif kind == "session.update":
            session.set_controls(**{str(name): value for name, value in said.get("controls", {}).items()})
        elif kind == "ack":
            seen[1] = max(seen[1], min(int(said["pictures"]), seen[0]))
        else:
            send(json.dumps({"type": "error", "message": "There is no message of this type."}))
    except TriPortraitError as error:
        send(json.dumps({"type": "error", "message": str(error)}))
    except (ValueError, KeyError, TypeError, AttributeError):
        send(json.dumps({"type": "error", "message": "The message cannot be read; send JSON with a type."}))


def _draw(ticket: Ticket, send: Any, seen: list[int], loop: asyncio.AbstractEventLoop, started: asyncio.Future[Any]) -> None:
    """The session's thread: frames as they are due."""
    from triportrait.live.session import LiveOptions
    from triportrait.pipeline import Portrait

    def begin(session: Any, error: Exception | None) -> None:
        if not started.done():
            started.set_exception(error) if error is not None else started.set_result(session)

    try:
        portrait = Portrait.from_image(ticket.avatar.file, quality="draft")
        session = portrait.live(LiveOptions(sample_rate_hz=ticket.sample_rate))
    except Exception as error:
        loop.call_soon_threadsafe(begin, None, error)
        return
    loop.call_soon_threadsafe(begin, session, None)
    try:
        _play(ticket, session, send, seen)
    except Exception:
        log.exception("a live session failed")
        send(json.dumps({"type": "session.ended", "reason": "The portrait stopped, which is a fault of the program; please report it."}))
    finally:
        ticket.done.set()


def _play(ticket: Ticket, session: Any, send: Any, seen: list[int]) -> None:
    """Send frames as they are due, until the session is done."""
    from triportrait.media.images import picture_to_bytes

    send(json.dumps({"type": "session.created", "session": ticket.id, "sample_rate": ticket.sample_rate, "fps": 25}))
    first = set()
    with session:
        for frame in session.run():
            if ticket.done.is_set():
                return
            pts, flags = round(frame.time_s * 1e6), 0
            for event in frame.events:
                if event.kind == "speech_started":
                    send(json.dumps({"type": "speech.started", "reply": event.reply, "pts": pts}))
                elif event.kind == "speech_finished":
                    flags |= _LAST
                    ended = {"reply": event.reply, "played_ms": round(1000 * event.played_s), "interrupted": event.interrupted}
                    send(json.dumps({"type": "speech.finished", **ended}))
                else:
                    send(json.dumps({"type": event.kind.replace("queue_", "input.")}))
            if frame.reply and frame.reply not in first:
                first.add(frame.reply)
                flags |= _FIRST
            sound = (np.clip(frame.sound, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
            send(_HEADER.pack(_PCM, flags, frame.reply & 0xFFFF, frame.index & 0xFFFFFFFF, pts) + sound)
            if frame.image is not None and seen[0] - seen[1] < _UNSEEN:
                seen[0] += 1
                picture = picture_to_bytes(frame.image, 85)
                send(_HEADER.pack(_JPEG, flags, frame.reply & 0xFFFF, seen[0] & 0xFFFFFFFF, pts) + picture)
            if frame.index % 25 == 0:
                stats = session.stats
                send(json.dumps({"type": "stats", "level": stats.quality, "render_ms": stats.picture_ms, "dropped": stats.skipped}))
