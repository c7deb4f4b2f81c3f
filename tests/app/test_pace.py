"""How often a client may ask, by a clock of the test's own, and what the server says to who asks too often."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from app_answers import error_of, example_avatar
from triportrait.app import pace
from triportrait.app.pace import Pace, kind_of
from triportrait.app.schemas import ApiError
from triportrait.app.server import Server, make_app


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def tries(paced: Pace, count: int, client: str = "me", address: str = "here", kind: str = "") -> int:
    """How many of so many requests are answered."""
    answered = 0
    for _ in range(count):
        try:
            paced.take(client, address, kind)
            answered += 1
        except ApiError as error:
            assert error.status == 429 and error.retry_after_s is not None and error.headers == {"Retry-After": f"{error.retry_after_s}"}
    return answered


def test_whoever_was_quiet_may_hurry_and_then_keeps_the_pace() -> None:
    clock = Clock()
    paced = Pace(120, clock)
    assert tries(paced, 500) == 120
    assert tries(paced, 500, client="another") == 120
    clock.now_s += 10.0
    assert tries(paced, 500) == 20
    clock.now_s += 3600.0
    assert tries(paced, 500) == 120


def test_what_is_dear_is_counted_apart() -> None:
    paced = Pace(1200, Clock())
    assert (paced.allowed("jobs"), paced.allowed("files"), paced.allowed("sessions"), paced.allowed("")) == (10, 20, 30, 1200)
    assert tries(paced, 50, kind="jobs") == 10 and tries(paced, 50, kind="files") == 20
    # What was refused was not counted.
    assert tries(paced, 5000) == 1200 - 30


def test_the_wait_that_is_told_is_long_enough_and_not_longer() -> None:
    clock = Clock()
    for most, kind in ((120, ""), (7, ""), (1200, "jobs")):
        paced = Pace(most, clock)
        tries(paced, 2000, kind=kind)
        with pytest.raises(ApiError, match="in a minute") as caught:
            paced.take("me", "here", kind)
        wait_s = caught.value.retry_after_s
        assert wait_s and f"{wait_s} second" in str(caught.value.remedy)
        clock.now_s += wait_s
        assert tries(paced, 1, kind=kind) == 1


def test_new_names_from_one_address_get_no_farther() -> None:
    paced = Pace(60, Clock())
    assert sum(tries(paced, 1, client=f"name {number}") for number in range(5000)) == 600
    assert tries(paced, 1, client="name", address="elsewhere") == 1


def test_over_any_minute_nobody_gets_more_than_twice_the_pace(seed: int) -> None:
    clock, chance = Clock(), random.Random(seed)
    paced, answered = Pace(90, clock), []
    for _ in range(4000):
        clock.now_s += chance.expovariate(4.0)
        if tries(paced, 1):
            answered.append(clock.now_s)
    for start in range(0, int(clock.now_s), 7):
        assert sum(start <= moment < start + 60 for moment in answered) <= 180
    assert len(answered) <= 90 * (1 + clock.now_s / 60)


def test_names_are_forgotten_and_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_REMEMBERED", 100)
    paced = Pace(60, Clock())
    for number in range(1000):
        tries(paced, 1, client=f"name {number}", address=f"place {number}")
    assert len(paced._buckets) <= 100


def test_no_limit_is_none() -> None:
    assert tries(Pace(0, Clock()), 10_000, kind="jobs") == 10_000


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/videos", "jobs"),
        ("POST", "/v1/motions", "jobs"),
        ("POST", "/v1/avatars", "files"),
        ("POST", "/v1/detect", "files"),
        ("POST", "/v1/avatars/avt_1/motion", "files"),
        ("POST", "/v1/avatars/avt_1/still", "stills"),
        ("GET", "/v1/avatars/avt_1/preview.jpg", "stills"),
        ("GET", "/v1/avatars/avt_1/avatar.glb", ""),
        ("POST", "/v1/sessions", "sessions"),
        ("GET", "/v1/videos", ""),
        ("DELETE", "/v1/videos/vid_1", ""),
    ],
)
def test_kinds(method: str, path: str, kind: str) -> None:
    assert kind_of(method, path) == kind


def test_the_server_says_when_to_come_again(tmp_path: Path) -> None:
    name = example_avatar(tmp_path)
    with TestClient(make_app(Server(tmp_path, workers=0, requests_a_minute=240))) as client:
        answers = [client.post("/v1/videos", files={"audio": b"x"}, data={"avatar": name}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 429, 429]
        status, code, said = error_of(answers[-1])
        assert (status, code) == (429, "E_TOO_OFTEN") and 20 <= int(answers[-1].headers["retry-after"]) <= 30
        assert answers[-1].headers["content-security-policy"]
        # What is cheap goes on, others go on, and nothing of a refused job is kept.
        assert len(client.get("/v1/videos").json()["data"]) == 2 and len(list((tmp_path / "videos").iterdir())) == 2
        assert client.post("/v1/videos", files={"audio": b"x"}, data={"avatar": name}, headers={"X-Client-Id": "b"}).status_code == 202
        answers = [client.get("/v1/videos") for _ in range(300)]
        assert answers[-1].status_code == 429 and client.get("/healthz").status_code == 200


def test_the_limit_that_is_told_is_the_one_that_was_reached() -> None:
    def told(paced: Pace, kind: str = "", address: str = "here", client: str = "me") -> str:
        with pytest.raises(ApiError) as caught:
            paced.take(client, address, kind)
        return str(caught.value)

    paced = Pace(120, Clock())
    assert tries(paced, 1, kind="jobs") == 1
    assert told(paced, "jobs") == "This is more than 1 new video or motion in a minute."
    tries(paced, 200)
    assert told(paced, "files") == "This is more than 120 requests in a minute."
    for number in range(20):
        tries(paced, 2, client=f"name {number}", kind="files")
    assert told(paced, "files", client="new") == "This is more than 20 files that are read at once in a minute from one network address."


def test_openings_and_the_making_of_a_head_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triportrait.app import heads

    name = example_avatar(tmp_path)
    made: list[str] = []

    def make(arguments: list[str], field: str) -> None:
        made.append(arguments[-1])
        Path(arguments[-1]).write_bytes(b"glTF")

    monkeypatch.setattr(heads, "_run", make)
    with TestClient(make_app(Server(tmp_path, workers=0, requests_a_minute=60))) as client:
        addresses = [f"/v1/avatars/{name}/avatar.{kind}" for kind in ("glb", "glb", "html")]
        assert [client.get(address).status_code for address in addresses] == [200, 200, 429] and len(made) == 1
        closed = []
        for _ in range(70):
            with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/v1/sessions/ses_1/socket?token=guess"):
                pass
            closed.append(caught.value.code)
        assert closed[0] == 4401 and closed[-1] == 4429


def test_tokens_are_not_guessed_at_will(tmp_path: Path) -> None:
    with TestClient(make_app(Server(tmp_path, workers=0, token="right", requests_a_minute=60))) as client:
        answers = [client.get("/v1/videos", headers={"Authorization": f"Bearer {number}"}).status_code for number in range(80)]
        assert answers == [401] * 60 + [429] * 20
        assert client.get("/v1/videos", headers={"Authorization": "Bearer right"}).status_code == 200
