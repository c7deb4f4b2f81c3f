"""Webhooks: only where the operator allows it, signed, tried again, and never elsewhere."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from starlette.testclient import TestClient

from app_answers import error_of, example_avatar
from triportrait.app import webhooks as room
from triportrait.app.jobs import JobTable
from triportrait.app.server import Server, make_app
from triportrait.app.webhooks import Webhook, Webhooks, read_webhooks
from triportrait.errors import OptionError

SECRET = b"0123456789abcdef"


class Ear(http.server.BaseHTTPRequestHandler):
    """Another server, which hears what it is told."""

    heard: list[tuple[str, dict[str, str], bytes]] = []
    answers: list[int] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.heard.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        status = self.answers.pop(0) if self.answers else 200
        self.send_response(status)
        if status == 302:
            self.send_header("location", "/secret")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def ear() -> Iterator[str]:
    Ear.heard, Ear.answers = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hooks"
    server.shutdown()
    server.server_close()


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def ended_job(table: JobTable, name: str, address: str) -> None:
    table.add("me", "avt_1", "audio", {}, name, webhook=address)
    assert table.claim("w") and table.finish(name, "w", made={"seconds": "1.00"})


def test_the_end_of_a_video_is_told_once_and_signed(tmp_path: Path, ear: str) -> None:
    name = example_avatar(tmp_path)
    server = Server(tmp_path, workers=0, webhooks=(Webhook(ear, SECRET),))
    with TestClient(make_app(server)) as client:
        asked = {"avatar": name, "webhook": f"{ear}/mine"}
        made = client.post("/v1/videos", files={"audio": b"x"}, data=asked).json()["id"]
        assert not Ear.heard
        job = server.store.jobs.claim("w")
        assert job is not None and server.store.jobs.finish(made, "w", made={"seconds": "1.00"})
        until = time.monotonic() + 60.0
        while server.store.jobs.untold() and time.monotonic() < until:
            time.sleep(0.05)
        assert not server.webhooks.tell()
    [(path, headers, body)] = Ear.heard
    told = json.loads(body)
    assert path == "/hooks/mine" and told["type"] == "video.completed" and told["data"]["id"] == made
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    seal = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{seal}"


def tell(hooks: Webhooks) -> int:
    """Tell, and wait until it is done; returns how many."""
    begun = hooks.tell()
    for one in begun:
        one.result(30.0)
    return len(begun)


def test_an_event_bears_the_moment_and_is_told_once(tmp_path: Path, ear: str) -> None:
    clock = Clock()
    table = JobTable(tmp_path / "jobs.sqlite", clock)
    hooks = Webhooks((Webhook(ear, SECRET),), table, clock)
    ended_job(table, "vid_1", ear)
    assert (tell(hooks), tell(hooks)) == (1, 0)
    [(_, headers, body)] = Ear.heard
    assert int(headers["webhook-timestamp"]) == json.loads(body)["created_at"] == 1_000_000


class Slow(socketserver.StreamRequestHandler):
    """A server whose answer comes byte by byte and never ends."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                self.wfile.write(b"x")
                time.sleep(0.05)


