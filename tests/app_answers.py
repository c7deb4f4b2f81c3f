"""What the answers of the server have in common, and a portrait for tests in which nothing is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ERROR_FIELDS = {"code", "message", "remedy", "field"}


def error_of(answer: Any) -> tuple[int, str, str]:
    """Status, code and words of an answer that is no success; it tells nothing of the machine."""
    body = answer.json()["error"]
    assert set(body) == ERROR_FIELDS
    for sentence in (body["message"], body["remedy"]):
        assert sentence.endswith((".", "!")) and sentence[0] == sentence[0].upper() and len(sentence) > 8
        for word in ("Traceback", "/tmp", "site-packages", "Error("):
            assert word not in sentence
    return answer.status_code, body["code"], f"{body['message']} {body['remedy']}"


def example_avatar(folder: Path, name: str = "avt_" + "0" * 24, client: str = "") -> str:
    """An avatar that everybody sees and nobody can draw; for tests in which nothing is drawn."""
    place = folder / "avatars" / name
    place.mkdir(parents=True)
    (place / "about.json").write_text(f'{{"client": "{client}", "name": "example", "created": 0}}')
    return name
