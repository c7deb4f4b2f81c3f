"""The embedded image-to-plane network on a photograph that it has never seen."""

from __future__ import annotations

from pathlib import Path

import torch

from triportrait import avatar
from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.oneshot.image_to_plane import load_image_to_plane
from triportrait.face.open_head import OpenHead
from triportrait.synth.lifted_views import HELD_OUT_TURNS_DEG, lifted_views
from triportrait.training.oneshot.measure import evaluate
from triportrait.training.oneshot.recipe import compact
from triportrait.training.oneshot.views import ViewSet
from triportrait.types import PreparedPortrait


def test_it_turns_the_astronaut_better_than_a_depth_warp(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    torch.set_num_threads(1)
    views = ViewSet.of([lifted_views(astronaut_portrait, LiftedAvatar(open_head), HELD_OUT_TURNS_DEG, "astronaut")])
    score = evaluate(load_image_to_plane(), views, compact())
    assert score.novel > 28 and min(score.by_turn) > 26
    assert score.novel > score.warp + 0.5 > score.copy + 5


def test_the_file_is_small() -> None:
    path = Path(avatar.__file__).parent / "data" / "image_to_plane_compact.onnx"
    assert path.stat().st_size < 10e6
