"""The runner behind Cog's own HTTP server, with a real photo and voice; and what Cog reads of its inputs."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("coglet")
FOLDER = Path(__file__).resolve().parents[1]
EXAMPLES = FOLDER.parents[1] / "examples"


def ask(address: str, content: dict | None = None) -> dict:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=900) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Cog's worker is the first Python of the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = dict(os.environ) | {"PORT": str(port), "COG_PREDICT_TYPE_STUB": "run.py:Runner", "PATH": path}
    process = subprocess.Popen([sys.executable, "-m", "cog.server.http", "--host", "127.0.0.1"], cwd=FOLDER, env=environment)
    place = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 60
    while True:
        try:
            if ask(f"{place}/health-check")["status"] == "READY":
                break
        except OSError:
            pass
        assert time.monotonic() < end and process.poll() is None, "Cog's server did not start"
        time.sleep(0.2)
    yield place
    process.terminate()
    process.wait(20)


def uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def test_cog_understands_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    from cog._inspector import check_input, create_predictor

    monkeypatch.syspath_prepend(str(FOLDER))
    info = create_predictor("run", "Runner")
    assert list(info.inputs) == [
        "photo", "voice", "driving", "quality", "emotion", "head_motion", "background", "full_frame", "consent", "seed",
    ]  # fmt: skip
    values = check_input(info.inputs, {"photo": str(EXAMPLES / "portrait.png")})
    assert values["quality"] == "standard" and values["voice"] is None
    with pytest.raises(ValueError, match="head_motion"):
        check_input(info.inputs, {"photo": str(EXAMPLES / "portrait.png"), "head_motion": 5.0})


def test_a_prediction_is_a_video_and_says_how_far_it_is(address: str) -> None:
    given = {"photo": uri(EXAMPLES / "portrait.png", "image/png"), "voice": uri(EXAMPLES / "speech.wav", "audio/wav"), "quality": "draft"}
    answer = ask(f"{address}/predictions", {"input": given})
    assert answer["status"] == "succeeded", answer.get("error")
    head, _, video = answer["output"].partition(",")
    assert head.startswith("data:video/mp4") and base64.b64decode(video[:64])[4:8] == b"ftyp"
    assert "rendering: 100" in answer["logs"]


def test_what_is_wrong_is_one_sentence(address: str) -> None:
    answer = ask(f"{address}/predictions", {"input": {"photo": uri(EXAMPLES / "portrait.png", "image/png")}})
    assert answer["status"] == "failed" and "give one of voice and driving" in answer["error"]
