"""The network that turns log-mel rows into mouth curves at 25 per second, and its weights file.

It sees 192.5 ms ahead at most (12.5 ms window, 60 ms of strided convolutions, 120 ms of blocks) and about 1.6 s back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from triportrait.motion.voice_graph import EMBEDDED, INPUTS, KIND, OUTPUTS, STRIDE
from triportrait.nn.export import TorchGraph, export_graph
from triportrait.nn.model_files import load_network, save_network


@dataclass(frozen=True, slots=True)
class AudioToMotionConfig:
    """Sizes of the network; stored with its weights.

    Args:
        features: numbers per feature row (100 rows per second).
        channels: width of the residual blocks.
        front_channels: width of the first strided convolution.
        ahead: number of blocks that look one motion row (40 ms) ahead; they come first.
        dilations: one causal block per entry.
        curves: expression curves it predicts.
        extractor: name of its features in :data:`triportrait.motion.speech_features.EXTRACTORS`.
        visemes: classes of the second head, which names the sound (used in training and alignment); 0 = no such head.
        dropout: share of channels left out in training.
    """

    features: int = 82
    channels: int = 144
    front_channels: int = 112
    ahead: int = 3
    dilations: tuple[int, ...] = (1, 2, 4, 8, 1, 2)
    curves: tuple[str, ...] = ()
    extractor: str = "log_mel"
    visemes: int = 0
    dropout: float = 0.08


class _Block(nn.Module):
    """Gated residual convolution (van den Oord et al., "WaveNet", 2016, section 2.3) on normalised channels."""

    def __init__(self, channels: int, dilation: int, ahead: int, dropout: float) -> None:
        super().__init__()
        self.padding = (2 * dilation - ahead, ahead)
        self.norm = nn.LayerNorm(channels)
        self.conv = nn.Conv1d(channels, 2 * channels, 3, dilation=dilation)
        self.out = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.joined(x, functional.pad(y, self.padding))

    def joined(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``x`` [b, c, n] and what the gate lets through of its normalised rows ``y`` with their surroundings [b, c, n + 2 dilation]."""
        signal, gate = self.conv(y).chunk(2, dim=1)
        return x + self.dropout(self.out(torch.tanh(signal) * torch.sigmoid(gate)))


