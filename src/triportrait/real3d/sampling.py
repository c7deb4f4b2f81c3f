"""Where on a ray to look, and what the planes hold there. b pictures, r rays, s samples, n points, c channels.

Without random numbers (the default everywhere) coarse samples lie in the middle of their steps and fine ones at even quantiles: the
same input gives the same picture, and a video does not flicker. Training draws both with :func:`random_positions`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: Axes (W, H) of the three planes; x, y, z = 0, 1, 2. The first is what EG3D and Real3D-Portrait were trained with, by mistake: no
#: plane depends on y and z together (spec 2.3).
LAYOUTS: dict[str, tuple[tuple[int, int], ...]] = {
    "eg3d_original": ((0, 1), (0, 2), (2, 0)),
    "eg3d_fixed": ((0, 1), (0, 2), (2, 1)),
}


@dataclass(frozen=True, slots=True)
class SamplePositions:
    """Positions within the steps of the coarse pass and quantiles of the fine one.

    Args:
        jitter: 0..1, one number or a tensor that broadcasts to [b, r, coarse].
        quantiles: 0..1, [fine] or [b, r, fine]; need not be sorted.
    """

    jitter: Tensor | float
    quantiles: Tensor


def middle_positions(fine: int, like: Tensor) -> SamplePositions:
    """The positions without random numbers, on the device and in the dtype of ``like``."""
    return SamplePositions(0.5, torch.linspace(0.0, 1.0, fine, dtype=like.dtype, device=like.device))


def random_positions(
    shape: tuple[int, int], coarse: int, fine: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
) -> SamplePositions:
    """Uniform positions for ``shape`` = (b, r) rays, on the generator's device."""

    def draw(count: int) -> Tensor:
        return torch.rand((*shape, count), generator=generator, device=generator.device, dtype=dtype)

    return SamplePositions(draw(coarse), draw(fine))


def stratified_depths(near: Tensor, far: Tensor, count: int, jitter: Tensor | float = 0.5) -> Tensor:
    """``near + (far - near) * (k + jitter) / (count - 1)`` for k = 0 .. count - 1.

    As published: the steps start at near, and the last sample lies up to one step beyond far.

    Args:
        near, far: [b, r].
        count: samples per ray, at least 2.
        jitter: 0..1, one number or [b, r, count].

    Returns:
        [b, r, count], increasing.
    """
    steps = torch.linspace(0.0, 1.0, count, dtype=near.dtype, device=near.device)
    span = (far - near)[..., None]
    return near[..., None] + span * steps + jitter * (span / (count - 1))


def importance_depths(depths: Tensor, weights: Tensor, quantiles: Tensor) -> Tensor:
    """Depths drawn where the coarse pass saw something: its smoothed weights by inverse CDF (mip-NeRF; EG3D, section 4.3).

    Args:
        depths: [b, r, s] of the coarse pass, increasing.
        weights: [b, r, s - 1] of its intervals.
        quantiles: [f] or [b, r, f] in 0..1.

    Returns:
        [b, r, f] in the order of ``quantiles``.
    """
    # Blurred to the greater of both neighbours, so that the surroundings of a surface get samples; 0.01 keeps every interval possible.
    blurred = functional.avg_pool1d(functional.max_pool1d(weights, 2, 1, padding=1), 2, 1) + 0.01
    middles = 0.5 * (depths[..., 1:] + depths[..., :-1])  # [b, r, s - 1]
    share = blurred[..., 1:-1] + 1e-5
    share = share / share.sum(-1, keepdim=True)
    # Interval k of the s - 3 ends at middles k and k + 1; the last middle is never reached (as published).
    cumulative = functional.pad(torch.cumsum(share, -1), (1, 0))  # [b, r, s - 2]
    quantiles = quantiles.expand(*depths.shape[:-1], -1).contiguous()
    above = torch.searchsorted(cumulative, quantiles, right=True)
    low, high = (above - 1).clamp(min=0), above.clamp(max=cumulative.shape[-1] - 1)
    from_cumulative = torch.gather(cumulative, -1, low)
    step = torch.gather(cumulative, -1, high) - from_cumulative
    step = torch.where(step < 1e-5, 1.0, step)
    start, end = torch.gather(middles, -1, low), torch.gather(middles, -1, high)
    return start + (quantiles - from_cumulative) / step * (end - start)


