"""Training of the network that tells a portrait's parts, on labelled portraits and synthetic people, all of them varied."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.errors import EmptyMedia
from triportrait.face.segmentation import PersonSegmenter
from triportrait.nn.parts import CLASSES, SIDE_PX, network_input
from triportrait.nn.parts_network import PartsNetwork, save_parts_network
from triportrait.synth.recomposed import Variations, varied
from triportrait.training.data.parts import PartsFolder, read_labelled
from triportrait.training.loop import Recipe, Values
from triportrait.training.oneshot.views import row_generator, stacked
from triportrait.types import Array

log = logging.getLogger(__name__)

#: Labelled portraits that stay in a process's memory, 3.7 MB each.
_KEPT = 250
#: Pictures that are shown of a validation.
_SHOWN = 12
#: A label that is believed this much is judged by; a pixel of which the person has this much counts as theirs.
_BELIEVED, _PERSONS = 0.7, 0.9
#: What likely is hair counts so much beside what is known.
_LIKELY = 0.2
#: Colours of scene, skin, hair and the rest in what is shown.
_PAINT = np.array([[0, 0, 0], [255, 180, 120], [60, 60, 255], [60, 160, 90]], np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsRecipe(Recipe):
    """Everything that decides a run besides its data.

    Args:
        rate, warm_up_steps: of AdamW, with a cosine that ends at a hundredth; ``weight_decay`` of it.
        synthetic: share of the rows that show synthetic people, where there are any.
        matte_given: share of the rows that see the true matte instead of a segmentation; blind: of those whose segmentation is blurred and
            off. Together they are at most 1.
        beside: how much more what lies round the face counts for what a pixel is: ears, hairline and neck are small.
        variations: of the portraits.
        judged: varied held-out portraits that a validation looks at.
    """

    steps: int = 6000
    batch: int = 8
    precision: str = "bf16"
    average: float = 0.998
    rate: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.01
    synthetic: float = 0.3
    blind: float = 0.15
    matte_given: float = 0.2
    beside: float = 2.0
    variations: Variations = field(default_factory=Variations)
    judged: int = 64
    save_every: int = 250
    validate_every: int = 500


def compact() -> PartsRecipe:
    """The embedded network; the network has one size."""
    return PartsRecipe()


def tiny() -> PartsRecipe:
    """Seconds on one core, for tests."""
    return PartsRecipe(
        steps=8, batch=2, precision="fp32", average=0.5, warm_up_steps=1, judged=2, log_every=1, save_every=4, validate_every=8
    )


RECIPES = {"tiny": tiny, "compact": compact}


class Truth(NamedTuple):
    """Labels [b, 256, 256] of a batch: see :class:`triportrait.synth.labelled.Labelled`; ``trusted`` is how much ``alpha`` is believed,
    ``exact`` [b] 1 where ``hair`` is known; elsewhere it is what likely is hair."""

    alpha: Tensor
    skin: Tensor
    hair: Tensor
    sure: Tensor
    trusted: Tensor
    exact: Tensor


def truth_of(batch: Mapping[str, Tensor]) -> Truth:
    """The labels of a stage's batch."""
    alpha, skin, hair, sure, trusted = batch["labels"].float().unbind(1)
    return Truth(alpha, skin, hair, sure, trusted, batch["exact"])


