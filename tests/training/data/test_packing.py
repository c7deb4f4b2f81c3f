"""``triportrait data views | pairs | mouths | people``: what they pack is what training reads."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.oneshot.test_stage import ball_views
from triportrait.cli import main
from triportrait.errors import EmptyMedia, MediaError, OptionError, OutputError
from triportrait.face.cover_network import load_cover_network
from triportrait.media.portrait_folders import portraits_of
from triportrait.synth.lifted_views import read_split, shards_of
from triportrait.training.coverings import read_lower_faces
from triportrait.training.data import coverings, mouths, pairs, parts, synthetic, views
from triportrait.training.data.clips import ClipSet
from triportrait.training.data.parts import PartsFolder, read_labelled
from triportrait.training.oneshot.mouth_painter import read_windows
from triportrait.training.oneshot.views import read_views
from triportrait.training.options import CoveringsOptions, MouthsOptions, PairsOptions, PartsOptions, PeopleOptions, ViewsOptions


@pytest.fixture(scope="module")
def portraits(astronaut: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph, and a wall that shows nobody."""
    folder = tmp_path_factory.mktemp("portraits")
    Image.fromarray(astronaut).save(folder / "a.png")
    Image.fromarray(np.full((256, 256, 3), 90, np.uint8)).save(folder / "wall.png")
    return folder


def test_portraits_are_split_by_their_index_or_by_name(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02d}.jpg").touch()
    train, val = (portraits_of(tmp_path, split) for split in ("train", "val"))
    assert [path.stem for path in val] == ["09", "19"] and len(train) == 18 and not set(train) & set(val)
    (tmp_path / "index.csv").write_text("file,split,grey\n00.jpg,train,0\n01.jpg,train,1\n02.jpg,val,0\n")
    assert [path.stem for path in portraits_of(tmp_path, "train")] == ["00", "01"]
    assert [path.stem for path in portraits_of(tmp_path, "train", colour=True)] == ["00"]
    (tmp_path / "index.csv").write_text("name\n00.jpg\n")
    with pytest.raises(MediaError, match="file and split"):
        portraits_of(tmp_path, "train")
    (tmp_path / "index.csv").write_text("file,split\n")
    with pytest.raises(EmptyMedia, match="'val'"):
        portraits_of(tmp_path, "val")
    with pytest.raises(MediaError, match="no folder"):
        portraits_of(tmp_path / "none", "val")


