"""The HTTP server: REST below ``/v1``, the page, and who may ask.

Requests are answered in the server's process; photos are prepared and videos are made in others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match

from triportrait.app.access import CLIENT_COOKIE, TOKEN_COOKIE, Access, client_of, cookie
from triportrait.app.children import end_children, refusal, run_limited
from triportrait.app.heads import add_heads
from triportrait.app.job_routes import add_motions, add_videos
from triportrait.app.live_process import MOTION_WANTED, PICTURES_WANTED
from triportrait.app.live_socket import RTC_RATE_HZ, LiveSessions, converse, has_webrtc
from triportrait.app.pace import Pace, kind_of
from triportrait.app.schemas import ApiError, AvatarForm, ErrorAnswer, PrepareRequest, SessionRequest, StillRequest, error_body, first_fault
from triportrait.app.store import MEDIA_BYTES, PHOTO_BYTES, Avatar, Store
from triportrait.app.uploads import form_body, received
from triportrait.app.webhooks import Webhook, Webhooks
from triportrait.errors import TriPortraitError
from triportrait.export import VIEWER

log = logging.getLogger(__name__)

WEB = Path(__file__).parent / "web"
#: Photos and a voice with which everybody can begin.
EXAMPLES = Path(__file__).parent / "examples"
#: Portraits whose stills are drawn are kept ready.
_READY = 3
#: Workers and old files are looked after so often.
_CARE_S = 1.0
_CLEAN_EVERY_S = 600.0
#: With less room than this the server is not ready.
_ROOM_BYTES = 64 << 20
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self' ws: wss:; "
    "worker-src 'self' blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
#: What the system says of a disk that is full, or that may only be read.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: What the statements of videos say of how a person agreed.
_AGREED = "Whoever uploaded the photo declared on {when} that they may animate this person."
_EXAMPLE = "The person of this example does not exist."


class Server:
    """What the routes share.

    Args:
        folder: of everything that is kept.
        workers: processes that make videos; with ``ray`` jobs that the cluster makes at a time, 0 for as many as its cores bear.
        token: every request must bear, or several of them, with blanks between; each sees its own videos. None asks for none.
        hosts: names under which the server is reached, besides this machine's own.
        examples: photos that every client finds, and example_voice: what they say.
        ray: address of a Ray cluster that makes the videos.
        requests_a_minute: of one client, see :class:`triportrait.app.pace.Pace`; 0 is no limit.
        webhooks: whom clients may have told that a video has ended.
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
        ray: str | None = None,
        requests_a_minute: int = 0,
        webhooks: tuple[Webhook, ...] = (),
    ) -> None:
        self.store = Store(folder)
        self.webhooks = Webhooks(webhooks, self.store.jobs)
        self.pace = Pace(requests_a_minute)
        self.access = Access(tuple((token or "").split()), hosts)
        self.live = LiveSessions()
        self.example_voice = example_voice
        self._examples = examples
        # One process hands all jobs to a cluster.
        self._wanted, self._program = (workers, ["worker"]) if ray is None else (1, ["ray_workers", ray, f"{workers}"])
        self._workers: list[subprocess.Popen[bytes]] = []
        self._ready: OrderedDict[str, Any] = OrderedDict()
        self._drawing = asyncio.Lock()
        self.is_prepared = False

    def admit(self, request: Request) -> None:
        """Only those who may ask, and not too often; nor may anybody guess tokens at will.

        Raises:
            ApiError: a stranger, or somebody who asks too often.
        """
        address = request.client.host if request.client else ""
        try:
            self.access.refuse_strangers(request.headers, request.query_params)
        except ApiError as error:
            if error.code == "E_NO_TOKEN":
                self.pace.take(f"stranger {address}", address)
            raise
        self.count(request, kind_of(request.method, request.url.path))

    def count(self, connection: Request | WebSocket, kind: str = "") -> None:
        """Count what a client asks for, see :class:`triportrait.app.pace.Pace`.

        Raises:
            ApiError: it asks too often.
        """
        self.pace.take(client_of(connection), connection.client.host if connection.client else "", kind)

    async def care(self) -> None:
        """Keep the workers running, and the folder clean, until cancelled."""
        cleaned = 0.0
        try:
            preparing = asyncio.create_task(run_in_threadpool(self._add_examples))
            while True:
                self.is_prepared = preparing.done()
                try:
                    await run_in_threadpool(self._mend)
                    await run_in_threadpool(self.webhooks.tell)
                    if time.monotonic() - cleaned > _CLEAN_EVERY_S:
                        cleaned = time.monotonic()
                        await run_in_threadpool(self.store.clean)
                except (OSError, sqlite3.Error) as error:  # a full disk passes; until then the server answers
                    log.warning("the server cannot look after its workers and files: %s", error)
                await asyncio.sleep(_CARE_S)
        finally:
            self.webhooks.close()
            for process in self._workers:
                process.terminate()
            for process in self._workers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)

    def _mend(self) -> None:
        """Give back what dead workers had claimed, start others, and end conversations that nobody opened."""
        for process in [one for one in self._workers if one.poll() is not None]:
            self._workers.remove(process)
            self.store.jobs.release(f"{process.pid}")
        while len(self._workers) < self._wanted:
            module, *more = self._program
            command = [sys.executable, "-m", f"triportrait.app.{module}", str(self.store.folder), *more]
            self._workers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
        self.live.sweep()

    def _add_examples(self) -> None:
        names = {avatar.name for avatar in self.store.avatars("")}
        for photo in self._examples:
            if photo.stem not in names:
                with contextlib.suppress(ApiError):
                    self.store.add_avatar("", photo, photo.stem, _EXAMPLE)

    @property
    def lacks(self) -> str | None:
        """What keeps the server from making videos, one sentence; None where nothing does."""
        if not self.is_prepared:
            return "The examples are being prepared."
        if self._wanted and not any(process.poll() is None for process in self._workers):
            return "No worker runs."
        return None if shutil.disk_usage(self.store.folder).free > _ROOM_BYTES else "The disk is full."

    async def still(self, avatar: Avatar, asked: StillRequest) -> bytes:
        """A portrait in a pose, as JPEG."""
        async with self._drawing:
            return await run_in_threadpool(self._still, avatar, asked)

    def _still(self, avatar: Avatar, asked: StillRequest) -> bytes:
        from triportrait.background import Background
        from triportrait.media.images import picture_to_bytes
        from triportrait.provenance.marks import Finish, Marks

        turn, gaze = (np.radians(angles).tolist() for angles in ((asked.pitch, asked.yaw, asked.roll), asked.gaze))
        frame = self.portrait(avatar).still(
            asked.curves,
            rotation_rad=turn,
            gaze_rad=gaze,
            emotion=asked.emotion,
            background=Background(asked.background) if asked.background else None,
        )
        marks = Marks(manifest=False)
        return picture_to_bytes(Finish(marks, frame.image.shape[1::-1], marks.account().number)(frame.image), 90)

    def portrait(self, avatar: Avatar) -> Any:
        """The portrait of an avatar, ready to be drawn; the last few are kept."""
        from triportrait.pipeline import Portrait

        if avatar.id not in self._ready:
            self._ready[avatar.id] = Portrait.from_image(avatar.file)
            while len(self._ready) > _READY:
                self._ready.popitem(last=False)
        self._ready.move_to_end(avatar.id)
        return self._ready[avatar.id]


