"""Who does the work: processes of this machine, or a Ray cluster. Both lose workers without losing clips.

A pool takes sources with :meth:`Pool.submit` and gives (source, reply) pairs with :meth:`Pool.next`, in the order they are done. A worker
that dies (killed, out of memory, crashed in a decoder) costs its clip one attempt; after the last one the clip has failed.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import triportrait
from triportrait.errors import MissingPart, TriPortraitError
from triportrait.training.data.clip import PrepareSettings
from triportrait.training.data.sources import VideoSource
from triportrait.training.data.work import WORKER_ENVIRONMENT, Outcome, Reply, work_on

log = logging.getLogger(__name__)

#: How often a clip is begun when workers die over it.
ATTEMPTS = 2
#: Ray may lose many machines in a long run; its own count of retries is per clip, too.
_RAY_RETRIES = 5
#: Share of a core that a clip asks for on Ray. Never a whole one: a cluster that has as many tasks as cores can wait for itself.
RAY_CPUS_PER_CLIP = 0.5


#: So many clips in a row, and not one answer: it is not the clips.
_HOPELESS = 3


class ClusterError(TriPortraitError):
    """The Ray cluster cannot be reached, or went away; or no local worker lives."""

    code = "E_CLUSTER"


class Pool(Protocol):
    """See the module."""

    #: Sources that may be submitted and not yet given back.
    capacity: int

    def submit(self, source: VideoSource) -> None:
        """Hand over a source."""
        ...

    def next(self) -> tuple[VideoSource, Reply]:
        """Wait for the next answer."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class LocalPool:
    """Processes of this machine, each started afresh after it died.

    Args:
        settings: for all clips.
        workers: how many processes.
        clip_timeout_s: a worker that is silent longer is taken for hung, and killed.
        log_folder: where what workers write to standard error is kept.
    """

    def __init__(self, settings: PrepareSettings, workers: int, clip_timeout_s: float, log_folder: Path) -> None:
        self.capacity = 2 * workers
        self._settings, self._timeout_s, self._log_folder = settings, clip_timeout_s, log_folder
        self._wanted: queue.Queue[VideoSource | None] = queue.Queue()
        self._done: queue.Queue[tuple[VideoSource, Reply]] = queue.Queue()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._closing = self._answered = False
        self._lost = 0
        self._threads = [threading.Thread(target=self._serve, args=(number,), daemon=True) for number in range(workers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        for _thread in self._threads:
            self._wanted.put(None)
        for child in list(self._children.values()):
            child.kill()
        for thread in self._threads:
            thread.join(timeout=30)

    @property
    def process_ids(self) -> list[int]:
        """Of the workers that run now."""
        return [child.pid for child in self._children.values() if child.poll() is None]

    def submit(self, source: VideoSource) -> None:
        """See :class:`Pool`."""
        self._wanted.put(source)

    def next(self) -> tuple[VideoSource, Reply]:
        """See :class:`Pool`.

        Raises:
            ClusterError: workers die whatever they are given.
        """
        source, reply = self._done.get()
        outcome = reply.outcome
        lost = outcome is not None and outcome.code == "E_WORKER"
        self._answered |= not lost
        self._lost += lost
        if outcome is not None and not self._answered and self._lost >= _HOPELESS:
            raise ClusterError(f"Every worker dies ({outcome.reason}); '{self._log_folder / 'worker-0.log'}' says more.")
        return source, reply

    def _serve(self, number: int) -> None:
        """One thread per worker: it waits for its process, and replaces it when it dies."""
        while (source := self._wanted.get()) is not None and not self._closing:
            reply, how = None, ""
            for attempt in range(1, ATTEMPTS + 1):
                reply, how = self._ask(number, source)
                if reply is not None or self._closing:
                    break
                log.warning("%s: a worker died (%s), attempt %d of %d", source.name, how, attempt, ATTEMPTS)
            if self._closing:
                break
            if reply is None:
                reason = f"its worker died {ATTEMPTS} times ({how}); too large for the memory, or it crashes a decoder"
                reply = Reply(Outcome(source, "E_WORKER", reason))
            if reply.outcome is not None and attempt > 1:
                reply = replace(reply, outcome=replace(reply.outcome, attempts=min(attempt, ATTEMPTS)))
            self._done.put((source, reply))
        if (child := self._children.pop(number, None)) is not None:
            child.kill()
            child.wait()

    def _ask(self, number: int, source: VideoSource) -> tuple[Reply | None, str]:
        """The worker's answer, or None and how it died."""
        child = self._children.get(number)
        if child is None or child.poll() is not None:
            child = self._children[number] = self._start(number)
        assert child.stdin is not None and child.stdout is not None, "both are pipes"
        silent = threading.Timer(self._timeout_s, child.kill)
        silent.start()
        try:
            request = {"source": source.as_dict(), "settings": asdict(self._settings)}
            child.stdin.write(json.dumps(request).encode() + b"\n")
            child.stdin.flush()
            if line := child.stdout.readline():
                header = json.loads(line)
                sample = child.stdout.read(header.pop("bytes"))
                return Reply.from_header(header, sample), ""
        except (OSError, ValueError):
            pass  # its pipe broke, or its answer ends in the middle
        finally:
            hung = not silent.is_alive()
            silent.cancel()
        child.kill()
        code = child.wait()
        self._children.pop(number, None)
        return None, f"no answer for {self._timeout_s:g} s" if hung else _how_it_ended(code)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        package = str(Path(triportrait.__file__).parents[1])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        with (self._log_folder / f"worker-{number}.log").open("ab") as errors:
            return subprocess.Popen(
                [sys.executable, "-m", "triportrait.training.data.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **WORKER_ENVIRONMENT, "PYTHONPATH": path},
                # Ctrl-C is for the run; it then ends its workers.
                start_new_session=True,
            )


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


class RayPool:
    """Tasks on a Ray cluster. Samples come back through Ray: only the videos must be readable from all machines, under the same paths.

    Args:
        settings: for all clips.
        address: of the cluster, ``auto`` for the one this machine belongs to.

    Raises:
        MissingPart: Ray is not installed.
        ClusterError: the cluster cannot be reached.
    """

    def __init__(self, settings: PrepareSettings, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise MissingPart("A Ray cluster needs the package 'ray'; run: pip install 'triportrait[data]'") from None
        self._ray: Any = ray
        self._settings = settings
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                ignore_reinit_error=False,
                runtime_env={"env_vars": WORKER_ENVIRONMENT},
            )
        except Exception as error:  # ray raises ConnectionError, ValueError and errors of its own
            raise ClusterError(f"There is no Ray cluster at '{address}' that can be reached ({_first_line(error)}).") from None
        # A worker that stays on its machine keeps the networks it has loaded.
        self._task = ray.remote(num_cpus=RAY_CPUS_PER_CLIP, max_retries=_RAY_RETRIES)(work_on)
        cores = ray.cluster_resources().get("CPU", 1.0)
        self.capacity = max(2, round(2 * cores / RAY_CPUS_PER_CLIP))
        self._running: dict[Any, VideoSource] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.clear()
        self._ray.shutdown()

    def submit(self, source: VideoSource) -> None:
        """See :class:`Pool`."""
        self._running[self._task.remote(source, self._settings)] = source

    def next(self) -> tuple[VideoSource, Reply]:
        """See :class:`Pool`."""
        ready, _ = self._ray.wait(list(self._running), num_returns=1)
        source = self._running.pop(ready[0])
        try:
            return source, self._ray.get(ready[0])
        except self._ray.exceptions.RayError as error:
            if isinstance(error, self._ray.exceptions.RaySystemError):
                raise ClusterError(f"The Ray cluster went away ({_first_line(error)}); start it and this run again, it goes on.") from None
            reason = f"its Ray worker died {_RAY_RETRIES + 1} times ({_first_line(error)})"
            return source, Reply(Outcome(source, "E_WORKER", reason, attempts=_RAY_RETRIES + 1))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
