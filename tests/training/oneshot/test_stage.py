"""The stage image_to_plane: it learns, resumes exactly, survives a bad step, and mirrors heads consistently."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from triportrait.avatar.oneshot.image_to_plane import CompactImageToPlane
from triportrait.avatar.oneshot.volume import carry_to_source, pixel_places
from triportrait.errors import EmptyMedia, MediaError, NumericError
from triportrait.geometry.cameras import camera_from_pose
from triportrait.synth import lifted_views as lv
from triportrait.training.loop import train_stage
from triportrait.training.oneshot import losses as oneshot_losses
from triportrait.training.oneshot import measure as oneshot_measure
from triportrait.training.oneshot import recipe as oneshot_recipe
from triportrait.training.oneshot import stage
from triportrait.training.oneshot import views as oneshot_views

FACES = 3


def train(
    recipe: oneshot_recipe.ImageToPlaneRecipe, data: oneshot_views.ViewSet, held_out: oneshot_views.ViewSet, folder: Path, **options: float
) -> CompactImageToPlane:
    """The network with averaged weights."""
    return train_stage(stage.OneshotStage(recipe, data, held_out), folder, **options).averaged["image_to_plane"]


def ball_views(seed: int) -> lv.LiftedViews:
    """A coloured ball of one decimetre, painted by position, seen 15 dm away from a few sides: exact pictures by ray casting."""
    random = np.random.default_rng(seed)
    paint = random.uniform(0.5, 3.0, (3, 3))
    turns = np.radians(np.concatenate([random.uniform(-5, 5, (1, 3)), random.uniform((-10, -20, -3), (10, 20, 3), (4, 3))]))
    move = np.array([0.1, -0.1, -5.0])
    pictures = []
    for turn in turns:
        for side in (lv.PHOTO_PX, lv.VIEW_PX):
            line = (np.arange(side) + 0.5) / side - 0.5
            ray = np.stack([*np.meshgrid(line / lv.FOCAL_IN_WIDTHS, -line / lv.FOCAL_IN_WIDTHS), -np.ones((side, side))], -1)
            centre = move - (0, 0, 10)
            a, b, c = (ray**2).sum(-1), ray @ centre, centre @ centre - 1.0
            root = b * b - a * c
            depth = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
            hit = np.where(root[..., None] > 0, ray * np.nan_to_num(depth, posinf=0)[..., None] - centre, 0)
            on_ball = hit @ lv.matrix_from_euler(turn)
            colour = (0.5 + 0.4 * np.sin(on_ball @ paint)) * (root > 0)[..., None]
            rgba = np.concatenate([colour, (root > 0)[..., None]], -1).transpose(2, 0, 1)
            pictures.append((rgba, lv.depth_to_bytes(depth, move[2])))
    views = [np.concatenate([np.uint8(np.round(255 * rgba)), code[None], np.uint8(code > 0)[None] * 255]) for rgba, code in pictures[1::2]]
    moves = np.tile(move, (len(turns), 1)).astype(np.float32)
    cameras = np.stack([camera_from_pose(turn, move).to_eg3d() for turn in turns])
    photo = np.uint8(np.round(255 * pictures[0][0]))
    return lv.LiftedViews("ball", photo, np.stack(views), turns.astype(np.float32), moves, cameras)


@pytest.fixture(scope="module")
def data() -> oneshot_views.ViewSet:
    return oneshot_views.ViewSet.of(ball_views(seed) for seed in range(FACES))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_photo_carried_by_its_depth_is_the_view(data: oneshot_views.ViewSet) -> None:
    """The warp joins everything that could be off by a sign: pose, camera, stored depth, sampling."""
    for flip in (None, torch.tensor([True])):
        batch = oneshot_views.collate(data, torch.tensor([0]), torch.arange(5)[None], 256, 64, flip)
        inner = batch.rgba[0, :, 3:] > 0.99
        for march, limit in ((False, 0.015), (True, 0.02)):
            warped = oneshot_measure.warp_by_guide(batch, march)
            error = ((warped[:, :3] - batch.rgba[0, :, :3]).abs() * inner).sum() / (3 * inner.sum())
            assert error < limit, (flip, march)


def test_without_its_depth_or_its_turn_the_photo_misses(data: oneshot_views.ViewSet) -> None:
    batch = oneshot_views.collate(data, torch.tensor([0]), torch.arange(5)[None], 256, 64)
    inner = batch.rgba[0, :, 3:] > 0.99
    unturned = replace(batch, target=(batch.target[0][:, :1].expand(-1, 5, -1), batch.target[1]))
    error = ((oneshot_measure.warp_by_guide(unturned)[1:, :3] - batch.rgba[0, 1:, :3]).abs() * inner[1:]).sum() / (3 * inner[1:].sum())
    assert error > 0.03


def test_the_loss_falls_and_views_come_closer(data: oneshot_views.ViewSet, tmp_path: Path) -> None:
    recipe = replace(oneshot_recipe.tiny(), steps=50, rate=3e-3)

    def judge(model: CompactImageToPlane) -> tuple[float, oneshot_measure.Score]:
        wide = replace(recipe, views=4)
        draws = oneshot_views.stacked(
            [oneshot_views.draw_row(len(data), 5, wide, oneshot_views.row_generator(7, 0, row)) for row in range(3)]
        )
        with torch.no_grad():
            terms = oneshot_losses.losses(model, oneshot_views.random_batch(data, wide, draws, model.mean_prior), wide, draws, True)
        return float(sum(terms.values())), oneshot_measure.evaluate(model, data, recipe)

    torch.manual_seed(recipe.seed)
    before, first = judge(CompactImageToPlane(recipe.model))
    after, last = judge(train(recipe, data, data, tmp_path))
    assert after < 0.6 * before
    assert last.novel > first.novel + 3
    assert (tmp_path / "curve.png").stat().st_size > 1000 and (tmp_path / "model.safetensors").exists()


def test_resume_is_exact(data: oneshot_views.ViewSet, tmp_path: Path) -> None:
    recipe = replace(oneshot_recipe.tiny(), steps=12, save_every=5, validate_every=6)
    whole = train(recipe, data, data, tmp_path / "whole")
    for _ in range(4):  # leaves after every step that follows a start; state is saved then
        train(recipe, data, data, tmp_path / "parts", stop_after=0.0)
    # A kill after the last checkpoint leaves lines behind that are made again.
    with (tmp_path / "parts" / "log.jsonl").open("a") as file:
        file.write('{"step": 9, "loss": 0.0}\n{"step": 10, "lo')
    parts = train(recipe, data, data, tmp_path / "parts")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=0, atol=0, msg=name)
    curves = [(tmp_path / part / "log.jsonl").read_text().splitlines() for part in ("whole", "parts")]
    costs = ("cpu_s", "seconds", "memory_gb")
    curves = [[{k: v for k, v in json.loads(line).items() if k not in costs} for line in lines] for lines in curves]
    assert curves[0] == curves[1]


def test_a_step_without_a_number_changes_nothing_but_many_are_an_error(
    data: oneshot_views.ViewSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = oneshot_losses.losses

    def sometimes(*arguments: object) -> dict[str, torch.Tensor]:
        terms = honest(*arguments)  # type: ignore[arg-type]
        sometimes.calls += 1
        return {name: term * float("nan") for name, term in terms.items()} if sometimes.calls in broken else terms

    monkeypatch.setattr(stage, "losses", sometimes)
    recipe = replace(oneshot_recipe.tiny(), steps=3, validate_every=100)
    sometimes.calls, broken = 0, {2}
    model = train(recipe, data, data, tmp_path / "once")
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    sometimes.calls, broken = 0, set(range(100))
    with pytest.raises(NumericError, match="20 steps"):
        train(replace(recipe, steps=40), data, data, tmp_path / "always")


def test_no_photographs_is_an_error() -> None:
    with pytest.raises(EmptyMedia, match="data views"):
        oneshot_views.ViewSet.of([])


def test_the_rate_rises_and_falls() -> None:
    recipe = oneshot_recipe.compact()
    rates = [oneshot_recipe.rate_at(step, recipe) for step in range(recipe.steps)]
    assert rates[0] < 0.02 * recipe.rate and max(rates) <= recipe.rate and rates[-1] < 0.03 * recipe.rate
    assert np.argmax(rates) == recipe.warm_up_steps - 1


def test_several_folders_with_shares_and_offsets(tmp_path: Path) -> None:
    row = ball_views(0)
    code = np.zeros((len(row.views), 3, lv.VIEW_PX, lv.VIEW_PX), np.int8)
    code[1:, 0, :, : lv.VIEW_PX // 2] = 127
    moving = replace(row, offset=code, expression=np.zeros((len(code), 44), np.float32), gaze_rad=np.zeros((len(code), 2), np.float32))
    for folder, split, rows in (("a", "train", [ball_views(1), ball_views(2)]), ("b", "moving", [moving])):
        (tmp_path / folder).mkdir()
        lv.write_shard(tmp_path / folder / "s.npz", rows)
        lv.write_index(tmp_path / folder, split, ["s.npz"], [len(rows)], {})
    data = oneshot_views.read_views([tmp_path / "a", tmp_path / "b"], "train", shares=[0.25, 0.75])
    assert len(data) == 3 and data.ends is not None
    np.testing.assert_allclose(data.ends.numpy(), [0.125, 0.25, 1.0], atol=1e-6)
    draws = [oneshot_views.draw_row(3, 5, oneshot_recipe.tiny(), oneshot_views.row_generator(0, 0, row), data.ends) for row in range(200)]
    assert 0.6 < np.mean([int(draw["photo"]) == 2 for draw in draws]) < 0.9
    views = torch.tensor([[0, 1]]).expand(3, -1)
    batch = oneshot_views.collate(data, torch.arange(3), views, 64, 64)
    assert batch.offset is not None and batch.offset.shape == (3, 2, 64, 64, 3)
    assert not batch.offset[:2].any() and not batch.offset[2, 0].any()
    np.testing.assert_allclose(batch.offset[2, 1, :, :32, 0].numpy(), lv.OFFSET_RANGE_DM, atol=1e-5)
    mirrored = oneshot_views.collate(data, torch.arange(3), views, 64, 64, torch.ones(3, dtype=torch.bool))
    np.testing.assert_allclose(mirrored.offset[2, 1, :, 32:, 0].numpy(), -lv.OFFSET_RANGE_DM, atol=1e-5)
    assert oneshot_views.collate(data, torch.arange(2), views[:2], 64, 64).offset is None
    recipe = oneshot_recipe.tiny()
    model = CompactImageToPlane(recipe.model)
    rows = oneshot_views.stacked(
        [oneshot_views.draw_row(3, 5, recipe, oneshot_views.row_generator(1, 0, row), data.ends) for row in range(2)]
    )
    batch = oneshot_views.random_batch(data, recipe, rows, model.mean_prior)
    terms = oneshot_losses.losses(model, batch, recipe, rows, True)
    assert all(torch.isfinite(term) for term in terms.values())


def test_points_are_followed_to_where_the_other_view_shows_them(data: oneshot_views.ViewSet) -> None:
    """One exact picture of a ball predicts another along the known motion; with the wrong motion it does not."""
    batch = oneshot_views.collate(data, torch.tensor([0]), torch.arange(5)[None], 256, 128)
    rotation, move = batch.target[0][0], batch.target[1][0]
    inner = (batch.rgba[0, 1, 3] > 0.99).flatten()
    places = pixel_places(128)[inner][None]
    depth = batch.guide[0, 1, 0].flatten()[inner][None]
    here = batch.rgba[0, 1].flatten(1)[:, inner].T
    errors, missed = [], []
    for other in (2, 3, 4):
        sway = (rotation[other] - rotation[1])[None]
        for factor in (1.0, -1.0):
            there = oneshot_losses.follow(places, depth, (rotation[1:2], move[1:2]), None, factor * sway, torch.zeros(1), 128)
            picture = batch.rgba[0, other : other + 1]
            colour = torch.nn.functional.grid_sample(picture, 2 * there.places[:, None], align_corners=False)[0, :, 0].T
            error = (colour - here).abs()[there.visible[0]]
            (errors if factor > 0 else missed).append(float(error.mean()))
        assert 0.5 < float(there.visible.float().mean()) < 1.0
    assert max(errors) < 0.03 and 3 * np.mean(errors) < np.mean(missed)


def test_followed_points_keep_their_place_in_the_photograph() -> None:
    """Pose and expression change, what a sample shows of the photograph does not."""
    random = torch.Generator().manual_seed(0)
    places, depth = 0.2 * torch.rand(2, 50, 2, generator=random) - 0.1, 14 + torch.rand(2, 50, generator=random)
    pose = 0.2 * torch.randn(2, 3, generator=random), torch.tensor([[0.1, 0.0, -4.0]]).expand(2, -1)
    source = 0.2 * torch.randn(2, 3, generator=random), torch.tensor([[0.0, 0.2, -4.5]]).expand(2, -1)
    offset = 0.1 * torch.randn(2, 50, 3, generator=random)
    there = oneshot_losses.follow(places, depth, pose, offset, 0.1 * torch.randn(2, 3, generator=random), torch.tensor([0.2, -0.3]), 64)
    before = carry_to_source(places, depth[..., None], pose, source, 1.6, offset=offset)
    after = carry_to_source(there.places, there.depth[..., None], there.pose, source, 1.6, offset=there.offset)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-4)


def test_what_is_covered_does_not_count() -> None:
    """Two points that the neighbouring frame shows in one place: the one behind is not seen there."""
    places, depth = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]]), torch.tensor([[14.0, 15.0]])
    pose = torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -4.5]])
    there = oneshot_losses.follow(places, depth, pose, None, torch.zeros(1, 3), torch.zeros(1), 64)
    assert there.visible.tolist() == [[True, False]]
    apart = oneshot_losses.follow(places, depth, pose, None, torch.tensor([[0.0, 0.3, 0.0]]), torch.zeros(1), 64)
    assert apart.visible.all()


def test_the_temporal_term_teaches_and_can_be_left_out(data: oneshot_views.ViewSet, tmp_path: Path) -> None:
    recipe = replace(oneshot_recipe.tiny(), steps=40, temporal_weight=0.0, sway_deg=8.0)
    plain = train(recipe, data, data, tmp_path / "plain")
    steady = train(replace(recipe, temporal_weight=10.0), data, data, tmp_path / "steady")
    log = [json.loads(line) for line in (tmp_path / "plain" / "log.jsonl").read_text().splitlines()]
    assert not any("temporal" in line for line in log)
    assert oneshot_measure.sway_score(steady, data, recipe) < 0.9 * oneshot_measure.sway_score(plain, data, recipe)


def test_a_folder_without_the_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError):
        oneshot_views.read_views(tmp_path, "train")
