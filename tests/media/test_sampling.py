"""Samples of videos, animations and pictures: from the whole length, bounded, and in order."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from triportrait.errors import MediaError
from triportrait.media import video as video_module
from triportrait.media.sampling import sampled_frames

SIZE = (64, 48)


def grey(image: np.ndarray) -> int:
    return round(float(image.mean()))


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 frames that brighten from 0 to 200, with a key frame every 250."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10", "preset": "ultrafast", "g": "250", "sc_threshold": "0"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for index in range(600):
            picture = np.full((SIZE[1], SIZE[0], 3), index // 3, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_short_video_is_given_whole(long_clip: Path) -> None:
    frames = list(sampled_frames(long_clip, 600))
    assert len(frames) == 600 and frames[0].shape == (48, 64, 3)


def test_of_a_long_video_runs_are_taken_from_the_whole_length(long_clip: Path) -> None:
    levels = [grey(frame) for frame in sampled_frames(long_clip, 60)]
    assert len(levels) == 60 and levels == sorted(levels)
    np.testing.assert_allclose(levels[::10], np.arange(0, 200, 200 / 6), atol=3)


def test_of_a_very_long_video_runs_begin_at_key_frames(long_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With four places and three key frames, the place without one of its own goes on after the run before; no frame comes twice."""
    monkeypatch.setattr(video_module, "_MOST_DECODED_PIXELS", 0)
    levels = [grey(frame) for frame in sampled_frames(long_clip, 40)]
    assert len(levels) == 40 and levels == sorted(levels)
    np.testing.assert_allclose(levels[::10], [0, 3, 83, 87], atol=2)


def test_animations_and_pictures(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", SIZE, (level, level, level)) for level in range(0, 100, 10)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=40)
    assert [grey(frame) for frame in sampled_frames(tmp_path / "a.gif", 10)] == list(range(0, 100, 10))
    assert [grey(frame) for frame in sampled_frames(tmp_path / "a.gif", 5)] == [0, 20, 40, 60, 80]
    assert len(list(sampled_frames(tmp_path / "a.gif", 4))) == 4
    for name in ("one.png", "one.jpg", "one.gif"):
        pictures[5].save(tmp_path / name)
        (frame,) = sampled_frames(tmp_path / name, 10)
        assert frame.shape == (48, 64, 3) and abs(grey(frame) - 50) <= 1
    Image.new("RGBA", SIZE, (0, 0, 0, 0)).save(tmp_path / "clear.png")
    (frame,) = sampled_frames(tmp_path / "clear.png", 10)
    assert grey(frame) == 128


def test_what_has_no_pictures_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "cut.gif").write_bytes(b"GIF89a\x40\x00\x30\x00")
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("cut.gif", "text.mp4", "missing.mp4"):
        with pytest.raises(MediaError, match=name):
            list(sampled_frames(tmp_path / name, 10))
