"""The live portrait through the server: how long a session takes to begin, a first byte to become sound, and an interruption to be silence.

    python benchmarks/live_socket.py --rounds 10

It starts ``triportrait serve`` on a free port, and talks to it as a browser does. Beside it, ``/healthz`` is asked all the time: what it
takes shows whether the server's event loop is ever held up while a portrait is drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
import websockets

EXAMPLES = Path(__file__).parents[1] / "examples"
_HEADER = struct.Struct("<BBHIQ")
_PCM = 3
#: Louder than this is speech, in parts of full scale.
_HEARD = 0.02


async def main() -> None:
    """Start a server, talk, and print medians and 95 %."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "triportrait", "serve", "--port", "0", "--folder", folder, "--workers", "1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split()[0].rstrip("/")
            async with httpx.AsyncClient(base_url=address, timeout=60.0) as client:
                await measure(client, address, rounds)
        finally:
            process.terminate()
            process.wait()


async def measure(client: httpx.AsyncClient, address: str, rounds: int) -> None:
    """All figures of one session after another."""
    avatar = None
    while avatar is None:
        await asyncio.sleep(0.2)
        try:
            found = (await client.get("/v1/avatars")).json()["data"]
            avatar = found[0]["id"] if (await client.get("/readyz")).status_code == 200 else None
        except httpx.TransportError:
            pass
    times: dict[str, list[float]] = {name: [] for name in ("start", "sound", "silence", "healthz")}
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", dtype="int16")
    asking = asyncio.create_task(ask(client, times["healthz"]))
    for _ in range(rounds):
        began = time.perf_counter()
        session = (await client.post("/v1/sessions", json={"avatar": avatar, "sample_rate": rate_hz})).json()
        async with websockets.connect(address.replace("http", "ws") + session["socket"], max_size=None) as socket:
            await heard(socket, lambda kind, sound: kind == _PCM)
            times["start"].append(time.perf_counter() - began)
            await asyncio.sleep(0.5)
            began = time.perf_counter()
            await socket.send(samples[: 3 * rate_hz].tobytes())
            await heard(socket, lambda kind, sound: kind == _PCM and np.abs(sound).max() > _HEARD)
            times["sound"].append(time.perf_counter() - began)
            await heard(socket, lambda kind, sound: kind == _PCM, 25)
            began = time.perf_counter()
            await socket.send(json.dumps({"type": "interrupt"}))
            await heard(socket, lambda kind, sound: kind == _PCM and not sound.any())
            times["silence"].append(time.perf_counter() - began)
    asking.cancel()
    load = os.getloadavg()[0]
    for name, values in times.items():
        median, late = np.percentile(np.array(values) * 1000.0, [50, 95])
        print(f"{name:<8} {median:7.0f} ms median {late:7.0f} ms 95 %  ({len(values)} times, load {load:.0f})")


async def ask(client: httpx.AsyncClient, times: list[float]) -> None:
    """Ask whether the server lives, ten times a second."""
    while True:
        began = time.perf_counter()
        await client.get("/healthz")
        times.append(time.perf_counter() - began)
        await asyncio.sleep(0.1)


async def heard(socket: Any, is_it: Any, count: int = 1) -> None:
    """Listen until ``count`` messages are what is waited for."""
    while count:
        message = await socket.recv()
        if isinstance(message, bytes):
            kind, _, _, number, _ = _HEADER.unpack_from(message)
            if kind == 1:
                await socket.send(json.dumps({"type": "ack", "pictures": number}))
            sound = np.frombuffer(message[_HEADER.size :], "<i2").astype(np.float32) / 32768.0 if kind == _PCM else np.zeros(0)
            count -= bool(is_it(kind, sound))


if __name__ == "__main__":
    asyncio.run(main())
