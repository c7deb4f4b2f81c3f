"""Training of the mouth painter on packed windows: L1, slopes and a patch discriminator (hinge loss), all near the lips."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from triportrait.avatar.mouth.painter import CHANNELS
from triportrait.avatar.mouth.painter_network import MouthPainter, MouthPainterConfig, change_weight, save_mouth_painter
from triportrait.errors import EmptyMedia, MediaError
from triportrait.training.loop import Recipe, Values
from triportrait.training.oneshot.views import row_generator, stacked
from triportrait.types import Array

#: The discriminator learns so many steps before it is listened to.
_AHEAD = 200
#: Held-out windows in the validation picture.
_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class MouthPainterRecipe(Recipe):
    """Everything that decides a run besides its data.

    Args:
        model: sizes.
        rate, warm_up_steps: of AdamW, with a cosine; ``discriminator_rate`` of Adam.
        real_share: of windows from real pairs in a batch.
        gradient_weight: of the slopes' L1; inside_weight: of the light between the lips.
        adversarial_weight: of the discriminator, from step ``adversarial_from`` on; 0 leaves it out.
    """

    model: MouthPainterConfig = field(default_factory=MouthPainterConfig)
    steps: int = 3000
    batch: int = 12
    rate: float = 1.5e-3
    warm_up_steps: int = 50
    discriminator_rate: float = 4e-4
    real_share: float = 0.25
    gradient_weight: float = 0.5
    inside_weight: float = 0.5
    adversarial_weight: float = 0.02
    adversarial_from: int = 600
    average: float = 0.995
    log_every: int = 25
    save_every: int = 100
    validate_every: int = 100


def compact() -> MouthPainterRecipe:
    """The network that is meant to be used."""
    return MouthPainterRecipe()


def tiny() -> MouthPainterRecipe:
    """Seconds on one core, for tests."""
    return MouthPainterRecipe(
        model=MouthPainterConfig((8, 8, 16, 16)),
        steps=30,
        batch=2,
        rate=5e-3,
        warm_up_steps=2,
        adversarial_from=4,
        average=0.7,
        log_every=1,
        save_every=10,
        validate_every=10,
    )


RECIPES = {"tiny": tiny, "compact": compact}


def read_windows(paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Windows uint8 [n, 15, h, w] and which are of real pairs, bool [n].

    Raises:
        EmptyMedia: there are none.
        MediaError: a file is none of 'triportrait data mouths'.
    """
    parts, real = [], []
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as file:
                windows, kinds = file["windows"], file["real"]
            if windows.ndim != 4 or windows.shape[3] != CHANNELS + 3 or windows.dtype != np.uint8 or len(kinds) != len(windows):
                raise ValueError
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise MediaError(f"'{path}' holds no mouth windows; make some with 'triportrait data mouths -o FILE.npz'") from None
        parts.append(torch.from_numpy(windows).permute(0, 3, 1, 2).contiguous())
        real.append(torch.from_numpy(kinds).bool())
    if not parts or not sum(map(len, parts)):
        raise EmptyMedia("there are no mouth windows to train on; make some with 'triportrait data mouths -o FILE.npz'")
    return torch.cat(parts), torch.cat(real)


class Discriminator(nn.Sequential):
    """Colours and lip masks [b, 5, h, w] to one number per patch."""

    def __init__(self) -> None:
        def layer(taken: int, given: int) -> list[nn.Module]:
            return [spectral_norm(nn.Conv2d(taken, given, 4, 2, 1)), nn.LeakyReLU(0.2)]

        super().__init__(*layer(5, 32), *layer(32, 64), *layer(64, 96), spectral_norm(nn.Conv2d(96, 1, 3, padding=1)))


def draw_row(windows: Tensor, pools: Sequence[Tensor], recipe: MouthPainterRecipe, random: torch.Generator) -> dict[str, Tensor]:
    """Channels [12, h, w] and true colours [3, h, w] of one window; half are mirrored, all are tinted.

    Args:
        windows: as :func:`read_windows` gives them.
        pools: numbers of the windows of real pairs, and of all others; one may be empty.
        recipe: how often each is taken.
        random: of this row.
    """
    real, others = pools
    is_real = bool(torch.rand((), generator=random) < recipe.real_share)
    pool = real if (is_real and len(real)) or not len(others) else others
    x = windows[pool[int(torch.randint(len(pool), (), generator=random))]].float() / 255
    if bool(torch.rand((), generator=random) < 0.5):
        x = x.flip(-1)
    bright, tint = torch.rand((), generator=random), torch.rand(3, 1, 1, generator=random)
    gain = (1 + 0.3 * (bright - 0.5)) * (1 + 0.1 * (tint - 0.5))
    drawn, lips, photo, rest, truth = x[:3], x[3:7], x[7:10], x[10:12], x[12:]
    drawn, photo, truth = ((gain * part).clamp(0, 1) for part in (drawn, photo, truth))
    return {"channels": torch.cat([drawn, lips, photo, rest]), "truth": truth}


