"""Stage ``erlnet.manner``: codes of the motion, the style of a clip, and the codes that a voice asks for, one after the other in one run.

Our reconstruction of ERLNet's first stage. *vqvae*: both VQ-VAEs. *style*: the encoder, contrastively: two windows of one person are to
agree, also when both are exaggerated alike. *predictor*: from what is heard to the codes of the (then still) VQ-VAEs, with the style of
another window of the same person before them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.erlnet.parts import EXPRESSION, PARTS, ROW, Part
from triportrait.errors import EmptyMedia, MediaError, OptionError
from triportrait.motion.lips import gap_weights
from triportrait.nn.model_files import load_network, save_network
from triportrait.training.erlnet.clips import MannerClip
from triportrait.training.erlnet.networks import (
    CodePredictor,
    CodeSizes,
    MannerSizes,
    MotionCodes,
    StyleEncoder,
    build,
    config_of,
    moments,
    shifted,
)
from triportrait.training.loop import Recipe, Values
from triportrait.types import ARKIT_EXPRESSIONS, Array

#: Of :mod:`triportrait.nn.model_files`.
KIND = "erlnet_manner.1"
#: Deviations of a column below which it counts as still: of curves, and of radians and decimetres.
_STILL_CURVE, _STILL_MOVE = 0.03, 0.02
#: Face heights that count as one in the loss of the lips' opening.
_OPENING = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class MannerRecipe(Recipe):
    """Everything that decides a run besides its data.

    Args:
        network: sizes.
        frames: rows of a window.
        vqvae_steps, style_steps: length of the first two parts of the run; the rest is the predictor's.
        rate: of AdamW in each part, with a cosine.
        variety: standard deviation of the logarithms by which a window's motion is exaggerated.
        temperature: of the contrastive losses.
        expression_known, pose_known: share of the codes before a token that the predictors are told.
        style_drop: share of windows without a style.
        speech_contrast: weight of the contrastive loss between what is heard and what is moved.
        validation_rows: held-out windows.
    """

    network: MannerSizes = field(default_factory=MannerSizes)
    steps: int = 4200
    batch: int = 24
    average: float = 0.99
    frames: int = 72
    vqvae_steps: int = 1500
    style_steps: int = 800
    rate: float = 1e-3
    variety: float = 0.3
    temperature: float = 0.1
    expression_known: float = 0.5
    pose_known: float = 0.8
    style_drop: float = 0.1
    speech_contrast: float = 0.1
    validation_rows: int = 48


def compact() -> MannerRecipe:
    """Ten minutes of one core."""
    return MannerRecipe()


def paper() -> MannerRecipe:
    """Sizes of public relatives of the paper, whose own are not known: windows of 100 rows, a token each row, for a GPU."""
    expression = CodeSizes(frames=1, groups=4, codes=256, dimension=64, ahead=5)
    pose = CodeSizes(frames=1, groups=2, codes=256, dimension=64, ahead=5)
    network = MannerSizes(width=256, layers=4, heads=4, reach=12, style=128, expression=expression, pose=pose)
    return MannerRecipe(
        network=network, steps=300_000, batch=32, average=0.999, frames=100, vqvae_steps=100_000, style_steps=50_000, rate=1e-4
    )


def tiny() -> MannerRecipe:
    """Seconds on one core, for tests."""
    expression = CodeSizes(frames=2, groups=2, codes=16, dimension=8, ahead=1)
    pose = CodeSizes(frames=4, groups=2, codes=16, dimension=8, ahead=1)
    network = MannerSizes(width=24, layers=1, heads=2, reach=4, style=16, expression=expression, pose=pose)
    return MannerRecipe(
        network=network,
        steps=60,
        batch=8,
        average=0.8,
        frames=48,
        vqvae_steps=25,
        style_steps=15,
        rate=4e-3,
        log_every=1,
        save_every=20,
        validate_every=20,
        validation_rows=8,
    )


RECIPES = {"tiny": tiny, "compact": compact, "paper": paper}


def load_manner(path: Path) -> tuple[nn.ModuleDict, MannerSizes]:
    """The networks of a run, and their sizes.

    Raises:
        WeightsError: missing, foreign or damaged.
    """
    found: list[MannerSizes] = []

    def made(config: dict[str, object]) -> nn.ModuleDict:
        found.append(MannerSizes.from_config(config))
        return build(found[0])

    return load_network(path, KIND, made), found[0]


class Windows:
    """Clips to draw windows from; each source is drawn equally often.

    Args:
        clips: at least one of them as long as a window.
        frames: rows of a window.

    Raises:
        EmptyMedia: all are shorter.
    """

    def __init__(self, clips: Sequence[MannerClip], frames: int) -> None:
        self.frames, self.clips = frames, [clip for clip in clips if len(clip) >= frames]
        if not self.clips:
            raise EmptyMedia(f"no clip has {frames} rows; make longer ones with 'triportrait data manner', or use --set frames=NUMBER")
        people: dict[str, list[int]] = {}
        for index, clip in enumerate(self.clips):
            people.setdefault(clip.person, []).append(index)
        self.people = list(people.values())
        self._person = {index: number for number, clips_of in enumerate(self.people) for index in clips_of}
        self._all = self._by_source(range(len(self.clips)))
        self._heard = self._by_source([i for i, clip in enumerate(self.clips) if clip.heard is not None])
        # One window says nothing of what a person's windows have in common.
        self._telling = self._by_source([i for i in range(len(self.clips)) if self._rows_of(self._person[i]) >= 2 * frames])

    def _by_source(self, indices: Sequence[int] | range) -> list[list[int]]:
        sources: dict[str, list[int]] = {}
        for index in indices:
            sources.setdefault(self.clips[index].source, []).append(index)
        return list(sources.values())

    def _rows_of(self, person: int) -> int:
        return sum(len(self.clips[index]) for index in self.people[person])

    @property
    def can_hear(self) -> bool:
        """Whether any clip has sound."""
        return bool(self._heard)

    @property
    def can_tell(self) -> bool:
        """Whether there are two people with two windows each."""
        return len({self._person[index] for source in self._telling for index in source}) > 1

    def drawn(self, random: np.random.Generator, which: str) -> tuple[int, slice]:
        """A clip (``all``, ``heard`` or ``telling``) and a window of it."""
        pools = {"all": self._all, "heard": self._heard, "telling": self._telling}[which]
        pool = pools[int(random.integers(len(pools)))]
        index = pool[int(random.integers(len(pool)))]
        return index, self.window(index, random)

    def window(self, index: int, random: np.random.Generator) -> slice:
        """A window of a clip."""
        start = int(random.integers(len(self.clips[index]) - self.frames + 1))
        return slice(start, start + self.frames)

    def person(self, index: int) -> int:
        """Number of the person of a clip."""
        return self._person[index]

    def other(self, index: int, taken: slice, random: np.random.Generator) -> Array:
        """Another window [t, 52] of the person of a clip, where there is one that does not lie in the one that is taken."""
        own = self.people[self._person[index]]
        others = [i for i in own if i != index]
        if others and (len(self.clips[index]) < 2 * self.frames or random.random() < len(others) / len(own)):
            index = others[int(random.integers(len(others)))]
            return self.clips[index].motion[self.window(index, random)]
        motion = self.clips[index].motion
        free = [s for s in range(len(motion) - self.frames + 1) if s + self.frames <= taken.start or s >= taken.stop]
        if not free:
            return motion[self.window(index, random)]
        start = free[int(random.integers(len(free)))]
        return motion[start : start + self.frames]


#: Curves that are exaggerated together.
_TOGETHER: tuple[tuple[str, ...], ...] = (
    ("brow",),
    ("eyeBlink", "eyeSquint"),
    ("eyeWide",),
    ("mouthSmile", "cheek"),
    ("mouth", "jaw", "tongue"),
)


def exaggeration(random: np.random.Generator, variety: float) -> tuple[Array, Array]:
    """Factors [52] on a person's deviations, and additions [52], that make another person of them."""
    factors, added = np.ones(ROW, np.float32), np.zeros(ROW, np.float32)
    done: set[int] = set()
    for begins in _TOGETHER:
        columns = [i for i, name in enumerate(ARKIT_EXPRESSIONS) if name.startswith(begins) and i not in done]
        done |= set(columns)
        factors[columns] = np.exp(random.normal(0.0, variety))
        if begins[0] == "mouthSmile":
            added[columns] = max(0.0, random.normal(0.0, 0.3 * variety))
    factors[len(ARKIT_EXPRESSIONS) : -6] = np.exp(random.normal(0.0, variety))
    factors[-6:] = np.exp(random.normal(0.0, 1.5 * variety)) * np.tile(np.exp(random.normal(0.0, 0.7 * variety, 3)), 2)
    return factors, added


