"""Views of lifted portraits as training rows of the image-to-plane network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from triportrait.avatar.oneshot.planes import DEPTH_RANGE_DM
from triportrait.avatar.oneshot.volume import fill_smoothly
from triportrait.errors import EmptyMedia, OptionError
from triportrait.synth import lifted_views
from triportrait.synth.lifted_views import LiftedViews
from triportrait.training.oneshot.recipe import TEMPORAL_STRIDE, ImageToPlaneRecipe
from triportrait.types import CAMERA_DISTANCE_DM

Pose = tuple[Tensor, Tensor]


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
        rows = None if self.offset_row is None else self.offset_row[:count]
        return replace(
            self,
            photo=self.photo[:count],
            views=self.views[:count],
            rotation_rad=self.rotation_rad[:count],
            translation=self.translation[:count],
            offset_row=rows,
            ends=None,
        )

    def to(self, device: torch.device) -> ViewSet:
        """The same on another device; what is drawn is drawn on the CPU."""
        return replace(
            self,
            photo=self.photo.to(device),
            views=self.views.to(device),
            rotation_rad=self.rotation_rad.to(device),
            translation=self.translation.to(device),
            offset=None if self.offset is None else self.offset.to(device),
            offset_row=None if self.offset_row is None else self.offset_row.to(device),
        )

    @staticmethod
    def of(rows: Iterable[LiftedViews], shares: Sequence[float] | None = None) -> ViewSet:
        """Stack rows; ``shares`` [n] are how often each is drawn, relative to the others.

        Raises:
            EmptyMedia: there is none.
        """
        rows = list(rows)
        if not rows:
            raise EmptyMedia("there are no packed views to train on; make some with 'triportrait data views -o VIEWS'")
        names = ("photo", "views", "rotation_rad", "translation")
        photo, views, rotation, translation = (torch.from_numpy(np.stack([getattr(row, name) for row in rows])) for name in names)
        moving = {index: row.offset for index, row in enumerate(rows) if row.offset is not None}
        offset = offset_row = ends = None
        if moving:
            offset = torch.from_numpy(np.stack(list(moving.values())))
            offset_row = torch.full((len(rows),), -1)
            offset_row[list(moving)] = torch.arange(len(moving))
        if shares is not None:
            ends = torch.tensor(shares, dtype=torch.float64).cumsum(0)
            ends = (ends / ends[-1]).float()
        return ViewSet(photo, views, rotation, translation, offset, offset_row, ends)


def read_views(folders: Path | Sequence[Path], split: str, limit: int | None = None, shares: Sequence[float] | None = None) -> ViewSet:
    """Packed views in memory (about 1 MB per photograph).

    Args:
        folders: of shards; ``train`` takes their splits ``train`` and ``moving`` (other expressions), any other name that split alone.
            Folders without such a split are passed over as long as one has it.
        split: ``train`` or ``val``.
        limit: photographs at most, of each folder.
        shares: how much of the batches comes from each folder; by default every photograph is drawn alike.

    Raises:
        MediaError: no folder has the split, or a shard is damaged.
        OptionError: not one share for each folder.
    """
    folders = [folders] if isinstance(folders, Path) else list(folders)
    if shares is not None and (len(shares) != len(folders) or min(shares) < 0 or not sum(shares)):
        raise OptionError(f"--shares has {len(shares)} numbers for {len(folders)} folders; give one for each, none below 0")
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
    if not rows:
        where = ", ".join(f"'{folder}'" for folder in folders)
        raise EmptyMedia(f"there are no packed views of the split {split!r} in {where}; make some with 'triportrait data views -o VIEWS'")
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
    if data.offset is None or data.offset_row is None:
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
    sparse = len(range(0, side, TEMPORAL_STRIDE)) ** 2

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


def row_generator(seed: int, step: int, row: int) -> torch.Generator:
    """Random numbers of one row of one step's batch; row -1 is the step's own."""
    return torch.Generator().manual_seed(((seed * 1_000_003 + step) * 65_537 + row + 1) & 0x7FFFFFFFFFFFFFFF)
