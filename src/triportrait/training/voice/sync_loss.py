"""The synchrony expert as a loss: predicted lips have to fit the sound at lag 0 better than at any other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache

import torch
from torch.nn import functional

from triportrait.motion.sync_expert import SyncExpert, load_sync_expert, mouth_channels, similarity_by_lag

#: Cosines are divided by this before the softmax over lags.
TEMPERATURE = 0.07

#: Lags in frames that the expert tells apart.
MOST = 15


def lag_loss(sound: torch.Tensor, mouth: torch.Tensor, window: int) -> torch.Tensor:
    """Cross-entropy of lag 0 among all lags but +-1 (too close to be wrong), for means over ``window`` rows: scalar."""
    cosines = similarity_by_lag(sound, mouth, MOST)
    if window > 1:
        cosines = functional.avg_pool1d(cosines.transpose(1, 2), window, stride=max(1, window // 3)).transpose(1, 2)
    lags = torch.tensor([lag for lag in range(2 * MOST + 1) if abs(lag - MOST) != 1], device=cosines.device)
    logits = cosines[..., lags] / TEMPERATURE * math.sqrt(window)
    target = torch.full(logits.shape[:2], MOST - 1, device=logits.device)
    return functional.cross_entropy(logits.reshape(-1, len(lags)), target.reshape(-1))


@lru_cache(maxsize=2)
def _expert_on(device: torch.device) -> SyncExpert:
    """The embedded expert on another device than the one that the metric uses."""
    expert = load_sync_expert()
    return expert if device.type == "cpu" else deepcopy(expert).to(device)


def sync_loss(features: torch.Tensor, curves: torch.Tensor, names: Sequence[str], expert: SyncExpert | None = None) -> torch.Tensor:
    """How badly predicted mouth curves fit the sound: a term for the audio-to-motion network's loss, 0.05 to 0.2 of it.

    Args:
        features: [b, 4 t, f] clean or augmented log-mel rows, t > 30.
        curves: [b, t, c] predicted curves; gradients reach them.
        names: of the curves.
        expert: frozen; the embedded one by default.

    Returns:
        Scalar: cross-entropy of the true lag over half-second windows.

    Raises:
        ValueError: features of another kind than the expert was trained on.
    """
    expert = expert or _expert_on(features.device)
    if features.shape[-1] != expert.config.features:
        raise ValueError(f"the sync expert takes {expert.config.features} {expert.config.extractor} features, got {features.shape[-1]}")
    with torch.no_grad():
        sound = expert.sound(features)
    return lag_loss(sound, expert.mouth(mouth_channels(curves, names)), 12)
