"""Volume rendering with few samples near a surface that is roughly known; the field is handed in as a function.

Rays belong to a *target* pose of the head, samples are asked for in the frame of the *source* photograph's camera: both cameras stand
still, the head turns (spec 3.1), so that a sample is carried over by one rigid motion. Quadrature: Max, "Optical models for direct volume
rendering" (1995), as in NeRF, equation 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS


@dataclass(frozen=True, slots=True)
class Slab:
    """Where samples lie: ``samples`` of them, evenly within ``half_dm`` decimetres before and behind the guessed surface."""

    samples: int = 12
    half_dm: float = 0.35


def rotation_matrix(rotation_rad: Tensor) -> Tensor:
    """``Rz(roll) Ry(yaw) Rx(pitch)`` of angles [..., 3] (pitch, yaw, roll) -> [..., 3, 3]; numpy's twin is in geometry.rotations."""
    (cx, cy, cz), (sx, sy, sz) = rotation_rad.cos().unbind(-1), rotation_rad.sin().unbind(-1)
    rows = [
        torch.stack([cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx], -1),
        torch.stack([sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx], -1),
        torch.stack([-sy, cy * sx, cy * cx], -1),
    ]
    return torch.stack(rows, -2)


def pixel_places(size_px: int, rows: slice = slice(None), columns: slice = slice(None), device: torch.device | None = None) -> Tensor:
    """Centres [n, 2] of pixels (x, y) in image widths from the middle, y down, for a rectangle of a square picture."""
    line = (torch.arange(size_px, dtype=torch.float32, device=device) + 0.5) / size_px - 0.5
    y, x = torch.meshgrid(line[rows], line[columns], indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def slab_depths(guide: Tensor, slab: Slab, jitter: Tensor | None = None) -> Tensor:
    """Depths [..., k] of samples, near first, round ``guide`` [...]; ``jitter`` [..., k] in -0.5..0.5 moves each within its step."""
    steps = (torch.arange(slab.samples, dtype=guide.dtype, device=guide.device) + 0.5) / slab.samples * 2 - 1
    depth = guide[..., None] + slab.half_dm * steps
    return depth if jitter is None else depth + jitter * (2 * slab.half_dm / slab.samples)


def carry_to_source(
    places: Tensor,
    depth: Tensor,
    target: tuple[Tensor, Tensor],
    source: tuple[Tensor, Tensor],
    range_dm: float,
    focal: float = FOCAL_IN_WIDTHS,
    offset: Tensor | None = None,
) -> Tensor:
    """Samples on the target's rays -> (u, v, w) of the source camera: picture coordinates in -1..1, and depth.

    Args:
        places: [b, n, 2] from :func:`pixel_places`.
        depth: [b, n, k] camera depths in decimetres.
        target, source: rotation_rad [b, 3] and translation [b, 3] of the head in either picture.
        range_dm: depth at which w is 1, relative to the head's origin.
        focal: focal length in image widths, of both.
        offset: [b, n, 3] decimetres of head space, added to all samples of a ray: from where the target's expression has brought the
            skin back to where the photograph shows it.

    Returns:
        [b, n, k, 3].
    """
    x, y = (places[:, :, None, axis] * depth / focal for axis in (0, 1))
    posed = torch.stack([x, -y, CAMERA_DISTANCE_DM - depth], -1)
    (turn_target, move_target), (turn_source, move_source) = target, source
    turn = rotation_matrix(turn_source) @ rotation_matrix(turn_target).transpose(-1, -2)
    there = torch.einsum("bij,bnkj->bnki", turn, posed - move_target[:, None, None]) + move_source[:, None, None]
    if offset is not None:
        there = there + torch.einsum("bij,bnj->bni", rotation_matrix(turn_source), offset)[:, :, None]
    away = CAMERA_DISTANCE_DM - there[..., 2]
    scale = 2 * focal / away.clamp(min=0.1)
    return torch.stack([there[..., 0] * scale, -there[..., 1] * scale, -(there[..., 2] - move_source[:, None, None, 2]) / range_dm], -1)


@torch.no_grad()
def march_to_surface(
    places: Tensor,
    prior: Tensor,
    target: tuple[Tensor, Tensor],
    source: tuple[Tensor, Tensor],
    range_dm: float,
    steps: int = 32,
    focal: float = FOCAL_IN_WIDTHS,
) -> Tensor:
    """Where the target's rays first meet the surface that a depth map of the *source* picture describes (relief mapping).

    Policarpo, Oliveira and Comba, "Real-time relief mapping on arbitrary polygonal surfaces" (2005): even steps, one linear refinement.

    Args:
        places, target, source, range_dm, focal: as for :func:`carry_to_source`.
        prior: [b, 1, h, w], depth of the surface over (u, v), as w; smooth beyond the head's outline.
        steps: along the ray, over the whole range.

    Returns:
        camera depth [b, n] in decimetres; where the surface is missed, that of the nearest approach.
    """
    middle = CAMERA_DISTANCE_DM - target[1][:, 2]
    line = torch.linspace(-1, 1, steps, device=prior.device) * range_dm
    depth = (middle[:, None, None] + line).expand(-1, places.shape[1], -1)  # [b, n, k]
    points = carry_to_source(places, depth, target, source, range_dm, focal)
    under = functional.grid_sample(prior, points[..., :2], padding_mode="border", align_corners=False)[:, 0]
    behind = points[..., 2] - under  # negative in front of the surface
    crosses = (behind[..., :-1] < 0) & (behind[..., 1:] >= 0)
    first = crosses.float().argmax(-1, keepdim=True)
    before, after = behind.gather(-1, first), behind.gather(-1, first + 1)
    part = (before / (before - after).clamp(max=-1e-6)).clamp(0, 1)
    met = depth.gather(-1, first) + part * (2 * range_dm / (steps - 1))
    nearest = depth.gather(-1, behind.abs().argmin(-1, keepdim=True))
    return torch.where(crosses.any(-1, keepdim=True), met, nearest)[..., 0]


def composite(density: Tensor, colour: Tensor, depth: Tensor, step_dm: float) -> tuple[Tensor, Tensor, Tensor]:
    """Front-to-back sum of samples.

    Args:
        density: [..., k] per decimetre, near first; colour: [..., k, 3]; depth: [..., k].
        step_dm: distance that one sample stands for.

    Returns:
        premultiplied colour [..., 3], matte [...], and mean depth [...] (of what was hit; 0 where nothing was).
    """
    optical = density * step_dm
    passed = torch.exp(-(torch.cumsum(optical, -1) - optical))
    weight = passed * (1 - torch.exp(-optical))
    matte = weight.sum(-1)
    return (weight[..., None] * colour).sum(-2), matte, (weight * depth).sum(-1) / matte.clamp(min=1e-4)


def fill_smoothly(values: Tensor, known: Tensor) -> Tensor:
    """Values [b, 1, s, s] where ``known`` [b, 1, s, s] is 0 come from ever wider averages; s is a power of two.

    Push and pull, as compiled in :mod:`triportrait.avatar.oneshot.guide`; :func:`triportrait.geometry.filling.push_pull` has smoother taps.
    """
    levels = [(values * known, known)]
    while levels[-1][0].shape[-1] > 1:
        total, weight = levels[-1]
        levels.append((functional.avg_pool2d(total, 2), functional.avg_pool2d(weight, 2)))
    total, weight = levels[-1]
    filled = total / weight.clamp(min=1e-6)
    for total, weight in levels[-2::-1]:
        size = weight.shape[-2:]
        wide = functional.interpolate(filled, size=size, mode="bilinear") if filled.shape[-1] > 1 else filled.expand(-1, -1, *size)
        trust = (4 * weight).clamp(max=1)
        filled = trust * total / weight.clamp(min=1e-6) + (1 - trust) * wide
    return filled