class AudioToMotion(nn.Module):
    """Feature rows [b, 4 t, f] at 100 Hz -> curves [b, t, c], lip opening [b, t] in face heights, contact logit [b, t] at 25 Hz."""

    def __init__(self, config: AudioToMotionConfig) -> None:
        super().__init__()
        self.config = config
        width, front = config.channels, config.front_channels
        self.front = nn.Conv1d(config.features, front, 5, stride=2)
        self.middle = nn.Conv1d(front, width, 5, stride=2)
        blocks = [_Block(width, 1, 1, config.dropout) for _ in range(config.ahead)]
        blocks += [_Block(width, dilation, 0, config.dropout) for dilation in config.dilations]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(config.curves) + 2)
        if config.visemes:
            self.viseme_head = nn.Linear(width, config.visemes)

    @property
    def rows_back(self) -> int:
        """Motion rows of past context that can reach an output row."""
        return 2 + self.config.ahead + 2 * sum(self.config.dilations)

    @property
    def features_ahead(self) -> int:
        """Feature rows after ``4 i`` that can reach output row i."""
        return STRIDE * self.config.ahead + 6

    def trunk(self, features: torch.Tensor) -> torch.Tensor:
        """What both heads see: feature rows [b, 4 t, f] -> [b, t, channels]."""
        x = features.transpose(1, 2)
        x = functional.gelu(self.front(functional.pad(x, (2, 2))))
        x = functional.gelu(self.middle(functional.pad(x, (2, 2))))
        for block in self.blocks:
            x = block(x)
        return self.norm(x.transpose(1, 2))

    def visemes(self, trunk: torch.Tensor) -> torch.Tensor:
        """Logits of the sounds [b, t, visemes]."""
        return self.viseme_head(trunk)

    def motion(self, trunk: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The mouth: curves [b, t, c], opening [b, t], contact logit [b, t]."""
        y = self.head(trunk)
        return y[..., :-2], y[..., -2], y[..., -1]

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.motion(self.trunk(features))


#: Logit of a stranger before anything is heard.
_STRANGER = 3.0


class KnownSpeakers(nn.Module):
    """What is added to the mean of an ensemble where it hears a speaker whose lips it has learned from; a stranger's are left as they are.

    Each known speaker has an expert, and a gate tells them from everyone else: R. Jacobs et al., "Adaptive mixtures of local experts",
    1991, equation 1. Who speaks does not change from row to row, so the gate goes by a causal mean of its logits.

    Args:
        width: channels of all members' trunks together.
        curves: how many are predicted.
        speakers: known ones.
        hidden: width of the experts; ``gate``: of the gate.
        rows: of the gate's mean, 25 per second.
    """

    def __init__(self, width: int, curves: int, *, speakers: int = 2, hidden: int = 96, gate: int = 32, rows: int = 25) -> None:
        super().__init__()
        self.config = {"speakers": speakers, "hidden": hidden, "gate": gate, "rows": rows}
        self.gate = nn.Sequential(nn.Linear(width, gate), nn.GELU(), nn.Linear(gate, 1 + speakers))
        self.experts = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, speakers * (curves + 1)))
        last = self.experts[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, trunk: torch.Tensor) -> torch.Tensor:
        """Trunk rows [b, t, width] -> what is added to curves and contact logit, [b, t, curves + 1]."""
        return self.added(trunk, self.shares(functional.pad(self.gate(trunk), (0, 0, self.config["rows"] - 1, 0))))

    def shares(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of the gate [b, rows - 1 + t, 1 + speakers] -> how surely each one speaks [b, t, 1 + speakers], the stranger first."""
        mean = functional.avg_pool1d(logits.transpose(1, 2), self.config["rows"], 1).transpose(1, 2)
        # A mean of many rows is surer than one of them. Until more was heard, a voice is a stranger's.
        return torch.softmax(torch.cat([2.0 * mean[..., :1] + _STRANGER, 2.0 * mean[..., 1:]], -1), -1)

    def added(self, trunk: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """What the experts add, each as much as its speaker is heard."""
        experts = self.experts(trunk).unflatten(-1, (self.config["speakers"], -1))
        return (shares[..., 1:, None] * experts).sum(-2)


class AudioToMotionEnsemble(nn.Module):
    """Networks with features of their own that speak with one voice: curves, openings and contact probabilities are averaged.

    It takes their features side by side and is used like one network. Networks with different features and training err
    differently on unknown voices, so the mean is better than each.

    Args:
        members: networks of the same curves, in the order of their features in the extractor.
        known: sizes of :class:`KnownSpeakers`; None: all speakers are strangers.
    """

    def __init__(self, members: Sequence[AudioToMotion], known: dict[str, int] | None = None) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        width = sum(member.config.channels for member in members)
        self.known = None if known is None else KnownSpeakers(width, len(members[0].config.curves), **known)
        self.config = AudioToMotionConfig(
            features=sum(member.config.features for member in members),
            curves=members[0].config.curves,
            extractor="+".join(member.config.extractor for member in members),
        )

    @property
    def networks(self) -> list[AudioToMotion]:
        """The members."""
        return [member for member in self.members if isinstance(member, AudioToMotion)]

    @property
    def rows_back(self) -> int:
        """Motion rows of past context that can reach an output row."""
        return max(member.rows_back for member in self.networks) + (0 if self.known is None else self.known.config["rows"] - 1)

    @property
    def features_ahead(self) -> int:
        """Feature rows after ``4 i`` that can reach output row i."""
        return max(member.features_ahead for member in self.networks)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        networks = self.networks
        parts = features.split([network.config.features for network in networks], dim=-1)
        trunks = [network.trunk(part) for network, part in zip(networks, parts, strict=True)]
        curves, opening, contact = _mean([network.motion(trunk) for network, trunk in zip(networks, trunks, strict=True)])
        if self.known is not None:
            curves, contact = _with_known(curves, contact, self.known(torch.cat(trunks, -1)))
        return curves, opening, contact


def _mean(outputs: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The mean of curves, openings and contact probabilities; of these the logit."""
    curves, openings, contacts = zip(*outputs, strict=True)
    probability = torch.stack([torch.sigmoid(part) for part in contacts]).mean(0)
    return torch.stack([part.clamp(0.0, 1.0) for part in curves]).mean(0), torch.stack(openings).mean(0), torch.logit(probability, eps=1e-6)


def _with_known(curves: torch.Tensor, contact: torch.Tensor, added: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Curves and contact logit with what :class:`KnownSpeakers` adds to them."""
    return (curves + added[..., :-1]).clamp(0.0, 1.0), contact + added[..., -1]


#: One network, or several that speak with one voice.
MouthNetwork = AudioToMotion | AudioToMotionEnsemble


class _Memory:
    """The flat state of a stream, taken piece by piece in a fixed order while the next one is gathered."""

    def __init__(self, state: torch.Tensor) -> None:
        self._state, self._taken = state, 0
        self._kept: list[torch.Tensor] = []

    def before(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """``rows`` [b, c, n] after the ``count`` rows that came before them: [b, c, count + n]."""
        batch, channels = rows.shape[:2]
        size = batch * channels * count
        earlier = self._state[self._taken : self._taken + size].view(batch, channels, count)
        self._taken += size
        joined = torch.cat([earlier, rows], -1)
        self._kept.append(joined[..., -count:].reshape(-1))
        return joined

    def next(self) -> torch.Tensor:
        """The state after these rows."""
        return torch.cat(self._kept)


class MouthStep(nn.Module):
    """A network as a stream's step: it keeps what its convolutions need of earlier rows, so that a step costs what it adds.

    Step by step it gives what :class:`AudioToMotion` gives for the whole: zeros stand before the first row and after the last one.

    Args:
        network: whose step it is.

    Raises:
        ValueError: members that do not look ahead equally far.
    """

    def __init__(self, network: MouthNetwork) -> None:
        super().__init__()
        self.network = network
        if len({member.config.ahead for member in self._members()}) != 1:
            raise ValueError("networks that speak with one voice must look ahead equally far")

    def _members(self) -> list[AudioToMotion]:
        return self.network.networks if isinstance(self.network, AudioToMotionEnsemble) else [self.network]

    def _known(self) -> KnownSpeakers | None:
        return self.network.known if isinstance(self.network, AudioToMotionEnsemble) else None

    @property
    def rows_late(self) -> int:
        """Answer row k belongs to motion row ``index[k] - rows_late``."""
        return 1 + self._members()[0].config.ahead

    @property
    def state_size(self) -> int:
        """Numbers that a stream keeps."""
        total = 0
        for member in self._members():
            config = member.config
            blocks = 2 * (config.ahead + sum(config.dilations)) + config.ahead
            total += 3 * (config.features + config.front_channels) + config.channels * blocks
        known = self._known()
        return total if known is None else total + (known.config["rows"] - 1) * (1 + known.config["speakers"])

    def forward(
        self, features: torch.Tensor, index: torch.Tensor, end: torch.Tensor, state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rows that have become final.

        Args:
            features: [4 n, f], feature rows ``4 index[0] - 1`` and on; zeros before row 0 and after the last one.
            index: int64 [n], consecutive motion rows.
            end: int64 [1], how many feature rows there are in all; more than any index while that is unknown.
            state: [:attr:`state_size`], zeros at the start.

        Returns:
            curves [n, c] in 0..1, opening [n] in face heights, contact probability [n], all of rows ``index - rows_late``; the next state.
        """
        memory = _Memory(state)
        trunks, outputs = [], []
        first = 0
        for member in self._members():
            part = features[:, first : first + member.config.features]
            first += member.config.features
            trunks.append(self._trunk(member, part, index, end, memory))
            outputs.append(member.motion(trunks[-1]))
        curves, opening, contact = _mean(outputs)
        if (known := self._known()) is not None:
            trunk = torch.cat(trunks, -1)
            inside = _inside(known.gate(trunk).T[None], index - self.rows_late, (end + 3) // 4)
            shares = known.shares(memory.before(inside, known.config["rows"] - 1).transpose(1, 2))[0]
            curves, contact = _with_known(curves, contact, known.added(trunk, shares))
        return curves, opening.clamp(min=0.0), torch.sigmoid(contact), memory.next()

    def _trunk(
        self, member: AudioToMotion, features: torch.Tensor, index: torch.Tensor, end: torch.Tensor, memory: _Memory
    ) -> torch.Tensor:
        """:meth:`AudioToMotion.trunk` of the new rows: [n, channels]."""

        halves, rows_in_all = (end + 1) // 2, (end + 3) // 4
        x = functional.gelu(member.front(memory.before(features.T[None], 3)))
        double = torch.stack([2 * index - 1, 2 * index], -1).flatten()
        x = functional.gelu(member.middle(memory.before(_inside(x, double, halves), 3)))
        row = index - 1
        for block in self._blocks(member):
            back, ahead = 2 * block.conv.dilation[0], block.padding[1]
            y = _inside(block.norm(x.transpose(1, 2)).transpose(1, 2), row, rows_in_all)
            x = block.joined(memory.before(x, ahead)[..., : index.shape[0]] if ahead else x, memory.before(y, back))
            row = row - ahead
        return member.norm(x[0].T)

    @staticmethod
    def _blocks(member: AudioToMotion) -> Iterator[_Block]:
        return (block for block in member.blocks if isinstance(block, _Block))


def _inside(x: torch.Tensor, rows: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """``x`` [b, c, n] with zeros in rows [n] that lie before the first or after the last of ``total``."""
    return x * ((rows >= 0) & (rows < total)).to(x.dtype)


def save_model(model: MouthNetwork, path: Path, notes: dict[str, str] | None = None) -> None:
    """Weights in half precision and config as one file, whole or not at all (:mod:`triportrait.nn.model_files`)."""
    save_network(path, model, kind=KIND, config=_config(model), metadata=notes)


def export_model(model: MouthNetwork, path: Path, notes: dict[str, str] | None = None) -> None:
    """The step of :class:`MouthStep` as an ONNX file (:func:`triportrait.nn.export.export_graph`)."""
    step = MouthStep(model)
    export_graph(
        path, step, _shapes(step), OUTPUTS, kind=KIND, config=_step_config(step), integers=("index", "end"), length=5, metadata=notes
    )


def as_graph(model: MouthNetwork) -> TorchGraph:
    """A network, e.g. one that was just trained, as the driver takes it."""
    step = MouthStep(model)
    return TorchGraph(step, _step_config(step), _shapes(step))


def _shapes(step: MouthStep) -> dict[str, tuple[int | None, ...]]:
    return dict(zip(INPUTS, ((-STRIDE, step.network.config.features), (None,), (1,), (step.state_size,)), strict=True))


def _config(model: MouthNetwork) -> dict[str, Any]:
    members = model.networks if isinstance(model, AudioToMotionEnsemble) else [model]
    known = model.known if isinstance(model, AudioToMotionEnsemble) else None
    return {"members": [asdict(member.config) for member in members]} | ({} if known is None else {"known": known.config})


def _step_config(step: MouthStep) -> dict[str, Any]:
    config = step.network.config
    voice = {"curves": config.curves, "extractor": config.extractor, "features": config.features, "rows_late": step.rows_late}
    return _config(step.network) | voice


def load_model(path: Path | None = None) -> MouthNetwork:
    """The embedded model, or one from a file of :func:`save_model` or :func:`export_model`; frozen.

    Raises:
        WeightsError: the file is missing, foreign or damaged.
    """
    return _embedded() if path is None else _load(path)


@lru_cache(maxsize=1)
def _embedded() -> MouthNetwork:
    return load_network(EMBEDDED, KIND, _build).requires_grad_(False)


def _load(path: Path) -> MouthNetwork:
    return load_network(path, KIND, _build, before=lambda metadata: {"members": json.loads(metadata["members"])}).requires_grad_(False)


def _build(config: dict[str, Any]) -> MouthNetwork:
    members = [AudioToMotion(AudioToMotionConfig(**values)) for values in config["members"]]
    return members[0] if len(members) == 1 else AudioToMotionEnsemble(members, config.get("known"))
