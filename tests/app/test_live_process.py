"""Live portraits in processes of their own: the ring of pictures, a death in the middle, and nothing that stays behind."""

from __future__ import annotations

import gc
import json
import os
import signal
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import soundfile

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from starlette.testclient import TestClient

from app_answers import error_of
from triportrait.app import live_process as wire
from triportrait.app.live_process import PictureRing
from triportrait.app.live_socket import LiveProcess
from triportrait.app.server import EXAMPLES, Server

#: Sessions that are opened and closed; the variable asks for more.
SESSIONS = int(os.environ.get("TRIPORTRAIT_LIVE_SESSIONS", "4"))
pytestmark = pytest.mark.skipif(os.name != "posix", reason="handles are handed down on POSIX only")


def test_the_ring_keeps_the_newest_pictures_and_never_half_of_one() -> None:
    ring = PictureRing()
    other = PictureRing(os.dup(ring.handle))
    try:
        for number in range(1, 20):
            assert ring.put(number, bytes([number]) * (1000 + number))
        assert other.take(19) == bytes([19]) * 1019 and other.take(15) == bytes([15]) * 1015
        assert other.take(2) is None and other.take(13) is None
        assert not ring.put(20, b"x" * (1 << 20)) and other.take(20) is None and other.take(19) is not None
        torn, stop = [], threading.Event()

        def write() -> None:
            number = 100
            while not stop.is_set():
                number += 1
                ring.put(number, bytes([number % 251]) * 200_000)
                written.append(number)

        written: list[int] = [100]
        thread = threading.Thread(target=write)
        thread.start()
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            number = written[-1]
            picture = other.take(number)
            if picture is not None and picture != bytes([number % 251]) * 200_000:
                torn.append(number)
        stop.set()
        thread.join()
        assert not torn
    finally:
        ring.close()
        other.close()


