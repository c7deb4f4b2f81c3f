"""The server: from a photo to a video, a conversation, and what strangers and wrong files are told."""

from __future__ import annotations

import json
import sqlite3
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from app_answers import error_of
from triportrait.app import live_socket
from triportrait.app.server import Server, make_app
from triportrait.app.store import KEPT_S
from triportrait.app.worker import VIDEO, make, work
from triportrait.errors import OutputError
from triportrait.motion.exports import LIVE_LINK_CURVES

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_photo_and_a_voice_become_a_video(client: TestClient, server: Server, avatar: str, voice: Path) -> None:
    with voice.open("rb") as sound:
        made = client.post("/v1/videos", files={"audio": sound}, data={"avatar": avatar, "options": '{"quality": "draft", "seed": 3}'})
    assert made.status_code == 202
    video = made.json()
    assert video["object"] == "video" and video["status"] == "queued"
    status, code, message = error_of(client.get(f"/v1/videos/{video['id']}/content"))
    assert (status, code) == (409, "E_NOT_READY")
    stop = threading.Event()
    thread = threading.Thread(target=work, args=(server.store.folder, "tests", stop))
    thread.start()
    told = [json.loads(line[6:]) for line in client.get(f"/v1/videos/{video['id']}/events").iter_lines() if line.startswith("data: ")]
    stop.set()
    thread.join()
    assert told[-1]["status"] == "completed" and told[-1]["progress"] == 100
    assert [one["progress"] for one in told] == sorted(one["progress"] for one in told)
    content = client.get(f"/v1/videos/{video['id']}/content")
    assert content.headers["content-type"] == "video/mp4" and content.content[4:8] == b"ftyp"
    part = client.get(f"/v1/videos/{video['id']}/content", headers={"Range": "bytes=0-9"})
    assert part.status_code == 206 and part.content == content.content[:10]
    listed = client.get("/v1/videos").json()
    assert [one["id"] for one in listed["data"]] == [video["id"]] and not listed["has_more"]
    found = client.post("/v1/detect", files={"file": ("out.mp4", content.content)}).json()
    assert "AI-generated" in found["text"] and "signed" in found["text"] and found["generated"]
    assert "may animate this person" in found["manifest"]["consent"]
    done = client.get(f"/v1/videos/{video['id']}").json()
    assert (done["seconds"], done["size"], done["format"]) == ("1.00", "512x512", "mp4")
    for variant, start in (("thumbnail", b"\xff\xd8"), ("motion", b"PK")):
        assert client.get(f"/v1/videos/{video['id']}/content", params={"variant": variant}).content.startswith(start)
    assert not (server.store.video_folder(video["id"]) / f"{VIDEO}.parts").exists()
    # Another browser sees none of it.
    with TestClient(make_app(server)) as other:
        other.get("/")
        assert other.get("/v1/videos").json()["data"] == [] and other.get(f"/v1/videos/{video['id']}").status_code == 404
        assert other.get(f"/v1/avatars/{avatar}").status_code == 404
    assert client.delete(f"/v1/videos/{video['id']}").json()["deleted"]
    assert client.get(f"/v1/videos/{video['id']}").status_code == 404


def test_a_file_that_is_no_sound_fails_in_one_sentence(client: TestClient, server: Server, avatar: str) -> None:
    made = client.post("/v1/videos", files={"audio": b"not a sound at all"}, data={"avatar": avatar}).json()
    job = server.store.jobs.claim("w")
    assert job is not None and job.id == made["id"]
    make(server.store, job, "w")
    error = client.get(f"/v1/videos/{made['id']}").json()["error"]
    assert error["field"] == "audio" and "onvert it to" in error["remedy"] and str(server.store.folder) not in str(error)


