"""Training stage ``image_to_plane``: one lifted photograph in, its other views as targets (Real3D-Portrait, section 4.1, at small scale).

Needs packed shards and torch alone. The loop is :mod:`triportrait.training.loop`; what is random about a row of a batch is drawn on the CPU
(:func:`draw_row`) and everything else is computed where the data lie, so that a GPU is not kept waiting.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.avatar.compact_encoder import DEPTH_RANGE_DM, CompactConfig, CompactImageToPlane, ViewPlanes, save_image_to_plane
from triportrait.errors import EmptyMedia
from triportrait.render.near_surface import (
    Slab,
    carry_to_source,
    composite,
    fill_smoothly,
    march_to_surface,
    pixel_places,
    rotation_matrix,
    slab_depths,
)
from triportrait.synth import lifted_views
from triportrait.synth.lifted_views import LiftedViews
from triportrait.training.fabric import SingleDevice
from triportrait.training.loop import Recipe, Values, tile, train_stage
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS

Array = np.ndarray
Pose = tuple[Tensor, Tensor]
log = logging.getLogger(__name__)

#: Validation pictures are compared over this grey.
_GREY = 0.5
#: Every second row and column of a patch is followed into the neighbouring frame.
_TEMPORAL_STRIDE = 2
#: A point is followed where the teacher's surface is no steeper than this (decimetres of depth per image width) ...
_STEEPEST_DM = 6.0
#: ... and seen in the neighbouring frame when nothing lies further than this (decimetres) in front of it.
_COVERED_DM = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageToPlaneRecipe(Recipe):
    """Everything that decides a run besides its data; ``batch`` counts photographs.

    Args:
        model: sizes of the network.
        slab: where samples lie.
        views, patch_px, render_px: pictures per photograph, side of the square that is drawn of each, and of the picture it is cut from;
            ``render_px`` is 64 or 128.
        rate, warm_up_steps, weight_decay: AdamW; the rate falls along a cosine.
        alpha_weight, gradient_weight, depth_weight: of the losses beside the colours' L1.
        unseen_weight: of teacher pixels that the photograph does not show (the teacher guesses there).
        drop_prior: share of photographs for which the fitted depth is withheld; ``jitter`` scales all its other disturbances.
        march: share of steps in which samples surround the prior met along the ray instead of the teacher's own depth.
        temporal_weight: of :func:`temporal_loss`; at 0 it is not computed.
        sway_deg, ease: how far the neighbouring frame of that loss lies: degrees per axis, and share of the way back to the photograph's
            expression.
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
    temporal_weight: float = 1.0
    sway_deg: float = 5.0
    ease: float = 0.15
    jitter: float = 1.0
    precision: str = "bf16"
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
        offset: int8 [m, v, 3, 128, 128] of the m photographs whose views have other expressions, and ``offset_row`` [n], which of them is
            whose (-1: none); both None when there is none.
        ends: float32 [n], rising to 1: photograph i is drawn with probability ``ends[i] - ends[i - 1]``; None draws all alike.
    """

    photo: Tensor
    views: Tensor
    rotation_rad: Tensor
    translation: Tensor
    offset: Tensor | None = None
    offset_row: Tensor | None = None
    ends: Tensor | None = None

    def __len__(self) -> int:
        return len(self.photo)

    def first(self, count: int) -> ViewSet:
        """The first photographs alone."""
        parts = (part[:count] for part in (self.photo, self.views, self.rotation_rad, self.translation))
        return ViewSet(*parts, self.offset, None if self.offset_row is None else self.offset_row[:count])

    def to(self, device: torch.device) -> ViewSet:
        """The same on another device; what is drawn is drawn on the CPU."""
        parts = (self.photo, self.views, self.rotation_rad, self.translation, self.offset, self.offset_row)
        return ViewSet(*(None if part is None else part.to(device) for part in parts), self.ends)

    @staticmethod
    def of(rows: Iterable[LiftedViews], shares: Sequence[float] | None = None) -> ViewSet:
        """Stack rows; ``shares`` [n] are how often each is drawn, relative to the others.

        Raises:
            EmptyMedia: there is none.
        """
        rows = list(rows)
        if not rows:
            raise EmptyMedia("there are no lifted views to train on; pack some with scripts/pack_lifted_views.py")
        stacked = (np.stack([getattr(row, name) for row in rows]) for name in ("photo", "views", "rotation_rad", "translation"))
        moving = [index for index, row in enumerate(rows) if row.offset is not None]
        offset = offset_row = ends = None
        if moving:
            offset = torch.from_numpy(np.stack([rows[index].offset for index in moving]))
            offset_row = torch.full((len(rows),), -1)
            offset_row[moving] = torch.arange(len(moving))
        if shares is not None:
            ends = torch.tensor(shares, dtype=torch.float64).cumsum(0)
            ends = (ends / ends[-1]).float()
        return ViewSet(*(torch.from_numpy(array) for array in stacked), offset, offset_row, ends)


def read_views(
    folders: Path | Sequence[Path], split: str, limit: int | None = None, shares: Sequence[float] | None = None
) -> ViewSet:
    """Packed views in memory (about 1 MB per photograph).

    Args:
        folders: of shards; ``train`` takes their splits ``train`` and ``moving`` (other expressions), any other name that split alone.
            Folders without such a split are passed over as long as one has it.
        split: ``train`` or ``val``.
        limit: photographs at most, of each folder.
        shares: how much of the batches comes from each folder; by default every photograph is drawn alike.

    Raises:
        MediaError: no folder has the split, or a shard is damaged.
    """
    folders = [folders] if isinstance(folders, Path) else list(folders)
    if shares is not None and len(shares) != len(folders):
        raise ValueError(f"{len(shares)} shares for {len(folders)} folders")
    names = ("train", "moving") if split == "train" else (split,)
    rows: list[LiftedViews] = []
    weights: list[float] = []
    for number, folder in enumerate(folders):
        there = [name for name in names if name in lifted_views.splits_of(folder)]
        if not there and len(folders) == 1:
            there = [split]  # says what is missing
        own = [row for name in there for row in lifted_views.read_split(folder, name, limit)]
        rows += own
        weights += [(shares[number] if shares is not None else len(own)) / max(len(own), 1)] * len(own)
    return ViewSet.of(rows, weights if shares is not None else None)


@dataclass(frozen=True, slots=True)
class Batch:
    """b photographs, and of each k views.

    Args:
        picture: [b, 4, s, s]; prior, known: [b, 1, s / 2, s / 2]; what :meth:`CompactImageToPlane.encode` takes.
        source: rotation_rad and translation [b, 3] of the photographs.
        target: the same of the views, [b, k, 3].
        rgba: [b, k, 4, r, r], targets of the whole picture; guide: [b, k, 1, r, r], depth in decimetres, filled; seen: [b, k, 1, r, r].
        offset: [b, k, r, r, 3] decimetres of head space to the photograph's expression; None where all views share it.
    """

    picture: Tensor
    prior: Tensor
    known: Tensor
    source: Pose
    target: Pose
    rgba: Tensor
    guide: Tensor
    seen: Tensor
    offset: Tensor | None = None


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
    moved = _offsets(data, photos, views, render_px)
    if flip is not None:
        # A mirrored picture shows a mirrored head: yaw, roll and the sideways shift change their signs.
        sign = torch.where(flip, -1.0, 1.0)
        turn_sign = torch.stack([torch.ones_like(sign), sign, sign], -1)
        move_sign = torch.stack([sign, torch.ones_like(sign), torch.ones_like(sign)], -1)
        source = source[0] * turn_sign, source[1] * move_sign
        rotation, move = rotation * turn_sign[:, None], move * move_sign[:, None]
        pictures = (torch.where(flip.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x) for x in (picture, prior, known, rgba, guide, seen))
        picture, prior, known, rgba, guide, seen = pictures
        if moved is not None:
            mirrored = moved.flip(-2) * moved.new_tensor([-1.0, 1.0, 1.0])
            moved = torch.where(flip.view(-1, 1, 1, 1, 1), mirrored, moved)
    return Batch(picture, prior, known, source, (rotation, move), rgba, guide, seen, moved)


def _offsets(data: ViewSet, photos: Tensor, views: Tensor, render_px: int) -> Tensor | None:
    """[b, k, r, r, 3] decimetres; 0 for photographs whose views share their expression, None if none of these has others."""
    if data.offset is None:
        return None
    rows = data.offset_row[photos]
    if not bool((rows >= 0).any()):
        return None
    chosen = data.offset[rows.clamp(min=0)[:, None], views].float() * (lifted_views.OFFSET_RANGE_DM / 127)
    chosen = chosen * (rows >= 0).view(-1, 1, 1, 1, 1)
    small = functional.interpolate(chosen.flatten(0, 1), size=(render_px, render_px), mode="area")
    return small.permute(0, 2, 3, 1).unflatten(0, views.shape)


def _relative_depth(code: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Stored depths [b, 1, s, s] -> w [b, 1, size, size], filled, and where it is known."""
    there = (code > 0).float()
    w = (code.float() - 1) * (2 / 254) - 1
    factor = code.shape[-1] // size_px
    known = functional.avg_pool2d(there, factor)
    mean = functional.avg_pool2d(w * there, factor) / known.clamp(min=1e-6)
    known = (known > 0.3).float()
    return fill_smoothly(mean, known), known


