"""Key tables: which tensors each published checkpoint holds, as data (``keys/*.json``)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triportrait.errors import WeightsError

if TYPE_CHECKING:
    import torch

LAYOUTS = ("real3d_torso", "real3d_head", "real3d_a2m", "eg3d", "eg3d_discriminator", "talk3d")

#: A file must share this much of its keys with a table (intersection over union) to be taken for it at all.
LIKENESS = 0.5


@dataclass(frozen=True)
class KeyTable:
    """One published layout.

    Attributes:
        layout: its name here.
        class_name: what its authors call the class.
        config: the settings that decide the architecture; they hold for every file that fits the table.
        shapes: key -> shape, parameters and buffers.
        buffers: the keys that are not trained.
        integers: the keys whose tensors are int64.
        optional: keys that only some of the published files hold.
    """

    layout: str
    class_name: str
    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    buffers: frozenset[str]
    integers: frozenset[str]
    optional: frozenset[str] = frozenset()


@cache
def key_table(layout: str) -> KeyTable:
    """The table of one of :data:`LAYOUTS`."""
    text = resources.files("triportrait.weights").joinpath("keys", f"{layout}.json").read_text(encoding="utf-8")
    data = json.loads(text)
    shapes = {key: tuple(shape) for key, shape in (data["parameters"] | data["buffers"]).items()}
    sets = (frozenset(data[name]) for name in ("buffers", "integers", "optional"))
    return KeyTable(layout, data["class"], data["config"], shapes, *sets)


def recognise(keys: Mapping[str, Any], path: Path) -> KeyTable:
    """The table whose keys are most like these.

    Raises:
        WeightsError: none is alike.
    """
    have = set(keys)
    likeness = {layout: len(have & set(table.shapes)) / len(have | set(table.shapes)) for layout in LAYOUTS if (table := key_table(layout))}
    best = max(LAYOUTS, key=likeness.__getitem__)
    if likeness[best] < LIKENESS:
        raise WeightsError(
            f"'{path}' is no checkpoint that is known here (its first key is '{next(iter(keys), '')}'); "
            f"known are {', '.join(LAYOUTS)}, see 'triportrait weights list'."
        )
    return with_amplitudes(key_table(best), have) if best == "real3d_a2m" else key_table(best)


def with_amplitudes(table: KeyTable, keys: set[str]) -> KeyTable:
    """Audio to motion exists with mouth and eye amplitudes or without: each has an embedding, and widens the condition."""
    condition, width = "cond_proj.weight", 128
    shapes = {key: shape for key, shape in table.shapes.items() if not key.endswith("_amp_embed")}
    amplitudes = [name for name in ("mouth", "eye") if f"{name}_amp_embed" in keys]
    shapes |= {f"{name}_amp_embed": (width,) for name in amplitudes}
    shapes[condition] = (width, width * (3 + len(amplitudes)))
    config = dict(table.config) | {f"use_{name}_amp_embed": name in amplitudes for name in ("mouth", "eye")}
    return replace(table, shapes=shapes, config=config)


def check(tensors: Mapping[str, torch.Tensor], table: KeyTable, path: Path) -> None:
    """Every key of the table with its shape and kind of number, and no other.

    Raises:
        WeightsError: naming the first bad key: foreign ones and wrong ones in the file's order, then missing ones.
    """
    where = f"'{path}' is not the published {table.layout} checkpoint"
    remedy = "use the file its authors published"
    for key, tensor in tensors.items():
        if key not in table.shapes:
            raise WeightsError(f"{where}: it holds the foreign key '{key}'; {remedy}.")
        shape = tuple(tensor.shape)
        if shape != table.shapes[key]:
            raise WeightsError(f"{where}: '{key}' has the shape {list(shape)} instead of {list(table.shapes[key])}; {remedy}.")
        if (key in table.integers) == tensor.is_floating_point():
            raise WeightsError(f"{where}: '{key}' holds {tensor.dtype} numbers, which it should not; {remedy}.")
    missing = next((key for key in table.shapes if key not in tensors and key not in table.optional), None)
    if missing is not None:
        raise WeightsError(f"{where}: the key '{missing}' is missing; {remedy}.")
