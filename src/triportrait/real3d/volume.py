"""Volume rendering of a tri-plane (EG3D, section 4; Real3D-Portrait, section 3.3). b pictures, r rays, s samples, c channels.

The published renderer sorts the colours of all samples along each ray. Here the samples' *weights* go back to where the samples came
from: colours are neither sorted nor stored, the coarse pass is decoded once, and samples without weight need no colour at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.real3d.compositing import expected_depth, interval_weights, sample_weights
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.rays import box_crossings, camera_rays, published_bounds
from triportrait.real3d.sampling import (
    SamplePositions,
    importance_depths,
    middle_positions,
    plane_rows,
    sample_planes,
    sample_rows,
    stratified_depths,
)
from triportrait.types import TriPlane

#: Density (before its activation) of a sample in a cell that is known to be empty: light passes unhindered.
EMPTY_DENSITY = -20.0


@dataclass(frozen=True, slots=True)
class VolumeRender:
    """What the cameras see; size is the side in pixels.

    Args:
        features: [b, c, size, size]; the first three are the raw picture, -1..1, -1 where nothing is.
        depth: [b, 1, size, size] along the rays, in EG3D world units; the farthest sample where nothing is.
        alpha: [b, 1, size, size] in 0..1.
    """

    features: Tensor
    depth: Tensor
    alpha: Tensor


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Which cells of the volume can hold something.

    Args:
        cells: [g, g, g] bool over x, y, z.
        box_side: side of the volume, centred at the origin.
    """

    cells: Tensor
    box_side: float

    def at(self, points: Tensor) -> Tensor:
        """Whether points [..., 3] lie in occupied cells, bool [...]; never outside the volume."""
        count = len(self.cells)
        index = ((points * (1.0 / self.box_side) + 0.5) * count).floor()
        inside = ((index >= 0) & (index < count)).all(-1)
        x, y, z = index.clamp(0, count - 1).long().unbind(-1)
        return self.cells.flatten()[(x * count + y) * count + z] & inside


