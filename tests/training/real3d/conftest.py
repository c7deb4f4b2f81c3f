"""Clips that all stages of the paper learn from in tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from training_samples import painted_clip
from triportrait.training.data.clips import write_clips


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_clips(folder / "train-00000.tar", [painted_clip(seed) for seed in range(3)], quality=None)
    write_clips(folder / "val-00000.tar", [painted_clip(9)], quality=None)
    return folder
