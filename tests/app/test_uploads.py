"""Uploads: counted as they come, refused at the first byte too many, gone when anything is wrong; and files made to break decoders."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import io
import json
import random
import sqlite3
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.testclient import TestClient

from app_answers import error_of, example_avatar
from triportrait.app.children import run_limited
from triportrait.app.jobs import JobTable
from triportrait.app.schemas import ApiError
from triportrait.app.server import EXAMPLES, Server, make_app
from triportrait.app.uploads import received
from triportrait.app.worker import make

LIMIT = 100_000
_SPEC = importlib.util.spec_from_file_location("uploads", Path(__file__).parents[2] / "benchmarks" / "uploads.py")
BENCHMARK = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(BENCHMARK)


def form(name: str = "photo", size: int = 10, filename: str | None = "a.jpg", boundary: str = "xyz") -> bytes:
    """A form with one part of ``size`` bytes."""
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + b"x" * size + f"\r\n--{boundary}--\r\n".encode()


class Line:
    """A connection that counts what was taken from it."""

    def __init__(self, body: bytes, chunk: int = 4096, announced: int | None = None) -> None:
        self.chunks = [body[start : start + chunk] for start in range(0, len(body), chunk)]
        self.taken = 0
        headers = [(b"content-type", b"multipart/form-data; boundary=xyz")]
        if announced is not None:
            headers.append((b"content-length", b"%d" % announced))
        self.request = Request({"type": "http", "method": "POST", "headers": headers}, self.receive)

    async def receive(self) -> dict:
        chunk = self.chunks.pop(0) if self.chunks else b""
        self.taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": bool(self.chunks)}


def take(line: Line, folder: Path, limit: int = LIMIT) -> dict[str, int]:
    """Sizes of the files that came, while they lie there."""

    async def run() -> dict[str, int]:
        async with received(line.request, folder, {"photo": limit}) as got:
            return {name: upload.path.stat().st_size for name, upload in got.files.items()}

    return asyncio.run(run())


@pytest.mark.parametrize("size", [1, 4096, 99_999, LIMIT])
def test_what_fits_is_taken_and_goes_with_the_request(tmp_path: Path, size: int) -> None:
    assert take(Line(form(size=size)), tmp_path) == {"photo": size}
    assert not list(tmp_path.iterdir())


def test_what_is_too_large_is_refused_at_its_first_byte_too_many(tmp_path: Path) -> None:
    line = Line(form(size=50 * LIMIT))
    with pytest.raises(ApiError) as refused:
        take(line, tmp_path)
    assert refused.value.status == 413 and LIMIT <= line.taken <= LIMIT + 2 * 4096 and not list(tmp_path.iterdir())
    # What announces itself as too large is not even begun.
    line = Line(form(), announced=50 << 20)
    with pytest.raises(ApiError) as refused:
        take(line, tmp_path)
    assert refused.value.status == 413 and line.taken == 0
    many = form("text", 5, None).replace(b"--xyz--\r\n", b"") * 60 + form()
    # Nor do texts, names and numbers of fields without end come through.
    for body in (form("text", 40 * LIMIT, None), form("other", 40 * LIMIT), form(filename="f" * 30_000), many):
        line = Line(body)
        with pytest.raises(ApiError):
            take(line, tmp_path)
        assert not list(tmp_path.iterdir())


def test_who_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    body = form(size=50_000)
    for end in (10, 60, 5_000, len(body) - 3):
        with pytest.raises(ApiError):
            take(Line(body[:end]), tmp_path)
        assert not list(tmp_path.iterdir())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bytes_are_a_form_or_one_error(tmp_path: Path, data: st.DataObject) -> None:
    body = bytearray(form(size=300))
    for _ in range(data.draw(st.integers(1, 12))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        take(Line(bytes(body), chunk=data.draw(st.integers(1, 200))), tmp_path)
    except ApiError as error:
        assert error.status in (400, 413, 422)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(tmp_path, workers=0)
    name = example_avatar(tmp_path)
    opened = Path.open

    class Full(io.BytesIO):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_full(self: Path, mode: str = "r", *arguments, **named):
        return Full() if mode == "xb" else opened(self, mode, *arguments, **named)

    with TestClient(make_app(server)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", open_full)
            for path, files in (("videos", {"audio": b"x" * 2_000_000}), ("detect", {"file": b"x"}), ("avatars", {"photo": b"x"})):
                answer = client.post(f"/v1/{path}", files=files, data={"avatar": name, "consent": "true"})
                assert error_of(answer)[:2] == (507, "E_NO_SPACE")
        with monkeypatch.context() as patch:
            # The table of jobs has no room either.
            def full(self: JobTable, *arguments, **named):
                raise sqlite3.OperationalError("database or disk is full")

            patch.setattr(JobTable, "add", full)
            assert error_of(client.post("/v1/videos", files={"audio": b"x"}, data={"avatar": name}))[:2] == (507, "E_NO_SPACE")
        assert not list((tmp_path / "incoming").iterdir()) and not list((tmp_path / "videos").iterdir())
        assert client.post("/v1/videos", files={"audio": b"x"}, data={"avatar": name}).status_code == 202


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "/secret/path"), (404, "E_NOT_FOUND")),
        (OSError(errno.ENOSPC, "No space left on device"), (507, "E_NO_SPACE")),
        (OSError(errno.EDQUOT, "Quota exceeded"), (507, "E_NO_SPACE")),
        (OSError(errno.EROFS, "Read-only file system"), (507, "E_NO_SPACE")),
        (sqlite3.OperationalError("attempt to write a readonly database"), (507, "E_NO_SPACE")),
        (sqlite3.OperationalError("database is locked"), (500, "E_INTERNAL")),
        (OSError(errno.EMFILE, "Too many open files"), (500, "E_INTERNAL")),
        (PermissionError(errno.EACCES, "Permission denied", "/secret/path"), (500, "E_INTERNAL")),
    ],
)
def test_only_a_full_disk_is_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, answer: tuple[int, str]
) -> None:
    server = Server(tmp_path, workers=0)

    def fail(client: str) -> None:
        raise error

    with TestClient(make_app(server)) as client:
        monkeypatch.setattr(server.store, "avatars", fail)
        told = client.get("/v1/avatars")
        assert error_of(told)[:2] == answer and "secret" not in told.text


def test_a_worker_on_a_full_disk_says_so(
    client: TestClient, server: Server, avatar: str, voice: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.post("/v1/videos", files={"audio": voice.read_bytes()}, data={"avatar": avatar, "options": '{"quality": "draft"}'}).json()
    job = server.store.jobs.claim("w")
    assert job is not None and job.id == made["id"]

    def full(self: Path, *arguments, **named) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("triportrait.files.os.replace", full)
    make(server.store, job, "w")
    error = client.get(f"/v1/videos/{made['id']}").json()["error"]
    assert error["code"] == "E_IO" and "disk is full" in error["message"] + error["remedy"] and str(server.store.folder) not in str(error)


def originals(astronaut: np.ndarray, clip: Path) -> list[tuple[str, bytes]]:
    """What is uploaded, by the command that reads it."""
    from PIL import Image

    files = []
    for kind in ("JPEG", "PNG", "WEBP"):
        photo = io.BytesIO()
        Image.fromarray(astronaut[::2, ::2]).save(photo, kind)
        files.append(("portrait", photo.getvalue()))
    return [*files, ("detect", clip.read_bytes()), ("detect", (EXAMPLES / "speech.wav").read_bytes()[:60_000])]


def test_mutated_files_are_typed_errors(astronaut: np.ndarray, clip: Path, tmp_path: Path) -> None:
    """Ten here; ``python benchmarks/uploads.py`` sends thousands."""
    chance = random.Random(7)
    server = Server(tmp_path, workers=0)
    files = originals(astronaut, clip)
    with TestClient(make_app(server)) as client:
        for number in range(10):
            kind, original = files[number % len(files)]
            data = BENCHMARK.mutated(original, chance)
            if kind == "portrait":
                answer = client.post("/v1/avatars", files={"photo": data}, data={"consent": "true"})
            else:
                answer = client.post("/v1/detect", files={"file": ("x.mp4", data)})
            if answer.status_code not in (200, 201):
                status, code, _ = error_of(answer)
                assert status in (400, 413, 422) and code != "E_INTERNAL"
    assert not list((tmp_path / "incoming").iterdir())


@pytest.mark.skipif(not hasattr(__import__("os"), "posix_spawn"), reason="limits are POSIX")
def test_a_file_that_wants_the_memory_ends_its_own_process(tmp_path: Path, astronaut_png: Path) -> None:
    done = run_limited(["portrait", "save", str(astronaut_png), "-o", str(tmp_path / "a.avatar")], "photo", memory_bytes=400 << 20)
    assert done.returncode and not (tmp_path / "a.avatar").exists()
    with pytest.raises(ApiError, match="too long"):
        run_limited(["portrait", "save", str(astronaut_png), "-o", str(tmp_path / "a.avatar")], "photo", clock_s=0.2)


def test_detection_says_the_same_to_programs(client: TestClient, astronaut_png: Path) -> None:
    found = client.post("/v1/detect", files={"file": ("a.png", astronaut_png.read_bytes())}).json()
    assert found["generated"] is False and found["watermark"]["found"] is False and found["manifest"]["state"] == "none"
    assert json.dumps(found) and found["text"].startswith("No mark found")
