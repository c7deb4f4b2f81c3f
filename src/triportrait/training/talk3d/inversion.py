"""From a clip to a generator of its person: joint inversion, then tuning round the style that was found (VIVE3D; spec A.3, steps 1 and 2).

Cameras come from our tracking instead of a third optimisation. LPIPS is the user's VGG or the pyramid loss that stands in for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from triportrait.training.loop import Recipe, Values
from triportrait.training.real3d.examples import Row
from triportrait.training.real3d.heads import masked_psnr, resized
from triportrait.training.run_folder import tile
from triportrait.training.talk3d.examples import PersonalFrames, stacked
from triportrait.training.talk3d.prior import Generator, look_of_home, mean_style, write_part
from triportrait.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class InversionRecipe(Recipe):
    """Joint inversion of some frames into one style (spec A.3, step 1).

    Args:
        rate: of Adam; it rises over the first twentieth and falls over the last quarter.
        samples: random latents whose mean style it begins with.
        noise: of the style at the beginning, in its own deviations; gone after three quarters.
        raw_weight, look_weight, head_weight, head_square_weight: L1 and look of the raw picture; look and squared error of the final one
            inside the head.
        offset_weight, offset_floor, offset_decay, offset_after: of the frames' own departures from the style: at first, at last, and how
            it falls per step after which step.
    """

    steps: int = 600
    batch: int = 5
    average: float = 0.9
    gradient_limit: float = math.inf
    save_every: int = 100
    validate_every: int = 200
    rate: float = 0.01
    samples: int = 10_000
    noise: float = 0.02
    raw_weight: float = 0.05
    look_weight: float = 1.0
    head_weight: float = 2.0
    head_square_weight: float = 1.5
    offset_weight: float = 0.05
    offset_floor: float = 0.005
    offset_decay: float = 0.99
    offset_after: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningRecipe(Recipe):
    """Tuning of the generator but its super-resolution (spec A.3, step 2).

    Args:
        rate: of Adam.
        frames: that it is tuned on.
        raw_weight, look_weight: L1 of the raw picture, look of the final one.
        locality_weight, locality_reach, locality_truncation: the tuned generator stays what it was for styles that lie this share of the
            way to random ones, which are that truncated.
    """

    steps: int = 400
    batch: int = 1
    average: float = 0.9
    gradient_limit: float = math.inf
    save_every: int = 100
    validate_every: int = 200
    rate: float = 1e-3
    frames: int = 5
    raw_weight: float = 3.0 / 16.0
    look_weight: float = 1.0
    locality_weight: float = 1e-4
    locality_reach: float = 0.1
    locality_truncation: float = 0.5


class PersonalStyle(nn.Module):
    """The style of a person [s], and the departures of n frames from it [n, s]."""

    def __init__(self, style: Tensor, frames: int, seed: int) -> None:
        super().__init__()
        self.style = nn.Parameter(style.clone())
        self.offsets = nn.Parameter(0.02 * torch.randn(frames, len(style), generator=torch.Generator().manual_seed(seed)))


class InversionStage:
    """The style of a person; see :class:`triportrait.training.loop.Stage`.

    Args:
        recipe: what to do; a step looks at ``batch`` frames, spread over the clip.
        generator: is not changed.
        frames: of the person.
    """

    name = "talk3d_inversion"
    averaged = ("person",)

    def __init__(self, recipe: InversionRecipe, generator: Generator, frames: PersonalFrames) -> None:
        self.recipe, self._generator, self._frames = recipe, generator, frames
        self._chosen = frames.spread(recipe.batch)
        front = frames.row(self._chosen[0], 16)["camera"]
        style, self._deviation = mean_style(generator.prior, front, recipe.samples, 123)
        self.networks = nn.ModuleDict({"person": PersonalStyle(style, len(self._chosen), recipe.seed)})
        self.frozen = nn.ModuleDict({"prior": generator.prior, "decoder": generator.decoder, "look": look_of_home()})

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        return {"generator": (torch.optim.Adam(self.networks.parameters(), lr=self.recipe.rate), ("person",))}

    def rates(self, which: str, step: int) -> Sequence[float]:
        """StyleGAN's ramps (spec A.3)."""
        way = (step + 1) / self.recipe.steps
        fall = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1.0 - way) / 0.25))
        return [self.recipe.rate * max(fall, 1e-3) * min(1.0, way / 0.05)]

    def passes(self, step: int) -> Sequence[str]:
        return ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> Row:
        which = [row % len(self._chosen) for row in rows]
        return stacked(self._frames, [self._chosen[row] for row in which], self._generator.picture_px) | {"which": torch.tensor(which)}

    def losses(self, batch: Row, step: int, which: str) -> dict[str, Tensor]:
        recipe, look, person = self.recipe, self.frozen["look"], self.networks["person"]
        assert isinstance(person, PersonalStyle)
        offsets = person.offsets[batch["which"]]
        left = max(0.0, 1.0 - step / (0.75 * recipe.steps))
        noise = recipe.noise * self._deviation * left**2 * torch.randn_like(offsets)
        raw, picture = self._drawn(person.style + offsets + noise, batch)
        mask, real = batch["matte"], batch["picture"]
        small = resized(real, raw.shape[-1])
        share = max(recipe.offset_floor, recipe.offset_weight * recipe.offset_decay ** max(0, step - recipe.offset_after))
        return {
            "raw": recipe.raw_weight * (raw - small).abs().sum(1).mean(),
            "look": recipe.look_weight * look(raw, small),
            "head_look": recipe.head_weight * look(picture * mask, real * mask),
            "head": recipe.head_square_weight * (mask * (picture - real).square()).sum((1, 2, 3)).mean() / mask[0].numel(),
            "offsets": share * offsets.norm(dim=1).mean(),
        }

    def _drawn(self, style: Tensor, batch: Row) -> tuple[Tensor, Tensor]:
        generator = self._generator
        styles = generator.styles(style)
        planes = generator.planes(generator.prior.synthesis, styles)
        volume, picture = generator.drawn(generator.decoder, planes, batch["camera"], styles)
        return volume.features[:, :3], picture

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        person = networks["person"]
        assert isinstance(person, PersonalStyle)
        return judged(self._frames, self._chosen[:2], self._generator, lambda batch: self._drawn(person.style[None], batch))

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        person = networks["person"]
        assert isinstance(person, PersonalStyle)
        write_part(folder, "talk3d_person", {"style": person.style.detach()}, notes)