class Viewer:
    """What a client hears, in order."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.texts: list[dict[str, Any]] = []
        self.times: list[int] = []
        self.pictures: list[int] = []
        self.replies: set[int] = set()

    def until(self, kind: str, seconds: float = 120.0) -> dict[str, Any]:
        """Listen until a text of a kind comes, or for the kind ``frames`` until three frames came; a slow machine leaves out pictures."""
        end, before = time.monotonic() + seconds, len(self.times)
        while time.monotonic() < end:
            message = self.socket.receive()
            if message.get("text") is not None:
                self.texts.append(json.loads(message["text"]))
                if self.texts[-1]["type"] == kind:
                    return self.texts[-1]
            elif message.get("bytes") is not None:
                kind_of, _, reply, number, pts = struct.unpack("<BBHIQ", message["bytes"][:16])
                if kind_of == wire.JPEG:
                    assert message["bytes"][16:18] == b"\xff\xd8"
                    self.pictures.append(number)
                    self.socket.send_text(json.dumps({"type": "ack", "pictures": number}))
                else:
                    self.times.append(pts)
                    self.replies |= {reply}
                    if kind == "frames" and len(self.times) >= before + 3:
                        return {}
            else:
                break
        raise AssertionError(f"no {kind} within {seconds} s, only {[text['type'] for text in self.texts]}")


def begun(client: TestClient, avatar: str, rate_hz: int = 16_000) -> str:
    answer = client.post("/v1/sessions", json={"avatar": avatar, "sample_rate": rate_hz})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["socket"])


def process_of(server: Server) -> LiveProcess:
    ticket = next(ticket for ticket in server.live._open.values() if not ticket.done.is_set())
    return ticket.process


def test_a_death_is_told_and_another_process_goes_on(client: TestClient, server: Server, avatar: str) -> None:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", dtype="int16")
    with client.websocket_connect(begun(client, avatar, rate_hz)) as socket:
        viewer = Viewer(socket)
        viewer.until("session.created")
        socket.send_text('{"type": "session.update", "controls": {"emotion": "happy"}}')
        assert viewer.until("session.updated")["controls"] == {"emotion": "happy"}
        socket.send_bytes(samples[: 4 * rate_hz].tobytes())
        first = viewer.until("speech.started")["reply"]
        viewer.until("frames")
        # The server's loop goes on meanwhile: it answers others at once.
        os.kill(process_of(server).pid, signal.SIGKILL)
        finished = viewer.until("speech.finished")
        assert finished["interrupted"] and finished["reply"] == first and 0 <= finished["played_ms"] < 4000
        error = viewer.until("error")
        assert error["code"] == "E_LIVE_STOPPED" and error["message"] and error["remedy"]
        viewer.until("session.restarted")
        assert viewer.until("session.updated")["controls"] == {"emotion": "happy"}
        viewer.until("frames")
        socket.send_bytes(samples[: 2 * rate_hz].tobytes())
        socket.send_text('{"type": "input_audio_buffer.commit"}')
        assert viewer.until("speech.started")["reply"] == first + 1
        assert not viewer.until("speech.finished")["interrupted"]
    # One clock throughout: time and numbers only grow, and no reply has two ends.
    assert viewer.times == sorted(set(viewer.times)) and viewer.pictures == sorted(set(viewer.pictures))
    assert viewer.replies <= {0, first, first + 1}
    assert len([text for text in viewer.texts if text["type"] == "speech.finished"]) == 2


def test_what_cannot_be_read_is_answered_and_the_session_goes_on(client: TestClient, avatar: str) -> None:
    with client.websocket_connect(begun(client, avatar)) as socket:
        viewer = Viewer(socket)
        viewer.until("session.created")
        for text in ("", "[]", "{", '{"type": "ack", "pictures": "x"}', '{"type": 3}', "[" * 5000, '{"type": "ack", "pictures": 1e999}'):
            socket.send_text(text)
            error = viewer.until("error")
            assert error["message"].endswith(".") and error["remedy"].endswith(".")
        for controls in ({"emotion": "nobody"}, {"nose": 1}, {"head_motion": 99}, 3, {"emotion": ["x"]}):
            socket.send_text(json.dumps({"type": "session.update", "controls": controls}))
            assert viewer.until("error")["remedy"]
        socket.send_bytes(b"odd")
        assert "16 bit" in viewer.until("error")["remedy"]
        viewer.until("frames")


def test_only_so_many_converse_and_who_does_not_come_gives_way(client: TestClient, server: Server, avatar: str) -> None:
    waiting = [begun(client, avatar) for _ in range(2)]
    processes = [ticket.process for ticket in server.live._waiting.values()]
    full = client.post("/v1/sessions", json={"avatar": avatar})
    assert error_of(full)[:2] == (429, "E_FULL") and full.headers["retry-after"]
    for ticket in server.live._waiting.values():
        object.__setattr__(ticket, "until", 0.0)
    with client.websocket_connect(begun(client, avatar)) as socket:
        Viewer(socket).until("frames")
    assert len(waiting) == 2 and all(process._process.poll() is not None for process in processes)


def resources() -> tuple[int, int, int]:
    """Threads, open files and children of this process."""
    gc.collect()
    handles = len(os.listdir("/proc/self/fd"))
    children = len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
    return threading.active_count(), handles, children


def resident_mb() -> float:
    """Memory of this process that is in use, in MB."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts what Linux shows")
