"""Training stage ``image_to_plane``: one lifted photograph in, its other views as targets (Real3D-Portrait, section 4.1, at small scale).

One flat loop in plain torch. A step is a function of (seed, step) and of the state in the checkpoint alone, so that a run that was killed
goes on exactly where its last checkpoint was.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.avatar.compact_encoder import DEPTH_RANGE_DM, CompactConfig, CompactImageToPlane, ViewPlanes, save_image_to_plane
from triportrait.errors import EmptyMedia, NumericError
from triportrait.render.near_surface import Slab, carry_to_source, composite, fill_smoothly, march_to_surface, pixel_places, slab_depths
from triportrait.synth import lifted_views
from triportrait.synth.lifted_views import LiftedViews
from triportrait.types import CAMERA_DISTANCE_DM

Array = np.ndarray
Pose = tuple[Tensor, Tensor]
log = logging.getLogger(__name__)

#: A run with so many steps in a row that give no number is broken.
_NAN_LIMIT = 20
#: Validation pictures are compared over this grey.
_GREY = 0.5


@dataclass(frozen=True, slots=True)
class ImageToPlaneRecipe:
    """Everything that decides a run besides its data.

    Args:
        model: sizes of the network.
        slab: where samples lie.
        steps, batch: length of the run, photographs per step.
        views, patch_px, render_px: pictures per photograph, side of the square that is drawn of each, and of the picture it is cut from;
            ``render_px`` is 64 or 128.
        rate, warm_up_steps, weight_decay: AdamW; the rate falls along a cosine.
        average: of the exponential moving average of weights.
        alpha_weight, gradient_weight, depth_weight: of the losses beside the colours' L1.
        unseen_weight: of teacher pixels that the photograph does not show (the teacher guesses there).
        drop_prior: share of photographs for which the fitted depth is withheld; ``jitter`` scales all its other disturbances.
        march: share of steps in which samples surround the prior met along the ray instead of the teacher's own depth.
        precision: ``"bf16"`` or ``"fp32"``.
        seed: of everything random.
        log_every, save_every, validate_every: steps.
        validation_photos: held-out photographs that are looked at during the run.
    """

    model: CompactConfig = field(default_factory=CompactConfig)
    slab: Slab = field(default_factory=Slab)
    steps: int = 8000
    batch: int = 4
    views: int = 4
    patch_px: int = 32
    render_px: int = 64
    rate: float = 1.5e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.01
    average: float = 0.99
    alpha_weight: float = 0.4
    gradient_weight: float = 0.5
    depth_weight: float = 0.05
    unseen_weight: float = 0.5
    drop_prior: float = 0.2
    march: float = 0.5
    jitter: float = 1.0
    precision: str = "bf16"
    seed: int = 0
    log_every: int = 20
    save_every: int = 250
    validate_every: int = 500
    validation_photos: int = 10


def compact() -> ImageToPlaneRecipe:
    """The network that is meant to be used."""
    return ImageToPlaneRecipe()


def compact_sharp() -> ImageToPlaneRecipe:
    """A second stage for :func:`compact`: pictures of twice the size, a third of the rate."""
    return replace(compact(), steps=2000, render_px=128, rate=5e-4, slab=Slab(12, 0.25))


def tiny() -> ImageToPlaneRecipe:
    """Seconds on one core, for tests."""
    model = CompactConfig(64, (16, 16, 32), (1, 1, 1), 1, 8, 16, 2, 16)
    return replace(
        compact(), model=model, slab=Slab(6, 0.3), steps=30, batch=2, views=2, patch_px=16, rate=3e-3, warm_up_steps=2,
        precision="fp32", log_every=1, save_every=10, validate_every=10, validation_photos=1,
    )  # fmt: skip


RECIPES = {"tiny": tiny, "compact": compact, "compact_sharp": compact_sharp}


# -- data -------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ViewSet:
    """Lifted photographs in memory, as they were packed: n photographs of v views.

    Args:
        photo: uint8 [n, 4, 256, 256]; views: uint8 [n, v, 6, 128, 128]; see :class:`triportrait.synth.lifted_views.LiftedViews`.
        rotation_rad, translation: float32 [n, v, 3].
    """

    photo: Tensor
    views: Tensor
    rotation_rad: Tensor
    translation: Tensor

    def __len__(self) -> int:
        return len(self.photo)

    def first(self, count: int) -> ViewSet:
        """The first photographs alone."""
        return ViewSet(*(part[:count] for part in (self.photo, self.views, self.rotation_rad, self.translation)))

    @staticmethod
    def of(rows: Iterable[LiftedViews]) -> ViewSet:
        """Stack rows.

        Raises:
            EmptyMedia: there is none.
        """
        rows = list(rows)
        if not rows:
            raise EmptyMedia("there are no lifted views to train on; pack some with scripts/pack_lifted_views.py")
        stacked = (np.stack([getattr(row, name) for row in rows]) for name in ("photo", "views", "rotation_rad", "translation"))
        return ViewSet(*(torch.from_numpy(array) for array in stacked))


def read_views(folder: Path, split: str, limit: int | None = None) -> ViewSet:
    """A split of packed views in memory (about 1 MB per photograph)."""
    return ViewSet.of(lifted_views.read_split(folder, split, limit))


@dataclass(frozen=True, slots=True)
class Batch:
    """b photographs, and of each k views.

    Args:
        picture: [b, 4, s, s]; prior, known: [b, 1, s / 2, s / 2]; what :meth:`CompactImageToPlane.encode` takes.
        source: rotation_rad and translation [b, 3] of the photographs.
        target: the same of the views, [b, k, 3].
        rgba: [b, k, 4, r, r], targets of the whole picture; guide: [b, k, 1, r, r], depth in decimetres, filled; seen: [b, k, 1, r, r].
    """

    picture: Tensor
    prior: Tensor
    known: Tensor
    source: Pose
    target: Pose
    rgba: Tensor
    guide: Tensor
    seen: Tensor


def collate(data: ViewSet, photos: Tensor, views: Tensor, photo_px: int, render_px: int, flip: Tensor | None = None) -> Batch:
    """Photographs ``photos`` [b] and their views ``views`` [b, k] as numbers; ``flip`` [b] bool mirrors some."""
    picture = data.photo[photos].float() / 255
    if photo_px != picture.shape[-1]:
        picture = functional.interpolate(picture, size=(photo_px, photo_px), mode="area")
    own = data.views[photos, 0, 4:5]
    prior, known = _relative_depth(own, photo_px // 2)
    chosen = data.views[photos[:, None], views]
    small = functional.interpolate(chosen.flatten(0, 1).float(), size=(render_px, render_px), mode="area").unflatten(0, views.shape)
    offset, _ = _relative_depth(chosen.flatten(0, 1)[:, 4:5], render_px)
    rotation, move = data.rotation_rad[photos[:, None], views], data.translation[photos[:, None], views]
    source = data.rotation_rad[photos, 0], data.translation[photos, 0]
    guide = offset.unflatten(0, views.shape) * DEPTH_RANGE_DM + (CAMERA_DISTANCE_DM - move[..., 2])[..., None, None, None]
    rgba, seen = small[:, :, :4] / 255, small[:, :, 5:] / 255
    if flip is not None:
        # A mirrored picture shows a mirrored head: yaw, roll and the sideways shift change their signs.
        sign = torch.where(flip, -1.0, 1.0)
        turn_sign = torch.stack([torch.ones_like(sign), sign, sign], -1)
        move_sign = torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], -1)
        source = source[0] * turn_sign, source[1] * move_sign
        rotation, move = rotation * turn_sign[:, None], move * move_sign[:, None]
        pictures = (torch.where(flip.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x) for x in (picture, prior, known, rgba, guide, seen))
        picture, prior, known, rgba, guide, seen = pictures
    return Batch(picture, prior, known, source, (rotation, move), rgba, guide, seen)


def _relative_depth(code: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Stored depths [b, 1, s, s] -> w [b, 1, size, size], filled, and where it is known."""
    there = (code > 0).float()
    w = (code.float() - 1) * (2 / 254) - 1
    factor = code.shape[-1] // size_px
    known = functional.avg_pool2d(there, factor)
    mean = functional.avg_pool2d(w * there, factor) / known.clamp(min=1e-6)
    known = (known > 0.3).float()
    return fill_smoothly(mean, known), known


