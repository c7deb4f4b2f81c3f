"""The table of jobs: claims, leases, tries, fairness, and what is asked twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from triportrait.app.jobs import ATTEMPTS, LEASE_S, JobTable
from triportrait.app.schemas import ApiError, Job


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(tmp_path: Path, clock: Clock) -> JobTable:
    return JobTable(tmp_path / "jobs.sqlite", clock)


def add(table: JobTable, name: str, client: str = "a", key: str | None = None) -> Job:
    return table.add(client, "avt_1", "audio", {"seed": 1}, name, key)


def test_a_job_is_claimed_once_and_ends_once(table: JobTable) -> None:
    add(table, "one")
    job = table.claim("w1")
    assert job is not None and (job.id, job.state, job.attempts, job.options) == ("one", "in_progress", 1, {"seed": 1})
    assert table.claim("w2") is None
    assert table.renew("one", "w1", 40) and not table.renew("one", "w2", 50)
    assert not table.finish("one", "w2") and table.finish("one", "w1") and not table.finish("one", "w1")
    done = table.get("one")
    assert done is not None and (done.state, done.progress) == ("completed", 100)


def test_a_lost_worker_gives_its_job_back_and_three_lost_ones_end_it(table: JobTable, clock: Clock) -> None:
    add(table, "one")
    for attempt in range(ATTEMPTS):
        job = table.claim(f"w{attempt}")
        assert job is not None and job.attempts == attempt + 1
        assert table.claim("other") is None
        clock.now += LEASE_S + 1.0
        # Who comes back late has lost it.
        if attempt:
            assert not table.renew("one", f"w{attempt - 1}", 10)
    assert table.claim("late") is None
    failed = table.get("one")
    assert failed is not None and failed.state == "failed" and failed.error is not None and "three times" in failed.error["message"]


def test_a_worker_known_to_be_gone_is_not_waited_for(table: JobTable) -> None:
    add(table, "one")
    table.claim("w1")
    table.release("w1")
    again = table.claim("w2")
    assert again is not None and again.attempts == 2


def test_clients_take_turns(table: JobTable) -> None:
    for number in range(3):
        add(table, f"a{number}", "a")
    add(table, "b0", "b")
    order = [job.id for _ in range(4) if (job := table.claim("w")) is not None]
    assert order[0] == "a0" and order[1] == "b0"


def test_a_cancelled_job_is_nobodys(table: JobTable) -> None:
    add(table, "one")
    table.claim("w1")
    table.cancel("one")
    assert not table.renew("one", "w1", 50) and not table.finish("one", "w1")
    job = table.get("one")
    assert job is not None and job.error is not None and job.error["code"] == "E_CANCELLED"


def test_the_same_key_is_the_same_job_and_clients_see_their_own(table: JobTable) -> None:
    assert add(table, "one", key="k").id == add(table, "two", key="k").id == "one"
    assert add(table, "three", "b", "k").id == "three"
    assert [job.id for job in table.of_client("a")] == ["one"] and table.get("one", "b") is None
    for number in range(9):
        add(table, f"more{number}")
    with pytest.raises(ApiError, match="Too many"):
        add(table, "eleventh")
    page = table.of_client("a", limit=4)
    assert [job.id for job in table.of_client("a", limit=20, after=page[-1].id)][:2] == ["more4", "more3"]
    assert table.count_by_state() == {"queued": 11} and table.position(page[0]) == 10
