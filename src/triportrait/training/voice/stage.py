"""Training of the audio-to-motion network, the lips from a voice.

Sources: synthesised speech with exact phoneme times through the coarticulation model, and tracked lips of real speakers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from triportrait.motion.audio_network import AudioToMotion, AudioToMotionConfig, save_model
from triportrait.motion.speech_features import EnvelopeLogMel, LogMel
from triportrait.training.loop import Values
from triportrait.training.voice.articulation import VISEMES
from triportrait.training.voice.augment import roughen
from triportrait.training.voice.corpora import CURVES, Spoken, Tracked
from triportrait.training.voice.examples import Examples, SpeechRecipe
from triportrait.training.voice.losses import curve_weights, losses, viseme_loss
from triportrait.training.voice.measure import mean_opening_correlation
from triportrait.training.voice.sync_loss import sync_loss
from triportrait.types import Array

#: The second network of the embedded pair.
DEFAULT_CONFIG = AudioToMotionConfig(
    features=EnvelopeLogMel.size,
    channels=128,
    front_channels=96,
    dilations=(1, 2, 4, 8, 1),
    curves=CURVES,
    extractor=EnvelopeLogMel.name,
    visemes=len(VISEMES),
    dropout=0.1,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceRecipe(SpeechRecipe):
    """Everything that decides a run besides its data.

    Args:
        network: sizes.
        half: convolutions in bfloat16: 1.5 times as fast where the processor has it.
        sync_loss: weight of the synchrony expert's loss (:mod:`triportrait.training.voice.sync_loss`), 0.05 to 0.2, for networks on its
            features; 0 leaves it out.
    """

    network: AudioToMotionConfig = DEFAULT_CONFIG
    steps: int = 5200
    batch: int = 24
    average: float = 0.995
    log_every: int = 10
    save_every: int = 200
    half: bool = False
    sync_loss: float = 0.0


def compact() -> VoiceRecipe:
    """Network B of the embedded pair, which listens to wide bands less their mean."""
    return VoiceRecipe()


def compact_log_mel() -> VoiceRecipe:
    """Network A of the embedded pair, which listens to log-mel bands."""
    network = replace(
        DEFAULT_CONFIG, features=LogMel.size, channels=144, front_channels=112, dilations=(1, 2, 4, 8, 1, 2), extractor=LogMel.name
    )
    return VoiceRecipe(network=network)


def tiny() -> VoiceRecipe:
    """Seconds on one core, for tests."""
    network = replace(DEFAULT_CONFIG, channels=24, front_channels=16, dilations=(1, 2))
    return VoiceRecipe(
        network=network,
        steps=30,
        batch=4,
        frames=64,
        fresh=2,
        memory=100,
        rate=4e-3,
        average=0.9,
        log_every=1,
        save_every=10,
        validate_every=10,
    )


RECIPES = {"tiny": tiny, "compact": compact, "compact_log_mel": compact_log_mel}


class VoiceStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Args:
        spoken, tracked: clips to learn from.
        recipe: what to do.
        held_out: clips to be judged by.
        start: a network whose weights and sizes a new run begins with (a viseme head that it lacks begins at random).
    """

    name = "voice"
    averaged = ("audio_to_motion",)

    def __init__(
        self,
        spoken: Sequence[Spoken],
        tracked: Sequence[Tracked],
        recipe: VoiceRecipe,
        *,
        held_out: Sequence[Tracked] = (),
        start: AudioToMotion | None = None,
    ) -> None:
        if start is not None:
            recipe = replace(recipe, network=replace(start.config, visemes=len(VISEMES), dropout=DEFAULT_CONFIG.dropout))
        self.recipe, self._held_out = recipe, held_out
        torch.manual_seed(recipe.seed)
        self.networks = nn.ModuleDict({"audio_to_motion": AudioToMotion(recipe.network)})
        if start is not None:
            self.networks["audio_to_motion"].load_state_dict(start.state_dict(), strict=False)
        self.frozen = nn.ModuleDict()
        self._examples = Examples(spoken, tracked, recipe, recipe.network.extractor)
        self._weight = curve_weights(spoken, tracked)

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        optimiser = torch.optim.AdamW(self.networks.parameters(), lr=self.recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
        return {"generator": (optimiser, self.averaged)}

    def rates(self, which: str, step: int) -> list[float]:
        warm = min(1.0, (step + 1) / 100)
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / self.recipe.steps, 1.0)))
        return [self.recipe.rate * warm * (0.02 + 0.98 * cosine)]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> list[Tensor]:
        return [torch.from_numpy(np.stack(column)) for column in zip(*self._examples.rows(step, rows), strict=True)]

    def losses(self, batch: list[Tensor], step: int, which: str) -> dict[str, Tensor]:
        model = cast(AudioToMotion, self.networks["audio_to_motion"])
        features, *targets = batch
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.recipe.half):
            trunk = model.trunk(roughen(features)).float()
        outputs = model.motion(trunk)
        terms = {"lips": losses(outputs, tuple(targets), self._weight.to(features.device))}
        if model.config.visemes:
            terms["visemes"] = 0.3 * viseme_loss(model.visemes(trunk), targets[-1])
        if self.recipe.sync_loss:
            terms["sync"] = self.recipe.sync_loss * sync_loss(features, outputs[0], CURVES)
        return terms

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        """How well the lips' opening follows that of held-out tracked clips; :mod:`triportrait.training.voice.measure` measures more."""
        if not self._held_out:
            return {}, None
        model = deepcopy(cast(AudioToMotion, networks["audio_to_motion"])).cpu()
        return {"opening_correlation_val": mean_opening_correlation(model, self._held_out)}, None

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        settings = json.dumps({"batch": self.recipe.batch, "frames": self.recipe.frames})
        model = cast(AudioToMotion, networks["audio_to_motion"])
        save_model(model, folder / "model.safetensors", {"steps": notes["steps"], "settings": settings})
