"""The live portrait over WebRTC: one offer, one answer, as in WHEP; pictures and sound as media, everything else over a data channel.

The conversation itself is that of the WebSocket (:func:`triportrait.app.live_socket.converse`), of whose verbs this is another form.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from typing import Any

import aioice.ice
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError
from aiortc.mediastreams import MediaStreamError
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect

from triportrait.app import live_process as wire
from triportrait.app.schemas import ApiError
from triportrait.errors import MediaError
from triportrait.media.web_frames import Listener, picture_frame, sound_frame

log = logging.getLogger(__name__)

#: Opus has this rate, and RTP counts sound in it.
RATE_HZ = 48_000
#: Packets of Opus: 20 ms, half of what a frame brings.
_PACKET = RATE_HZ // 50
#: Sound that may wait to be sent, in packets; texts that wait for the data channel; messages of a client that wait to be heard.
_MOST_SOUND, _MOST_TEXTS, _MOST_HEARD = 100, 200, 500
#: Bytes that wait for the data channel: above the first number rows of motion are left out, above the second the client has left.
_MOST_ROWS_BYTES, _MOST_BYTES = 64 << 10, 1 << 20
#: Addresses that an offer may name: each is sent a packet to see whether it answers.
_MOST_CANDIDATES = 64
#: A connection stands within this time.
_CONNECT_S = 30.0
#: What the library raises for an SDP that it cannot read. A RuntimeError is a coroutine that found no next element.
_UNREADABLE = (
    *(ValueError, LookupError, AttributeError, TypeError, AssertionError, RuntimeError, OSError),
    *(InternalError, InvalidAccessError, InvalidStateError, OperationError),
)
_EVERYWHERE = ("0.0.0.0", "::", "")


def use_address(host: str) -> None:
    """Let all connections of this process use the address at which the server listens, and no other; a wildcard allows all."""
    if host in _EVERYWHERE:
        return
    places = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    own = sorted({str(place[4][0]) for place in places})
    # There is no setting for it, and without one a server on this machine's loopback would open ports to the network.
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: list(own)


class _Sound(MediaStreamTrack):
    """Sound out."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._packets: asyncio.Queue[tuple[bytes, int]] = asyncio.Queue(_MOST_SOUND)

    def put(self, pcm: bytes, pts_us: int) -> None:
        """40 ms that are due."""
        first = pts_us * RATE_HZ // 1_000_000
        for at in range(0, len(pcm) // 2, _PACKET):
            if self._packets.full():
                self._packets.get_nowait()
            self._packets.put_nowait((pcm[2 * at : 2 * (at + _PACKET)], first + at))

    async def recv(self) -> Any:
        """See :class:`aiortc.MediaStreamTrack`."""
        pcm, first = await self._packets.get()
        return sound_frame(pcm, RATE_HZ, first)


class _Pictures(MediaStreamTrack):
    """Pictures out; of several that wait the newest is sent."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._newest: tuple[bytes, int] | None = None
        self._has_come = asyncio.Event()

    def put(self, jpeg: bytes, pts_us: int) -> None:
        """A picture that is due."""
        self._newest = jpeg, pts_us
        self._has_come.set()

    async def recv(self) -> Any:
        """See :class:`aiortc.MediaStreamTrack`."""
        await self._has_come.wait()
        self._has_come.clear()
        assert self._newest is not None
        return await run_in_threadpool(picture_frame, *self._newest)


class PeerLink:
    """A peer connection with the verbs of a WebSocket, as far as :func:`triportrait.app.live_socket.converse` uses them."""

    def __init__(self) -> None:
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))  # none, or it would ask a server of its maker's choice
        self._sound, self._pictures = _Sound(), _Pictures()
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_MOST_HEARD)
        self._texts: list[str] = []
        self._channel: Any = None
        self._stands = asyncio.Event()
        self._is_over = self._is_closed = False
        self._listening: set[asyncio.Task[None]] = set()
        self._peer.on("connectionstatechange", self._changed)
        self._peer.on("datachannel", self._opened)
        self._peer.on("track", self._offered)

    async def answer(self, offer: str) -> str:
        """The answer to an offer, both in SDP.

        Raises:
            ApiError: it is no offer, or has no place for pictures and sound.
        """
        try:
            if _count(offer, "a=candidate:") > _MOST_CANDIDATES or any(_count(offer, f"m={kind} ") != 1 for kind in ("audio", "video")):
                raise ValueError
            await self._peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            self._peer.addTrack(self._sound)
            self._peer.addTrack(self._pictures)
            for transceiver in self._peer.getTransceivers():
                if transceiver.kind == "video":
                    # Pictures that a client sends would be decoded and kept, though nobody looks at them.
                    transceiver.direction = "sendonly"
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except _UNREADABLE:
            await self.close()
            remedy = f"Offer one place for pictures and one for sound, and a data channel, with up to {_MOST_CANDIDATES} candidates."
            raise ApiError("E_INPUT", "The offer cannot be answered.", "offer", remedy) from None
        return str(self._peer.localDescription.sdp)

    async def accept(self) -> None:
        """Wait until the connection stands.

        Raises:
            WebSocketDisconnect: it does not.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stands.wait(), _CONNECT_S)
        if self._is_over or not self._stands.is_set():
            await self.close()
            raise WebSocketDisconnect

    async def send_text(self, text: str) -> None:
        """A message; those that come before the data channel wait for it."""
        if self._is_open:
            if self._channel.bufferedAmount > _MOST_BYTES:
                self._hear({"type": "websocket.disconnect"})
            else:
                self._channel.send(text)
        elif len(self._texts) < _MOST_TEXTS:
            self._texts.append(text)

    async def send_bytes(self, data: bytes) -> None:
        """A picture or sound, with its header."""
        kind, _, _, number, pts_us = wire.HEADER.unpack_from(data)
        if kind == wire.PCM:
            self._sound.put(data[wire.HEADER.size :], pts_us)
        elif kind == wire.MOTION:
            if self._is_open and self._channel.bufferedAmount <= _MOST_ROWS_BYTES:
                self._channel.send(data)
        else:
            self._pictures.put(data[wire.HEADER.size :], pts_us)
            # The network has its own back-pressure: what is too much is coded more coarsely.
            self._hear({"type": "websocket.receive", "text": json.dumps({"type": "ack", "pictures": number})})

    async def receive(self) -> dict[str, Any]:
        """What the client says next, or that it has gone."""
        return await self._heard.get()

    async def close(self, code: int = 1000) -> None:
        """End it."""
        self._is_over = True
        for task in self._listening:
            task.cancel()
        if self._is_closed:
            return
        self._is_closed = True
        # The library stumbles over a connection that it made by halves, and a second try would wait for the first for ever.
        with contextlib.suppress(*_UNREADABLE):
            await self._peer.close()

    @property
    def _is_open(self) -> bool:
        return self._channel is not None and self._channel.readyState == "open"

    def _hear(self, message: dict[str, Any]) -> None:
        if self._heard.full():  # nobody listens, or too much comes at once
            self._heard.get_nowait()
        self._heard.put_nowait(message)

    def _changed(self) -> None:
        state = self._peer.connectionState
        if state == "connected":
            self._stands.set()
        elif state in ("failed", "closed"):
            self._is_over = True
            self._stands.set()
            self._hear({"type": "websocket.disconnect"})

    def _opened(self, channel: Any) -> None:
        self._channel = channel

        def heard(message: str | bytes) -> None:
            self._hear({"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message})

        def closed() -> None:
            self._hear({"type": "websocket.disconnect"})

        channel.on("message", heard)
        channel.on("close", closed)
        for text in self._texts:
            channel.send(text)
        self._texts.clear()

    def _offered(self, track: MediaStreamTrack) -> None:
        """A track of the client; sound is a microphone."""
        if track.kind == "audio":
            task = asyncio.ensure_future(self._listen(track))
            self._listening.add(task)
            task.add_done_callback(self._listening.discard)

    async def _listen(self, track: MediaStreamTrack) -> None:
        listener = Listener(RATE_HZ)
        with contextlib.suppress(MediaStreamError, asyncio.CancelledError):
            while True:
                frame = await track.recv()
                try:
                    pcm = listener.pcm(frame)
                except MediaError as error:
                    log.warning("the microphone of a WebRTC session cannot be read: %s", error)
                    # What nobody reads would pile up.
                    self._hear({"type": "websocket.disconnect"})
                    return
                if pcm:
                    self._hear({"type": "websocket.receive", "bytes": pcm})


def _count(offer: str, start: str) -> int:
    return sum(line.startswith(start) for line in offer.splitlines())
