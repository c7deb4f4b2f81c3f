"""Whole runs: local processes, a Ray cluster that loses a machine, interruptions. Every clip once, and always the same shards."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from triportrait.cli import main
from triportrait.errors import MissingPart, OptionError
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.training.data import pools
from triportrait.training.data.clip import PrepareSettings
from triportrait.training.data.clips import ClipSet
from triportrait.training.data.pools import ClusterError, LocalPool, RayPool
from triportrait.training.data.prepare import PrepareOptions, Summary, prepare
from triportrait.training.data.shards import verify
from triportrait.training.data.sources import VideoSource, find_videos
from triportrait.training.data.work import Outcome, Reply, one_thread, work_on

SETTINGS = PrepareSettings(size_px=64, clip_seconds=0.4)
#: Pieces of 8 to 15 frames are clips of their own with these settings.
CLIPS, FRAMES = 4, 9


@pytest.fixture(scope="module")
def videos(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tiny clips of one person, and one file that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    frames = [frame for _, frame in VideoReader(clip).frames()]
    for number in range(CLIPS):
        with VideoWriter(folder / f"v{number}.mp4", (256, 256)) as writer:
            for frame in frames[2 * number : 2 * number + FRAMES]:
                writer.write(frame)
    (folder / "broken.mp4").write_bytes(b"this is no video")
    return folder


@pytest.fixture(scope="module")
def local(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards that two local processes make of them: what all other runs are compared with."""
    out = tmp_path_factory.mktemp("local")
    seen: list[tuple[int, int]] = []
    summary = prepare(options(videos, out, workers=2), lambda _, done, total: seen.append((done, total)))
    assert summary == Summary(CLIPS, 1, len(list(out.glob("*.tar"))), CLIPS)
    assert seen == [(number + 1, CLIPS + 1) for number in range(CLIPS + 1)]
    return out


def options(videos: Path, out: Path, **changes: object) -> PrepareOptions:
    return replace(PrepareOptions(videos, out, settings=SETTINGS, workers=1, videos_per_shard=3), **changes)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name != "report.csv"}


def report(out: Path) -> dict[str, dict[str, str]]:
    with (out / "report.csv").open(newline="") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


class HerePool:
    """Works in this process, in whatever order is asked for, with ``work`` instead of the real thing."""

    def __init__(self, work, *, last_first: bool = False) -> None:
        self.capacity, self.asked, self._work, self._last_first = 3, [], work, last_first
        self._waiting: deque[VideoSource] = deque()

    def __enter__(self) -> HerePool:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.clear()

    def submit(self, source: VideoSource) -> None:
        self._waiting.append(source)
        self.asked.append(source.key)

    def next(self) -> tuple[VideoSource, Reply]:
        source = self._waiting.pop() if self._last_first else self._waiting.popleft()
        return source, self._work(source)


def test_local_processes(videos: Path, local: Path) -> None:
    assert verify(local) == []
    clips = ClipSet([local])
    assert clips.keys == tuple(f"v{number}" for number in range(CLIPS))
    assert all(clips.frames_of(index) == FRAMES for index in range(CLIPS))
    rows = report(local)
    assert rows["broken"]["code"] == "E_MEDIA_FORMAT" and rows["broken"]["status"] == "failed"
    assert rows["v0"]["status"] == "prepared" and "no sound track" in rows["v0"]["note"] and float(rows["v0"]["cpu_seconds"]) > 0


def test_a_second_run_has_nothing_to_do(videos: Path, local: Path) -> None:
    before = contents(local)
    pool = HerePool(lambda source: pytest.fail(f"{source.key} is done"))
    assert prepare(options(videos, local), pool=pool).new == 0
    assert contents(local) == before
    retried = HerePool(lambda source: work_on(source, SETTINGS))
    assert prepare(options(videos, local, retry_failed=True), pool=retried).new == 0
    assert retried.asked == ["broken"] and contents(local) == before


