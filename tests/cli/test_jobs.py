"""``triportrait jobs``: list, show, cancel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from triportrait.app.jobs import JobTable
from triportrait.cli import main


def test_jobs_are_listed_shown_and_cancelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--folder", str(tmp_path)]
    assert main(["jobs", "list", *folder]) == 2 and "no folder of a server" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    table = JobTable(tmp_path / "jobs.sqlite")
    for number in range(3):
        table.add("somebody", "avt_1", "audio", {}, f"vid_{number}")
    assert main(["jobs", "list", *folder, "--limit", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["vid_2", "queued"], ["vid_1", "queued"]]
    assert main(["jobs", "show", "vid_2", *folder]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["id"], shown["status"], shown["position"]) == ("vid_2", "queued", 2)
    assert main(["jobs", "cancel", "vid_1", *folder]) == 0 and "cancelled" in capsys.readouterr().out
    assert main(["jobs", "cancel", "vid_1", *folder]) == 2 and "has ended" in capsys.readouterr().err
    assert main(["jobs", "show", "vid_9", *folder]) == 2 and "no job vid_9" in capsys.readouterr().err
    assert main(["jobs", "list", *folder]) == 0
    assert "E_CANCELLED" in capsys.readouterr().out
