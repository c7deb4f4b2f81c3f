"""State that a process keeps: built once however many threads ask for it, and put right in a forked child."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache, wraps
from typing import Any, TypeVar

Built = TypeVar("Built", bound=Callable[..., Any])


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


def _one_thread_for_torch() -> None:
    """OpenMP's threads do not follow into a forked child, which would wait for them for ever; with one thread it needs none."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "set_num_threads"):
        torch.set_num_threads(1)


after_fork_in_child(_one_thread_for_torch)
