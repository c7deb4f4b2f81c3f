"""The live portrait through the server, as a client sees it: how soon it speaks and is quiet, and whether it keeps time.

    python benchmarks/live_socket.py --rounds 10            latency: of the first byte, of an interruption
    python benchmarks/live_socket.py --minutes 10           one session in real time: lateness, and sound against pictures
    python benchmarks/live_socket.py --video none           the same for motion without pictures
    python benchmarks/live_socket.py --prepared 0           sessions that nobody announced: a cold process each

It starts ``triportrait serve`` on a free port and talks to it over the WebSocket. *Sound* is the first block that one hears, *mouth* the
first picture (or row) whose lips have parted; *silence* the first block that is silent behind the fade of 10 ms, as in live.py, *closed*
the first picture whose jaw is shut. Every round begins a session of its own. Beside it, ``/healthz`` is asked all the time: what it takes
shows whether the server's event loop is ever held up while a portrait is drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
import websockets
from server import machine, served

from triportrait.motion.exports import LIVE_LINK_CURVES
from triportrait.motion.lips import lip_opening
from triportrait.types import ARKIT_EXPRESSIONS

EXAMPLES = Path(__file__).parents[1] / "examples"
_HEADER = struct.Struct("<BBHIQ")
_JPEG, _PCM, _MOTION = 1, 3, 4
#: Louder than this is speech, in parts of full scale.
_HEARD = 0.02
#: Lips that stand this far apart, in face heights, have parted; a jaw below this has closed. As in live.py.
_PARTED, _CLOSED = 0.008, 0.02
_FRAME_S = 0.04


def main() -> None:
    """Start a server, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=0.0, help="a long session instead of rounds")
    parser.add_argument("--video", choices=["jpeg", "none"], default="jpeg")
    parser.add_argument("--prepared", type=float, default=8.0, help="seconds between preparing a session and asking for it; 0 begins cold")
    asked = parser.parse_args()
    asyncio.run(measure(asked))


async def measure(asked: argparse.Namespace) -> None:
    """A server, a portrait, and what was asked for."""
    with served() as address:
        async with httpx.AsyncClient(base_url=address, timeout=60.0) as client:
            avatar = await portrait_of(client)
            print(f"{machine()}, {asked.video}")
            if asked.minutes:
                await long_session(client, address, avatar, asked)
            else:
                await rounds_of(client, address, avatar, asked)


async def portrait_of(client: httpx.AsyncClient) -> str:
    """The first example, once the server is ready."""
    while True:
        await asyncio.sleep(0.2)
        try:
            found = (await client.get("/v1/avatars")).json()["data"]
            if found and (await client.get("/readyz")).status_code == 200:
                return str(found[0]["id"])
        except httpx.TransportError:
            pass


def speech() -> tuple[np.ndarray, int]:
    """The example, from its first loud sample on: no portrait can be blamed for a breath's silence."""
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", dtype="int16")
    return samples[int(np.argmax(np.abs(samples) > 0.03 * 32768)) :], rate_hz


