"""A client of the protocol, this server on its standard streams, and the real REST server behind it.

``TRIPORTRAIT`` names the command (default: ``triportrait``); it needs the extra ``app``.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters, stdio_client

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PACKAGE = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = shlex.split(os.environ.get("TRIPORTRAIT", "triportrait"))
    folder = tmp_path_factory.mktemp("server")
    process = subprocess.Popen(
        [*command, "serve", "--port", "0", "--folder", str(folder), "--workers", "1"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = next(match for line in process.stdout if (match := re.search(r"http://\S+", line)))
    yield found.group().rstrip("/.")
    process.terminate()
    process.wait(20)


def talk(address: str, calls) -> list:
    """Results of a script of tool calls, each (name, arguments), or a function of the results so far that makes one."""

    async def run() -> list:
        environment = dict(os.environ) | {"TRIPORTRAIT_URL": address, "PYTHONPATH": str(PACKAGE)}
        parameters = StdioServerParameters(command=sys.executable, args=["-m", "triportrait_mcp.server"], env=environment)
        results: list = []
        async with Client(stdio_client(parameters)) as client:
            results.append(await client.list_tools())
            for call in calls:
                name, arguments = call(results) if callable(call) else call
                results.append(await client.call_tool(name, arguments, progress_callback=noted))
        return results

    steps: list[float] = []

    async def noted(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    results = asyncio.run(asyncio.wait_for(run(), 300))
    results.append(steps)
    return results


def text(result) -> str:
    return result.content[0].text


def test_a_photo_and_a_voice_become_a_video_that_says_so(address: str, tmp_path: Path) -> None:
    out = tmp_path / "talking.mp4"
    photo, voice = str(EXAMPLES / "portrait.png"), str(EXAMPLES / "speech.wav")
    tools, refused, avatar, video, checked, again, steps = talk(
        address,
        [
            ("make_avatar", {"photo": photo, "person_agreed": False}),
            ("make_avatar", {"photo": photo, "person_agreed": True, "name": "Ana"}),
            lambda done: (
                "make_video",
                {"avatar": done[2].structured_content["id"], "voice": voice, "output": str(out), "quality": "draft", "emotion": "happy"},
            ),
            ("check_video", {"file": str(out)}),
            lambda done: ("make_video", {"avatar": done[2].structured_content["id"], "voice": voice, "output": str(out)}),
        ],
    )
    assert [tool.name for tool in tools.tools] == ["make_avatar", "make_video", "check_video"]
    assert refused.is_error and "agreed" in text(refused)
    assert not avatar.is_error and avatar.structured_content["name"] == "Ana"
    assert not video.is_error, text(video)
    assert out.read_bytes()[4:8] == b"ftyp" and steps and steps == sorted(steps)
    assert "TriPortrait" in text(checked) and not checked.is_error
    assert again.is_error and "new path" in text(again)


def test_what_is_wrong_is_the_servers_own_sentence(address: str, tmp_path: Path) -> None:
    out, voice = str(tmp_path / "a.mp4"), str(EXAMPLES / "speech.wav")
    _, unknown, missing, not_a_photo, _ = talk(
        address,
        [
            ("make_video", {"avatar": "avt_000000000000000000000000", "voice": voice, "output": out}),
            ("check_video", {"file": str(tmp_path / "nothing.mp4")}),
            ("make_avatar", {"photo": voice, "person_agreed": True}),
        ],
    )
    assert unknown.is_error and "no such" in text(unknown).lower()
    assert missing.is_error and "there is no file" in text(missing)
    assert not_a_photo.is_error and len(text(not_a_photo)) > 20
    _, nobody, _ = talk("http://127.0.0.1:9", [("check_video", {"file": voice})])
    assert nobody.is_error and "triportrait serve" in text(nobody)