def random_batch(data: ViewSet, recipe: ImageToPlaneRecipe, random: torch.Generator, mean_prior: Tensor) -> Batch:
    """One step's batch: mirrored at random, colours changed, and with a prior that is wrong in ways in which fits are wrong."""
    b, k, j = recipe.batch, recipe.views, recipe.jitter

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=random)

    photos = torch.randint(len(data), (b,), generator=random)
    count = data.views.shape[1]
    views = torch.stack([torch.randperm(count, generator=random)[:k] for _ in range(b)])
    batch = collate(data, photos, views, recipe.model.photo_px, recipe.render_px, uniform(b) < 0.5)
    gain = 1 + j * uniform(b, 3, low=-0.12, high=0.12) + j * uniform(b, 1, low=-0.15, high=0.15)
    gain = torch.cat([gain, torch.ones(b, 1)], 1)[:, :, None, None]
    picture, rgba = batch.picture * gain, batch.rgba * gain[:, None]
    # Never brighter than white: premultiplied colours end at their matte.
    picture, rgba = torch.minimum(picture, picture[:, 3:]), torch.minimum(rgba, rgba[:, :, 3:])
    coarse = functional.interpolate(uniform(b, 1, 5, 5, low=-0.03, high=0.03), size=batch.prior.shape[-2:], mode="bicubic")
    scale, shift = 1 + j * uniform(b, 1, 1, 1, low=-0.06, high=0.06), j * uniform(b, 1, 1, 1, low=-0.025, high=0.025)
    prior = batch.prior * scale + shift + j * coarse
    blurred = functional.avg_pool2d(functional.pad(prior, (2,) * 4, mode="replicate"), 5, 1)
    prior = torch.where(uniform(b, 1, 1, 1) < 0.3 * j, blurred, prior)
    dropped = uniform(b, 1, 1, 1) < recipe.drop_prior
    mean = functional.interpolate(mean_prior, size=prior.shape[-2:], mode="bilinear")
    prior, known = torch.where(dropped, mean, prior), torch.where(dropped, torch.zeros_like(batch.known), batch.known)
    guide = batch.guide + j * uniform(b, k, 1, 1, 1, low=-0.08, high=0.08)
    return replace(batch, picture=picture, rgba=rgba, prior=prior, known=known, guide=guide)