class VolumeRenderer(nn.Module):
    """Tri-planes and cameras to features, depth and alpha.

    Args:
        decoder: features of a point to density and colours; its state keys are ``decoder.*``.
        config: sizes.
    """

    @dataclass(frozen=True, slots=True)
    class Config:
        """Sizes; the defaults are the published ones.

        Args:
            size_px: side of the rendered picture.
            coarse: samples per ray of the first pass.
            fine: samples per ray of the second.
            box_side: side of the volume.
            bounds: distances from the camera between which all rays are sampled, in EG3D world units (EG3D and Talk3D; spec C.4); None
                takes where a ray enters and leaves the volume (Real3D-Portrait).
            published_misses: rays that miss the volume are sampled as the published code does (spec 2.3) instead of being empty.
            colour_threshold: samples that would show by less than this are not coloured; 0 colours all, as published.
            rays_at_once: of inference on a CPU, so that a part's samples stay in the caches; elsewhere all rays go at once.
        """

        size_px: int = 128
        coarse: int = 48
        fine: int = 48
        box_side: float = 1.0
        bounds: tuple[float, float] | None = None
        published_misses: bool = False
        colour_threshold: float = 0.0
        rays_at_once: int = 1024

    def __init__(self, decoder: Decoder, config: Config | None = None) -> None:
        super().__init__()
        self.decoder = decoder
        self.config = config or self.Config()

    def forward(
        self,
        planes: TriPlane,
        cameras: Tensor,
        positions: SamplePositions | None = None,
        occupancy: Occupancy | None = None,
    ) -> VolumeRender:
        """Render one picture per camera.

        Args:
            planes: of b pictures.
            cameras: [b, 25] as ``types.Camera.to_eg3d``.
            positions: where to sample, over r = size_px ** 2 rays; None takes the middles (no randomness).
            occupancy: lets rays and samples in empty cells be skipped; it must hold for all b pictures.
        """
        # Depths need single precision: eight bits of mantissa are less than the samples of a ray.
        with torch.autocast(cameras.device.type, enabled=False):
            return self._render(replace(planes, planes=planes.planes.float()), cameras.float(), positions, occupancy)

    @torch.no_grad()
    def occupancy(self, planes: TriPlane, cells: int = 48, threshold: float = 0.01, margin: int = 2) -> Occupancy:
        """Cells around everything that stops light.

        Args:
            planes: of any number of pictures; the result holds for all of them.
            cells: per axis.
            threshold: greatest opacity of one cell's width that counts as nothing.
            margin: cells added around, for motion and for what lies between the probes.
        """
        side = self.config.box_side
        centres = ((torch.arange(cells, device=planes.planes.device) + 0.5) / cells - 0.5) * side
        points = torch.stack(torch.meshgrid(centres, centres, centres, indexing="ij"), -1).flatten(0, 2)
        occupied = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        for picture in planes.planes:
            look_up = _look_up(picture, planes.layout, side)
            density = torch.cat([self.decoder.density(self.decoder.hide(look_up(part))) for part in points.split(16384)])
            occupied |= 1.0 - torch.exp(-functional.softplus(density - 1.0) * (side / cells)) > threshold
        grid = occupied.view(1, 1, cells, cells, cells).to(centres.dtype)
        grown = functional.max_pool3d(grid, 2 * margin + 1, 1, margin)
        return Occupancy(grown[0, 0] > 0, side)

    def _render(self, planes: TriPlane, cameras: Tensor, positions: SamplePositions | None, occupancy: Occupancy | None) -> VolumeRender:
        config = self.config
        origins, directions = camera_rays(cameras, config.size_px)
        half = 0.5 * config.box_side
        near, far, hit = box_crossings(origins, directions, -half, half)
        if config.bounds is not None:
            near, far = (torch.full_like(near, bound) for bound in config.bounds)
            hit = torch.ones_like(hit)
        elif config.published_misses:
            near, far = published_bounds(near, far, hit)
            hit = torch.ones_like(hit)
        positions = positions or middle_positions(config.fine, near)
        pictures = [
            self._picture(planes, i, _Rays(origins[i], directions[i], near[i], far[i], hit[i]), _picture_positions(positions, i), occupancy)
            for i in range(len(cameras))
        ]
        features, depth, alpha = (torch.stack(parts) for parts in zip(*pictures, strict=True))  # [b, r, c], [b, r], [b, r]
        square = (config.size_px, config.size_px)
        return VolumeRender(
            features.transpose(1, 2).unflatten(2, square), depth[:, None].unflatten(2, square), alpha[:, None].unflatten(2, square)
        )

    def _picture(
        self, planes: TriPlane, index: int, rays: _Rays, positions: SamplePositions, occupancy: Occupancy | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One picture: features [r, c], depth [r], alpha [r]."""
        config = self.config
        look_up = _look_up(planes.planes[index], planes.layout, config.box_side)
        wanted = rays.hit
        if occupancy is not None:
            wanted = wanted & _meets(rays, occupancy)
        (order,) = torch.nonzero(wanted, as_tuple=True)
        count, channels = len(wanted), self.decoder.config.colours
        features = rays.near.new_full((count, channels), -1.0)
        depth, alpha = rays.near.new_full((count,), torch.inf), rays.near.new_zeros(count)
        if not len(order):
            return features, depth, alpha
        small = planes.planes.device.type == "cpu" and not torch.is_grad_enabled()
        at_once = config.rays_at_once if small else len(order)
        parts = [
            self._trace(look_up, rays.take(chosen), _chosen_positions(positions, chosen), occupancy) for chosen in order.split(at_once)
        ]
        seen_features, seen_depth, seen_alpha, nearest, farthest = (torch.cat(part) for part in zip(*parts, strict=True))
        depth = depth.index_put((order,), seen_depth).clamp(nearest.amin(), farthest.amax())
        return features.index_put((order,), seen_features), depth, alpha.index_put((order,), seen_alpha)

    def _trace(
        self, look_up: Callable[[Tensor], Tensor], rays: _Rays, positions: SamplePositions, occupancy: Occupancy | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Rays: features [r, c], depth [r], alpha [r], nearest and farthest sample [r]."""
        config = self.config
        coarse = stratified_depths(rays.near, rays.far, config.coarse, positions.jitter)
        coarse_hidden, coarse_density = self._decode(look_up, rays, coarse, occupancy)
        with torch.no_grad():
            fine = importance_depths(coarse, interval_weights(coarse, coarse_density), positions.quantiles)
        fine_hidden, fine_density = self._decode(look_up, rays, fine, occupancy)

        depths, order = torch.sort(torch.cat([coarse, fine], 1), 1)
        density = torch.gather(torch.cat([coarse_density, fine_density], 1), 1, order)
        intervals = interval_weights(depths, density)
        weights = torch.empty_like(depths).scatter(1, order, sample_weights(intervals))
        coarse_weights, fine_weights = weights.split([config.coarse, config.fine], 1)
        colours = self._coloured(coarse_hidden, coarse_weights) + self._coloured(fine_hidden, fine_weights)
        depth = expected_depth(depths[:, None], intervals[:, None])[:, 0]
        return 2.0 * colours - 1.0, depth, intervals.sum(1), depths[:, 0], depths[:, -1]

    def _decode(
        self, look_up: Callable[[Tensor], Tensor], rays: _Rays, depths: Tensor, occupancy: Occupancy | None
    ) -> tuple[_Hidden, Tensor]:
        """Hidden channels and densities [r, s] of samples at ``depths`` [r, s]."""
        points = rays.origins[:, None] + depths[..., None] * rays.directions[:, None]  # [r, s, 3]
        points = points.flatten(0, 1)
        if occupancy is None:
            hidden = self.decoder.hide(look_up(points))
            return _Hidden(hidden, None), self.decoder.density(hidden).view_as(depths)
        (which,) = torch.nonzero(occupancy.at(points), as_tuple=True)
        hidden = self.decoder.hide(look_up(points[which]))
        empty = depths.new_full((depths.numel(),), EMPTY_DENSITY)
        return _Hidden(hidden, which), empty.index_put((which,), self.decoder.density(hidden)).view_as(depths)

    def _coloured(self, hidden: _Hidden, weights: Tensor) -> Tensor:
        """The sum of the samples' colours by ``weights`` [r, s] -> [r, c]."""
        if hidden.which is None and self.config.colour_threshold <= 0:
            colours = self.decoder.colours(hidden.channels).unflatten(0, weights.shape)
            return (weights[:, None] @ colours)[:, 0]
        flat = weights.flatten()
        which = torch.arange(len(flat), device=flat.device) if hidden.which is None else hidden.which
        seen = flat[which] > self.config.colour_threshold
        which = which[seen]
        colours = self.decoder.colours(hidden.channels[seen]) * flat[which, None]
        return flat.new_zeros((len(weights), colours.shape[1])).index_add(0, which // weights.shape[1], colours)


@dataclass(frozen=True, slots=True)
class _Rays:
    """Rays of one picture: origins and directions [r, 3], near and far [r], hit [r] bool."""

    origins: Tensor
    directions: Tensor
    near: Tensor
    far: Tensor
    hit: Tensor

    def take(self, index: Tensor) -> _Rays:
        return _Rays(self.origins[index], self.directions[index], self.near[index], self.far[index], self.hit[index])


@dataclass(frozen=True, slots=True)
class _Hidden:
    """Hidden channels [n, c] of the samples ``which`` [n] (index into r * s), or of all where it is None."""

    channels: Tensor
    which: Tensor | None


def _look_up(planes: Tensor, layout: str, box_side: float) -> Callable[[Tensor], Tensor]:
    """A function from points [n, 3] to features [n, c] of one picture's planes [3, c, h, w]."""
    if planes.device.type == "cpu" and not torch.is_grad_enabled():
        rows = plane_rows(planes)
        size = (planes.shape[2], planes.shape[3])
        return lambda points: sample_rows(rows, size, points, layout, box_side)
    return lambda points: sample_planes(planes[None], points[None], layout, box_side)[0]


def _meets(rays: _Rays, occupancy: Occupancy) -> Tensor:
    """Whether rays pass an occupied cell, probed at steps of half a cell at most, bool [r]."""
    longest = occupancy.box_side * 3.0**0.5
    probes = 2 * int(longest / occupancy.box_side * len(occupancy.cells)) + 1
    steps = torch.linspace(0.0, 1.0, probes, dtype=rays.near.dtype, device=rays.near.device)
    found = torch.zeros_like(rays.hit)
    (index,) = torch.nonzero(rays.hit, as_tuple=True)
    for part in index.split(4096):
        some = rays.take(part)
        depths = some.near[:, None] + (some.far - some.near)[:, None] * steps
        found[part] = occupancy.at(some.origins[:, None] + depths[..., None] * some.directions[:, None]).any(1)
    return found


def _picture_positions(positions: SamplePositions, index: int) -> SamplePositions:
    """The positions of one of b pictures."""
    jitter, quantiles = positions.jitter, positions.quantiles
    return SamplePositions(
        jitter[index] if isinstance(jitter, Tensor) and jitter.ndim == 3 else jitter,
        quantiles[index] if quantiles.ndim == 3 else quantiles,
    )


def _chosen_positions(positions: SamplePositions, chosen: Tensor) -> SamplePositions:
    """The positions of some of a picture's rays."""
    jitter, quantiles = positions.jitter, positions.quantiles
    return SamplePositions(
        jitter[chosen] if isinstance(jitter, Tensor) and jitter.ndim == 2 else jitter,
        quantiles[chosen] if quantiles.ndim == 2 else quantiles,
    )
