"""A conversation over WebRTC, with aiortc as the client, too: media come, messages go over the data channel, nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import random
import time
from typing import Any

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
pytest.importorskip("aiortc", reason="pip install 'triportrait[live]'")
import aiortc
from starlette.testclient import TestClient

from app_answers import error_of
from triportrait.app import live_process as wire
from triportrait.app import live_rtc
from triportrait.app.live_rtc import RATE_HZ, PeerLink, use_address
from triportrait.app.schemas import ApiError
from triportrait.app.server import EXAMPLES, Server
from triportrait.media.images import picture_to_bytes
from triportrait.media.web_frames import picture_frame, sound_frame


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    import aioice.ice

    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)
    use_address("127.0.0.1")


class Caller:
    """A client: what it sees, hears and is told."""

    def __init__(self, client: TestClient, avatar: str) -> None:
        self.client, self.avatar = client, avatar
        self.texts: list[dict[str, Any]] = []
        self.pictures: list[Any] = []
        self.sound: list[tuple[int, int]] = []
        self.location = ""

    async def call(self, *, microphone: bool = False) -> None:
        asked = {"avatar": self.avatar, "sample_rate": RATE_HZ}
        session = (await asyncio.to_thread(self.client.post, "/v1/sessions", json=asked)).json()
        self.peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        if microphone:
            self.peer.addTrack(Tone())
        else:
            self.peer.addTransceiver("audio", direction="recvonly")
        self.peer.addTransceiver("video", direction="recvonly")
        self.channel = self.peer.createDataChannel("messages")
        self.channel.on("message", lambda text: self.texts.append(json.loads(text)))
        self.tasks: list[asyncio.Task[None]] = []
        self.peer.on("track", lambda track: self.tasks.append(asyncio.ensure_future(self._follow(track))))
        await self.peer.setLocalDescription(await self.peer.createOffer())
        offer, headers = self.peer.localDescription.sdp, {"content-type": "application/sdp"}
        answer = await asyncio.to_thread(self.client.post, session["offer"], content=offer, headers=headers)
        assert answer.status_code == 201 and answer.headers["content-type"] == "application/sdp", answer.text
        # Nothing but this machine's own address is offered.
        candidates = [line.split()[4] for line in answer.text.splitlines() if line.startswith("a=candidate")]
        assert candidates and set(candidates) == {"127.0.0.1"}
        self.location = answer.headers["location"]
        await self.peer.setRemoteDescription(aiortc.RTCSessionDescription(answer.text, "answer"))

    async def _follow(self, track: Any) -> None:
        try:
            while True:
                frame = await track.recv()
                if track.kind == "video":
                    self.pictures.append(frame)
                else:
                    self.sound.append((frame.pts, int(np.abs(frame.to_ndarray().astype(int)).max())))
        except aiortc.mediastreams.MediaStreamError:
            pass

    async def until(self, happens: Any, seconds: float = 120.0) -> Any:
        end = time.monotonic() + seconds
        while not (found := happens()):
            assert time.monotonic() < end, f"it did not happen; told {[text for text in self.texts if text['type'] != 'stats']}"
            await asyncio.sleep(0.02)
        return found

    def told(self, kind: str) -> list[dict[str, Any]]:
        return [text for text in self.texts if text["type"] == kind]

    async def hang_up(self) -> None:
        await self.peer.close()
        for task in self.tasks:
            task.cancel()


class Tone(aiortc.mediastreams.AudioStreamTrack):
    """A microphone that hears a vowel-like tone."""

    async def recv(self) -> Any:
        frame = await super().recv()
        place = frame.pts + np.arange(frame.samples)
        tone = sum(np.sin(place * 2 * np.pi * 150 * step / frame.sample_rate) / step for step in (1, 2, 3, 4))
        frame.planes[0].update((6000 * tone).astype("<i2").tobytes())
        return frame


def test_it_speaks_over_a_peer_connection(client: TestClient, server: Server, avatar: str) -> None:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", dtype="int16")
    speech = np.repeat(samples[: 3 * rate_hz], RATE_HZ // rate_hz)

    async def talk() -> None:
        caller = Caller(client, avatar)
        await caller.call()
        await caller.until(lambda: caller.told("session.created"))
        await caller.until(lambda: len(caller.sound) > 20)
        assert max(loud for _, loud in caller.sound) < 200
        for at in range(0, len(speech), 24_000):
            caller.channel.send(speech[at : at + 24_000].tobytes())
        caller.channel.send('{"type": "input_audio_buffer.commit"}')
        await caller.until(lambda: caller.told("speech.started"))
        await caller.until(lambda: any(loud > 1000 for _, loud in caller.sound))
        caller.channel.send('{"type": "interrupt"}')
        (finished,) = await caller.until(lambda: caller.told("speech.finished"))
        assert finished["interrupted"] and finished["played_ms"] < 3000
        count = len(caller.sound)
        await caller.until(lambda: len(caller.sound) > count + 50)
        assert max(loud for _, loud in caller.sound[-10:]) < 200
        # Sound is gapless.
        places = [place for place, _ in caller.sound]
        assert set(np.diff(places)) == {960}
        ended = await asyncio.to_thread(client.delete, caller.location)
        assert ended.json()["deleted"] is True
        await caller.until(lambda: not server.live.count)
        assert error_of(await asyncio.to_thread(client.delete, caller.location))[:2] == (404, "E_NOT_FOUND")
        await caller.hang_up()

    asyncio.run(talk())


def test_a_microphone_is_heard_and_who_hangs_up_has_left(client: TestClient, server: Server, avatar: str) -> None:
    async def talk() -> None:
        caller = Caller(client, avatar)
        await caller.call(microphone=True)
        await caller.until(lambda: caller.told("speech.started"))
        await caller.until(lambda: any(loud > 1000 for _, loud in caller.sound))
        await caller.hang_up()
        await caller.until(lambda: not server.live.count)

    asyncio.run(talk())


async def offer_of(*kinds: str, **directions: str) -> tuple[aiortc.RTCPeerConnection, str]:
    """A client with places of these kinds and a data channel, and its offer."""
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    for kind in kinds:
        peer.addTransceiver(kind, direction=directions.get(kind, "recvonly"))
    peer.createDataChannel("messages")
    await peer.setLocalDescription(await peer.createOffer())
    return peer, peer.localDescription.sdp


def message(kind: int, data: bytes, number: int = 7, pts_us: int = 280_000) -> bytes:
    return wire.HEADER.pack(kind, 0, 0, number, pts_us) + data


def test_a_picture_becomes_a_frame_and_is_acknowledged() -> None:
    async def show() -> None:
        link = PeerLink()
        picture = np.full((64, 96, 3), (200, 40, 90), np.uint8)
        await link.send_bytes(message(wire.JPEG, picture_to_bytes(picture, 90)))
        frame = await link._pictures.recv()
        assert frame.time == pytest.approx(0.28) and frame.to_ndarray(format="rgb24").shape == picture.shape
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - picture).max() < 12
        assert json.loads((await link.receive())["text"]) == {"type": "ack", "pictures": 7}
        await link.close()

    asyncio.run(show())


def test_pictures_of_the_client_are_not_taken() -> None:
    async def connect() -> None:
        peer, offer = await offer_of("audio", "video", audio="sendrecv", video="sendrecv")
        link = PeerLink()
        answer = await link.answer(offer)
        directions = {}
        for line in answer.splitlines():
            if line.startswith("m="):
                kind = line[2:].split()[0]
            elif line in ("a=sendonly", "a=sendrecv", "a=recvonly", "a=inactive"):
                directions[kind] = line[2:]
        assert directions == {"audio": "sendrecv", "video": "sendonly"}
        await link.close()
        await peer.close()

    asyncio.run(connect())


def test_an_offer_names_one_place_each_and_not_too_many_addresses() -> None:
    async def refuse() -> None:
        usual, good = await offer_of("audio", "video")
        line = next(line for line in good.splitlines() if line.startswith("a=candidate"))
        others = "".join(f"{line} generation {number}\r\n" for number in range(100))
        offers = [good.replace(f"{line}\r\n", others, 1)]
        peers = [usual]
        for kinds in (("audio", "audio", "video"), ("audio", "video", "video"), ("audio",), ("video",)):
            peer, offer = await offer_of(*kinds)
            peers.append(peer)
            offers.append(offer)
        for offer in offers:
            with pytest.raises(ApiError, match="cannot be answered"):
                await PeerLink().answer(offer)
        link = PeerLink()
        assert (await link.answer(good)).startswith("v=0")
        await link.close()
        for peer in peers:
            await peer.close()

    asyncio.run(refuse())


def damaged(offer: str, chance: random.Random) -> str:
    """An offer in which lines are missing, cut, doubled or at another place."""
    lines = offer.splitlines()
    for _ in range(chance.randrange(1, 5)):
        at, kind = chance.randrange(len(lines)), chance.randrange(6)
        if kind == 0 and len(lines) > 1:
            del lines[at]
        elif kind == 1:
            lines.insert(chance.randrange(len(lines)), lines[at])
        elif kind == 2:
            words = lines[at].split(" ")
            words[chance.randrange(len(words))] = chance.choice(("-1", "99999999999", "0", "x", "a=b:c"))
            lines[at] = " ".join(words)
        elif kind == 3:
            lines[at] = lines[at][: chance.randrange(1, len(lines[at]) + 1)]
        elif kind == 4:
            del lines[at + 1 :]
        else:
            chance.shuffle(lines)
    return "\r\n".join(lines) + "\r\n"


def test_damaged_offers_are_answered_or_refused_and_leave_nothing() -> None:
    async def offer_damaged() -> int:
        usual, good = await offer_of("audio", "video")
        chance, refused = random.Random(0), 0
        for _ in range(400):
            link = PeerLink()
            try:
                await link.answer(damaged(good, chance))
            except ApiError as error:
                refused += 1
                assert error.code == "E_INPUT"
            # Whoever closes it once more does not wait for ever.
            await asyncio.wait_for(link.close(), 10.0)
        await usual.close()
        return refused

    assert 200 < asyncio.run(offer_damaged()) < 400


class Channel:
    """A data channel on which so much waits."""

    readyState = "open"

    def __init__(self, waiting: int) -> None:
        self.bufferedAmount, self.sent = waiting, []

    def send(self, data: Any) -> None:
        self.sent.append(data)


@pytest.mark.parametrize(("waiting", "sent", "has_left"), [(0, 2, False), (100_000, 1, False), (2_000_000, 0, True)])
def test_a_channel_that_is_not_emptied_is_not_filled(waiting: int, sent: int, has_left: bool) -> None:
    async def fill() -> None:
        link = PeerLink()
        link._channel = channel = Channel(waiting)
        await link.send_bytes(message(wire.MOTION, bytes(240)))
        await link.send_text("{}")
        assert len(channel.sent) == sent and link._heard.empty() is not has_left
        assert not has_left or (await link.receive())["type"] == "websocket.disconnect"
        await link.close()

    asyncio.run(fill())


def test_a_microphone_that_cannot_be_read_ends_the_conversation() -> None:
    class Odd(aiortc.MediaStreamTrack):
        kind = "audio"
        frames = iter((sound_frame(bytes(1920), RATE_HZ, 0), picture_frame(picture_to_bytes(np.zeros((16, 16, 3), np.uint8), 90), 0)))

        async def recv(self) -> Any:
            return next(self.frames)

    async def listen() -> None:
        link = PeerLink()
        await asyncio.wait_for(link._listen(Odd()), 10.0)
        heard = [await link.receive() for _ in range(link._heard.qsize())]
        assert [one["type"] for one in heard] == ["websocket.receive", "websocket.disconnect"]
        await link.close()

    asyncio.run(listen())


def test_what_is_no_offer_is_refused_and_frees_the_place(
    client: TestClient, server: Server, avatar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = client.post("/v1/sessions", json={"avatar": avatar}).json()
    assert slow["offer"] is None
    address = slow["socket"].replace("socket?token", "offer?key")
    assert error_of(client.post(address, content="v=0"))[:2] == (400, "E_OPTION")
    with client.websocket_connect(slow["socket"]):
        pass
    for body in (b"", b"v=0", b"\xff\xfe", b"hello\r\n" * 50, b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 X 96\r\n"):
        session = client.post("/v1/sessions", json={"avatar": avatar, "sample_rate": RATE_HZ}).json()
        answer = client.post(session["offer"], content=body)
        assert error_of(answer)[:2] == (422, "E_INPUT"), body
        if body == b"\xff\xfe":  # it was refused before the session was opened
            with client.websocket_connect(session["socket"]):
                pass
    with monkeypatch.context() as patch:  # for whom nothing waits, nothing is opened
        patch.setattr(live_rtc, "PeerLink", lambda: pytest.fail("a connection is made before the key is known"))
        assert error_of(client.post(session["offer"], content=b"v=0"))[0] == 401
    assert error_of(client.post(session["offer"], content=b"x" * 200_000))[:2] == (413, "E_TOO_LARGE")
    until = time.monotonic() + 20.0
    while server.live.count and time.monotonic() < until:
        time.sleep(0.05)
    assert not server.live.count
