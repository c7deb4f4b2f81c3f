"""Golden outputs of the published modules: those of this repository, or of the folder that ``TRIPORTRAIT_GOLDEN`` names."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent / "golden"


def golden_folder() -> Path:
    return Path(os.environ.get("TRIPORTRAIT_GOLDEN") or HERE)


@lru_cache
def golden_fill() -> ModuleType:
    """The fill's own formulae."""
    spec = importlib.util.spec_from_file_location("golden_fill", golden_folder() / "golden_fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden(name: str) -> dict[str, Any]:
    """A golden file, for instance ``real3d/vr.json``."""
    return json.loads((golden_folder() / name).read_text())


def key_list(name: str) -> Any:
    """A list of published keys, ``keys/<name>``: beside the golden folder, or this repository's."""
    beside = golden_folder().parent / "keys" / name
    return json.loads((beside if beside.is_file() else HERE / "keys" / name).read_text())


def key_shapes(name: str, prefixes: Iterable[str] = ("",)) -> dict[str, list[int]]:
    """Published keys under one of the prefixes -> shapes, from ``keys/<name>``."""
    return {key: entry["shape"] for key, entry in key_list(name)["keys"].items() if key.startswith(tuple(prefixes))}


def check_fill(state: dict[str, Any], reference: dict[str, Any]) -> None:
    """The rebuilt state dict is the one that the golden outputs were made with."""
    for key, first in reference["fill_check"]["first4"].items():
        if key in state:
            np.testing.assert_allclose(state[key].flatten()[: len(first)].numpy(), first, rtol=1e-6, atol=1e-9)


def check(tensor: Any, reference: dict[str, Any], error: float = 2e-5, projection: float = 1e-3) -> None:
    """A tensor against a digest: largest sampled difference over the largest value, and a random projection of all of it."""
    largest, whole = golden_fill().compare9(tensor, reference)
    assert largest <= error and whole <= projection, f"error {largest:.2e} (limit {error:g}), projection {whole:.2e} (limit {projection:g})"


def check_digest(tensor: Any, reference: dict[str, Any], error: float = 1e-4) -> None:
    """Of the older form: sampled values, mean and deviation within ``error`` of the greatest magnitude."""
    assert list(tensor.shape) == reference["shape"]
    values = tensor.detach().double().flatten().numpy()
    largest = np.abs(values[reference["idx"]] - np.array(reference["val"])).max() / reference["absmax"]
    moments = max(abs(values.mean() - reference["mean"]), abs(values.std(ddof=1) - reference["std"])) / reference["absmax"]
    assert largest <= error and moments <= error, f"error {largest:.2e}, moments {moments:.2e}"
