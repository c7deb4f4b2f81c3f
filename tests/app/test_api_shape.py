"""The API as programs see it: what its description promises holds for whatever is sent, and OpenAI's client understands the videos."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from app_answers import ERROR_FIELDS, error_of, example_avatar
from triportrait.app.server import Server, make_app
from triportrait.app.worker import VARIANTS, VIDEO

#: Requests that are made up; the variable asks for more.
CASES = int(os.environ.get("TRIPORTRAIT_FUZZ_CASES", "150"))
_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
_IDS = st.sampled_from(["avt_" + "0" * 24, "vid_" + "1" * 24, "mot_" + "2" * 24, "ses_x"]) | st.text(min_size=1, max_size=40)


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, Any]]]:
    """A server whose children refuse every file, and its description."""
    folder = tmp_path_factory.mktemp("fuzz")
    server = Server(folder, workers=0)
    example_avatar(folder, client="program")
    example_avatar(folder, "avt_" + "3" * 24)
    refused = subprocess.CompletedProcess([], 2, "", "triportrait: 'x' is not a picture; give a JPEG\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("triportrait.app.store.run_limited", lambda *arguments, **named: refused)
        patch.setattr("triportrait.app.heads.run_limited", lambda *arguments, **named: refused)
        patch.setattr("triportrait.app.server.run_limited", lambda *arguments, **named: refused)
        with TestClient(make_app(server), raise_server_exceptions=False) as client:
            yield client, client.get("/openapi.json").json()


def values(schema: dict[str, Any], whole: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What a schema describes; now and then something else."""
    if "$ref" in schema:
        return values(whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]], whole)
    fitting: st.SearchStrategy[Any]
    if "enum" in schema:
        fitting = st.sampled_from(schema["enum"])
    elif "anyOf" in schema:
        fitting = st.one_of([values(one, whole) for one in schema["anyOf"]])
    elif schema.get("type") == "object":
        fitting = st.fixed_dictionaries({}, optional={name: values(one, whole) for name, one in schema.get("properties", {}).items()})
    elif schema.get("type") == "array":
        fitting = st.lists(values(schema.get("items", {}), whole), max_size=3)
    elif schema.get("type") in ("number", "integer"):
        fitting = st.integers(-3, 300) if schema["type"] == "integer" else st.floats(-50.0, 50.0)
    elif schema.get("type") == "boolean":
        fitting = st.booleans()
    else:
        fitting = _IDS
    return st.one_of(fitting, fitting, fitting, _ANYTHING)


def as_text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "replace").decode()


@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_is_sent_is_answered_as_described(open_server: tuple[TestClient, dict[str, Any]], data: st.DataObject) -> None:
    client, described = open_server
    calls = [
        (path, method, call)
        for path, methods in described["paths"].items()
        for method, call in methods.items()
        if not path.endswith("/events")  # they would go on
    ]
    path, method, call = data.draw(st.sampled_from(calls))
    query, headers, content = {}, {}, {}
    for parameter in call.get("parameters", ()):
        if not parameter.get("required") and data.draw(st.booleans()):
            continue
        value = as_text(data.draw(values(parameter.get("schema", {}), described)))
        if parameter["in"] == "path":
            kept = "".join(one for one in value if one.isalnum() or one in "_-.~ é") or "x"
            path = path.replace("{" + parameter["name"] + "}", kept)
        elif parameter["in"] == "query":
            query[parameter["name"]] = value
        else:
            headers[parameter["name"]] = value.encode("latin-1", "replace").replace(b"\n", b"").replace(b"\r", b"").strip()
    body = call.get("requestBody", {}).get("content", {})
    if "application/json" in body:
        content["content"] = json.dumps(data.draw(values(body["application/json"]["schema"], described)))
        headers["content-type"] = "application/json"
    elif "application/octet-stream" in body:
        content["content"] = data.draw(st.binary(max_size=60))
    elif "multipart/form-data" in body:
        schema = body["multipart/form-data"]["schema"]
        texts: dict[str, str] = {}
        files: dict[str, tuple[str, bytes]] = {}
        for name, one in schema["properties"].items():
            if not data.draw(st.integers(0, 3)):
                continue
            if one.get("format") == "binary" and data.draw(st.integers(0, 9)):
                files[name] = (data.draw(st.sampled_from(["a.jpg", "b.wav", "", "../../x.mp4"])), data.draw(st.binary(max_size=60)))
            else:
                texts[name] = as_text(data.draw(values(one, described)))
        content = {"data": texts, "files": files or {"nothing": ("", b"")}}
    answer = client.request(method.upper(), path, params=query, headers=headers, **content)
    assert answer.status_code < 500 or (path == "/readyz" and answer.status_code == 503), (answer.status_code, answer.text)
    allowed = set(call["responses"]) | {f"{answer.status_code // 100}XX" for code in call["responses"] if code.endswith("XX")}
    assert str(answer.status_code) in allowed or f"{answer.status_code // 100}XX" in call["responses"]
    if answer.status_code >= 400:
        assert set(answer.json()) == {"error"} and set(answer.json()["error"]) == ERROR_FIELDS
        error_of(answer)


