"""Inversion, tuning and the stage of Talk3D on a painted head and a tiny EG3D: losses fall, runs resume, sound is heard."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from person_samples import made_up_prior
from training_samples import painted_clip
from triportrait.errors import MediaError, OptionError
from triportrait.personal import load_person
from triportrait.training.command import run_training
from triportrait.training.data.clips import ClipSet, write_clips
from triportrait.training.loop import train_stage
from triportrait.training.options import TrainOptions
from triportrait.training.talk3d import stage as stage_module
from triportrait.training.talk3d.examples import HEARD, ROWS_PER_FRAME, PersonalFrames
from triportrait.training.talk3d.inversion import InversionRecipe, InversionStage, TuningRecipe, TuningStage
from triportrait.training.talk3d.prior import Generator, style_of
from triportrait.training.talk3d.stage import PersonalStage, fitted, tiny
from triportrait.types import ARKIT_EXPRESSIONS
from triportrait.weights.store import load_weights

FRAMES = 48


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One person who says two things."""
    folder = tmp_path_factory.mktemp("person") / "clips"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, seed in (("train-00000", 3), ("val-00001", 3)):
        clip = painted_clip(seed, FRAMES)
        speech = np.concatenate([clip.speech, random.normal(0, 1, (len(clip.speech), HEARD)).astype(np.float16)], 1)
        write_clips(folder / f"{name}.tar", [replace(clip, speech=speech, key=name.replace("-", "_"))], quality=None)
    return folder


@pytest.fixture(scope="module")
def frames(clips: Path) -> PersonalFrames:
    return PersonalFrames(ClipSet([clips], "train"))


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_prior(tmp_path_factory.mktemp("prior"))