def project_to_planes(points: Tensor, layout: str, box_side: float = 1.0) -> Tensor:
    """Points [b, n, 3] -> coordinates (along W, along H) on the three planes, [b, 3, n, 2], -1..1 inside the box.

    Raises:
        KeyError: no layout of that name.
    """
    axes = LAYOUTS[layout]
    return torch.stack([points[..., list(pair)] for pair in axes], 1) * (2.0 / box_side)


def sample_planes(planes: Tensor, points: Tensor, layout: str, box_side: float = 1.0) -> Tensor:
    """The mean of the three planes' features at points; zeros lie outside (EG3D, section 4.1).

    Args:
        planes: [b, 3, c, h, w].
        points: [b, n, 3].
        layout: a key of :data:`LAYOUTS`.
        box_side: side of the box that the planes fill, centred at the origin.

    Returns:
        [b, n, c].
    """
    grid = project_to_planes(points, layout, box_side).flatten(0, 1)[:, :, None]  # [3 b, n, 1, 2]
    features = functional.grid_sample(planes.flatten(0, 1), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return features[..., 0].unflatten(0, (-1, 3)).mean(1).transpose(1, 2)


def plane_rows(planes: Tensor) -> Tensor:
    """One picture's planes [3, c, h, w] as rows [3 * h * w, c] for :func:`sample_rows`; a view of channels-last planes."""
    return planes.permute(0, 2, 3, 1).reshape(-1, planes.shape[1])


def sample_rows(rows: Tensor, size: tuple[int, int], points: Tensor, layout: str, box_side: float = 1.0) -> Tensor:
    """:func:`sample_planes` for one picture, several times faster on a CPU: each point adds up twelve weighted rows.

    Args:
        rows: [3 * h * w, c] from :func:`plane_rows`.
        size: (h, w) of a plane.
        points: [n, 3].
        layout: a key of :data:`LAYOUTS`.
        box_side: see :func:`sample_planes`.

    Returns:
        [n, c].
    """
    height, width = size
    scaled = points.T * (1.0 / box_side) + 0.5  # [3, n], 0..1 inside the box
    axes = LAYOUTS[layout]
    columns = scaled[[pair[0] for pair in axes]] * width - 0.5  # [3, n]
    lines = scaled[[pair[1] for pair in axes]] * height - 0.5
    first = torch.arange(3, dtype=torch.int32, device=points.device)[:, None] * (height * width)
    index = torch.empty((points.shape[0], 3, 2, 2), dtype=torch.int32, device=points.device)
    share = torch.empty((points.shape[0], 3, 2, 2), dtype=points.dtype, device=points.device)
    across, down = (_corners(position, count) for position, count in ((columns, width), (lines, height)))
    for i, (line, line_share) in enumerate(down):
        start, thirds = first + line * width, line_share * (1.0 / 3.0)
        for j, (column, column_share) in enumerate(across):
            index[:, :, i, j] = (start + column).T
            share[:, :, i, j] = (thirds * column_share).T
    return functional.embedding_bag(index.flatten(1), rows, mode="sum", per_sample_weights=share.flatten(1))


def _corners(position: Tensor, count: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The two neighbours of positions (in cells, centres at integers): index within 0 .. count - 1 and share, 0 where outside."""
    # Far outside, an integer would overflow.
    position = position.clamp(-2.0, count + 1.0)
    floor = position.floor()
    upper_share = position - floor
    lower = floor.int()
    upper = lower + 1

    def inside(index: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        return index.clamp(0, count - 1), torch.where((index >= 0) & (index < count), share, 0.0)

    return inside(lower, 1.0 - upper_share), inside(upper, upper_share)