def draw_row(
    photographs: int, views: int, recipe: ImageToPlaneRecipe, random: torch.Generator, ends: Tensor | None = None
) -> dict[str, Tensor]:
    """Everything random about a photograph of a batch: which, which views, what is done to it, which patches and samples are seen.

    ``ends``: see :class:`ViewSet`.
    """
    k, j = recipe.views, recipe.jitter
    size, side = recipe.render_px, min(recipe.patch_px, recipe.render_px)
    sparse = len(range(0, side, _TEMPORAL_STRIDE)) ** 2

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=random)

    # Patches crowd towards the middle of the picture, where heads are.
    spread = (uniform(k, 2) + uniform(k, 2)) / 2
    if ends is None:
        photo = torch.randint(photographs, (), generator=random)
    else:
        photo = torch.searchsorted(ends, uniform()).clamp(max=photographs - 1)
    return {
        "photo": photo,
        "views": torch.randperm(views, generator=random)[:k],
        "flip": uniform() < 0.5,
        "gain": 1 + j * uniform(3, low=-0.12, high=0.12) + j * uniform(1, low=-0.15, high=0.15),
        "coarse": j * uniform(1, 5, 5, low=-0.03, high=0.03),
        "scale": 1 + j * uniform(1, 1, 1, low=-0.06, high=0.06),
        "shift": j * uniform(1, 1, 1, low=-0.025, high=0.025),
        "blur": uniform(1, 1, 1) < 0.3 * j,
        "drop": uniform(1, 1, 1) < recipe.drop_prior,
        "guide": j * uniform(k, 1, 1, 1, low=-0.08, high=0.08),
        "corners": ((size - side + 1) * spread).long().clamp(max=size - side),
        "samples": uniform(k, side * side, recipe.slab.samples, low=-0.5, high=0.5),
        "neighbour_of": torch.randint(k, (), generator=random),
        "sway": math.radians(recipe.sway_deg) * uniform(3, low=-1, high=1),
        "ease": recipe.ease * uniform(low=-1, high=1),
        "neighbour_samples": uniform(sparse, recipe.slab.samples, low=-0.5, high=0.5),
    }


