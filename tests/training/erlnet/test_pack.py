"""``triportrait data manner``: filmed, captured and synthetic people become clips with what is heard beside what is moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from motion.test_audio import babble
from triportrait.erlnet.hearing import Hearing
from triportrait.erlnet.parts import POSE, ROW
from triportrait.errors import EmptyMedia, MediaError, OptionError
from triportrait.motion.manner import MEASURES
from triportrait.training.erlnet.clips import read_manner_clips
from triportrait.training.erlnet.pack import drawn_style, pack_manners
from triportrait.training.options import MannerOptions
from triportrait.training.voice.capture import CONTROL_MAP
from triportrait.types import ARKIT_EXPRESSIONS

NAMES = sorted({control for row in CONTROL_MAP.values() for control in row})


def recordings(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        soundfile.write(folder / f"{number}.wav", babble(5.0, seed=number).samples, 16_000)
    return folder


def test_synthetic_people_say_recordings_each_in_a_manner_of_their_own(tmp_path: Path) -> None:
    options = MannerOptions(voices=(recordings(tmp_path / "voices", 2),), people=2)
    assert pack_manners(options, tmp_path / "people").made == 2
    clips = read_manner_clips([tmp_path / "people"])
    assert [clip.person for clip in clips] == ["synthetic_0_0"] * 2 + ["synthetic_0_1"] * 2
    for clip in clips:
        assert clip.source == "synthetic" and clip.motion.shape == (125, ROW)
        assert clip.heard is not None and clip.heard.shape == (125, Hearing().size)
    spreads = [np.concatenate([c.motion[:, POSE.columns] for c in pair]).std() for pair in (clips[:2], clips[2:])]
    assert abs(np.log(spreads[0] / spreads[1])) > 0.05


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    """What is there is kept, and the rest does not depend on it."""
    options, out = MannerOptions(voices=(recordings(tmp_path / "voices", 1),), people=2), tmp_path / "people"
    pack_manners(options, out)
    kept, again = out / "synthetic_0_0.npz", out / "synthetic_0_1.npz"
    before, whole = kept.stat().st_mtime_ns, read_manner_clips([again])
    again.unlink()
    pack_manners(options, out)
    assert kept.stat().st_mtime_ns == before
    assert np.array_equal(read_manner_clips([again])[0].motion, whole[0].motion)


def test_captured_lips_stay_and_the_rest_is_natural(tmp_path: Path) -> None:
    folder = tmp_path / "captured"
    folder.mkdir()
    for number, name in enumerate(("one", "two")):
        weights = np.full((180, len(NAMES)), 0.1, np.float16)
        weights[60:90, NAMES.index("mouth_pucker_l")] = 0.9
        soundfile.write(folder / f"{name}.flac", babble(6.0, seed=number).samples, 16_000)
        np.savez(folder / f"{name}.npz", weights=weights, names=NAMES)
    pack_manners(MannerOptions(captured=folder), tmp_path / "people")
    first, second = read_manner_clips([tmp_path / "people"])
    assert (first.held_out, second.held_out) == (False, True) and first.person == "captured"
    pucker = first.motion[:, ARKIT_EXPRESSIONS.index("mouthPucker")]
    assert pucker[55:70].mean() > pucker[:40].mean() + 0.2
    assert first.motion[:, POSE.columns].std() > 0.0


def test_videos_are_tracked_and_heard(clip: Path, tmp_path: Path) -> None:
    person = tmp_path / "videos" / "anna"
    person.mkdir(parents=True)
    (person / "one.mp4").write_bytes(clip.read_bytes())
    pack_manners(MannerOptions(videos=(tmp_path / "videos",)), tmp_path / "people")
    (found,) = read_manner_clips([tmp_path / "people"])
    assert found.person == "anna" and found.source == "filmed" and len(found) == 25 and found.heard is not None


def test_drawn_manners_differ_about_the_middle() -> None:
    random, middle = np.random.default_rng(0), np.zeros(len(MEASURES), np.float32)
    spreads = np.array(
        [np.log(style.manner.spread("yaw_spread")) for style in (drawn_style(random, middle) for _ in range(300)) if style.manner]
    )
    assert abs(spreads.mean()) < 0.1 and 0.4 < spreads.std() < 0.8


def test_what_makes_no_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="name --videos"):
        pack_manners(MannerOptions(), tmp_path / "people")
    with pytest.raises(MediaError, match="there is no folder"):
        pack_manners(MannerOptions(voices=(tmp_path / "none",)), tmp_path / "people")
    with pytest.raises(EmptyMedia, match="there is no recording"):
        pack_manners(MannerOptions(voices=(tmp_path,)), tmp_path / "people")
    assert not (tmp_path / "people").exists()
