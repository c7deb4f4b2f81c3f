"""Appendix D.1: of the ten clips that begin with the photo's pose, one lends its head motion."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from triportrait.errors import OptionError
from triportrait.motion.head_motion import CANDIDATES, FirstPoses


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Twenty clips, whose content is their first yaw in degrees; the last one begins without a face."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.mp4").write_text("none" if number == 19 else str(4 * (19 - number) - 30), encoding="utf-8")
    return sorted(folder.iterdir())


class Measure:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, clip: Path) -> np.ndarray | None:
        self.asked.append(clip.name)
        text = clip.read_text(encoding="utf-8")
        return None if text == "none" else np.radians([0.0, float(text), 0.0])


def test_one_of_the_ten_nearest_first_poses_is_drawn_by_the_seed(clips: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    poses = FirstPoses.of(clips, Measure())
    assert "1 of 20 clips" in caplog.text and len(poses.paths) == 19
    own = np.radians([0.5, 11.0, -0.5])
    far = [abs(float(path.read_text(encoding="utf-8")) - 11.0) for path in poses.paths]
    expected = [poses.paths[i] for i in np.argsort(far, kind="stable")[:CANDIDATES]]
    assert poses.nearest(own) == expected and CANDIDATES == 10
    drawn = [poses.drawn(own, seed) for seed in range(300)]
    assert set(drawn) == set(expected) and drawn == [poses.drawn(own, seed) for seed in range(300)]
    counts = [drawn.count(path) for path in expected]
    assert min(counts) > 12, "each of the ten is as likely"
    assert {poses.drawn(own, (0, photo)) for photo in range(100)} == set(expected), "photos of one run draw anew"


def test_fewer_than_ten_clips_are_all_candidates(clips: list[Path]) -> None:
    assert set(FirstPoses.of(clips[:3], Measure()).nearest(np.zeros(3))) == set(clips[:3])


def test_the_index_is_measured_once(clips: list[Path], tmp_path: Path) -> None:
    index, first, again = tmp_path / "cache" / "poses.json", Measure(), Measure()
    told: list[tuple[str, int, int]] = []
    poses = FirstPoses.of(clips, first, index, "1", lambda *seen: told.append(seen))
    assert len(first.asked) == 20 and told[-1] == ("poses", 20, 20)
    known = FirstPoses.of(clips, again, index, "1")
    assert again.asked == [] and known.paths == poses.paths
    np.testing.assert_array_equal(known.rotation_rad, poses.rotation_rad)
    clips[4].write_text("5", encoding="utf-8")
    os.utime(clips[4], ns=(1, 1))
    changed = Measure()
    assert np.degrees(FirstPoses.of(clips, changed, index, "1").rotation_rad[4, 1]) == pytest.approx(5.0)
    assert changed.asked == ["04.mp4"]
    other = Measure()
    FirstPoses.of(clips[1:], other, index, "2")
    assert len(other.asked) == 19, "other code measures anew"
    assert "00.mp4" not in json.loads(index.read_text(encoding="utf-8"))["clips"]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": "triportrait-first-poses-1", "key": "1", "clips": {"00.mp4": {"rotation_rad": [1]}}}']
)
def test_a_damaged_index_is_made_anew(clips: list[Path], tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    index = tmp_path / "poses.json"
    index.write_text(content, encoding="utf-8")
    measure = Measure()
    assert len(FirstPoses.of(clips, measure, index, "1").paths) == 19 and len(measure.asked) == 20
    assert "damaged" in caplog.text


def test_an_interrupted_run_keeps_what_it_measured(clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triportrait.motion.head_motion._SAVE_EVERY", 5)
    index, measure = tmp_path / "poses.json", Measure()

    def stops(clip: Path) -> np.ndarray | None:
        if len(measure.asked) == 12:
            raise KeyboardInterrupt
        return measure(clip)

    with pytest.raises(KeyboardInterrupt):
        FirstPoses.of(clips, stops, index, "1")
    again = Measure()
    FirstPoses.of(clips, again, index, "1")
    assert len(again.asked) == 10


def test_a_folder_without_faces_is_refused(clips: list[Path]) -> None:
    with pytest.raises(OptionError, match="begin with a face"):
        FirstPoses.of(clips[-1:], Measure())
