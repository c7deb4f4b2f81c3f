"""Stage ``audio_to_motion`` (paper, section 4.3 and eq. 6): speech features, pitch and blinks to expression coefficients by a flow-VAE."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from triportrait.errors import EmptyMedia, MediaError, MissingPart
from triportrait.face.open_head import OpenHead
from triportrait.geometry.landmarks import LID_PAIRS
from triportrait.real3d.audio_to_motion import AUDIO_STRIDE, LATENT_STRIDE, PaperAudioToMotion, kl_divergence
from triportrait.real3d.head_models import load_head
from triportrait.training.data.clips import ClipSet
from triportrait.training.loop import Recipe, Values
from triportrait.training.real3d.examples import Row, numpy_generator, stack_rows
from triportrait.training.real3d.heads import LAYOUT, load_start, refuse_other_head
from triportrait.training.real3d.sizes import paper_networks, small_networks, tiny_networks
from triportrait.types import Array

#: Width of our own speech features; HuBERT's are 1024 wide.
_LOG_MEL = 82
#: MediaPipe's middles of the inner lips.
_LIPS = (13, 14)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioToMotionRecipe(Recipe):
    """Everything that decides a run besides its data; ``batch`` counts pieces of clips.

    Args:
        network: sizes; the widths of features and motion follow the data.
        frames: length of a piece, a multiple of 4.
        rate, warm_up_steps, decay, decay_every: of Adam: ``rate * decay ** (step / decay_every)``.
        kl_weight, kl_rise_steps, kl_hold_steps: weight of the KL divergence: it rises from 0 and is held, again and again.
        expression_weight: squared error of the coefficients.
        landmark_weight: squared error of the face's landmarks in units of ``landmark_unit_dm``.
        laplacian_weight: squared second difference over time against the truth's.
        size_weight: mean square of the coefficients.
        validation_rows: held-out pieces.
    """

    network: PaperAudioToMotion.Config = field(default_factory=lambda: paper_networks().inference.audio_to_motion)
    steps: int = 100_000
    batch: int = 64
    frames: int = 128
    rate: float = 5e-4
    warm_up_steps: int = 1000
    decay: float = 0.1
    decay_every: int = 250_000
    kl_weight: float = 0.02
    kl_rise_steps: int = 2000
    kl_hold_steps: int = 2000
    expression_weight: float = 0.5
    landmark_weight: float = 0.5
    landmark_unit_dm: float = 0.1
    laplacian_weight: float = 1.0
    size_weight: float = 0.1
    save_every: int = 1000
    validate_every: int = 2000
    validation_rows: int = 4


def paper() -> AudioToMotionRecipe:
    """Eq. 6 with the weights of the published configuration; 100,000 steps."""
    return AudioToMotionRecipe()


def published() -> AudioToMotionRecipe:
    """As the published weights were trained: 400,000 steps, no landmark term. (Their sync expert was never trained: spec 8.1.)"""
    return replace(paper(), steps=400_000, expression_weight=1.0, landmark_weight=0.0)


def small() -> AudioToMotionRecipe:
    """A third of the parameters, an hour on a CPU."""
    return replace(
        paper(),
        network=small_networks().inference.audio_to_motion,
        steps=20_000,
        batch=16,
        warm_up_steps=200,
        decay_every=20_000,
        kl_rise_steps=500,
        kl_hold_steps=500,
    )


def tiny() -> AudioToMotionRecipe:
    """Seconds on a CPU, for tests."""
    return replace(
        paper(),
        network=tiny_networks().inference.audio_to_motion,
        steps=12,
        batch=4,
        frames=8,
        rate=1e-2,
        warm_up_steps=1,
        kl_rise_steps=4,
        kl_hold_steps=4,
        average=0.9,
        log_every=1,
        save_every=5,
        validate_every=6,
        validation_rows=1,
    )


#: The paper's own schedule has as many steps as its recipe.
RECIPES = {"tiny": tiny, "small": small, "paper": paper, "paper_schedule": paper, "paper_published": published}


@dataclass(frozen=True, slots=True)
class _LandmarkBasis:
    """Landmarks as ``mean + identity @ ... + expression @ basis``: their numbers [n], bases [n * 3, i] and [n * 3, e] in decimetres."""

    known: Array
    mean: Array
    identity: Array
    expression: Array

    @staticmethod
    def of(name: str) -> _LandmarkBasis:
        head = load_head(name)
        if isinstance(head, OpenHead):
            bases = head.landmark_bases()
            known, mean, identity, expression = np.arange(len(bases.mean)), bases.mean, bases.identity, bases.expression
        else:
            known, mean, identity, expression = head.landmark_bases()
        if not np.isin(_LIPS, known).all():
            raise MissingPart(f"the landmark file of the head model {name} leaves out the inner lips (13, 14), from which a voice learns")
        flat = (part.reshape(mean.size, -1).astype(np.float32) for part in (mean, identity, expression))
        return _LandmarkBasis(known, *flat)

    def lip_distance(self, identity: Array, expression: Array) -> Array:
        """L1 distance between the middles of the inner lips [t], decimetres."""
        at = np.searchsorted(self.known, _LIPS)[:, None] * 3 + np.arange(3)
        places = self.mean[at, 0] + np.einsum("lci,i->lc", self.identity[at, : len(identity)], identity)
        places = places + np.einsum("lce,te->tlc", self.expression[at], expression)
        return np.abs(places[:, 0] - places[:, 1]).sum(-1)


def blink_marks(landmarks: Array) -> Array:
    """1 at the middle frame of every blink, else 0: [t] int64. Shut is an opening under 0.85 of its upper quartile (spec 4)."""
    pairs = landmarks[:, LID_PAIRS]  # [t, 6, 2, 2]
    opening = np.linalg.norm(pairs[:, :, 0] - pairs[:, :, 1], axis=-1).sum(1)
    shut = np.concatenate([[False], opening < 0.85 * np.quantile(opening, 0.75), [False]])
    edges = np.flatnonzero(np.diff(shut.astype(int)))
    marks = np.zeros(len(opening), np.int64)
    marks[(edges[::2] + edges[1::2] - 1) // 2] = 1
    return marks


class VoiceClips:
    """Numbers of all clips with sound, in memory.

    Args:
        clips: of one head model.

    Raises:
        EmptyMedia: none has sound.
        MediaError: clips of different head models or features, or fewer than two feature rows per frame.
    """

    def __init__(self, clips: ClipSet) -> None:
        read = [clips.numbers(index) for index in range(len(clips))]
        self._rows = [numbers for numbers in read if "speech" in numbers]
        if not self._rows:
            raise EmptyMedia("none of the clips has sound; prepare videos with a voice")
        kinds = {(row["head_model"], row["speech"].shape[1], row["expression"].shape[1]) for row in self._rows}
        if len(kinds) > 1:
            raise MediaError(f"the clips differ in head model, speech features or expression ({sorted(kinds)}); train from one kind")
        self.head_model, self.features, self.motion = kinds.pop()
        self._basis = _LandmarkBasis.of(self.head_model)
        for row in self._rows:
            per_frame = len(row["speech"]) // len(row["expression"])
            if per_frame % AUDIO_STRIDE:
                raise MediaError(f"clip {row['key']!r} has {per_frame} feature rows per frame, expected a multiple of {AUDIO_STRIDE}")
            row["blink"] = blink_marks(row["landmarks"])
            opening = self._basis.lip_distance(row["identity"], row["expression"])
            row["amplitude"] = np.float32(np.quantile(opening, 0.9))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def landmark_basis(self) -> Tensor:
        """[landmarks * 3, e] in decimetres."""
        return torch.from_numpy(self._basis.expression)

    def piece(self, index: int, start: int, frames: int) -> Row:
        """``frames`` rows of a clip from ``start`` on, padded with its last one where it is shorter."""
        clip = self._rows[index]
        count = len(clip["expression"])
        rows = np.minimum(np.arange(start, start + frames), count - 1)
        step = len(clip["speech"]) // count // AUDIO_STRIDE
        sound = (rows[:, None] * AUDIO_STRIDE + np.arange(AUDIO_STRIDE)).reshape(-1) * step
        pitch = clip.get("pitch_hz")
        return {
            "speech": torch.from_numpy(clip["speech"][sound].astype(np.float32)),
            "pitch": torch.from_numpy(pitch[sound]) if pitch is not None else torch.zeros(len(sound)),
            "blink": torch.from_numpy(np.repeat(clip["blink"][rows], AUDIO_STRIDE)),
            "amplitude": torch.tensor([clip["amplitude"]]),
            "motion": torch.from_numpy(clip["expression"][rows]),
            "real": torch.from_numpy((np.arange(start, start + frames) < count).astype(np.float32)),
        }

    def random_piece(self, frames: int, random: np.random.Generator) -> Row:
        """A piece of a clip; longer clips are not taken more often."""
        index = int(random.integers(len(self)))
        spare = len(self._rows[index]["expression"]) - frames
        return self.piece(index, int(random.integers(spare + 1)) if spare > 0 else 0, frames)


class AudioToMotionStage:
    """The stage for :mod:`triportrait.training.loop`; attributes as :class:`triportrait.training.loop.Stage` has them.

    Args:
        recipe: what to do.
        clips, held_out: to learn from, and to be judged by.
        start: file of an earlier run, or None.
    """

    name = "audio_to_motion"
    averaged = ("audio_to_motion",)

    def __init__(self, recipe: AudioToMotionRecipe, clips: VoiceClips, held_out: VoiceClips | None, start: Path | None = None) -> None:
        if recipe.frames % LATENT_STRIDE:
            raise MediaError(f"pieces of {recipe.frames} frames do not fit the latent; use a multiple of {LATENT_STRIDE}")
        refuse_other_head(start, clips.head_model)
        self.recipe, self._clips = recipe, clips
        torch.manual_seed(recipe.seed)
        self._config = replace(recipe.network, features=clips.features, motion=clips.motion, trained_form=True)
        network = PaperAudioToMotion(self._config)
        if start is not None:
            load_start(start, {"audio_to_motion": network})
        self.networks = nn.ModuleDict({"audio_to_motion": network})
        self.frozen = nn.ModuleDict()
        self._basis = clips.landmark_basis / recipe.landmark_unit_dm
        self._held_out = []
        if held_out is not None:
            count = min(recipe.validation_rows, len(held_out))
            self._held_out = [held_out.piece(index, 0, recipe.frames) for index in range(count)]

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        return {"generator": (torch.optim.Adam(self.networks.parameters(), lr=self.recipe.rate), self.averaged)}

    def rates(self, which: str, step: int) -> list[float]:
        recipe = self.recipe
        return [recipe.rate * min(1.0, (step + 1) / max(1, recipe.warm_up_steps)) * recipe.decay ** (step / recipe.decay_every)]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> Row:
        made = []
        for row in rows:
            random = numpy_generator(self.recipe.seed, step, row)
            noise = random.normal(size=(self._config.latent, self.recipe.frames // LATENT_STRIDE)).astype(np.float32)
            made.append(self._clips.random_piece(self.recipe.frames, random) | {"noise": torch.from_numpy(noise)})
        return stack_rows(made)

    def kl_share(self, step: int) -> float:
        """0..1, rising and held in turn."""
        rise, hold = self.recipe.kl_rise_steps, self.recipe.kl_hold_steps
        return min(1.0, (step % (rise + hold)) / max(1, rise))

    def losses(self, batch: Row, step: int, which: str) -> dict[str, Tensor]:
        recipe, network = self.recipe, cast(PaperAudioToMotion, self.networks["audio_to_motion"])
        truth, real = batch["motion"], batch["real"][..., None]
        conditions = network.conditions(batch["speech"], batch["pitch"], batch["blink"], batch["amplitude"])
        mean, log_std = (part.float() for part in network.encode(truth, conditions))
        posterior = mean + batch["noise"] * log_std.exp()
        answer = network.decode(posterior, conditions).float()
        prior = network.flow(posterior, network.squeezed(conditions)).float()
        coarse = real[:, ::LATENT_STRIDE].transpose(1, 2)
        # Rows are weighed alike whether full or padded, so that a batch may be split.
        share = real / real.mean(1, keepdim=True)
        wrong = answer - truth
        bend = (wrong[:, 2:] - 2 * wrong[:, 1:-1] + wrong[:, :-2]) * share[:, 2:]
        # Eq. 6, with the weights and the further terms of the published code.
        terms = {
            "kl": recipe.kl_weight * self.kl_share(step) * kl_divergence(mean, log_std, posterior, prior, coarse),
            "expression": recipe.expression_weight * (share * wrong.square()).mean(),
            "laplacian": recipe.laplacian_weight * bend.square().mean(),
            "size": recipe.size_weight * (share * answer.square()).mean(),
        }
        if recipe.landmark_weight:
            moved = wrong @ self._basis.T.to(wrong)
            terms["landmarks"] = recipe.landmark_weight * (share * moved.square()).mean()
        return terms

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        network = networks["audio_to_motion"]
        device = next(network.parameters()).device
        errors, panels = [], []
        for piece in self._held_out:
            batch = {name: value[None].to(device) for name, value in piece.items()}
            still = torch.zeros(1, self._config.latent, self.recipe.frames // LATENT_STRIDE, device=device)
            answer = network(batch["speech"], batch["pitch"], batch["blink"], batch["amplitude"], still)
            real = batch["real"][..., None]
            errors.append(float(((answer - batch["motion"]) * real).square().sum() / (real.sum() * answer.shape[-1])))
            panels.append(_panel(piece["motion"].numpy(), answer[0].float().cpu().numpy()))
        if not errors:
            return {}, None
        silent = [
            float((piece["motion"].square() * piece["real"][:, None]).sum() / piece["real"].sum() / self._config.motion)
            for piece in self._held_out
        ]
        return {"expression_val": float(np.mean(errors)), "silence_val": float(np.mean(silent))}, np.concatenate(panels)

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        from triportrait import __version__
        from triportrait.weights.store import Provenance, save_weights

        state = networks["audio_to_motion"].state_dict()
        origin = Provenance(self.name, "", "trained here", __version__, "that of the training data")
        speech = "log_mel" if self._config.features == _LOG_MEL else "hubert"
        config = {"audio_to_motion": asdict(self._config), "head_model": self._clips.head_model, "speech": speech, **notes}
        named = {f"audio_to_motion.{key}": value for key, value in state.items()}
        save_weights(folder / "model.safetensors", named, layout=LAYOUT, config=config, provenance=origin)
        save_weights(folder / "real3d_a2m.safetensors", state, layout="real3d_a2m", config=config, provenance=origin)


def _panel(truth: Array, answer: Array) -> Array:
    """Coefficients over time as grey levels, truth above the answer, at least 256 px wide."""
    scale = 127.0 / max(float(np.abs(truth).max()), 1e-6)
    levels = [np.clip(127.5 + scale * rows.T, 0, 255).astype(np.uint8) for rows in (truth, answer)]
    picture = np.concatenate([levels[0], np.full((2, len(truth)), 255, np.uint8), levels[1]])
    zoom = max(1, math.ceil(256 / picture.shape[1]))
    return np.repeat(np.repeat(np.repeat(picture, zoom, 0), zoom, 1)[..., None], 3, 2)
