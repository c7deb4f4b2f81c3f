"""Whose list of videos is whose, by cookie, token, id or address; and whether the server is ready."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from starlette.testclient import TestClient

from app_answers import error_of, example_avatar
from triportrait.app.access import client_of
from triportrait.app.server import Server, make_app


def test_every_program_has_a_list_of_its_own(tmp_path: Path) -> None:
    name = example_avatar(tmp_path)
    who = [
        {"Authorization": "Bearer one"},
        {"Authorization": "Bearer two"},
        {"X-Client-Id": "one"},
        {"X-Client-Id": "two"},
        {"Authorization": "Bearer one", "X-Client-Id": "one"},
        {"Cookie": f"triportrait_client={'a' * 32}"},
        {},
    ]
    with TestClient(make_app(Server(tmp_path, workers=0))) as client:
        made = [client.post("/v1/videos", files={"audio": b"x"}, data={"avatar": name}, headers=headers).json()["id"] for headers in who]
        for headers, own in zip(who, made, strict=True):
            assert [one["id"] for one in client.get("/v1/videos", headers=headers).json()["data"]] == [own]
            for foreign in set(made) - {own}:
                for path in ("", "/content", "/events"):
                    assert client.get(f"/v1/videos/{foreign}{path}", headers=headers).status_code == 404
                assert client.delete(f"/v1/videos/{foreign}", headers=headers).status_code == 404
        # A cookie that is none of ours is nobody's; what is said too loudly is refused.
        assert client.get("/v1/videos", headers={"Cookie": "triportrait_client=../../x"}).json()["data"][0]["id"] == made[-1]
        assert error_of(client.get("/v1/videos", headers={"X-Client-Id": "x" * 500}))[:2] == (400, "E_OPTION")
    table = (tmp_path / "jobs.sqlite").read_bytes() + b"".join(path.read_bytes() for path in tmp_path.glob("jobs.sqlite-*"))
    assert b"Bearer" not in table and b"two" not in table


def test_an_address_is_a_client_of_its_own() -> None:
    class Connection:
        def __init__(self, host: str) -> None:
            self.headers: dict[str, str] = {}
            self.client = type("Address", (), {"host": host})

    assert client_of(Connection("10.0.0.1")) == client_of(Connection("10.0.0.1")) != client_of(Connection("10.0.0.2"))


def test_several_tokens_open_the_door_and_divide_the_videos(tmp_path: Path) -> None:
    name = example_avatar(tmp_path)
    with TestClient(make_app(Server(tmp_path, workers=0, token="first\nsecond\n"))) as client:
        bearers = [{"Authorization": f"Bearer {token}"} for token in ("first", "second")]
        made = [client.post("/v1/videos", files={"audio": b"x"}, data={"avatar": name}, headers=bearer).json()["id"] for bearer in bearers]
        for bearer, own in zip(bearers, made, strict=True):
            assert [one["id"] for one in client.get("/v1/videos", headers=bearer).json()["data"]] == [own]
        for wrong in ("third", "", "first\nsecond", "firs", "é"):
            for path in ("/v1/videos", "/", "/metrics", "/openapi.json"):
                answer = client.get(path, headers={"Authorization": f"Bearer {wrong}".encode()})
                assert error_of(answer)[:2] == (401, "E_NO_TOKEN")
        assert client.get("/healthz").status_code == 200 and client.get("/readyz").status_code in (200, 503)


def test_ready_is_more_than_alive(tmp_path: Path) -> None:
    with TestClient(make_app(Server(tmp_path, workers=0))) as client:
        until = time.monotonic() + 20.0
        while (answer := client.get("/readyz")).status_code != 200 and time.monotonic() < until:
            status, code, _ = error_of(answer)
            assert (status, code) == (503, "E_STARTING") and answer.headers["retry-after"]
            time.sleep(0.05)
        assert answer.json() == {"status": "ready"}
    server = Server(tmp_path, workers=2)
    server.is_prepared = True
    assert server.lacks == "No worker runs."
