"""Training of the network that tells a covered mouth, on packed lower faces: half of a batch is covered, and all of it is varied."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.errors import EmptyMedia, MediaError, OptionError
from triportrait.face.cover_network import CoverNetwork, save_cover_network
from triportrait.face.coverings import COVERED_LOGIT, HEIGHT_PX, WIDTH_PX
from triportrait.training.data.coverings import BARE
from triportrait.training.loop import Recipe, Values
from triportrait.training.oneshot.views import row_generator, stacked
from triportrait.types import Array

_REMEDY = "make some with 'triportrait data coverings -o FILE.npz'"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoveringsRecipe(Recipe):
    """Everything that decides a run besides its data.

    Args:
        rate, warm_up_steps: of AdamW, with a cosine; ``weight_decay`` of it.
        grey_share, blurred_share: of lower faces whose colours are taken away, or that are blurred.
        contrast, light, tint: standard deviations of what logarithms of colours are multiplied by, and of what is added to all of them and
            to each colour.
        noise: the most that each pixel is off.
        doubt: how far from certain the network should be.
    """

    steps: int = 450
    batch: int = 64
    average: float = 0.97
    rate: float = 4e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.02
    grey_share: float = 0.12
    blurred_share: float = 0.15
    contrast: float = 0.15
    light: float = 0.15
    tint: float = 0.1
    noise: float = 0.04
    doubt: float = 0.01
    log_every: int = 10
    save_every: int = 50
    validate_every: int = 50


def compact() -> CoveringsRecipe:
    """The embedded network; the network has one size."""
    return CoveringsRecipe()


def tiny() -> CoveringsRecipe:
    """Seconds on one core, for tests."""
    return CoveringsRecipe(steps=30, batch=8, average=0.7, warm_up_steps=2, log_every=1, save_every=10, validate_every=10)


RECIPES = {"tiny": tiny, "compact": compact}


class LowerFaces(NamedTuple):
    """Lower faces float32 [n, v, 3, 40, 48], the first of v as the program finds it, and what covers each."""

    faces: Tensor
    kinds: tuple[str, ...]


def read_lower_faces(paths: Sequence[Path]) -> LowerFaces:
    """The lower faces of files that 'triportrait data coverings' wrote.

    Raises:
        EmptyMedia: there are none.
        MediaError: a file is of another kind.
    """
    parts: list[Tensor] = []
    kinds: list[str] = []
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as file:
                faces, names = file["faces"], file["kinds"]
            good = faces.ndim == 5 and faces.shape[1] > 0 and faces.shape[2:] == (3, HEIGHT_PX, WIDTH_PX) and faces.dtype == np.float16
            if not good or names.shape != faces.shape[:1] or names.dtype.kind != "U" or not np.isfinite(faces).all():
                raise ValueError
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            raise MediaError(f"'{path}' holds no lower faces; {_REMEDY}") from None
        parts.append(torch.from_numpy(faces).float())
        kinds += [str(name) for name in names]
    if not kinds:
        raise EmptyMedia(f"there are no lower faces; {_REMEDY}")
    return LowerFaces(torch.cat(parts), tuple(kinds))


def varied(face: Tensor, recipe: CoveringsRecipe, random: torch.Generator) -> Tensor:
    """A lower face [3, h, w] mirrored, without colour, blurred, in other light and with noise, each by chance."""

    def chance(share: float) -> bool:
        return bool(torch.rand((), generator=random) < share)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    if chance(0.5):
        face = face.flip(-1)
    if chance(recipe.grey_share):
        face = face.mean(0, keepdim=True).expand_as(face)
    if chance(recipe.blurred_share):
        face = functional.avg_pool2d(functional.pad(face[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]
    face = face * (1 + recipe.contrast * normal()) + recipe.tint * normal(3, 1, 1) + recipe.light * normal()
    return face + recipe.noise * torch.rand((), generator=random) * normal(*face.shape)


@torch.no_grad()
def judge(network: CoverNetwork, held_out: LowerFaces) -> dict[str, float]:
    """Share of each kind's faces that count as covered: the bare ones' is that of false alarms. ``found`` counts all coverings."""
    device = next(network.parameters()).device
    logits = torch.cat([network(part.to(device)).cpu() for part in held_out.faces[:, 0].split(256)])
    called = (logits > COVERED_LOGIT).numpy()
    kinds = np.array(held_out.kinds)
    shares = {kind: float(called[kinds == kind].mean()) for kind in sorted(set(held_out.kinds))}
    hidden = kinds != BARE
    return {**shares, "found": float(called[hidden].mean())} if hidden.any() else shares


class CoveringsStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Args:
        recipe: what to do.
        data: lower faces to learn from, some bare and some covered.
        held_out: lower faces to be judged by, or None.
        start: weights that a new run begins with.

    Raises:
        OptionError: all faces are bare, or all are covered.
    """

    name = "coverings"
    averaged = ("coverings",)

    def __init__(
        self, recipe: CoveringsRecipe, data: LowerFaces, held_out: LowerFaces | None = None, start: CoverNetwork | None = None
    ) -> None:
        self.recipe, self._held_out, self._faces = recipe, held_out, data.faces
        is_covered = torch.tensor([kind != BARE for kind in data.kinds])
        self._pools = torch.nonzero(~is_covered)[:, 0], torch.nonzero(is_covered)[:, 0]
        if not all(map(len, self._pools)):
            raise OptionError(f"coverings learns from bare and from covered faces, but the data hold one kind alone; {_REMEDY}")
        torch.manual_seed(recipe.seed)
        self.networks = nn.ModuleDict({"coverings": CoverNetwork()})
        if start is not None:
            self.networks["coverings"].load_state_dict(start.state_dict())
        self.frozen = nn.ModuleDict()

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        optimiser = torch.optim.AdamW(self.networks.parameters(), self.recipe.rate, weight_decay=self.recipe.weight_decay)
        return {"generator": (optimiser, self.averaged)}

    def rates(self, which: str, step: int) -> list[float]:
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / self.recipe.steps, 1.0)))
        return [self.recipe.rate * min(1.0, (step + 1) / max(1, self.recipe.warm_up_steps)) * cosine]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> dict[str, Tensor]:
        return stacked([self._row(row_generator(self.recipe.seed, step, row)) for row in rows])

    def _row(self, random: torch.Generator) -> dict[str, Tensor]:
        """One lower face, bare or covered with equal chances, and 1 where it is covered."""
        is_covered = int(torch.randint(2, (), generator=random))
        pool = self._pools[is_covered]
        pictures = self._faces[pool[int(torch.randint(len(pool), (), generator=random))]]
        face = pictures[int(torch.randint(len(pictures), (), generator=random))]
        return {"face": varied(face, self.recipe, random), "covered": torch.tensor(float(is_covered))}

    def losses(self, batch: dict[str, Tensor], step: int, which: str) -> dict[str, Tensor]:
        doubt = self.recipe.doubt
        truth = (1 - 2 * doubt) * batch["covered"] + doubt
        return {"covered": functional.binary_cross_entropy_with_logits(self.networks["coverings"](batch["face"]), truth)}

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        if self._held_out is None:
            return {}, None
        shares = judge(cast(CoverNetwork, networks["coverings"]), self._held_out)
        return {f"{name.replace(' ', '_')}_val": share for name, share in shares.items()}, None

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        save_cover_network(cast(CoverNetwork, networks["coverings"]), folder / "model.safetensors", {"steps": notes["steps"]})