def test_a_voice_becomes_a_motion_file(client: TestClient, server: Server, voice: Path) -> None:
    made = client.post("/v1/motions", files={"audio": voice.read_bytes()}, data={"format": "livelink"}).json()
    assert made["object"] == "motion" and made["status"] == "queued"
    assert made["id"] not in [one["id"] for one in client.get("/v1/videos").json()["data"]]
    job = server.store.jobs.claim("w")
    assert job is not None and job.id == made["id"]
    make(server.store, job, "w")
    done = client.get(f"/v1/motions/{job.id}").json()
    assert (done["status"], done["seconds"], done["format"]) == ("completed", "1.00", "livelink")
    content = client.get(f"/v1/motions/{job.id}/content")
    assert content.headers["content-type"].startswith("text/csv") and content.text.count("\n") >= 25 and "JawOpen" in content.text
    assert [one["id"] for one in client.get("/v1/motions").json()["data"]] == [job.id]
    assert error_of(client.get(f"/v1/videos/{job.id}"))[:2] == (404, "E_NOT_FOUND")
    assert client.delete(f"/v1/motions/{job.id}").json()["object"] == "motion.deleted"


def test_a_transparent_video_is_a_file_of_its_own_kind(client: TestClient, server: Server, avatar: str, voice: Path) -> None:
    data = {"avatar": avatar, "options": '{"quality": "draft", "background": "transparent", "format": "webm"}'}
    made = client.post("/v1/videos", files={"audio": voice.read_bytes()}, data=data).json()
    job = server.store.jobs.claim("w")
    assert job is not None and job.id == made["id"]
    make(server.store, job, "w")
    content = client.get(f"/v1/videos/{job.id}/content")
    assert content.headers["content-type"] == "video/webm" and content.content[:4] == b"\x1aE\xdf\xa3"
    assert error_of(client.get(f"/v1/videos/{job.id}/content?variant=thumbnail"))[0] == 404
    client.delete(f"/v1/videos/{job.id}")
    for wrong in ('{"format": "webm"}', '{"background": "transparent"}', '{"background": "white", "full_frame": true}'):
        answer = client.post("/v1/videos", files={"audio": b"x"}, data={"avatar": avatar, "options": wrong})
        assert error_of(answer)[:2] == (400, "E_OPTION")


def test_a_worker_that_comes_back_late_leaves_the_video_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    store, job_id = server.store, "vid_late"
    store.video_folder(job_id).mkdir()
    store.jobs.add("sleepers", "avt_0", "audio", {}, job_id)
    job = store.jobs.claim("asleep")
    assert job is not None and job.id == job_id
    store.jobs.release("asleep")
    assert store.jobs.claim("awake") is not None
    video = store.video_folder(job_id) / VIDEO
    video.write_bytes(b"finished")
    assert store.jobs.finish(job_id, "awake")
    monkeypatch.setattr("triportrait.app.worker.perform", lambda store, job, progress: progress("rendering", 1, 2))
    make(store, job, "asleep")
    done = store.jobs.get(job_id)
    assert done is not None and done.state == "completed" and video.read_bytes() == b"finished"


def test_uploads_without_a_job_of_their_own_are_gone(tmp_path: Path) -> None:
    server = Server(tmp_path, workers=0)
    example = tmp_path / "avatars" / f"avt_{'0' * 24}"
    example.mkdir()
    (example / "about.json").write_text('{"client": "", "name": "example", "created": 0}')
    with TestClient(make_app(server)) as client:

        def post(key: str):
            data = {"avatar": example.name}
            return client.post("/v1/videos", files={"audio": b"x"}, data=data, headers={"Idempotency-Key": key})

        assert post("same").json()["id"] == post("same").json()["id"]
        answers = [post(str(number)).status_code for number in range(12)]
        assert answers.count(202) == 9 and answers.count(429) == 3
    assert len(list((tmp_path / "videos").iterdir())) == 10
    # So is what a server left that was killed before it wrote the job.
    (tmp_path / "videos" / "vid_lost").mkdir()
    server.store.clean(time.time() + KEPT_S + 60.0)
    assert len(list((tmp_path / "videos").iterdir())) == 10 and not (tmp_path / "videos" / "vid_lost").exists()


def test_a_still_follows_the_sliders(client: TestClient, avatar: str) -> None:
    def still(**asked) -> bytes:
        answer = client.post(f"/v1/avatars/{avatar}/still", json=asked)
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
        return answer.content

    rest, turned = still(), still(yaw=15, curves={"jawOpen": 0.5})
    marks = client.post("/v1/detect", files={"file": ("still.jpg", turned)}).json()
    assert marks["generated"] and marks["watermark"]["found"]
    assert rest != turned and still() == rest == client.get(f"/v1/avatars/{avatar}/preview.jpg").content


