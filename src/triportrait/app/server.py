"""The HTTP server: REST below ``/v1``, the page, and who may ask.

Requests are answered in the server's process; photos are prepared and videos are made in others.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import shutil
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import IO, Annotated, Any
from urllib.parse import urlsplit

import numpy as np
from fastapi import FastAPI, File, Form, Header, Request, Response, UploadFile, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from triportrait.app.heads import add_heads
from triportrait.app.jobs import new_id
from triportrait.app.live_socket import LiveSessions, converse
from triportrait.app.schemas import ApiError, Job, SessionRequest, StillRequest, VideoOptions, error_body
from triportrait.app.store import MEDIA_BYTES, PHOTO_BYTES, Avatar, Store, within_limits
from triportrait.app.worker import VIDEO
from triportrait.errors import TriPortraitError

Upload = Annotated[UploadFile, File()]
Text = Annotated[str, Form()]
Agreed = Annotated[bool, Form()]

WEB = Path(__file__).parent / "web"
#: Who asks without a cookie shares one place with others of that kind.
_PROGRAMS, _COOKIE, _TOKEN = "programs", "triportrait_client", "triportrait_token"
#: Portraits whose stills are drawn are kept ready.
_READY = 3
#: Videos' events are looked for so often, and workers and old files are looked after.
_EVENTS_S, _CARE_S = 0.3, 1.0
_CLEAN_EVERY_S = 600.0
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self' ws: wss:; "
    "worker-src 'self' blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", "testserver")


class Server:
    """What the routes share.

    Args:
        folder: of everything that is kept.
        workers: processes that make videos.
        token: every request must bear; None asks for none.
        hosts: names under which the server is reached, besides this machine's own.
        examples: photos that every client finds, and example_voice: what they say.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 1,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
        examples: tuple[Path, ...] = (),
        example_voice: Path | None = None,
    ) -> None:
        self.store = Store(folder)
        self.token, self.hosts = token, (*_LOCAL_HOSTS, *hosts)
        self.live = LiveSessions()
        self.example_voice = example_voice
        self._wanted, self._examples = workers, examples
        self._workers: list[subprocess.Popen[bytes]] = []
        self._ready: OrderedDict[str, Any] = OrderedDict()
        self._drawing = asyncio.Lock()

    async def care(self) -> None:
        """Keep the workers running, and the folder clean, until cancelled."""
        cleaned = 0.0
        try:
            await run_in_threadpool(self._add_examples)
            while True:
                for process in [one for one in self._workers if one.poll() is not None]:
                    self._workers.remove(process)
                    self.store.jobs.release(f"{process.pid}")
                while len(self._workers) < self._wanted:
                    command = [sys.executable, "-m", "triportrait.app.worker", str(self.store.folder)]
                    self._workers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
                if time.monotonic() - cleaned > _CLEAN_EVERY_S:
                    cleaned = time.monotonic()
                    await run_in_threadpool(self.store.clean)
                await asyncio.sleep(_CARE_S)
        finally:
            for process in self._workers:
                process.terminate()
            for process in self._workers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)

    def _add_examples(self) -> None:
        names = {avatar.name for avatar in self.store.avatars("")}
        for photo in self._examples:
            if photo.stem not in names:
                with photo.open("rb") as file, contextlib.suppress(ApiError):
                    self.store.add_avatar("", self.store.take(file, PHOTO_BYTES, "photo"), photo.stem)

    async def still(self, avatar: Avatar, asked: StillRequest) -> bytes:
        """A portrait in a pose, as JPEG."""
        async with self._drawing:
            return await run_in_threadpool(self._still, avatar, asked)

    def _still(self, avatar: Avatar, asked: StillRequest) -> bytes:
        from triportrait.background import Background
        from triportrait.media.images import picture_to_bytes

        turn, gaze = (np.radians(angles).tolist() for angles in ((asked.pitch, asked.yaw, asked.roll), asked.gaze))
        frame = self.portrait(avatar).still(
            asked.curves,
            rotation_rad=turn,
            gaze_rad=gaze,
            emotion=asked.emotion,
            background=Background(asked.background) if asked.background else None,
        )
        return picture_to_bytes(frame.image, 90)

    def portrait(self, avatar: Avatar) -> Any:
        """The portrait of an avatar, ready to be drawn; the last few are kept."""
        from triportrait.pipeline import Portrait

        if avatar.id not in self._ready:
            self._ready[avatar.id] = Portrait.from_image(avatar.file)
            while len(self._ready) > _READY:
                self._ready.popitem(last=False)
        self._ready.move_to_end(avatar.id)
        return self._ready[avatar.id]

    def refuse_strangers(self, headers: Any, query: Any) -> None:
        """Only those who come by :meth:`refuse_foreign_pages`, and bear the token.

        Raises:
            ApiError: someone else.
        """
        self.refuse_foreign_pages(headers)
        if self.token is not None:
            given = headers.get("authorization", "").removeprefix("Bearer ") or query.get("token", "") or _cookie(headers, _TOKEN)
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                raise ApiError("E_NO_TOKEN", "The token is missing or wrong; open the address with the token that the server printed.")

    def refuse_foreign_pages(self, headers: Any) -> None:
        """Only those who reach the server by a name of its own, and from its own page.

        Raises:
            ApiError: someone else.
        """
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if name not in self.hosts:
            raise ApiError("E_FOREIGN_PAGE", "This address is not the server's own; open the page by the address that it prints.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise ApiError("E_FOREIGN_PAGE", "Another page may not use this server; open the server's own page.")


def _cookie(headers: Any, name: str) -> str:
    for part in headers.get("cookie", "").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return str(value)
    return ""


def _client(request: Request | WebSocket) -> str:
    value = _cookie(request.headers, _COOKIE)
    return value if value.isalnum() and len(value) == 32 else _PROGRAMS


def make_app(server: Server) -> FastAPI:
    """The routes of a server."""
    from triportrait import __version__

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        care = asyncio.create_task(server.care())
        yield
        care.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await care
        server.live.close()

    app = FastAPI(title="TriPortrait", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    _guard(app, server)
    _add_avatars(app, server)
    _add_videos(app, server)
    _add_others(app, server)
    add_heads(app, lambda request, avatar_id: server.store.avatar(avatar_id, _client(request)), within_limits)
    _add_page(app, server)
    return app


def _guard(app: FastAPI, server: Server) -> None:
    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path != "/healthz":
            try:
                server.refuse_strangers(request.headers, request.query_params)
            except ApiError as error:
                return JSONResponse(error_body(error), error.status, headers=_SECURITY)
        response = await call_next(request)
        response.headers.update(_SECURITY)
        if server.token is not None and request.query_params.get("token"):
            response.set_cookie(_TOKEN, server.token, httponly=True, samesite="strict")
        return response

    @app.exception_handler(TriPortraitError)
    async def told(request: Request, error: TriPortraitError) -> JSONResponse:
        status = error.status if isinstance(error, ApiError) else 400 if error.code == "E_OPTION" else 422
        headers = {"Retry-After": "10"} if status == 429 else None
        return JSONResponse(error_body(error), status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(error_body(_first_of(error.errors())), 400)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        words = {404: "There is nothing at this address.", 405: "This address does not take that kind of request."}
        code = "E_NOT_FOUND" if error.status_code == 404 else "E_OPTION"
        return JSONResponse(error_body(ApiError(code, words.get(error.status_code, "The request cannot be read."))), error.status_code)


def _first_of(errors: Any) -> ApiError:
    """A validation error as one of ours."""
    first = errors[0] if errors else {"loc": ("body",), "msg": "is wrong"}
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
    return ApiError("E_OPTION", f"{field or 'The request'}: {first['msg']}.", field or None)


def _file_of(upload: UploadFile) -> IO[bytes]:
    return upload.file


def _add_avatars(app: FastAPI, server: Server) -> None:
    store = server.store

    @app.post("/v1/avatars", status_code=201)
    def add_avatar(
        request: Request, photo: Upload, name: Text = "", consent: Agreed = False, face: Annotated[int | None, Form(ge=1)] = None
    ) -> dict[str, Any]:
        if not consent:
            raise ApiError("E_OPTION", "Say that you may animate this person (consent=true).", "consent")
        upload = store.take(_file_of(photo), PHOTO_BYTES, "photo")
        return store.add_avatar(_client(request), upload, name or (photo.filename or "")[:80], face).answer()

    @app.get("/v1/avatars")
    def avatars(request: Request) -> dict[str, Any]:
        return {"object": "list", "data": [avatar.answer() for avatar in store.avatars(_client(request))]}

    @app.get("/v1/avatars/{avatar_id}")
    def avatar(request: Request, avatar_id: str) -> dict[str, Any]:
        return store.avatar(avatar_id, _client(request)).answer()

    @app.delete("/v1/avatars/{avatar_id}")
    def remove_avatar(request: Request, avatar_id: str) -> dict[str, Any]:
        store.remove_avatar(store.avatar(avatar_id, _client(request)))
        return {"id": avatar_id, "object": "avatar", "deleted": True}

    @app.get("/v1/avatars/{avatar_id}/file")
    def avatar_file(request: Request, avatar_id: str) -> FileResponse:
        return FileResponse(store.avatar(avatar_id, _client(request)).file, filename="portrait.avatar")

    @app.get("/v1/avatars/{avatar_id}/preview.jpg")
    async def preview(request: Request, avatar_id: str) -> Response:
        return Response(await server.still(store.avatar(avatar_id, _client(request)), StillRequest()), media_type="image/jpeg")

    @app.post("/v1/avatars/{avatar_id}/still")
    async def still(request: Request, avatar_id: str, asked: StillRequest) -> Response:
        return Response(await server.still(store.avatar(avatar_id, _client(request)), asked), media_type="image/jpeg")


def _add_videos(app: FastAPI, server: Server) -> None:
    store = server.store

    def job_of(request: Request, video_id: str) -> Job:
        job = store.jobs.get(video_id, _client(request))
        if job is None:
            raise ApiError("E_NOT_FOUND", "There is no such video.", "id")
        return job

    @app.post("/v1/videos", status_code=202)
    def add_video(
        request: Request,
        avatar: Text,
        audio: Annotated[UploadFile | None, File()] = None,
        driving: Annotated[UploadFile | None, File()] = None,
        motion: Annotated[UploadFile | None, File()] = None,
        options: Text = "{}",
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> dict[str, Any]:
        client = _client(request)
        found = store.avatar(avatar, client)
        given = [(kind, file) for kind, file in (("audio", audio), ("driving", driving), ("motion", motion)) if file is not None]
        if len(given) != 1:
            raise ApiError("E_OPTION", "Give one of audio, driving and motion: a voice, a video to imitate, or a motion file.", "audio")
        [(kind, driver)] = given
        try:
            asked = VideoOptions.model_validate_json(options)
        except ValidationError as error:
            raise _first_of([{"loc": ("options", *one["loc"]), "msg": one["msg"]} for one in error.errors()]) from None
        job_id = new_id("vid")
        upload = store.take(_file_of(driver), MEDIA_BYTES, kind)
        folder = store.video_folder(job_id)
        folder.mkdir()
        upload.replace(folder / "driver")
        job = None
        try:
            job = store.jobs.add(client, found.id, kind, asked.model_dump(), job_id, idempotency_key)
        finally:
            # A job that was refused, or that was there already, has no use for what came with it.
            if job is None or job.id != job_id:
                shutil.rmtree(folder, ignore_errors=True)
        return job.video(store.jobs.position(job))

    @app.get("/v1/videos")
    def videos(request: Request, limit: int = 20, after: str | None = None) -> dict[str, Any]:
        count = min(max(limit, 1), 100)
        jobs = store.jobs.of_client(_client(request), count + 1, after)
        data = [job.video() for job in jobs[:count]]
        first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
        return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(jobs) > count}

    @app.get("/v1/videos/{video_id}")
    def video(request: Request, video_id: str) -> dict[str, Any]:
        job = job_of(request, video_id)
        return job.video(store.jobs.position(job))

    @app.delete("/v1/videos/{video_id}")
    def remove_video(request: Request, video_id: str) -> dict[str, Any]:
        job = job_of(request, video_id)
        if job.state in ("queued", "in_progress"):
            store.jobs.cancel(video_id)
        else:
            shutil.rmtree(store.video_folder(video_id), ignore_errors=True)
            store.jobs.forget(video_id)
        return {"id": video_id, "object": "video.deleted", "deleted": True}

    @app.get("/v1/videos/{video_id}/content")
    def content(request: Request, video_id: str, variant: str = "video") -> FileResponse:
        if variant != "video":
            raise ApiError("E_OPTION", "variant can only be video.", "variant")
        job = job_of(request, video_id)
        if job.state != "completed":
            raise ApiError("E_NOT_READY", "The video is not ready; ask again when its status is completed.", "id")
        return FileResponse(store.video_folder(video_id) / VIDEO, media_type="video/mp4", filename=f"{video_id}.mp4")

    @app.get("/v1/videos/{video_id}/events")
    async def events(request: Request, video_id: str) -> StreamingResponse:
        job_of(request, video_id)

        async def stream() -> AsyncIterator[str]:
            said = None
            while not await request.is_disconnected():
                job = await run_in_threadpool(store.jobs.get, video_id)
                if job is None:
                    return
                now = job.video(await run_in_threadpool(store.jobs.position, job))
                if now != said:
                    said = now
                    kind = job.state if job.state in ("completed", "failed") else "progress"
                    yield f"id: {job.progress}\nevent: {kind}\ndata: {json.dumps(now)}\n\n"
                if job.state in ("completed", "failed"):
                    return
                await asyncio.sleep(_EVENTS_S)

        return StreamingResponse(stream(), media_type="text/event-stream")


def _add_others(app: FastAPI, server: Server) -> None:
    @app.post("/v1/detect")
    def detect(file: Upload) -> dict[str, Any]:
        from triportrait.media.sampling import sampled_frames
        from triportrait.provenance import detect as provenance
        from triportrait.provenance.reading import FRAME_LIMIT

        upload = server.store.take(_file_of(file), MEDIA_BYTES, "file", file.filename)
        try:
            report = provenance.detect(sampled_frames(upload, FRAME_LIMIT), upload)
            return {"text": str(report).replace(str(upload), "the file")}
        except TriPortraitError as error:
            raise ApiError(error.code, str(error).replace(f"'{upload}'", "the file").replace(str(upload), "the file"), "file") from None
        finally:
            upload.unlink(missing_ok=True)

    @app.post("/v1/sessions", status_code=201)
    def add_session(request: Request, asked: SessionRequest) -> dict[str, Any]:
        avatar = server.store.avatar(asked.avatar, _client(request))
        return server.live.add(avatar, asked.sample_rate)

    @app.websocket("/v1/sessions/{session_id}/socket")
    async def socket(websocket: WebSocket, session_id: str, token: str = "") -> None:
        try:
            server.refuse_foreign_pages(websocket.headers)
            ticket = server.live.take(session_id, token)
        except ApiError:
            await websocket.close(4401)
            return
        await converse(websocket, ticket)

    @app.get("/v1/example.wav")
    def example() -> FileResponse:
        if server.example_voice is None:
            raise ApiError("E_NOT_FOUND", "There is no example voice.")
        return FileResponse(server.example_voice, media_type="audio/wav")

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics")
    def metrics() -> Response:
        lines = ["# TYPE triportrait_jobs gauge"]
        lines += [f'triportrait_jobs{{state="{state}"}} {count}' for state, count in server.store.jobs.count_by_state().items()]
        lines += ["# TYPE triportrait_live_sessions gauge", f"triportrait_live_sessions {server.live.count}", ""]
        return Response("\n".join(lines), media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI, server: Server) -> None:
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml"}

    @app.get("/{name:path}", include_in_schema=False)
    def page(request: Request, name: str) -> Response:
        path = WEB / (name or "index.html")
        if "/" in name or path.suffix not in kinds or not path.is_file():
            raise ApiError("E_NOT_FOUND", "There is nothing at this address.")
        response = FileResponse(path, media_type=kinds[path.suffix])
        if not name and not _cookie(request.headers, _COOKIE):
            import secrets

            response.set_cookie(_COOKIE, secrets.token_hex(16), max_age=365 * 86400, httponly=True, samesite="strict")
        return response
