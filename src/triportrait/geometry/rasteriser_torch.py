"""The z-buffer of :mod:`triportrait.geometry.rasteriser` in plain torch operations, for any device. Own code.

Same rules and, because every number is made by the same float64 operations in the same order, the same picture bit for
bit on a CPU. Candidates (every pixel in every triangle's bounding box) are numbered through and taken in chunks, so
memory is bounded however large the triangles are. The nearest candidate is found by one ``scatter_reduce(amin)`` on a
64-bit key: the bits of the positive float32 depth above, the triangle's index below, which is also the tie rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Nothing at or before this depth is drawn, in decimetres; the same number as in the compiled rasteriser.
NEAR_DM = 0.01
_NOTHING = torch.iinfo(torch.int64).max


@dataclass(frozen=True, slots=True)
class TorchFragments:
    """What each pixel of an h x w picture sees, as tensors; see :class:`triportrait.geometry.rasteriser.Fragments`.

    Args:
        triangle: int32 [h, w]; -1 where nothing is.
        barycentric: float32 [h, w, 3]; 0 where nothing is.
        depth: float32 [h, w]; +inf where nothing is.
    """

    triangle: Tensor
    barycentric: Tensor
    depth: Tensor


@dataclass(frozen=True, slots=True)
class _Setup:
    """Per triangle, float64: edge origins, directions, ownership of the line, inverse depths and the area."""

    origin: Tensor
    direction: Tensor
    owns_line: Tensor
    inverse_depth: Tensor
    area: Tensor

    def take(self, index: Tensor) -> _Setup:
        fields = (self.origin, self.direction, self.owns_line, self.inverse_depth, self.area)
        return _Setup(*(values[index] for values in fields))

    def edges(self, x: Tensor, y: Tensor) -> Tensor:
        """Edge functions [n, 3] at samples x, y [n]."""
        across = self.direction[..., 0] * (y[:, None] - self.origin[..., 1])
        return across - self.direction[..., 1] * (x[:, None] - self.origin[..., 0])

    def weights(self, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Perspective-correct barycentric weights [n, 3] and depths [n], float64."""
        weights = edges * self.inverse_depth
        scale = 1.0 / (weights[:, 0] + weights[:, 1] + weights[:, 2])
        return weights * scale[:, None], self.area * scale


