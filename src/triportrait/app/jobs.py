"""The table of jobs: SQLite, so that neither the server nor a worker that dies loses one.

A worker claims a job for some seconds and renews that while it works; a claim that ran out is open again. The table is the only truth.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triportrait.app.schemas import ApiError, Job, fault_of

#: A claim holds so long without a sign of life, and a job is tried so often.
LEASE_S, ATTEMPTS = 20.0, 3
#: Jobs of one client, and of all, that may wait or run.
_PER_CLIENT, _IN_ALL = 10, 200
_WITHOUT_FAULT = "Try it once more, and report it if it happens again."

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, client TEXT NOT NULL, avatar TEXT NOT NULL, kind TEXT NOT NULL, options TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, progress INTEGER NOT NULL DEFAULT 0, lease REAL NOT NULL DEFAULT 0, worker TEXT,
    created REAL NOT NULL, started REAL, finished REAL, error TEXT, idempotency TEXT, made TEXT,
    webhook TEXT, tries INTEGER NOT NULL DEFAULT 0, tell REAL NOT NULL DEFAULT 0, UNIQUE (client, idempotency)
)
"""
#: Columns that tables of older versions lack.
_ADDED = {"made": "TEXT", "webhook": "TEXT", "tries": "INTEGER NOT NULL DEFAULT 0", "tell": "REAL NOT NULL DEFAULT 0"}
_FIELDS = "id, client, avatar, kind, options, state, attempts, progress, created, started, finished, error, made"


