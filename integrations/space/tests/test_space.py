"""The page as a program calls it: Gradio's own server and client, a real photo and voice."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
client_of = pytest.importorskip("gradio_client")
FOLDER = Path(__file__).resolve().parents[1]
EXAMPLES = FOLDER.parents[1] / "examples"


@pytest.fixture(scope="module")
def page() -> Iterator[object]:
    specification = importlib.util.spec_from_file_location("space_app", FOLDER / "app.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    _, address, _ = module.demo.queue(max_size=20).launch(server_name="127.0.0.1", server_port=None, prevent_thread_lock=True, quiet=True)
    yield client_of.Client(address, verbose=False)
    module.demo.close()


def make(page: object, **changes: object) -> object:
    file = client_of.handle_file
    given = {
        "photo": file(str(EXAMPLES / "portrait.png")),
        "voice": file(str(EXAMPLES / "speech.wav")),
        "driving": None,
        "emotion": "happy",
        "head_motion": 1.0,
        "quality": "draft",
        "background": "#204060",
        "agreed": True,
    }
    return page.predict(**(given | changes), api_name="/make")


def test_a_photo_and_a_voice_become_a_video(page: object) -> None:
    answer = make(page)
    path = Path(answer["video"] if isinstance(answer, dict) else answer)
    assert path.suffix == ".mp4" and path.read_bytes()[4:8] == b"ftyp"


def test_what_is_wrong_is_one_sentence(page: object) -> None:
    for changes, said in (
        ({"agreed": False}, "agreed"),
        ({"voice": None}, "Give a photo"),
        ({"background": "no colour"}, "neither a colour nor a file"),
    ):
        with pytest.raises(Exception, match=said):
            make(page, **changes)


def test_the_demo_is_short() -> None:
    assert len((FOLDER / "app.py").read_text(encoding="utf-8").splitlines()) <= 60