def rasterise(
    pixels: Tensor,
    depth: Tensor,
    triangles: Tensor,
    height: int,
    width: int,
    *,
    cull: str | None = None,
    chunk_size: int = 1 << 20,
) -> TorchFragments:
    """Which triangle each pixel sees.

    ``barycentric`` and ``depth`` of the result carry gradients with respect to ``pixels`` and ``depth``; the choice of
    the triangle does not.

    Args:
        pixels: float32 [v, 2], projected vertices (x right, y down).
        depth: float32 [v], their camera depth.
        triangles: int [f, 3], on the same device.
        height: rows of the picture in pixels.
        width: columns of the picture in pixels.
        cull: ``"back"`` skips triangles that face away.
        chunk_size: candidates held at once; about 200 bytes each.

    Raises:
        ValueError: shapes do not fit, or a triangle names a vertex that does not exist.
    """
    _check(pixels, depth, triangles, cull)
    triangles = triangles.long()
    with torch.no_grad():
        winners = _nearest(pixels, depth, triangles, height, width, cull == "back", chunk_size)
    picture_triangle = torch.full((height * width,), -1, dtype=torch.int32, device=pixels.device)
    barycentric = pixels.new_zeros((height * width, 3), dtype=torch.float32)
    picture_depth = torch.full((height * width,), torch.inf, dtype=torch.float32, device=pixels.device)
    (seen,) = torch.nonzero(winners != _NOTHING, as_tuple=True)
    triangle = winners[seen] & 0xFFFFFFFF
    picture_triangle[seen] = triangle.int()
    setup = _setup(pixels, depth, triangles[triangle])
    weights, z = setup.weights(setup.edges(seen % width + 0.5, seen // width + 0.5))
    barycentric = barycentric.index_put((seen,), weights.float())
    picture_depth = picture_depth.index_put((seen,), z.float())
    return TorchFragments(picture_triangle.view(height, width), barycentric.view(height, width, 3), picture_depth.view(height, width))


def interpolate(fragments: TorchFragments, triangles: Tensor, attributes: Tensor, *, fill: float = 0.0) -> Tensor:
    """Vertex ``attributes`` [v, k] at every pixel: [h, w, k], ``fill`` where nothing is; differentiable."""
    height, width = fragments.depth.shape
    triangle = fragments.triangle.view(-1)
    (seen,) = torch.nonzero(triangle >= 0, as_tuple=True)
    corners = attributes[triangles.long()[triangle[seen].long()]]
    weights = fragments.barycentric.view(-1, 3)[seen].to(attributes.dtype)
    values = (corners * weights[..., None]).sum(1)
    out = attributes.new_full((height * width, attributes.shape[1]), fill)
    return out.index_put((seen,), values).view(height, width, -1)


def _check(pixels: Tensor, depth: Tensor, triangles: Tensor, cull: str | None) -> None:
    count = len(depth)
    if pixels.shape != (count, 2) or depth.ndim != 1 or triangles.ndim != 2 or triangles.shape[1] != 3:
        shapes = f"pixels {tuple(pixels.shape)}, depth {tuple(depth.shape)}, triangles {tuple(triangles.shape)}"
        raise ValueError(f"{shapes} do not fit together")
    if triangles.numel() and not (int(triangles.min()) >= 0 and int(triangles.max()) < count):
        raise ValueError(f"triangles name vertices outside 0..{count - 1}")
    if cull not in (None, "back"):
        raise ValueError(f"cull is {cull!r}, expected None or 'back'")


def _setup(pixels: Tensor, depth: Tensor, triangles: Tensor) -> _Setup:
    corners = pixels.double()[triangles]  # [f, 3, 2]
    a, b, c = corners.unbind(1)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    sign = torch.where(area > 0, 1.0, -1.0).to(area)
    # Edge i lies opposite corner i: b -> c, c -> a, a -> b. Its origin is the end that comes first in (y, x), so both
    # triangles at an edge see exactly opposite values.
    start, end = corners[:, [1, 2, 0]], corners[:, [2, 0, 1]]
    end_first = (end[..., 1] < start[..., 1]) | ((end[..., 1] == start[..., 1]) & (end[..., 0] < start[..., 0]))
    direction = (end - start) * sign[:, None, None]
    return _Setup(
        origin=torch.where(end_first[..., None], end, start),
        direction=direction,
        owns_line=(direction[..., 1] < 0) | ((direction[..., 1] == 0) & (direction[..., 0] > 0)),
        inverse_depth=1.0 / depth.double()[triangles],
        area=area * sign,
    )


def _nearest(pixels: Tensor, depth: Tensor, triangles: Tensor, height: int, width: int, cull_back: bool, chunk_size: int) -> Tensor:
    """Key of the nearest candidate of every pixel, int64 [h * w]."""
    device = pixels.device
    winners = torch.full((height * width,), _NOTHING, dtype=torch.int64, device=device)
    corners = pixels.double()[triangles]
    a, b, c = corners.unbind(1)
    signed_area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    low, high = torch.ceil(corners.amin(1) - 0.5), torch.floor(corners.amax(1) - 0.5)
    left, top = low[:, 0].clamp(min=0.0), low[:, 1].clamp(min=0.0)
    right, bottom = high[:, 0].clamp(max=width - 1.0), high[:, 1].clamp(max=height - 1.0)
    drawn = (depth.double()[triangles] > NEAR_DM).all(1) & torch.isfinite(signed_area) & (signed_area != 0)
    drawn &= (left <= right) & (top <= bottom)
    if cull_back:
        drawn &= signed_area < 0
    (index,) = torch.nonzero(drawn, as_tuple=True)
    if not len(index):
        return winners
    setup = _setup(pixels, depth, triangles[index])
    left, top = left[index].long(), top[index].long()
    columns = right[index].long() - left + 1
    ends = torch.cumsum(columns * (bottom[index].long() - top + 1), 0)
    total = int(ends[-1])
    for first in range(0, total, chunk_size):
        candidate = torch.arange(first, min(first + chunk_size, total), device=device)
        owner = torch.searchsorted(ends, candidate, right=True)
        local = candidate - torch.where(owner > 0, ends[(owner - 1).clamp(min=0)], 0)
        row, column = top[owner] + local // columns[owner], left[owner] + local % columns[owner]
        part = setup.take(owner)
        edges = part.edges(column + 0.5, row + 0.5)
        (inside,) = torch.nonzero(((edges > 0) | ((edges == 0) & part.owns_line)).all(1), as_tuple=True)
        _, z = part.take(inside).weights(edges[inside])
        bits = z.float().view(torch.int32).long()
        key = (bits << 32) | index[owner[inside]]
        winners.scatter_reduce_(0, row[inside] * width + column[inside], key, "amin")
    return winners
