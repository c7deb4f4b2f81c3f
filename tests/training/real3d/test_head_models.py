"""From a video to an animated portrait in a user's own head model: clips, training, and no mixing of models."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bfm_samples import synthetic_bfm
from flame_samples import synthetic_flame
from training_samples import painted_clip
from triportrait.cli import main
from triportrait.errors import MediaError, OptionError, WeightsError
from triportrait.face.open_head import OpenHead
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.model import build_model
from triportrait.real3d.networks import build, tiny, trained_form
from triportrait.real3d.pipeline import load_pipeline
from triportrait.training.command import build_stage, recipe_of, run_training
from triportrait.training.data.clips import ClipSet, write_clips
from triportrait.training.options import TrainOptions
from triportrait.types import PreparedPortrait, Waveform
from triportrait.weights.home import weights_home
from triportrait.weights.store import Provenance, load_weights, save_weights

#: Identity and expression coefficients.
WIDTHS = {"bfm": (80, 64), "flame": (300, 103)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, open_head: OpenHead) -> Iterator[Path]:
    """A weights folder with both head models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPORTRAIT_HOME", str(tmp_path_factory.mktemp("home")))
        synthetic_bfm(weights_home() / "bfm", open_head)
        synthetic_flame(weights_home() / "flame", open_head)
        yield weights_home()