def slope_error(painted: Tensor, truth: Tensor, x: Tensor) -> Tensor:
    """Mean L1 of the slopes where colours may change."""
    weight, wrong = change_weight(x), painted - truth
    across, down = ((wrong.diff(dim=axis).abs() * weight.narrow(axis, 1, weight.shape[axis] - 1)).mean() for axis in (-1, -2))
    return across + down


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
    place = next(model.parameters()).device
    sums, inside = np.zeros(3), np.zeros(3)
    for part in windows.split(16):
        x, truth = (side.to(place).float() / 255 for side in part.split((CHANNELS, 3), 1))
        weight = (change_weight(x) > 0.5).float()
        for i, picture in enumerate((model(x), x[:, :3])):
            sums[i] += float(((picture - truth).abs().mean(1, keepdim=True) * weight).sum())
            inside[i] += float(inside_error(picture, truth, x).sum())
        sums[2] += float(weight.sum())
        inside[2] += float(functional.avg_pool2d((x[:, 5:6] > 0.5).float(), 9, 3, 4).sum())
    scores = {"painted": sums[0] / sums[2], "drawn": sums[1] / sums[2]}
    return {**scores, "lit": inside[0] / max(inside[2], 1e-9), "unlit": inside[1] / max(inside[2], 1e-9)}


class MouthPainterStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Args:
        recipe: what to do.
        data: windows and which are of real pairs, as :func:`read_windows` gives them.
        held_out: windows to be judged by, or None.
        start: weights that a new run begins with.
    """

    name = "mouth_painter"
    averaged = ("mouth_painter",)

    def __init__(
        self, recipe: MouthPainterRecipe, data: tuple[Tensor, Tensor], held_out: Tensor | None = None, start: MouthPainter | None = None
    ) -> None:
        self.recipe, self._held_out = recipe, held_out
        self._windows, real = data
        self._pools = torch.nonzero(real)[:, 0], torch.nonzero(~real)[:, 0]
        torch.manual_seed(recipe.seed)
        self.networks = nn.ModuleDict({"mouth_painter": MouthPainter(recipe.model)})
        if start is not None:
            self.networks["mouth_painter"].load_state_dict(start.state_dict())
        if recipe.adversarial_weight:
            self.networks["discriminator"] = Discriminator()
        self.frozen = nn.ModuleDict()

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        recipe, networks = self.recipe, self.networks
        painter = torch.optim.AdamW(networks["mouth_painter"].parameters(), recipe.rate, weight_decay=0.01)
        found: dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]] = {"generator": (painter, self.averaged)}
        if recipe.adversarial_weight:
            judge = torch.optim.Adam(networks["discriminator"].parameters(), recipe.discriminator_rate, betas=(0.5, 0.99))
            found["discriminator"] = judge, ("discriminator",)
        return found

    def rates(self, which: str, step: int) -> list[float]:
        recipe = self.recipe
        if which == "discriminator":
            return [recipe.discriminator_rate]
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / recipe.steps, 1.0)))
        return [recipe.rate * min(1.0, (step + 1) / max(1, recipe.warm_up_steps)) * cosine]

    def passes(self, step: int) -> tuple[str, ...]:
        learns = self.recipe.adversarial_weight and step >= self.recipe.adversarial_from - _AHEAD
        return ("generator", "discriminator") if learns else ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> dict[str, Tensor]:
        recipe = self.recipe
        return stacked([draw_row(self._windows, self._pools, recipe, row_generator(recipe.seed, step, row)) for row in rows])

    def losses(self, batch: dict[str, Tensor], step: int, which: str) -> dict[str, Tensor]:
        recipe, painter = self.recipe, self.networks["mouth_painter"]
        x, truth = batch["channels"], batch["truth"]
        if which == "discriminator":
            with torch.no_grad():
                painted = painter(x)
            real, false = self._doubt(truth, x), self._doubt(painted, x)
            return {"hinge": (_near(x, real) * (functional.relu(1 - real) + functional.relu(1 + false))).mean()}
        painted = painter(x)
        terms = {
            "colours": (change_weight(x) * (painted - truth).abs()).mean(),
            "slopes": recipe.gradient_weight * slope_error(painted, truth, x),
            "inside": recipe.inside_weight * inside_error(painted, truth, x).mean(),
        }
        if recipe.adversarial_weight and step >= recipe.adversarial_from:
            doubt = self._doubt(painted, x)
            terms["adversarial"] = -recipe.adversarial_weight * (_near(x, doubt) * doubt).mean()
        return terms

    def _doubt(self, picture: Tensor, x: Tensor) -> Tensor:
        """What the discriminator says of each patch: higher looks truer."""
        return self.networks["discriminator"](torch.cat([picture, x[:, 3:5]], 1))

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        if self._held_out is None:
            return {}, None
        painter = cast(MouthPainter, networks["mouth_painter"])
        scores = {f"{name}_val": value for name, value in judge(painter, self._held_out).items()}
        x, truth = (part.to(next(painter.parameters()).device).float() / 255 for part in self._held_out[:_SHOWN].split((CHANNELS, 3), 1))
        rows = torch.cat([x[:, :3], painter(x), truth], 3)  # drawn, painted, true
        picture = torch.cat(list(rows), 1).clamp(0, 1)
        return scores, (255 * picture).round().byte().permute(1, 2, 0).cpu().numpy()

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        save_mouth_painter(cast(MouthPainter, networks["mouth_painter"]), folder / "model.safetensors", {"steps": notes["steps"]})


def _near(x: Tensor, verdicts: Tensor) -> Tensor:
    """How far colours may change at each patch that is judged."""
    return functional.interpolate(change_weight(x), size=verdicts.shape[-2:], mode="area")
