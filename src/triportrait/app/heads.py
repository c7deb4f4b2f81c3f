"""Routes of the 3D head: its files, and the motion of a voice, which a browser plays on it without the server drawing anything."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from triportrait.app.access import client_of
from triportrait.app.children import refusal, run_limited
from triportrait.app.schemas import ApiError
from triportrait.app.store import Store

#: Of a voice that becomes motion at once.
VOICE_BYTES = 20 << 20
#: Files of the head, by their endings.
_KINDS = {"glb": "model/gltf-binary", "html": "text/html"}
_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}}


def add_heads(app: FastAPI, store: Store, count: Callable[[Request], None]) -> None:
    """Add the routes.

    Args:
        app: whose routes they become.
        store: has the avatars.
        count: is told of a file that must be made, and refuses whoever asks for too many.
    """
    making = threading.Lock()

    @app.get("/v1/avatars/{avatar_id}/avatar.{kind}", response_class=FileResponse)
    def head(request: Request, avatar_id: str, kind: Literal["glb", "html"]) -> FileResponse:
        avatar = store.avatar(avatar_id, client_of(request))
        target = avatar.folder / f"avatar.{kind}"
        # Several who ask at once wait for one file.
        with making:
            if not target.is_file():
                count(request)
                _run(["export", str(avatar.file), "-o", str(target)], "avatar")
        # As a download: a page that was made of an upload is none of the server's own.
        return FileResponse(target, media_type=_KINDS[kind], filename=target.name)

    @app.post("/v1/avatars/{avatar_id}/motion", openapi_extra=_BODY)
    async def motion(request: Request, avatar_id: str) -> Response:
        await run_in_threadpool(store.avatar, avatar_id, client_of(request))
        with TemporaryDirectory(prefix="voice-", dir=store.folder / "incoming") as name:
            voice, target = Path(name) / "voice", Path(name) / "motion.json"
            size = 0
            with voice.open("wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > VOICE_BYTES:
                        raise ApiError("E_TOO_LARGE", f"The voice is larger than {VOICE_BYTES >> 20} MB.", "voice", "Use a shorter one.")
                    await run_in_threadpool(file.write, chunk)
            await run_in_threadpool(_run, ["motion", str(voice), "-o", str(target)], "voice")
            return Response(target.read_bytes(), media_type="application/json")


def _run(arguments: list[str], field: str) -> None:
    """One of our commands in a limited process, whose error becomes one of ours.

    Raises:
        ApiError: it failed, or took too long.
    """
    done = run_limited(arguments, field)
    if done.returncode:
        raise refusal(done, arguments[1], field, f"the {field}")
