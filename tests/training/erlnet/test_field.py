"""The stage of the dual field: its rows, what it refuses, and that it learns a painted person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training_samples import painted_clip

from triportrait.erlnet.field import load_field
from triportrait.errors import MediaError
from triportrait.training.data.clips import ClipSet, write_clips
from triportrait.training.erlnet.field import FieldFrames, FieldStage, tiny
from triportrait.training.loop import train_stage


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> ClipSet:
    shard = tmp_path_factory.mktemp("field") / "train-0.tar"
    write_clips(shard, [painted_clip(3, frames=10, size_px=48, sound=False)])
    return ClipSet([shard])


def test_the_last_frames_of_each_clip_are_held_out(clips: ClipSet) -> None:
    frames = FieldFrames(clips, 32)
    learn, judge = frames.split(0.2)
    assert learn == [(0, row) for row in range(8)] and judge == [(0, 8), (0, 9)]
    assert frames.split(0.0) == ([(0, row) for row in range(10)], [])
    np.testing.assert_allclose(frames.home, [0.0, -0.2, -3.0], atol=1e-6)


def test_a_frame_knows_its_head_its_torso_and_the_neck_between(clips: ClipSet) -> None:
    frame = FieldFrames(clips, 48).frame((0, 2))
    neck = frame["neck"].view(48, 48) > 0
    head, torso = (frame[name].view(48, 48) > 0.5 for name in ("head", "torso"))
    assert neck.any() and head.any() and torso.any() and not neck[:20].any()
    assert (neck & head).any() and (neck & torso & ~head).any()


def test_rows_are_a_function_of_their_number(clips: ClipSet) -> None:
    one, two = (FieldStage(tiny(), clips) for _ in range(2))
    first, again, other = one.rows(3, [0]), two.rows(3, [0]), one.rows(4, [0])
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["rgb"], other["rgb"])
    assert first["places"].shape == (1, 256, 2) and first["jitter"].abs().max() <= 0.5


def test_several_people_and_small_pictures_are_refused(tmp_path: Path, clips: ClipSet) -> None:
    write_clips(tmp_path / "train-0.tar", [painted_clip(seed, frames=2, size_px=48, sound=False) for seed in (1, 2)])
    with pytest.raises(MediaError, match="one person"):
        FieldFrames(ClipSet([tmp_path / "train-0.tar"]), 32)
    with pytest.raises(MediaError, match="48 pixels"):
        FieldFrames(clips, 64)


def test_a_painted_person_is_learned_and_comes_back_from_the_file(tmp_path: Path, clips: ClipSet) -> None:
    recipe = replace(tiny(), validate_every=40)
    stage = FieldStage(recipe, clips)
    with torch.no_grad():
        before, _ = stage.validate(stage.networks)
    train_stage(stage, tmp_path, tensorboard=False)
    with torch.no_grad():
        after, picture = stage.validate({"field": load_field(tmp_path / "model.safetensors")})
    assert after["psnr_db_val"] > before["psnr_db_val"] + 2 and after["psnr_neck_db_val"] > before["psnr_neck_db_val"]
    assert picture is not None and picture.shape == (64, 64, 3)
