"""The network that tells a portrait's parts, as training sees it (see :mod:`triportrait.nn.parts` for what it is for)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.nn.export import export_graph
from triportrait.nn.model_files import load_network, save_network
from triportrait.nn.parts import CLASSES, EMBEDDED, INPUTS, KIND, SIDE_PX

_SHAPES: dict[str, tuple[int | None, ...]] = {"shown": (INPUTS, SIDE_PX, SIDE_PX)}
#: Channels at a half to a thirty-second of the picture's side, and on the way to its full one.
_WIDTHS, _FINE = (16, 32, 48, 64, 96), (6, 8)
#: From this level on there are three layers instead of two.
_DEEP = 3


class PartsNetwork(nn.Module):
    """Pictures [b, 5, 256, 256] of :func:`parts_input` to logits [b, 4, 256, 256] of the classes (Ronneberger et al., U-Net, 2015)."""

    def __init__(self) -> None:
        super().__init__()
        taken = (INPUTS, *_WIDTHS[:-1])
        self.down = nn.ModuleList(
            nn.Sequential(_layer(last, width, 2), *(_layer(width, width) for _ in range(1 + (level >= _DEEP))))
            for level, (last, width) in enumerate(zip(taken, _WIDTHS, strict=True))
        )
        self.up = nn.ModuleList(_layer(coarse + fine, fine) for coarse, fine in pairwise(_WIDTHS[::-1]))
        few, some = _FINE
        self.narrow = nn.Conv2d(_WIDTHS[0], few, 1)
        self.last = nn.Sequential(nn.Conv2d(few + INPUTS, some, 3, padding=1), nn.SiLU(), nn.Conv2d(some, len(CLASSES), 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits; see the class."""
        seen, y = [], x
        for layer in self.down:
            y = layer(y)
            seen.append(y)
        for layer, skipped in zip(self.up, seen[-2::-1], strict=True):
            y = layer(torch.cat([_doubled(y), skipped], 1))
        return self.last(torch.cat([_doubled(self.narrow(y)), x], 1))


def _layer(taken: int, given: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(taken, given, 3, stride, 1, bias=False), nn.GroupNorm(8, given), nn.SiLU())


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class TellingStep(nn.Module):
    """What a portrait needs of the network: one picture [5, 256, 256] to shares [4, 256, 256] that sum to 1."""

    def __init__(self, network: PartsNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, shown: Tensor) -> Tensor:
        """Shares; see the class."""
        return torch.softmax(self.network(shown[None])[0], 0)


def save_parts_network(network: PartsNetwork, path: Path, notes: dict[str, str] | None = None) -> None:
    """Weights in half precision as one file, whole or not at all (:mod:`triportrait.nn.model_files`)."""
    save_network(path, network, kind=KIND, config={}, metadata=notes)


def export_parts_network(network: PartsNetwork, path: Path, notes: dict[str, str] | None = None) -> None:
    """The telling as an ONNX file (:func:`triportrait.nn.export.export_graph`)."""
    export_graph(path, TellingStep(network), _SHAPES, ["shares"], kind=KIND, config={}, metadata=notes)


def load_parts_network(path: Path | None = None) -> PartsNetwork:
    """The network of a file that was saved or exported; None takes the embedded one.

    Raises:
        WeightsError: the file is missing, foreign or damaged.
    """
    return load_network(path or EMBEDDED, KIND, lambda config: PartsNetwork(**config))