@pytest.mark.parametrize(
    ("send", "status", "words"),
    [
        (lambda c, a: c.post("/v1/avatars", files={"photo": b"no picture"}, data={"consent": "true"}), 422, "not a picture"),
        (lambda c, a: c.post("/v1/avatars", files={"photo": b"x"}), 400, "consent=true"),
        (lambda c, a: c.post("/v1/avatars", files={"photo": b""}, data={"consent": "true"}), 422, "empty"),
        (lambda c, a: c.post("/v1/avatars"), 400, "photo"),
        (lambda c, a: c.get("/v1/avatars/avt_0"), 404, "no such portrait"),
        (lambda c, a: c.get("/v1/avatars/..%2f..%2fjobs.sqlite"), 404, ""),
        (lambda c, a: c.post(f"/v1/avatars/{a}/still", json={"yaw": 90}), 400, "yaw"),
        (lambda c, a: c.post(f"/v1/avatars/{a}/still", json={"curves": {"nose": 1}}), 400, "nose"),
        (lambda c, a: c.post("/v1/videos", data={"avatar": a}), 400, "multipart/form-data"),
        (lambda c, a: c.post("/v1/videos", files={"x": b"x"}, data={"avatar": a}), 400, "exactly one of audio, driving, motion"),
        (lambda c, a: c.post("/v1/motions", files={"x": b"x"}), 400, "exactly one of audio, driving."),
        (lambda c, a: c.post("/v1/videos", files={"audio": b"x"}, data={"avatar": a, "options": "{"}), 400, "options"),
        (
            lambda c, a: c.post("/v1/videos", files={"audio": b"x"}, data={"avatar": a, "options": '{"head_motion": 99}'}),
            400,
            "head_motion",
        ),
        (lambda c, a: c.get("/v1/videos/vid_0/events"), 404, "no such video"),
        (lambda c, a: c.get("/v1/nothing"), 404, "nothing"),
        (lambda c, a: c.put("/v1/videos"), 405, "kind of request"),
        (lambda c, a: c.post("/v1/detect", files={"file": b"x"}), 422, ""),
        (lambda c, a: c.get("/v1/avatars", headers={"Host": "example.org"}), 403, "not the server's own"),
        (lambda c, a: c.get("/v1/avatars", headers={"Origin": "http://example.org"}), 403, "Another page"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_sentence(client: TestClient, avatar: str, send, status: int, words: str) -> None:
    answered, _, message = error_of(send(client, avatar))
    assert answered == status and words in message


def test_the_page_asks_nobody_else(client: TestClient) -> None:
    for name in ("", "main.js", "live.js", "style.css", "microphone.js"):
        answer = client.get(f"/{name}")
        assert answer.status_code == 200 and "default-src 'self'" in answer.headers["content-security-policy"]
        assert "http://" not in answer.text.replace("http://www.w3.org", "") and "https://" not in answer.text
    assert client.get("/../server.py").status_code == 404 and client.get("/v1/example.wav").content[:4] == b"RIFF"


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    with TestClient(make_app(Server(tmp_path, workers=0, token="secret"))) as client:
        assert error_of(client.get("/v1/avatars"))[:2] == (401, "E_NO_TOKEN")
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/avatars", headers={"Authorization": "Bearer secret"}).status_code == 200
        assert client.get("/?token=secret").status_code == 200 and client.get("/v1/avatars").status_code == 200  # by its cookie


def test_a_conversation(client: TestClient, avatar: str) -> None:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", dtype="int16")
    session = client.post("/v1/sessions", json={"avatar": avatar, "sample_rate": rate_hz}).json()
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(f"/v1/sessions/{session['id']}/socket?token=%C3%A9"):
        pass
    assert refused.value.code == 4401
    kinds, texts, times = set(), [], []
    with client.websocket_connect(session["socket"]) as socket:
        assert socket.receive_json()["type"] == "session.created"
        socket.send_bytes(samples[: 3 * rate_hz].tobytes())
        socket.send_text('{"type": "input_audio_buffer.commit"}')
        socket.send_text('{"type": "nonsense"}')
        until = time.monotonic() + 20.0
        while time.monotonic() < until and not any(text["type"] == "speech.finished" for text in texts):
            message = socket.receive()
            if message.get("text") is not None:
                texts.append(json.loads(message["text"]))
                if texts[-1]["type"] == "speech.started":
                    socket.send_text('{"type": "interrupt"}')
            else:
                kind, _, _, number, pts = struct.unpack("<BBHIQ", message["bytes"][:16])
                kinds.add(kind)
                if kind == 1:
                    socket.send_text(json.dumps({"type": "ack", "pictures": number}))
                    assert message["bytes"][16:18] == b"\xff\xd8"
                else:
                    times.append(pts)
                    assert len(message["bytes"]) == 16 + 2 * rate_hz // 25
    assert kinds == {1, 3} and np.all(np.diff(times) == 40_000)
    finished = [text for text in texts if text["type"] == "speech.finished"]
    assert len(finished) == 1 and finished[0]["interrupted"] and finished[0]["played_ms"] < 3000
    assert any(text["type"] == "error" for text in texts)
    with pytest.raises(Exception), client.websocket_connect(session["socket"]):  # noqa: B017 - a token opens one socket
        pass


def test_motion_alone_is_a_conversation_without_pictures(client: TestClient, avatar: str) -> None:
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav", dtype="int16")
    asked = {"avatar": avatar, "sample_rate": rate_hz, "video": "none", "motion": True}
    session = client.post("/v1/sessions", json=asked).json()
    rows, sound = {}, set()
    with client.websocket_connect(session["socket"]) as socket:
        created = socket.receive_json()
        assert created["type"] == "session.created" and created["curves"] == list(LIVE_LINK_CURVES)
        socket.send_bytes(samples[:rate_hz].tobytes())
        socket.send_text('{"type": "input_audio_buffer.commit"}')
        while len(rows) < 40:
            message = socket.receive()
            if message.get("bytes") is not None:
                kind, _, _, number, pts = struct.unpack("<BBHIQ", message["bytes"][:16])
                assert kind in (3, 4) and pts == 40_000 * number
                if kind == 3:
                    sound.add(number)
                else:
                    rows[number] = np.frombuffer(message["bytes"][16:], "<f4")
    # A row belongs to each 40 ms of sound: curves, rotation, translation, gaze. The jaw moves.
    assert set(rows) <= sound and all(row.shape == (60,) and np.isfinite(row).all() for row in rows.values())
    jaw = np.array([row[created["curves"].index("jawOpen")] for row in rows.values()])
    assert jaw.max() - jaw.min() > 0.05


def test_a_library_that_cannot_be_imported_leaves_webrtc_out(
    client: TestClient, avatar: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_socket, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "triportrait.app.live_rtc", None)
    live_socket.has_webrtc.cache_clear()
    try:
        assert client.get("/v1/capabilities").json() == {"object": "capabilities", "webrtc": False}
        session = client.post("/v1/sessions", json={"avatar": avatar, "sample_rate": 48_000}).json()
        assert session["offer"] is None and "install it again" in caplog.text
        address = f"/v1/sessions/{session['id']}/offer?key={session['token']}"
        assert error_of(client.post(address, content=b"v=0"))[:2] == (404, "E_NOT_FOUND")
        # The session was not lost by it, and can be given back.
        assert client.delete(address).status_code == 200
    finally:
        live_socket.has_webrtc.cache_clear()


def test_a_folder_that_cannot_be_used_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jobs.sqlite").write_bytes(b"no table " * 500)
    with pytest.raises(OutputError, match="is damaged; remove it"):
        Server(tmp_path, workers=0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="choose another --folder"):
        Server(tmp_path / "file", workers=0)

    def full(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("triportrait.app.store.JobTable", full)
    with pytest.raises(OutputError, match="disk is full; free some space"):
        Server(tmp_path, workers=0)
