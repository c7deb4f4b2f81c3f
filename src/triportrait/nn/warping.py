"""Motion fields from key points and the warping of feature volumes (Siarohin et al., 2019; Wang et al., "One-shot free-view", 2021).

Legend: b batch, k key points, c channels, d h w depth and size of a volume. Coordinates are (x, y, z) in -1..1, the first and the last
cell's centres at -1 and 1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Variance of the Gaussian that a key point is drawn as.
VARIANCE = 0.01
#: Exponent at which a Gaussian ends: e^-60 is nothing beside 1, and smaller ones would become numbers that a CPU is very slow with.
_LAST_EXPONENT = 60.0


def identity_field(size: tuple[int, int, int], like: Tensor) -> Tensor:
    """Every cell's own coordinates [d, h, w, 3] for ``size`` (d, h, w), of the type and on the device of ``like``."""
    z, y, x = (torch.linspace(-1.0, 1.0, n, dtype=like.dtype, device=like.device) for n in size)
    grid = torch.meshgrid(z, y, x, indexing="ij")
    return torch.stack(grid[::-1], dim=-1)


def key_point_maps(source: Tensor, driving: Tensor, field: Tensor) -> Tensor:
    """Gaussians at the driving key points less those at the source ones: [b, k, 3] twice -> [b, k, d, h, w]."""
    squares = ((field - points[:, :, None, None, None]).square().sum(-1) for points in (driving, source))
    there, here = (torch.exp(-(0.5 / VARIANCE * square).clamp(max=_LAST_EXPONENT)) for square in squares)
    return there - here


def key_point_motions(source: Tensor, driving: Tensor, field: Tensor) -> Tensor:
    """Where each cell comes from when it moves with one key point: [b, k, 3] twice -> [b, k, d, h, w, 3]."""
    return field + (source - driving)[:, :, None, None, None]


def warp(volume: Tensor, field: Tensor, padding: str = "zeros") -> Tensor:
    """``volume`` [b, c, d, h, w] sampled at ``field`` [b, d, h, w, 3], trilinear; outside it is zero or its ``"border"``."""
    return functional.grid_sample(volume, field, mode="bilinear", padding_mode=padding, align_corners=True)