def make_app(server: Server) -> FastAPI:
    """The routes of a server."""
    from triportrait import __version__

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        care = asyncio.create_task(server.care())
        yield
        end_children()
        care.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await care
        server.live.close()

    errors: dict[int | str, dict[str, Any]] = {code: {"model": ErrorAnswer} for code in ("4XX", "5XX", 422)}
    app = FastAPI(title="TriPortrait", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan, responses=errors)
    _guard(app, server)
    _add_avatars(app, server)
    add_videos(app, server.store, server.webhooks)
    add_motions(app, server.store)
    _add_others(app, server)
    add_heads(app, server.store, lambda request: server.count(request, "files"))
    _add_page(app, server)
    return app


def _guard(app: FastAPI, server: Server) -> None:
    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if request.url.path not in ("/healthz", "/readyz"):
            try:
                server.admit(request)
            except ApiError as error:
                return JSONResponse(error_body(error), error.status, headers=_SECURITY | (error.headers or {}))
        response = await call_next(request)
        response.headers.update(_SECURITY)
        if (token := server.access.known(request.query_params.get("token", ""))) is not None:
            response.set_cookie(TOKEN_COOKIE, token, httponly=True, samesite="strict")
        return response

    @app.exception_handler(TriPortraitError)
    async def told(request: Request, error: TriPortraitError) -> JSONResponse:
        status = error.status if isinstance(error, ApiError) else 400 if error.code == "E_OPTION" else 422
        return JSONResponse(error_body(error), status, headers=error.headers if isinstance(error, ApiError) else None)

    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(error_body(first_fault(error.errors())), 400)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        words = {404: "There is nothing at this address.", 405: "This address does not take that kind of request."}
        code = "E_NOT_FOUND" if error.status_code == 404 else "E_OPTION"
        told = ApiError(code, words.get(error.status_code, "The request cannot be read."), None, "All addresses stand at /openapi.json.")
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # An address may have several routes, one for each method; the error names that of the first.
            headers["Allow"] = ", ".join(sorted(_methods_at(app, request)))
        return JSONResponse(error_body(told), error.status_code, headers=headers)

    @app.exception_handler(sqlite3.OperationalError)
    @app.exception_handler(OSError)
    async def unkept(request: Request, error: Exception) -> JSONResponse:
        log.warning("%s %s: %s", request.method, request.url.path, error)
        if isinstance(error, FileNotFoundError):
            told = ApiError("E_NOT_FOUND", "A file of this request is gone.", None, "It was deleted meanwhile; upload it again.")
        elif getattr(error, "errno", None) in _NO_SPACE or "disk is full" in str(error) or "readonly database" in str(error):
            told = ApiError("E_NO_SPACE", "The server cannot write what it must keep.", None, "Free some space on its disk and try again.")
        else:
            told = ApiError("E_INTERNAL", "The server cannot use one of its files.", None, "Try again; its output names the cause.")
        return JSONResponse(error_body(told), told.status)


