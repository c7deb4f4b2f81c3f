"""The network that turns log-mel rows into mouth curves at 25 per second, and its weights file.

It sees 192.5 ms ahead at most (12.5 ms window, 60 ms of strided convolutions, 120 ms of blocks) and about 1.6 s back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from triportrait.nn.model_files import Embedded, load_network, save_network

#: Feature rows per motion row.
STRIDE = 4
_KIND = "audio_to_motion.1"
_EMBEDDED = Embedded("triportrait.motion", "audio_to_motion.safetensors")


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
        signal, gate = self.conv(functional.pad(y, self.padding)).chunk(2, dim=1)
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


class AudioToMotionEnsemble(nn.Module):
    """Networks with features of their own that speak with one voice: curves, openings and contact probabilities are averaged.

    It takes their features side by side and is used like one network. Networks with different features and training err
    differently on unknown voices, so the mean is better than each.

    Args:
        members: networks of the same curves, in the order of their features in the extractor.
    """

    def __init__(self, members: Sequence[AudioToMotion]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
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
        return max(member.rows_back for member in self.networks)

    @property
    def features_ahead(self) -> int:
        """Feature rows after ``4 i`` that can reach output row i."""
        return max(member.features_ahead for member in self.networks)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        networks = self.networks
        parts = features.split([network.config.features for network in networks], dim=-1)
        curves, openings, contacts = zip(*(network(part) for network, part in zip(networks, parts, strict=True)), strict=True)
        return (
            torch.stack([part.clamp(0.0, 1.0) for part in curves]).mean(0),
            torch.stack(openings).mean(0),
            torch.logit(torch.stack([torch.sigmoid(part) for part in contacts]).mean(0), eps=1e-6),
        )


#: What the driver takes: one network, or several that speak with one voice.
MouthNetwork = AudioToMotion | AudioToMotionEnsemble


def save_model(model: MouthNetwork, path: Path, notes: dict[str, str] | None = None) -> None:
    """Weights in half precision and config as one file, whole or not at all (:mod:`triportrait.nn.model_files`)."""
    members = model.networks if isinstance(model, AudioToMotionEnsemble) else [model]
    save_network(path, model, kind=_KIND, config={"members": [asdict(member.config) for member in members]}, metadata=notes)


def load_model(path: Path | None = None) -> MouthNetwork:
    """The embedded model, or one from a file of :func:`save_model`; frozen.

    Raises:
        WeightsError: the file is missing, foreign or damaged.
    """
    return _embedded() if path is None else _load(path)


@lru_cache(maxsize=1)
def _embedded() -> MouthNetwork:
    return _load(_EMBEDDED)


def _load(source: Path | Embedded) -> MouthNetwork:
    return load_network(source, _KIND, _build, before=lambda metadata: {"members": json.loads(metadata["members"])}).requires_grad_(False)


def _build(config: dict[str, Any]) -> MouthNetwork:
    members = [AudioToMotion(AudioToMotionConfig(**values)) for values in config["members"]]
    return members[0] if len(members) == 1 else AudioToMotionEnsemble(members)