def test_views_of_a_portrait_are_training_rows(portraits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["data", "views", "--portraits", str(portraits), "--views", "1", "-o", str(tmp_path / "views")]
    assert main(line) == 3  # the wall is left out
    assert "1 sources could not be used" in capsys.readouterr().err
    (row,) = read_split(tmp_path / "views", "train")
    assert row.name == "a.png" and row.views.shape[0] == 2 and len(read_views(tmp_path / "views", "train")) == 1
    with pytest.raises(OptionError, match="--procedural"):
        views.pack_views(ViewsOptions(), tmp_path)
    with pytest.raises(MediaError, match="makehuman"):
        views.pack_views(ViewsOptions(procedural=portraits), tmp_path)


def test_shards_of_later_runs_join_those_of_earlier_ones(tmp_path: Path) -> None:
    rows = [ball_views(seed) for seed in range(3)]
    for prefix, count in (("train_00000", 3), ("train_00003", 1), ("train_00000", 2)):
        shards = views.ViewShards(tmp_path, "train", prefix, 2, {})
        for row in rows[:count]:
            shards.add([row])
        shards.flush()
    assert dict(shards_of(tmp_path, "train")) == {"train_00003_000.npz": 1, "train_00000_000.npz": 2}
    assert len(list(read_split(tmp_path, "train"))) == 3


def test_lower_faces_of_a_portrait_are_bare_and_covered(portraits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "faces.npz"
    assert main(["data", "coverings", "--portraits", str(portraits), "-o", str(out)]) == 3  # the wall is left out
    assert "2 lower faces" in capsys.readouterr().out
    (bare, hidden), kinds = read_lower_faces([out])
    assert kinds[0] == coverings.BARE and kinds[1] != coverings.BARE
    assert float((bare - hidden).abs().mean()) > 0.2, "something was painted"
    assert float((bare[0] - bare[1]).abs().mean()) > 0.01, "landmarks beside the truth"
    with torch.inference_mode():
        logits = load_cover_network()(torch.stack([bare[0], hidden[0]]))
    assert logits[0] < 0 < logits[1]
    with pytest.raises(OptionError, match="--portraits"):
        coverings.pack_coverings(CoveringsOptions(), out)
    with pytest.raises(OutputError, match="npz"):
        coverings.pack_coverings(CoveringsOptions(portraits=portraits), tmp_path / "faces.npy")


def test_pixels_of_portraits_and_of_synthetic_people_are_labelled(portraits: Path, shared: Path, tmp_path: Path) -> None:
    line = [
        "data",
        "parts",
        "--portraits",
        str(portraits),
        "--procedural",
        str(shared / "data"),
        "--people",
        "1",
        "-o",
        str(tmp_path / "p"),
    ]
    assert main(line) == 3  # the wall is left out
    folder = PartsFolder.of([tmp_path / "p"])
    (photo,), (person,) = ([read_labelled(file) for file in files] for files in (folder.real, folder.synthetic))
    assert person.exact and not photo.exact
    for labelled in (photo, person):
        face = labelled.hull > 0.5
        assert labelled.skin[face].mean() > 0.8 and labelled.alpha[face].mean() > 0.97
        assert labelled.alpha[:8].mean() < 0.5 and 0.1 < labelled.alpha.mean() < 0.9
        seen = labelled.alpha[..., None] * labelled.colours + (1 - labelled.alpha[..., None]) * labelled.scene
        assert np.abs(seen - labelled.image).mean() < 4, "the person before their scene is the picture"
    assert (person.hair[person.skin < 0.1] > 0.9).any() and not photo.hair.any()
    # Neither pictures of one name nor the two splits are taken for each other.
    assert sorted(file.name[:21] for file in (tmp_path / "p").iterdir())[1] == "synthetic_train_0_000"
    assert folder.real[0].name.startswith("portrait_a_")
    # Labels that are there are kept.
    before = folder.real[0].stat().st_mtime_ns
    assert main(line) == 3 and folder.real[0].stat().st_mtime_ns == before
    with pytest.raises(OptionError, match="--procedural"):
        parts.pack_parts(PartsOptions(), tmp_path)
    with pytest.raises(OptionError, match="--limit"):
        parts.pack_parts(PartsOptions(portraits=portraits, limit=0), tmp_path)


def test_windows_of_a_portrait_are_training_windows(portraits: Path, tmp_path: Path) -> None:
    out = tmp_path / "mouths.npz"
    result = mouths.pack_mouths(MouthsOptions(portraits=portraits, closed=1.0), out)
    windows, real = read_windows([out])
    assert (len(windows), result.left_out) == (result.made, 1) and 1 <= len(windows) <= 2 and not real.any()
    # What was drawn resembles what should have been.
    drawn, truth = windows[:, :3].float(), windows[:, 12:].float()
    assert float((drawn - truth).abs().mean()) < 0.7 * float((drawn - truth.flip(-2)).abs().mean())
    with pytest.raises(OptionError, match="--pairs"):
        mouths.pack_mouths(MouthsOptions(), out)


def test_people_are_clips(portraits: Path, tmp_path: Path) -> None:
    result = synthetic.pack_people(PeopleOptions(portraits=portraits, clips=2, frames=2, size=128), tmp_path / "people")
    assert (result.made, result.left_out) == (1, 1)
    (clip,) = ClipSet([tmp_path / "people"])
    assert clip.frames.shape == (2, 128, 128, 3) and clip.head_alpha.max() == 255
    with pytest.raises(OptionError, match="--portraits"):
        synthetic.pack_people(PeopleOptions(), tmp_path)


def test_pairs_of_a_real_clip_are_training_rows(shared: Path, tmp_path: Path) -> None:
    source = next((shared / "data" / "pairs").glob("grid_*.mp4"))
    (tmp_path / "videos").mkdir()
    shutil.copy(source, tmp_path / "videos" / "a.mp4")
    (tmp_path / "videos" / "b.mp4").write_bytes(b"no video")
    result = pairs.pack_pairs(PairsOptions(videos=tmp_path / "videos", sources=1, views=1), tmp_path / "pairs")
    assert (result.made, result.left_out) == (1, 1)
    (row,) = read_split(tmp_path / "pairs", "moving")
    assert row.offset is not None and row.views.shape[0] == 2
    with pytest.raises(OptionError, match="--clips"):
        pairs.pack_pairs(PairsOptions(), tmp_path)
    with pytest.raises(EmptyMedia, match="no .mp4"):
        pairs.pack_pairs(PairsOptions(videos=tmp_path / "pairs"), tmp_path / "more")
