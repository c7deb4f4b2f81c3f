"""The training of the network that tells a portrait's parts: it learns, resumes exactly, and refuses what is no labelled portrait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from labelled_samples import labelled, write_parts
from triportrait.errors import EmptyMedia, MediaError
from triportrait.nn.parts_network import load_parts_network
from triportrait.training.data.parts import PartsFolder, read_labelled, write_labelled
from triportrait.training.loop import train_stage
from triportrait.training.parts import PartsStage, Truth, beside_faces, part_losses, tiny


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[PartsFolder, PartsFolder]:
    folder = tmp_path_factory.mktemp("labelled")
    return PartsFolder.of([write_parts(folder / "train", 6)]), PartsFolder.of([write_parts(folder / "val", 3, 1)])


def test_it_learns_what_is_skin(packed: tuple[PartsFolder, PartsFolder], tmp_path: Path) -> None:
    recipe = replace(tiny(), steps=24, batch=2, rate=1e-2, validate_every=24, save_every=24)
    train_stage(PartsStage(recipe, *packed), tmp_path, tensorboard=False)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    judged = [line for line in lines if "skin_val" in line]
    assert judged and load_parts_network(tmp_path / "model.safetensors") is not None
    losses = [float(line.split('"loss": ')[1].split(",")[0]) for line in lines if '"loss"' in line]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])
    assert next((tmp_path / "validation").iterdir())


def test_resume_is_exact(packed: tuple[PartsFolder, PartsFolder], tmp_path: Path) -> None:
    def stage() -> PartsStage:
        return PartsStage(replace(tiny(), steps=3, validate_every=3, save_every=1), packed[0])

    whole = train_stage(stage(), tmp_path / "whole", tensorboard=False)
    train_stage(stage(), tmp_path / "parts", tensorboard=False, stop_after=0.0)
    parts = train_stage(stage(), tmp_path / "parts", tensorboard=False)
    for name, value in whole.averaged.state_dict().items():
        assert torch.equal(value, parts.averaged.state_dict()[name]), name


def test_weak_labels_do_not_tell_hair_from_hats() -> None:
    """Where only skin is told from the rest, hair and hat cost the same, unless hair is likely; exact labels tell them apart; what is
    doubted costs nothing, and what is beyond the border neither."""
    one = torch.ones(1, 2, 2)
    logits = torch.zeros(1, 4, 2, 2)

    def cost(shown_as: int, exact: float, sure: float = 1.0, hair: float = 1.0, trusted: float = 1.0) -> float:
        truth = Truth(one, 0 * one, hair * one, sure * one, trusted * one, torch.tensor([exact]))
        shown = logits.clone()
        shown[:, shown_as] = 4.0
        return float(part_losses(shown, truth)["part"])

    assert cost(2, 0.0, hair=0.0) == pytest.approx(cost(3, 0.0, hair=0.0), abs=1e-5) and cost(1, 0.0) > cost(2, 0.0) + 1
    assert cost(2, 0.0) + 0.5 < cost(3, 0.0) < cost(3, 1.0) - 1
    assert cost(1, 1.0, trusted=0.0) == 0.0
    assert cost(3, 1.0) > cost(2, 1.0) + 1
    assert cost(1, 0.0, sure=0.0) == 0.0
    # The matte is a plain cross-entropy of person and scene.
    half = Truth(0.5 * one, one, 0 * one, one, one, torch.tensor([0.0]))
    assert float(part_losses(logits, half)["matte"]) == pytest.approx(-0.5 * (np.log(0.25) + np.log(0.75)), abs=1e-5)


def test_what_lies_round_a_face_counts_for_more() -> None:
    hull = torch.zeros(1, 256, 256)
    hull[:, 96:160, 96:160] = 1.0
    weight = beside_faces(hull)[0]
    assert weight[128, 128] == 0 and weight[128, 80] == 1 and weight[80, 128] == 1 and weight[128, 20] == 0


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    portrait = labelled(5, exact=True)
    write_labelled(tmp_path / "a.npz", portrait)
    back = read_labelled(tmp_path / "a.npz")
    assert back[8:] == portrait[8:]
    assert np.abs(back.image - portrait.image).max() <= 0.5 and np.abs(back.skin - portrait.skin).max() < 3e-3


def test_files_that_hold_no_labels_are_named(packed: tuple[PartsFolder, PartsFolder], tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(packed[0].real[0].read_bytes()[:300])
    for name in ("other", "cut", "absent"):
        with pytest.raises(MediaError, match="data parts"):
            read_labelled(tmp_path / f"{name}.npz")
    for name in ("other", "cut"):
        with pytest.raises(MediaError, match="data parts"):
            PartsFolder.of([tmp_path / f"{name}.npz"])
    with pytest.raises(EmptyMedia, match="data parts"):
        PartsFolder.of([tmp_path / "nothing"])


def test_synthetic_people_alone_teach_nothing(packed: tuple[PartsFolder, PartsFolder]) -> None:
    with pytest.raises(EmptyMedia, match="synthetic people alone"):
        PartsStage(tiny(), packed[0]._replace(real=()))
