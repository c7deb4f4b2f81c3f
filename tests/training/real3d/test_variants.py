"""Variants of the paper's Table 4 and of its text: each trains by name, its file alone is animated, and it does what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from triportrait.errors import OptionError
from triportrait.face.open_head import OpenHead
from triportrait.model import build_model
from triportrait.real3d.head_torso_background import HtbSuperResolution
from triportrait.real3d.networks import build, tiny
from triportrait.real3d.variants import VARIANTS
from triportrait.training import run_folder
from triportrait.training.command import MODELS, build_stage, recipe_of, run_training
from triportrait.training.data.clips import ClipSet
from triportrait.training.options import TrainOptions
from triportrait.training.real3d.examples import PairOptions, clip_row, numpy_generator
from triportrait.types import PreparedPortrait

DRAWING = ("image_to_plane", "motion_adapter", "torso")


def options(shards: Path, out: Path, stage: str, variant: str | None, start: Path | None = None, **more) -> TrainOptions:  # noqa: ANN003
    given = {"preset": "tiny", "steps": 4, "device": "cpu", "settings": ("validate_every=1000",)} | more
    return TrainOptions(model=f"real3d.{stage}", data=(shards,), out=out, variant=variant, start=start, **given)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty runs need no drawing of their losses, which takes longer than their four steps."""
    monkeypatch.setattr(run_folder, "plot_curve", lambda *_: None)