def exaggerated(motion: Array, factors: Array, added: Array) -> Array:
    """A window [t, 52] so changed; curves stay in 0..1."""
    result = motion * factors + added
    result[:, : len(ARKIT_EXPRESSIONS)] = np.clip(result[:, : len(ARKIT_EXPRESSIONS)], 0.0, 1.0)
    return result.astype(np.float32)


def agreement_loss(first: Tensor, second: Tensor, temperature: float, same: Tensor | None = None) -> Tensor:
    """InfoNCE both ways: unit vectors [n, d] of which rows belong together; ``same`` [n, n] are no strangers though their rows differ."""
    logits = first @ second.T / temperature
    if same is not None:
        logits = logits.masked_fill(same & ~torch.eye(len(first), dtype=torch.bool, device=first.device), -1e4)
    truth = torch.arange(len(first), device=first.device)
    return 0.5 * (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth))


class MannerStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Args:
        recipe: what to do.
        clips: to learn from and to be judged by.
        start: a run whose weights and sizes a new one begins with.

    Raises:
        EmptyMedia: no clip is long enough.
        MediaError: what is heard has another size than the networks take.
        OptionError: the run is no longer than its first two parts, or there is nobody to tell apart, or no sound.
    """

    name = "erlnet.manner"

    def __init__(self, recipe: MannerRecipe, clips: Sequence[MannerClip], start: Path | None = None) -> None:
        if recipe.steps <= recipe.vqvae_steps + recipe.style_steps:
            raise OptionError(
                f"{recipe.steps} steps leave none for the predictor; use more than {recipe.vqvae_steps + recipe.style_steps}, or lower "
                "--set vqvae_steps and style_steps"
            )
        if recipe.frames % 4 or recipe.frames < 16:
            raise OptionError(f"--set frames is {recipe.frames}; use a multiple of 4 from 16 on")
        self.recipe = recipe
        self._windows = Windows([clip for clip in clips if not clip.held_out], recipe.frames)
        self._judges = _judges([clip for clip in clips if clip.held_out], recipe)
        if not self._windows.can_hear:
            raise OptionError("no clip has sound, and the predictor learns from voices; add clips with sound")
        if not self._windows.can_tell:
            raise OptionError("there are no two people with two windows each to tell apart; add clips of other people")
        wrong = {clip.heard.shape[1] for clip in clips if clip.heard is not None} - {recipe.network.heard}
        if wrong:
            raise MediaError(f"the clips hear {min(wrong)} numbers a row and the networks {recipe.network.heard}; pack them again")
        torch.manual_seed(recipe.seed)
        self.networks = build(recipe.network)
        self.frozen = nn.ModuleDict()
        if start is not None:
            begun, sizes = load_manner(start)
            if sizes != recipe.network:
                raise OptionError(f"'{start}' has networks of other sizes; start from a run of the same preset")
            self.networks.load_state_dict(begun.state_dict())
        else:
            self._scale()
        gaps = torch.zeros(EXPRESSION.size)
        gaps[: len(ARKIT_EXPRESSIONS)] = torch.from_numpy(gap_weights(ARKIT_EXPRESSIONS)) / _OPENING
        self._gaps = gaps

    def _scale(self) -> None:
        """Means and deviations of the data become the networks'."""
        motion = np.concatenate([clip.motion for clip in self._windows.clips])
        heard = np.concatenate([clip.heard for clip in self._windows.clips if clip.heard is not None])
        still = np.where(np.arange(ROW) < len(ARKIT_EXPRESSIONS), _STILL_CURVE, _STILL_MOVE)
        mean, scale = (torch.from_numpy(np.asarray(v, np.float32)) for v in (motion.mean(0), np.maximum(motion.std(0), still)))
        for part in PARTS:
            codes = cast(MotionCodes, self.networks[f"{part.name}_codes"])
            codes.mean.copy_(mean[part.columns])
            codes.scale.copy_(scale[part.columns])
            predictor = cast(CodePredictor, self.networks[f"{part.name}_predictor"])
            predictor.mean.copy_(torch.from_numpy(heard.mean(0)))
            predictor.scale.copy_(torch.from_numpy(np.maximum(heard.std(0), 0.05)))
        style = cast(StyleEncoder, self.networks["style"])
        style.mean.copy_(mean)
        style.scale.copy_(scale)

    @property
    def averaged(self) -> tuple[str, ...]:
        return tuple(self.networks)

    @property
    def _owners(self) -> dict[str, tuple[str, ...]]:
        return {
            "vqvae": tuple(f"{part.name}_codes" for part in PARTS),
            "style": ("style",),
            "predictor": tuple(f"{part.name}_predictor" for part in PARTS),
        }

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        made: dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]] = {}
        for which, names in self._owners.items():
            parameters = [parameter for name in names for parameter in self.networks[name].parameters()]
            made[which] = torch.optim.AdamW(parameters, self.recipe.rate, betas=(0.9, 0.98), weight_decay=0.01), names
        return made

    def _span(self, which: str) -> tuple[int, int]:
        """First step of a part of the run, and its length."""
        first, second = self.recipe.vqvae_steps, self.recipe.vqvae_steps + self.recipe.style_steps
        spans = {"vqvae": (0, first), "style": (first, second - first), "predictor": (second, self.recipe.steps - second)}
        return spans[which]

    def rates(self, which: str, step: int) -> list[float]:
        begin, length = self._span(which)
        done = (step - begin) / max(length, 1)
        warm = min(1.0, (step - begin + 1) / min(100, max(1, length // 5)))
        return [self.recipe.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))))]

    def passes(self, step: int) -> tuple[str, ...]:
        begun = [which for which in self._owners if step >= self._span(which)[0]]
        return (begun[-1],)

    # -- rows ---------------------------------------------------------------------------------------------------------------

    def rows(self, step: int, rows: Sequence[int]) -> dict[str, Tensor]:
        which = self.passes(step)[0]
        made = [self._row(which, np.random.default_rng([self.recipe.seed, step, row])) for row in rows]
        return {name: torch.from_numpy(np.stack([row[name] for row in made])) for name in made[0]}

    def _row(self, which: str, random: np.random.Generator) -> dict[str, Array]:
        windows = self._windows
        index, rows = windows.drawn(random, {"vqvae": "all", "style": "telling", "predictor": "heard"}[which])
        clip = windows.clips[index]
        change = exaggeration(random, self.recipe.variety)
        if which == "vqvae":
            return {"motion": exaggerated(clip.motion[rows], *change)}
        other = windows.other(index, rows, random)
        if which == "style":
            # Whoever is exaggerated is somebody else.
            is_other = bool(random.random() < 0.7)
            first, second = (exaggerated(w, *change) if is_other else w for w in (clip.motion[rows], other))
            person = int(random.integers(1 << 40)) if is_other else -1 - windows.person(index)
            return {"first": first, "second": second, "person": np.array(person)}
        assert clip.heard is not None
        has_style = np.array(random.random() >= self.recipe.style_drop, np.float32)
        is_other = bool(random.random() < 0.5)
        first, second = (exaggerated(w, *change) if is_other else w for w in (clip.motion[rows], other))
        return {"motion": first, "heard": clip.heard[rows], "other": second, "has_style": has_style}

    # -- losses -------------------------------------------------------------------------------------------------------------

    def losses(self, batch: dict[str, Tensor], step: int, which: str) -> dict[str, Tensor]:
        if which == "vqvae":
            return self._vqvae_losses(batch["motion"])
        if which == "style":
            return self._style_losses(batch)
        return self._predictor_losses(batch)

    def _codes(self, part: Part, networks: Mapping[str, nn.Module] | None = None) -> MotionCodes:
        return cast(MotionCodes, (networks or self.networks)[f"{part.name}_codes"])  # type: ignore[index]

    def _predictor(self, part: Part, networks: Mapping[str, nn.Module] | None = None) -> CodePredictor:
        return cast(CodePredictor, (networks or self.networks)[f"{part.name}_predictor"])  # type: ignore[index]

    def _vqvae_losses(self, motion: Tensor) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        for part in PARTS:
            network, rows = self._codes(part), motion[..., part.columns]
            made, quantised = network(rows)
            truth = network.normal(rows)
            terms[part.name] = functional.l1_loss(made, truth)
            terms[f"{part.name}_speed"] = functional.l1_loss(made.diff(dim=1), truth.diff(dim=1))
            terms[f"{part.name}_codes"] = quantised.loss
            if part is EXPRESSION:
                gaps = self._gaps.to(made.device)
                terms["opening"] = 0.5 * functional.l1_loss(network.measured(made) @ gaps, rows @ gaps)
        return terms

    def _style_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        network, person = cast(StyleEncoder, self.networks["style"]), batch["person"]
        first, second = network(batch["first"]), network(batch["second"])
        told = functional.l1_loss(network.tell(first), moments(network.normal(batch["second"])))
        same = person[:, None] == person[None]
        return {"agree": agreement_loss(first, second, self.recipe.temperature, same), "tell": 0.3 * told}

    def _predictor_losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            style = cast(StyleEncoder, self.networks["style"])(batch["other"]) * batch["has_style"][:, None]
        terms: dict[str, Tensor] = {}
        for part in PARTS:
            motion, predictor = self._codes(part), self._predictor(part)
            with torch.no_grad():
                codes = motion.codes(batch["motion"][..., part.columns])
                moved = motion.quantiser.vectors(codes)
            share = getattr(self.recipe, f"{part.name}_known")
            known = torch.rand(codes.shape[:2], device=codes.device) < share
            before = torch.where(known[..., None], shifted(codes, predictor.unknown), predictor.unknown)
            logits, heard = predictor(batch["heard"], before, codes, style)
            terms[part.name] = functional.cross_entropy(logits.flatten(0, 2), codes.flatten())
            if self.recipe.speech_contrast:
                terms[f"{part.name}_contrast"] = self.recipe.speech_contrast * self._contrast(predictor, heard, moved)
        return terms

    def _contrast(self, predictor: CodePredictor, heard: Tensor, moved: Tensor) -> Tensor:
        """Tokens of the voice and of the motion at the same time agree."""
        first = functional.normalize(predictor.heard_side(heard), dim=-1).flatten(0, 1)
        second = functional.normalize(predictor.moved_side(moved), dim=-1).flatten(0, 1)
        drawn = torch.randperm(len(first), device=first.device)[:192]
        return agreement_loss(first[drawn], second[drawn], self.recipe.temperature)

    # -- held-out -----------------------------------------------------------------------------------------------------------

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        """Shares of the held-out motion's variance that the codes keep and that the predictor tells, the lips' opening apart; the share
        of held-out windows whose style finds another window of the same person."""
        judges = self._judges
        if judges is None:
            return {}, None
        device = next(networks["style"].parameters()).device
        motion, values = torch.from_numpy(judges.motion).to(device), {}
        gaps = self._gaps.to(device)
        for part in PARTS:
            rows, network = motion[..., part.columns], self._codes(part, networks)
            values[f"{part.name}_kept_val"] = _explained(network(rows)[0], network.normal(rows))
        style = cast(StyleEncoder, networks["style"])
        if len(judges.pairs) > 1:
            first, second = (style(torch.from_numpy(judges.pairs[:, i]).to(device)) for i in range(2))
            found = (first @ second.T).argmax(1) == torch.arange(len(first), device=device)
            values["style_found_val"] = float(found.float().mean())
        if judges.heard is not None:
            told = torch.from_numpy(judges.told).to(device)
            heard, styles = torch.from_numpy(judges.heard).to(device), style(torch.from_numpy(judges.other).to(device))
            network = self._codes(EXPRESSION, networks)
            made, rows = generated(network, self._predictor(EXPRESSION, networks), heard, styles), told[..., EXPRESSION.columns]
            values["expression_told_val"] = _explained(network.normal(made), network.normal(rows))
            values["opening_told_val"] = _explained(made @ gaps, rows @ gaps, (rows @ gaps).mean())
        return values, None

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        config = config_of(self.recipe.network)
        whole = nn.ModuleDict(dict(networks))
        save_network(
            folder / "model.safetensors",
            whole,
            kind=KIND,
            config=config,
            metadata={"steps": notes["steps"], "frames": str(self.recipe.frames)},
        )


