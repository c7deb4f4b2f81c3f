"""What a core installation does without torch: videos as ever, and one sentence where an extra is needed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from triportrait.cli import EXTRAS


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train voice --data data -o run", "package torch, which is not installed; pip install 'triportrait[train]'"),
        (
            "animate photo.png voice.wav --preset paper -o out.mp4",
            "pip install 'triportrait[paper]'",
        ),
        ("animate photo.png voice.wav --refine 2 -o out.mp4", "--refine learns, which needs torch"),
        ("evaluate reenact --clips data -o r.json", "pip install 'triportrait[eval]'"),
    ],
)
def test_without_torch_one_sentence_names_the_extra(line: str, words: str, tmp_path: Path) -> None:
    """In a process of its own, where torch cannot be found."""
    (tmp_path / "data").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    soundfile.write(tmp_path / "voice.wav", np.zeros(1600), 16_000)
    (tmp_path / "data" / "clip.mp4").write_bytes(b"")
    code = f"""
import importlib.util, sys
there = importlib.util.find_spec
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
importlib.util.find_spec = lambda name, package=None: None if name == "torch" else there(name, package)
sys.meta_path.insert(0, Absent())
from triportrait.cli import main
sys.exit(main({line.split()!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_every_extra_that_is_named_exists() -> None:
    path = Path(__file__).parents[2] / "pyproject.toml"
    extras = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for package, extra in EXTRAS.items():
        assert any(line.startswith(package) for line in extras[extra]), package
    for extra in ("paper", "train", "eval"):
        assert any(line.startswith("torch>") for line in extras[extra])