def stacked(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Rows under each other: every entry gets a first axis."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def random_batch(data: ViewSet, recipe: ImageToPlaneRecipe, draws: Mapping[str, Tensor], mean_prior: Tensor) -> Batch:
    """The photographs of ``draws``: mirrored at random, colours changed, and with a prior that is wrong in ways in which fits are wrong."""
    batch = collate(data, draws["photo"], draws["views"], recipe.model.photo_px, recipe.render_px, draws["flip"])
    gain = torch.cat([draws["gain"], torch.ones_like(draws["gain"][:, :1])], 1)[:, :, None, None]
    picture, rgba = batch.picture * gain, batch.rgba * gain[:, None]
    # Never brighter than white: premultiplied colours end at their matte.
    picture, rgba = torch.minimum(picture, picture[:, 3:]), torch.minimum(rgba, rgba[:, :, 3:])
    coarse = functional.interpolate(draws["coarse"], size=batch.prior.shape[-2:], mode="bicubic")
    prior = batch.prior * draws["scale"] + draws["shift"] + coarse
    blurred = functional.avg_pool2d(functional.pad(prior, (2,) * 4, mode="replicate"), 5, 1)
    prior = torch.where(draws["blur"], blurred, prior)
    mean = functional.interpolate(mean_prior, size=prior.shape[-2:], mode="bilinear")
    prior = torch.where(draws["drop"], mean, prior)
    known = torch.where(draws["drop"], torch.zeros_like(batch.known), batch.known)
    return replace(batch, picture=picture, rgba=rgba, prior=prior, known=known, guide=batch.guide + draws["guide"])


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
    jitter: Tensor | None = None,
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
        jitter: [b * k, p * p, samples] in -0.5..0.5, moves samples within their steps; None draws the middle of each.
        march: look for the surface of the photograph's prior along each ray: nothing needs to be known about the target view. Views that
            have offsets keep their guide: the prior is of another expression.
        offset: [b, k, r, r, 3] decimetres, what :func:`carry_to_source` takes.

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
    guess = torch.stack([picture[cut] for picture, cut in zip(flat, cuts, strict=True)]).flatten(1)
    moved = None
    if offset is not None:
        moved = torch.stack([picture[cut] for picture, cut in zip(offset.flatten(0, 1), cuts, strict=True)]).flatten(1, 2)
    if march:
        met = march_to_surface(places, planes.prior.repeat_interleave(k, 0), (turn, move), sources, DEPTH_RANGE_DM)
        guess = met if offset is None else torch.where((offset != 0).flatten(0, 1).flatten(1).any(1)[:, None], guess, met)
    rgb, alpha, mean_depth = _draw_rays(model, planes.for_size(size), places, guess, (turn, move), sources, slab, jitter, moved)
    pictures = (b, k, -1, side, side)
    return rgb.transpose(1, 2).reshape(pictures), alpha.reshape(pictures), mean_depth.reshape(pictures)


def _draw_rays(
    model: CompactImageToPlane,
    planes: ViewPlanes,
    places: Tensor,
    guess: Tensor,
    target: Pose,
    source: Pose,
    slab: Slab,
    jitter: Tensor | None,
    offset: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Any rays of m pictures of b heads (m = b k, head by head): ``places`` [m, n, 2], ``guess`` [m, n], poses [m, 3], ``jitter``
    [m, n, samples], ``offset`` [m, n, 3] -> premultiplied colour [m, n, 3], matte [m, n], depth [m, n]."""
    depth = slab_depths(guess, slab, jitter)
    points = carry_to_source(places, depth, target, source, DEPTH_RANGE_DM, offset=offset)
    density, colour = model.field(planes, points.view(len(planes.front), -1, 3))
    return composite(density.reshape(depth.shape), colour.reshape(*depth.shape, 3), depth, 2 * slab.half_dm / slab.samples)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Points of one frame, followed into a frame nearby: where they are seen there.

    Args:
        pose: rotation_rad and translation [b, 3] of the head there.
        places: [b, n, 2], image widths from the middle; depth: [b, n], camera depth in decimetres.
        offset: [b, n, 3], what brings them back to the photograph's expression, or None.
        visible: [b, n] bool, nothing lies in front of them.
    """

    pose: Pose
    places: Tensor
    depth: Tensor
    offset: Tensor | None
    visible: Tensor


def follow(
    places: Tensor, depth: Tensor, pose: Pose, offset: Tensor | None, sway: Tensor, ease: Tensor, size_px: int
) -> Neighbour:
    """Carry seen points along with a head that turns a little and relaxes its expression a little.

    A point at head-space place x of this frame, with ``x + offset`` in the photograph, is at ``x + ease * offset`` in the other frame, and
    its offset there is ``(1 - ease) * offset``. What covers it there is found among the points themselves, on a grid of pixels.

    Args:
        places, depth: [b, n, 2] and [b, n], as in :class:`Neighbour`; pose, offset: of this frame.
        sway: [b, 3] radians added to the rotation; ease: [b], share of the offset that is undone.
        size_px: side of the grid on which points cover each other; about one point should fall on a pixel.
    """
    turn, move = pose
    x, y = (places[..., axis] * depth / FOCAL_IN_WIDTHS for axis in (0, 1))
    posed = torch.stack([x, -y, CAMERA_DISTANCE_DM - depth], -1)
    # Rows times a matrix: from the right it undoes the rotation.
    head = (posed - move[:, None]) @ rotation_matrix(turn)
    if offset is not None:
        head = head + ease[:, None, None] * offset
        offset = (1 - ease)[:, None, None] * offset
    there = head @ rotation_matrix(turn + sway).transpose(-1, -2) + move[:, None]
    away = CAMERA_DISTANCE_DM - there[..., 2]
    seen_at = torch.stack([there[..., 0], -there[..., 1]], -1) * (FOCAL_IN_WIDTHS / away.clamp(min=0.1))[..., None]
    cell = ((seen_at + 0.5) * size_px).floor().long().clamp(0, size_px - 1)
    cell = cell[..., 1] * size_px + cell[..., 0]
    nearest = away.new_full((len(away), size_px * size_px), torch.inf).scatter_reduce(1, cell, away, "amin")
    inside = (seen_at.abs() < 0.5).all(-1)
    return Neighbour((turn + sway, move), seen_at, away, offset, inside & (away < nearest.gather(1, cell) + _COVERED_DM))


def temporal_loss(
    model: CompactImageToPlane,
    planes: ViewPlanes,
    batch: Batch,
    recipe: ImageToPlaneRecipe,
    draws: Mapping[str, Tensor],
    corners: Sequence[tuple[int, int]],
    drawn: tuple[Tensor, Tensor],
    march: bool,
) -> Tensor:
    """Neighbouring frames may differ only as the surface moves (the part of Real3D-Portrait's eq. 4 in this network).

    Eq. 4 asks a motion adapter for residual planes of three neighbouring frames that change evenly:
    ``| P(t - 1) - 2 P(t) + P(t + 1) |``. Here no network makes residuals: motion moves the sample points, by the head's pose and the mesh's
    offsets, which are smooth as the motion is smooth. What can still flicker is the picture: thin or misplaced density lets colours slide
    over the surface, and colours depend on where a ray's samples fall. So the same surface point x is drawn in two frames nearby, a and b,

        ``L = mean over x of v(x) | C_a(p_a(x)) - C_b(p_b(x)) |``,  C = premultiplied colour and matte,

    with p_a(x) a pixel of a, x its surface by the teacher's depth, p_b(x) the exact place to which the known motion carries it (a ray is
    cast there: nothing is resampled), and v = 1 where the head is solid, not seen edge-on, and not covered in b. Along such a path the
    volume's colours are constant, not merely even: the first difference is the stricter form and needs one frame less. Samples are
    jittered independently in both.

    Args:
        model, planes, batch, recipe, draws, march: as in :func:`losses`; planes for this size.
        corners: of the patches; drawn: colour [b, k, 3, p, p] and matte [b, k, 1, p, p] of them.

    Returns:
        A number, not weighted.
    """
    size, stride = recipe.render_px, _TEMPORAL_STRIDE
    b, k, _, side, _ = drawn[0].shape
    view, heads = draws["neighbour_of"], torch.arange(b, device=batch.guide.device)
    chosen = [corners[row * k + int(v)] for row, v in enumerate(view.tolist())]
    cuts = [(slice(r, r + side, stride), slice(c, c + side, stride)) for r, c in chosen]

    def points(pictures: Tensor) -> Tensor:
        """Of one picture [c, r, r] per head -> [b, n, c]."""
        return torch.stack([p[:, rows, columns].flatten(1).T for p, (rows, columns) in zip(pictures, cuts, strict=True)])

    places = torch.stack([pixel_places(size, *cut, device=batch.guide.device) for cut in cuts])
    guide, matte = batch.guide[heads, view], batch.rgba[heads, view, 3:]
    padded = functional.pad(guide, (1, 1, 1, 1), mode="replicate")
    slope = torch.maximum((padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]).abs(), (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]).abs())
    follows = (points(matte) > 0.9) & (points(slope) * (size / 2) < _STEEPEST_DM)
    offset = None if batch.offset is None else points(batch.offset[heads, view].permute(0, 3, 1, 2))
    pose = batch.target[0][heads, view], batch.target[1][heads, view]
    there = follow(places, points(guide)[..., 0], pose, offset, draws["sway"], draws["ease"], size // stride)
    guess = there.depth
    if march:
        met = march_to_surface(there.places, planes.prior, there.pose, batch.source, DEPTH_RANGE_DM)
        guess = met if offset is None else torch.where((offset != 0).flatten(1).any(1)[:, None], guess, met)
    rgb, alpha, _ = _draw_rays(
        model, planes, there.places, guess, there.pose, batch.source, recipe.slab, draws["neighbour_samples"], there.offset
    )
    here = torch.cat(drawn, 2)[heads, view][..., ::stride, ::stride].flatten(2).transpose(1, 2)
    weight = (follows[..., 0] & there.visible).float()
    change = (here - torch.cat([rgb, alpha[..., None]], -1)).abs().mean(-1)
    return (weight * change).sum() / weight.sum().clamp(min=1.0)


def losses(
    model: CompactImageToPlane, batch: Batch, recipe: ImageToPlaneRecipe, draws: Mapping[str, Tensor], march: bool
) -> dict[str, Tensor]:
    """The terms of the loss, weighted; their sum is what falls. ``march``: see :func:`draw`."""
    side = min(recipe.patch_px, recipe.render_px)
    corners = [(int(r), int(c)) for r, c in draws["corners"].flatten(0, 1).tolist()]
    planes = model.encode(batch.picture, batch.prior, batch.known, batch.source[0]).for_size(recipe.render_px)
    jitter = draws["samples"].flatten(0, 1)
    rgb, alpha, depth = draw(model, planes, batch.guide, batch.target, batch.source, recipe.slab, corners, side, jitter, march,
                             batch.offset)  # fmt: skip

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
    terms = {
        "colour": (weight * wrong.abs()).mean(),
        "alpha": recipe.alpha_weight * (alpha - matte).abs().mean(),
        "gradient": recipe.gradient_weight * slope,
        "depth": recipe.depth_weight * ((depth - guide).abs() * solid).mean(),
    }
    if recipe.temporal_weight > 0:
        steady = temporal_loss(model, planes, batch, recipe, draws, corners, (rgb, alpha), march)
        terms["temporal"] = recipe.temporal_weight * steady
    return terms


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


# -- the stage -------------------------------------------------------------------------------------------------------------


class CompactStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Args:
        recipe: what to do.
        data, held_out: photographs to learn from, and to be judged by.
        start: weights of an earlier stage.
        device: where the photographs are kept.
    """

    name = "image_to_plane"
    averaged = ("image_to_plane",)

    def __init__(
        self, recipe: ImageToPlaneRecipe, data: ViewSet, held_out: ViewSet, start: CompactImageToPlane | None = None, device: str = "cpu"
    ) -> None:
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        model = CompactImageToPlane(recipe.model)
        if start is not None:
            model.load_state_dict(start.state_dict())
        else:
            model.mean_prior.copy_(mean_prior(data))
        self.networks = nn.ModuleDict({"image_to_plane": model.to(memory_format=torch.channels_last)})
        self.frozen = nn.ModuleDict()
        self._ends = data.ends
        self._data, self._held_out = data.to(torch.device(device)), held_out.first(recipe.validation_photos).to(torch.device(device))

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        recipe = self.recipe
        optimiser = torch.optim.AdamW(
            self.networks.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
        )
        return {"generator": (optimiser, self.averaged)}

    def rates(self, which: str, step: int) -> list[float]:
        return [rate_at(step, self.recipe)]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> dict[str, Tensor]:
        count, views = len(self._data), self._data.views.shape[1]
        return stacked([draw_row(count, views, self.recipe, row_generator(self.recipe.seed, step, row), self._ends) for row in rows])

    def losses(self, batch: dict[str, Tensor], step: int, which: str) -> dict[str, Tensor]:
        model = self.networks["image_to_plane"]
        march = float(torch.rand(1, generator=row_generator(self.recipe.seed, step, -1))) < self.recipe.march
        return losses(model, random_batch(self._data, self.recipe, batch, model.mean_prior), self.recipe, batch, march)

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        model = networks["image_to_plane"]
        score = evaluate(model, self._held_out, self.recipe)
        values = {"novel_db": score.novel, "own_db": score.own, "copy_db": score.copy, "warp_db": score.warp}
        values["sway_255"] = sway_score(model, self._held_out, self.recipe)
        return values, comparison(model, self._held_out.first(6), self.recipe)

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        save_image_to_plane(networks["image_to_plane"], folder / "model.safetensors", notes | {"photographs": str(len(self._data))})


def row_generator(seed: int, step: int, row: int) -> torch.Generator:
    """Random numbers of one row of one step's batch; row -1 is the step's own."""
    return torch.Generator().manual_seed(((seed * 1_000_003 + step) * 65_537 + row + 1) & 0x7FFFFFFFFFFFFFFF)


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


def train(
    recipe: ImageToPlaneRecipe,
    data: ViewSet,
    held_out: ViewSet,
    folder: Path,
    start: CompactImageToPlane | None = None,
    stop_after: float | None = None,
    device: str = "cpu",
) -> CompactImageToPlane:
    """Train on one device, or go on where ``folder`` left off; see :func:`triportrait.training.loop.train_stage`.

    Args:
        recipe, data, held_out, start: see :class:`CompactStage`.
        folder: gets the run's files.
        stop_after: seconds of wall time after which the run is saved and left; None goes to the end.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        the network with averaged weights.

    Raises:
        NumericError: the loss is no number for many steps in a row.
        OptionError: the folder holds another run.
    """
    stage = CompactStage(recipe, data, held_out, start, device)
    train_stage(stage, folder, SingleDevice(device), stop_after=stop_after)
    return stage.networks_average["image_to_plane"]


def rate_at(step: int, recipe: ImageToPlaneRecipe) -> float:
    """Learning rate: a short rise, then a cosine down to a fiftieth."""
    rise = min(1.0, (step + 1) / max(1, recipe.warm_up_steps))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.steps)))
    return recipe.rate * rise * (0.02 + 0.98 * fall)
