"""Reading the golden references: outputs of published modules under a deterministic fill (see their README)."""

from __future__ import annotations

import importlib.util
import json
import os
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

FOLDER = Path(os.environ.get("TRIPORTRAIT_GOLDEN") or Path(__file__).resolve().parents[2] / "shared" / "spec" / "golden")


def require(*names: str) -> None:
    """Skip the whole test file where the folder or one of its files is absent."""
    for name in ("golden_fill.py", *names):
        if not (FOLDER / name).exists():
            pytest.skip(f"needs the golden references ({FOLDER / name})", allow_module_level=True)


@lru_cache(maxsize=1)
def fill() -> ModuleType:
    """The folder's own fill and comparison functions."""
    spec = importlib.util.spec_from_file_location("golden_fill", FOLDER / "golden_fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(name: str) -> dict[str, Any]:
    """One JSON file of the folder."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def keys(name: str) -> dict[str, Any]:
    """One key list from the folder beside."""
    return json.loads((FOLDER.parent / "keys" / f"{name}.json").read_text(encoding="utf-8"))


def filled_real3d(key_list: str, prefix: str, seed: int) -> dict[str, torch.Tensor]:
    """A state dict as published, deterministic values, of the keys that start with ``prefix`` (which they keep)."""
    shapes = {key: entry["shape"] for key, entry in keys(key_list)["keys"].items() if key.startswith(prefix)}
    return fill().fill_real3d(shapes, seed)


def assert_fill(state: dict[str, torch.Tensor], golden: dict[str, Any]) -> None:
    """The fill is the one that the references were made with."""
    for key, first in golden["fill_check"]["first4"].items():
        assert torch.allclose(state[key].flatten()[:4], torch.tensor(first), atol=1e-6), key


def assert_close(tensor: torch.Tensor, reference: dict[str, Any], largest: float = 3e-5, projected: float = 1e-3) -> None:
    """Sampled values within ``largest`` of the greatest magnitude, and the projection of the whole within ``projected``."""
    error, projection = fill().compare9(tensor, reference)
    assert error <= largest and projection <= projected, f"error {error:.2e} (<= {largest}), projection {projection:.2e} (<= {projected})"
