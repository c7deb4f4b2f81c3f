"""A choice among several faces, the head as GLB, and the motion of a voice."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from starlette.testclient import TestClient

from triportrait.app.server import Server, make_app


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(make_app(Server(tmp_path_factory.mktemp("heads"), workers=0))) as one:
        one.get("/")
        yield one


def add(client: TestClient, image: np.ndarray, **more: str):
    photo = io.BytesIO()
    Image.fromarray(image).save(photo, "PNG")
    return client.post("/v1/avatars", files={"photo": photo.getvalue()}, data={"consent": "true", "name": "me", **more})


@pytest.fixture(scope="module")
def avatar(client: TestClient, astronaut: np.ndarray) -> str:
    return str(add(client, astronaut).json()["id"])


def test_of_two_faces_one_is_chosen(client: TestClient, astronaut: np.ndarray) -> None:
    person, width = astronaut[:400, 60:360], 300
    both = np.concatenate([person, person[:, ::-1]], axis=1)
    asked = add(client, both)
    assert asked.status_code == 409 and asked.json()["error"]["code"] == "E_CHOOSE_FACE"
    faces = asked.json()["faces"]
    assert [face["number"] for face in faces] == [1, 2]
    middles = [face["box"][0] + face["box"][2] / 2 for face in faces]
    assert middles[0] < width < middles[1]
    # The two are mirror images, so their boxes lie in the same places from the middle.
    assert middles[0] + middles[1] == pytest.approx(2 * width, abs=8)
    pictures = []
    for number in ("1", "2"):
        made = add(client, both, face=number)
        assert made.status_code == 201
        pictures.append(client.get(f"/v1/avatars/{made.json()['id']}/preview.jpg").content)
    assert pictures[0] != pictures[1]
    wrong = add(client, both, face="3")
    assert wrong.status_code == 422 and "no face 3" in wrong.json()["error"]["message"]


@pytest.mark.parametrize(("kind", "begins"), [("glb", b"glTF"), ("html", b"<!do")])
def test_the_head_is_a_file(client: TestClient, avatar: str, kind: str, begins: bytes) -> None:
    first = client.get(f"/v1/avatars/{avatar}/avatar.{kind}")
    assert first.status_code == 200 and first.content[:4].lower() == begins.lower()
    # A page that was made of somebody's photo is not shown as one of the server's own.
    assert first.headers["content-disposition"].startswith("attachment")
    assert client.get(f"/v1/avatars/{avatar}/avatar.{kind}").content == first.content


def test_other_files_of_a_head_are_refused(client: TestClient, avatar: str) -> None:
    assert client.get(f"/v1/avatars/{avatar}/avatar.exe").status_code == 400
    assert client.get("/v1/avatars/avt_0/avatar.glb").status_code == 404


def test_a_voice_becomes_motion(client: TestClient, avatar: str, voice: Path) -> None:
    motion = client.post(f"/v1/avatars/{avatar}/motion", content=voice.read_bytes())
    assert motion.status_code == 200
    said = json.loads(motion.content)
    jaw = [frame["expression"][said["expression_names"].index("jawOpen")] for frame in said["frames"]]
    assert said["fps"] == 25.0 and max(jaw) > 0.05
    wrong = client.post(f"/v1/avatars/{avatar}/motion", content=b"no voice")
    assert wrong.status_code == 422 and "the voice" in wrong.json()["error"]["message"].lower() and "/tmp" not in wrong.text
