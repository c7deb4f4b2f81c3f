"""Training of one person's dual field on clips of one shot (ERLNet's second stage, our reconstruction; ``docs/erlnet_field.md``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.avatar.oneshot.volume import pixel_places
from triportrait.erlnet.field import DualField, DualRender, save_field
from triportrait.errors import MediaError
from triportrait.training.data.clips import ClipSet
from triportrait.training.loop import Recipe, Values
from triportrait.training.oneshot.views import row_generator, stacked
from triportrait.training.run_folder import tile
from triportrait.types import Array

#: A pixel lies at the neck within so many of 256 px of both the head and the torso.
_NECK_PX = 16
#: Rays of a validation picture that are followed at once.
_AT_ONCE = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRecipe(Recipe):
    """Everything that decides a run besides its data.

    Args:
        model: sizes; the number of curves comes from the data.
        rays: of a row, which is one frame of a clip.
        render_px: side of the pictures that are learned from.
        rate: of Adam for planes and decoders, deformation_rate: for the deformations; both fall tenfold.
        matte_weight: of each field's own matte; neck_weight: of colours at the neck, where others count once.
        judged: share of each clip's frames, its last ones, that are held out.
    """

    steps: int = 150_000
    batch: int = 4
    gradient_limit: float = math.inf
    model: DualField.Config = field(default_factory=DualField.Config)
    rays: int = 4096
    render_px: int = 256
    rate: float = 5e-3
    deformation_rate: float = 5e-4
    matte_weight: float = 0.1
    neck_weight: float = 5.0
    judged: float = 0.1


def paper() -> FieldRecipe:
    """The reconstruction's sizes: a day on one GPU."""
    return FieldRecipe()


def small() -> FieldRecipe:
    """Planes of 64 px at 128 px: half an hour on a laptop's CPU."""
    return FieldRecipe(
        steps=3000, batch=1, rays=1024, render_px=128, model=DualField.Config(channels=16, plane_px=64, hidden=32, samples=48), average=0.99
    )


def tiny() -> FieldRecipe:
    """Seconds on one core, for tests."""
    return FieldRecipe(
        steps=40, batch=1, rays=256, render_px=32, model=DualField.Config(channels=8, plane_px=24, hidden=16, samples=24), average=0.5,
        rate=2e-2, log_every=5, save_every=20, validate_every=20, judged=0.2,
    )  # fmt: skip


RECIPES: dict[str, Callable[[], FieldRecipe]] = {"tiny": tiny, "small": small, "paper": paper}


class FieldFrames:
    """Frames of the clips of one person in one shot, counted through all of them.

    Args:
        clips: of ``triportrait data prepare``.
        render_px: side of the pictures.

    Raises:
        MediaError: they show several people or shots, or one of them is smaller than ``render_px``.
    """

    def __init__(self, clips: ClipSet, render_px: int) -> None:
        self._clips, self.render_px = clips, render_px
        self.numbers = [clips.numbers(index) for index in range(len(clips))]
        first = self.numbers[0]["identity"]
        if any(not np.array_equal(numbers["identity"], first) for numbers in self.numbers):
            raise MediaError("erlnet.field learns one person in one shot, but the clips show several; give the clips of one video")
        if (size := clips.read(0, [0]).size_px) < render_px:
            raise MediaError(f"the clips' pictures have {size} pixels a side, fewer than render_px {render_px}; prepare larger ones")
        self.home = np.concatenate([numbers["translation"] for numbers in self.numbers]).mean(0)

    @property
    def curves(self) -> int:
        """Numbers of a frame's expression."""
        return int(self.numbers[0]["expression"].shape[1])

    def split(self, judged: float) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """(clip, row) of the frames to learn from, and of those at each clip's end to be judged by."""
        learn, judge = [], []
        for clip, numbers in enumerate(self.numbers):
            count = len(numbers["expression"])
            last = max(1, count - math.ceil(judged * count)) if judged else count
            learn += [(clip, row) for row in range(last)]
            judge += [(clip, row) for row in range(last, count)]
        return learn, judge

    def frame(self, place: tuple[int, int]) -> dict[str, Tensor]:
        """One frame: ``rgb``, ``scene`` [s s, 3], ``head``, ``torso``, ``neck`` [s s] in 0..1, and its pose and curves."""
        clip, row = place
        one, numbers = self._clips.read(clip, [row]), self.numbers[clip]

        def picture(values: Array) -> Tensor:
            small = torch.from_numpy(values.astype(np.float32) / 255.0)
            small = small[None, None] if small.ndim == 2 else small.permute(2, 0, 1)[None]
            return functional.interpolate(small, size=(self.render_px,) * 2, mode="area")[0].flatten(1).T

        head, torso = picture(one.head_alpha[0])[:, 0], picture(one.torso[0, ..., 3])[:, 0]
        return {
            "rgb": picture(one.frames[0]),
            "scene": picture(one.background),
            "head": head,
            "torso": torso,
            "neck": self._near(head) * self._near(torso * (1.0 - head)),
            "rotation_rad": torch.from_numpy(numbers["rotation_rad"][row]),
            "translation": torch.from_numpy(numbers["translation"][row]),
            "expression": torch.from_numpy(numbers["expression"][row]),
        }

    def _near(self, matte: Tensor) -> Tensor:
        """1 within :data:`_NECK_PX` of where a matte [s s] is solid."""
        reach = max(1, round(_NECK_PX * self.render_px / 256))
        square = (matte > 0.5).float().view(1, 1, self.render_px, self.render_px)
        return functional.max_pool2d(square, 2 * reach + 1, 1, reach).flatten()


class FieldStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Args:
        recipe: what to do.
        clips: of one person in one shot.

    Raises:
        MediaError: they do not fit.
    """

    name = "erlnet.field"
    averaged = ("field",)

    def __init__(self, recipe: FieldRecipe, clips: ClipSet) -> None:
        self.recipe = recipe
        self._frames = FieldFrames(clips, recipe.render_px)
        self._learn, self._judge = self._frames.split(recipe.judged)
        sizes = recipe.model
        config = DualField.Config(self._frames.curves, sizes.channels, sizes.plane_px, sizes.hidden, sizes.range_dm, sizes.samples)
        torch.manual_seed(recipe.seed)
        home = self._frames.home
        self.networks = nn.ModuleDict({"field": DualField(config, (float(home[0]), float(home[1]), float(home[2])))})
        self.frozen = nn.ModuleDict()
        self._places = pixel_places(recipe.render_px)

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        fields = cast(DualField, self.networks["field"])
        deformations = [*fields.head_deformation.parameters(), *fields.static_deformation.parameters()]
        rest = [*fields.head.parameters(), *fields.static.parameters()]
        groups = [{"params": rest, "lr": self.recipe.rate}, {"params": deformations, "lr": self.recipe.deformation_rate}]
        return {"generator": (torch.optim.Adam(groups, betas=(0.9, 0.99)), self.averaged)}

    def rates(self, which: str, step: int) -> Sequence[float]:
        fall = 0.1 ** min(step / self.recipe.steps, 1.0)
        return [self.recipe.rate * fall, self.recipe.deformation_rate * fall]

    def passes(self, step: int) -> Sequence[str]:
        return ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> dict[str, Tensor]:
        return stacked([self._row(row_generator(self.recipe.seed, step, row)) for row in rows])

    def _row(self, random: torch.Generator) -> dict[str, Tensor]:
        """Rays of one frame, half of them anywhere, half on the person."""
        place = self._learn[int(torch.randint(len(self._learn), (), generator=random))]
        frame = self._frames.frame(place)
        count = self.recipe.rays // 2
        anywhere = torch.randint(len(self._places), (self.recipe.rays - count,), generator=random)
        person = torch.nonzero(torch.maximum(frame["head"], frame["torso"]) > 0.02)[:, 0]
        pool = person if len(person) else anywhere
        chosen = torch.cat([anywhere, pool[torch.randint(len(pool), (count,), generator=random)]])
        jitter = torch.rand((self.recipe.rays, self.recipe.model.samples), generator=random) - 0.5
        pixels = {name: frame[name][chosen] for name in ("rgb", "scene", "head", "torso", "neck")}
        pose = {name: frame[name] for name in ("rotation_rad", "translation", "expression")}
        return pixels | pose | {"places": self._places[chosen], "jitter": jitter}

    def losses(self, batch: dict[str, Tensor], step: int, which: str) -> dict[str, Tensor]:
        recipe, fields = self.recipe, self.networks["field"]
        pose = (batch["rotation_rad"], batch["translation"], batch["expression"])
        seen: DualRender = fields(batch["places"], *pose, batch["jitter"])
        error = (seen.rgb + (1.0 - seen.alpha)[..., None] * batch["scene"] - batch["rgb"]).abs().mean(-1)
        weight = 1.0 + (recipe.neck_weight - 1.0) * batch["neck"]
        # Behind the head nobody has seen the torso: there its matte is not known.
        shown = (batch["head"] < 0.5).float()
        static = functional.binary_cross_entropy(seen.static_alpha.clamp(1e-4, 1 - 1e-4), batch["torso"], weight=shown)
        head = functional.binary_cross_entropy(seen.head_alpha.clamp(1e-4, 1 - 1e-4), batch["head"])
        return {
            "colour": (weight * error).sum() / weight.sum(),
            "head_matte": recipe.matte_weight * head,
            "static_matte": recipe.matte_weight * static,
        }

    @torch.no_grad()
    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        places = (
            [self._judge[index] for index in np.unique(np.linspace(0, len(self._judge) - 1, 3).round().astype(int))] if self._judge else []
        )
        if not places:
            return {}, None
        errors: dict[str, list[float]] = {"": [], "_neck": []}
        shown = []
        for place in places:
            frame = self._frames.frame(place)
            made = self._drawn(cast(DualField, networks["field"]), frame)
            square = (made - frame["rgb"]).square().mean(-1)
            errors[""].append(float(square.mean()))
            if frame["neck"].any():
                errors["_neck"].append(float(square[frame["neck"] > 0].mean()))
            shown.append([2 * part.T.view(3, self.recipe.render_px, -1) - 1 for part in (frame["rgb"], made)])
        values = {f"psnr{name}_db_val": -10.0 * math.log10(max(float(np.mean(of)), 1e-10)) for name, of in errors.items() if of}
        return values, tile(shown)

    def _drawn(self, fields: DualField, frame: dict[str, Tensor]) -> Tensor:
        """The picture [s s, 3] of a frame's pose and expression before its scene."""
        device = fields.home.device
        pose = [frame[name][None].to(device) for name in ("rotation_rad", "translation", "expression")]
        parts = [fields(part[None].to(device), *pose) for part in self._places.split(_AT_ONCE)]
        rgb, alpha = (torch.cat([getattr(part, name)[0] for part in parts]).cpu() for name in ("rgb", "alpha"))
        return rgb + (1.0 - alpha)[:, None] * frame["scene"]

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        save_field(cast(DualField, networks["field"]), folder / "model.safetensors", {"steps": notes["steps"]})