def test_other_methods_are_refused_and_the_right_ones_named(open_server: tuple[TestClient, dict[str, Any]]) -> None:
    client, described = open_server
    for path, methods in described["paths"].items():
        answer = client.request("OPTIONS", path)
        assert answer.status_code == 405, path
        assert answer.headers["allow"].split(", ") == sorted(method.upper() for method in methods), path
    assert client.get("/v1/detect").status_code == 405 and client.get("/v1/nothing").status_code == 404


def test_errors_are_described_as_json_and_forms_without_null(open_server: tuple[TestClient, dict[str, Any]]) -> None:
    paths, described = open_server[1]["paths"], open_server[1]["components"]["schemas"]
    for path, methods in paths.items():
        for method, call in methods.items():
            for status in ("4XX", "5XX"):
                assert list(call["responses"][status]["content"]) == ["application/json"], (path, method)
    assert list(paths["/v1/avatars/{avatar_id}/still"]["post"]["responses"]["200"]["content"]) == ["image/jpeg"]
    assert list(paths["/v1/sessions/{session_id}/offer"]["post"]["responses"]["201"]["content"]) == ["application/sdp"]
    form = paths["/v1/avatars"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert "auto" not in described["StillRequest"]["properties"]["emotion"]["enum"]
    assert described["PrepareRequest"]["properties"]["sample_rate"]["multipleOf"] == 25
    assert form["properties"]["face"] == {"title": "Face", "type": "integer", "minimum": 1, "maximum": 100}


def test_openais_client_lists_retrieves_downloads_and_deletes(tmp_path: Path) -> None:
    """The fields of ``openai.types.Video``, its pages of 2, and its calls; ``Bearer`` is the key that the client sends."""
    server = Server(tmp_path, workers=0)
    name = example_avatar(tmp_path)
    with TestClient(make_app(server), headers={"Authorization": "Bearer sk-none"}) as client:
        made = [client.post("/v1/videos", files={"audio": b"x"}, data={"avatar": name}).json()["id"] for _ in range(5)]
        job = server.store.jobs.claim("w")
        assert job is not None and job.id == made[0]
        assert server.store.jobs.renew(job.id, "w", 40)
        running = client.get(f"/v1/videos/{job.id}").json()
        assert running["status"] == "in_progress" and running["progress"] == 40 and running["seconds_left"] >= 0
        folder = server.store.video_folder(job.id)
        for file, data in ((VIDEO, b"mp4"), (VARIANTS["thumbnail"], b"jpg"), (VARIANTS["motion"], b"npz"), (VARIANTS["livelink"], b"csv")):
            (folder / file).write_bytes(data)
        assert server.store.jobs.finish(job.id, "w", made={"seconds": "8.88", "size": "512x512", "format": "mp4"})
        video = client.get(f"/v1/videos/{job.id}").json()
        for field, kind in (("id", str), ("created_at", int), ("completed_at", int), ("expires_at", int), ("model", str), ("seconds", str)):
            assert isinstance(video[field], kind), field
        assert (video["object"], video["status"], video["progress"], video["size"]) == ("video", "completed", 100, "512x512")
        for variant, media, data in (
            ("video", "video/mp4", b"mp4"),
            ("thumbnail", "image/jpeg", b"jpg"),
            ("motion", "application/octet-stream", b"npz"),
            ("livelink", "text/csv", b"csv"),
        ):
            answer = client.get(f"/v1/videos/{job.id}/content", params={"variant": variant})
            assert answer.content == data and answer.headers["content-type"].startswith(media), variant
            assert job.id in answer.headers["content-disposition"]
        assert error_of(client.get(f"/v1/videos/{job.id}/content?variant=spritesheet"))[:2] == (400, "E_OPTION")
        for order, expected in (("desc", made[::-1]), ("asc", made)):
            seen, after = [], None
            while True:
                asked = {"limit": 2, "order": order} | ({"after": after} if after else {})
                page = client.get("/v1/videos", params=asked).json()
                seen += [one["id"] for one in page["data"]]
                after = page["last_id"]
                if not page["has_more"]:
                    break
            assert seen == expected
        assert client.delete(f"/v1/videos/{job.id}").json() == {"id": job.id, "object": "video.deleted", "deleted": True}
        assert error_of(client.get(f"/v1/videos/{job.id}"))[:2] == (404, "E_NOT_FOUND")