def mean_prior(data: ViewSet, size_px: int = 32) -> Tensor:
    """Mean own depth of all photographs, as w: [1, 1, size, size]."""
    parts = data.views[:, 0, 4:5].split(64)
    filled = [functional.adaptive_avg_pool2d(_relative_depth(part, part.shape[-1])[0], size_px) for part in parts]
    return torch.cat(filled).mean(0, keepdim=True)


# -- drawing and losses -----------------------------------------------------------------------------------------------------


def draw(
    model: CompactImageToPlane,
    planes: ViewPlanes,
    guide: Tensor,
    target: Pose,
    source: Pose,
    slab: Slab,
    corner: Sequence[tuple[int, int]] | None = None,
    patch_px: int | None = None,
    random: torch.Generator | None = None,
    march: bool = False,
    offset: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures of b heads at k poses each.

    Args:
        model: whose field is drawn.
        planes: of the b photographs.
        guide: [b, k, 1, r, r], guessed camera depth in decimetres; with ``march`` only its size counts.
        target: rotation_rad and translation [b, k, 3]; source: those of the photographs [b, 3].
        slab: where samples lie.
        corner: (row, column) of the patch of each of the b * k pictures; None draws them whole.
        patch_px: side of the patches.
        random: moves samples within their steps; None draws the middle of each.
        march: look for the surface of the photograph's prior along each ray: nothing needs to be known about the target view.
        offset: [b, k, r, r, 3] decimetres, what :func:`carry_to_source` takes, for pictures that are drawn whole.

    Returns:
        premultiplied colour [b, k, 3, p, p], matte [b, k, 1, p, p], depth [b, k, 1, p, p].
    """
    b, k, _, size, _ = guide.shape
    side = patch_px or size
    flat = guide.flatten(0, 1)[:, 0]
    if corner is None:
        corner = [(0, 0)] * (b * k)
    cuts = [(slice(r, r + side), slice(c, c + side)) for r, c in corner]
    places = torch.stack([pixel_places(size, *cut, device=guide.device) for cut in cuts])
    turn, move = (part.flatten(0, 1) for part in target)
    sources = source[0].repeat_interleave(k, 0), source[1].repeat_interleave(k, 0)
    if march:
        guess = march_to_surface(places, planes.prior.repeat_interleave(k, 0), (turn, move), sources, DEPTH_RANGE_DM)
    else:
        guess = torch.stack([picture[cut] for picture, cut in zip(flat, cuts, strict=True)]).flatten(1)
    jitter = None
    if random is not None:
        jitter = (torch.rand(*guess.shape, slab.samples, generator=random) - 0.5).to(guess)
    depth = slab_depths(guess, slab, jitter)
    moved = None if offset is None else offset.flatten(0, 1).flatten(1, 2)
    points = carry_to_source(places, depth, (turn, move), sources, DEPTH_RANGE_DM, offset=moved)
    density, colour = model.field(planes.for_size(size), points.view(b, -1, 3))
    shape = (b * k, side * side, slab.samples)
    rgb, alpha, mean_depth = composite(density.reshape(shape), colour.reshape(*shape, 3), depth, 2 * slab.half_dm / slab.samples)
    pictures = (b, k, -1, side, side)
    return rgb.transpose(1, 2).reshape(pictures), alpha.reshape(pictures), mean_depth.reshape(pictures)


def losses(model: CompactImageToPlane, batch: Batch, recipe: ImageToPlaneRecipe, random: torch.Generator) -> dict[str, Tensor]:
    """The terms of the loss, weighted; their sum is what falls."""
    size, side = recipe.render_px, min(recipe.patch_px, recipe.render_px)
    count = batch.rgba.shape[0] * batch.rgba.shape[1]
    # Patches crowd towards the middle of the picture, where heads are.
    spread = (torch.rand(count, 2, generator=random) + torch.rand(count, 2, generator=random)) / 2
    corners = [(int(r), int(c)) for r, c in ((size - side + 1) * spread).long().clamp(max=size - side)]
    with torch.autocast(batch.picture.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        planes = model.encode(batch.picture, batch.prior, batch.known, batch.source[0])
        march = float(torch.rand(1, generator=random)) < recipe.march
        rgb, alpha, depth = draw(model, planes, batch.guide, batch.target, batch.source, recipe.slab, corners, side, random, march)

    def cut(pictures: Tensor) -> Tensor:
        flat = pictures.flatten(0, 1)
        parts = [p[:, r : r + side, c : c + side] for p, (r, c) in zip(flat, corners, strict=True)]
        return torch.stack(parts).view(*pictures.shape[:2], -1, side, side)

    rgba, seen, guide = cut(batch.rgba), cut(batch.seen), cut(batch.guide)
    matte = rgba[:, :, 3:]
    weight = (1 + matte) * torch.where(matte > 0.5, recipe.unseen_weight + (1 - recipe.unseen_weight) * seen, 1.0)
    wrong = rgb - rgba[:, :, :3]
    slope = sum((wrong.diff(dim=axis).abs() * weight.narrow(axis, 1, side - 1)).mean() for axis in (-1, -2))
    solid = (matte > 0.9).float()
    return {
        "colour": (weight * wrong.abs()).mean(),
        "alpha": recipe.alpha_weight * (alpha - matte).abs().mean(),
        "gradient": recipe.gradient_weight * slope,
        "depth": recipe.depth_weight * ((depth - guide).abs() * solid).mean(),
    }


@dataclass(frozen=True, slots=True)
class Score:
    """Foreground PSNR in decibels on held-out photographs, over all turned views (mean over pictures).

    Args:
        novel: of the network; by_turn: the same per held-out turn.
        own: of the network at the photograph's pose.
        copy: of the photograph itself as the answer.
        warp: of the photograph carried by the same depth as the network's samples, without any network.
    """

    novel: float
    by_turn: tuple[float, ...]
    own: float
    copy: float
    warp: float


@torch.no_grad()
def evaluate(
    model: CompactImageToPlane, data: ViewSet, recipe: ImageToPlaneRecipe, render_px: int = 64, prior: bool = True, march: bool = True
) -> Score:
    """Compare with the teacher where its matte is above one half, over grey.

    Args:
        model: to judge.
        data: held-out photographs.
        recipe: slab and precision.
        render_px: side of the pictures.
        prior: False withholds the fitted depth.
        march: samples surround the prior met along each ray; False: the teacher's own depth in the very view that is judged.
    """
    model.eval()
    rows = []
    for row in range(len(data)):
        views = torch.arange(data.views.shape[1])[None]
        batch = collate(data, torch.tensor([row]), views, recipe.model.photo_px, render_px)
        if not prior:
            mean = functional.interpolate(model.mean_prior, size=batch.prior.shape[-2:], mode="bilinear")
            batch = replace(batch, prior=mean, known=torch.zeros_like(batch.known))
        with torch.autocast(batch.picture.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            planes = model.encode(batch.picture, batch.prior, batch.known, batch.source[0])
            rgb, alpha, _ = draw(model, planes, batch.guide, batch.target, batch.source, recipe.slab, march=march)
        answer = rgb[0] + _GREY * (1 - alpha[0])
        copied = batch.rgba[0, :1].expand_as(batch.rgba[0])
        warped = warp_by_guide(batch, march)
        truth, mask = batch.rgba[0, :, :3] + _GREY * (1 - batch.rgba[0, :, 3:]), batch.rgba[0, :, 3:] > 0.5
        guesses = (answer, copied[:, :3] + _GREY * (1 - copied[:, 3:]), warped[:, :3] + _GREY * (1 - warped[:, 3:]))
        rows.append([_psnr(guess, truth, mask) for guess in guesses])
    model.train()
    mean = np.array(rows).mean(0)  # [3, v]
    novel, copy, warp = mean[:, 1:].mean(1)
    return Score(float(novel), tuple(float(x) for x in mean[0, 1:]), float(mean[0, 0]), float(copy), float(warp))


def warp_by_guide(batch: Batch, march: bool = False) -> Tensor:
    """The photograph carried to the views of the first photograph by their depth: [k, 4, r, r]; the reference any network must meet.

    ``march`` looks for the photograph's own depth along each ray instead of taking the view's.
    """
    count, size = batch.rgba.shape[1], batch.rgba.shape[-1]
    places = pixel_places(size)[None].expand(count, -1, -1)
    sources = batch.source[0][:1].expand(count, -1), batch.source[1][:1].expand(count, -1)
    target = batch.target[0][0], batch.target[1][0]
    if march:
        depth = march_to_surface(places, batch.prior[:1].expand(count, -1, -1, -1), target, sources, DEPTH_RANGE_DM)
    else:
        depth = batch.guide[0, :, 0].flatten(1)
    points = carry_to_source(places, depth[..., None], target, sources, DEPTH_RANGE_DM)
    picture = functional.interpolate(batch.picture[:1], size=(size, size), mode="area").expand(count, -1, -1, -1)
    where = points[:, :, 0, :2].view(count, size, size, 2)
    warped = functional.grid_sample(picture, where, padding_mode="border", align_corners=False)
    return warped


def _psnr(guess: Tensor, truth: Tensor, mask: Tensor) -> list[float]:
    """Per picture, over masked pixels."""
    squared = ((guess.clamp(0, 1) - truth) ** 2).mean(1, keepdim=True)
    error = (squared * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1)
    return (-10 * torch.log10(error.clamp(min=1e-10))).tolist()


# -- the loop ---------------------------------------------------------------------------------------------------------------


def rate_at(step: int, recipe: ImageToPlaneRecipe) -> float:
    """Learning rate: a short rise, then a cosine down to a fiftieth."""
    rise = min(1.0, (step + 1) / max(1, recipe.warm_up_steps))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.steps)))
    return recipe.rate * rise * (0.02 + 0.98 * fall)


def train(
    recipe: ImageToPlaneRecipe,
    data: ViewSet,
    held_out: ViewSet,
    folder: Path,
    start: CompactImageToPlane | None = None,
    stop_after: float | None = None,
) -> CompactImageToPlane:
    """Train, or go on where ``folder`` left off.

    Args:
        recipe: what to do.
        data, held_out: photographs to learn from, and to be judged by.
        folder: gets ``state.pt``, ``log.jsonl``, ``model.safetensors`` (averaged weights) and ``curve.png``.
        start: weights of an earlier stage.
        stop_after: seconds of wall time after which the run is saved and left; None goes to the end.

    Returns:
        the network with averaged weights.

    Raises:
        NumericError: the loss is no number for many steps in a row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    model = CompactImageToPlane(recipe.model)
    if start is not None:
        model.load_state_dict(start.state_dict())
    else:
        model.mean_prior.copy_(mean_prior(data))
    average = CompactImageToPlane(recipe.model)
    average.load_state_dict(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
    first, spent, state_path = 0, 0.0, folder / "state.pt"
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first, spent = state["step"], state["cpu_s"]
        _drop_later_lines(folder / "log.jsonl", first)
    else:
        (folder / "log.jsonl").write_text("", encoding="utf-8")
        (folder / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1), encoding="utf-8")
    model.to(memory_format=torch.channels_last)
    few = held_out.first(recipe.validation_photos)
    began, cpu = time.monotonic(), time.process_time() - spent
    missed = 0
    for step in range(first, recipe.steps):
        random = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, recipe)
        terms = losses(model, random_batch(data, recipe, random, model.mean_prior), recipe, random)
        total = sum(terms.values())
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(total.detach()) and torch.isfinite(norm):
            missed = 0
            optimiser.step()
            _follow(average, model, min(recipe.average, (step + 1) / (step + 10)))
        else:
            missed += 1
            log.warning("step %d gave no number and is left out", step)
            if missed >= _NAN_LIMIT:
                raise NumericError(f"the loss was no number for {missed} steps in a row at step {step}; lower the learning rate")
        done = step + 1
        values = {name: float(term.detach()) for name, term in terms.items()}
        line: dict[str, float] = {}
        if done % recipe.log_every == 0 or done == recipe.steps:
            line = {"loss": sum(values.values()), **values, "rate": rate_at(step, recipe)}
        if done % recipe.validate_every == 0 or done == recipe.steps:
            score = evaluate(average, few, recipe)
            line |= {"novel_db": score.novel, "own_db": score.own, "copy_db": score.copy, "warp_db": score.warp}
        if line:
            line = {"step": done, "cpu_s": round(time.process_time() - cpu, 2), **line}
            with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            log.info("%s", " ".join(f"{key} {value:.4g}" for key, value in line.items()))
        out_of_time = stop_after is not None and time.monotonic() - began > stop_after
        if done % recipe.save_every == 0 or done == recipe.steps or out_of_time:
            _save_state(state_path, model, average, optimiser, done, time.process_time() - cpu)
            notes = {"steps": str(done), "photographs": str(len(data)), "recipe": json.dumps(asdict(recipe))}
            save_image_to_plane(average, folder / "model.safetensors", notes)
            plot_curve(folder / "log.jsonl", folder / "curve.png")
        if out_of_time:
            break
    return average.eval()


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, keep: float) -> None:
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