class JobTable:
    """The jobs in a file; any number of processes may use it at a time.

    Args:
        path: of the SQLite file, which is made where there is none.
        now: seconds since 1970.
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self._path, self._now = path, now
        with self._open() as table:
            table.execute("PRAGMA journal_mode=WAL")
        with self._alone() as table:
            table.execute(_TABLE)
            there = {column[1] for column in table.execute("PRAGMA table_info(jobs)")}
            for name, kind in _ADDED.items():
                if name not in there:
                    table.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=30.0, isolation_level=None)
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else writes in."""
        with self._open() as table:
            table.execute("BEGIN IMMEDIATE")
            try:
                yield table
            except BaseException:
                table.execute("ROLLBACK")
                raise
            table.execute("COMMIT")

    def add(
        self,
        client: str,
        avatar: str,
        kind: str,
        options: dict[str, Any],
        job_id: str,
        idempotency: str | None = None,
        webhook: str | None = None,
    ) -> Job:
        """A new job, or the one that the same client gave the same ``idempotency`` key before; its end is told to ``webhook``.

        Raises:
            ApiError: too many wait.
        """
        with self._alone() as table:
            if idempotency is not None:
                row = table.execute(f"SELECT {_FIELDS} FROM jobs WHERE client = ? AND idempotency = ?", (client, idempotency)).fetchone()
                if row is not None:
                    return _job(row)
            waiting = "SELECT COUNT(*) FROM jobs WHERE state IN ('queued', 'in_progress')"
            own = table.execute(f"{waiting} AND client = ?", (client,)).fetchone()[0]
            if own >= _PER_CLIENT or table.execute(waiting).fetchone()[0] >= _IN_ALL:
                raise ApiError("E_FULL", "Too many videos are waiting.", None, "Try again when one of them is ready.")
            table.execute(
                """INSERT INTO jobs (id, client, avatar, kind, options, state, created, idempotency, webhook)
                VALUES (?, ?, ?, ?, ?, 'queued', ?, ?, ?)""",
                (job_id, client, avatar, kind, json.dumps(options), self._now(), idempotency, webhook),
            )
            return _job(table.execute(f"SELECT {_FIELDS} FROM jobs WHERE id = ?", (job_id,)).fetchone())

    def get(self, job_id: str, client: str | None = None) -> Job | None:
        """A job, if it is this client's; None asks for anybody's."""
        with self._open() as table:
            row = table.execute(f"SELECT {_FIELDS} FROM jobs WHERE id = ? AND client = COALESCE(?, client)", (job_id, client)).fetchone()
        return None if row is None else _job(row)

    def position(self, job: Job) -> int:
        """How many jobs wait before it."""
        with self._open() as table:
            question = "SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND created < ?"
            return int(table.execute(question, (job.created,)).fetchone()[0])

    def of_client(
        self, client: str | None, limit: int = 20, after: str | None = None, *, kind: str = "", newest_first: bool = True
    ) -> list[Job]:
        """A client's jobs, or with None everybody's, in order of their age; those that stand behind ``after``, with ids of a ``kind``."""
        order, behind = ("DESC", "<") if newest_first else ("ASC", ">")
        place = "" if after is None else f"AND (created, id) {behind} (SELECT created, id FROM jobs WHERE id = :after)"
        question = f"""SELECT {_FIELDS} FROM jobs WHERE client = COALESCE(:client, client) AND substr(id, 1, length(:kind)) = :kind {place}
            ORDER BY created {order}, id {order} LIMIT :limit"""
        with self._open() as table:
            rows = table.execute(question, {"client": client, "after": after, "limit": limit, "kind": kind}).fetchall()
        return [_job(row) for row in rows]

    def claim(self, worker: str) -> Job | None:
        """The next job for a worker: of the client who had the fewest, then the oldest. One that was tried too often fails."""
        now = self._now()
        with self._alone() as table:
            lost = fault_of(ApiError("E_INTERNAL", "The video could not be made: its worker stopped three times.", None, _WITHOUT_FAULT))
            table.execute(
                "UPDATE jobs SET state = 'failed', error = ?, finished = ? WHERE state = 'in_progress' AND lease < ? AND attempts >= ?",
                (json.dumps(lost), now, now, ATTEMPTS),
            )
            row = table.execute(
                f"""SELECT {_FIELDS} FROM jobs AS one WHERE state = 'queued' OR (state = 'in_progress' AND lease < ?)
                ORDER BY (SELECT COUNT(*) FROM jobs AS other WHERE other.client = one.client AND other.started IS NOT NULL
                AND other.started > ?), created LIMIT 1""",
                (now, now - 3600.0),
            ).fetchone()
            if row is None:
                return None
            table.execute(
                """UPDATE jobs SET state = 'in_progress', worker = ?, lease = ?, attempts = attempts + 1,
                started = COALESCE(started, ?) WHERE id = ?""",
                (worker, now + LEASE_S, now, row[0]),
            )
            return _job(table.execute(f"SELECT {_FIELDS} FROM jobs WHERE id = ?", (row[0],)).fetchone())

    def renew(self, job_id: str, worker: str, progress: int) -> bool:
        """A sign of life; False where the job is no longer this worker's."""
        change = "UPDATE jobs SET lease = ?, progress = MAX(progress, ?) WHERE id = ? AND worker = ? AND state = 'in_progress'"
        with self._alone() as table:
            return table.execute(change, (self._now() + LEASE_S, progress, job_id, worker)).rowcount == 1

    def finish(self, job_id: str, worker: str, error: dict[str, Any] | None = None, made: dict[str, Any] | None = None) -> bool:
        """A job's end, with its error or with what there is to say of what was made; False where it is no longer this worker's."""
        state, progress = ("completed", 100) if error is None else ("failed", 0)
        with self._alone() as table:
            change = """UPDATE jobs SET state = ?, progress = MAX(progress, ?), finished = ?, error = ?, made = ?
            WHERE id = ? AND worker = ? AND state = 'in_progress'"""
            said, told = (None if one is None else json.dumps(one) for one in (error, made))
            return table.execute(change, (state, progress, self._now(), said, told, job_id, worker)).rowcount == 1

    def cancel(self, job_id: str) -> bool:
        """Stop a job that waits or runs; its worker notices with its next sign of life. False where it does neither."""
        said = json.dumps(fault_of(ApiError("E_CANCELLED", "The video was cancelled.", None, "Ask for it again if you want it.")))
        with self._alone() as table:
            change = "UPDATE jobs SET state = 'failed', error = ?, finished = ? WHERE id = ? AND state IN ('queued', 'in_progress')"
            return table.execute(change, (said, self._now(), job_id)).rowcount == 1

    def forget(self, job_id: str) -> None:
        """Take a job out of the table."""
        with self._alone() as table:
            table.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def release(self, worker: str, job_id: str | None = None) -> None:
        """A worker is gone: its claims are open again at once; or one of them, which it cannot keep."""
        with self._alone() as table:
            change = "UPDATE jobs SET lease = 0 WHERE worker = ? AND state = 'in_progress' AND id = COALESCE(?, id)"
            table.execute(change, (worker, job_id))

    def older_than(self, moment: float) -> list[Job]:
        """Jobs that ended before a moment."""
        with self._open() as table:
            rows = table.execute(f"SELECT {_FIELDS} FROM jobs WHERE finished < ?", (moment,)).fetchall()
        return [_job(row) for row in rows]

    def untold(self) -> list[tuple[Job, str, int]]:
        """Jobs that ended and whose webhook is to be called now, its address, and how often it was called already."""
        question = f"""SELECT {_FIELDS}, webhook, tries FROM jobs WHERE webhook IS NOT NULL AND state IN ('completed', 'failed')
            AND tell <= ? ORDER BY finished LIMIT 20"""
        with self._open() as table:
            return [(_job(row[:-2]), row[-2], row[-1]) for row in table.execute(question, (self._now(),)).fetchall()]

    def told(self, job_id: str, again_in_s: float | None) -> None:
        """A webhook was called; it is called again after a time, or with None never."""
        with self._alone() as table:
            if again_in_s is None:
                table.execute("UPDATE jobs SET webhook = NULL WHERE id = ?", (job_id,))
            else:
                table.execute("UPDATE jobs SET tries = tries + 1, tell = ? WHERE id = ?", (self._now() + again_in_s, job_id))

    def count_by_state(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self._open() as table:
            return dict(table.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state").fetchall())


def new_id(kind: str) -> str:
    """An id that nobody guesses, such as ``vid_…``."""
    return f"{kind}_{secrets.token_hex(12)}"


def _job(row: tuple[Any, ...]) -> Job:
    values = list(row)
    values[4] = json.loads(values[4])
    values[11], values[12] = (None if one is None else json.loads(one) for one in values[11:13])
    return Job(*values)
