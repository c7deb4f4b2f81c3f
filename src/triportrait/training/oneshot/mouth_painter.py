"""Training of the mouth painter on packed windows: L1, slopes and a patch discriminator (hinge loss), all near the lips.

Plain torch; a step is a function of (seed, step) and of the checkpoint, so that a killed run goes on where its last checkpoint was.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from triportrait.avatar.mouth.painter import (
    CHANNELS,
    MouthPainter,
    MouthPainterConfig,
    change_weight,
    load_mouth_painter,
    save_mouth_painter,
)
from triportrait.errors import EmptyMedia
from triportrait.files import atomic_file

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MouthPainterRecipe:
    """Everything that decides a run besides its data.

    Args:
        model: sizes.
        steps, batch, rate: AdamW with a cosine.
        real_share: of windows from real pairs in a batch.
        gradient_weight: of the slopes' L1; inside_weight: of the light between the lips.
        adversarial_weight: of the discriminator, from step ``adversarial_from`` on.
        average: of the moving average of weights.
        seed: of everything random; log_every, save_every: steps.
    """

    model: MouthPainterConfig = field(default_factory=MouthPainterConfig)
    steps: int = 3000
    batch: int = 12
    rate: float = 1.5e-3
    real_share: float = 0.25
    gradient_weight: float = 0.5
    inside_weight: float = 0.5
    adversarial_weight: float = 0.02
    adversarial_from: int = 600
    average: float = 0.995
    seed: int = 0
    log_every: int = 25
    save_every: int = 100


def read_windows(paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Windows uint8 [n, 15, h, w] and which are of real pairs, bool [n].

    Raises:
        EmptyMedia: there are none.
    """
    parts, real = [], []
    for path in paths:
        with np.load(path) as file:
            parts.append(torch.from_numpy(file["windows"]).permute(0, 3, 1, 2).contiguous())
            real.append(torch.from_numpy(file["real"]).bool())
    if not parts or not sum(map(len, parts)):
        raise EmptyMedia("there are no mouth windows to train on; pack some with scripts/pack_mouth_patches.py")
    return torch.cat(parts), torch.cat(real)


class Discriminator(nn.Sequential):
    """Colours and lip masks [b, 5, h, w] to one number per patch."""

    def __init__(self) -> None:
        def layer(taken: int, given: int) -> list[nn.Module]:
            return [spectral_norm(nn.Conv2d(taken, given, 4, 2, 1)), nn.LeakyReLU(0.2)]

        super().__init__(*layer(5, 32), *layer(32, 64), *layer(64, 96), spectral_norm(nn.Conv2d(96, 1, 3, padding=1)))


