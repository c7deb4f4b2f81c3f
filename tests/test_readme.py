"""The commands and the Python lines of the README run as they stand, in a folder with a photo, a voice and a clip."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from triportrait.media.video import VideoReader, VideoWriter
from triportrait.types import Waveform

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", README)


@pytest.fixture(scope="module")
def folder(voice: Path, clip: Path, astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("readme")
    Image.fromarray(astronaut).save(place / "photo.jpg")
    samples, rate_hz = soundfile.read(voice)
    soundfile.write(place / "voice.wav", samples[: rate_hz // 4], rate_hz)
    with VideoReader(clip) as reader:
        frames = [frame for _, frame in reader.frames()][:8]
    with VideoWriter(place / "clip.mp4", (256, 256), audio=Waveform(samples[: rate_hz * 8 // 25].astype(np.float32), rate_hz)) as writer:
        for frame in frames:
            writer.write(frame)
    return place


def test_the_commands(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    from triportrait.cli import main

    monkeypatch.chdir(folder)
    lines = [line for block in blocks("bash") for line in block.splitlines() if line]
    assert len(lines) > 10 and all(line.startswith("triportrait ") for line in lines)
    for line in lines:
        words = shlex.split(line)
        assert main(words[1:]) == 0, (line, capfd.readouterr().err)
        if "-o" in words:
            assert (folder / words[words.index("-o") + 1]).stat().st_size > 0, line
    assert "watermark" in capfd.readouterr().out


def test_the_python_lines(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(folder)
    (code,) = blocks("python")
    exec(compile(code, "README.md", "exec"), {})
    assert "(512, 512, 3)" in capsys.readouterr().out
    assert all((folder / name).is_file() for name in ("talking.mp4", "imitating.mp4", "again.mp4"))


def test_links_lead_somewhere() -> None:
    """In the README and in every page of the documentation."""
    broken = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)
