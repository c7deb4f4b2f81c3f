"""Transformer blocks on a grid of tokens (Xie et al., "SegFormer", 2021): strided embedding, attention with reduced keys,
an MLP that looks at its neighbours.

Everything goes in and out as pictures [b, c, h, w] in channels-last memory: the tokens [b, h * w, c] of a picture are then a view
of it, and no transposition costs anything.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def tokens_of(picture: Tensor) -> Tensor:
    """[b, c, h, w] -> [b, h * w, c]; a view where the picture is channels-last."""
    return picture.permute(0, 2, 3, 1).flatten(1, 2)


def picture_of(tokens: Tensor, height: int) -> Tensor:
    """[b, h * w, c] -> [b, c, h, w] in channels-last memory; always a view of contiguous tokens."""
    return tokens.unflatten(1, (height, -1)).permute(0, 3, 1, 2)


class PatchEmbedding(nn.Module):
    """Strided convolution and LayerNorm: [b, c, h, w] -> [b, width, h / stride, w / stride].

    Args:
        channels: channels of the picture.
        width: channels of a token.
        kernel: side of a patch; patches overlap where it is larger than ``stride``.
        stride: pixels between patches.
        padding: zeros around the picture.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, kernel, stride, padding)
        self.norm = nn.LayerNorm(width)

    def forward(self, picture: Tensor) -> Tensor:
        picture = self.projection(picture)
        return picture_of(self.norm(tokens_of(picture)), picture.shape[2])


class Attention(nn.Module):
    """Multi-head attention of every token to all tokens, or to one key per ``reduction`` x ``reduction`` tokens.

    Args:
        width: channels of a token.
        heads: number of heads.
        reduction: side of the squares of tokens that share a key and value.
    """

    def __init__(self, width: int, heads: int, reduction: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.projection = nn.Linear(width, width)
        self.reduce: nn.Conv2d | None = None
        if reduction > 1:
            self.reduce = nn.Conv2d(width, width, reduction, reduction)
            self.reduce_norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, height: int) -> Tensor:
        """[b, n, width] of a grid of ``height`` rows -> the same shape."""
        seen = tokens
        if self.reduce is not None:
            seen = self.reduce_norm(tokens_of(self.reduce(picture_of(tokens, height))))
        query = self.query(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)  # [b, heads, n, c]
        key, value = self.key_value(seen).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [b, heads, m, c]
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.projection(mixed.transpose(1, 2).flatten(2))


class MixMlp(nn.Module):
    """Linear, depth-wise 3 x 3 convolution on the grid, GELU, linear: [b, n, width] -> the same shape."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, height: int) -> Tensor:
        hidden = self.depthwise(picture_of(self.expand(tokens), height))
        return self.contract(functional.gelu(tokens_of(hidden)))


class TokenBlock(nn.Module):
    """``x += attention(norm(x)); x += mlp(norm(x))`` on a picture [b, width, h, w].

    Args:
        width: channels of a token.
        heads: attention heads.
        mlp_ratio: hidden channels of the MLP, in widths.
        reduction: see :class:`Attention`.
        norm_eps: of the two norms before attention and MLP.
        drop_path: probability that training leaves a branch out, per sample (Huang et al., "Stochastic depth", 2016).
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, reduction: int = 1, norm_eps: float = 1e-5, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, norm_eps)
        self.attention = Attention(width, heads, reduction)
        self.norm2 = nn.LayerNorm(width, norm_eps)
        self.mlp = MixMlp(width, mlp_ratio * width)
        self.keep = nn.Dropout(drop_path)

    def forward(self, picture: Tensor) -> Tensor:
        height = picture.shape[2]
        tokens = tokens_of(picture)
        keep = self.keep(torch.ones((2, len(tokens), 1, 1), dtype=tokens.dtype, device=tokens.device))
        tokens = tokens + keep[0] * self.attention(self.norm1(tokens), height)
        tokens = tokens + keep[1] * self.mlp(self.norm2(tokens), height)
        return picture_of(tokens, height)
