"""How well the image-to-plane network draws views it has not seen."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from triportrait.avatar.oneshot.image_to_plane import CompactImageToPlane
from triportrait.avatar.oneshot.planes import DEPTH_RANGE_DM
from triportrait.avatar.oneshot.volume import carry_to_source, march_to_surface, pixel_places
from triportrait.training.oneshot.losses import draw, temporal_loss
from triportrait.training.oneshot.recipe import ImageToPlaneRecipe
from triportrait.training.oneshot.views import Batch, ViewSet, collate, draw_row, random_batch, row_generator, stacked
from triportrait.training.run_folder import tile
from triportrait.types import Array

#: Validation pictures are compared over this grey.
_GREY = 0.5


@torch.no_grad()
def sway_score(model: CompactImageToPlane, data: ViewSet, recipe: ImageToPlaneRecipe) -> float:
    """:func:`temporal_loss` of whole pictures of all views of held-out photographs, as used (samples round the prior), mean in 1/255."""
    was, whole = model.training, replace(recipe, views=data.views.shape[1], patch_px=recipe.render_px, jitter=0.0, drop_prior=0.0)
    model.eval()
    values = []
    for row in range(len(data)):
        draws = stacked([draw_row(1, whole.views, whole, row_generator(0, 0, row))])
        draws |= {"photo": torch.tensor([row]), "flip": torch.zeros(1, dtype=torch.bool)}
        draws = {name: value.to(data.photo.device) for name, value in draws.items()}
        batch = random_batch(data, whole, draws, model.mean_prior)
        corners = [(0, 0)] * whole.views
        with torch.autocast(batch.picture.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            planes = model.encode(batch.picture, batch.prior, batch.known, batch.source[0]).for_size(recipe.render_px)
            rgb, alpha, _ = draw(model, planes, batch.guide, batch.target, batch.source, recipe.slab, march=True, offset=batch.offset)
            values.append(float(temporal_loss(model, planes, batch, whole, draws, corners, (rgb, alpha), True)))
    model.train(was)
    return 255 * float(np.mean(values))


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
    places = pixel_places(size, device=batch.rgba.device)[None].expand(count, -1, -1)
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


@torch.no_grad()
def comparison(model: CompactImageToPlane, data: ViewSet, recipe: ImageToPlaneRecipe) -> Array:
    """A row per photograph: it, then teacher and network for the first and the last turned view, over grey; uint8 [h, w, 3]."""
    was = model.training
    model.eval()
    rows = []
    for row in range(len(data)):
        views = torch.tensor([[0, 1, data.views.shape[1] - 1]])
        batch = collate(data, torch.tensor([row]), views, recipe.model.photo_px, 64)
        planes = model.encode(batch.picture, batch.prior, batch.known, batch.source[0])
        rgb, alpha, _ = draw(model, planes, batch.guide, batch.target, batch.source, recipe.slab, march=True)
        truth = batch.rgba[0, :, :3] + _GREY * (1 - batch.rgba[0, :, 3:])
        answer = rgb[0].float() + _GREY * (1 - alpha[0].float())
        rows.append([2 * picture - 1 for picture in (truth[0], truth[1], answer[1], truth[2], answer[2])])
    model.train(was)
    return tile(rows)