def _methods_at(app: FastAPI, request: Request) -> set[str]:
    """The methods that the address of a request takes."""
    there = [route for route in app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return {method for route in there for method in getattr(route, "methods", None) or ()}


def _answers(media_type: str, status: int = 200) -> dict[str, Any]:
    """What a route that answers with no JSON tells OpenAPI. A response class with a type of its own would describe errors with it, too."""
    return {"response_class": Response, "responses": {status: {"content": {media_type: {"schema": {"type": "string"}}}}}}


class _Jpeg(Response):
    """A picture."""

    media_type = "image/jpeg"


def _add_avatars(app: FastAPI, server: Server) -> None:
    store = server.store

    @app.post("/v1/avatars", status_code=201, openapi_extra=form_body(AvatarForm, {"photo": True}))
    async def add_avatar(request: Request) -> dict[str, Any]:
        client = client_of(request)
        async with received(request, store.folder / "incoming", {"photo": PHOTO_BYTES}) as form:
            photo, said = form.file("photo"), form.read(AvatarForm)
            if not said.consent:
                raise ApiError(
                    "E_OPTION", "Nothing says that the person agreed.", "consent", "Say that you may animate them (consent=true)."
                )
            consent = _AGREED.format(when=time.strftime("%Y-%m-%d", time.gmtime()))
            added = await run_in_threadpool(store.add_avatar, client, photo.path, said.name or photo.name[:80], consent, said.face)
            return added.answer()

    @app.get("/v1/avatars")
    def avatars(request: Request) -> dict[str, Any]:
        return {"object": "list", "data": [avatar.answer() for avatar in store.avatars(client_of(request))]}

    @app.get("/v1/avatars/{avatar_id}")
    def avatar(request: Request, avatar_id: str) -> dict[str, Any]:
        return store.avatar(avatar_id, client_of(request)).answer()

    @app.delete("/v1/avatars/{avatar_id}")
    def remove_avatar(request: Request, avatar_id: str) -> dict[str, Any]:
        store.remove_avatar(store.avatar(avatar_id, client_of(request)))
        return {"id": avatar_id, "object": "avatar", "deleted": True}

    @app.get("/v1/avatars/{avatar_id}/file", response_class=FileResponse)
    def avatar_file(request: Request, avatar_id: str) -> FileResponse:
        return FileResponse(store.avatar(avatar_id, client_of(request)).file, filename="portrait.avatar")

    @app.get("/v1/avatars/{avatar_id}/preview.jpg", **_answers(_Jpeg.media_type))
    async def preview(request: Request, avatar_id: str) -> Response:
        return _Jpeg(await server.still(store.avatar(avatar_id, client_of(request)), StillRequest()))

    @app.post("/v1/avatars/{avatar_id}/still", **_answers(_Jpeg.media_type))
    async def still(request: Request, avatar_id: str, asked: StillRequest) -> Response:
        return _Jpeg(await server.still(store.avatar(avatar_id, client_of(request)), asked))


class _Description(Response):
    """How a connection is made (SDP)."""

    media_type = "application/sdp"


_OFFER = {"requestBody": {"required": True, "content": {"application/sdp": {"schema": {"type": "string"}}}}}
_OFFER_BYTES = 100_000


async def _offer_of(request: Request) -> str:
    """The body of an offer.

    Raises:
        ApiError: it is too long, or no text.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _OFFER_BYTES:
            raise ApiError("E_TOO_LARGE", "The offer is too long.", "offer", "Send the SDP of an RTCPeerConnection.")
    try:
        return body.decode()
    except UnicodeDecodeError:
        raise ApiError("E_INPUT", "The offer is no text.", "offer", "Send the SDP of an RTCPeerConnection.") from None


def _add_others(app: FastAPI, server: Server) -> None:
    @app.post("/v1/detect", openapi_extra=form_body(None, {"file": True}))
    async def detect(request: Request) -> dict[str, Any]:
        async with received(request, server.store.folder / "incoming", {"file": MEDIA_BYTES}) as form:
            path = str(form.file("file").path)
            done = await run_in_threadpool(run_limited, ["detect", path, "--json"], "file")
            if done.returncode:
                raise refusal(done, path, "file", "the file")
            found: dict[str, Any] = json.loads(done.stdout)
            return found | {"text": found["text"].replace(path, "the file")}

    @app.post("/v1/sessions", status_code=201)
    def add_session(request: Request, asked: SessionRequest) -> dict[str, Any]:
        avatar = server.store.avatar(asked.avatar, client_of(request))
        is_wanted = {PICTURES_WANTED: asked.video != "none", MOTION_WANTED: asked.motion}
        return server.live.add(avatar, asked.sample_rate, tuple(what for what, it_is in is_wanted.items() if it_is))

    @app.post("/v1/sessions/prepare", status_code=202)
    def prepare(asked: PrepareRequest, request: Request) -> dict[str, Any]:
        server.live.prepare(server.store.avatar(asked.avatar, client_of(request)), asked.sample_rate, asked.video != "none")
        return {"object": "session", "status": "preparing"}

    @app.websocket("/v1/sessions/{session_id}/socket")
    async def socket(websocket: WebSocket, session_id: str, token: str = "") -> None:
        try:
            server.access.refuse_foreign_pages(websocket.headers)
            server.count(websocket)
            ticket = server.live.take(session_id, token)
        except ApiError as error:
            await websocket.close(4429 if error.code == "E_TOO_OFTEN" else 4401)
            return
        await converse(websocket, ticket)

    talking: set[asyncio.Task[None]] = set()

    @app.post("/v1/sessions/{session_id}/offer", status_code=201, openapi_extra=_OFFER, **_answers(_Description.media_type, 201))
    async def answer_offer(request: Request, session_id: str, key: str = "") -> Response:
        if not has_webrtc():
            remedy = "Use the session's socket, or install the server with pip install 'triportrait[live]'."
            raise ApiError("E_NOT_FOUND", "This server has no WebRTC.", None, remedy)
        offer = await _offer_of(request)
        ticket = server.live.take(session_id, key, RTC_RATE_HZ)
        try:
            from triportrait.app.live_rtc import PeerLink

            link = PeerLink()
            answer = await link.answer(offer)
        except BaseException:
            ticket.done.set()
            await run_in_threadpool(ticket.process.close)
            raise
        task = asyncio.create_task(converse(link, ticket))
        talking.add(task)
        task.add_done_callback(talking.discard)
        return _Description(answer, 201, {"Location": f"/v1/sessions/{session_id}/offer?key={key}"})

    @app.delete("/v1/sessions/{session_id}/offer")
    def end_session(session_id: str, key: str = "") -> dict[str, Any]:
        server.live.end(session_id, key)
        return {"id": session_id, "object": "session", "deleted": True}

    @app.get("/v1/capabilities")
    def capabilities() -> dict[str, Any]:
        return {"object": "capabilities", "webrtc": has_webrtc()}

    @app.get("/v1/example.wav", response_class=FileResponse)
    def example() -> FileResponse:
        if server.example_voice is None:
            raise ApiError("E_NOT_FOUND", "There is no example voice.", None, "Send a voice of your own.")
        return FileResponse(server.example_voice, media_type="audio/wav")

    @app.get("/healthz")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        if (lack := server.lacks) is not None:
            raise ApiError("E_STARTING", lack, None, "Ask again in some seconds, and look at the server's output if that does not help.")
        return {"status": "ready"}

    @app.get("/metrics", **_answers("text/plain"))
    def metrics() -> Response:
        lines = ["# TYPE triportrait_jobs gauge"]
        lines += [f'triportrait_jobs{{state="{state}"}} {count}' for state, count in server.store.jobs.count_by_state().items()]
        lines += ["# TYPE triportrait_live_sessions gauge", f"triportrait_live_sessions {server.live.count}", ""]
        return Response("\n".join(lines), media_type="text/plain; version=0.0.4")


def _add_page(app: FastAPI, server: Server) -> None:
    kinds = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml"}

    @app.get("/", include_in_schema=False)
    def index(request: Request) -> Response:
        response = FileResponse(WEB / "index.html", media_type=kinds[".html"])
        if not cookie(request.headers, CLIENT_COOKIE):
            import secrets

            response.set_cookie(CLIENT_COOKIE, secrets.token_hex(16), max_age=365 * 86400, httponly=True, samesite="strict")
        return response

    @app.get("/{name}", include_in_schema=False)
    def part(name: str) -> FileResponse:
        path = VIEWER if name == VIEWER.name else WEB / name
        if path.suffix not in kinds or path.parent not in (WEB, VIEWER.parent) or not path.is_file():
            raise ApiError("E_NOT_FOUND", "There is nothing at this address.", None, "All addresses stand at /openapi.json.")
        return FileResponse(path, media_type=kinds[path.suffix])
