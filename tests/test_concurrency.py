"""Threads and processes that share the package: the same answers as alone, or one sentence; never a wait without end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from triportrait.concurrency import Guard, at_most_threads, built_once, calm_libraries, in_order, termination_as_exit, thread_count
from triportrait.errors import OptionError

ROOT = Path(__file__).resolve().parents[1]
#: A child that hangs fails its test after so long.
PATIENCE_S = 300
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")


def run(script: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT, env=environment, **settings
    )


def in_threads(*calls) -> list:
    """Results of calls that start at the same time."""
    barrier = threading.Barrier(len(calls))

    def together(call):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(together, calls))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
def test_signals_are_put_back_and_those_of_others_left_alone(monkeypatch):
    """A handler that a library has installed below Python is None here, and could not be put back."""
    before, known = signal.getsignal(signal.SIGTERM), signal.getsignal
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGHUP else known(number))
    with termination_as_exit():
        assert known(signal.SIGTERM) is not before
        changed = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, changed)
        assert changed in (signal.SIG_DFL, signal.SIG_IGN)
    assert known(signal.SIGTERM) is before


def test_what_is_built_once_is_built_once():
    built = []

    @built_once(maxsize=2)
    def build(name: str) -> object:
        built.append(name)
        threading.Event().wait(0.05)
        return object()

    results = in_threads(*[lambda name=name: build(name) for name in "aabbaab"])
    assert sorted(built) == ["a", "b"] and len(set(map(id, results))) == 2
    build.cache_clear()
    assert build("a") not in results


def test_a_faulty_build_is_told_and_tried_again():
    answers = iter([ValueError("no"), 7])

    @built_once(maxsize=1)
    def build() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(ValueError, match="no"):
        build()
    assert build() == build() == 7


def test_photos_and_masks_at_once_are_those_alone(astronaut, face_tracker):
    pictures = [astronaut, astronaut[:400], np.ascontiguousarray(astronaut[:, ::-1])]
    alone = [(face_tracker.detect(picture)[0].landmarks, face_tracker.person_mask(picture)) for picture in pictures]
    calls = [lambda picture=picture: (face_tracker.detect(picture)[0].landmarks, face_tracker.person_mask(picture)) for picture in pictures]
    for expected, got in zip(alone * 2, in_threads(*calls * 2), strict=True):
        for one, other in zip(expected, got, strict=True):
            np.testing.assert_array_equal(one, other)


def test_clips_and_photos_at_once_are_those_alone(astronaut, face_tracker):
    clips = [[np.roll(astronaut, step * shift, axis=1) for step in range(4)] for shift in (6, -6)]

    def track(clip):
        return np.stack([row for row, _ in face_tracker.track(clip)])

    alone = [track(clip) for clip in clips]
    photo = face_tracker.detect(astronaut)[0].landmarks
    calls = [lambda clip=clip: track(clip) for clip in clips * 2]
    *tracked, seen = in_threads(*calls, lambda: face_tracker.detect(astronaut)[0].landmarks)
    for expected, got in zip(alone * 2, tracked, strict=True):
        np.testing.assert_array_equal(expected, got)
    np.testing.assert_array_equal(photo, seen)


def test_two_clips_read_by_turns_do_not_disturb_each_other(astronaut, face_tracker):
    clips = [[np.roll(astronaut, step * shift, axis=1) for step in range(4)] for shift in (6, -6)]
    alone = [np.stack([row for row, _ in face_tracker.track(clip)]) for clip in clips]
    pairs = list(zip(*(face_tracker.track(clip) for clip in clips), strict=True))
    for index, expected in enumerate(alone):
        np.testing.assert_array_equal(expected, np.stack([pair[index][0] for pair in pairs]))


def test_a_picture_at_fault_does_not_break_the_tracker(astronaut, face_tracker):
    expected = face_tracker.detect(astronaut)[0].landmarks
    with pytest.raises(ValueError, match="a picture is uint8"):
        face_tracker.person_mask(np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match="a picture is uint8"):
        face_tracker.score(np.zeros((8, 8, 5), np.uint8))
    np.testing.assert_array_equal(face_tracker.detect(astronaut)[0].landmarks, expected)
    assert face_tracker.person_mask(astronaut)[100, 220] > 0.9


def test_one_portrait_performed_in_threads_gives_the_frames_of_one(talking_portrait):
    def frames() -> np.ndarray:
        return np.stack([frame.image for frame in talking_portrait.idle(0.12)])

    expected = frames()
    for got in in_threads(*[frames] * 4):
        np.testing.assert_array_equal(got, expected)


QUIET = """
import sys, numpy as np
from skimage import data
{before}
from triportrait.face.mesh_tracker import MeshTracker
picture = data.astronaut()
tracker = MeshTracker()
tracker.person_mask(picture)
rows = list(tracker.track([picture, picture]))
print(len(tracker.detect(picture)), len(rows))
"""


def test_a_program_hears_nothing_of_the_trackers_runtime():
    done = run(QUIET.format(before=""))
    assert done.stdout == "1 2\n" and done.stderr == ""


@pytest.mark.parametrize("before", ["sys.stderr = None", "import os; os.close(2)"])
def test_without_standard_error_it_works(before):
    done = run(QUIET.format(before=before))
    assert done.stdout == "1 2\n", done


@FORKS
def test_after_use_a_forked_child_finds_faces_and_performs():
    done = run("""
