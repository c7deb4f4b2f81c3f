"""``triportrait jobs``: what a server makes, seen and stopped from its own machine."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, subcommand

from triportrait.cli.terminal import say, say_lines
from triportrait.errors import OptionError

if TYPE_CHECKING:
    from triportrait.app.jobs import Job, JobTable


@dataclass(kw_only=True)
class _Folder:
    folder: Path | None = None
    """The server's folder. Default: the usual one of 'triportrait serve'."""

    def table(self) -> JobTable:
        """The jobs of the folder.

        Raises:
            OptionError: there are none.
            OutputError: their table is damaged.
        """
        from triportrait.app.store import TABLE, open_table, usual_folder

        folder = self.folder or usual_folder()
        if not (folder / TABLE).is_file():
            raise OptionError(f"'{folder}' is no folder of a server; give the --folder of 'triportrait serve'")
        return open_table(folder)


@dataclass(kw_only=True)
class List(_Folder):
    """All jobs, the newest first: id, state, progress, age, and what went wrong."""

    limit: int = 50
    """At most so many."""

    def run(self) -> int:
        if not 1 <= self.limit <= 10_000:
            raise OptionError(f"--limit is {self.limit}; use a number from 1 to 10000")
        now = time.time()
        for job in self.table().of_client(None, self.limit):
            error = "" if job.error is None else f"  {job.error['code']}: {job.error['message']}"
            say(f"{job.id}  {job.state:<11}  {job.progress:3d} %  {_ago(now - job.created)}{error}")
        return 0


def _known(table: JobTable, name: str) -> Job:
    """The job of a table by its name.

    Raises:
        OptionError: there is none.
    """
    job = table.get(name)
    if job is None:
        raise OptionError(f"there is no job {name}; 'triportrait jobs list' tells those that there are")
    return job


@dataclass(kw_only=True)
class Show(_Folder):
    """One job as the server's API tells it, as JSON."""

    id: Positional[str]
    """Such as vid_0123456789abcdef01234567."""

    def run(self) -> int:
        table = self.table()
        job = _known(table, self.id)
        say_lines(json.dumps(job.answer(table.position(job)), indent=2))
        return 0


@dataclass(kw_only=True)
class Cancel(_Folder):
    """Stop a job that waits or runs; its worker notices within a second."""

    id: Positional[str]
    """Such as vid_0123456789abcdef01234567."""

    def run(self) -> int:
        table = self.table()
        job = _known(table, self.id)
        if not table.cancel(self.id):
            raise OptionError(f"the job {self.id} has ended ({job.state}); there is nothing to cancel")
        say(f"{self.id} is cancelled")
        return 0


@dataclass
class Jobs:
    """Look at the videos that a server on this machine makes, and cancel them."""

    command: Annotated[List, subcommand("list")] | Annotated[Show, subcommand("show")] | Annotated[Cancel, subcommand("cancel")]

    def run(self) -> int:
        return self.command.run()


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
