"""A server without processes of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from starlette.testclient import TestClient

from triportrait.app.server import EXAMPLES, Server, make_app


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server without processes of its own."""
    return Server(tmp_path_factory.mktemp("server"), workers=0, example_voice=EXAMPLES / "speech.wav")


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[TestClient]:
    """A browser."""
    with TestClient(make_app(server)) as one:
        one.get("/")
        yield one


@pytest.fixture(scope="module")
def avatar(client: TestClient, astronaut: np.ndarray) -> str:
    """The browser's portrait."""
    from PIL import Image

    photo = io.BytesIO()
    Image.fromarray(astronaut).save(photo, "PNG")
    answer = client.post("/v1/avatars", files={"photo": photo.getvalue()}, data={"consent": "true", "name": "me"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
