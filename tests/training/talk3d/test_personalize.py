"""A video becomes a person, and the person speaks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from person_samples import made_up_prior
from triportrait import cli
from triportrait.errors import MediaError, MissingPart, OptionError
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.training.options import PersonalizeOptions
from triportrait.training.talk3d.personalize import personalize


@pytest.fixture
def prior(tmp_path: Path) -> Path:
    return made_up_prior(tmp_path)


def test_a_clip_becomes_a_person_who_speaks(prior: Path, clip: Path, voice: Path, tmp_path: Path) -> None:
    """From the command to a video; about 15 s, most of them tracking."""
    torch.set_num_threads(1)
    out, video = tmp_path / "person", tmp_path / "out.mp4"
    line = ["personalize", str(clip), "--prior", str(prior), "-o", str(out), "--preset", "tiny", "--device", "cpu"]
    line += ["--steps", "4", "--inversion-steps", "3", "--tuning-steps", "3"]
    assert cli.main(line) == 0
    names = {path.name for path in out.glob("*.safetensors")}
    assert names == {
        f"{name}.safetensors"
        for name in ("talk3d", "talk3d_generator", "talk3d_person", "talk3d_cameras", "talk3d_rotation", "talk3d_landmarks")
    }
    before = {path: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    assert cli.main(line) == 0  # all of it is done
    assert before == {path: path.stat().st_mtime_ns for path in (out / "clips").iterdir()}
    assert cli.main(["animate", str(voice), "--preset", "talk3d", "--weights", str(out), "-o", str(video), "--device", "cpu"]) == 0
    with VideoReader(video) as reader:
        assert len([frame for _, frame in reader.frames(None)]) == 25
    # The last stage goes on by the general command, too.
    train = ["train", "talk3d", "--data", str(out / "clips"), "--start", str(out / "tuning"), "-o", str(out), "--preset", "tiny"]
    assert cli.main([*train, "--steps", "5", "--device", "cpu"]) == 0


def test_bad_input_is_found_before_any_work(prior: Path, clip: Path, voice: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "person"
    with VideoWriter(tmp_path / "mute.mp4", (64, 64)) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    cases: list[tuple[dict, type[Exception], str]] = [
        ({"clip": voice}, MediaError, "is no video"),
        ({"clip": tmp_path / "mute.mp4"}, MediaError, "has no sound"),
        ({"prior": tmp_path / "none"}, MissingPart, "no generator at"),
        ({"steps": 0}, OptionError, "--steps is 0"),
        ({"tuning_steps": 0}, OptionError, "--tuning-steps is 0"),
        ({"wav2vec2": tmp_path}, MissingPart, "no wav2vec2 in"),
    ]
    for changes, kind, words in cases:
        with pytest.raises(kind, match=words):
            personalize(PersonalizeOptions(**({"clip": clip, "prior": prior, "out": out, "preset": "tiny"} | changes)))
    assert cli.main(["personalize", str(clip), str(clip), "--prior", str(prior), "-o", str(out)]) == 2
    assert "one video" in capsys.readouterr().err
    with pytest.raises(OptionError, match="--prior is missing"):
        personalize(PersonalizeOptions(clip=clip, out=out))
    assert not out.exists()


def test_a_video_without_a_face_says_so(prior: Path, voice: Path, tmp_path: Path) -> None:
    from triportrait.errors import EmptyMedia
    from triportrait.media.audio import read_audio

    path = tmp_path / "nobody.mp4"
    with VideoWriter(path, (64, 64), audio=read_audio(voice)) as writer:
        for _ in range(25):
            writer.write(np.full((64, 64, 3), 90, np.uint8))
    with pytest.raises(EmptyMedia, match="can be learned from .*face"):
        personalize(PersonalizeOptions(clip=path, prior=prior, out=tmp_path / "out", preset="tiny", device="cpu"))
    shutil.rmtree(tmp_path / "out")
