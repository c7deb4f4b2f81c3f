"""The painter of mouths as training sees it: a small U-net (see :mod:`triportrait.avatar.mouth.painter` for what it is for)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.avatar.mouth.painter import CHANNELS, EMBEDDED, HEIGHT_PX, KIND, WIDTH_PX
from triportrait.nn.export import TorchGraph, export_graph
from triportrait.nn.model_files import load_network, save_network

#: Around the lips colours may change within this many window pixels.
_RIM_PX = 7
#: Light between the lips may change by this factor in either direction (its logarithm).
_LIGHT_RANGE = 0.35
_SHAPES: dict[str, tuple[int | None, ...]] = {"channels": (HEIGHT_PX, WIDTH_PX, CHANNELS)}


def change_weight(channels: Tensor) -> Tensor:
    """Where colours may change: [b, 1, h, w] from channels [b, 12, h, w] of :func:`mouth_channels`."""
    near, inside = channels[:, 3:5].amax(1, keepdim=True), channels[:, 5:6]
    return _grown(near, _RIM_PX) * (1.0 - _grown(inside, 1))


def _grown(areas: Tensor, reach_px: int) -> Tensor:
    """Areas [b, 1, h, w] grown by ``reach_px`` and softened as far, one axis after the other: that is a fraction of the work."""
    size = 2 * reach_px + 1
    mean = areas.new_full((1, 1, 1, size), 1 / size)
    for along in (True, False):
        areas = functional.max_pool2d(areas, (1, size) if along else (size, 1), 1, (0, reach_px) if along else (reach_px, 0))
    # As convolutions: ONNX Runtime's mean pooling of a single channel is slow.
    return functional.conv2d(functional.conv2d(areas, mean, padding=(0, reach_px)), mean.mT, padding=(reach_px, 0))


@dataclass(frozen=True, slots=True)
class MouthPainterConfig:
    """Sizes: ``channels`` at the window's size, a half, a quarter and an eighth of it."""

    channels: tuple[int, int, int, int] = (16, 32, 64, 96)


class _Pair(nn.Sequential):
    """Two 3 x 3 convolutions with group norm and SiLU."""

    def __init__(self, taken: int, given: int) -> None:
        super().__init__(
            nn.Conv2d(taken, given, 3, padding=1),
            nn.GroupNorm(8, given),
            nn.SiLU(),
            nn.Conv2d(given, given, 3, padding=1),
            nn.GroupNorm(8, given),
            nn.SiLU(),
        )


class MouthPainter(nn.Module):
    """Channels [b, 12, 112, 144] to colours [b, 3, 112, 144] in 0..1; begins as the drawn colours unchanged."""

    def __init__(self, config: MouthPainterConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MouthPainterConfig()
        c = config.channels
        self.down = nn.ModuleList(_Pair(taken, given) for taken, given in zip((CHANNELS, *c[:-1]), c, strict=True))
        self.up = nn.ModuleList(_Pair(c[i] + c[i + 1], c[i]) for i in reversed(range(len(c) - 1)))
        self.last = nn.Conv2d(c[0], 3, 3, padding=1)
        self.light = nn.Conv2d(c[-1], 3, 1)
        for layer in (self.last, self.light):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Colours; see the class."""
        skips = []
        y = 2 * x - 1
        for level, block in enumerate(self.down):
            y = block(functional.avg_pool2d(y, 2) if level else y)
            skips.append(y)
        y = skips.pop()
        light = functional.interpolate(_LIGHT_RANGE * torch.tanh(self.light(y)), size=x.shape[-2:], mode="bilinear")
        lit = x[:, :3] * torch.exp(x[:, 5:6] * light)
        for block in self.up:
            y = block(torch.cat([functional.interpolate(y, scale_factor=2, mode="bilinear"), skips.pop()], 1))
        return (lit + change_weight(x) * self.last(y)).clamp(0, 1)


def save_mouth_painter(model: MouthPainter, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """Weights in half precision and config as one file, whole or not at all (:mod:`triportrait.nn.model_files`)."""
    save_network(path, model, kind=KIND, config=asdict(model.config), metadata=notes)


class PaintingStep(nn.Module):
    """What an avatar needs of a painter: channels [112, 144, 12] to changes of colour [112, 144, 3]."""

    def __init__(self, network: MouthPainter) -> None:
        super().__init__()
        self.network = network

    def forward(self, channels: Tensor) -> Tensor:
        """Changes; see the class."""
        x = channels.permute(2, 0, 1)[None]
        return (self.network(x) - x[:, :3])[0].permute(1, 2, 0)


def as_graph(model: MouthPainter) -> TorchGraph:
    """A painter, e.g. one that was just trained, as :func:`triportrait.avatar.mouth.painter.paint_mouth` takes it."""
    return TorchGraph(PaintingStep(model), asdict(model.config), _SHAPES)


def export_mouth_painter(model: MouthPainter, path: Path, notes: Mapping[str, str] | None = None) -> None:
    """The painting as an ONNX file (:func:`triportrait.nn.export.export_graph`)."""
    export_graph(path, PaintingStep(model), _SHAPES, ["change"], kind=KIND, config=asdict(model.config), metadata=notes)


def load_mouth_painter(path: Path | None = None) -> MouthPainter:
    """The network of a file from :func:`save_mouth_painter`, in evaluation mode; None takes the embedded one.

    Raises:
        WeightsError: missing, foreign or damaged.
    """
    return load_network(path or EMBEDDED, KIND, lambda config: MouthPainter(MouthPainterConfig(**config)))
