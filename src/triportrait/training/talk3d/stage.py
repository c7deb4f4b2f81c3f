"""Stage ``talk3d``: how one person's planes move with voice, lids and head (Talk3D, Ko et al., 2024; losses as published, spec A.5).

What is drawn is P_ID + dP (figure 2). Tokens and delta plane learn first; at the end of the run they stand still and the super-resolution
is tuned. Where a loss needs weights that may not be shipped, what stands in for it is said here: LPIPS is the user's VGG or
:func:`triportrait.training.real3d.perceptual.pyramid_loss`; the synchrony expert is ours, which hears log-mel rows and sees lip curves, so
that a small network learns beside the others to read the curves off the person's own mouth; the identity loss has no stand-in.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.errors import OptionError
from triportrait.files import atomic_file
from triportrait.motion.speech_features import LogMel
from triportrait.motion.sync_expert import CHANNELS, SyncExpert, load_sync_expert, mouth_channels
from triportrait.personal import LOG_MEL, WAV2VEC2
from triportrait.talk3d import networks as talk3d
from triportrait.talk3d.delta_plane import PersonalDeltaPlane
from triportrait.talk3d.networks import PersonalNetworks
from triportrait.training.loop import Recipe, Values
from triportrait.training.real3d.examples import Row, cut_box
from triportrait.training.real3d.heads import masked_psnr, orbit, resized
from triportrait.training.run_folder import tile
from triportrait.training.talk3d.examples import PersonalFrames, stacked
from triportrait.training.talk3d.prior import Generator, look_of_home, style_of, write_part
from triportrait.training.voice.sync_loss import MOST, lag_loss
from triportrait.types import ARKIT_EXPRESSIONS, Array, TriPlane

#: Rows over which the synchrony expert's cosines are averaged, and frames on each side of one that are given to it.
_SYNC_ROWS = 12
_SYNC_REACH = MOST + _SYNC_ROWS // 2
#: Files of a person that the stage does not change.
_KEPT = ("talk3d_generator", "talk3d_person", "talk3d_cameras", "talk3d_rotation", "talk3d_landmarks")
_TURN_RAD = math.radians(20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalRecipe(Recipe):
    """The stage; weights are those of spec A.5, with means where the published code has sums over a batch.

    Args:
        networks: sizes.
        rate, decay, decay_every: of Adam: it falls by ``decay`` every so many steps.
        tuning, tuning_rate: last share of the run, in which the super-resolution alone learns, and its rate.
        picture_weight, look_weight: L1 and look, of raw and final picture each.
        mouth_weight, mouth_look_weight: squared error and look of the raw picture's mouth.
        sync_weight, sync_after: of the synchrony expert, and the share of the run from which it counts.
        reading_weight: of the lip reader that the expert needs.
        validation_rows: held-out frames that are looked at.
    """

    networks: PersonalNetworks = field(default_factory=lambda: PersonalNetworks(delta_plane=PersonalDeltaPlane.Config()))
    steps: int = 81_000
    batch: int = 4
    save_every: int = 1000
    validate_every: int = 2000
    rate: float = 5e-4
    decay: float = 0.98
    decay_every: int = 5400
    tuning: float = 1.0 / 81.0
    tuning_rate: float = 2e-4
    picture_weight: float = 16.0
    look_weight: float = 1.0
    mouth_weight: float = 15.0
    mouth_look_weight: float = 15.0
    sync_weight: float = 0.01
    sync_after: float = 0.68
    reading_weight: float = 1.0
    validation_rows: int = 4


def paper() -> PersonalRecipe:
    """The published schedule, for EG3D's sizes: a GPU."""
    return PersonalRecipe()


def tiny() -> PersonalRecipe:
    """Seconds on a CPU, for tests: everything is switched on."""
    return PersonalRecipe(
        networks=talk3d.tiny(),
        steps=20,
        batch=2,
        rate=3e-2,
        average=0.8,
        tuning=0.1,
        sync_after=0.5,
        log_every=1,
        save_every=10,
        validate_every=20,
        validation_rows=1,
    )


RECIPES = {"tiny": tiny, "paper": paper}


class LipReader(nn.Module):
    """A mouth's picture [b, 3, 32, 32] to the ten channels [b, 10] that the synchrony expert sees."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:], strict=False))
        self.out = nn.Linear(4 * width, len(CHANNELS) + 1)

    def forward(self, picture: Tensor) -> Tensor:
        x = picture
        for convolution in self.convolutions:
            x = functional.leaky_relu(convolution(x), 0.1)
        return self.out(x.mean((2, 3)))


class _PersonPlanes(nn.Module):
    """P_ID [1, 3, c, s, s] and the styles [1, l, n] that super-resolve it, on the device of the losses."""

    planes: Tensor
    styles: Tensor

    def __init__(self, planes: Tensor, styles: Tensor) -> None:
        super().__init__()
        self.register_buffer("planes", planes)
        self.register_buffer("styles", styles)


def fitted(recipe: PersonalRecipe, frames: PersonalFrames) -> PersonalRecipe:
    """The recipe with token networks that take the clips' speech."""
    tokens = replace(recipe.networks.tokens, speech_features=frames.speech_features)
    return replace(recipe, networks=replace(recipe.networks, tokens=tokens))


