"""Running over clips: processes give the same report, what was tracked is remembered, plots and options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evaluation.test_reenact import FRAMES, Fakes, load, options, picture
from triportrait.errors import MediaError, OptionError, TriPortraitError
from triportrait.evaluation import running
from triportrait.evaluation.cache import TrackCache
from triportrait.evaluation.plots import write_bars, write_rotation
from triportrait.evaluation.reenact import run_reenact
from triportrait.evaluation.report import MAIN_COLUMNS
from triportrait.evaluation.running import Item, run_items


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(str(FRAMES).encode())
    (folder / "b.mp4").write_bytes(b"21")
    return folder


def bytes_of(item: Item) -> dict:
    """An entry made in another process."""
    if item.name == "c":
        raise MediaError("c is broken; record it again.")
    return {"status": "ok", "value": item.files[0].read_text()}


def test_processes_give_what_one_gives_in_the_items_order(tmp_path):
    items = []
    for name in "abc":
        (tmp_path / name).write_text(name * 3)
        items.append(Item(name, (tmp_path / name,)))
    reports = []
    for jobs in (1, 3):
        report = {"clips": {}, "options": {"clips": "here"}, "complete": False}
        saved = []
        run_items(report, items, lambda item, tell: bytes_of(item), bytes_of, lambda r=report, s=saved: s.append(len(r["clips"])), jobs)
        reports.append(report)
        assert saved == [0, 1, 2, 3, 3] and list(report["clips"]) == ["a", "b", "c"]
    assert reports[0] == reports[1] and reports[0]["complete"]
    assert reports[1]["clips"]["c"] == {"status": "failed", "reason": "c is broken; record it again.", "file_bytes": 3}


def test_what_was_tracked_is_remembered_until_a_file_changes(clips, tmp_path):
    fakes = Fakes()
    driven: list[int] = []

    def drive(portrait, frames, fps):
        driven.append(1)
        return fakes.drive(portrait, frames, fps)

    tools = replace(fakes.tools(), drive=drive)
    wanted = options(clips, "still", cache=tmp_path / "kept")
    first = run_reenact(wanted, tools=tools)
    tracked = list(fakes.tracked)
    again = run_reenact(wanted, tools=tools)
    assert len(driven) == 2, "the second run drives nothing anew"
    assert len(fakes.tracked) - len(tracked) == 4, "only the avatar's pictures are tracked again"
    plain = run_reenact(replace(wanted, cache=None), tools=tools)
    for report in (again, plain):
        assert report["mean"] == first["mean"]
    (clips / "b.mp4").write_bytes(b"021")
    run_reenact(wanted, tools=tools)
    assert len(driven) == 5, "two plain ones and the changed clip"
    for path in (tmp_path / "kept").iterdir():
        path.write_bytes(b"damaged")
    assert run_reenact(wanted, tools=tools)["mean"] == first["mean"]


def test_a_cache_key_holds_the_code(clips, tmp_path, monkeypatch):
    fakes = Fakes()
    portrait = fakes.prepare_portrait(picture(0))
    cache = TrackCache(tmp_path / "kept")
    frames = [picture(i) for i in range(3)]
    made: list[int] = []

    def compute(given):
        made.append(1)
        return fakes.track(given)

    for _ in range(2):
        found = cache.track("x", clips / "a.mp4", portrait, iter(frames), compute)
        assert np.array_equal(found.landmarks, fakes.track(frames).landmarks)
    monkeypatch.setattr("triportrait.evaluation.cache._code", lambda: b"other")
    cache.track("x", clips / "a.mp4", portrait, iter(frames), compute)
    assert len(made) == 2


def test_reenact_writes_plots(clips):
    from PIL import Image

    wanted = options(clips, "still", "follow", plots=True)
    report = run_reenact(wanted, tools=Fakes().tools())
    for name in ("report_bars.png", "report_rotation.png"):
        image = Image.open(wanted.out.parent / name)
        assert min(image.size) > 300 and len(image.getcolors(1 << 20)) > 4
    nothing = {"x": {"metrics": {}, "frames_by_rotation": {}}}
    assert write_bars(wanted.out, nothing, MAIN_COLUMNS) is None and write_rotation(wanted.out, nothing) is None
    assert load(wanted.out)["mean"] == report["mean"]
    row = report["mean"]["still"]
    assert row["metrics"]["fid"] is None and "--metric-weights" in row["reasons"]["fid"]
    assert row["metrics"]["csim"] is None and "--metric-weights" in row["reasons"]["csim"]
    assert "CSIM is not measured" in wanted.out.with_suffix(".md").read_text()


def test_fid_is_pooled_over_the_clips(clips, monkeypatch):
    from triportrait.evaluation import learned, learned_rows

    networks = running.networks_of(None)

    def features(network, pictures):
        return np.array([[picture.mean(), picture.std()] for picture in pictures])

    monkeypatch.setattr(learned_rows.learned, "inception_features", features)
    monkeypatch.setitem(networks.__dict__, "inception", object())
    wanted = options(clips, "still", "follow")
    report = run_reenact(wanted, tools=Fakes().tools())
    monkeypatch.undo()
    assert report["mean"]["follow"]["metrics"]["fid"] == pytest.approx(0, abs=1e-6)
    assert report["mean"]["follow"]["fid_pictures"] == [13, 13] and "fid" not in report["mean"]["follow"]["reasons"]
    entry = report["clips"]["a.mp4"]["avatars"]["follow"]
    assert entry["metrics"]["fid"] is None and "all clips together" in entry["reasons"]["fid"]
    assert learned.frechet_distance(np.zeros((3, 2)), np.ones((3, 2))) == pytest.approx(2)


def test_wrong_options_are_one_sentence(clips):
    for wrong in ({"jobs": 0}, {"jobs": 100}):
        with pytest.raises(OptionError, match="--jobs"):
            replace(options(clips), **wrong)
    with pytest.raises(TriPortraitError, match="not a folder"):
        run_reenact(options(clips, metric_weights=clips / "a.mp4"), tools=Fakes().tools())
