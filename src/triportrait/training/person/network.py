"""Talk3D's delta plane at compact size (Ko et al., 2024, sec. 3): what it changes is a person's head in its own picture.

Three planes lie in the head's own space (:mod:`triportrait.avatar.person.head_space`), with the axes of the head from the front, from above
and from the side. A U-Net whose middle attends to five tokens says what a frame adds to them. Planes with and without that are decoded
at the places of the head's own picture; the difference of both is the frame's change.
Legend: b batch, f numbers of a motion row, e the side of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from triportrait.avatar.person.learned_delta import KIND, PICTURE_PX, draw_other_form
from triportrait.nn.export import export_graph
from triportrait.nn.frequency import FrequencyMlp
from triportrait.nn.plane_layers import PlaneLinear
from triportrait.talk3d.delta_plane import PersonalDeltaPlane
from triportrait.types import ARKIT_EXPRESSIONS, Array

#: Numbers of a motion row: curves, then rotation, translation and gaze, as :func:`triportrait.avatar.person.linear_delta.motion_numbers`.
CURVES = len(ARKIT_EXPRESSIONS)
NUMBERS = CURVES + 3 + 3 + 2
_LIDS = tuple(i for i, name in enumerate(ARKIT_EXPRESSIONS) if name.startswith(("eye", "brow")))
_LIPS = tuple(i for i, name in enumerate(ARKIT_EXPRESSIONS) if not name.startswith(("eye", "brow")))
_ROTATION, _PLACE, _GAZE = (tuple(range(CURVES + start, CURVES + end)) for start, end in ((0, 3), (3, 6), (6, 8)))
#: Frequencies of the encodings, and the width of the layers behind the planes.
_OCTAVES, _HIDDEN = 2, 32
SLOPE = 0.02


@dataclass(frozen=True)
class Ablation:
    """What is left out: convolutions of each plane for itself, or the tokens of lids and of rotation."""

    without_split: bool = False
    without_lids_and_rotation: bool = False


class FiveTokens(nn.Module):
    """Voice, lids, rest, rotation, landmarks: rows [b, f] -> [b, 5, width].

    The voice comes as the curves of the lips, which a voice drives as well as a clip; landmarks as where the head is.
    """

    def __init__(self, width: int, ablation: Ablation) -> None:
        super().__init__()
        self.ablation = ablation
        self.voice = nn.ModuleList(nn.Linear(a, b) for a, b in ((len(_LIPS), width), (width, width), (width, width)))
        self.lids = FrequencyMlp(len(_LIDS) + len(_GAZE), _OCTAVES, width)
        self.rotation = FrequencyMlp(3, _OCTAVES, width)
        self.place = FrequencyMlp(3, _OCTAVES, width)
        self.rest = nn.Parameter(torch.randn(width))

    def forward(self, rows: Tensor) -> Tensor:
        voice = rows[:, _LIPS]
        for layer in self.voice:
            voice = layer(voice if layer is self.voice[0] else functional.leaky_relu(voice, SLOPE))
        lids, rotation = self.lids(rows[:, _LIDS + _GAZE]), self.rotation(rows[:, _ROTATION])
        if self.ablation.without_lids_and_rotation:
            lids, rotation = torch.zeros_like(lids), torch.zeros_like(rotation)
        return torch.stack((voice, lids, self.rest.expand_as(voice), rotation, self.place(rows[:, _PLACE])), 1)


class DeltaNetwork(nn.Module):
    """Motion rows and the head's depth to what is added to the head's own picture."""

    @dataclass(frozen=True)
    class Config:
        """Sizes: of the planes, of the tokens and of the U-Net (:class:`triportrait.talk3d.delta_plane.PersonalDeltaPlane.Config`)."""

        side: int = 64
        plane_channels: int = 8
        channels: tuple[int, ...] = (16, 24, 48)
        up_channels: tuple[int, ...] = (24, 16)
        token: int = 32
        blocks: int = 2
        heads: int = 4
        hidden: int = 96
        norm_groups: int = 8

    def __init__(self, config: Config | None = None, ablation: Ablation | None = None) -> None:
        super().__init__()
        config, ablation = config or self.Config(), ablation or Ablation()
        self.planes = nn.Parameter(0.5 * torch.randn(3, config.plane_channels, config.side, config.side))
        self.tokens = FiveTokens(config.token, ablation)
        # Batches are too small for norms over them.
        self.delta = PersonalDeltaPlane(
            PersonalDeltaPlane.Config(
                config.side,
                config.plane_channels,
                config.channels,
                config.up_channels,
                config.token,
                config.blocks,
                config.heads,
                config.hidden,
                config.norm_groups,
                gated=False,
                trained_form=False,
                split=not ablation.without_split,
            )
        )
        self.enter = nn.Linear(config.plane_channels, _HIDDEN)
        self.leave = nn.Linear(_HIDDEN, 3)
        #: What the rows are measured in, and how much of the change is added at each place; not learned by gradients.
        self.share = nn.Parameter(torch.ones(PICTURE_PX, PICTURE_PX), requires_grad=False)
        self.middle = nn.Parameter(torch.zeros(NUMBERS), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(NUMBERS), requires_grad=False)
        # Few steps have to do: variances are kept through all layers, so that what moves reaches the planes from the first step on.
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | PlaneLinear):
                nn.init.kaiming_normal_(module.weight, SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # There is no gate from 0: its sign and the weights' would wait for each other. What does not help is never kept.

    def decoded(self, planes: Tensor, depth: Tensor) -> Tensor:
        """Colours [b, 3, e, e] of planes [b, 3, c, n, n] at the places of the head's own picture, whose depth [e, e] is in -1..1."""
        side = depth.shape[-1]
        line = torch.linspace(-1.0, 1.0, side)
        down, across = line[:, None].expand(side, side), line[None].expand(side, side)
        # Rows and columns as PersonalDeltaPlane's axes have them: yx, zx, yz; grid_sample takes the column first.
        places = torch.stack((torch.stack((across, down), -1), torch.stack((across, depth), -1), torch.stack((depth, down), -1)))
        seen = [
            functional.grid_sample(
                planes[:, i], places[i].expand(len(planes), -1, -1, -1), mode="bilinear", padding_mode="border", align_corners=True
            )
            for i in range(3)
        ]
        mixed = (seen[0] + seen[1] + seen[2]).permute(0, 2, 3, 1)
        return self.leave(functional.leaky_relu(self.enter(mixed), SLOPE)).permute(0, 3, 1, 2)

    def forward(self, rows: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Changes [b, 3, e, e] for rows [b, f], and what they add to the planes, [b, 3, c, n, n]."""
        # What does not move belongs to the linear map's mean: the middle row adds nothing.
        tokens = self.tokens(functional.pad((rows - self.middle) / self.spread, (0, 0, 0, 1)))
        own = self.planes.expand(len(tokens), -1, -1, -1, -1)
        said = self.delta(own, tokens)
        added = said[:-1] - said[-1:]
        return (self.decoded(own[:-1] + added, depth) - self.decoded(own[:1], depth)) * self.share, added


def flat_weights(network: DeltaNetwork) -> Array:
    """All of a network's numbers in one row, float32 [n], as the graph takes them."""
    return np.concatenate([parameter.detach().numpy().ravel() for parameter in network.parameters()]).astype(np.float32)


class DrawnByWeights(nn.Module):
    """The network with its weights as an input: ``row`` [f], ``depth`` [e, e] and ``weights`` [n] to a change [e, e, 3].

    So an avatar file holds numbers alone, and the graph that they run in ships with the program.
    """

    def __init__(self, network: DeltaNetwork) -> None:
        super().__init__()
        # Not a submodule: the file would keep its weights.
        self._network = (network,)

    def forward(self, row: Tensor, depth: Tensor, weights: Tensor) -> Tensor:
        network = self._network[0]
        named = dict(_parts(network, weights))
        change, _ = functional_call(network, named, (row[None], depth))
        return change[0].permute(1, 2, 0)


def _parts(network: DeltaNetwork, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
    start = 0
    for name, parameter in network.named_parameters():
        yield name, weights[start : start + parameter.numel()].reshape(parameter.shape)
        start += parameter.numel()


def draw_ablation(ablation: Ablation) -> None:
    """Let PyTorch draw in this process what the shipped graph cannot: networks without split convolutions have another form."""
    if ablation.without_split:
        network = DeltaNetwork(ablation=ablation)
        drawn = DrawnByWeights(network)

        @torch.no_grad()
        def draw(row: Array, depth: Array, weights: Array) -> list[Array]:
            return [drawn(*(torch.from_numpy(np.ascontiguousarray(part, np.float32)) for part in (row, depth, weights))).numpy()]

        draw_other_form(sum(parameter.numel() for parameter in network.parameters()), draw)


def export_graph_without_weights(path: Path) -> None:
    """Write the graph that ships with the program (:func:`triportrait.nn.export.export_graph`)."""
    network = DeltaNetwork()
    shapes: dict[str, tuple[int | None, ...]] = {
        "row": (NUMBERS,),
        "depth": (PICTURE_PX, PICTURE_PX),
        "weights": (sum(parameter.numel() for parameter in network.parameters()),),
    }
    export_graph(path, DrawnByWeights(network), shapes, ["change"], kind=KIND, config={})
