"""Threads: how many, work in order on several of them, and state that a process keeps, built once and put right in a forked child."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, wraps
from typing import Any, TypeVar

from triportrait.errors import OptionError

Built = TypeVar("Built", bound=Callable[..., Any])
Item = TypeVar("Item")
Result = TypeVar("Result")

#: Environment variable: how many threads a video may take; without it, as many as there are cores for this process.
THREADS = "TRIPORTRAIT_THREADS"
_MOST_THREADS = 256


class _Process:
    """What the program that runs here has said of itself."""

    #: Threads that a video may take; see :func:`at_most_threads`.
    threads: int | None = None


@contextlib.contextmanager
def at_most_threads(count: int | None) -> Iterator[None]:
    """Told by a program of ours while it runs: so many threads, or None for the environment's word.

    Raises:
        OptionError: not a number of threads.
    """
    if count is not None and not 1 <= count <= _MOST_THREADS:
        raise OptionError(f"--threads is {count}; use a number from 1 to {_MOST_THREADS}, or leave it out")
    before, _Process.threads = _Process.threads, count
    try:
        yield
    finally:
        _Process.threads = before


def thread_count() -> int:
    """Threads that making a video may take.

    Raises:
        OptionError: ``TRIPORTRAIT_THREADS`` is no number of threads.
    """
    if _Process.threads is not None:
        return _Process.threads
    wanted = os.environ.get(THREADS, "").strip()
    if wanted:
        if not wanted.isdecimal() or not 1 <= int(wanted) <= _MOST_THREADS:
            raise OptionError(f"{THREADS} is {wanted!r}; use a number from 1 to {_MOST_THREADS}, or leave it out")
        return int(wanted)
    # Containers and schedulers give a process fewer cores than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(call: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """``map`` on several threads: the same results in the same order, at most ``threads`` of them ahead.

    Args:
        call: what may run at the same time as itself; its time should pass outside of Python's lock.
        items: taken one by one, by the caller's thread.
        threads: 1 works without any.
    """
    if threads == 1:
        yield from map(call, items)
        return
    with ThreadPoolExecutor(threads, "in-order") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(call, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # whoever stops looking does not wait for what nobody will see
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def termination_as_exit() -> Iterator[list[int]]:
    """SIGTERM and SIGHUP unwind like Ctrl-C, so that half-written files go; yields the exit code (143, 129) once one has come."""
    asked: list[int] = []

    def leave(number: int, _: object) -> None:
        if not asked:  # a second one would disturb the tidying up
            asked.append(128 + number)
            raise SystemExit(asked[0])

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    # Windows has no SIGHUP; 'nohup' asks that it do nothing; a handler that is not Python's (None) could not be put back.
    numbers = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.signal(number, leave) for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def after_fork_in_child(call: Callable[[], object]) -> None:
    """``call`` runs in every child that is forked from now on; nothing happens where processes are not forked."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


class Guard:
    """A lock that a forked child gets anew: the thread that held it stayed behind."""

    def __init__(self) -> None:
        self.renew()
        after_fork_in_child(self.renew)

    def renew(self) -> None:
        self.lock = threading.RLock()


def built_once(maxsize: int) -> Callable[[Built], Built]:
    """``lru_cache`` for what is costly: threads that ask at the same time wait for one builder instead of each building their own.

    Args:
        maxsize: as of ``functools.lru_cache``.
    """

    def decorate(build: Built) -> Built:
        cached = lru_cache(maxsize=maxsize)(build)
        guard = Guard()

        @wraps(build)
        def get(*arguments: Any, **named: Any) -> Any:
            with guard.lock:
                return cached(*arguments, **named)

        get.cache_clear = cached.cache_clear  # type: ignore[attr-defined]
        return get  # type: ignore[return-value]

    return decorate


_BUSY = Guard()


class _Libraries:
    """How many works ask for calm libraries at present, and what gives them their threads back."""

    works = 0
    give_back = contextlib.ExitStack()


@contextlib.contextmanager
def calm_libraries() -> Iterator[None]:
    """While it runs, numpy's linear algebra stays on its caller's thread and OpenCV takes at most :func:`thread_count`; also a decorator.

    Frames are what runs in parallel. OpenBLAS's own threads spin while they wait, which nearly doubled the processor time of a video and
    tripled that of a voice. The settings are the whole process's: whoever is the last to leave puts them back.
    """
    with _BUSY.lock:
        if not _Libraries.works:
            from threadpoolctl import threadpool_limits

            _Libraries.give_back.enter_context(threadpool_limits(1, "blas"))
        cv2 = sys.modules.get("cv2")  # a voice alone does without
        if cv2 is not None and (threads := cv2.getNumThreads()) > thread_count():
            _Libraries.give_back.callback(cv2.setNumThreads, threads)
            cv2.setNumThreads(thread_count())
        _Libraries.works += 1
    try:
        yield
    finally:
        with _BUSY.lock:
            _Libraries.works -= 1
            if not _Libraries.works:
                _Libraries.give_back.close()


def _one_thread_for_torch() -> None:
    """OpenMP's threads do not follow into a forked child, which would wait for them for ever; with one thread it needs none."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


after_fork_in_child(_one_thread_for_torch)