# A session takes seconds on a slow machine.
@pytest.mark.timeout(max(300, 30 * SESSIONS))
def test_sessions_that_come_and_go_leave_nothing(client: TestClient, server: Server, avatar: str) -> None:
    def converse(number: int) -> None:
        socket_path = begun(client, avatar)
        if number % 4 == 3:  # who never comes
            for ticket in server.live._waiting.values():
                object.__setattr__(ticket, "until", 0.0)
            server.live.sweep()
            return
        with client.websocket_connect(socket_path) as socket:
            viewer = Viewer(socket)
            viewer.until("session.created")
            if number % 4 != 2:
                viewer.until("frames")
            if number % 4 == 1:  # the process goes first
                os.kill(process_of(server).pid, signal.SIGTERM)

    converse(0)
    time.sleep(0.5)
    before, before_mb = resources(), resident_mb()
    for number in range(SESSIONS):
        converse(number)
    until = time.monotonic() + 10.0
    while resources() > before and time.monotonic() < until:
        time.sleep(0.1)
    after = resources()
    assert server.live.count == 0
    assert after[0] <= before[0] + 2 and after[1] <= before[1] + 2 and after[2] <= before[2], (before, after)
    after_mb = resident_mb()
    print(f"{SESSIONS} sessions: {before_mb:.1f} MB before, {after_mb:.1f} MB after; threads, files, children {before} and {after}")
    # Some of it stays with the allocator, however many sessions there were.
    assert after_mb < before_mb + 30.0


def test_a_prepared_process_is_taken_and_an_unwanted_one_ends(client: TestClient, server: Server, avatar: str) -> None:
    asked = {"avatar": avatar, "sample_rate": 16_000}
    assert client.post("/v1/sessions/prepare", json=asked).status_code == 202
    spare = server.live._spare
    assert spare is not None and client.post("/v1/sessions/prepare", json=asked).status_code == 202
    assert server.live._spare is spare  # one is enough
    with client.websocket_connect(begun(client, avatar)) as socket:
        assert server.live._spare is None and process_of(server) is spare
        Viewer(socket).until("frames")
    # One for another conversation waits for that one, until another is prepared; one for whom nobody comes ends.
    client.post("/v1/sessions/prepare", json=asked | {"video": "none"})
    other = server.live._spare
    assert other is not None and other is not spare
    with client.websocket_connect(begun(client, avatar)) as socket:
        assert server.live._spare is other and process_of(server) is not other
        Viewer(socket).until("frames")
    client.post("/v1/sessions/prepare", json=asked)
    unwanted = server.live._spare
    assert unwanted is not None and unwanted is not other and not other.is_alive
    unwanted.began_s -= 1000.0
    server.live.sweep()
    assert server.live._spare is None and not unwanted.is_alive
    assert client.post("/v1/sessions/prepare", json={"avatar": "avt_" + "9" * 24}).status_code == 404


def test_a_head_that_the_browser_draws_is_prepared_as_well(client: TestClient, server: Server, avatar: str) -> None:
    asked = {"avatar": avatar, "sample_rate": 16_000, "video": "none"}
    client.post("/v1/sessions/prepare", json=asked)
    spare = server.live._spare
    session = client.post("/v1/sessions", json=asked | {"motion": True}).json()
    with client.websocket_connect(session["socket"]) as socket:
        assert spare is not None and process_of(server) is spare
        Viewer(socket).until("frames")


def test_a_dead_spare_is_let_go_and_a_full_house_keeps_none(client: TestClient, server: Server, avatar: str) -> None:
    asked = {"avatar": avatar, "sample_rate": 16_000}
    client.post("/v1/sessions/prepare", json=asked | {"sample_rate": 24_000})
    dead = server.live._spare
    assert dead is not None
    os.kill(dead.pid, signal.SIGKILL)
    dead._process.wait()
    client.post("/v1/sessions/prepare", json=asked | {"sample_rate": 24_000})
    spare = server.live._spare
    assert dead._ring is None and dead._process.stdin is not None and dead._process.stdin.closed
    assert spare is not None and spare is not dead
    sessions = [client.post("/v1/sessions", json=asked).json() for _ in range(2)]
    assert server.live._spare is None and not spare.is_alive
    assert client.post("/v1/sessions", json=asked).status_code == 429
    # A session that nobody opens can be given back at once.
    for session in sessions:
        address = f"/v1/sessions/{session['id']}/offer?key="
        assert client.delete(address + "wrong").status_code == 404
        assert client.delete(address + session["token"]).status_code == 200
        assert client.delete(address + session["token"]).status_code == 404
    assert not server.live._waiting
