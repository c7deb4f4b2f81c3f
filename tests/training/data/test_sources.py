"""Finding videos: the published layouts, keys, splits."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triportrait.errors import EmptyMedia, MediaError
from triportrait.training.data.sources import VideoSource, find_videos, key_of, recognise, split_of


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def test_a_folder_gives_every_video_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "b/c d.MOV", "b/.hidden/e.mp4", "b/._f.mp4", "notes.txt", "a.webm")
    found = {source.name: source for source in find_videos(tmp_path)}
    assert set(found) == {"a.mp4", "b/c d.MOV", "a.webm"}
    assert len({source.key for source in found.values()}) == 3
    assert find_videos(tmp_path / "a.mp4")[0].key == "a"


def test_celebv_hq_as_published(tmp_path: Path) -> None:
    clips = {
        "M2Ohb0FAaJU_1": {
            "ytb_id": "M2Ohb0FAaJU",
            "duration": {"start_sec": 81.62, "end_sec": 86.17},
            "bbox": {"top": 0.0, "bottom": 0.8815, "left": 0.1964, "right": 0.6922},
            "version": "v0.1",
        },
        "_0tf2n3rlJU_0": {
            "ytb_id": "_0tf2n3rlJU",
            "duration": {"start_sec": 52.72, "end_sec": 56.1},
            "bbox": {"top": 0.0, "bottom": 0.8407, "left": 0.5271, "right": 1.0},
            "version": "v0.1",
        },
        "gone_0": {
            "ytb_id": "gone",
            "duration": {"start_sec": 0, "end_sec": 1},
            "bbox": {"top": 0, "bottom": 1, "left": 0, "right": 1},
        },
    }
    (tmp_path / "celebvhq_info.json").write_text(json.dumps({"meta_info": {}, "clips": clips}))
    touch(tmp_path, "35666/M2Ohb0FAaJU_1.mp4", "raw/_0tf2n3rlJU.mp4", "raw/M2Ohb0FAaJU.mp4")
    assert recognise(tmp_path) == "celebv_hq"
    found = {source.name: source for source in find_videos(tmp_path)}
    assert set(found) == {"M2Ohb0FAaJU_1.mp4", "_0tf2n3rlJU_0.mp4"}
    processed, raw = found["M2Ohb0FAaJU_1.mp4"], found["_0tf2n3rlJU_0.mp4"]
    assert (processed.box, processed.start_s, processed.seconds, processed.person) == (None, 0.0, None, "M2Ohb0FAaJU")
    assert raw.path.endswith("raw/_0tf2n3rlJU.mp4") and raw.start_s == 52.72 and raw.seconds == pytest.approx(3.38)
    assert raw.box == pytest.approx((0.5071, 0.0, 1.0, 0.8607))
    assert processed.split == split_of("M2Ohb0FAaJU")
    (tmp_path / "celebvhq_info.json").write_text('{"clips": {"a": {}}}')
    with pytest.raises(MediaError, match="is not CelebV-HQ's index"):
        find_videos(tmp_path)


def test_talkinghead_1kh_as_published(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/cropped_clips/3x-V_EpZqWc_0003_S0_E112_L504_T44_R914_B454.mp4",
        "val/cropped_clips/--bTtH_c2bM_0005_S10_E99_L1_T2_R3_B4.mp4",
        "train/1min_clips/3x-V_EpZqWc_0003.mp4",
    )
    assert recognise(tmp_path) == "talkinghead_1kh"
    found = {source.person: source for source in find_videos(tmp_path)}
    assert {person: source.split for person, source in found.items()} == {"3x-V_EpZqWc": "train", "--bTtH_c2bM": "val"}
    assert find_videos(tmp_path / "val" / "cropped_clips", "talkinghead_1kh")[0].person == "--bTtH_c2bM"


def test_voxceleb2_as_published(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4",
        "dev/mp4/id00012/21Uxsk56VDQ/00002.mp4",
        "dev/aac/id00012/21Uxsk56VDQ/00002.m4a",
        "test/mp4/id00017/01dfn2spqyE/00001.mp4",
    )
    assert recognise(tmp_path) == "voxceleb2"
    found = {source.key: source for source in find_videos(tmp_path)}
    assert {key: source.split for key, source in found.items()} == {
        "id00012-21Uxsk56VDQ-00001": split_of("id00012"),
        "id00012-21Uxsk56VDQ-00002": split_of("id00012"),
        "id00017-01dfn2spqyE-00001": "test",
    }
    assert found["id00012-21Uxsk56VDQ-00001"].person == "id00012" and found["id00012-21Uxsk56VDQ-00001"].sound is None
    assert found["id00012-21Uxsk56VDQ-00002"].sound == str(tmp_path / "dev/aac/id00012/21Uxsk56VDQ/00002.m4a")


def test_nothing_to_find_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="does not exist"):
        find_videos(tmp_path / "nowhere")
    with pytest.raises(EmptyMedia, match="holds no video"):
        find_videos(tmp_path)
    touch(tmp_path, "a.mp4")
    with pytest.raises(EmptyMedia, match="--layout folder"):
        find_videos(tmp_path, "voxceleb2")


@given(st.sets(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=120), min_size=2, max_size=8))
def test_keys_are_plain_short_and_unique(names: set[str]) -> None:
    keys = {key_of(name) for name in names}
    assert len(keys) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_\-]{1,64}", key) for key in keys)


def test_pieces_have_keys_that_no_file_can_have() -> None:
    source = VideoSource("a-b", "/x/a/b.mp4", "a/b.mp4", "p", "train", start_s=10.0)
    piece = source.piece(3, 12.0, 4.0)
    assert (piece.key, piece.start_s, piece.seconds) == ("a-b--p0003", 22.0, 4.0)
    assert key_of("a/b--p0003") != piece.key
    assert VideoSource.from_dict(json.loads(json.dumps(piece.as_dict()))) == piece


def test_about_a_tenth_of_the_people_is_kept_for_validation() -> None:
    share = sum(split_of(f"id{number:05d}") == "val" for number in range(2000)) / 2000
    assert 0.08 < share < 0.12
