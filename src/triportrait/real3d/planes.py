"""From a network's channels to a tri-plane's axes."""

from __future__ import annotations

import torch
from torch import Tensor


def planes_from_channels(picture: Tensor) -> Tensor:
    """Split [b, 3 * c, h, w] into planes [b, 3, c, h, w] (channels-last in memory) and turn them the way the renderer looks them up.

    The networks draw rows downwards, world axes point upwards: planes 0 and 1 are mirrored along their rows, plane 2 along both axes
    (spec 2.1).
    """
    planes = picture.unflatten(1, (3, -1)).permute(0, 1, 3, 4, 2)  # [b, 3, h, w, c]
    turned = (planes[:, 0].flip(1), planes[:, 1].flip(1), planes[:, 2].flip((1, 2)))
    return torch.stack(turned, 1).permute(0, 1, 4, 2, 3)
