"""The training of the network that tells coverings: it learns, resumes exactly, and refuses what are no lower faces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from triportrait.errors import EmptyMedia, MediaError, OptionError
from triportrait.face.cover_network import load_cover_network
from triportrait.face.coverings import HEIGHT_PX, WIDTH_PX
from triportrait.training.coverings import CoveringsStage, judge, read_lower_faces, tiny, varied
from triportrait.training.data.coverings import BARE, write_lower_faces
from triportrait.training.loop import train_stage


def write_faces(path: Path, count: int, seed: int, kinds: tuple[str, ...] = (BARE, "mask", BARE, "hand")) -> Path:
    """Bare faces are skin with a dark, red line for a mouth; covered ones have one flat colour."""
    random = np.random.default_rng(seed)
    faces, names = [], []
    for number in range(count):
        kind = kinds[number % len(kinds)]
        face = random.normal(0, 0.05, (3, 3, HEIGHT_PX, WIDTH_PX))
        if kind == BARE:
            row = random.integers(14, 24)
            face[:, :, row : row + 5, 10:38] += np.array([-0.3, -1.4, -1.4])[:, None, None]
        else:
            face += random.uniform(-1, 0.5, (3, 1, 1))
        faces.append(face)
        names.append(kind)
    write_lower_faces(path, faces, names)
    return path


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lower_faces")
    write_faces(folder / "train.npz", 24, 0)
    write_faces(folder / "val.npz", 12, 1)
    return folder


def stage(packed: Path, **changes: float) -> CoveringsStage:
    recipe = replace(tiny(), **{"steps": 16, "save_every": 8, "validate_every": 16, **changes})
    return CoveringsStage(recipe, read_lower_faces([packed / "train.npz"]), read_lower_faces([packed / "val.npz"]))


def test_it_learns_and_its_file_tells_coverings(packed: Path, tmp_path: Path) -> None:
    train_stage(stage(packed), tmp_path, tensorboard=False)
    network, held_out = load_cover_network(tmp_path / "model.safetensors"), read_lower_faces([packed / "val.npz"])
    with torch.inference_mode():
        logits = network(held_out.faces[:, 0])
    is_covered = torch.tensor([kind != BARE for kind in held_out.kinds])
    assert logits[is_covered].min() > logits[~is_covered].max()
    assert '"found_val"' in (tmp_path / "log.jsonl").read_text().splitlines()[-1]


def test_resume_is_exact(packed: Path, tmp_path: Path) -> None:
    whole = train_stage(stage(packed, steps=4), tmp_path / "whole", tensorboard=False)
    train_stage(stage(packed, steps=4), tmp_path / "parts", tensorboard=False, stop_after=0.0)
    parts = train_stage(stage(packed, steps=4), tmp_path / "parts", tensorboard=False)
    for name, value in whole.averaged.state_dict().items():
        assert torch.equal(value, parts.averaged.state_dict()[name]), name


def test_half_of_the_rows_are_covered_whatever_the_data(tmp_path: Path) -> None:
    """One covered face in eight is drawn as often as the seven bare ones."""
    data = read_lower_faces([write_faces(tmp_path / "few.npz", 8, 0, (BARE,) * 7 + ("mask",))])
    share = CoveringsStage(tiny(), data).rows(0, range(200))["covered"].mean()
    assert 0.4 < share < 0.6


def test_variations_keep_the_mouth_and_change_the_light() -> None:
    face = torch.zeros(3, HEIGHT_PX, WIDTH_PX)
    face[:, 20:24, 10:38] = -1
    random = torch.Generator().manual_seed(0)
    others = torch.stack([varied(face, tiny(), random) for _ in range(20)])
    mouth, skin = others[:, :, 20:24, 12:36].mean((1, 2, 3)), others[:, :, 2:16].mean((1, 2, 3))
    assert (skin - mouth).min() > 0.4 and skin.std() > 0.05


def test_shares_are_counted_by_kind(packed: Path) -> None:
    class Always(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logit = torch.nn.Parameter(torch.tensor(3.0))

        def forward(self, faces: torch.Tensor) -> torch.Tensor:
            # Only the first picture of each face is asked for; faces darker than skin count as covered.
            return torch.where(faces.mean((1, 2, 3)) < -10, self.logit, -self.logit)

    held_out = read_lower_faces([packed / "val.npz"])
    held_out.faces[[kind == "hand" for kind in held_out.kinds]] = -20.0
    assert judge(Always(), held_out) == {"bare": 0.0, "hand": 1.0, "mask": 0.0, "found": 0.5}


def test_files_that_hold_no_lower_faces_are_named(packed: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    np.savez(tmp_path / "nan.npz", faces=np.full((1, 1, 3, HEIGHT_PX, WIDTH_PX), np.nan, np.float16), kinds=np.array([BARE]))
    (tmp_path / "cut.npz").write_bytes((packed / "val.npz").read_bytes()[:200])
    for name in ("other", "nan", "cut", "absent"):
        with pytest.raises(MediaError, match="data coverings"):
            read_lower_faces([tmp_path / f"{name}.npz"])
    with pytest.raises(EmptyMedia, match="data coverings"):
        read_lower_faces([])


def test_faces_of_one_kind_teach_nothing(tmp_path: Path) -> None:
    data = read_lower_faces([write_faces(tmp_path / "bare.npz", 2, 0, (BARE,))])
    with pytest.raises(OptionError, match="one kind alone"):
        CoveringsStage(tiny(), data)
    assert set(judge(torch.nn.Sequential(load_cover_network()), data)) == {BARE}
