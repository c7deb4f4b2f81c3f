"""Training clips survive their shards, are read frame by frame, and broken ones are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import webdataset

from triportrait.errors import EmptyMedia, MediaError
from triportrait.training.data.clips import ClipSet, TrainingClip, encode_clip, write_clips


def clip(seed: int, frames: int = 4, size: int = 24, sound: bool = True) -> TrainingClip:
    random = np.random.default_rng(seed)

    def picture(*shape: int) -> np.ndarray:
        # Smooth, so that JPEG keeps it.
        ramp = np.linspace(0, 255, size)[:, None] * random.uniform(0.3, 1) * np.ones(size)
        return np.broadcast_to(ramp.reshape(*[1] * (len(shape) - 3), size, size, 1), shape).astype(np.uint8)

    return TrainingClip(
        picture(frames, size, size, 3),
        random.integers(0, 256, (frames, size, size), np.uint8),
        picture(frames, size, size, 4),
        picture(size, size, 3),
        random.normal(size=5).astype(np.float32),
        random.random((frames, 7), np.float32),
        random.random((frames, 3), np.float32),
        random.random((frames, 3), np.float32),
        random.random((frames, 2), np.float32),
        random.random((frames, 478, 2), np.float32),
        25.0,
        "open",
        f"clip_{seed}",
        random.normal(size=(2 * frames, 6)).astype(np.float16) if sound else None,
        random.random(2 * frames, np.float32) if sound else None,
    )


def same(first: TrainingClip, second: TrainingClip) -> bool:
    one, two = first.to_arrays(), second.to_arrays()
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_a_shard_gives_back_what_was_put_in(tmp_path: Path) -> None:
    clips = [clip(2, sound=False), clip(0), clip(1, frames=3)]
    assert write_clips(tmp_path / "train-0.tar", clips, quality=None) == 3
    read = list(ClipSet([tmp_path]))
    assert [c.key for c in read] == ["clip_0", "clip_1", "clip_2"]
    assert all(same(a, b) for a, b in zip(read, sorted(clips, key=lambda c: c.key), strict=True))
    write_clips(tmp_path / "again.tar", clips, quality=None)
    assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "train-0.tar").read_bytes()


def test_jpeg_loses_little_and_mattes_nothing(tmp_path: Path) -> None:
    one = clip(3)
    write_clips(tmp_path / "a.tar", [one])
    (read,) = ClipSet([tmp_path / "a.tar"])
    assert np.abs(read.frames.astype(int) - one.frames).max() < 12
    assert np.array_equal(read.head_alpha, one.head_alpha) and np.array_equal(read.torso[..., 3], one.torso[..., 3])


def test_chosen_frames_are_those_of_the_whole(tmp_path: Path) -> None:
    one = clip(4, frames=6)
    write_clips(tmp_path / "a.tar", [one], quality=None)
    np.savez(tmp_path / "b.npz", **{**clip(5).to_arrays()})
    clips = ClipSet([tmp_path])
    assert clips.keys == ("clip_4", "clip_5") and clips.frames_of(0) == 6
    assert same(clips.read(0, [5, 1]), one.take([5, 1])) and same(clips.read(1, [0]), clip(5).take([0]))
    assert one.take([5, 1]).speech.tolist() == one.speech[[10, 11, 2, 3]].tolist()


def test_webdataset_reads_the_same_file(tmp_path: Path) -> None:
    one = clip(6)
    write_clips(tmp_path / "a.tar", [one])
    (sample,) = list(webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False, empty_check=False))
    members = encode_clip(one)
    assert sample["__key__"] == one.key and {name: sample[name] for name in members} == members


def test_splits_go_by_the_names_of_files(tmp_path: Path) -> None:
    for number, name in enumerate(("train-0", "val-0", "more")):
        write_clips(tmp_path / f"{name}.tar", [clip(number, sound=False)])
    assert ClipSet([tmp_path], "val").keys == ("clip_1",) and ClipSet([tmp_path], "train").keys == ("clip_0", "clip_2")


def test_what_is_no_clip_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(EmptyMedia, match="data prepare"):
        ClipSet([tmp_path])
    with pytest.raises(MediaError, match="does not exist"):
        ClipSet([tmp_path / "no"])
    (tmp_path / "x.tar").write_bytes(b"nonsense" * 200)
    with pytest.raises(MediaError, match=r"x\.tar"):
        ClipSet([tmp_path / "x.tar"])
    write_clips(tmp_path / "a.tar", [clip(1)])
    write_clips(tmp_path / "b.tar", [clip(1)])
    with pytest.raises(MediaError, match="unique"):
        ClipSet([tmp_path / "a.tar", tmp_path / "b.tar"])
    arrays = clip(1).to_arrays()
    with pytest.raises(MediaError, match="expression"):
        TrainingClip.from_arrays(arrays | {"expression": arrays["expression"][:-1]})
    with pytest.raises(MediaError, match="frames is float64"):
        TrainingClip.from_arrays(arrays | {"frames": arrays["frames"] / 255.0})
    with pytest.raises(MediaError, match="speech"):
        TrainingClip.from_arrays(arrays | {"speech": arrays["speech"][:-1]})
    data = bytearray((tmp_path / "a.tar").read_bytes())
    at = data.find(b"\xff\xd8")
    data[at : at + 60] = bytes(60)
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(MediaError, match="damaged"):
        _ = ClipSet([tmp_path / "a.tar"])[0]
