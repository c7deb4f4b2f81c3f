"""Layers that treat each plane of a tri-plane with weights of its own, all planes in one call.

Weights of the planes lie behind each other along the first axis, so that a grouped layer of PyTorch takes them as they are.
Legend: b batch, p planes, n tokens (pixels) of a plane, c channels of one plane, t tokens that condition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


def roll_out(planes: Tensor, axes: Sequence[str]) -> Tensor:
    """Every plane beside what it can know of the others (Chen et al., "Mimic3D", 2023, 3D-aware convolution).

    Two planes share one axis: the other plane's mean along its second axis is laid along that shared axis.

    Args:
        planes: [b, p, c, n, n].
        axes: for each plane the letters of its rows and columns, as in ``("yx", "zx", "yz")``; two planes share exactly one.

    Returns:
        [b, p * p * c, n, n]; the first ``p * c`` channels are for the first plane: all planes in their order, its own as it is.
    """
    seen = [
        planes[:, j] if i == j else _laid_along(planes[:, j], theirs, ours) for i, ours in enumerate(axes) for j, theirs in enumerate(axes)
    ]
    return torch.cat(seen, 1)


def _laid_along(plane: Tensor, theirs: str, ours: str) -> Tensor:
    (shared,) = set(theirs) & set(ours)
    profile = plane.mean(-1 if theirs[0] == shared else -2)
    return profile.unsqueeze(-1 if ours[0] == shared else -2).expand_as(plane)


class PlaneLinear(nn.Module):
    """A linear layer for each plane: [b, p, n, c] -> [b, p, n, out]; ``weight`` is [p * out, c]."""

    def __init__(self, planes: int, channels: int, out: int, *, bias: bool = True) -> None:
        super().__init__()
        self.planes = planes
        self.weight = nn.Parameter(torch.empty(planes * out, channels))
        self.bias = nn.Parameter(torch.empty(planes * out)) if bias else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(channels), 1 / math.sqrt(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.weight.unflatten(0, (self.planes, -1)).transpose(1, 2)
        return y if self.bias is None else y + self.bias.view(self.planes, 1, -1)


class PlaneNorm(nn.Module):
    """A layer norm for each plane: [b, p, n, c] -> the same shape; ``weight`` is [p * c]."""

    def __init__(self, planes: int, channels: int) -> None:
        super().__init__()
        self.planes = planes
        self.weight = nn.Parameter(torch.ones(planes * channels))
        self.bias = nn.Parameter(torch.zeros(planes * channels))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (parameter.view(self.planes, 1, -1) for parameter in (self.weight, self.bias))
        return functional.layer_norm(x, x.shape[-1:]) * weight + bias


class PlaneAttention(nn.Module):
    """Multi-head attention of each plane's tokens to one another: [b, p, n, c] -> the same shape."""

    def __init__(self, planes: int, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = PlaneLinear(planes, channels, 3 * channels, bias=False)
        self.projection = PlaneLinear(planes, channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.query_key_value(x).flatten(0, 1).unflatten(2, (3, self.heads, -1))  # [b * p, n, 3, heads, c / heads]
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.projection(mixed.transpose(1, 2).flatten(2).unflatten(0, x.shape[:2]))


class ConditionAttention(nn.Module):
    """Multi-head attention of all planes' tokens to a few others, one for all planes: [b, p, n, c], [b, t, condition] -> as the first."""

    def __init__(self, channels: int, condition: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels, bias=False)
        self.key_value = nn.Linear(condition, 2 * channels, bias=False)
        self.projection = nn.Linear(channels, channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        query = self.query(x.flatten(1, 2)).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [b, heads, p * n, c / heads]
        key, value = self.key_value(condition).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.projection(mixed.transpose(1, 2).flatten(2)).view_as(x)


class PlaneGatedMlp(nn.Module):
    """Two layers for each plane, the hidden one gated by a GELU (Shazeer, "GLU variants improve transformer", 2020): the shape stays."""

    def __init__(self, planes: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = PlaneLinear(planes, channels, 2 * hidden)
        self.contract = PlaneLinear(planes, hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        hidden, gate = self.expand(x).chunk(2, dim=-1)
        return self.contract(hidden * functional.gelu(gate))
