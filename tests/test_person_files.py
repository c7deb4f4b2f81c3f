"""Which of a person's videos are looked at, how much of each, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from triportrait import person_files
from triportrait.errors import MediaError
from triportrait.media.video import VideoReader, VideoWriter
from triportrait.person_files import takes_of


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three videos of 10, 20 and 15 frames; the header of those with ``unannounced`` in their name says no length, as browsers write."""

    class Reader(VideoReader):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            if "unannounced" in Path(path).name:
                self.seconds = 0.0
            if "short" in Path(path).name:
                self.seconds = 0.01

    monkeypatch.setattr(person_files, "VideoReader", Reader)
    found = []
    for name, count in (("unannounced.mp4", 10), ("b.mp4", 20), ("c.mp4", 15), ("short.mp4", 1)):
        found.append(tmp_path / name)
        with VideoWriter(found[-1], (64, 64)) as writer:
            for number in range(count):
                writer.write(np.full((64, 64, 3), 5 * number, np.uint8))
    return found


def counts(videos: list[Path], most: int) -> tuple[list[str], list[int]]:
    used, takes = takes_of(videos, most, None)
    assert [take.name for take in takes] == [f"'{path}'" for path in used]
    return [Path(path).name for path in used], [sum(1 for _ in take.read()) for take in takes]


def test_a_video_without_an_announced_length_takes_what_it_has(videos: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    assert counts(videos[:3], 100) == (["unannounced.mp4", "b.mp4", "c.mp4"], [10, 20, 15])
    assert not caplog.text


def test_what_is_not_looked_at_is_named(videos: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    assert counts(videos[:3], 25) == (["unannounced.mp4", "b.mp4"], [10, 15])
    assert "only the first 0.6 s of b.mp4" in caplog.text and "c.mp4 is not looked at" in caplog.text
    caplog.clear()
    assert counts(videos[:1], 5) == (["unannounced.mp4"], [5])
    assert "only the first 0.2 s of unannounced.mp4" in caplog.text


def test_a_video_shorter_than_a_frame_does_not_end_the_others(videos: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    assert counts([videos[3], videos[2]], 100) == (["c.mp4"], [15])
    assert "short.mp4 is shorter than a frame" in caplog.text
    with pytest.raises(MediaError, match=r"short.mp4' is shorter than a frame; give"):
        takes_of(videos[3:], 100, None)
