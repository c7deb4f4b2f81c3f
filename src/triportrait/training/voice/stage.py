"""Training of the audio-to-motion network: corpora, augmentation, losses and a resumable loop for one CPU core.

Sources: synthesised speech with exact phoneme times through the coarticulation model, and the tracked speaker of
``speech_av``. Every example is augmented as a waveform and its targets are moved with it (pauses, speed), so that
nothing can drift apart.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from triportrait.motion.audio_network import STRIDE, AudioToMotion, AudioToMotionConfig, save_model
from triportrait.motion.speech_features import EXTRACTORS, RATE_HZ, EnvelopeLogMel
from triportrait.training.loop import Recipe, Values, train_stage
from triportrait.training.voice.articulation import VISEMES, Style, viseme_rows
from triportrait.training.voice.augment import WARPED, augment, noise, roughen, some_music
from triportrait.training.voice.corpora import COLUMNS, CURVES, TRACKED_TRUST, Spoken, Tracked, spoken_targets
from triportrait.training.voice.losses import curve_weights, losses, viseme_loss
from triportrait.training.voice.sync_loss import sync_loss
from triportrait.types import FPS, Array

log = logging.getLogger(__name__)


_SILENCE = list(VISEMES).index("sil")


def _resample_rows(rows: Array, speed: float) -> Array:
    """Rows of a clip that is played ``speed`` times as fast."""
    count = max(int(len(rows) / speed), 1)
    at = np.arange(count) * speed
    low = np.minimum(at.astype(int), len(rows) - 1)
    high = np.minimum(low + 1, len(rows) - 1)
    mix = (at - low).astype(np.float32)
    if rows.ndim == 2:
        mix = mix[:, None]
    return rows[low] * (1 - mix) + rows[high] * mix


def _articulated(contact: Array) -> Array:
    """1 in contacts of at most 0.3 s (bilabials, not pauses) and one row around them, else 0."""
    touching = np.concatenate([[False], contact > 0.5, [False]])
    edges = np.flatnonzero(np.diff(touching.astype(int)))
    result = np.zeros(len(contact), np.float32)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start <= 8 and start > 0 and end < len(contact):
            result[max(start - 1, 0) : end + 1] = 1.0
    return result


def example(clip: Spoken | Tracked, frames: int, random: np.random.Generator, extractor: str = "log_mel") -> tuple[Array, ...]:
    """One augmented training example of ``frames`` rows.

    Returns:
        features [4 frames, f], curves [frames, c], opening [frames], contact [frames], articulated contacts [frames],
        trust per curve [c], certainty of the row [frames] and number of the viseme [frames] (-1 = not known).
    """
    speed = float(np.exp(random.normal(0.0, 0.14)))
    if isinstance(clip, Spoken):
        # Silence after the last sound shows how the mouth comes to rest.
        clip = Spoken(np.pad(clip.samples, (0, int(1.4 * RATE_HZ))), clip.phones, clip.voice)
        targets = spoken_targets(clip, Style.sample(random))
    else:
        targets = clip.targets
    samples = clip.samples.astype(np.float32) / 32767
    positions = np.arange(int(len(samples) / speed)) * speed
    samples = np.interp(positions, np.arange(len(samples)), samples).astype(np.float32)
    expression = _resample_rows(targets.expression[:, COLUMNS], speed)
    opening, contact = _resample_rows(targets.opening, speed), _resample_rows(targets.contact, speed)

    sure = np.ones(len(opening), np.float32) if targets.sure is None else _resample_rows(targets.sure, speed)
    visemes = np.full(len(opening), -1)
    if clip.phones:
        visemes = viseme_rows(clip.phones, np.arange(len(opening)) * speed / FPS)

    rows = min(len(opening), len(samples) // 640)
    # Place the clip in a window with room before it, or cut a window out of it.
    before = int(random.integers(0, 25)) if random.random() < 0.6 else 0
    start = int(random.integers(0, max(rows - frames + before + 12, 1))) if rows + before > frames else 0
    window = np.zeros(frames * 640, np.float32)
    curve_rows = np.zeros((frames, len(COLUMNS)), np.float32)
    opening_rows, contact_rows = np.zeros(frames, np.float32), np.ones(frames, np.float32)
    sure_row, viseme_row = np.ones(frames, np.float32), np.full(frames, _SILENCE)
    first = before - start
    target_slice = slice(max(first, 0), min(first + rows, frames))
    source_slice = slice(target_slice.start - first, target_slice.stop - first)
    window[target_slice.start * 640 : target_slice.stop * 640] = samples[source_slice.start * 640 : source_slice.stop * 640]
    curve_rows[target_slice] = expression[source_slice]
    opening_rows[target_slice], contact_rows[target_slice] = opening[source_slice], contact[source_slice]
    sure_row[target_slice], viseme_row[target_slice] = sure[source_slice], visemes[source_slice]
    if random.random() < 0.03:
        # Nobody speaks: noise or music only.
        if random.random() < 0.5:
            window = some_music(len(window), random)
        else:
            window = noise(len(window), float(random.uniform(0, 2)), random)
        window = 0.05 * window.astype(np.float32)
        curve_rows[:], opening_rows[:], contact_rows[:], sure_row[:], viseme_row[:] = 0.0, 0.0, 1.0, 1.0, _SILENCE
    ears = WARPED[extractor](float(np.exp(random.uniform(-0.16, 0.2))) if random.random() < 0.7 else 1.0)
    heard = augment(window, random)
    # Running means of level and spectrum: as at the start of a recording, or as later on.
    warm = random.random() < 0.5
    features = np.concatenate([ears.push(np.tile(heard, 2) if warm else heard), ears.finish()])[-4 * frames :]
    # The lower lip at the teeth is as rare and as visible as a bilabial.
    teeth = (curve_rows[:, CURVES.index("mouthRollLower")] > 0.3) & isinstance(clip, Spoken)
    articulated = np.maximum(_articulated(contact_rows), teeth.astype(np.float32))
    partly = isinstance(clip, Tracked) and not clip.complete
    trust = TRACKED_TRUST if partly else np.ones(len(CURVES), np.float32)
    return features, curve_rows, opening_rows, contact_rows, articulated, trust, sure_row, viseme_row


#: The embedded network.
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
class TrainingSettings(Recipe):
    """Length and shape of a run."""

    steps: int = 3000
    batch: int = 20
    frames: int = 96
    tracked_share: float = 0.3
    rate: float = 1.5e-3
    average: float = 0.995
    log_every: int = 10
    save_every: int = 200
    #: Examples made anew for each step; the rest of the batch is drawn from the last ``memory`` ones (making costs
    #: more than learning).
    fresh: int = 8
    memory: int = 1600
    #: Convolutions in bfloat16: 1.5 times as fast where the processor has it.
    half: bool = False
    #: Weight of the synchrony expert's loss (:mod:`triportrait.training.voice.sync_loss`), for networks on its features; 0 = none.
    sync_loss: float = 0.0


def viseme_scores(model: AudioToMotion, samples: Array) -> Array:
    """How much better than by chance each sound fits: log posterior less log share, [rows at 100 Hz, visemes].

    The network names sounds 25 times per second; shifting its input by one feature row gives the moments between.
    """
    extractor = EXTRACTORS[model.config.extractor]()
    rows = torch.from_numpy(np.concatenate([extractor.push(samples), extractor.finish()]))
    count = len(rows) // STRIDE
    result = np.empty((count * STRIDE, model.config.visemes), np.float32)
    rows = torch.cat([rows, rows[-1:].expand(STRIDE, -1)])
    with torch.inference_mode():
        for shift in range(STRIDE):
            logits = model.visemes(model.trunk(rows[None, shift : shift + count * STRIDE]))[0]
            result[shift::STRIDE] = torch.log_softmax(logits, -1).numpy()
    share = np.log(np.exp(result).mean(axis=0) + 0.01)
    return np.maximum(result - share, -6.0)


class LipStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Examples are numbered through. A step makes ``fresh`` new ones and takes the rest of its batch from the last ``memory`` ones; those are
    held, or made again where a run was resumed: they are the same.

    Args:
        spoken, tracked: clips to learn from.
        settings: what to do.
        config: sizes of the network.
    """

    name = "lips"
    averaged = ("audio_to_motion",)

    def __init__(
        self, spoken: list[Spoken], tracked: list[Tracked], settings: TrainingSettings, config: AudioToMotionConfig | None = None
    ) -> None:
        self.recipe, self._spoken, self._tracked = settings, spoken, tracked
        torch.manual_seed(settings.seed)
        self.networks = nn.ModuleDict({"audio_to_motion": AudioToMotion(config or DEFAULT_CONFIG)})
        self.frozen = nn.ModuleDict()
        self._weight = curve_weights(spoken, tracked)
        self._held: dict[int, tuple[Array, ...]] = {}

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        optimiser = torch.optim.AdamW(self.networks.parameters(), lr=self.recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
        return {"generator": (optimiser, self.averaged)}

    def rates(self, which: str, step: int) -> list[float]:
        warm = min(1.0, (step + 1) / 100)
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / self.recipe.steps, 1.0)))
        return [self.recipe.rate * warm * (0.02 + 0.98 * cosine)]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator",)

    def _example(self, number: int) -> tuple[Array, ...]:
        if number not in self._held:
            random = np.random.default_rng([self.recipe.seed, number])
            pool = self._tracked if self._tracked and random.random() < self.recipe.tracked_share else self._spoken
            clip = pool[int(random.integers(len(pool)))]
            extractor = self.networks["audio_to_motion"].config.extractor
            self._held[number] = example(clip, self.recipe.frames, random, extractor)
        return self._held[number]

    def rows(self, step: int, rows: Sequence[int]) -> list[Tensor]:
        settings = self.recipe
        # The first step makes a whole batch.
        new = settings.batch if step == 0 else min(settings.fresh, settings.batch)
        made = settings.batch + min(settings.fresh, settings.batch) * step
        oldest = max(0, made - settings.memory)
        chosen = []
        for row in rows:
            random = np.random.default_rng([settings.seed, step, row])
            chosen.append(made - new + row if row < new else int(random.integers(oldest, made)))
        examples = [self._example(number) for number in chosen]
        for number in [number for number in self._held if number < oldest]:
            del self._held[number]
        return [torch.from_numpy(np.stack(column)) for column in zip(*examples, strict=True)]

    def losses(self, batch: list[Tensor], step: int, which: str) -> dict[str, Tensor]:
        model = self.networks["audio_to_motion"]
        features, *targets = batch
        with torch.autocast(features.device.type, torch.bfloat16, enabled=self.recipe.half):
            trunk = model.trunk(roughen(features)).float()
        outputs = model.motion(trunk)
        terms = {"lips": losses(outputs, tuple(targets), self._weight)}
        if model.config.visemes:
            terms["visemes"] = 0.3 * viseme_loss(model.visemes(trunk), targets[-1])
        if self.recipe.sync_loss:
            terms["sync"] = self.recipe.sync_loss * sync_loss(features, outputs[0], CURVES)
        return terms

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        """Held-out measures are those of scripts/evaluate_audio_to_motion.py."""
        return {}, None

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        settings = json.dumps({"batch": self.recipe.batch, "frames": self.recipe.frames})
        save_model(networks["audio_to_motion"], folder / "model.safetensors", {"steps": notes["steps"], "settings": settings})


def train(
    spoken: list[Spoken],
    tracked: list[Tracked],
    folder: Path,
    settings: TrainingSettings,
    config: AudioToMotionConfig | None = None,
    start: AudioToMotion | None = None,
) -> AudioToMotion:
    """Train or continue; ``folder`` holds ``state.pt`` and ``model.safetensors`` (averaged weights).

    A new run begins with the weights of ``start`` where given (a viseme head that it lacks begins at random); sizes are then its own.
    """
    if start is not None:
        config = replace(start.config, visemes=len(VISEMES), dropout=DEFAULT_CONFIG.dropout)
    stage = LipStage(spoken, tracked, settings, config)
    if start is not None:
        stage.networks["audio_to_motion"].load_state_dict(start.state_dict(), strict=False)
    train_stage(stage, folder, tensorboard=False)
    return stage.networks_average["audio_to_motion"]