import multiprocessing
import numpy as np
from skimage import data
from triportrait import Portrait
from triportrait.face.portrait import PortraitOptions

def look(_):
    return Portrait.from_image(data.astronaut(), PortraitOptions(256)).prepared.landmarks

def perform(_):
    return np.stack([frame.image for frame in portrait.idle(0.08)]).astype(int)

portrait = Portrait.from_image(data.astronaut(), PortraitOptions(256))
alone = perform(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(all(np.array_equal(seen, portrait.prepared.landmarks) for seen in pool.map_async(look, range(2)).get(timeout=90)))
    # One thread of torch sums in another order than two.
    print(all(abs(frames - alone).max() <= 4 for frames in pool.map_async(perform, range(2)).get(timeout=90)))
""")
    assert done.stdout == "True\nTrue\n", done


@FORKS
def test_before_use_a_forked_child_finds_faces():
    done = run("""
import multiprocessing
from skimage import data
import triportrait.pipeline

def look(_):
    return len(triportrait.drivers.default_tracker().detect(data.astronaut()))

with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map_async(look, range(2)).get(timeout=60))
""")
    assert done.stdout == "[1, 1]\n", done


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_after_use_fresh_processes_find_faces(method, tmp_path):
    if method == "forkserver" and not hasattr(os, "fork"):
        pytest.skip("processes are not forked here")
    script = tmp_path / "pool.py"
    script.write_text(f"""
import multiprocessing
from skimage import data
from triportrait.pipeline import default_tracker

def look(_):
    return len(default_tracker().detect(data.astronaut()))

if __name__ == "__main__":
    print(look(0))
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print(pool.map_async(look, range(2)).get(timeout=80))
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout == "1\n[1, 1]\n", done


@FORKS
def test_a_child_forked_while_a_lock_is_held_gets_a_free_one():
    guard = Guard()
    with guard.lock:
        held = threading.Event()
        free = threading.Event()

        def hold() -> None:
            with other.lock:
                held.set()
                free.wait(PATIENCE_S)

        other = Guard()
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(PATIENCE_S)
        child = os.fork()
        if child == 0:
            os._exit(0 if other.lock.acquire(timeout=5) and guard.lock.acquire(timeout=5) else 1)
        free.set()
        holder.join()
    assert os.waitpid(child, 0)[1] == 0