def test_who_answers_slowly_is_given_up_and_delays_nobody(tmp_path: Path, ear: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ANSWER_S", 1.0)
    clock = Clock()
    table = JobTable(tmp_path / "jobs.sqlite", clock)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        slow = f"http://127.0.0.1:{server.server_address[1]}/x"
        hooks = Webhooks((Webhook(slow, SECRET), Webhook(ear, SECRET)), table, clock)
        for number in range(5):
            ended_job(table, f"vid_{number}", slow)
        ended_job(table, "vid_9", ear)
        begun = hooks.tell()
        # What is under way is not begun again, and the one behind the slow ones is told while they are waited for.
        assert len(begun) == 6 and not hooks.tell()
        begun[-1].result(30.0)
        for one in begun:
            one.result(30.0)
        assert [path for path, _, _ in Ear.heard] == ["/hooks"]
        clock.now_s += 20.0
        assert [tries for _, _, tries in table.untold()] == [1] * 5
        # Whoever is being told when the server ends is told again by the next one, and nobody waits for them.
        monkeypatch.setattr(room, "_ANSWER_S", 1000.0)
        begun = hooks.tell()
        hooks.close()
        for one in begun:
            assert one.cancelled() or one.result(30.0) is None
        assert [tries for _, _, tries in table.untold()] == [1] * 5 and not hooks.tell()
        server.shutdown()


def test_who_does_not_answer_is_told_again_and_at_last_no_more(tmp_path: Path, ear: str) -> None:
    clock = Clock()
    table = JobTable(tmp_path / "jobs.sqlite", clock)
    hooks = Webhooks((Webhook(ear, SECRET),), table)
    ended_job(table, "vid_1", ear)
    Ear.answers = [500] * 20
    for count, wait_s in enumerate((*room.WAITS_S, 1e6), 1):
        assert (tell(hooks), tell(hooks)) == (1, 0)  # the second is too soon
        assert len(Ear.heard) == count
        clock.now_s += wait_s + 1.0
    tell(hooks)
    assert len(Ear.heard) == 1 + len(room.WAITS_S)
    # One that answers in the end is told no more; a way elsewhere is not taken.
    ended_job(table, "vid_2", ear)
    Ear.heard.clear()
    Ear.answers = [302, 204]
    for _ in range(3):
        tell(hooks)
        clock.now_s += 20.0
    assert [path for path, _, _ in Ear.heard] == ["/hooks", "/hooks"]
    # Nobody listens there, and the operator took one away.
    nobody = "http://127.0.0.1:9/x"
    ended_job(table, "vid_3", nobody)
    tell(Webhooks((Webhook(nobody, SECRET),), table))
    assert not table.untold()
    clock.now_s += 60.0
    assert [tries for _, _, tries in table.untold()] == [1]
    tell(hooks)
    assert not table.untold()


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest",
        "http://example.org.evil.net/hooks",
        "http://example.org/hooksmore",
        "http://example.org/hooks/../admin",
        "http://example.org/hooks/%2E%2e/admin",
        "https://example.org/hooks",
        "http://example.org@evil.net/hooks",
        "file:///etc/passwd",
        "http://example.org/hooks/\r\nX: y",
        "http://example.org/hooks/ä",
        "http://example.org/hooks/a b",
        "http://example.org/hooks/a#b",
    ],
)
def test_no_other_address_is_taken(tmp_path: Path, address: str) -> None:
    name = example_avatar(tmp_path)
    server = Server(tmp_path, workers=0, webhooks=(Webhook("http://example.org/hooks", SECRET),))
    with TestClient(make_app(server)) as client:
        answer = client.post("/v1/videos", files={"audio": b"x"}, data={"avatar": name, "webhook": address})
        assert error_of(answer)[:2] == (400, "E_OPTION") and answer.json()["error"]["field"] == "webhook"
        assert not list((tmp_path / "videos").iterdir())


def test_the_list_of_addresses_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "hooks"
    path.write_text("# ours\n\nhttps://example.org/a 0123456789abcdef\nhttp://b.example:8000/ 0123456789abcdefgh\n")
    assert [one.address for one in read_webhooks(path)] == ["https://example.org/a", "http://b.example:8000/"]
    for text in (
        "# none\n",
        "https://example.org/a short\n",
        "ftp://example.org 0123456789abcdef\n",
        "nonsense\n",
        "http://[::1/x 0123456789abcdef\n",
        "http://example.org:99999/ 0123456789abcdef\n",
        "http://example.org:port/ 0123456789abcdef\n",
        "http://example.org/ä 0123456789abcdef\n",
        "http://example.org/#a 0123456789abcdef\n",
        "http://example.org/ whsec_not-base64-but-long-enough\n",
        "http://example.org/ whsec_c2hvcnQ=\n",
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(OptionError, match="write"):
            read_webhooks(path)


def test_a_secret_of_standard_webhooks_is_read_as_bytes(tmp_path: Path) -> None:
    # The secret and the signature with which https://github.com/standard-webhooks/standard-webhooks shows its format.
    path = tmp_path / "hooks"
    path.write_text("https://example.org/a whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    [one] = read_webhooks(path)
    assert one.secret == base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") and len(one.secret) == 24
    headers = room.signed(one.secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', 1_614_265_330)
    assert headers["Webhook-Signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_table_of_an_older_version_is_taken_over(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "jobs.sqlite"
    with sqlite3.connect(path) as table:
        table.execute(
            """CREATE TABLE jobs (id TEXT PRIMARY KEY, client TEXT NOT NULL, avatar TEXT NOT NULL, kind TEXT NOT NULL,
            options TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, progress INTEGER NOT NULL DEFAULT 0,
            lease REAL NOT NULL DEFAULT 0, worker TEXT, created REAL NOT NULL, started REAL, finished REAL, error TEXT, idempotency TEXT,
            UNIQUE (client, idempotency))"""
        )
        table.execute(
            "INSERT INTO jobs (id, client, avatar, kind, options, state, created) VALUES ('vid_1', 'me', 'a', 'audio', '{}', 'queued', 1)"
        )
    jobs = JobTable(path)
    assert jobs.get("vid_1") is not None and not jobs.untold()
