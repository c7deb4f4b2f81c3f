"""How far a command has come: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from triportrait.cli.terminal import one_line, tell

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: Where no terminal is.
SECONDS_BETWEEN_LINES = 10.0


class ProgressBar:
    """A progress bar with speed and time left on a terminal; a line every ten seconds elsewhere.

    Entered, it gives a function to call with what is being done, how many are done and how many there are (0 = not known).

    Args:
        unit: of the speed.
    """

    def __init__(self, unit: str = "fps") -> None:
        self._unit = unit
        self._bar: Progress | None = None
        #: What is being done -> its row of the bar.
        self._rows: dict[str, TaskID] = {}
        #: What is being done -> when it began, and how many were done then.
        self._started: dict[str, tuple[float, int]] = {}
        self._last_line_s = 0.0

    def __enter__(self) -> Callable[[str, int, int], None]:
        self._last_line_s = time.perf_counter()
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self._update

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _update(self, what: str, done: int, total: int) -> None:
        what = one_line(what)
        now = time.perf_counter()
        started, already = self._started.setdefault(what, (now, done))
        per_second = (done - already) / (now - started) if now > started else 0.0
        rate = f"{per_second:.1f} {self._unit}" if per_second else ""
        if self._bar is not None:
            if what not in self._rows:
                for task in self._bar.task_ids:
                    self._bar.update(task, visible=False)
                self._rows[what] = self._bar.add_task(what, total=total or None, rate="")
            self._bar.update(self._rows[what], completed=done, rate=rate)
        elif now - self._last_line_s > SECONDS_BETWEEN_LINES and done:
            self._last_line_s = now
            left = f", {(total - done) / per_second:.0f} s left" if total > done and per_second else ""
            tell(f"{what}: {done}{f'/{total}' if total else ''}{rate and f', {rate}'}{left}")
