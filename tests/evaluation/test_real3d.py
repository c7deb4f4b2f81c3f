"""The paper's model takes part in evaluations: on made-up weights, from a clip to a report."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from paper_samples import made_up_parts
from triportrait.errors import MissingPart
from triportrait.face.open_head import OpenHead
from triportrait.model import build_model
from triportrait.pipeline import Portrait
from triportrait.real3d.on_open_head import PaperOnOpenHead
from triportrait.types import FrameModel, PreparedPortrait

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, open_head: OpenHead) -> Path:
    return made_up_parts(tmp_path_factory.mktemp("real3d"), open_head)["weights"]


@pytest.fixture(scope="module")
def model(weights: Path, open_head: OpenHead) -> PaperOnOpenHead:
    return build_model(f"real3d:{weights}", open_head)


def test_reenactment_measures_the_papers_model(weights: Path, clip: Path, tmp_path: Path) -> None:
    from triportrait.cli import main

    clips, out = tmp_path / "clips", tmp_path / "report.json"
    clips.mkdir()
    shutil.copy(clip, clips / "one.mp4")
    name = f"real3d:{weights}"
    words = ("--clips", clips, "--avatar", f"{name},real3d,static", "--every", 12, "--no-plots", "-o", out)
    assert main(["evaluate", "reenact", *map(str, words)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    rows = report["clips"]["one.mp4"]["avatars"]
    assert report["complete"] and rows[name]["status"] == "ok", rows[name]
    # Random weights draw no person: pictures were measured, and are far from the real ones.
    assert rows[name]["metrics"]["psnr_db"] < rows["static"]["metrics"]["psnr_db"]
    assert rows["real3d"]["status"] == "failed" and "weights import" in rows["real3d"]["reason"]


def test_the_open_heads_rows_are_drawn_in_the_networks_head_model(model: PaperOnOpenHead, astronaut_portrait: PreparedPortrait) -> None:
    assert isinstance(model, FrameModel)
    state, own = model.prepare(astronaut_portrait), astronaut_portrait.motion
    picture, _ = model.step(state, own)
    assert picture.shape == astronaut_portrait.image.shape and picture.dtype == np.uint8
    # A turn of the open head is a turn of the Basel face the same way; faces of other shapes share it with the expression.
    turned = replace(own, rotation_rad=own.rotation_rad + np.float32([0.0, 0.2, 0.0]), landmarks=None)
    rows = [model._row(state, row) for row in (own, turned)]
    assert rows[0].expression.shape == (64,)
    pitch, yaw, roll = rows[1].rotation_rad - rows[0].rotation_rad
    assert 0.1 < yaw < 0.3 and max(abs(pitch), abs(roll)) < 0.05
    drawn = [picture for _, picture, _ in model.draw(state, [own, turned])]
    np.testing.assert_array_equal(drawn[0], picture)
    assert np.abs(drawn[1].astype(int) - picture).max() > 0
    scene = np.full_like(picture, (0, 255, 0))
    assert np.abs(model.step(state, own, scene)[0].astype(int) - picture).max() > 10


def test_a_voice_moves_a_portrait_that_the_paper_draws(weights: Path, astronaut: np.ndarray, voice: Path) -> None:
    from itertools import islice

    from triportrait.face.portrait import PortraitOptions

    portrait = Portrait.from_image(astronaut, PortraitOptions(128), avatar=f"real3d:{weights}")
    frames = list(islice(portrait.talk(voice), 2))
    assert frames[0].image.shape == (128, 128, 3)
    panels = next(portrait.talk(voice).frames(debug=True)).debug
    assert [panel.shape for panel in panels.values()] == [(128, 128, 3)] * 4
    assert (panels["pncc"].max(2) > 8).mean() > 0.1
    with pytest.raises(MissingPart, match="real3d_torso"):
        Portrait(portrait.prepared, "real3d")