def batch_of(windows: Tensor, real: Tensor, recipe: MouthPainterRecipe, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Channels [b, 12, h, w] and true colours [b, 3, h, w]; half are mirrored, all are tinted."""
    kinds = [torch.nonzero(real)[:, 0], torch.nonzero(~real)[:, 0]]
    wanted = torch.rand(recipe.batch, generator=random) < recipe.real_share
    rows = []
    for is_real in wanted.tolist():
        pool = kinds[0 if is_real and len(kinds[0]) else 1]
        pool = pool if len(pool) else kinds[0]
        rows.append(pool[int(torch.randint(len(pool), (1,), generator=random))])
    x = windows[torch.stack(rows)].float() / 255
    flip = torch.rand(len(x), 1, 1, 1, generator=random) < 0.5
    x = torch.where(flip, x.flip(-1), x)
    bright, tint = torch.rand(len(x), 1, 1, 1, generator=random), torch.rand(len(x), 3, 1, 1, generator=random)
    gain = (1 + 0.3 * (bright - 0.5)) * (1 + 0.1 * (tint - 0.5))
    drawn, lips, photo, rest, truth = x[:, :3], x[:, 3:7], x[:, 7:10], x[:, 10:12], x[:, 12:]
    drawn, photo, truth = ((gain * part).clamp(0, 1) for part in (drawn, photo, truth))
    return torch.cat([drawn, lips, photo, rest], 1), truth


def reconstruction(painted: Tensor, truth: Tensor, x: Tensor, recipe: MouthPainterRecipe) -> Tensor:
    """L1 of colours and slopes where colours may change."""
    weight = change_weight(x)
    wrong = painted - truth
    slopes = sum((wrong.diff(dim=axis).abs() * weight.narrow(axis, 1, weight.shape[axis] - 1)).mean() for axis in (-1, -2))
    return (weight * wrong.abs()).mean() + recipe.gradient_weight * slopes + recipe.inside_weight * inside_error(painted, truth, x).mean()


def inside_error(painted: Tensor, truth: Tensor, x: Tensor) -> Tensor:
    """How far the mean light over places between the lips is off: [b, 1, h', w'], 0 where the lips are.

    Means over 9 x 9 pixels: teeth that stand elsewhere than they should are no reason to paint them away.
    """
    inside = (x[:, 5:6] > 0.5).float()
    share = functional.avg_pool2d(inside, 9, 3, 4)
    wrong = functional.avg_pool2d(inside * (painted - truth), 9, 3, 4) / share.clamp_min(0.05)
    return wrong.abs().mean(1, keepdim=True) * share


@torch.no_grad()
def judge(model: MouthPainter, windows: Tensor) -> dict[str, float]:
    """Mean L1 of the painted and of the drawn windows: of lips and rim, and of the light between them."""
    model.eval()
    sums, inside = np.zeros(3), np.zeros(3)
    for part in windows.split(16):
        x, truth = part[:, :CHANNELS].float() / 255, part[:, CHANNELS:].float() / 255
        weight = (change_weight(x) > 0.5).float()
        for i, picture in enumerate((model(x), x[:, :3])):
            sums[i] += float(((picture - truth).abs().mean(1, keepdim=True) * weight).sum())
            inside[i] += float(inside_error(picture, truth, x).sum())
        sums[2] += float(weight.sum())
        inside[2] += float(functional.avg_pool2d((x[:, 5:6] > 0.5).float(), 9, 3, 4).sum())
    model.train()
    scores = {"painted": sums[0] / sums[2], "drawn": sums[1] / sums[2]}
    return {**scores, "lit": inside[0] / max(inside[2], 1e-9), "unlit": inside[1] / max(inside[2], 1e-9)}


def train(
    recipe: MouthPainterRecipe, data: Sequence[Path], held_out: Sequence[Path], out: Path, start: Path | None = None
) -> dict[str, float]:
    """Run or go on; the averaged weights lie in ``out/model.safetensors`` at every checkpoint."""
    out.mkdir(parents=True, exist_ok=True)
    windows, real = read_windows(data)
    unseen, _ = read_windows(held_out)
    torch.manual_seed(recipe.seed)
    model, critic = MouthPainter(recipe.model), Discriminator()
    if start is not None:
        model.load_state_dict(load_mouth_painter(start).state_dict())
    mean = MouthPainter(recipe.model)
    mean.load_state_dict(model.state_dict())
    optimiser = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=0.01)
    judge_optimiser = torch.optim.Adam(critic.parameters(), 4e-4, betas=(0.5, 0.99))
    state_path, done = out / "state.pt", 0
    parts = {"model": model, "critic": critic, "mean": mean, "optimiser": optimiser, "judge_optimiser": judge_optimiser}
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        done = int(state["step"])
    scores: dict[str, float] = {}
    began = time.process_time()
    for step in range(done, recipe.steps):
        random = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        rate = recipe.rate * min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        x, truth = batch_of(windows, real, recipe, random)
        painted = model(x)
        loss = reconstruction(painted, truth, x, recipe)
        terms = {"loss": float(loss.detach())}
        if step >= recipe.adversarial_from:
            critic.requires_grad_(False)
            doubt = critic(torch.cat([painted, x[:, 3:5]], 1))
            near = functional.interpolate(change_weight(x), size=doubt.shape[-2:], mode="area")
            loss = loss - recipe.adversarial_weight * (near * doubt).mean()
            critic.requires_grad_(True)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step >= recipe.adversarial_from - 200:
            true, false = (critic(torch.cat([picture, x[:, 3:5]], 1)) for picture in (truth, painted.detach()))
            near = functional.interpolate(change_weight(x), size=true.shape[-2:], mode="area")
            verdict = (near * (functional.relu(1 - true) + functional.relu(1 + false))).mean()
            judge_optimiser.zero_grad()
            verdict.backward()
            judge_optimiser.step()
            terms["critic"] = float(verdict.detach())
        keep = min(recipe.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for own, new in zip(mean.parameters(), model.parameters(), strict=True):
                own.lerp_(new, 1 - keep)
        last = step + 1 == recipe.steps
        if (step + 1) % recipe.log_every == 0 or last:
            row = {"step": step + 1, **{name: round(value, 5) for name, value in terms.items()}}
            row["cpu_s"] = round(time.process_time() - began, 1)
            if (step + 1) % recipe.save_every == 0 or last:
                scores = judge(mean, unseen)
                row.update({name: round(value, 5) for name, value in scores.items()})
            log.info("%s", row)
            with (out / "log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if (step + 1) % recipe.save_every == 0 or last:
            with atomic_file(state_path) as draft:
                torch.save({"step": step + 1, **{name: part.state_dict() for name, part in parts.items()}}, draft)
            save_mouth_painter(mean, out / "model.safetensors", {"steps": str(step + 1)})
    return scores
