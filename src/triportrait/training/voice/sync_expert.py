"""The synchrony expert's training and its accuracy; its use as a loss is :mod:`triportrait.training.voice.sync_loss`."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from triportrait.motion.sync_expert import SyncExpert, SyncExpertConfig, mouth_channels, save_sync_expert
from triportrait.training.voice.augment import roughen
from triportrait.training.voice.corpora import CURVES, Spoken, Tracked
from triportrait.training.voice.stage import example
from triportrait.training.voice.sync_loss import MOST, TEMPERATURE, lag_loss
from triportrait.types import Array

log = logging.getLogger(__name__)


def vary_mouth(channels: torch.Tensor) -> torch.Tensor:
    """Other people, trackers and networks: amplitudes, missing curves, smoothing and noise; [b, t, 10] -> same."""
    batch, rows, count = channels.shape
    gain = torch.exp(0.35 * torch.randn(batch, 1, 1) + 0.2 * torch.randn(batch, 1, count))
    dropped = torch.rand(batch, 1, count) < 0.35 * torch.rand(batch, 1, 1) * 2
    dropped[..., 0] = False
    result = channels * gain * ~dropped
    smooth = functional.avg_pool1d(functional.pad(result.transpose(1, 2), (1, 1), mode="replicate"), 3, 1).transpose(1, 2)
    result = torch.where(torch.rand(batch, 1, 1) < 0.5, smooth, result)
    offset = 0.05 * torch.rand(batch, 1, count) * ~dropped
    return result + offset + 0.02 * torch.rand(batch, 1, 1) * torch.randn(batch, rows, count)


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """Length and shape of a run; ``seconds`` of processor time end it early."""

    steps: int = 1600
    batch: int = 24
    frames: int = 96
    fresh: int = 5
    memory: int = 3000
    tracked_share: float = 0.4
    rate: float = 2e-3
    seconds: float = 840.0
    seed: int = 0


def train_sync_expert(
    spoken: list[Spoken], tracked: list[Tracked], path: Path, settings: SyncSettings | None = None, config: SyncExpertConfig | None = None
) -> SyncExpert:
    """Train and write averaged weights to ``path``; the learning rate follows steps or processor time, whichever runs out first."""
    settings = settings or SyncSettings()
    torch.manual_seed(settings.seed)
    expert, average = SyncExpert(config), SyncExpert(config)
    average.load_state_dict(expert.state_dict())
    optimiser = torch.optim.AdamW(expert.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.02)
    began, running = time.process_time(), 0.0
    memory: list[tuple[Array, Array]] = []
    step = 0
    while True:
        done = max(step / settings.steps, (time.process_time() - began) / settings.seconds)
        if done >= 1.0:
            break
        random = np.random.default_rng([settings.seed, step])
        for _ in range(settings.fresh if len(memory) >= settings.batch else settings.batch):
            pool = tracked if tracked and random.random() < settings.tracked_share else spoken
            features, curves, *_ = example(pool[int(random.integers(len(pool)))], settings.frames, random, expert.config.extractor)
            memory.append((features, curves))
        memory = memory[-settings.memory :]
        rows = memory[-settings.fresh :] + [memory[int(random.integers(len(memory)))] for _ in range(settings.batch - settings.fresh)]
        features, curves = (torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True))
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * min(1.0, (step + 1) / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        sound, mouth = expert(roughen(features), vary_mouth(mouth_channels(curves, CURVES)))
        loss = 0.5 * lag_loss(sound, mouth, 1) + lag_loss(sound, mouth, 12)
        # The same moment in another clip is wrong, too.
        across = torch.einsum("atd,btd->tab", sound[:, ::8], mouth[:, ::8]) / TEMPERATURE
        others = torch.arange(len(sound)).expand(len(across), -1)
        loss = loss + 0.3 * functional.cross_entropy(across.reshape(-1, len(sound)), others.reshape(-1))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(expert.parameters(), 1.0)
        optimiser.step()
        keep = min(0.99, (step + 1) / (step + 10))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), expert.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        running += float(loss.detach())
        step += 1
        if step % 50 == 0:
            log.info("step %d loss %.3f %.2f CPU s/step", step, running / 50, (time.process_time() - began) / step)
            running = 0.0
            save_sync_expert(average, path, {"steps": str(step)})
    save_sync_expert(average, path, {"steps": str(step)})
    return average.eval().requires_grad_(False)


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