@pytest.fixture(scope="module")
def video(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine frames of a person who talks, with a sound."""
    path = tmp_path_factory.mktemp("video") / "person.mp4"
    sound = Waveform((0.2 * np.sin(np.arange(6000) * 0.07)).astype(np.float32), 16_000)
    with VideoReader(clip) as reader, VideoWriter(path, (256, 256), 25.0, audio=sound) as writer:
        for index, (_, frame) in enumerate(reader.frames()):
            if index < 9:
                writer.write(frame)
    return path


def options(shards: Path, out: Path, stage: str, start: Path | None = None) -> TrainOptions:
    settings = ("validate_every=1000",)
    return TrainOptions(
        model=f"real3d.{stage}", data=(shards,), out=out, preset="tiny", steps=4, start=start, device="cpu", settings=settings
    )


def in_model(name: str, seed: int) -> object:
    """A painted clip with coefficients of another head model."""
    random, (identity, expression) = np.random.default_rng(seed), WIDTHS[name]
    clip = painted_clip(seed, frames=4)
    rows = 0.2 * random.normal(size=(4, expression)).astype(np.float32)
    return replace(clip, head_model=name, identity=random.normal(size=identity).astype(np.float32), expression=rows)


@pytest.mark.parametrize("name", WIDTHS)
def test_a_video_becomes_clips_a_model_and_a_portrait(
    name: str, home: Path, video: Path, open_head: OpenHead, astronaut_portrait: PreparedPortrait, tmp_path: Path
) -> None:
    shards, runs = tmp_path / "shards", tmp_path / "runs"
    assert main(["data", "prepare", str(video), "-o", str(shards), "--size", "64", "--head", name, "--workers", "1"]) == 0
    clips = ClipSet([shards])
    made, ours = clips[0], painted_clip(0)
    assert clips.head_model == made.head_model == name and made.gaze_rad.shape == (9, 2)
    assert (made.identity.shape, made.expression.shape[1]) == ((WIDTHS[name][0],), WIDTHS[name][1]) != (ours.identity.shape, 44)
    assert np.abs(made.rotation_rad).max() < 0.6 and made.expression.std(0).max() > 0
    with (shards / "report.csv").open(newline="") as file:
        fit_px = float(next(csv.DictReader(file))["fit_px"])
    # Of a 512-px picture. FLAME's stand-in is a real face, the Basel one's is a curved sheet.
    assert fit_px < (2 if name == "flame" else 8)
    for stage, start in (("motion_adapter", None), ("torso", runs / "motion_adapter"), ("audio_to_motion", None)):
        assert run_training(options(shards, runs / stage, stage, start)).finished
    # The finished file names its head model, whose file may lie beside it.
    shutil.copytree(home / name, runs / "torso" / name)
    model = build_model(f"real3d:{runs / 'torso'}", open_head)
    assert model.pipeline.head.name == name
    state, own = model.prepare(astronaut_portrait), astronaut_portrait.motion
    rows = [replace(own, landmarks=None), replace(own, landmarks=None, rotation_rad=own.rotation_rad + np.float32([0, 0.2, 0]))]
    pictures = [model.step(state, row)[0].astype(int) for row in rows]
    assert pictures[0].shape == astronaut_portrait.image.shape and np.abs(pictures[0] - pictures[1]).max() > 0
    # A voice and a clip drive it in that model, too.
    shutil.copy(runs / "audio_to_motion" / "real3d_a2m.safetensors", runs / "torso")
    pipeline = load_pipeline(runs / "torso", **{name: home / name}, device="cpu")
    portrait = pipeline.portrait(astronaut_portrait.photo)
    for performance in (portrait.talk(video), portrait.drive(video)):
        motion = performance.motion()
        assert motion.head_model == name and motion.expression.shape[1] == WIDTHS[name][1] and 8 <= len(motion) <= 10
        assert next(iter(performance)).image.shape == (64, 64, 3)
    voice = load_weights(path := runs / "torso" / "real3d_a2m.safetensors")
    config = dict(voice.config) | {"head_model": "open"}
    save_weights(path, voice.tensors, layout=voice.layout, config=config, provenance=voice.provenance)
    with pytest.raises(WeightsError, match=rf"speaks in the head model open and .* is driven in {name}"):
        load_pipeline(runs / "torso", **{name: home / name}, device="cpu")


def test_prepared_layers_reach_the_networks_as_in_training(
    home: Path, open_head: OpenHead, astronaut_portrait: PreparedPortrait, tmp_path: Path
) -> None:
    """Networks that learned from clips see the smooth torso on black; imported ones see the published one."""
    networks = {name: network for name, network in build(tiny()).items() if name != "audio_to_motion"}
    state = {f"{name}.{key}": tensor for name, network in networks.items() for key, tensor in network.state_dict().items()}
    seen = {}
    for name, config in (("ours", {"preset": "tiny", "head_model": "bfm"}), ("imported", {"preset": "tiny"})):
        provenance = Provenance("made_up.ckpt", "0" * 64, "model", "1", "none")
        (tmp_path / name).mkdir()
        save_weights(tmp_path / name / "real3d_torso.safetensors", state, layout="real3d_torso", config=config, provenance=provenance)
        shutil.copytree(home / "bfm", tmp_path / name / "bfm")
        seen[name] = build_model(f"real3d:{tmp_path / name}", open_head).prepare(astronaut_portrait).paper.portrait
    ours = seen["ours"].torso
    assert not ours[ours[..., 3] == 0][:, :3].any() and ours[ours[..., 3] == 255][:, :3].any()
    # Ours fades out, the published one ends.
    assert len(np.unique(ours[..., 3])) > 10 and set(np.unique(seen["imported"].torso[..., 3])) == {0, 255}


def test_imported_weights_are_trained_on_with_their_own_head_model(home: Path, tmp_path: Path, shards: Path) -> None:
    own = tmp_path / "bfm.tar"
    write_clips(own, [in_model("bfm", seed) for seed in range(2)], quality=None)
    torch.manual_seed(7)
    networks = build(trained_form(tiny()), ["image_to_plane", "motion_adapter", "decoder"])
    state = {f"{name}.{key}": tensor for name, network in networks.items() for key, tensor in network.state_dict().items()}
    imported = tmp_path / "real3d_head.safetensors"
    provenance = Provenance("model_ckpt_steps_1.ckpt", "0" * 64, "model", "1", "none")
    save_weights(imported, state, layout="real3d_head", config={"published": {}}, provenance=provenance)
    stage = build_stage(given := options(own, tmp_path / "x", "motion_adapter", imported), recipe_of(given), "cpu")
    for name in ("image_to_plane", "motion_adapter", "decoder"):
        for key, tensor in stage.networks[name].state_dict().items():
            assert torch.equal(tensor, state[f"{name}.{key}"]), (name, key)
    for model in ("motion_adapter", "torso"):
        with pytest.raises(OptionError, match=r"trained on the head model bfm, and the clips are fitted with open; .* --head bfm"):
            run_training(options(shards, tmp_path / "y", model, imported))


def test_runs_say_their_head_model_and_clips_of_two_are_refused(home: Path, tmp_path: Path, shards: Path) -> None:
    flame = tmp_path / "flame.tar"
    write_clips(flame, [in_model("flame", 20)], quality=None)
    assert run_training(options(shards, tmp_path / "open", "motion_adapter")).finished
    with pytest.raises(OptionError, match="trained on the head model open, and the clips are fitted with flame"):
        run_training(options(flame, tmp_path / "y", "torso", tmp_path / "open"))
    assert run_training(options(flame, tmp_path / "voice", "audio_to_motion")).finished
    with pytest.raises(OptionError, match="trained on the head model flame, and the clips are fitted with open"):
        run_training(options(shards, tmp_path / "y", "audio_to_motion", tmp_path / "voice"))
    both = TrainOptions(model="real3d.motion_adapter", data=(shards, flame), out=tmp_path / "z", preset="tiny", device="cpu")
    with pytest.raises(MediaError, match=r"the head model (open|flame) and clip .* with (open|flame); train from clips of one"):
        run_training(both)


def test_a_missing_head_model_is_said_before_any_work(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # noqa: ANN001
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(tmp_path / "empty"))
    assert main(["data", "prepare", str(video), "-o", str(tmp_path / "shards"), "--head", "flame"]) == 2
    assert "FLAME is not at" in capsys.readouterr().err and not (tmp_path / "shards").exists()