def beside_faces(hull: Tensor) -> Tensor:
    """1 within an eighth of the picture round faces, 0 within them and farther away: [b, s, s] of ``hull`` [b, s, s] in 0..1."""
    coarse = functional.max_pool2d(hull[:, None], 8)
    reach = coarse.shape[-1] // 8
    near = functional.max_pool2d(coarse, 2 * reach + 1, 1, reach)
    round_it = functional.interpolate(near, hull.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return round_it * (1.0 - hull)


def part_losses(logits: Tensor, truth: Truth, weight: Tensor | float = 1.0) -> dict[str, Tensor]:
    """Cross-entropies: of person and scene, and, times ``weight`` [b, s, s], of what a person's pixels are, as far as that is known.

    A weak label tells skin from all else: the probabilities of hair and of the rest count together, and a little that it is likely hair.
    """
    scene, skin, hair, other = functional.log_softmax(logits, 1).unbind(1)
    person = torch.logsumexp(torch.stack([skin, hair, other]), 0)
    bare = torch.logsumexp(torch.stack([hair, other]), 0)
    matte = -truth.trusted * ((1 - truth.alpha) * scene + truth.alpha * person)
    rest = (1 - truth.skin - truth.hair).clamp(min=0.0)
    exact = truth.skin * skin + truth.hair * hair + rest * other
    weak = truth.sure * (truth.skin * skin + (1 - truth.skin) * bare + _LIKELY * truth.hair * (hair - bare))
    known = torch.where(truth.exact[:, None, None] > 0.5, exact - person, weak - truth.sure * person)
    return {"matte": matte.mean(), "part": -(weight * (truth.trusted > 0) * truth.alpha * known).mean()}


_read = lru_cache(maxsize=_KEPT)(read_labelled)


@lru_cache(maxsize=1)
def _segmenter() -> PersonSegmenter:
    return PersonSegmenter()


class PartsStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Args:
        recipe: what to do.
        data: files of labelled portraits to learn from.
        held_out: files to be judged by, or None.
        start: weights that a new run begins with.

    Raises:
        EmptyMedia: there are synthetic people alone: their scenes are taken from portraits.
    """

    name = "parts"
    averaged = ("parts",)

    def __init__(
        self, recipe: PartsRecipe, data: PartsFolder, held_out: PartsFolder | None = None, start: PartsNetwork | None = None
    ) -> None:
        if not data.real:
            raise EmptyMedia("parts learns from portraits, too, but the data hold synthetic people alone; add --portraits to 'data parts'")
        if not data.synthetic:
            log.warning("the data show no synthetic people: hair will not be told from what is worn; add --procedural to 'data parts'")
        self.recipe, self._data, self._held_out = recipe, data, held_out
        torch.manual_seed(recipe.seed)
        self.networks = nn.ModuleDict({"parts": PartsNetwork()})
        if start is not None:
            self.networks["parts"].load_state_dict(start.state_dict())
        # Twice as fast on a CPU.
        cast(Any, self.networks).to(memory_format=torch.channels_last)
        self.frozen = nn.ModuleDict()

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        optimiser = torch.optim.AdamW(self.networks.parameters(), self.recipe.rate, weight_decay=self.recipe.weight_decay)
        return {"generator": (optimiser, self.averaged)}

    def rates(self, which: str, step: int) -> list[float]:
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / self.recipe.steps, 1.0)))
        return [self.recipe.rate * min(1.0, (step + 1) / max(1, self.recipe.warm_up_steps)) * (cosine + 0.01)]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> dict[str, Tensor]:
        return stacked([self._row(self._data, row_generator(self.recipe.seed, step, row)) for row in rows])

    def _row(self, data: PartsFolder, random: torch.Generator, judged: bool = False) -> dict[str, Tensor]:
        """One varied portrait: what the network sees, its labels [5, s, s], and whether these are exact. One that is ``judged`` shows the
        segmentation as it is."""
        chance = np.random.default_rng(int(torch.randint(2**62, (), generator=random)))
        synthetic = bool(data.synthetic) and chance.random() < self.recipe.synthetic
        portrait = _read(_drawn(data.synthetic if synthetic or not data.real else data.real, chance))
        other = _read(_drawn(data.real or data.synthetic, chance))
        image, labels = varied(portrait, other, chance, self.recipe.variations)
        shown = np.rint(np.clip(image, 0, 255)).astype(np.uint8)
        way = chance.random()
        probability = labels[..., 0] if not judged and way < self.recipe.matte_given else _segmenter()(shown)
        if not judged and way > 1.0 - self.recipe.blind:
            probability = _off(probability, chance)
        # Landmarks are never quite right.
        hull = _moved(labels[..., 4], chance.normal(size=2) * 0.006 * SIDE_PX)
        seen = network_input(shown, 255.0 * hull, 255.0 * probability)
        kept = np.ascontiguousarray(labels[..., [0, 1, 2, 3, 5]].transpose(2, 0, 1))
        return {
            "shown": torch.from_numpy(seen).half(),
            "labels": torch.from_numpy(kept).half(),
            "exact": torch.tensor(float(portrait.exact)),
        }

    def losses(self, batch: dict[str, Tensor], step: int, which: str) -> dict[str, Tensor]:
        shown = batch["shown"].float().contiguous(memory_format=torch.channels_last)
        weight = 1.0 + self.recipe.beside * beside_faces(0.5 + 0.5 * shown[:, 3])
        return part_losses(self.networks["parts"](shown).float(), truth_of(batch), weight)

    @torch.no_grad()
    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        if self._held_out is None:
            return {}, None
        network = networks["parts"]
        device = next(network.parameters()).device
        rows = [self._row(self._held_out, row_generator(self.recipe.seed, -1, row), judged=True) for row in range(self.recipe.judged)]
        batch = stacked(rows)
        logits = torch.cat([network(part.float().to(device)).float().cpu() for part in batch["shown"].split(8)])
        truth = truth_of(batch)
        shares = logits.softmax(1)
        person = 1 - shares[:, 0]
        told = (truth.sure > _BELIEVED) & (truth.alpha > _PERSONS)
        values = {f"{name}_val": float(value) for name, value in part_losses(logits, truth).items()}
        seen, given = truth.trusted > 0, (batch["shown"][:, 4].float() + 1) / 2
        values["alpha_error_val"] = float((person - truth.alpha).abs()[seen].mean())
        values["alpha_error_given"] = float((given - truth.alpha).abs()[seen].mean())
        right = (shares[:, 1] > 0.5 * person) == (truth.skin > 0.5)
        values["skin_val"] = float(right[told].float().mean()) if told.any() else math.nan
        return values, _picture(batch["shown"][:_SHOWN], shares[:_SHOWN])

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        save_parts_network(cast(PartsNetwork, networks["parts"]), folder / "model.safetensors", {"steps": notes["steps"]})


def _drawn(files: Sequence[Path], random: np.random.Generator) -> Path:
    return files[int(random.integers(len(files)))]


def _off(probability: Array, random: np.random.Generator) -> Array:
    """A person's probability that is blurred and a little off everywhere."""
    import cv2

    return np.clip(cv2.GaussianBlur(probability, (0, 0), 6.0) + 0.2 * random.normal(), 0.0, 1.0).astype(np.float32)


def _moved(values: Array, shift_px: Array) -> Array:
    import cv2

    return cv2.warpAffine(values, np.c_[np.eye(2), shift_px].astype(np.float32), values.shape[::-1])


def _picture(shown: Tensor, shares: Tensor) -> Array:
    """Pictures [n, 5, s, s] above what they are told to show, [n, 4, s, s]: uint8 [2 s, n s, 3]."""
    assert len(CLASSES) == len(_PAINT)
    pictures = np.hstack([(127.5 * (part[:3].float().numpy().transpose(1, 2, 0) + 1.0)) for part in shown])
    painted = np.hstack([np.tensordot(part.numpy().transpose(1, 2, 0), _PAINT, 1) for part in shares])
    return np.clip(np.vstack([pictures, painted]), 0, 255).astype(np.uint8)