@pytest.fixture(scope="module")
def tuned(prior: Path, frames: PersonalFrames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a person whose generator was inverted and tuned."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = InversionRecipe(steps=20, samples=100, log_every=1, batch=3, validate_every=20)
    stage = InversionStage(recipe, Generator.load(prior), frames)
    train_stage(stage, folder / "inversion", tensorboard=False)
    stage = TuningStage(
        TuningRecipe(steps=20, log_every=1, frames=3, validate_every=20), Generator.load(prior), frames, style_of(folder / "inversion")
    )
    train_stage(stage, folder / "tuning", tensorboard=False)
    return folder / "tuning"


def curve(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_inversion_and_tuning_come_nearer(tuned: Path, prior: Path) -> None:
    for folder in (tuned.parent / "inversion", tuned):
        lines = curve(folder)
        assert np.mean([line["loss"] for line in lines[-3:]]) < 0.95 * np.mean([line["loss"] for line in lines[:3]]), folder.name
        assert (folder / "validation" / "step_00000020.png").exists()
    first, last = (load_weights(path).tensors for path in (prior, tuned / "talk3d_generator.safetensors"))
    assert first.keys() == last.keys()
    changed = {key for key, tensor in first.items() if not torch.equal(tensor, last[key])}
    # The super-resolution, the mapping and the noise stay.
    assert any(key.startswith("decoder.") for key in changed) and any(key.startswith("prior.synthesis.") for key in changed)
    assert not any(key.startswith(("prior.super_resolution.", "prior.mapping.")) for key in changed)
    # One style for all frames.
    style = load_weights(tuned / "talk3d_person.safetensors", layout="talk3d_person").tensors["style"]
    assert torch.equal(style, style_of(tuned.parent / "inversion"))


def make(tuned: Path, frames: PersonalFrames, clips: Path, **changes: object) -> PersonalStage:
    recipe = replace(tiny(), **changes)
    return PersonalStage(fitted(recipe, frames), tuned, frames, PersonalFrames(ClipSet([clips], "val")))


def test_the_loss_falls_in_twenty_steps_and_the_result_moves(tuned: Path, frames: PersonalFrames, clips: Path, tmp_path: Path) -> None:
    stage = make(tuned, frames, clips, tuning=0.0)
    batch = stage.rows(1, range(2))
    stage.frozen.eval()

    def judge() -> float:
        with torch.no_grad():
            return float(sum(stage.losses(batch, 1, "generator").values()))

    before = judge()
    train_stage(stage, tmp_path / "run", tensorboard=False)
    assert judge() < 0.97 * before
    last = curve(tmp_path / "run")[-1]
    assert {"mouth", "raw_look", "sync", "reading", "frame_db", "still_db"} <= last.keys()
    assert last["frame_db"] > last["still_db"]
    # The folder is a person, to be animated.
    person = load_person(tmp_path / "run", device="cpu")
    assert person.prepared.image.shape == (64, 64, 3) and len(person.model.avatar.person.cameras) == FRAMES


def test_nothing_moves_at_the_first_step(tuned: Path, frames: PersonalFrames, clips: Path) -> None:
    """P_ID + dP is P_ID: the gate begins at 0."""
    stage = make(tuned, frames, clips)
    batch = stage.rows(0, [0])
    tokens = stage.networks["tokens"](batch["speech"], batch["lids"], batch["rotation_deg"], batch["points"])
    still = stage.frozen["person"].planes
    assert float(stage.networks["delta_plane"](still, tokens).detach().abs().max()) == 0.0


def test_at_the_end_the_super_resolution_alone_is_tuned(tuned: Path, frames: PersonalFrames, clips: Path, tmp_path: Path) -> None:
    stage = make(tuned, frames, clips, steps=4, tuning=0.5)
    assert [stage.passes(step)[0] for step in range(4)] == ["generator", "generator", "super_resolution", "super_resolution"]
    first = {key: tensor.clone() for key, tensor in stage.networks["super_resolution"].state_dict().items()}
    train_stage(stage, tmp_path / "run", tensorboard=False)
    stored = load_weights(tmp_path / "run" / "talk3d.safetensors", layout="talk3d").tensors
    assert any(not torch.equal(tensor, stored[f"super_resolution.{key}"]) for key, tensor in first.items())
    assert {"super_resolution_picture", "super_resolution_look"} == {
        key for key in curve(tmp_path / "run")[-1] if key.startswith("super_resolution")
    }


def test_resume_is_exact(tuned: Path, frames: PersonalFrames, clips: Path, tmp_path: Path) -> None:
    changes = {"steps": 4, "tuning": 0.25, "sync_after": 0.0}
    whole, parts = (make(tuned, frames, clips, **changes) for _ in range(2))
    train_stage(whole, tmp_path / "whole", tensorboard=False)
    train_stage(parts, tmp_path / "parts", tensorboard=False, stop_after=0.0)
    parts = make(tuned, frames, clips, **changes)
    train_stage(parts, tmp_path / "parts", tensorboard=False)
    for key, value in whole.networks.state_dict().items():
        torch.testing.assert_close(parts.networks.state_dict()[key], value, rtol=0, atol=0, msg=key)


def test_the_command_trains_and_says_what_it_needs(tuned: Path, clips: Path, tmp_path: Path) -> None:
    usual = {"model": "talk3d", "preset": "tiny", "data": (clips,), "out": tmp_path / "run", "device": "cpu", "steps": 2}
    with pytest.raises(OptionError, match="--start with the folder 'tuning'"):
        run_training(TrainOptions(**usual))
    assert run_training(TrainOptions(**usual, start=tuned)).finished
    assert (tmp_path / "run" / "talk3d_generator.safetensors").exists()
    with pytest.raises(OptionError, match="planes are 32 px with 8 channels.*take the preset that fits"):
        run_training(TrainOptions(**(usual | {"preset": "paper", "out": tmp_path / "other"}), start=tuned))


def test_the_sync_term_hears_whether_lips_fit_the_sound(tuned: Path, frames: PersonalFrames, clips: Path) -> None:
    """Gradients reach the picture, not the reader: what is drawn must not teach it."""
    stage = make(tuned, frames, clips, sync_after=0.0)
    batch = stage.rows(0, [0])
    assert batch["heard"].shape == (1, ROWS_PER_FRAME * (2 * stage_module._SYNC_REACH + 1), HEARD)
    assert torch.equal(batch["curves"][0, batch["place"][0]], torch.from_numpy(expression_of(frames, stage, 0)))
    picture = batch["picture"].clone().requires_grad_(True)
    terms = stage._sync_terms(picture, batch)
    terms["sync"].backward()
    assert float(picture.grad.abs().max()) > 0
    assert all(parameter.grad is None for parameter in stage.networks["reader"].parameters())
    terms["reading"].backward()
    assert any(parameter.grad is not None for parameter in stage.networks["reader"].parameters())


def expression_of(frames: PersonalFrames, stage: PersonalStage, step: int) -> np.ndarray:
    index = int(np.random.default_rng([stage.recipe.seed, step, 0]).integers(len(frames)))
    return painted_clip(3, FRAMES).expression[index]


def test_rows_say_what_the_clip_shows(frames: PersonalFrames) -> None:
    clip = painted_clip(3, FRAMES)
    row = frames.row(FRAMES // 2, 64)
    np.testing.assert_allclose(row["picture"].permute(1, 2, 0), clip.frames[FRAMES // 2] / 127.5 - 1, atol=1e-3)
    assert float(row["lids"]) == 2.0 and float(frames.row(0, 64)["lids"]) == 0.0
    np.testing.assert_allclose(row["rotation_deg"], np.degrees(clip.rotation_rad[FRAMES // 2]), atol=1e-4)
    assert row["points"][1, 0] > row["points"][2, 0]  # the subject's left eye is on the picture's right
    # The frame's own entry is the fifth; its rows 8 and 9 are the frame's own, two of four at 100 per second.
    loud = clip.expression[:, ARKIT_EXPRESSIONS.index("jawOpen")] / 0.7
    np.testing.assert_allclose(row["speech"][4, 0, 8:10], loud[FRAMES // 2], atol=2e-3)
    assert float(frames.row(0, 64)["speech"][:4].abs().max()) == 0.0


def test_clips_of_other_kinds_are_refused(tmp_path: Path) -> None:
    write_clips(tmp_path / "train-0.tar", [painted_clip(1, 8, sound=False)], quality=None)
    with pytest.raises(MediaError, match="'painted_1' has no speech"):
        PersonalFrames(ClipSet([tmp_path]))
