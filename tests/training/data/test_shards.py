"""The shard folder: same clips same bytes, going on after interruptions, and finding what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from triportrait.errors import MediaError, OptionError, OutputError
from triportrait.training.data.clip import ClipFacts, PrepareSettings
from triportrait.training.data.clips import ClipSet, TrainingClip, encode_clip
from triportrait.training.data.shards import Group, ShardFolder, grouped, verify
from triportrait.training.data.sources import VideoSource
from triportrait.training.data.work import Outcome, sample_bytes

SETTINGS = PrepareSettings(size_px=64)


def made_up_clip(key: str, frames: int = 2) -> TrainingClip:
    random = np.random.default_rng(sum(key.encode()))

    def picture(*shape: int) -> np.ndarray:
        return random.integers(0, 255, shape, np.uint8)

    def numbers(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    return TrainingClip(
        picture(frames, 16, 16, 3),
        picture(frames, 16, 16),
        picture(frames, 16, 16, 4),
        picture(16, 16, 3),
        numbers(80),
        numbers(frames, 44),
        numbers(frames, 3),
        numbers(frames, 3),
        numbers(frames, 2),
        numbers(frames, 478, 2),
        25.0,
        "open",
        key,
    )


@pytest.fixture
def sources(tmp_path: Path) -> list[VideoSource]:
    found = []
    for number in range(7):
        path = tmp_path / f"v{number}.mp4"
        path.write_bytes(b"video %d" % number)
        found.append(VideoSource(f"v{number}", str(path), path.name, path.name, "val" if number == 5 else "train"))
    return found


def outcome_of(source: VideoSource, failing: str = "") -> tuple[Outcome, bytes]:
    if source.key == failing:
        return Outcome(source, "E_NO_FACE", "no frame shows a face"), b""
    sample = sample_bytes(source, encode_clip(made_up_clip(source.key)), SETTINGS)
    return Outcome(source, facts=ClipFacts(frames=2), bytes=len(sample)), sample


def write(
    out: Path, sources: list[VideoSource], *, order: int = 1, per_shard: int = 3, shard_bytes: int = 1 << 20, failing: str = ""
) -> dict:
    with ShardFolder(out, SETTINGS, shard_bytes) as folder:
        groups = grouped(sources, per_shard)
        complete = folder.reopen(groups)
        for group in groups[::order]:
            if group.name in complete:
                continue
            outcomes = []
            for source in group.sources[::order]:
                if (outcome := folder.outcome_of(source)) is None:
                    outcome, sample = outcome_of(source, failing)
                    folder.commit(outcome, sample)
                outcomes.append(outcome)
            folder.complete(group, outcomes)
        index = folder.finish(groups)
        folder.write_report()
    return index


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name != "report.csv"}


def test_the_order_of_work_leaves_no_trace(tmp_path: Path, sources: list[VideoSource]) -> None:
    index = write(tmp_path / "a", sources, failing="v2")
    write(tmp_path / "b", sources, order=-1, failing="v2")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert {shard["name"]: shard["clips"] for shard in index["shards"]} == {"train-00000.tar": 2, "train-00001.tar": 3, "val-00000.tar": 1}
    assert index["failed"] == 1 and verify(tmp_path / "a") == []
    lines = (tmp_path / "a" / "report.csv").read_text().splitlines()
    assert len(lines) == 8 and "v2,failed,E_NO_FACE,no frame shows a face" in "\n".join(lines)


def test_shards_are_read_as_clips(tmp_path: Path, sources: list[VideoSource]) -> None:
    write(tmp_path / "out", sources)
    train, val = ClipSet([tmp_path / "out"], "train"), ClipSet([tmp_path / "out"], "val")
    assert train.keys == ("v0", "v1", "v2", "v3", "v4", "v6") and val.keys == ("v5",)
    assert np.array_equal(val[0].head_alpha, made_up_clip("v5").head_alpha)


def test_webdataset_reads_the_same_files(tmp_path: Path, sources: list[VideoSource]) -> None:
    webdataset = pytest.importorskip("webdataset")
    write(tmp_path / "out", sources)
    samples = list(webdataset.WebDataset(str(tmp_path / "out" / "train-00000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["v0", "v1", "v2"]
    assert json.loads(samples[0]["source.json"])["name"] == "v0.mp4" and samples[0]["frame.00001.jpg"]


def test_large_groups_become_several_shards(tmp_path: Path, sources: list[VideoSource]) -> None:
    size = outcome_of(sources[0])[0].bytes
    index = write(tmp_path / "out", sources, per_shard=5, shard_bytes=2 * size + 100)
    assert [shard["name"] for shard in index["shards"] if shard["name"].startswith("train-00000")] == [
        "train-00000.tar",
        "train-00000-001.tar",
        "train-00000-002.tar",
    ]
    assert verify(tmp_path / "out") == []


def test_further_videos_reuse_what_is_packed(tmp_path: Path, sources: list[VideoSource], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "out", [*sources[:2], *sources[3:]])
    write(tmp_path / "fresh", sources)
    made = []
    monkeypatch.setitem(globals(), "outcome_of", lambda source, failing, real=outcome_of: (made.append(source.key), real(source))[1])
    write(tmp_path / "out", sources)
    assert made == ["v2"]
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_changed_video_is_done_again(tmp_path: Path, sources: list[VideoSource], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "out", sources)
    Path(sources[1].path).write_bytes(b"another one")
    made = []
    monkeypatch.setitem(globals(), "outcome_of", lambda source, failing, real=outcome_of: (made.append(source.key), real(source))[1])
    write(tmp_path / "out", sources)
    assert made == ["v1"]


def test_interrupted_between_sample_and_shard(tmp_path: Path, sources: list[VideoSource]) -> None:
    group = Group("train-00000", tuple(sources[:3]))
    with ShardFolder(tmp_path / "out", SETTINGS, 1 << 20) as folder:
        folder.commit(*outcome_of(sources[0]))
        assert folder.outcome_of(sources[0]).prepared and folder.outcome_of(sources[1]) is None
        # A record whose sample is cut off does not count.
        folder.commit(*outcome_of(sources[1]))
        sample = folder.state / "samples" / "v1.sample"
        sample.write_bytes(sample.read_bytes()[:-1])
        assert folder.outcome_of(sources[1]) is None
        folder.commit(*outcome_of(sources[2], failing="v2"))
        assert folder.outcome_of(sources[2]).code == "E_NO_FACE"
        assert folder.outcome_of(sources[2], retry_failed=True) is None
        assert folder.reopen([group]) == set()


def test_settings_and_runs_do_not_mix(tmp_path: Path, sources: list[VideoSource]) -> None:
    write(tmp_path / "out", sources)
    with pytest.raises(OptionError, match=r"begun with other settings \(size_px\)"):
        ShardFolder(tmp_path / "out", replace(SETTINGS, size_px=128), 1 << 20)
    with ShardFolder(tmp_path / "out", SETTINGS, 1 << 20):
        with pytest.raises(OutputError, match="another run is writing"):
            ShardFolder(tmp_path / "out", SETTINGS, 1 << 20)


def test_verify_finds_what_is_wrong(tmp_path: Path, sources: list[VideoSource]) -> None:
    out = tmp_path / "out"
    with pytest.raises(MediaError, match="no index"):
        verify(tmp_path)
    write(out, sources)
    shard = out / "train-00001.tar"
    data = bytearray(shard.read_bytes())
    data[700] ^= 1
    shard.write_bytes(data)
    assert verify(out) == ["train-00001.tar has changed (its SHA-256 differs)"]
    shard.write_bytes(data[:-512])
    assert len(verify(out)) == 1 and "bytes, expected" in verify(out)[0]
    shard.rename(out / "train-00009.tar")
    assert verify(out) == ["train-00009.tar is not in the index", "train-00001.tar is missing"]
