"""Videos by a Ray cluster: the machine that draws is lost in the middle, the next one goes on from the pieces that came back."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("fastapi", reason="pip install 'triportrait[app]'")
from triportrait.app import ray_workers
from triportrait.app.ray_workers import RayWorkers, connect, make_there
from triportrait.app.server import EXAMPLES
from triportrait.app.store import Store
from triportrait.app.worker import VIDEO
from triportrait.errors import MissingPart, OptionError
from triportrait.media.video import VideoReader
from triportrait.performance import PIECES_SUFFIX
from triportrait.pipeline import save_portrait


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """An avatar file of 256 px."""
    from triportrait.face.portrait import PortraitOptions

    return save_portrait(astronaut, tmp_path_factory.mktemp("portrait") / "portrait.avatar", PortraitOptions(256))


def store_with_a_job(folder: Path, portrait: Path, seconds: float) -> Store:
    """A server's folder in which a video waits."""
    store = Store(folder)
    place = folder / "avatars" / f"avt_{'1' * 24}"
    place.mkdir()
    shutil.copy(portrait, place / "portrait.avatar")
    (place / "about.json").write_text(json.dumps({"client": "me", "name": "me", "created": 0.0, "consent": "They said yes."}))
    (folder / "videos" / "vid_1").mkdir()
    samples, rate_hz = soundfile.read(EXAMPLES / "speech.wav")
    with (folder / "videos" / "vid_1" / "driver").open("wb") as file:
        soundfile.write(file, np.tile(samples, 2)[: round(seconds * rate_hz)], rate_hz, format="WAV")
    options = {"quality": "draft", "full_frame": False, "background": None, "format": "mp4", "seed": 3}
    store.jobs.add("me", place.name, "audio", options, "vid_1")
    return store


def test_a_machine_sends_pieces_as_they_are_finished_and_takes_those_that_there_are(tmp_path: Path, portrait: Path) -> None:
    store = store_with_a_job(tmp_path, portrait, 5.0)
    job = store.jobs.claim("w")
    assert job is not None
    workers = RayWorkers.__new__(RayWorkers)
    workers._store = store
    answers = make_there(job, workers._files(job))
    place, content = next((place, content) for kind, place, content in answers if kind == "file")
    answers.close()  # the machine is lost
    assert PIECES_SUFFIX in place
    workers._keep(place, content)
    files = workers._files(job)
    assert files[place] == content
    got = list(make_there(job, files))
    sent = {place: content for kind, place, content in got if kind == "file"}
    assert place not in sent, "a piece that was there was drawn again"
    kind, text, _ = got[-1]
    assert kind == "made" and json.loads(text)["seconds"] == "5.00"
    assert {f"videos/vid_1/{name}" for name in (VIDEO, "thumbnail.jpg", "motion.npz", "motion.livelink.csv")} <= set(sent)
    for outside in ("../x", "/etc/x", "avatars/x", "videos/../jobs.sqlite"):
        with pytest.raises(OSError):
            workers._keep(outside, b"")


def test_a_fault_of_the_input_comes_back_as_one(tmp_path: Path, portrait: Path) -> None:
    store = store_with_a_job(tmp_path, portrait, 1.0)
    (tmp_path / "videos" / "vid_1" / "driver").write_bytes(b"no voice")
    job = store.jobs.claim("w")
    assert job is not None
    workers = RayWorkers.__new__(RayWorkers)
    workers._store = store
    kind, text, _ = list(make_there(job, workers._files(job)))[-1]
    fault = json.loads(text)
    assert kind == "error" and fault["field"] == "audio" and fault["remedy"] and "/tmp" not in text


def test_a_job_goes_on_when_its_machine_is_lost(tmp_path: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr(ray_workers, "CPUS_PER_VIDEO", 1.0)
    store = store_with_a_job(tmp_path, portrait, 16.0)
    memory = 80 * 2**20
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": memory})
    stop = threading.Event()
    try:
        machines = [cluster.add_node(num_cpus=1, object_store_memory=memory)]
        workers = RayWorkers(store, connect(cluster.address), 0, "ray")
        assert workers.capacity == 1
        thread = threading.Thread(target=workers.run, args=(stop,))
        thread.start()
        pieces = tmp_path / "videos" / "vid_1" / f"{VIDEO}{PIECES_SUFFIX}"
        until = time.monotonic() + 240.0
        while not list(pieces.glob("[0-9]*.mp4")) and time.monotonic() < until:
            time.sleep(0.05)
        machines.append(cluster.add_node(num_cpus=1, object_store_memory=memory))
        cluster.remove_node(machines[0], allow_graceful=False)
        kept = {path: path.stat().st_mtime_ns for path in pieces.glob("[0-9]*.mp4")}
        while (job := store.jobs.get("vid_1")) is not None and job.state == "in_progress" and time.monotonic() < until + 120.0:
            for path, moment in kept.items():
                if path.exists():  # until the end
                    assert path.stat().st_mtime_ns == moment
            time.sleep(0.1)
        assert kept and job is not None and job.state == "completed" and job.attempts == 2, job
        with VideoReader(tmp_path / "videos" / "vid_1" / VIDEO) as reader:
            assert reader.has_audio and len(list(reader.frames(None))) == 400
        stop.set()
        thread.join()
    finally:
        stop.set()
        import ray

        ray.shutdown()
        cluster.shutdown()


def test_without_ray_or_a_cluster_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def unreachable(**_: object) -> None:
        raise ConnectionError("nobody there\nand a long story")

    monkeypatch.setattr(ray, "init", unreachable)
    with pytest.raises(OptionError, match=r"no Ray cluster at 'auto' that can be reached \(nobody there\)"):
        connect("auto")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:x"):
        with pytest.raises(OptionError, match=f"no Ray cluster at '{address}' that can be reached"):
            connect(address)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingPart, match="pip install"):
        connect("auto")
