"""The network that tells a covered mouth, as training sees it (see :mod:`triportrait.face.coverings` for what it is for)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from triportrait.face.coverings import EMBEDDED, HEIGHT_PX, KIND, WIDTH_PX
from triportrait.nn.export import export_graph
from triportrait.nn.model_files import load_network, save_network

_SHAPES: dict[str, tuple[int | None, ...]] = {"lower_face": (3, HEIGHT_PX, WIDTH_PX)}


class CoverNetwork(nn.Module):
    """Lower faces [b, 3, 40, 48] of :func:`lower_face` to logits [b]: above 0 the mouth is covered."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for taken, given in ((3, 12), (12, 24), (24, 32)):
            layers += [nn.Conv2d(taken, given, 3, padding=1), nn.GroupNorm(4, given), nn.SiLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.last = nn.Linear(32 * (HEIGHT_PX // 8) * (WIDTH_PX // 8), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; see the class."""
        return self.last(self.features(x).flatten(1))[:, 0]


class JudgingStep(nn.Module):
    """What a portrait needs of the network: a lower face [3, 40, 48] to a logit [1]."""

    def __init__(self, network: CoverNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, lower_face: Tensor) -> Tensor:
        """A logit; see the class."""
        return self.network(lower_face[None])


def save_cover_network(network: CoverNetwork, path: Path, notes: dict[str, str] | None = None) -> None:
    """Weights in half precision as one file, whole or not at all (:mod:`triportrait.nn.model_files`)."""
    save_network(path, network, kind=KIND, config={}, metadata=notes)


def export_cover_network(network: CoverNetwork, path: Path, notes: dict[str, str] | None = None) -> None:
    """The judging as an ONNX file (:func:`triportrait.nn.export.export_graph`)."""
    export_graph(path, JudgingStep(network), _SHAPES, ["logit"], kind=KIND, config={}, metadata=notes)


def load_cover_network(path: Path | None = None) -> CoverNetwork:
    """The network of a file that was saved or exported; None takes the embedded one.

    Raises:
        WeightsError: the file is missing, foreign or damaged.
    """
    return load_network(path or EMBEDDED, KIND, lambda config: CoverNetwork(**config), before=lambda metadata: {})
