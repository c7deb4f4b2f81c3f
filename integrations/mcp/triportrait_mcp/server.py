"""Three tools: a photo becomes an avatar, an avatar and a voice become a video, and a video says where it comes from."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Literal

import httpx
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

#: Environment: where the server is, and the token that it printed.
ADDRESS, TOKEN = "TRIPORTRAIT_URL", "TRIPORTRAIT_TOKEN"
_USUAL = "http://127.0.0.1:8420"
_ASK_EVERY_S = 1.0
Emotion = Literal["neutral", "happy", "sad", "angry", "surprised", "auto"]

server = MCPServer(
    "TriPortrait",
    instructions="Makes talking portrait videos of people who agreed to it. Begin with make_avatar, then make_video with its id.",
)


def _client() -> httpx.AsyncClient:
    token = os.environ.get(TOKEN)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.AsyncClient(base_url=os.environ.get(ADDRESS, _USUAL), headers=headers, timeout=120.0)


async def _ask(client: httpx.AsyncClient, method: str, path: str, **content: Any) -> httpx.Response:
    """A request whose failure is the server's own sentence."""
    try:
        answer = await client.request(method, path, **content)
    except httpx.TransportError:
        raise ToolError(f"no server answers at {client.base_url}; start 'triportrait serve', or set {ADDRESS}") from None
    if answer.is_error:
        try:
            error = answer.json()["error"]
            said = " ".join(filter(None, (error["message"], error.get("remedy"))))
        except (ValueError, KeyError, TypeError):
            said = f"the server answered {answer.status_code}"
        raise ToolError(said)
    return answer


def _read(path: str) -> tuple[str, bytes]:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ToolError(f"there is no file {path}; give the path of one on this machine")
    return file.name, file.read_bytes()


@server.tool()
async def make_avatar(photo: str, person_agreed: bool, name: str = "") -> dict[str, Any]:
    """Prepare the person of a photo once; the id is what make_video takes.

    Args:
        photo: path of a photo of one person who looks towards the camera.
        person_agreed: whether the person shown agreed to be animated; without it nothing is made.
        name: what to call the avatar.
    """
    if not person_agreed:
        raise ToolError("ask whether the person in the photo agreed to be animated; only then call again with person_agreed=true")
    async with _client() as client:
        answer = await _ask(client, "POST", "/v1/avatars", files={"photo": _read(photo)}, data={"name": name, "consent": "true"})
        return answer.json()


@server.tool()
async def make_video(
    context: Context,
    avatar: str,
    output: str,
    voice: str | None = None,
    driving_video: str | None = None,
    emotion: Emotion = "neutral",
    quality: Literal["draft", "standard", "high"] = "standard",
    background: str | None = None,
    seed: int = 0,
) -> str:
    """Let an avatar speak a recording, or do what a person in a video does; waits until the video is written.

    Args:
        avatar: id of make_avatar.
        output: path of the .mp4 to write; nothing is written over.
        voice: path of a recording (wav, mp3, flac, m4a, ogg).
        driving_video: path of a video of a person to imitate; give one of the two.
        emotion: laid over the face; auto follows the voice.
        quality: draft is fast.
        background: a colour such as #204060; the photo's own without it.
        seed: of everything random.
    """
    if (voice is None) == (driving_video is None):
        raise ToolError("give one of voice and driving_video")
    target = Path(output).expanduser()
    if target.suffix.lower() != ".mp4" or target.exists() or not target.parent.is_dir():
        raise ToolError(f"{output} cannot be written; give a new path that ends in .mp4 in a folder that exists")
    options: dict[str, Any] = {"emotion": emotion, "quality": quality, "seed": seed}
    if background is not None:
        options["background"] = background
    files = {"audio": _read(voice)} if voice is not None else {"driving": _read(driving_video or "")}
    async with _client() as client:
        content = {"files": files, "data": {"avatar": avatar, "options": json.dumps(options)}}
        video = (await _ask(client, "POST", "/v1/videos", **content)).json()
        place = f"/v1/videos/{video['id']}"
        try:
            while video["status"] in ("queued", "in_progress"):
                await context.report_progress(video["progress"], 100, video["status"])
                await asyncio.sleep(_ASK_EVERY_S)
                video = (await _ask(client, "GET", place)).json()
        except asyncio.CancelledError:
            await asyncio.shield(client.delete(place))
            raise
        if video["status"] != "completed":
            error = video.get("error") or {}
            raise ToolError(" ".join(filter(None, (error.get("message"), error.get("remedy")))) or "the video was not made")
        target.write_bytes((await _ask(client, "GET", f"{place}/content")).content)
    return f"{target}, with a visible label, an invisible watermark and a signed statement"


@server.tool()
async def check_video(file: str) -> str:
    """Say whether a video or picture was generated by TriPortrait, and whether its signed statement is sound.

    Args:
        file: path of it.
    """
    async with _client() as client:
        return str((await _ask(client, "POST", "/v1/detect", files={"file": _read(file)})).json()["text"])


def main() -> None:
    """Answer a client on standard input and output."""
    server.run("stdio")


if __name__ == "__main__":
    main()