def _explained(made: Tensor, truth: Tensor, mean: Tensor | float = 0.0) -> float:
    """Share of the variance about ``mean`` that is explained; who always says the mean explains nothing. Normal rows have the mean 0."""
    return float(1.0 - (made - truth).square().mean() / (truth - mean).square().mean())


@torch.no_grad()
def generated(codes: MotionCodes, predictor: CodePredictor, heard: Tensor, style: Tensor, noise: Tensor | None = None) -> Tensor:
    """Rows [b, t, size] as measured, of what is heard [b, t, f] in styles [b, s]; the most likely without ``noise`` [b, n, groups, k]."""
    count = heard.shape[1] // predictor.code.frames
    present = torch.ones(len(heard), count, device=heard.device)
    listened = predictor.heard(heard[:, : count * predictor.code.frames], present)
    made = torch.full((len(heard), count, predictor.code.groups), predictor.unknown, device=heard.device)
    quiet = torch.zeros(len(heard), predictor.code.groups, predictor.code.codes, device=heard.device)
    for token in range(count):
        until = slice(0, token + 1)
        before = shifted(made[:, until], predictor.unknown)
        state = predictor.states(listened[:, until], before, style, present[:, until])[:, -1]
        made[:, token] = predictor.drawn(state, quiet if noise is None else noise[:, token])
    return codes.measured(codes.decode(codes.quantiser.vectors(made), present))