def test_interrupted_runs_go_on_in_any_order(videos: Path, local: Path, tmp_path: Path) -> None:
    done: list[str] = []

    def work(source: VideoSource) -> Reply:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(source.key)
        return work_on(source, SETTINGS)

    with pytest.raises(KeyboardInterrupt):
        prepare(options(videos, tmp_path), pool=HerePool(work, last_first=True))
    assert len(report(tmp_path)) == 3
    rest = HerePool(lambda source: work_on(source, SETTINGS), last_first=True)
    prepare(options(videos, tmp_path), pool=rest)
    assert not set(rest.asked) & set(done)
    assert len(rest.asked) + len(done) == CLIPS + 1
    assert contents(tmp_path) == contents(local)


def test_a_clip_depends_on_nothing_but_itself(videos: Path) -> None:
    """Not on the clips before it in the same process, nor on the threads that the process has for other work."""
    from threadpoolctl import threadpool_limits

    sources = {source.key: source for source in find_videos(videos)}
    samples: dict[str, set[bytes]] = {}
    for threads, keys in ((1, ("v0",)), (2, ("v3", "broken", "v0")), (3, ("v3", "v3"))):
        with threadpool_limits(limits=threads):
            for key in keys:
                samples.setdefault(key, set()).add(work_on(sources[key], SETTINGS).sample)
    assert {key: len(different) for key, different in samples.items()} == {"v0": 1, "v3": 1, "broken": 1}
    assert all(samples["v0"]) and all(samples["v3"])


def test_one_thread_while_a_clip_is_made_and_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2
    import scipy.linalg  # noqa: F401  # it brings an OpenBLAS of its own
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads() -> list[int]:
        return [cv2.getNumThreads(), *(pool["num_threads"] for pool in threadpool_info())]

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "5")
    with threadpool_limits(limits=2):
        before = threads()
        assert before.count(2) >= 2
        with pytest.raises(ZeroDivisionError), one_thread():
            assert set(threads()) == {1}
            assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"] == "1"
            raise ZeroDivisionError
        assert threads() == before
    assert "OMP_NUM_THREADS" not in os.environ and os.environ["OPENBLAS_NUM_THREADS"] == "5"


