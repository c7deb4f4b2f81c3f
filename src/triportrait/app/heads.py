"""Routes of the 3D head: its GLB file, and the motion of a voice, which a browser plays on it without the server drawing anything."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from triportrait.app.schemas import ApiError
from triportrait.app.store import Avatar

#: Of a voice, and the time in which it becomes motion or a head is made.
VOICE_BYTES, _WITHIN_S = 20 << 20, 120.0
_GLB = "avatar.glb"


def add_heads(app: FastAPI, avatar_of: Callable[[Request, str], Avatar], limits: Callable[[], None]) -> None:
    """Add the routes.

    Args:
        app: whose routes they become.
        avatar_of: a client's avatar by its id.
        limits: is called in the processes that read what was uploaded.
    """
    making = threading.Lock()

    @app.get("/v1/avatars/{avatar_id}/avatar.glb")
    def glb(request: Request, avatar_id: str) -> FileResponse:
        avatar = avatar_of(request, avatar_id)
        target = avatar.folder / _GLB
        # Several who ask at once wait for one file.
        with making:
            if not target.is_file():
                _run(["export", str(avatar.file), "-o", str(target)], "avatar", limits)
        return FileResponse(target, media_type="model/gltf-binary", filename=_GLB)

    @app.post("/v1/avatars/{avatar_id}/motion")
    async def motion(request: Request, avatar_id: str) -> Response:
        avatar_of(request, avatar_id)
        with TemporaryDirectory(prefix="triportrait-") as name:
            voice, target = Path(name) / "voice", Path(name) / "motion.json"
            size = 0
            with voice.open("wb") as file:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > VOICE_BYTES:
                        raise ApiError("E_TOO_LARGE", f"The voice is larger than {VOICE_BYTES >> 20} MB; use a shorter one.", "voice")
                    file.write(chunk)
            await run_in_threadpool(_run, ["motion", str(voice), "-o", str(target)], "voice", limits)
            return Response(target.read_bytes(), media_type="application/json")


def _run(arguments: list[str], field: str, limits: Callable[[], None]) -> None:
    """One of our commands in a process of its own, whose error becomes one of ours.

    Raises:
        ApiError: it failed, or took too long.
    """
    command = [sys.executable, "-m", "triportrait", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S, preexec_fn=limits, check=False)
    except subprocess.TimeoutExpired:
        raise ApiError("E_INPUT", f"The {field} takes too long; use a shorter one.", field) from None
    if done.returncode:
        lines = [line.removeprefix("triportrait: ") for line in done.stderr.splitlines() if line.startswith("triportrait: ")]
        said = lines[-1] if lines else f"The {field} could not be read; use another one."
        # Its path is the server's own business.
        said = said.replace(f"'{arguments[1]}'", f"the {field}").replace(arguments[1], f"the {field}")
        raise ApiError("E_INPUT", said[:1].upper() + said[1:], field)
