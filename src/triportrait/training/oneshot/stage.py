"""Training of the oneshot avatar's network: one lifted photograph in, its other views as targets (Real3D-Portrait, section 4.1, at small
scale).

Needs packed shards and torch alone. The loop is :mod:`triportrait.training.loop`; what is random about a row of a batch is drawn on the CPU
(:func:`draw_row`) and everything else is computed where the data lie, so that a GPU is not kept waiting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from triportrait.avatar.oneshot.image_to_plane import CompactImageToPlane, save_image_to_plane
from triportrait.training.loop import Values
from triportrait.training.oneshot.losses import losses
from triportrait.training.oneshot.measure import comparison, evaluate, sway_score
from triportrait.training.oneshot.recipe import ImageToPlaneRecipe, rate_at
from triportrait.training.oneshot.views import ViewSet, draw_row, mean_prior, random_batch, row_generator, stacked
from triportrait.types import Array


class OneshotStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Args:
        recipe: what to do.
        data, held_out: photographs to learn from, and to be judged by.
        start: weights of an earlier stage.
        device: where the photographs are kept.
    """

    name = "oneshot"
    averaged = ("image_to_plane",)

    def __init__(
        self, recipe: ImageToPlaneRecipe, data: ViewSet, held_out: ViewSet, start: CompactImageToPlane | None = None, device: str = "cpu"
    ) -> None:
        self.recipe = recipe
        torch.manual_seed(recipe.seed)
        model = CompactImageToPlane(recipe.model)
        if start is not None:
            model.load_state_dict(start.state_dict())
        else:
            model.mean_prior.copy_(mean_prior(data))
        self.networks = nn.ModuleDict({"image_to_plane": model.to(memory_format=torch.channels_last)})  # type: ignore[call-overload]  # torch's types lack it
        self.frozen = nn.ModuleDict()
        self._ends = data.ends
        self._data, self._held_out = data.to(torch.device(device)), held_out.first(recipe.validation_photos).to(torch.device(device))

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        recipe = self.recipe
        optimiser = torch.optim.AdamW(self.networks.parameters(), lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay)
        return {"generator": (optimiser, self.averaged)}

    def rates(self, which: str, step: int) -> list[float]:
        return [rate_at(step, self.recipe)]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> dict[str, Tensor]:
        count, views = len(self._data), self._data.views.shape[1]
        return stacked([draw_row(count, views, self.recipe, row_generator(self.recipe.seed, step, row), self._ends) for row in rows])

    def losses(self, batch: dict[str, Tensor], step: int, which: str) -> dict[str, Tensor]:
        model = cast(CompactImageToPlane, self.networks["image_to_plane"])
        march = float(torch.rand(1, generator=row_generator(self.recipe.seed, step, -1))) < self.recipe.march
        return losses(model, random_batch(self._data, self.recipe, batch, model.mean_prior), self.recipe, batch, march)

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        model = cast(CompactImageToPlane, networks["image_to_plane"])
        score = evaluate(model, self._held_out, self.recipe)
        values = {"novel_db": score.novel, "own_db": score.own, "copy_db": score.copy, "warp_db": score.warp}
        values["sway_255"] = sway_score(model, self._held_out, self.recipe)
        return values, comparison(model, self._held_out.first(6), self.recipe)

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        model = cast(CompactImageToPlane, networks["image_to_plane"])
        save_image_to_plane(model, folder / "model.safetensors", notes | {"photographs": str(len(self._data))})