class Viewer:
    """A client that hears, sees, acknowledges, and keeps when each message came."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        #: Moment, time of the frame in s, and loudness of each block, whole and behind a fade; moment and time of each picture; moment, jaw
        #: and lips of each row by time.
        self.sound: list[tuple[float, float, float, float]] = []
        self.pictures: list[tuple[float, float]] = []
        self.rows: dict[float, tuple[float, float, float]] = {}
        self.texts: list[dict[str, Any]] = []
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for message in self.socket:
            now = time.perf_counter()
            if isinstance(message, str):
                self.texts.append(json.loads(message))
                continue
            kind, _, _, number, pts_us = _HEADER.unpack_from(message)
            body, at = message[_HEADER.size :], pts_us / 1e6
            if kind == _PCM:
                level = np.abs(np.frombuffer(body, "<i2").astype(np.float32)) / 32768.0
                self.sound.append((now, at, float(level.max()), float(level[len(level) // 4 :].max())))
            elif kind == _MOTION:
                row = np.frombuffer(body, "<f4")
                curves = dict(zip(LIVE_LINK_CURVES, row, strict=False))
                ours = np.array([curves[name] for name in ARKIT_EXPRESSIONS])
                self.rows[at] = now, float(curves["jawOpen"]), float(lip_opening(ours, ARKIT_EXPRESSIONS))
            elif kind == _JPEG:
                self.pictures.append((now, at))
                await self.socket.send(json.dumps({"type": "ack", "pictures": number}))

    async def until(self, happens: Any, seconds: float = 60.0) -> Any:
        """Wait until something was seen; None where it is not."""
        end = time.perf_counter() + seconds
        while not (found := happens()) and time.perf_counter() < end:
            await asyncio.sleep(0.002)
        return found

    def heard(self, since: float, is_it: Any) -> float | None:
        """When the first block came that is wanted."""
        return next((now for now, _, loud, faded in self.sound if now > since and is_it(loud, faded)), None)

    def seen(self, since: float, is_it: Any, has_pictures: bool) -> float | None:
        """When the first picture, or row, came whose motion is wanted."""
        place = next((at for at, (now, jaw, lips) in self.rows.items() if now > since and is_it(jaw, lips)), None)
        if place is None or not has_pictures:
            return None if place is None else self.rows[place][0]
        return next((now for now, at in self.pictures if at >= place and now > since), None)


async def begin(client: httpx.AsyncClient, address: str, avatar: str, rate_hz: int, asked: argparse.Namespace) -> tuple[Any, float]:
    """A socket of a new session, and when it was asked for; a place may have to become free first."""
    if asked.prepared:
        await client.post("/v1/sessions/prepare", json={"avatar": avatar, "sample_rate": rate_hz})
        await asyncio.sleep(asked.prepared)
    body = {"avatar": avatar, "sample_rate": rate_hz, "video": asked.video, "motion": True}
    while True:
        began = time.perf_counter()
        answer = await client.post("/v1/sessions", json=body)
        if answer.status_code != 429:
            break
        await asyncio.sleep(0.2)
    return await websockets.connect(address.replace("http", "ws") + answer.json()["socket"], max_size=None), began


async def rounds_of(client: httpx.AsyncClient, address: str, avatar: str, asked: argparse.Namespace) -> None:
    """Latency: one reply and one interruption a session."""
    times: dict[str, list[float]] = {name: [] for name in ("start", "sound", "mouth", "silence", "closed", "healthz")}
    samples, rate_hz = speech()
    random = np.random.default_rng(0)
    has_pictures = asked.video != "none"
    asking = asyncio.create_task(ask(client, times["healthz"]))
    missed = 0
    for _ in range(asked.rounds):
        socket, began = await begin(client, address, avatar, rate_hz, asked)
        async with socket:
            viewer = Viewer(socket)
            await viewer.until(lambda viewer=viewer: viewer.sound)
            times["start"].append(viewer.sound[0][0] - began)
            await asyncio.sleep(1.0 + float(random.uniform(0.0, 0.1)))
            began = time.perf_counter()
            for at in range(0, 3 * rate_hz, rate_hz // 50):
                await socket.send(samples[at : min(at + rate_hz // 50, 3 * rate_hz)].tobytes())
            await asyncio.sleep(float(random.uniform(1.0, 2.0)))
            cut = time.perf_counter()
            await socket.send(json.dumps({"type": "interrupt"}))
            await asyncio.sleep(1.5)
            found = {
                "sound": (began, viewer.heard(began, lambda loud, faded: loud > _HEARD)),
                "mouth": (began, viewer.seen(began, lambda jaw, lips: lips > _PARTED, has_pictures)),
                "silence": (cut, viewer.heard(cut, lambda loud, faded: faded == 0.0)),
                "closed": (cut, viewer.seen(cut, lambda jaw, lips: jaw < _CLOSED, has_pictures)),
            }
            for name, (since, moment) in found.items():
                if moment is None:
                    missed += 1
                else:
                    times[name].append(moment - since)
            viewer.task.cancel()
    asking.cancel()
    for name, values in times.items():
        print(f"  {name:<8} {spread(1000.0 * np.array(values))} ({len(values)} times)")
    print(f"  never seen: {missed}, load now {os.getloadavg()[0]:.1f}")


async def long_session(client: httpx.AsyncClient, address: str, avatar: str, asked: argparse.Namespace) -> None:
    """One session: what comes late, and what belongs together and does not come together."""
    samples, rate_hz = speech()
    socket, _ = await begin(client, address, avatar, rate_hz, asked)
    async with socket:
        viewer = Viewer(socket)
        await viewer.until(lambda: viewer.sound)
        ends = time.perf_counter() + 60.0 * asked.minutes
        replies = 0
        while time.perf_counter() < ends:
            await socket.send(samples.tobytes())
            await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
            replies += 1
            # The next reply comes when this one has left, after a pause.
            count = replies
            await viewer.until(lambda count=count: sum(text["type"] == "speech.finished" for text in viewer.texts) >= count, 60.0)
            await asyncio.sleep(0.5)
        viewer.task.cancel()
    moments, places = np.array([one[0] for one in viewer.sound]), np.array([one[1] for one in viewer.sound])
    # The first second fills caches and is left out.
    steady = places > places[0] + 1.0
    start = float(np.median((moments - places)[steady][:250]))
    late = 1000.0 * ((moments - places)[steady] - start)
    print(f"  {len(places)} blocks of sound in {moments[-1] - moments[0]:.0f} s, {replies} replies")
    gaps = int(np.sum(np.abs(np.diff(places) - _FRAME_S) > 1e-4))
    print(f"  gaps in the sound: {gaps}; late {spread(late)}; within 40 ms {100.0 * np.mean(late < 40.0):.2f} %")
    tenth = max(len(late) // 10, 1)
    print(f"  drift from the first tenth to the last: {np.median(late[-tenth:]) - np.median(late[:tenth]):+.1f} ms")
    if viewer.pictures:
        came = {round(place / _FRAME_S): moment for moment, place, *_ in viewer.sound}
        pairs = [(moment, came.get(round(at / _FRAME_S))) for moment, at in viewer.pictures]
        offset = np.array([1000.0 * (moment - sound) for moment, sound in pairs if sound is not None])
        print(f"  pictures {len(viewer.pictures)} of {len(places)}; after their sound {spread(offset)}")
        levels = Counter(one["level"] for one in viewer.texts if one["type"] == "stats")
        print(f"  seconds in each quality: {dict(levels)}")
    print(f"  load now {os.getloadavg()[0]:.1f}")


def spread(values_ms: np.ndarray) -> str:
    """Median and 95 %."""
    return f"{np.median(values_ms):7.1f} ms median {np.percentile(values_ms, 95):7.1f} ms 95 %" if len(values_ms) else "not seen"


async def ask(client: httpx.AsyncClient, times: list[float]) -> None:
    """Ask whether the server lives, ten times a second."""
    while True:
        began = time.perf_counter()
        await client.get("/healthz")
        times.append(time.perf_counter() - began)
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    main()
