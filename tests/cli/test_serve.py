"""``triportrait serve`` before it serves: what is wrong is one sentence, and small messages are sent at once."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from triportrait.cli import main
from triportrait.cli.serve import _listener


def test_small_messages_do_not_wait_for_larger_ones() -> None:
    async def delayed() -> bool:
        found: list[int] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            found.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = _listener("127.0.0.1")
        listener.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(serve, sock=listener)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        await reader.read()
        writer.close()
        server.close()
        return not found[0]

    assert not asyncio.run(delayed())


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["serve", *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(lines) == 1 and lines[0].startswith("triportrait: ")
    return lines[0]


def test_what_is_wrong_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    binary, empty, damaged = tmp_path / "binary", tmp_path / "empty", tmp_path / "damaged"
    binary.write_bytes(bytes(range(128, 256)))
    empty.write_bytes(b"")
    damaged.mkdir()
    (damaged / "jobs.sqlite").write_bytes(b"no table " * 900)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = f"{other.getsockname()[1]}"
        assert "choose another --port" in said(capsys, "--port", port, "--folder", str(tmp_path / "a"))
    here = ("--port", "0", "--folder", str(tmp_path / "a"))
    assert "is no address of this machine" in said(capsys, *here, "--host", "999.1.1.1")
    assert "check the path" in said(capsys, *here, "--token", str(tmp_path / "missing"))
    for option in ("--token", "--webhooks"):
        assert "is no text" in said(capsys, *here, option, str(binary))
        assert "empty file" in said(capsys, *here, option, str(empty))
    assert "use a number" in said(capsys, *here, "--requests", "-1")
    assert "choose another" in said(capsys, "--port", "0", "--folder", str(empty))
    assert "is damaged; remove it" in said(capsys, "--port", "0", "--folder", str(damaged))


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    assert "leave out --ray" in said(capsys, "--port", "0", "--folder", str(tmp_path), "--ray", "127.0.0.1:1")
