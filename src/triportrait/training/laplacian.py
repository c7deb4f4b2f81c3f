"""The motion adapter moves smoothly: a penalty on the second difference of its planes over time (Real3D-Portrait, eq. 4).

Legend: b clips, k motion pictures, c channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def second_difference(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    """Mean square of ``before - 2 here + after``: 0 for whatever moves evenly, whatever its speed."""
    return (before - 2.0 * here + after).square().mean()


def laplacian_loss(adapter: Callable[[Tensor], Tensor], still: Tensor, driving: Tensor, weight: float) -> Tensor:
    """Eq. 4 on three neighbouring frames, times its weight.

    Args:
        adapter: motion pictures [n, 3 k, h, w] to planes that are added to the canonical ones.
        still: [b, 3 (k - 1), h, w] the motion pictures that do not change: canonical and source.
        driving: [b, 3, 3, h, w] those of frames t - 1, t, t + 1.
        weight: ``PaperNetworks.laplacian_weight``; at 0 the adapter does not run (Table 4, without the loss).

    Returns:
        A number.
    """
    if weight == 0.0:
        return driving.new_zeros(())
    frames = driving.shape[1]
    pictures = torch.cat([still[:, None].expand(-1, frames, -1, -1, -1), driving], 2)
    planes = adapter(pictures.flatten(0, 1)).unflatten(0, (-1, frames))
    return weight * second_difference(*planes.unbind(1))