def _save_state(
    path: Path, model: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer, step: int, cpu_s: float
) -> None:
    draft = path.with_suffix(".part")
    state = {
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "cpu_s": cpu_s,
    }
    with draft.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _drop_later_lines(path: Path, step: int) -> None:
    """Lines of steps that a killed run made after its last checkpoint are made again."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def plot_curve(log_path: Path, picture: Path) -> None:
    """Loss and held-out PSNR over the steps, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [json.loads(line) for line in log_path.read_text(encoding="utf-8").splitlines()]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), constrained_layout=True)
    trained = [line for line in lines if "loss" in line]
    left.plot([line["step"] for line in trained], [line["loss"] for line in trained], linewidth=0.7)
    left.set(xlabel="step", ylabel="training loss", yscale="log")
    judged = [line for line in lines if "novel_db" in line]
    labels = {"novel_db": "network, other views", "own_db": "network, own view", "warp_db": "photo warped by the same depth"}
    for name, label in labels.items():
        right.plot([line["step"] for line in judged], [line[name] for line in judged], label=label)
    right.set(xlabel="step", ylabel="held-out foreground PSNR, dB")
    right.legend(loc="center right", fontsize=8)
    draft = picture.with_suffix(".part.png")
    figure.savefig(draft, dpi=80)
    pyplot.close(figure)
    draft.replace(picture)
