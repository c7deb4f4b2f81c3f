"""Avatar files and qualities on the command line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from triportrait import cli
from triportrait.media.video import VideoReader
from triportrait.motion.files import save_motion
from triportrait.types import Motion


@pytest.fixture(scope="module")
def folder(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo, three frames of motion, and the photo's avatar file under the name of a picture."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("portraits")
    Image.fromarray(astronaut).save(folder / "photo.png")
    save_motion(Motion(np.zeros((3, 44), np.float32), *(np.zeros((3, n), np.float32) for n in (3, 3, 2))), folder / "motion.npz")
    assert cli.main(["portrait", "save", str(folder / "photo.png"), "-o", str(folder / "person.jpg"), "--size", "128"]) == 0
    save_file({"weight": np.zeros(3, np.float32)}, folder / "weights.safetensors")
    (folder / "cut.avatar").write_bytes((folder / "person.jpg").read_bytes()[:50_000])
    return folder


def run(line: str, folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(folder)
    return cli.main([word.replace("$OUT", str(out)) for word in line.split()])


def test_it_tells_what_is_in_it(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert run("portrait show person.jpg", folder, tmp_path, monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "128 x 128 px" in shown and re.search(r"512 x 512 px, crop 25\d px", shown) and "refined:    no" in shown


def test_photo_and_avatar_file_give_the_same_video(folder: Path, tmp_path: Path, monkeypatch) -> None:
    frames = []
    for source in ("photo.png --size 128", "person.jpg"):
        line = f"animate {source} --motion motion.npz --crf 0 --no-label --no-watermark --no-manifest -o $OUT/o.mp4"
        assert run(line, folder, tmp_path, monkeypatch) == 0
        with VideoReader(tmp_path / "o.mp4") as reader:
            frames.append(np.stack([image for _, image in reader.frames(None)]))
    np.testing.assert_array_equal(*frames)


def test_refined_on_the_way(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert run("portrait save person.jpg --refine 0.01 -o $OUT/refined.avatar", folder, tmp_path, monkeypatch) == 0
    assert run("portrait show $OUT/refined.avatar", folder, tmp_path, monkeypatch) == 0
    assert " steps, own view " in capsys.readouterr().out
    line = "animate $OUT/refined.avatar --quality high --refine 0.01 --motion motion.npz -o $OUT/o.mp4"
    assert run(line, folder, tmp_path, monkeypatch) == 0
    assert (tmp_path / "o.mp4").stat().st_size > 1000


ANIMATE = "animate person.jpg --motion motion.npz -o $OUT/o.mp4"


@pytest.mark.parametrize(
    ("line", "thing", "remedy"),
    [
        (ANIMATE + " --size 256", "'person.jpg' is an avatar file", "leave out --size"),
        (ANIMATE + " --face 1", "'person.jpg' is an avatar file", "--face"),
        (ANIMATE + " --background-fill knn", "'person.jpg' is an avatar file", "--background-fill"),
        (ANIMATE + " --quality draft --refine 1", "'lifted' has no planes to refine", "add --avatar oneshot"),
        (ANIMATE + " --refine -1", "--refine is -1", "from 0 to 600"),
        (ANIMATE.replace("person.jpg", "weights.safetensors"), "'weights.safetensors' is a safetensors file but no", "portrait save"),
        (ANIMATE.replace("person.jpg", "cut.avatar"), "'cut.avatar' is no avatar file, or a damaged one", "portrait save"),
        ("portrait save missing.png -o $OUT/a", "no file 'missing.png'", "check the path"),
        ("portrait save photo.png -o photo.png", "'photo.png' is an input, too", "choose another output"),
        ("portrait save photo.png -o $OUT/no/a", "there is no folder", "create it first"),
        ("portrait save photo.png --size 99 -o $OUT/a", "--size is 99", "from 128 to 1024"),
        ("portrait save photo.png --refine nan -o $OUT/a", "--refine is nan", "from 0 to 600"),
        ("portrait show photo.png", "'photo.png' is no avatar file, or a damaged one", "portrait save"),
        ("portrait show missing.avatar", "no file 'missing.avatar'", "check the path"),
        ("animate person.jpg --driving photo.png --preset paper -o $OUT/o.mp4", "'person.jpg' is an avatar file", "give it the photo"),
    ],
)
def test_a_bad_input_is_one_sentence(line: str, thing: str, remedy: str, folder: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    assert run(line, folder, tmp_path, monkeypatch) == 2
    shown, said = capfd.readouterr()
    assert shown == "" and said.startswith("triportrait: ") and said.count("\n") == 1 and "internal error" not in said
    assert thing in said and remedy in said
    assert list(tmp_path.iterdir()) == []
