"""Densities along rays to what a camera sees (mip-NeRF's mid-points; Real3D-Portrait, eq. 11). b pictures, r rays, s samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def interval_weights(depths: Tensor, densities: Tensor) -> Tensor:
    """The share of a ray's light that each interval between two samples sends: ``T_k * alpha_k``.

    ``sigma_k = softplus((d_k + d_{k+1}) / 2 - 1)``, ``alpha_k = 1 - exp(-sigma_k * (z_{k+1} - z_k))``,
    ``T_k = prod_{j<k} (1 - alpha_j + 1e-10)``.

    Args:
        depths: [b, r, s], increasing.
        densities: [b, r, s], as the decoder gives them (before the activation).

    Returns:
        [b, r, s - 1].
    """
    sigma = functional.softplus(0.5 * (densities[..., 1:] + densities[..., :-1]) - 1.0)
    alpha = 1.0 - torch.exp(-sigma * (depths[..., 1:] - depths[..., :-1]))
    transmitted = functional.pad(torch.cumprod(1.0 - alpha + 1e-10, -1)[..., :-1], (1, 0), value=1.0)
    return alpha * transmitted


def sample_weights(weights: Tensor) -> Tensor:
    """Interval weights [b, r, s - 1] -> weights of the samples [b, r, s]: an interval shows the mean of its two ends."""
    return 0.5 * (functional.pad(weights, (0, 1)) + functional.pad(weights, (1, 0)))


def expected_depth(depths: Tensor, weights: Tensor) -> Tensor:
    """``sum w_k (z_k + z_{k+1}) / 2 / sum w_k`` [b, r], within the depths of its picture; the farthest where nothing is.

    Args:
        depths: [b, r, s].
        weights: [b, r, s - 1] of the intervals.
    """
    middles = 0.5 * (depths[..., 1:] + depths[..., :-1])
    depth = (weights * middles).sum(-1) / weights.sum(-1)
    depth = torch.nan_to_num(depth, nan=torch.inf)
    limits = depths.flatten(1)
    return torch.minimum(torch.maximum(depth, limits.amin(1, keepdim=True)), limits.amax(1, keepdim=True))


def composite(depths: Tensor, densities: Tensor, colours: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the rays see.

    Args:
        depths: [b, r, s], increasing.
        densities: [b, r, s].
        colours: [b, r, s, c] in 0..1.

    Returns:
        Features [b, r, c] in -1..1 (-1 where nothing is), depth [b, r] and alpha [b, r].
    """
    weights = interval_weights(depths, densities)
    features = 2.0 * (sample_weights(weights)[..., None] * colours).sum(-2) - 1.0  # eq. 11
    return features, expected_depth(depths, weights), weights.sum(-1)