@FORKS
def test_the_renderers_threads_are_made_anew_in_a_forked_child():
    from triportrait.avatar.oneshot.volume_kernels import _pool

    assert list(_pool(2).map(abs, [-1, -2])) == [1, 2]
    child = os.fork()
    if child == 0:
        os._exit(0 if _pool(2).submit(abs, -3).result(timeout=20) == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_network_on_openvino_goes_on_without_it_after_a_fork(monkeypatch):
    from triportrait.nn import runtime

    class Request:
        def infer(self, inputs, **_):
            return {"answer": inputs[0] * 5}

    class Plain:
        config, shapes = {}, {"x": (2,)}

        def __call__(self, *arrays):
            return arrays

    compiled = type("Compiled", (), {"create_infer_request": lambda self: Request(), "outputs": ["answer"]})()
    graph = runtime._OpenVinoGraph(Plain(), compiled)
    x = np.ones(2)
    assert graph(x)[0].tolist() == [5, 5]
    monkeypatch.setattr(runtime.os, "getpid", lambda: -1)
    assert graph(x)[0].tolist() == [1, 1]


@FORKS
def test_a_network_runs_in_a_forked_child():
    from triportrait.avatar.mouth.painter import CHANNELS, HEIGHT_PX, WIDTH_PX, load_painter

    channels = np.full((HEIGHT_PX, WIDTH_PX, CHANNELS), 0.5, np.float32)
    graph = load_painter()
    (before,) = graph(channels)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(graph(channels)[0], before) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_threads_are_the_ones_given(monkeypatch):
    monkeypatch.delenv("TRIPORTRAIT_THREADS", raising=False)
    assert 1 <= thread_count() <= (os.cpu_count() or 1)
    monkeypatch.setenv("TRIPORTRAIT_THREADS", "3")
    assert thread_count() == 3
    with at_most_threads(5):
        assert thread_count() == 5
    for wrong in ("0", "many", "-1", "1.5", "1000"):
        monkeypatch.setenv("TRIPORTRAIT_THREADS", wrong)
        with pytest.raises(OptionError, match="TRIPORTRAIT_THREADS"):
            thread_count()
    with pytest.raises(OptionError, match="--threads is 0"), at_most_threads(0):
        pass


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_and_no_more_than_asked_for_run_ahead(threads):
    running, most, taken = [], [], []
    lock = threading.Lock()

    def slow(item):
        with lock:
            running.append(item)
            most.append(len(running))
        threading.Event().wait(0.002 * (item % 3))
        with lock:
            running.remove(item)
        return item * item

    def items():
        for item in range(20):
            taken.append(item)
            yield item

    results = in_order(slow, items(), threads)
    assert next(results) == 0 and len(taken) <= threads + 1
    assert list(results) == [item * item for item in range(1, 20)] and max(most) <= threads


def test_an_error_on_a_thread_is_the_callers_and_nobody_waits_for_the_rest():
    done = []

    def call(item):
        if item == 3:
            raise ValueError("three")
        done.append(item)

    with pytest.raises(ValueError, match="three"):
        list(in_order(call, iter(range(1000)), 2))
    assert len(done) < 10
    results = in_order(done.append, iter(range(1000)), 2)
    next(results)
    results.close()
    assert len(done) < 20


def test_frames_are_the_same_on_any_number_of_threads(talking_portrait):
    with at_most_threads(1):
        alone = [frame.image for frame in talking_portrait.idle(0.4)]
    with at_most_threads(3):
        together = [frame.image for frame in talking_portrait.idle(0.4)]
    np.testing.assert_array_equal(alone, together)


def test_libraries_are_calm_while_anybody_works_and_get_their_threads_back() -> None:
    import cv2
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads() -> tuple[int, int]:
        return max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), cv2.getNumThreads()

    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(3)
        with threadpool_limits(2, "blas"), at_most_threads(2):
            assert threads() == (2, 3)
            first, second = calm_libraries(), calm_libraries()
            first.__enter__()
            second.__enter__()
            assert threads() == (1, 2)
            first.__exit__(None, None, None)  # the one that came first is not the last to leave
            assert threads() == (1, 2)
            second.__exit__(None, None, None)
            assert threads() == (2, 3)
    finally:
        cv2.setNumThreads(before)
