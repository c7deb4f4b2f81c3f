"""How soon the server answers: the page, a portrait of a photo, a job's start and its end when it is cancelled.

    python benchmarks/server.py [--rounds 5]

Medians and the slowest of a server that was just started, with one worker and nothing else to do. The page counts as open when all files
that it names are there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import httpx

EXAMPLES = Path(__file__).parents[1] / "examples"
T = TypeVar("T")
_FILES = re.compile(r"""(?:src|href)="(/?[\w./-]+\.(?:js|css|svg|json))\"""")


def main() -> None:
    """Start a server, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with served() as address, httpx.Client(base_url=address, timeout=60.0, headers={"X-Client-Id": "benchmark"}) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        print(machine())
        measure(client, asked.rounds)


def machine() -> str:
    """How many cores there are, and how busy they are."""
    return f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


@contextmanager
def served() -> Iterator[str]:
    """The address of a server that was just started, with one worker and no limit on requests."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "triportrait", "serve", "--port", "0", "--folder", folder, "--workers", "1", "--requests", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[0].rstrip("/")
        finally:
            process.terminate()
            process.wait()


def measure(client: httpx.Client, rounds: int) -> None:
    """Print the median and the slowest of each."""
    avatars = [timed(lambda: photo_to_avatar(client)) for _ in range(rounds)]
    avatar = avatars[-1][1]
    show("page", [timed(lambda: page(client))[0] for _ in range(rounds)])
    show("photo to avatar", [seconds for seconds, _ in avatars])
    starts, ends = [], []
    for _ in range(rounds):
        video = submit(client, avatar)
        starts.append(timed(lambda video=video: until(lambda: state(client, video) != "queued"))[0])
        until(lambda video=video: client.get(f"/v1/videos/{video}").json()["progress"] > 0)
        ends.append(timed(lambda video=video: cancelled(client, video))[0])
    show("submitted job to its start", starts)
    show("cancelled job to its end", ends)


def page(client: httpx.Client) -> None:
    """The page and all that it names."""
    text = client.get("/").raise_for_status().text
    for name in _FILES.findall(text):
        client.get(name if name.startswith("/") else f"/{name}").raise_for_status()
    # With the page's cookie the client would be somebody else.
    client.cookies.clear()


def photo_to_avatar(client: httpx.Client) -> str:
    """A photo, until its still can be seen."""
    files = {"photo": ("portrait.png", (EXAMPLES / "portrait2.png").read_bytes())}
    avatar = client.post("/v1/avatars", files=files, data={"consent": "true"}).raise_for_status().json()["id"]
    until(lambda: client.get(f"/v1/avatars/{avatar}/preview.jpg").status_code == 200)
    return str(avatar)


def submit(client: httpx.Client, avatar: str) -> str:
    """A video of the example's sentence."""
    form = {"avatar": avatar, "options": json.dumps({"quality": "standard"})}
    files = {"audio": ("speech.wav", (EXAMPLES / "speech.wav").read_bytes())}
    return str(client.post("/v1/videos", data=form, files=files).raise_for_status().json()["id"])


def state(client: httpx.Client, video: str) -> str:
    """``queued``, ``in_progress``, ..."""
    return str(client.get(f"/v1/videos/{video}").json()["status"])


def cancelled(client: httpx.Client, video: str) -> None:
    """Cancel a video that is being made, until the worker takes the next one."""
    client.delete(f"/v1/videos/{video}").raise_for_status()
    until(lambda: client.get(f"/v1/videos/{video}").json().get("status") != "in_progress")


def until(done: Callable[[], bool]) -> None:
    """Ask every 10 ms."""
    while not done():
        time.sleep(0.01)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds, and the result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def show(what: str, seconds: list[float]) -> None:
    """One line."""
    print(f"{what:30s} median {statistics.median(seconds):6.2f} s, slowest {max(seconds):6.2f} s")


if __name__ == "__main__":
    main()
