"""The catalogue is complete, and what it names is fetched whole: resumed, checked, from mirrors and from folders."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from triportrait.errors import OutputError, WeightsError
from triportrait.weights import catalogue, fetch
from triportrait.weights.catalogue import CATALOGUE, PublishedFile, entry, licence_of_layout
from triportrait.weights.tables import LAYOUTS

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT under every name. ``drop_after``: it hangs up after so many bytes of an answer, that many times."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.drop_after, self.drops, self.ranges_known = 0, 0, True
        self.content, self.version = CONTENT, ""
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path, wanted))
        if self.headers.get("If-Range", self.server.version) != self.server.version:
            wanted = None
        if self.path.endswith("/none"):
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges_known else 0
        if start >= len(self.server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(self.server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if wanted and self.server.ranges_known else 200)
        if wanted and self.server.ranges_known:
            self.send_header("Content-Range", f"bytes {start}-{len(self.server.content) - 1}/{len(self.server.content)}")
        if self.server.version:
            self.send_header("ETag", self.server.version)
        self.send_header("Content-Length", str(len(self.server.content) - start))
        self.end_headers()
        body = self.server.content[start:]
        if self.server.drops > 0:
            self.server.drops -= 1
            body = body[: self.server.drop_after]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """EG3D's entry with the content's hash and our server's address."""
    ours = replace(entry("eg3d"), files=(PublishedFile("sub folder/net.pkl", f"{server.address}/a/net.pkl", SHA256),))
    monkeypatch.setattr(catalogue, "CATALOGUE", (ours,))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(tmp_path))
    return tmp_path / "weights"


def test_catalogue_names_terms_and_places_for_every_layout() -> None:
    assert len({one.name for one in CATALOGUE}) == len(CATALOGUE)
    for one in CATALOGUE:
        assert one.files and one.page and one.licence and entry(one.name) is one
        assert all(file.address is None or file.address.startswith("https://") for file in one.files)
    assert {layout for one in CATALOGUE for layout in one.layouts} >= set(LAYOUTS)
    assert "NVIDIA" in licence_of_layout("eg3d_discriminator") and "Basel" in licence_of_layout("bfm")
    with pytest.raises(WeightsError, match="no 'real4d'; it has real3d_torso"):
        entry("real4d")


@pytest.mark.usefixtures("known")
def test_fetch(server: Server, home: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    (file,) = fetch.fetch("eg3d", progress=lambda *step: seen.append(step))
    assert file == home / "downloads" / "eg3d" / "net.pkl" and file.read_bytes() == CONTENT
    assert seen[-1] == ("net.pkl", len(CONTENT), len(CONTENT))
    assert [path.name for path in file.parent.iterdir()] == ["net.pkl"]
    fetch.fetch("eg3d")
    assert server.asked == [("/a/net.pkl", None)], "what is there already is not fetched again"


@pytest.mark.usefixtures("known")
def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.drop_after, server.drops = 100_000, 2
    (file,) = fetch.fetch("eg3d", into=tmp_path)
    assert file.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.usefixtures("known")
def test_an_interrupted_download_is_resumed_by_the_next_run(server: Server, tmp_path: Path) -> None:
    server.drop_after, server.drops = 50_000, fetch.ATTEMPTS
    with pytest.raises(WeightsError, match="run the same command again"):
        fetch.fetch("eg3d", into=tmp_path)
    assert (tmp_path / "net.pkl.part").stat().st_size == 50_000 * fetch.ATTEMPTS and not (tmp_path / "net.pkl").exists()
    assert fetch.fetch("eg3d", into=tmp_path)[0].read_bytes() == CONTENT


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("have", [CONTENT, CONTENT[:1000], CONTENT + b"more", b"x" * 1000], ids=["all", "some", "more", "other"])
@pytest.mark.parametrize("ranges_known", [True, False])
def test_whatever_lies_there_the_result_is_the_file_or_an_error(server: Server, tmp_path: Path, have: bytes, ranges_known: bool) -> None:
    server.ranges_known = ranges_known
    (tmp_path / "net.pkl.part").write_bytes(have)
    if have[:1] == b"x" and ranges_known:
        with pytest.raises(WeightsError, match="not the published file"):
            fetch.fetch("eg3d", into=tmp_path)
        assert not list(tmp_path.glob("net*")), "a wrong part is thrown away"
    assert fetch.fetch("eg3d", into=tmp_path)[0].read_bytes() == CONTENT


def test_a_part_of_an_older_version_is_not_continued(server: Server, tmp_path: Path) -> None:
    server.version, server.drop_after, server.drops = '"one"', 50_000, fetch.ATTEMPTS
    part = tmp_path / "net.pkl.part"
    with pytest.raises(WeightsError, match="run the same command again"):
        fetch.download(f"{server.address}/net.pkl", part)
    server.version, server.content = '"two"', CONTENT[::-1]
    fetch.download(f"{server.address}/net.pkl", part)
    assert part.read_bytes() == CONTENT[::-1] and list(tmp_path.iterdir()) == [part]


@pytest.mark.usefixtures("known")
def test_mirror(server: Server, tmp_path: Path) -> None:
    fetch.fetch("eg3d", into=tmp_path, mirror=f"{server.address}/mirror/")
    assert server.asked == [("/mirror/sub%20folder/net.pkl", None)]
    with pytest.raises(WeightsError, match="no http or https address"):
        fetch.fetch("eg3d", into=tmp_path / "b", mirror="file:///etc")


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", ["sub folder/net.pkl", "net.pkl"])
def test_a_folder_of_this_machine(server: Server, tmp_path: Path, name: str) -> None:
    (tmp_path / "disk" / name).parent.mkdir(parents=True)
    (tmp_path / "disk" / name).write_bytes(CONTENT)
    assert fetch.fetch("eg3d", from_folder=tmp_path / "disk")[0].read_bytes() == CONTENT
    assert not server.asked
    with pytest.raises(WeightsError, match="does not hold"):
        fetch.fetch("eg3d", from_folder=tmp_path, into=tmp_path / "b")


@pytest.mark.usefixtures("known")
def test_another_file_than_the_published_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="is not the published file"):
        fetch.fetch("eg3d", from_folder=tmp_path, into=tmp_path / "into")
    assert not list((tmp_path / "into").iterdir())


def test_what_has_no_address_is_explained(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no direct address for model_ckpt.*weights import FILE.*--mirror"):
        fetch.fetch("real3d_torso", into=tmp_path)


def test_refusals_are_one_sentence(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="HTTP 404"):
        fetch.download(f"{server.address}/none", tmp_path / "a.part")
    server.shutdown()
    server.server_close()
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        fetch.download(f"{server.address}/a", tmp_path / "a.part")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be made"):
        fetch.fetch("eg3d", into=tmp_path / "file")
