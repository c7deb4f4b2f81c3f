"""Videos made by a Ray cluster: ``python -m triportrait.app.ray_workers FOLDER ADDRESS JOBS`` hands jobs of the table to its machines.

The table stays the only truth. What a job needs goes to a machine through Ray, and every finished piece comes back at once, so that a
machine that is lost costs the piece that it was drawing and nothing else: the next one gets the pieces that there are.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from triportrait.app.schemas import ApiError, Job, fault_of
from triportrait.app.store import Store
from triportrait.app.worker import made_file, perform, said
from triportrait.errors import MissingPart, OptionError, TriPortraitError
from triportrait.files import atomic_file
from triportrait.performance import PIECES_SUFFIX

log = logging.getLogger(__name__)

#: How often the table is asked for work, pieces are looked for, and a claim is renewed.
_ASK_S, _LOOK_S, _RENEW_S, _GIVEN_UP_S = 0.25, 0.2, 5.0, 10.0
#: A cluster that is there answers within this time.
_CONNECT_S = 5.0
#: Cores that one video takes.
CPUS_PER_VIDEO = 2.0


def connect(address: str) -> Any:
    """Ray, connected to the cluster.

    Args:
        address: of the cluster, ``auto`` for the one this machine belongs to.

    Raises:
        MissingPart: Ray is not installed.
        OptionError: the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingPart("--ray needs the package 'ray'; run: pip install 'triportrait[data]'") from None
    _check_listens(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # ray raises ConnectionError, ValueError and errors of its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise OptionError(f"there is no Ray cluster at '{address}' that can be reached ({reason}); start one, or leave out --ray") from None
    return ray


def _check_listens(address: str) -> None:
    """Whether somebody listens there: Ray itself tries for minutes.

    Raises:
        OptionError: nobody does.
    """
    place = urlsplit(address if "://" in address else f"ray://{address}")
    try:
        if place.hostname is None or place.port is None:  # auto, or another word of Ray's
            return
        socket.create_connection((place.hostname, place.port), _CONNECT_S).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(f"there is no Ray cluster at '{address}' that can be reached ({reason}); start one, or leave out --ray") from None


class _GivenUp(Exception):
    """Nobody waits for what a job makes."""


def make_there(job: Job, files: dict[str, bytes]) -> Iterator[tuple[str, str, bytes]]:
    """On a machine of the cluster: make a job's video or motion in a folder of its own.

    Args:
        job: what is made.
        files: path in a server's folder -> content: the avatar, what drives it, and pieces that are finished.

    Yields:
        (``progress``, percent, nothing), (``file``, path, content) of pieces and of what is made, and at the end either (``made``, JSON,
        nothing) or (``error``, JSON, nothing).
    """
    import json

    # A job that was given up may still write its last piece while its folder is taken away.
    with tempfile.TemporaryDirectory(prefix="triportrait-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        store = Store(root)
        for place, content in files.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).write_bytes(content)
        told: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        given_up = threading.Event()

        def progress(what: str, done: int, total: int) -> None:
            if given_up.is_set():
                raise _GivenUp
            if total and (what == "rendering" or job.id.startswith("mot_")):
                told.put(("progress", f"{min(int(99 * done / total), 99)}"))

        def run() -> None:
            try:
                told.put(("made", json.dumps(perform(store, job, progress))))
            except TriPortraitError as error:
                told.put(("error", json.dumps(said(error, store, job))))
            except _GivenUp:
                pass
            except Exception:
                log.exception("job %s failed", job.id)
                fault = ApiError("E_INTERNAL", "The video could not be made, which is a fault of the program.", None, "Please report it.")
                told.put(("error", json.dumps(fault_of(fault))))

        made = threading.Thread(target=run, daemon=True)
        made.start()
        try:
            yield from _answers(store, job, told, set(files))
        finally:
            given_up.set()
            made.join(_GIVEN_UP_S)


def _answers(store: Store, job: Job, told: queue.SimpleQueue[tuple[str, str]], sent: set[str]) -> Iterator[tuple[str, str, bytes]]:
    """What :func:`make_there` yields: what was told, and the files that are not in ``sent``, as they are finished."""
    folder, share = store.video_folder(job.id), ""
    end: tuple[str, str] | None = None
    while end is None:
        time.sleep(_LOOK_S)
        # Pieces are looked for before the end is, after which their folder is gone.
        for path in folder.glob(f"*{PIECES_SUFFIX}/[0-9]*"):
            if (place := path.relative_to(store.folder).as_posix()) not in sent:
                with contextlib.suppress(FileNotFoundError):
                    yield "file", place, path.read_bytes()
                    sent.add(place)
        while not told.empty():
            kind, text = told.get()
            if kind == "progress":
                share = text
            else:
                end = kind, text
        if share:
            yield "progress", share, b""
    for path in folder.iterdir():
        if path.is_file() and path.relative_to(store.folder).as_posix() not in sent:
            yield "file", path.relative_to(store.folder).as_posix(), path.read_bytes()
    yield *end, b""


class RayWorkers:
    """Hands jobs to a cluster.

    Args:
        store: with the table.
        ray: connected.
        jobs: at a time; 0 takes what the cluster's cores bear.
        worker: name by which jobs are claimed.
    """

    def __init__(self, store: Store, ray: Any, jobs: int, worker: str) -> None:
        self._store, self._ray, self._jobs, self._worker = store, ray, jobs, worker
        self._task = ray.remote(num_cpus=CPUS_PER_VIDEO, max_retries=0)(make_there)
        self._threads: list[threading.Thread] = []

    @property
    def capacity(self) -> int:
        """Jobs at a time."""
        return self._jobs or max(1, int(self._ray.cluster_resources().get("CPU", 1.0) / CPUS_PER_VIDEO))

    def run(self, stop: threading.Event) -> None:
        """Hand out jobs until ``stop`` is set."""
        while not stop.wait(_ASK_S):
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            if len(self._threads) >= self.capacity:
                continue
            job = self._store.jobs.claim(self._worker)
            if job is not None:
                self._threads.append(threading.Thread(target=self.make, args=(job,), daemon=True))
                self._threads[-1].start()

    def make(self, job: Job) -> None:
        """Have one job made."""
        import json

        jobs, alive = self._store.jobs, threading.Event()
        made = self._task.options(num_returns="streaming").remote(job, self._files(job))

        def renewing() -> None:
            while not alive.wait(_RENEW_S):
                if not jobs.renew(job.id, self._worker, 0):
                    with contextlib.suppress(Exception):
                        self._ray.cancel(made, force=True)
                    return

        threading.Thread(target=renewing, daemon=True).start()
        try:
            for answer in made:
                kind, text, content = self._ray.get(answer)
                if kind == "file":
                    self._keep(text, content)
                elif kind == "progress":
                    if not jobs.renew(job.id, self._worker, int(text)):
                        self._ray.cancel(made, force=True)
                        return
                elif kind == "made":
                    shutil.rmtree(self._pieces(job), ignore_errors=True)
                    jobs.finish(job.id, self._worker, made=json.loads(text))
                else:
                    jobs.finish(job.id, self._worker, json.loads(text))
        except self._ray.exceptions.RayError as error:
            # The machine is lost, or the job was cancelled: the claim is open again, and the table counts how often.
            log.warning("job %s stopped: %s", job.id, type(error).__name__)
            jobs.release(self._worker, job.id)
        except OSError:
            fault = ApiError("E_NO_SPACE", "The server has no room for the video.", None, "Free some space on its disk and try again.")
            jobs.finish(job.id, self._worker, fault_of(fault))
        finally:
            alive.set()

    def _files(self, job: Job) -> dict[str, bytes]:
        root, folder = self._store.folder, self._store.video_folder(job.id)
        pieces = self._pieces(job)
        paths = [folder / "driver", *(pieces.glob("[0-9]*") if pieces.is_dir() else ())]
        if job.avatar:
            avatar = self._store.avatar(job.avatar, job.client)
            paths += [avatar.file, avatar.folder / "about.json"]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}

    def _pieces(self, job: Job) -> Path:
        return self._store.video_folder(job.id) / f"{made_file(job)}{PIECES_SUFFIX}"

    def _keep(self, place: str, content: bytes) -> None:
        """Write a file where it belongs; a machine names places in a job's folder alone."""
        path = (self._store.folder / place).resolve()
        if not path.is_relative_to((self._store.folder / "videos").resolve()):
            raise OSError(f"{place} is no place of a job")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as draft:
            draft.write_bytes(content)


def main() -> None:
    """The process."""
    logging.basicConfig(level=logging.WARNING)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    try:
        ray = connect(sys.argv[2])
    except TriPortraitError as error:
        sys.exit(f"triportrait: {error}")
    parent = os.getppid()

    def watching() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        stop.set()

    threading.Thread(target=watching, daemon=True).start()
    RayWorkers(Store(Path(sys.argv[1])), ray, int(sys.argv[3]), f"{os.getpid()}").run(stop)
    ray.shutdown()


if __name__ == "__main__":
    main()
