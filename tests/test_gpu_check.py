"""``benchmarks/gpu_check.py`` in its tiny form, on whatever device there is."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_every_part_of_the_gpu_check_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "benchmarks" / "gpu_check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main(["--tiny", "--json", str(tmp_path / "check.json")]) == 0
    results = json.loads((tmp_path / "check.json").read_text())["results"]
    assert len(results) == 6 and all("failed" not in row for row in results.values())