def test_pieces_of_a_long_video(clip: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def work(source: VideoSource) -> Reply:
        asked.append(source.key)
        if source.seconds is None:
            return work_on(source, SETTINGS)
        return Reply(Outcome(source, "E_TEST", f"{source.start_s:.2f} {source.seconds:.2f}"))

    summary = prepare(options(clip, tmp_path), pool=HerePool(work))
    assert (summary.prepared, summary.failed) == (0, len(asked) - 1)
    assert asked == ["clip", *sorted(key for key in asked if key != "clip")]
    lengths = [row["reason"] for row in report(tmp_path).values()]
    assert lengths[0] == "0.00 0.40" and lengths[1].startswith("0.40 ")
    # Failed pieces are not begun again, unless that is asked for.
    again = HerePool(work)
    prepare(options(clip, tmp_path), pool=again)
    assert again.asked == []


def test_a_worker_that_is_killed_costs_an_attempt_only(videos: Path, local: Path, tmp_path: Path) -> None:
    source = find_videos(videos / "v0.mp4")[0]
    with LocalPool(SETTINGS, 1, 600.0, tmp_path) as pool:
        pool.submit(source)
        while not pool.process_ids:
            time.sleep(0.01)
        os.kill(pool.process_ids[0], signal.SIGKILL)
        answered, reply = pool.next()
        assert answered == source and reply.outcome.prepared and reply.outcome.attempts == 2
        # Its place is taken by a process that goes on serving.
        pool.submit(find_videos(videos / "broken.mp4")[0])
        assert pool.next()[1].outcome.code == "E_MEDIA_FORMAT"


def test_a_clip_that_kills_its_workers_fails_alone(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "WORKER_ENVIRONMENT", {"PYTHONHOME": "/nowhere"})
    with LocalPool(SETTINGS, 1, 600.0, tmp_path) as pool:
        pool.submit(find_videos(videos / "v0.mp4")[0])
        _, reply = pool.next()
    assert reply.outcome.code == "E_WORKER" and "died 2 times" in reply.outcome.reason


def test_a_run_whose_workers_all_die_ends(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "WORKER_ENVIRONMENT", {"PYTHONHOME": "/nowhere"})
    with pytest.raises(ClusterError, match="Every worker dies"):
        prepare(options(videos, tmp_path))


def test_a_worker_that_hangs_is_replaced(videos: Path, tmp_path: Path) -> None:
    with LocalPool(SETTINGS, 1, 0.05, tmp_path) as pool:
        pool.submit(find_videos(videos / "v0.mp4")[0])
        _, reply = pool.next()
    assert reply.outcome.code == "E_WORKER" and "no answer for 0.05 s" in reply.outcome.reason


def test_the_command_is_killed_and_goes_on(videos: Path, local: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """kill -9 of the run itself; its workers end by themselves."""
    line = ["data", "prepare", str(videos), "-o", str(tmp_path / "out"), "--size", "64", "--clip-seconds", "0.4", "--videos-per-shard", "3"]
    command = [sys.executable, "-m", "triportrait.cli", *line, "--workers", "1"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        done = tmp_path / "out" / ".prepare"
        while run.poll() is None and len(list(done.glob("outcomes/v*.json")) + list(done.glob("groups/*.json"))) < 1:
            time.sleep(0.02)
        assert run.poll() is None, "the run ended before it could be killed"
    finally:
        run.kill()
        run.wait()
    assert main([*line, "--workers", "1"]) == 3
    said = capsys.readouterr()
    assert f"({CLIPS} clips in" in said.out and "1 clips failed" in said.err
    assert contents(tmp_path / "out") == contents(local)
    assert main(["data", "verify", str(tmp_path / "out")]) == 0
    assert "all is well" in capsys.readouterr().out


def test_settings_out_of_range(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--size is 63"):
        prepare(options(videos, tmp_path, settings=replace(SETTINGS, size_px=63)))
    with pytest.raises(OptionError, match="--clip-seconds is 0.1"):
        prepare(options(videos, tmp_path, settings=replace(SETTINGS, clip_seconds=0.1)))
    with pytest.raises(OptionError, match="--workers is 0"):
        prepare(options(videos, tmp_path, workers=0))
    with pytest.raises(MissingPart, match="There is no HuBERT"):
        prepare(options(videos, tmp_path, settings=replace(SETTINGS, hubert=str(tmp_path))))


# -- Ray ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(400)
def test_a_cluster_that_loses_a_machine_makes_the_same_shards(
    videos: Path, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines, one killed once a clip is done; every clip once, the same bytes as two local processes."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # One process per machine: starting one costs more than these clips.
    monkeypatch.setattr(pools, "RAY_CPUS_PER_CLIP", 1.0)
    memory = 80 * 2**20
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": memory})
    try:
        machines = [cluster.add_node(num_cpus=1, object_store_memory=memory) for _ in range(2)]
        killers: list[threading.Thread] = []

        def lose_one(what: str, done: int, total: int) -> None:
            if not killers and done:
                killers.append(threading.Thread(target=cluster.remove_node, args=(machines[0],), kwargs={"allow_graceful": False}))
                killers[0].start()

        summary = prepare(options(videos, tmp_path, ray=cluster.address), lose_one)
        killers[0].join()
    finally:
        cluster.shutdown()
    assert (summary.prepared, summary.failed, summary.new) == (CLIPS, 1, CLIPS)
    assert contents(tmp_path) == contents(local)
    assert verify(tmp_path) == [] and len(report(tmp_path)) == CLIPS + 1


def test_without_ray_or_a_cluster_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def unreachable(**_: object) -> None:
        raise ConnectionError("nobody there\nand a long story")

    monkeypatch.setattr(ray, "init", unreachable)
    with pytest.raises(ClusterError, match=r"no Ray cluster at '1.2.3.4:5' that can be reached \(nobody there\)"):
        RayPool(SETTINGS, "1.2.3.4:5")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPart, match="pip install"):
        RayPool(SETTINGS, "auto")
