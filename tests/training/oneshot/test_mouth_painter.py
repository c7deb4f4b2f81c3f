"""The mouth painter's training: it learns, resumes exactly, refuses what are no windows, and its weights paint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from triportrait.avatar.mouth.painter import CHANNELS, HEIGHT_PX, WIDTH_PX
from triportrait.avatar.mouth.painter_network import load_mouth_painter
from triportrait.errors import EmptyMedia, MediaError
from triportrait.training.data.mouths import write_windows
from triportrait.training.loop import train_stage
from triportrait.training.oneshot.mouth_painter import MouthPainterStage, judge, read_windows, tiny


def windows(count: int, seed: int) -> np.ndarray:
    """Mouths drawn grey whose truth is red inside the lips."""
    random = np.random.default_rng(seed)
    x = np.full((count, HEIGHT_PX, WIDTH_PX, CHANNELS + 3), 128, np.uint8)
    x[..., 3:7] = x[..., 10:12] = 0
    for row in x:
        top, left = random.integers(30, 50, 2)
        row[top : top + 20, left : left + 50, 3:5] = 255
        row[top : top + 20, left : left + 50, 12:] = (200, 60, 60)
        row[top + 6 : top + 14, left + 10 : left + 40, 5] = 255
        row[top + 6 : top + 14, left + 10 : left + 40, 12:] = 60
    return x


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("windows")
    write_windows(folder / "train.npz", list(windows(6, 0)), [False, True] * 3)
    write_windows(folder / "val.npz", list(windows(2, 1)), [False] * 2)
    return folder


def stage(packed: Path, **changes: float) -> MouthPainterStage:
    recipe = replace(tiny(), steps=14, adversarial_from=8, log_every=7, save_every=7, validate_every=14, **changes)
    return MouthPainterStage(recipe, read_windows([packed / "train.npz"]), read_windows([packed / "val.npz"])[0])


def test_it_learns_and_its_file_paints(packed: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    train_stage(stage(packed), tmp_path, tensorboard=False)
    painter = load_mouth_painter(tmp_path / "model.safetensors")
    scores = judge(painter, read_windows([packed / "val.npz"])[0])
    assert scores["painted"] < 0.8 * scores["drawn"] and scores["lit"] < 0.95 * scores["unlit"]
    assert (tmp_path / "validation" / "step_00000014.png").exists()


def test_resume_is_exact(packed: Path, tmp_path: Path) -> None:
    """Across the step from which the adversary is listened to."""
    torch.set_num_threads(1)
    whole = train_stage(stage(packed), tmp_path / "whole", tensorboard=False)
    for _ in range(2):
        train_stage(stage(packed), tmp_path / "parts", tensorboard=False, stop_after=0.0)
    parts = train_stage(stage(packed), tmp_path / "parts", tensorboard=False)
    for name, value in whole.averaged.state_dict().items():
        assert torch.equal(value, parts.averaged.state_dict()[name]), name


def test_without_its_weight_there_is_no_adversary(packed: Path) -> None:
    plain = stage(packed, adversarial_weight=0.0)
    assert set(plain.networks) == {"mouth_painter"} and plain.passes(13) == ("generator",)
    assert "adversarial" not in plain.losses(plain.rows(13, [0, 1]), 13, "generator")


def test_files_that_hold_no_windows_are_named(packed: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes((packed / "val.npz").read_bytes()[:200])
    for name in ("other", "cut", "absent"):
        with pytest.raises(MediaError, match="data mouths"):
            read_windows([tmp_path / f"{name}.npz"])
    with pytest.raises(EmptyMedia, match="data mouths"):
        read_windows([])
