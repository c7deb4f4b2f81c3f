"""The weights command, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from triportrait.cli import main
from triportrait.weights import importers
from triportrait.weights.catalogue import CATALOGUE
from weights_samples import Canary, filled, in_process, published  # noqa: F401


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home" / "weights"


def test_list_names_everything_and_where_it_is(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert main(["weights", "list"]) == 0
    text = capsys.readouterr().out
    assert str(home) in text and text.count("[not here]") == len(CATALOGUE)
    assert all(f"\n{one.name}  [" in text and one.licence.split()[0] in text for one in CATALOGUE)


@pytest.mark.usefixtures("in_process")
def test_import_list_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(importers.CONVERTERS, "real3d_a2m", lambda published: (dict(published), {}))
    folder = tmp_path / "checkpoints" / "audio2secc_vae"
    folder.mkdir(parents=True)
    published(folder / "model_ckpt_steps_400000.ckpt", filled("real3d_a2m"))
    assert main(["weights", "import", str(tmp_path / "checkpoints")]) == 0
    assert "real3d_a2m, 11.864 M published numbers" in capsys.readouterr().out
    assert main(["weights", "list"]) == 0
    assert "real3d_a2m  [imported]" in capsys.readouterr().out
    assert main(["weights", "verify"]) == 0
    assert capsys.readouterr().out.startswith("ok ")
    target = home / "real3d_a2m.safetensors"
    content = bytearray(target.read_bytes())
    content[-5] ^= 1
    target.write_bytes(content)
    assert main(["weights", "verify"]) == 2
    assert "BROKEN" in capsys.readouterr().out


def test_a_bad_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    torch.save({"state_dict": Canary(tmp_path / "canary")}, tmp_path / "x.ckpt")
    assert main(["weights", "import", str(tmp_path / "x.ckpt")]) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1 and "nothing in it was executed" in errors and "Traceback" not in errors
    assert not (tmp_path / "canary").exists() and not home.exists()


def test_describe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "describe", "--preset", "paper", "--ablations"]) == 0
    text = capsys.readouterr().out
    assert "concatenation (w/ concat): head, torso and background stand side by side" in text
    assert "stages: torso; networks: htb_super_resolution 54,964,816 (published 54,976,359)" in text
    assert "no_laplacian (w/o Lap loss): eq. 4 does not count\n    stages: motion_adapter; networks: the same" in text
    assert all(figure in text for figure in ("87.333", "5.706", "4,257", "54.976", "50.657", "11.864", "Table 6"))


def test_fetch_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str], home: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "ffhqrebalanced512-128.pkl").write_bytes(b"x")
    assert main(["weights", "fetch", "eg3d", "--from-folder", str(tmp_path / "disk")]) == 0
    assert capsys.readouterr().out.strip() == str(home / "downloads" / "eg3d" / "ffhqrebalanced512-128.pkl")
    assert main(["weights", "fetch", "nose"]) == 2
