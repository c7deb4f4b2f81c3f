"""Checkpoints made up from the key tables, and files that mean harm. Nothing in here is anybody's weights."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import subprocess
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from triportrait.weights import reading, reading_child
from triportrait.weights.tables import key_table


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The child's work without a child, which takes a second to start; its fences have tests of their own."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        answer = io.StringIO()
        with contextlib.redirect_stdout(answer):
            status = reading_child.main(command[command.index("triportrait.weights.reading_child") + 1 :])
        return subprocess.CompletedProcess(command, status, answer.getvalue().encode(), b"")

    for fence in ("_limit", "_forbid"):
        monkeypatch.setattr(reading_child, fence, lambda *_: None)
    monkeypatch.setattr(reading.subprocess, "run", run)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def filled(layout: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict of a published layout with random numbers that a network could have."""
    table, generator = key_table(layout), torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in table.shapes.items():
        if key in table.integers:
            state[key] = torch.zeros(shape, dtype=torch.int64)
        elif key.endswith("running_var"):
            state[key] = 1.0 + torch.rand(shape, generator=generator)
        else:
            state[key] = 0.1 * torch.randn(shape, generator=generator)
    return state


def published(path: Path, state: dict[str, Any], *, legacy: bool = True, **others: dict[str, Any]) -> Path:
    """Save a state dict as the authors' trainer does (spec 1.2)."""
    content = {
        "epoch": 3,
        "global_step": 100_000,
        "checkpoint_callback_best": np.float64(0.25),
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-4}]}],
        "state_dict": {"model": state, **others},
    }
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def published_talk3d(path: Path, state: dict[str, Any], **others: Any) -> Path:
    """Save a state dict with full keys as Talk3D's trainer does, optimiser and scheduler as the objects they are (spec A.8)."""
    content: dict[str, Any] = {}
    for key, tensor in state.items():
        network, dot, name = key.partition(".")
        if dot:
            content.setdefault(network, OrderedDict())[name] = tensor
        else:
            content[network] = tensor
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content |= {"optimizer": optimizer, "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 2), "epoch": 29, "iter": 80_000}
    torch.save(content | others, path)
    return path


class Canary:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.path}'",)


def _reconstruct_persistent_obj(meta: dict[str, Any]) -> Any:
    raise AssertionError("the code in a network pickle was called")


class PersistentModule(torch.nn.Module):
    """Pickles itself as NVIDIA's persistent classes do: a call with its state and its source code."""

    source = "import os; os.system('touch canary')"

    def __reduce__(self) -> tuple[Any, ...]:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": self.source,
            "class_name": "Network",
            "state": self.__dict__,
        }
        return _reconstruct_persistent_obj, (meta,), None


def persistent_network(state: dict[str, torch.Tensor], buffers: frozenset[str] = frozenset()) -> PersistentModule:
    """A tree of persistent modules with this state dict."""
    root = PersistentModule()
    for key, tensor in state.items():
        *path, name = key.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, PersistentModule())
            module = module._modules[part]
        if key in buffers:
            module.register_buffer(name, tensor)
        else:
            module.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
    return root


def network_pickle(
    path: Path,
    state: dict[str, torch.Tensor],
    buffers: frozenset[str] = frozenset(),
    name: str = "G_ema",
    **others: Any,
) -> Path:
    """Save as EG3D does: a bare pickle of a dictionary of networks."""
    network = persistent_network(state, buffers)
    network.rendering_kwargs = OrderedDict(depth_resolution=48, box_warp=1)
    network.neural_rendering_resolution = 128
    content = {
        "training_set_kwargs": {},
        "G": None,
        "D": None,
        "G_ema": None,
        "augment_pipe": None,
        **others,
        name: network,
    }
    path.write_bytes(pickle.dumps(content))
    return path
