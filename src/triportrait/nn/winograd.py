"""3 x 3 convolutions by Winograd's minimal filtering F(4 x 4, 3 x 3) on a CPU: 36 multiplications where the plain sum takes 144.

After Lavin and Gray, "Fast algorithms for convolutional neural networks" (2016): y = A' [(G g G') * (B' d B)] A per tile and channel, where
the sum over channels is a matrix product for each of the 36 places. The points of interpolation are 0, +-1/sqrt 2, +-sqrt 2 and infinity
instead of their 0, +-1, +-2 and infinity, which halves the rounding error: 5e-6 of the largest value in single precision.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from triportrait.concurrency import after_fork_in_child

#: Side of a tile of the result, and places of its transform.
_TILE, _PLACES = 4, 36
#: Tiles at a time: their transforms stay in the caches.
_TILES_AT_ONCE = 128
#: Below these, the transforms cost more than the multiplications that they save.
_LEAST_CHANNELS, _LEAST_PIXELS = 64, 64 * 64
#: Transform of a filter's three taps to six places (the letter G).
_HALF, _ROOT = 0.5, 0.5**0.5
_FILTER = (
    (1.0, 0.0, 0.0),
    (-2 / 3, -2 / 3 * _ROOT, -2 / 3 * _HALF),
    (-2 / 3, 2 / 3 * _ROOT, -2 / 3 * _HALF),
    (1 / 6, 1 / 6 / _ROOT, 1 / 6 / _HALF),
    (1 / 6, -1 / 6 / _ROOT, 1 / 6 / _HALF),
    (0.0, 0.0, 1.0),
)


class Convolution(nn.Conv2d):
    """``nn.Conv2d`` whose 3 x 3 form takes half the time or less in inference on a CPU; equal to about 1e-5 of the largest value."""

    def forward(self, x: Tensor) -> Tensor:
        """[b, c, h, w] -> [b, out, h, w]."""
        plain = (self.stride, self.padding, self.dilation, self.groups, self.padding_mode) == ((1, 1), (1, 1), (1, 1), 1, "zeros")
        if plain and self.kernel_size == (3, 3) and _suits(x, self.out_channels):
            return convolve(x, self.weight, self.bias)
        return super().forward(x)


def is_plain_inference(x: Tensor) -> bool:
    """Whether kernels of ours may compute with a tensor: float32 on the CPU, without gradient, autocast or compilation."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    return type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.float32


def _suits(x: Tensor, out: int) -> bool:
    """Whether the short way is possible and pays for a picture [b, c, h, w] and that many channels of the result."""
    if not is_plain_inference(x):
        return False
    height, width = x.shape[2:]
    whole = height % _TILE == 0 and width % _TILE == 0
    return whole and min(x.shape[1], out) >= _LEAST_CHANNELS and height * width >= _LEAST_PIXELS


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3 x 3 convolution that keeps the size; zeros lie outside. It is for inference: no gradient flows.

    Args:
        x: [b, c, h, w] float32 on the CPU; height and width are multiples of 4.
        weight: [out, c, 3, 3].
        bias: [out], or None.

    Returns:
        [b, out, h, w], channels last in memory.
    """
    from triportrait.nn.picture_kernels import from_places, to_places

    batch, channels, height, width = x.shape
    out = len(weight)
    filters = torch.tensor(_FILTER)
    filters = torch.kron(filters, filters) @ weight.detach().permute(2, 3, 1, 0).reshape(9, -1)  # G g G'
    filters = filters.view(_PLACES, channels, out)
    pictures = x.permute(0, 2, 3, 1).contiguous().numpy()
    offset = (torch.zeros(out) if bias is None else bias.detach()).numpy()
    result = torch.empty(batch, height, width, out)
    across, down = width // _TILE, height // _TILE
    rows = min(max(1, _TILES_AT_ONCE // across), down)
    seen, summed = torch.empty(_PLACES, rows * across, channels), torch.empty(_PLACES, rows * across, out)
    for picture, drawn in zip(pictures, result.numpy(), strict=True):
        for top in range(0, down, rows):
            count = min(rows, down - top) * across
            side_by_side(partial(to_places, picture, seen.numpy(), top * across), count)
            torch.bmm(seen, filters, out=summed)
            side_by_side(partial(from_places, summed.numpy(), offset, drawn, top * across), count)
    return result.permute(0, 3, 1, 2)


def side_by_side(work: Callable[[int, int], None], count: int) -> None:
    """Do ``work(first, last)`` for parts of 0 .. ``count``, one in each of torch's threads."""
    threads = torch.get_num_threads()
    if threads == 1:
        work(0, count)
        return
    cuts = [count * part // threads for part in range(threads + 1)]
    list(_pool(threads).map(work, cuts[:-1], cuts[1:]))


@lru_cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "pictures")


# A forked child has the pools but not their threads.
after_fork_in_child(_pool.cache_clear)