@pytest.fixture(scope="module")
def whole(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first two stages of the whole system, one step each: what most variants begin with."""
    folder = tmp_path_factory.mktemp("whole")
    assert run_training(options(shards, folder / "image_to_plane", "image_to_plane", None, steps=1)).finished
    start = folder / "image_to_plane"
    assert run_training(options(shards, folder / "motion_adapter", "motion_adapter", None, start, steps=1)).finished
    return folder


def built(shards: Path, stage: str, variant: str | None, start: Path | None = None):  # noqa: ANN201
    """A stage that has not learned anything, as the command makes it."""
    given = options(shards, Path("unused"), stage, variant, start)
    return build_stage(given, recipe_of(given), "cpu")


def scene_network(name: str | None) -> HtbSuperResolution:
    torch.manual_seed(0)
    sizes = tiny() if name is None else VARIANTS[name].networks(tiny())
    return build(sizes, ["htb_super_resolution"])["htb_super_resolution"].eval()


@torch.no_grad()
def drawn(network: HtbSuperResolution, **changes: torch.Tensor) -> torch.Tensor:
    """A picture of made-up layers, some of them changed."""
    random = torch.Generator().manual_seed(3)
    layers = {name: torch.rand(1, 3, 64, 64, generator=random) * 2 - 1 for name in ("torso", "background", "head")}
    masks, alpha = torch.ones(1, 2, 64, 64), torch.rand(1, 1, 16, 16, generator=random)
    points, features = torch.rand(1, 68, 2, generator=random) - 0.5, torch.randn(1, 8, 16, 16, generator=random)
    given = layers | {"masks": masks, "alpha": alpha, "points": points, "moved": points + 0.1, "features": features} | changes
    source = network.prepare(given["torso"], given["masks"], given["background"], given["points"], given["head"])
    return network(given["features"], given["alpha"], source, given["moved"])


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_trains_by_name_and_its_file_is_animated_without_it(
    name: str, shards: Path, whole: Path, open_head: OpenHead, astronaut_portrait: PreparedPortrait, tmp_path: Path
) -> None:
    variant, start = VARIANTS[name], None
    for stage in DRAWING:
        changed = stage in variant.stages
        if not changed and stage != "torso":
            start = whole / stage
            continue
        begin = start if variant.pretrained or stage == "torso" else None
        result = run_training(options(shards, tmp_path / stage, stage, name if changed else None, begin))
        assert result.finished and result.step == 4
        start = tmp_path / stage
    model = build_model(f"real3d:{tmp_path / 'torso'}", open_head)
    assert model.pipeline.preset == variant.networks(MODELS["real3d.torso"].recipes()["tiny"]().networks.inference)
    state, own = model.prepare(astronaut_portrait), replace(astronaut_portrait.motion, landmarks=None)
    turned = replace(own, rotation_rad=own.rotation_rad + np.float32(0.2))
    first, second = (model.step(state, row)[0] for row in (own, turned))
    assert first.shape == astronaut_portrait.image.shape and np.abs(first.astype(int) - second).max() > 0


# -- what each switch does --------------------------------------------------------------------------------------------------


def test_without_pretraining_everything_begins_anew_and_learns_at_once(shards: Path, whole: Path) -> None:
    with pytest.raises(OptionError, match="leave out --start"):
        built(shards, "motion_adapter", "no_pretraining", whole / "image_to_plane")
    given = TrainOptions(model="real3d.motion_adapter", data=(shards,), out=Path("x"), preset="paper", variant="no_pretraining")
    recipe, usual = recipe_of(given), MODELS["real3d.motion_adapter"].recipes()["paper"]()
    assert recipe.delays == () and dict(usual.delays)["image_to_plane"] == 6000


@pytest.mark.parametrize("variant", [None, "no_finetuning"])
def test_without_finetuning_image_to_plane_stays_as_it_was(variant: str | None, shards: Path, whole: Path, tmp_path: Path) -> None:
    from triportrait.weights.store import load_weights

    begun = load_weights(whole / "image_to_plane" / "model.safetensors").tensors
    run_training(options(shards, tmp_path / "run", "motion_adapter", variant, whole / "image_to_plane"))
    learned = load_weights(tmp_path / "run" / "model.safetensors").tensors
    same = {
        part: all(torch.equal(begun[key], learned[key]) for key in begun if key.startswith(f"{part}."))
        for part in ("image_to_plane", "decoder")
    }
    assert same == {"image_to_plane": variant is not None, "decoder": False}
    if variant:
        with pytest.raises(OptionError, match="give --start"):
            built(shards, "motion_adapter", variant)


def test_without_the_laplacian_there_is_no_eq_4(shards: Path) -> None:
    terms = {}
    for variant in (None, "no_laplacian"):
        stage = built(shards, "motion_adapter", variant)
        terms[variant] = set(stage.losses(stage.rows(1, [0]), 1, "generator"))
    assert terms[None] - terms["no_laplacian"] == {"laplacian"}


def test_without_inpainting_the_scene_is_black_where_the_source_stands(shards: Path, whole: Path) -> None:
    clips = ClipSet([shards], "train")
    rows = [
        clip_row(clips, PairOptions(64, apart=3, motion=True, scene=True, inpaint_background=painted), numpy_generator(0, 0, 0))
        for painted in (True, False)
    ]
    head, torso = rows[0]["source"].amax(0) > -1, rows[0]["torso"].amax(0) > -1
    painted, plain = (row["background"] for row in rows)
    assert float(plain[:, head | torso].max()) == -1.0 < float(painted[:, head].min())
    assert torch.equal(plain[:, ~head & ~torso], painted[:, ~head & ~torso])
    # The stage asks for it.
    stage = built(shards, "torso", "no_inpainting", whole / "motion_adapter")
    assert float(stage.rows(0, [0])["background"].min()) == -1.0


def test_side_by_side_even_a_hidden_background_shows() -> None:
    solid, other = torch.ones(1, 1, 16, 16), torch.zeros(1, 3, 64, 64)
    hidden = {
        name: drawn(scene_network(name), alpha=solid) - drawn(scene_network(name), alpha=solid, background=other)
        for name in (None, "concatenation")
    }
    assert float(hidden[None].abs().max()) == 0.0 < float(hidden["concatenation"].abs().max())


def test_unsupervised_key_points_come_from_the_heads_picture() -> None:
    changes = {"landmarks": {"points": torch.zeros(1, 68, 2), "moved": torch.ones(1, 68, 2)}, "head": {"head": torch.zeros(1, 3, 64, 64)}}
    for name, looked_at in ((None, "landmarks"), ("unsupervised_key_points", "head")):
        network = scene_network(name)
        for what, change in changes.items():
            assert (float((drawn(network) - drawn(network, **change)).abs().max()) > 0) == (what == looked_at), (name, what)


def test_the_text_has_68_key_points_two_motion_pictures_and_no_resnet(shards: Path, whole: Path) -> None:
    moved = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(5)) - 0.5
    other = moved.clone()
    other[0, 40] += 0.3  # an eye
    for name in (None, "paper_text"):
        network = scene_network(name)
        assert (float((drawn(network, moved=moved) - drawn(network, moved=other)).abs().max()) > 0) == (name is not None)
    # The torso branch sees neither masks nor the head.
    blended = {name: scene_network(name).torso for name in ("equation_5", "paper_text")}
    assert all(torso.motion.head_encoder is None and torso.config.mask_channels == 0 for torso in blended.values())
    stage = built(shards, "motion_adapter", "paper_text")
    assert stage.rows(0, [0])["pictures"].shape[1] == 3 and stage.networks["image_to_plane"].encoder is None
    assert built(shards, "audio_to_motion", "paper_text").recipe.network.hidden == 6


@pytest.mark.parametrize("preset", ["small", "paper"])
@pytest.mark.parametrize("name", ["40m", "200m", "unsupervised_key_points", "concatenation", "equation_5", "paper_text"])
def test_networks_of_full_size_fit_together(name: str, preset: str) -> None:
    """From the photograph to the picture on the meta device, where tensors have shapes only."""
    given = TrainOptions(model="real3d.torso", data=(), out=Path("x"), preset=preset, variant=name)
    sizes = recipe_of(given).networks.inference
    px, side = sizes.photo_px, sizes.volume.size_px
    with torch.device("meta"):
        networks = build(sizes, ["image_to_plane", "motion_adapter", "htb_super_resolution"])
        photo, pictures = torch.empty(1, 3, px, px), torch.empty(1, 3 * sizes.motion_adapter.pictures, px, px)
        masks, points, alpha = torch.empty(1, 2, px, px), torch.empty(1, 68, 2), torch.empty(1, 1, side, side)
        features = torch.empty(1, sizes.super_resolution.head_channels, side, side)
    planes = networks["image_to_plane"](photo) + networks["motion_adapter"](pictures)
    scene = networks["htb_super_resolution"]
    picture = scene(features, alpha, scene.prepare(photo, masks, photo, points, photo), points)
    assert planes.shape == (1, 3, 32, px // 2, px // 2) and picture.shape == (1, 3, px, px)


@pytest.mark.parametrize("preset", ["tiny", "small", "paper", "paper_schedule"])
def test_image_to_plane_shrinks_and_grows_at_every_size(preset: str) -> None:
    counts = []
    for variant in ("40m", None, "200m"):
        given = TrainOptions(model="real3d.image_to_plane", data=(), out=Path("x"), preset=preset, variant=variant)
        with torch.device("meta"):
            network = build(recipe_of(given).networks.inference, ["image_to_plane"])["image_to_plane"]
        counts.append(sum(parameter.numel() for parameter in network.parameters()))
    assert counts == sorted(counts) and len(set(counts)) == 3


def test_names_that_are_wrong_or_change_nothing_are_refused(shards: Path) -> None:
    for stage, variant, words in (
        ("torso", "nicer", "the variants are"),
        ("torso", "no_laplacian", "belongs to real3d.motion_adapter"),
        ("image_to_plane", "concatenation", "changes nothing"),
    ):
        with pytest.raises(OptionError, match=words):
            recipe_of(options(shards, Path("x"), stage, variant))
    with pytest.raises(OptionError, match="changes nothing in voice"):
        recipe_of(TrainOptions(model="voice", data=(), out=Path("x"), variant="40m"))


def test_schedules_of_the_paper_and_of_the_published_code() -> None:
    steps = {
        preset: [MODELS[f"real3d.{stage}"].recipes()[preset]().steps for stage in (*DRAWING, "audio_to_motion")]
        for preset in ("paper", "paper_schedule")
    }
    assert steps == {"paper": [200_000, 150_000, 100_000, 100_000], "paper_schedule": [250_000, 200_000, 200_000, 100_000]}
    stretched = MODELS["real3d.torso"].recipes()["paper_schedule"]()
    assert (stretched.adversarial_from, stretched.decay_every) == (80_000, 100_000)
