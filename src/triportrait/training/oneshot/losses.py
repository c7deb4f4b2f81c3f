"""Losses of the compact image-to-plane network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from triportrait.avatar.oneshot.image_to_plane import CompactImageToPlane, ViewPlanes
from triportrait.avatar.oneshot.planes import DEPTH_RANGE_DM
from triportrait.avatar.oneshot.volume import Slab, carry_to_source, composite, march_to_surface, pixel_places, rotation_matrix, slab_depths
from triportrait.training.oneshot.recipe import TEMPORAL_STRIDE, ImageToPlaneRecipe
from triportrait.training.oneshot.views import Batch, Pose
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS

#: A point is followed where the teacher's surface is no steeper than this (decimetres of depth per image width) ...
_STEEPEST_DM = 6.0
#: ... and seen in the neighbouring frame when nothing lies further than this (decimetres) in front of it.
_COVERED_DM = 0.1


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


def follow(places: Tensor, depth: Tensor, pose: Pose, offset: Tensor | None, sway: Tensor, ease: Tensor, size_px: int) -> Neighbour:
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
    size, stride = recipe.render_px, TEMPORAL_STRIDE
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
    rgb, alpha, depth = draw(
        model, planes, batch.guide, batch.target, batch.source, recipe.slab, corners, side, jitter, march, batch.offset
    )

    def cut(pictures: Tensor) -> Tensor:
        flat = pictures.flatten(0, 1)
        parts = [p[:, r : r + side, c : c + side] for p, (r, c) in zip(flat, corners, strict=True)]
        return torch.stack(parts).view(*pictures.shape[:2], -1, side, side)

    rgba, seen, guide = cut(batch.rgba), cut(batch.seen), cut(batch.guide)
    matte = rgba[:, :, 3:]
    weight = (1 + matte) * torch.where(matte > 0.5, recipe.unseen_weight + (1 - recipe.unseen_weight) * seen, 1.0)
    wrong = rgb - rgba[:, :, :3]
    across, down = ((wrong.diff(dim=axis).abs() * weight.narrow(axis, 1, side - 1)).mean() for axis in (-1, -2))
    solid = (matte > 0.9).float()
    terms = {
        "colour": (weight * wrong.abs()).mean(),
        "alpha": recipe.alpha_weight * (alpha - matte).abs().mean(),
        "gradient": recipe.gradient_weight * (across + down),
        "depth": recipe.depth_weight * ((depth - guide).abs() * solid).mean(),
    }
    if recipe.temporal_weight > 0:
        steady = temporal_loss(model, planes, batch, recipe, draws, corners, (rgb, alpha), march)
        terms["temporal"] = recipe.temporal_weight * steady
    return terms
