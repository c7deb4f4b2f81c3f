"""What is installed: the wheel holds every file that a video needs, and the core brings nothing that belongs to an extra."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import triportrait
from triportrait.doctor import _REQUIRED

ROOT = Path(__file__).parents[1]
PACKAGE = Path(triportrait.__file__).parent
#: What Python and numba leave beside the source.
MADE_HERE = {".py", ".pyc", ".nbi", ".nbc"}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_wheel_holds_every_data_file() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"]["triportrait"]
    data = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in MADE_HERE]
    assert len(data) > 20
    assert not [path for path in data if not any(path.match(pattern.removeprefix("**/")) for pattern in patterns)]
    # Files in folders without an __init__ belong to the package above them, which the patterns reach.
    assert all((PACKAGE / path.parts[0] / "__init__.py").is_file() for path in data if len(path.parts) > 1)


def test_the_doctor_asks_for_what_is_required() -> None:
    assert {re.split(r"[<>=]", line)[0] for line in project()["project"]["dependencies"]} == set(_REQUIRED)


def test_the_core_is_light() -> None:
    locked = set(re.findall(r"^([a-z0-9_.-]+)==", (ROOT / "requirements" / "core.txt").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"numpy", "numba", "onnxruntime", "opencv-python-headless"} <= locked
    assert not locked & {"torch", "scipy", "mediapipe", "jax", "matplotlib", "transformers", "lightning", "onnx", "pandas"}