@dataclass(frozen=True, slots=True)
class _Judges:
    """Held-out windows: ``motion`` [n, t, 52]; ``pairs`` [p, 2, t, 52] of one person each; ``told``, ``heard`` and ``other`` of clips with
    sound, the last from the same person."""

    motion: Array
    pairs: Array
    told: Array
    heard: Array | None
    other: Array


def _judges(clips: Sequence[MannerClip], recipe: MannerRecipe) -> _Judges | None:
    if not any(len(clip) >= recipe.frames for clip in clips):
        return None
    windows, random = Windows(clips, recipe.frames), np.random.default_rng([recipe.seed, 1 << 20])
    motion, told, heard, other = [], [], [], []
    for _ in range(recipe.validation_rows):
        index, rows = windows.drawn(random, "all")
        motion.append(windows.clips[index].motion[rows])
        if windows.can_hear:
            index, rows = windows.drawn(random, "heard")
            told.append(windows.clips[index].motion[rows])
            heard.append(windows.clips[index].heard[rows])  # type: ignore[index]
            other.append(windows.other(index, rows, random))
    pairs = []
    for own in windows.people:
        index = own[0]
        rows = slice(0, recipe.frames)
        if sum(len(windows.clips[i]) for i in own) >= 2 * recipe.frames:
            pairs.append(np.stack([windows.clips[index].motion[rows], windows.other(index, rows, random)]))
    empty = np.zeros((0, 2, recipe.frames, ROW), np.float32)
    return _Judges(
        np.stack(motion),
        np.stack(pairs) if pairs else empty,
        np.stack(told) if told else empty,
        np.stack(heard) if heard else None,
        np.stack(other) if other else empty,
    )