class PersonalStage:
    """Tokens, delta plane and, at the end, super-resolution of one person; see :class:`triportrait.training.loop.Stage`.

    Args:
        recipe: of :func:`fitted`.
        start: folder with the person's tuned generator, style and cameras; with ``talk3d.safetensors`` in it, too, that is gone on with.
        frames, held_out: of the person, to learn from and to be judged by.

    Raises:
        OptionError: the generator's planes have another size than the recipe's.
        WeightsError, MissingPart: the folder does not hold what it should.
    """

    name = "talk3d"
    _mains = ("tokens", "delta_plane", "reader")

    def __init__(self, recipe: PersonalRecipe, start: Path, frames: PersonalFrames, held_out: PersonalFrames | None) -> None:
        self.recipe, self._start, self._frames, self._held_out = recipe, start, frames, held_out
        self._generator = generator = Generator.load(start / "talk3d_generator.safetensors")
        sizes, prior = recipe.networks.delta_plane, generator.prior
        if (sizes.plane_side, sizes.plane_channels) != (prior.config.plane_side, prior.config.plane_channels):
            raise OptionError(
                f"the generator's planes are {prior.config.plane_side} px with {prior.config.plane_channels} channels and the preset's "
                f"{sizes.plane_side} px with {sizes.plane_channels}; take the preset that fits (paper for EG3D's published ones)"
            )
        torch.manual_seed(recipe.seed)
        self.networks = nn.ModuleDict(talk3d.build(recipe.networks) | {"reader": LipReader()})
        self.networks["super_resolution"] = prior.super_resolution
        if (start / "talk3d.safetensors").is_file():
            self._go_on_from(start / "talk3d.safetensors")
        self.averaged = ("tokens", "delta_plane", "super_resolution")
        with torch.no_grad():
            styles = generator.styles(style_of(start)[None]).contiguous()
            planes = generator.planes(prior.synthesis, styles).planes
        self._expert: SyncExpert = load_sync_expert()
        self._reach = frames.longest_reach(_SYNC_REACH) if recipe.sync_weight else 0
        self.frozen = nn.ModuleDict({"person": _PersonPlanes(planes, styles), "decoder": generator.decoder, "look": look_of_home()})

    def _go_on_from(self, path: Path) -> None:
        """Weights of an earlier run; folded ones of the published code are left alone."""
        from triportrait.weights.store import load_weights

        stored = load_weights(path, layout="talk3d")
        for name in ("tokens", "delta_plane"):
            state = {key.removeprefix(f"{name}."): value for key, value in stored.tensors.items() if key.startswith(f"{name}.")}
            try:
                self.networks[name].load_state_dict(state)
            except RuntimeError as error:
                reason = str(error).splitlines()[-1].strip()
                raise OptionError(f"'{path}' is no run of this preset ({reason}); start from a folder without it") from None

    # -- what the loop asks for --

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        own = [parameter for name in self._mains for parameter in self.networks[name].parameters()]
        last = self.networks["super_resolution"].parameters()
        return {
            "generator": (torch.optim.Adam(own, lr=self.recipe.rate), self._mains),
            "super_resolution": (torch.optim.Adam(last, lr=self.recipe.tuning_rate), ("super_resolution",)),
        }

    def rates(self, which: str, step: int) -> Sequence[float]:
        recipe = self.recipe
        return [recipe.tuning_rate if which == "super_resolution" else recipe.rate * recipe.decay ** (step // recipe.decay_every)]

    def passes(self, step: int) -> Sequence[str]:
        return ("super_resolution",) if step >= round(self.recipe.steps * (1.0 - self.recipe.tuning)) else ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> Row:
        chosen = [int(np.random.default_rng([self.recipe.seed, step, row]).integers(len(self._frames))) for row in rows]
        reach = self._reach if self._hears(step) else 0
        return stacked(self._frames, chosen, self._generator.picture_px, reach)

    def _hears(self, step: int) -> bool:
        return bool(self._reach) and step >= self.recipe.sync_after * self.recipe.steps

    def losses(self, batch: Row, step: int, which: str) -> dict[str, Tensor]:
        recipe, look, real = self.recipe, self.frozen["look"], batch["picture"]
        raw, picture = self._drawn(self.networks, batch)
        if which == "super_resolution":
            fine = {"picture": recipe.picture_weight * (picture - real).abs().mean()}
            return fine | {"look": recipe.look_weight * look(picture, real)}
        small = resized(real, raw.shape[-1])
        mouth, real_mouth = (cut_box(one, batch["lips"], max(16, raw.shape[-1] // 4)) for one in (raw, small))
        terms = {
            "picture": recipe.picture_weight * (picture - real).abs().mean(),
            "raw": recipe.picture_weight * (raw - small).abs().mean(),
            "look": recipe.look_weight * look(picture, real),
            "raw_look": recipe.look_weight * look(raw, small),
            "mouth": recipe.mouth_weight * (mouth - real_mouth).square().mean(),
            "mouth_look": recipe.mouth_look_weight * look(mouth, real_mouth),
        }
        return terms | self._sync_terms(picture, batch)

    def _drawn(self, networks: nn.ModuleDict | Mapping[str, nn.Module], batch: Row) -> tuple[Tensor, Tensor]:
        """P'_n = P_ID + dP_n (figure 2) seen by the frames' cameras: raw and final pictures."""
        person, count = self.frozen["person"], len(batch["camera"])
        assert isinstance(person, _PersonPlanes)
        tokens = networks["tokens"](batch["speech"], batch["lids"], batch["rotation_deg"], batch["points"])
        still = person.planes.expand(count, -1, -1, -1, -1)
        planes = TriPlane(still + networks["delta_plane"](still, tokens).float(), self._generator.prior.config.layout)
        volume, picture = self._generator.drawn(self.frozen["decoder"], planes, batch["camera"], person.styles.expand(count, -1, -1))
        return volume.features[:, :3], picture

    def _sync_terms(self, picture: Tensor, batch: Row) -> dict[str, Tensor]:
        """Curves read off the drawn mouth, among the true ones of the neighbours, have to fit the sound at lag 0 best."""
        if "curves" not in batch:
            return {}
        reader, recipe = self.networks["reader"], self.recipe
        true = mouth_channels(batch["curves"], ARKIT_EXPRESSIONS)
        rows = torch.arange(len(true), device=true.device)
        read = reader(cut_box(batch["picture"], batch["lips"], 32))
        terms = {"reading": recipe.reading_weight * (read - true[rows, batch["place"]]).square().mean()}
        # The reader learns from real mouths alone: what is drawn must not teach it to flatter.
        frozen = {name: parameter.detach() for name, parameter in reader.named_parameters()}
        drawn = torch.func.functional_call(reader, frozen, (cut_box(picture, batch["lips"], 32),))
        heard = true.index_put((rows, batch["place"]), drawn)
        expert = self._expert.to(true.device)
        with torch.no_grad():
            sound = expert.sound(batch["heard"])
        return terms | {"sync": recipe.sync_weight * lag_loss(sound, expert.mouth(heard), _SYNC_ROWS)}

    # -- validation and files --

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        frames = self._held_out or self._frames
        device = next(networks["tokens"].parameters()).device
        scores, still, rows = [], [], []
        mains = {name: networks[name] for name in ("tokens", "delta_plane")}
        prior = self._generator.prior
        own = prior.super_resolution
        # What is judged is what is saved.
        prior.super_resolution = cast(nn.ModuleList, networks["super_resolution"])
        for index in frames.spread(self.recipe.validation_rows):
            batch = {name: value.to(device) for name, value in stacked(frames, [index], self._generator.picture_px).items()}
            raw, picture = self._drawn(mains, batch)
            everywhere = torch.ones_like(batch["matte"])
            person = self.frozen["person"]
            assert isinstance(person, _PersonPlanes)
            planes = TriPlane(person.planes, prior.config.layout)
            _, rest = self._generator.drawn(self.frozen["decoder"], planes, batch["camera"], person.styles)
            turned = self._drawn(mains, batch | {"camera": orbit(batch["camera"], _TURN_RAD)})[1]
            scores.append(masked_psnr(picture, batch["picture"], everywhere))
            still.append(masked_psnr(rest, batch["picture"], everywhere))
            rows.append([one[0] for one in (batch["picture"], picture, raw, rest, turned)])
        prior.super_resolution = own
        return {"frame_db": float(np.mean(scores)), "still_db": float(np.mean(still))}, tile(rows)

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        """All files of the person, so that ``folder`` can be animated."""
        state = {f"{name}.{key}": value for name, network in networks.items() for key, value in network.state_dict().items()}
        speech = LOG_MEL if self._frames.speech_features == LogMel.size else WAV2VEC2
        write_part(folder, "talk3d", state, {"sizes": asdict(self.recipe.networks), "speech": speech, **notes})
        for name in _KEPT:
            source, target = self._start / f"{name}.safetensors", folder / f"{name}.safetensors"
            if source.is_file() and not target.exists():
                with atomic_file(target) as part:
                    shutil.copyfile(source, part)