class TuningStage:
    """The generator of a person; see :class:`triportrait.training.loop.Stage`. Its folder then holds all that is known of the person but
    how the planes move.

    Args:
        recipe: what to do.
        generator: is tuned.
        frames: of the person.
        style: [s] of the inversion; it stays.
    """

    name = "talk3d_tuning"
    averaged = ("synthesis", "decoder")

    def __init__(self, recipe: TuningRecipe, generator: Generator, frames: PersonalFrames, style: Tensor) -> None:
        self.recipe, self._generator, self._frames, self._style = recipe, generator, frames, style
        self._chosen = frames.spread(recipe.frames)
        prior = generator.prior
        self.networks = nn.ModuleDict({"synthesis": prior.synthesis, "decoder": generator.decoder})
        self.frozen = nn.ModuleDict(
            {
                "mapping": prior.mapping,
                "super_resolution": prior.super_resolution,
                "look": look_of_home(),
                "first_synthesis": deepcopy(prior.synthesis),
                "first_decoder": deepcopy(generator.decoder),
            }
        )

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        return {"generator": (torch.optim.Adam(self.networks.parameters(), lr=self.recipe.rate), self.averaged)}

    def rates(self, which: str, step: int) -> Sequence[float]:
        return [self.recipe.rate]

    def passes(self, step: int) -> Sequence[str]:
        return ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> Row:
        recipe = self.recipe
        chosen = [self._chosen[(step * recipe.batch + row) % len(self._chosen)] for row in rows]
        random = [torch.Generator().manual_seed((recipe.seed * 1_000_003 + step) * 65_537 + row) for row in rows]
        latents = torch.stack([torch.randn(self._generator.prior.config.latent, generator=one) for one in random])
        return stacked(self._frames, chosen, self._generator.picture_px) | {"latent": latents}

    def losses(self, batch: Row, step: int, which: str) -> dict[str, Tensor]:
        recipe, look = self.recipe, self.frozen["look"]
        style = self._style.to(batch["camera"].device)
        raw, picture = self._drawn(self.networks["synthesis"], self.networks["decoder"], style.expand(len(batch["camera"]), -1), batch)
        terms = {
            "raw": recipe.raw_weight * (raw - resized(batch["picture"], raw.shape[-1])).abs().mean(),
            "look": recipe.look_weight * look(picture, batch["picture"]),
        }
        if recipe.locality_weight:
            with torch.no_grad():
                mean = self._generator.prior.mean_style.to(style.device)
                random = torch.lerp(mean, self.frozen["mapping"](batch["latent"], batch["camera"]), recipe.locality_truncation)
                near = torch.lerp(style.expand_as(random), random, recipe.locality_reach)
                _, before = self._drawn(self.frozen["first_synthesis"], self.frozen["first_decoder"], near, batch)
            _, after = self._drawn(self.networks["synthesis"], self.networks["decoder"], near, batch)
            # Squared error and look at .05 each (spec A.3).
            terms["locality"] = recipe.locality_weight * 0.05 * ((after - before).square().mean() + look(after, before))
        return terms

    def _drawn(self, synthesis: nn.Module, decoder: nn.Module, style: Tensor, batch: Row) -> tuple[Tensor, Tensor]:
        styles = self._generator.styles(style)
        volume, picture = self._generator.drawn(decoder, self._generator.planes(synthesis, styles), batch["camera"], styles)
        return volume.features[:, :3], picture

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        def draw(batch: Row) -> tuple[Tensor, Tensor]:
            return self._drawn(networks["synthesis"], networks["decoder"], self._style.to(batch["camera"].device)[None], batch)

        return judged(self._frames, self._chosen[:2], self._generator, draw)

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        self._generator.save(folder, networks["synthesis"], networks["decoder"], notes)
        write_part(folder, "talk3d_person", {"style": self._style})
        for layout, tensors in self._frames.tracks().items():
            write_part(folder, layout, tensors)


def judged(
    frames: PersonalFrames, indices: Sequence[int], generator: Generator, draw: Callable[[Row], tuple[Tensor, Tensor]]
) -> tuple[Values, Array | None]:
    """Mean PSNR of some frames, and these beside what ``draw`` makes of them: real, raw, final."""
    device = next(generator.decoder.parameters()).device
    scores, rows = [], []
    for index in indices:
        batch = {name: value.to(device) for name, value in stacked(frames, [index], generator.picture_px).items()}
        raw, picture = draw(batch)
        scores.append(masked_psnr(picture, batch["picture"], torch.ones_like(batch["matte"])))
        rows.append([batch["picture"][0], raw[0], picture[0]])
    return {"picture_db": sum(scores) / len(scores)}, tile(rows)
