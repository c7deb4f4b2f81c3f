"""The synchrony expert's training and its accuracy; its use as a loss is :mod:`triportrait.training.voice.sync_loss`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.motion.speech_features import EXTRACTORS
from triportrait.motion.sync_expert import STRIDE, SyncExpert, SyncExpertConfig, mouth_channels, save_sync_expert, similarity_by_lag
from triportrait.training.loop import Values
from triportrait.training.voice.augment import roughen
from triportrait.training.voice.corpora import CURVES, Spoken, Tracked, spoken_targets
from triportrait.training.voice.examples import Examples, SpeechRecipe
from triportrait.training.voice.sync_loss import MOST, TEMPERATURE, lag_loss
from triportrait.types import ARKIT_EXPRESSIONS, Array

#: Of the held-out measure: frames of delay that are to be told, and rows of a window.
_SHIFT, _WINDOW = 5, 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncRecipe(SpeechRecipe):
    """Everything that decides a run besides its data; ``network``: sizes."""

    network: SyncExpertConfig = field(default_factory=SyncExpertConfig)
    steps: int = 1600
    batch: int = 24
    fresh: int = 5
    memory: int = 3000
    tracked_share: float = 0.4
    rate: float = 2e-3
    average: float = 0.99


def compact() -> SyncRecipe:
    """The embedded network."""
    return SyncRecipe()


def tiny() -> SyncRecipe:
    """Seconds on one core, for tests."""
    return SyncRecipe(
        network=SyncExpertConfig(channels=16, embedding=8, dilations=(1,)),
        steps=30,
        batch=4,
        frames=48,
        fresh=2,
        memory=100,
        average=0.9,
        log_every=1,
        save_every=10,
        validate_every=10,
    )


RECIPES = {"tiny": tiny, "compact": compact}


def vary_mouth(channels: Tensor) -> Tensor:
    """Other people, trackers and networks: amplitudes, missing curves, smoothing and noise; [b, t, 10] -> same."""
    batch, rows, count, place = *channels.shape, channels.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, device=place)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=place)

    gain = torch.exp(0.35 * normal(batch, 1, 1) + 0.2 * normal(batch, 1, count))
    dropped = uniform(batch, 1, count) < 0.35 * uniform(batch, 1, 1) * 2
    dropped[..., 0] = False
    result = channels * gain * ~dropped
    smooth = functional.avg_pool1d(functional.pad(result.transpose(1, 2), (1, 1), mode="replicate"), 3, 1).transpose(1, 2)
    result = torch.where(uniform(batch, 1, 1) < 0.5, smooth, result)
    offset = 0.05 * uniform(batch, 1, count) * ~dropped
    return result + offset + 0.02 * uniform(batch, 1, 1) * normal(batch, rows, count)


class SyncStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Args:
        spoken, tracked: clips to learn from.
        recipe: what to do.
        held_out: clips to be judged by.
        start: weights that a new run begins with.
    """

    name = "sync_expert"
    averaged = ("sync_expert",)

    def __init__(
        self,
        spoken: Sequence[Spoken],
        tracked: Sequence[Tracked],
        recipe: SyncRecipe,
        *,
        held_out: Sequence[Spoken | Tracked] = (),
        start: SyncExpert | None = None,
    ) -> None:
        self.recipe, self._held_out = recipe, held_out
        torch.manual_seed(recipe.seed)
        expert = SyncExpert(recipe.network)
        if start is not None:
            expert.load_state_dict(start.state_dict())
        self.networks = nn.ModuleDict({"sync_expert": expert})
        self.frozen = nn.ModuleDict()
        self._examples = Examples(spoken, tracked, recipe, recipe.network.extractor)

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        optimiser = torch.optim.AdamW(self.networks.parameters(), lr=self.recipe.rate, betas=(0.9, 0.98), weight_decay=0.02)
        return {"generator": (optimiser, self.averaged)}

    def rates(self, which: str, step: int) -> list[float]:
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / self.recipe.steps, 1.0)))
        return [self.recipe.rate * min(1.0, (step + 1) / 60) * (0.02 + 0.98 * cosine)]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> list[Tensor]:
        examples = self._examples.rows(step, rows)
        return [torch.from_numpy(np.stack(column)) for column in zip(*(example[:2] for example in examples), strict=True)]

    def losses(self, batch: list[Tensor], step: int, which: str) -> dict[str, Tensor]:
        features, curves = batch
        sound, mouth = self.networks["sync_expert"](roughen(features), vary_mouth(mouth_channels(curves, CURVES)))
        # The same moment in another clip is wrong, too.
        across = torch.einsum("atd,btd->tab", sound[:, ::8], mouth[:, ::8]) / TEMPERATURE
        others = torch.arange(len(sound), device=sound.device).expand(len(across), -1)
        return {
            "lag_one_row": 0.5 * lag_loss(sound, mouth, 1),
            "lag_half_second": lag_loss(sound, mouth, 12),
            "other_clips": 0.3 * functional.cross_entropy(across.reshape(-1, len(sound)), others.reshape(-1)),
        }

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        """Share of two-second windows of held-out clips in which lips in step beat lips a fifth of a second off."""
        expert = deepcopy(cast(SyncExpert, networks["sync_expert"])).cpu()
        shares = [shift_accuracy(found, _SHIFT, _WINDOW) for clip in self._held_out if len(found := cosines(expert, clip))]
        return ({"in_step_val": float(np.mean(shares))} if shares else {}), None

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        save_sync_expert(cast(SyncExpert, networks["sync_expert"]), folder / "model.safetensors", {"steps": notes["steps"]})


def cosines(expert: SyncExpert, clip: Spoken | Tracked) -> Array:
    """Cosines [t, 2 MOST + 1] of a clip's sound and mouth by lag; rows at its ends that cannot be shifted are left out."""
    expression = clip.targets.expression if isinstance(clip, Tracked) else spoken_targets(clip).expression
    return cosines_of(expert, clip.samples.astype(np.float32) / 32767, expression)


def cosines_of(expert: SyncExpert, samples: Array, expression: Array) -> Array:
    """Cosines [t, 2 MOST + 1] by lag of sound [n] at 16 kHz and curves [t', 44] at 25 per second; none where the clip is too short."""
    extractor = EXTRACTORS[expert.config.extractor]()
    features = np.concatenate([extractor.push(samples), extractor.finish()])
    count = min(len(expression), len(features) // STRIDE)
    if count <= 2 * MOST:
        return np.zeros((0, 2 * MOST + 1), np.float32)
    channels = mouth_channels(torch.from_numpy(expression[:count].astype(np.float32))[None], ARKIT_EXPRESSIONS)
    with torch.inference_mode():
        sound, mouth = expert(torch.from_numpy(features[: STRIDE * count])[None], channels)
        return similarity_by_lag(sound, mouth, MOST)[0].numpy()


def shift_accuracy(cosines: Array, shift: int, window: int) -> float:
    """Share of windows whose mean cosine at lag 0 beats that at lag +``shift`` and at -``shift`` (each counts once).

    Args:
        cosines: [t, 2 MOST + 1] of one clip.
        shift: frames.
        window: rows; windows follow each other by half a window.
    """
    window = min(window, len(cosines))
    hits = []
    for start in range(0, len(cosines) - window + 1, max(1, window // 2)):
        mean = cosines[start : start + window].mean(axis=0)
        hits += [mean[MOST] > mean[MOST + shift], mean[MOST] > mean[MOST - shift]]
    return float(np.mean(hits))
