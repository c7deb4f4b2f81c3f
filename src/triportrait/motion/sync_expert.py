"""Do these lips belong to this sound? A small audio-lip synchrony expert on motion curves, always at hand.

Two towers of convolutions give one unit vector per motion row (25 per second): one of the sound, one of the mouth.
Rows that belong together point the same way, rows that are shifted against each other do not. After J. S. Chung and
A. Zisserman, "Out of time: automated lip sync in the wild", 2016, on curves instead of pixels, and with the
contrastive loss of A. van den Oord et al., "Representation learning with contrastive predictive coding", 2018.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from triportrait.errors import MediaError
from triportrait.motion.lips import gap_weights
from triportrait.motion.speech_features import EXTRACTORS, RATE_HZ
from triportrait.nn.model_files import Embedded, load_network, save_network
from triportrait.types import FPS, Motion, Waveform

#: What the mouth tower looks at besides the lip opening; pairs are averaged.
CHANNELS = (
    "jawOpen",
    "mouthFunnel",
    "mouthPucker",
    "mouthStretch",
    "mouthSmile",
    "mouthLowerDown",
    "mouthUpperUp",
    "mouthRollLower",
    "mouthClose",
)

#: Feature rows per motion row.
STRIDE = 4
_KIND = "sync_expert.1"
_EMBEDDED = Embedded("triportrait.motion", "sync_expert.safetensors")


@dataclass(frozen=True, slots=True)
class SyncExpertConfig:
    """Sizes, and the name of the features in :data:`triportrait.motion.speech_features.EXTRACTORS`; stored with the weights."""

    features: int = 42
    extractor: str = "envelope_log_mel"
    channels: int = 96
    embedding: int = 64
    dilations: tuple[int, ...] = (1, 2, 3)


class _Block(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.conv = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return x + self.out(functional.gelu(self.conv(y)))


class SyncExpert(nn.Module):
    """Log-mel rows [b, 4 t, f] and mouth channels [b, t, 10] (:func:`mouth_channels`) -> unit vectors [b, t, d] each."""

    def __init__(self, config: SyncExpertConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SyncExpertConfig()
        width = config.channels
        self.front = nn.Conv1d(config.features, width // 2, 5, stride=2)
        self.middle = nn.Conv1d(width // 2, width, 5, stride=2)
        self.sound_blocks = nn.ModuleList(_Block(width, dilation) for dilation in config.dilations)
        self.sound_head = nn.Linear(width, config.embedding)
        self.mouth_front = nn.Conv1d(len(CHANNELS) + 1, width, 5, padding=2)
        self.mouth_blocks = nn.ModuleList(_Block(width, dilation) for dilation in config.dilations)
        self.mouth_head = nn.Linear(width, config.embedding)

    def sound(self, features: torch.Tensor) -> torch.Tensor:
        """[b, 4 t, f] -> [b, t, d]."""
        x = features.transpose(1, 2)
        x = functional.gelu(self.front(functional.pad(x, (2, 2))))
        x = functional.gelu(self.middle(functional.pad(x, (2, 2))))
        for block in self.sound_blocks:
            x = block(x)
        return functional.normalize(self.sound_head(x.transpose(1, 2)), dim=-1)

    def mouth(self, channels: torch.Tensor) -> torch.Tensor:
        """[b, t, 10] -> [b, t, d]."""
        x = functional.gelu(self.mouth_front(channels.transpose(1, 2)))
        for block in self.mouth_blocks:
            x = block(x)
        return functional.normalize(self.mouth_head(x.transpose(1, 2)), dim=-1)

    def forward(self, features: torch.Tensor, channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.sound(features), self.mouth(channels)


@lru_cache(maxsize=8)
def _channel_matrix(names: tuple[str, ...]) -> torch.Tensor:
    """[e, 10]: lip opening in tenths of a face height first, then :data:`CHANNELS`."""
    matrix = np.zeros((len(names), len(CHANNELS) + 1), np.float32)
    matrix[:, 0] = 10.0 * gap_weights(names)
    for column, channel in enumerate(CHANNELS, start=1):
        sides = [name for name in (channel, f"{channel}Left", f"{channel}Right") if name in names]
        for name in sides:
            matrix[names.index(name), column] = 1.0 / len(sides)
    # Kept for later calls, so it must serve gradients even when first asked for without.
    with torch.inference_mode(False):
        return torch.from_numpy(matrix)


def mouth_channels(curves: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
    """Expression curves [..., e] named ``names`` -> what the mouth tower takes [..., 10]; differentiable."""
    channels = curves @ _channel_matrix(tuple(names)).to(curves)
    return torch.cat([channels[..., :1].clamp(min=0.0), channels[..., 1:]], dim=-1)


@dataclass(frozen=True, slots=True)
class SyncScore:
    """How well lips and sound agree over a clip.

    Args:
        similarity: mean cosine at lag 0, -1..1.
        confidence: highest mean cosine over all lags minus their median (as LSE-C does with distances).
        lag_frames: the lag where it is highest, in frames of 40 ms; positive = the lips come late.
        by_lag: mean cosine for each lag.
    """

    similarity: float
    confidence: float
    lag_frames: int
    by_lag: dict[int, float]


def similarity_by_lag(sound: torch.Tensor, mouth: torch.Tensor, most: int = 15) -> torch.Tensor:
    """Cosines [b, t - 2 most, 2 most + 1] of sound row i and mouth row i + lag, lag = -most..most; rows near the ends are left out."""
    rows = sound.shape[1] - 2 * most
    windows = mouth.unfold(1, 2 * most + 1, 1)
    return torch.einsum("btd,btdk->btk", sound[:, most : most + rows], windows)


def sync_score(motion: Motion, voice: Waveform, expert: SyncExpert | None = None, most: int = 15) -> SyncScore:
    """Agreement of a motion's mouth with a sound; both begin at the same moment.

    Args:
        motion: with ARKit mouth curves, any rate (rows are taken at 25 per second).
        voice: any rate.
        expert: another than the embedded one.
        most: lags up to this many frames of 40 ms are looked at.

    Raises:
        MediaError: the clip is shorter than ``2 most + 1`` frames, or has no mouth curves.
    """
    if "jawOpen" not in motion.expression_names:
        raise MediaError(f"motion of head model {motion.head_model!r} has no mouth curves; extract it with the open head")
    samples = voice.samples
    if voice.rate_hz != RATE_HZ:
        import soxr

        samples = soxr.resample(samples, voice.rate_hz, RATE_HZ)
    expert = expert or load_sync_expert()
    extractor = EXTRACTORS[expert.config.extractor]()
    features = np.concatenate([extractor.push(np.asarray(samples, np.float32)), extractor.finish()])
    index = np.round(np.arange(int(len(motion) * FPS / motion.fps)) * motion.fps / FPS).astype(int)
    rows = motion.expression[np.minimum(index, len(motion) - 1)]
    count = min(len(rows), len(features) // STRIDE)
    if count < 2 * most + 1:
        raise MediaError(f"{count / FPS:.1f} s are too short to compare lips and sound; give at least {(2 * most + 1) / FPS:.1f} s")
    with torch.inference_mode():
        channels = mouth_channels(torch.from_numpy(np.asarray(rows[:count], np.float32))[None], motion.expression_names)
        sound, mouth = expert(torch.from_numpy(features[: count * STRIDE])[None], channels)
        means = similarity_by_lag(sound, mouth, most)[0].mean(0).numpy()
    best = int(np.argmax(means))
    by_lag = {lag: float(value) for lag, value in zip(range(-most, most + 1), means, strict=True)}
    return SyncScore(by_lag[0], float(means[best] - np.median(means)), best - most, by_lag)


def save_sync_expert(expert: SyncExpert, path: Path, notes: dict[str, str] | None = None) -> None:
    """Weights in half precision and config as one file, whole or not at all (:mod:`triportrait.nn.model_files`)."""
    save_network(path, expert, kind=_KIND, config=asdict(expert.config), metadata=notes)


def load_sync_expert(path: Path | None = None) -> SyncExpert:
    """The embedded expert, or one from a file of :func:`save_sync_expert`; frozen.

    Raises:
        WeightsError: the file is missing, foreign or damaged.
    """
    return _embedded() if path is None else _load(path)


@lru_cache(maxsize=1)
def _embedded() -> SyncExpert:
    return _load(_EMBEDDED)


def _load(source: Path | Embedded) -> SyncExpert:
    expert = load_network(
        source, _KIND, lambda config: SyncExpert(SyncExpertConfig(**config)), before=lambda metadata: json.loads(metadata["config"])
    )
    return expert.requires_grad_(False)
