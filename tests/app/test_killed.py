"""``triportrait serve`` as a process: its worker, then the server itself, is killed in the middle of a job, and the job completes."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
import httpx

from triportrait.app.server import EXAMPLES
from triportrait.app.worker import VIDEO
from triportrait.media.video import VideoReader
from triportrait.performance import PIECES_SUFFIX

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")


class Serve:
    """The command, and a client of it."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "triportrait", "serve", "--port", "0", "--folder", str(folder), "--workers", "1"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[0].rstrip("/")
        self.client = httpx.Client(base_url=self.address, headers={"X-Client-Id": "tests"}, timeout=300.0)
        try:
            # The first example is enough; the server itself is ready when it has all.
            self.until(lambda: self.client.get("/v1/avatars").json()["data"] and self.workers(), 240.0)
        except BaseException:
            self.end()
            raise

    def until(self, happens, seconds: float) -> None:
        """Wait for something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if happens():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("it did not happen in time")

    def workers(self) -> list[int]:
        """Processes that make videos."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children if b"triportrait.app.worker" in Path(f"/proc/{child}/cmdline").read_bytes()]

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it, and wait for it."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(30)
        self.client.close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for path in Path("/proc").glob("[0-9]*/cmdline"):  # workers of a server that was killed end after their job
        try:
            words = path.read_bytes().split(b"\0")
            if b"triportrait.app.worker" in words and str(tmp_path).encode() in words:
                os.kill(int(path.parent.name), signal.SIGKILL)
        except (OSError, ProcessLookupError):
            pass


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks at processes as Linux shows them")
def test_a_video_survives_its_worker_and_its_server(folder: Path) -> None:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav")
    voice = folder / "voice.wav"
    soundfile.write(voice, np.tile(samples, 2)[: 16 * rate_hz], rate_hz)
    server = Serve(folder)
    try:
        avatar = next(one for one in server.client.get("/v1/avatars").json()["data"] if one["example"])["id"]
        # What is too large is refused while it comes: the client hears it, although it has more to send.
        assert _refused(server.address)
        assert not list((folder / "incoming").iterdir())
        with voice.open("rb") as sound:
            data = {"avatar": avatar, "options": '{"quality": "draft"}'}
            made = server.client.post("/v1/videos", files={"audio": sound}, data=data).json()["id"]
        pieces = folder / "videos" / made / f"{VIDEO}{PIECES_SUFFIX}"

        def kept() -> dict[str, int]:
            return {path.name: path.stat().st_mtime_ns for path in pieces.glob("[0-9]*.mp4")}

        server.until(lambda: len(kept()) >= 1, 240.0)
        os.kill(server.workers()[0], signal.SIGKILL)
        first = kept()
        server.until(lambda: len(kept()) >= len(first) + 1, 240.0)
        second = kept()
        assert first.items() <= second.items()
        workers = server.workers()
        server.end(signal.SIGKILL)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        second = kept()
        server = Serve(folder)
        until = time.monotonic() + 240.0
        while (job := server.client.get(f"/v1/videos/{made}").json())["status"] in ("queued", "in_progress") and time.monotonic() < until:
            now = kept()
            if len(now) >= len(second):
                assert second.items() <= now.items(), "a piece that was finished was drawn again"
            time.sleep(0.05)
        assert job["status"] == "completed", job
        assert job["seconds"] == "16.00" and job["format"] == "mp4"
        video = folder / "made.mp4"
        video.write_bytes(server.client.get(f"/v1/videos/{made}/content").content)
        with VideoReader(video) as reader:
            assert reader.has_audio and len(list(reader.frames(None))) == 400
        thumbnail = server.client.get(f"/v1/videos/{made}/content", params={"variant": "thumbnail"})
        assert thumbnail.content[:2] == b"\xff\xd8"
        livelink = server.client.get(f"/v1/videos/{made}/content", params={"variant": "livelink"})
        assert livelink.text.count("\n") >= 400
        found = server.client.post("/v1/detect", files={"file": ("made.mp4", video.read_bytes())}).json()
        assert found["generated"] and "does not exist" in found["manifest"]["consent"]
    finally:
        server.end()


def _refused(address: str) -> bool:
    """Whether an upload without an announced length gets its 413 long before its end."""
    place = urlsplit(address)
    head = (
        f"POST /v1/videos HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: multipart/form-data; boundary=xyz\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    start = b'--xyz\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'
    block = b"x" * (1 << 20)
    with socket.create_connection((place.hostname, place.port), timeout=30.0) as line:
        line.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(start), start))
        for _ in range(230):
            if select.select([line], [], [], 0.0)[0]:
                break
            line.sendall(b"%x\r\n%b\r\n" % (len(block), block))
        answer = HTTPResponse(line)  # its head and its body may come apart
        answer.begin()
        return answer.status == 413 and json.loads(answer.read())["error"]["code"] == "E_TOO_LARGE"
