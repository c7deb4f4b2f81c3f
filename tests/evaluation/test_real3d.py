"""The paper's model takes part in evaluations: on made-up weights, from a clip to a report."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
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
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What 'triportrait train real3d.torso' and 'real3d.audio_to_motion' leave: the open head, and our own speech features."""
    import torch

    from triportrait.real3d.networks import build, tiny
    from triportrait.weights.store import Provenance, save_weights

    torch.manual_seed(0)
    folder, preset = tmp_path_factory.mktemp("trained"), tiny()
    preset = replace(preset, audio_to_motion=replace(preset.audio_to_motion, features=82, motion=44))
    networks, origin = build(preset), Provenance("", "", "trained here", "1", "none")
    voice = {"audio_to_motion": asdict(preset.audio_to_motion), "head_model": "open", "speech": "log_mel"}
    state = networks.pop("audio_to_motion").state_dict()
    save_weights(folder / "real3d_a2m.safetensors", state, layout="real3d_a2m", config=voice, provenance=origin)
    state = {f"{name}.{key}": tensor for name, network in networks.items() for key, tensor in network.state_dict().items()}
    config = {"sizes": asdict(preset), "head_model": "open"}
    save_weights(folder / "real3d_torso.safetensors", state, layout="real3d_torso", config=config, provenance=origin)
    return folder


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


def evaluated(weights: Path, clip: Path, folder: Path, *words: str) -> dict:
    """The report of 'triportrait evaluate' on two copies of a clip, run to its end; the weights stand for ``real3d:WEIGHTS``."""
    from triportrait.cli import main

    clips, out = folder / "clips", folder / "report.json"
    clips.mkdir(exist_ok=True)
    for name in ("one.mp4", "two.mp4"):
        shutil.copy(clip, clips / name)
    assert main(["evaluate", *words, "--clips", str(clips), "--every", "12", "--limit", "1", "-o", str(out)]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_another_clip_moves_the_papers_model(weights: Path, clip: Path, tmp_path: Path) -> None:
    report = evaluated(weights, clip, tmp_path, "cross", "--avatar", f"real3d:{weights}", "--no-plots")
    row = report["clips"]["one by two"]["avatars"][f"real3d:{weights}"]
    assert report["complete"] and row["status"] == "ok", row
    assert row["metrics"]["csim"] is None and "--metric-weights" in row["reasons"]["csim"]


def test_a_voice_moves_the_papers_model_by_its_own_network(weights: Path, clip: Path, tmp_path: Path) -> None:
    """Table 2 with D.1's head motion, to the end."""
    name, library = f"real3d:{weights}", tmp_path / "library"
    library.mkdir()
    shutil.copy(clip, library / "lender.mp4")
    words = f"table 2 --avatar {name},static --seconds 1 --head-motion {library} --cache {tmp_path / 'cache'}"
    table = evaluated(weights, clip, tmp_path, *words.split())
    run = json.loads((tmp_path / "report_audio.json").read_text(encoding="utf-8"))
    entry = run["clips"]["one.mp4"]
    assert entry["head_motion"] == "lender.mp4" and entry["avatars"][name]["status"] == "ok", entry["avatars"][name]
    assert entry["avatars"][name]["own_voice"] and not entry["avatars"]["static"]["own_voice"]
    assert f"{name} turned the voice into expressions by its own network" in (tmp_path / "report_audio.md").read_text(encoding="utf-8")
    assert list(table["ours"]) == [name, "static"] and (tmp_path / "report.md").is_file()


def test_a_run_stands_for_a_row_of_the_ablation(weights: Path, clip: Path, tmp_path: Path) -> None:
    """A run's folder holds the weights of the head and the torso beside its log, and nothing for a voice."""
    run = tmp_path / "runs" / "concat"
    run.mkdir(parents=True)
    shutil.copy(weights / "real3d_torso.safetensors", run)
    shutil.copytree(weights / "bfm", run / "bfm")
    (run / "log.jsonl").write_text("", encoding="utf-8")
    report = evaluated(weights, clip, tmp_path, "table", "4", "--variant", f"concatenation=real3d:{run}")
    row = report["ours"]["concatenation"]
    assert row["avatar"] == f"real3d:{run}"
    measured = json.loads((tmp_path / "report_cross.json").read_text(encoding="utf-8"))
    assert measured["clips"]["one by two"]["avatars"][f"real3d:{run}"]["status"] == "ok"
    assert report["ours"]["full"]["cross"]["metrics"]["aed"] is None, "a printed figure stands for none of ours"
    assert f"| concatenation (ours), real3d:{run} |" in (tmp_path / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["weights", "trained"])
def test_the_papers_voice_takes_the_head_pose_that_it_is_given(
    kind: str, request: pytest.FixtureRequest, open_head: OpenHead, astronaut_portrait: PreparedPortrait, voice: Path
) -> None:
    from triportrait.types import Motion

    model = build_model(f"real3d:{request.getfixturevalue(kind)}", open_head)
    assert isinstance(model, PaperOnOpenHead) and model.speaks
    own = astronaut_portrait.motion
    rows = {name: np.stack([getattr(own, name)] * 3) for name in ("expression", "rotation_rad", "translation", "gaze_rad")}
    still = Motion(**rows)
    turned = still.with_rows(rotation_rad=still.rotation_rad + np.float32([0.0, 0.2, 0.0]))
    state = model.prepare(astronaut_portrait)
    pictures = [list(model.spoken(state, voice, asked, seed=1)) for asked in (still, turned)]
    assert [len(found) for found in pictures] == [3, 3] and pictures[0][0].shape == astronaut_portrait.image.shape
    assert np.abs(pictures[0][0].astype(int) - pictures[1][0]).max() > 0
    again = list(model.spoken(state, voice, still, seed=1))
    np.testing.assert_array_equal(again, pictures[0])


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
    # Without a scene: before black it is what the networks draw before black.
    layer, black = model.cut_out(state, own), model.step(state, own, np.zeros_like(picture))[0]
    assert layer.shape == (*picture.shape[:2], 4) and (layer[..., :3] <= layer[..., 3:] + 1e-6).all()
    assert np.median(np.abs(255 * layer[..., :3] - black)) < 2


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
