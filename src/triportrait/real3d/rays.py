"""Rays of a camera and where they cross the volume. b cameras, r rays (row by row), all lengths in EG3D world units."""

from __future__ import annotations

import torch
from torch import Tensor


def camera_rays(cameras: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Rays through the pixel centres of square pictures.

    Args:
        cameras: [b, 25] as ``types.Camera.to_eg3d``: camera-to-world 4 x 4 (OpenCV axes), intrinsics 3 x 3 in image widths.
        size_px: side of the picture; r = size_px ** 2.

    Returns:
        Origins [b, r, 3] and unit directions [b, r, 3].
    """
    to_world = cameras[:, :16].unflatten(1, (4, 4))
    intrinsics = cameras[:, 16:].unflatten(1, (3, 3))
    centres = (torch.arange(size_px, dtype=cameras.dtype, device=cameras.device) + 0.5) / size_px
    rows, columns = torch.meshgrid(centres, centres, indexing="ij")
    focal_x, skew, centre_x = intrinsics[:, 0, :, None].unbind(1)  # [b, 1] each
    focal_y, centre_y = intrinsics[:, 1, 1, None], intrinsics[:, 1, 2, None]
    y = (rows.flatten() - centre_y) / focal_y
    x = (columns.flatten() - centre_x - skew * y) / focal_x
    directions = torch.stack([x, y, torch.ones_like(x)], 2) @ to_world[:, :3, :3].transpose(1, 2)
    directions = torch.nn.functional.normalize(directions, dim=2)
    return to_world[:, None, :3, 3].expand_as(directions), directions


def box_crossings(origins: Tensor, directions: Tensor, low: Tensor | float, high: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """Where rays enter and leave an axis-aligned box (the slab method).

    Args:
        origins, directions: [b, r, 3].
        low, high: corners of the box, [3] or one number for all axes.

    Returns:
        Distances ``near`` and ``far`` [b, r] and ``hit`` [b, r] bool; distances mean nothing where a ray misses.
    """
    # A direction of exactly 0 gives infinities of the right signs, and NaN only where the origin lies in a face: not a hit.
    inverse = 1.0 / directions
    first, second = (low - origins) * inverse, (high - origins) * inverse
    near = torch.minimum(first, second).amax(2)
    far = torch.maximum(first, second).amin(2)
    return near, far, (near <= far) & (far > 0)


def published_bounds(near: Tensor, far: Tensor, hit: Tensor) -> tuple[Tensor, Tensor]:
    """The bounds that the published code gives rays which miss: smallest and largest ``near`` of those that hit [b, r].

    (Its largest ``far`` was meant, spec 8.1; the weights do not depend on it, only pictures whose corners miss the volume.)
    """
    if not hit.any():
        return near, far
    seen = near[hit]
    return torch.where(hit, near, seen.min()), torch.where(hit, far, seen.max())
