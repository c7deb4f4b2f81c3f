"""``animate``: today's flags, which settings belong to which preset, and what is looked at before networks are loaded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from triportrait import cli
from triportrait.cli.animate import Animate, Drawing, Movement, PaperParts, changed
from triportrait.cli.motion import VoiceAlone
from triportrait.motion.options import DriveOptions
from triportrait.real3d.pipeline import PaperOptions

#: Flag and a value that is not its default; command lines of others hold them.
FLAGS = (
    "--audio v.wav --driving c.mp4 --motion m.npz --pose still --background white --background-fill knn --mouth-gain 2 --blink "
    "none --head-motion 0.5 --expressiveness 2 --eye-contact 0.5 --gaze-motion 2 --emotion sad --emotion-strength 0.5 --style "
    "s.mp4 --voice-driver erlnet:run --controls c.csv --reference first --face 2 --mouth free --driver-face 2 --crop --full-frame "
    "--debug-panel --quality draft --size 256 --avatar lifted --refine 3 --no-label --no-watermark --no-manifest --maker Ada "
    "--consent yes --crf 20 --resume --seed 7 --preset paper --weights w --bfm b --flame f --hubert h --segmenter s.onnx --mouth-amplitude "
    "0.3 --blink-by network --pose-start clip --head-threshold 0.5 --temperature 0.5 --published-behaviour --device cpu "
    "--precision float32 --batch 2 --compiled --wav2vec2 sounds --camera-window 5 --threads 3"
)


def flags_of(group: type) -> list[str]:
    """The part of FLAGS that sets the fields of a group."""
    names = {field.name for field in fields(group)}
    words = FLAGS.split("--")[1:]
    return ["--" + word.strip() for word in words if word.split()[0].removeprefix("no-").replace("-", "_") in names]


def test_each_flag_of_a_command_line_sets_one_field() -> None:
    command = cli._parsed(["animate", "photo.png", "-o", "o.mp4", *FLAGS.split()])
    assert isinstance(command, Animate)
    groups = [value for value in vars(command).values() if hasattr(value, "__dataclass_fields__")]
    for group in groups:
        assert changed(group) == [field.name for field in fields(group)]
    assert sum(map(len, map(fields, groups))) + len(["preset"]) == FLAGS.count("--")


def test_the_flags_are_the_options_of_the_interface() -> None:
    names = {field.name for field in fields(DriveOptions)}
    assert {field.name for field in fields(Movement)} == names and {field.name for field in fields(VoiceAlone)} < names
    assert DriveOptions(**Movement().given()) == DriveOptions()
    assert DriveOptions(**vars(VoiceAlone())) == DriveOptions(blink="natural")


@pytest.fixture
def folder(tmp_path: Path, astronaut: np.ndarray, voice: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Image.fromarray(astronaut).save(tmp_path / "photo.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "photo.png").read_bytes()[:20_000])
    (tmp_path / "text.wav").write_text("This is not sound.")
    (tmp_path / "voice.wav").symlink_to(voice)
    (tmp_path / "clip.mp4").symlink_to(clip)
    monkeypatch.chdir(tmp_path)

    def begun(*_: object, **__: object) -> None:
        raise AssertionError("networks are loaded")

    from triportrait.real3d import pipeline

    monkeypatch.setattr(pipeline, "load_pipeline", begun)
    return tmp_path


def refusal(line: str, capfd: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["animate", "photo.png", *line.split(), "-o", "o.mp4"]) == 2
    said = capfd.readouterr().err
    assert said.startswith("triportrait: ") and said.count("\n") == 1
    return said


TAKEN = {field.name for field in fields(PaperOptions)}
LEFT_OUT = [
    flag
    for flag in (*flags_of(Drawing), *flags_of(Movement), "--motion m.npz")
    if flag.split()[0].removeprefix("--").replace("-", "_") not in TAKEN
]


@pytest.mark.parametrize("flag", LEFT_OUT)
def test_the_paper_leaves_no_setting_out_in_silence(flag: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert f"{flag.split()[0]} does nothing with --preset paper; leave it out" in refusal(f"--audio voice.wav --preset paper {flag}", capfd)


@pytest.mark.parametrize("flag", flags_of(PaperParts))
def test_settings_of_the_paper_ask_for_its_preset(flag: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert f"{flag.split()[0]} belongs to --preset paper; add that" in refusal(f"--audio voice.wav {flag}", capfd)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--audio text.wav", "'text.wav' is not audio or video"),
        ("--driving voice.wav", "'voice.wav' has no pictures"),
        ("--audio voice.wav --pose nowhere.mp4", "--pose is 'nowhere.mp4'"),
        ("--audio voice.wav --pose voice.wav", "'voice.wav' has no pictures"),
        ("--audio voice.wav --background cut.png", "'cut.png' is a damaged or cut-off picture"),
        ("--audio voice.wav --crf 60", "--crf is 60"),
        ("--audio voice.wav --blink often", "--blink is 'often'"),
        ("--audio voice.wav --head-threshold 2", "--head-threshold is 2"),
    ],
)
def test_the_papers_files_are_looked_at_before_its_networks(line: str, words: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in folder.iterdir())
    assert words in refusal(f"{line} --preset paper", capfd)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_background_is_decoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triportrait.background import Background
    from triportrait.media import images

    read, count = images.read_image, []
    monkeypatch.setattr(images, "read_image", lambda path: count.append(path) or read(path))
    background = Background("photo.png")
    assert next(background.frames(64, 25.0)).shape == (64, 64, 3) and len(count) == 1


def test_a_command_imports_no_other() -> None:
    code = "import sys; from triportrait import cli\ntry: cli.main(['detect', '--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit(' '.join(m for m in sys.modules if m in {module for module, _ in cli.COMMANDS.values()}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "triportrait.cli.detect"
