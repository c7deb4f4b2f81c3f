"""What the stages that draw a head have in common: rendering, losses, adversary, rates, validation, files (Real3D-Portrait, section 4)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from triportrait.errors import OptionError
from triportrait.geometry.cameras import EG3D_OFFSET
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.head_super_resolution import SuperResolution
from triportrait.real3d.networks import build
from triportrait.real3d.sampling import SamplePositions, random_positions, sample_planes
from triportrait.real3d.volume import VolumeRender, VolumeRenderer
from triportrait.training.loop import Recipe, Values
from triportrait.training.real3d.discriminator import DualDiscriminator, load_discriminator
from triportrait.training.real3d.examples import Row, cut_box, stack_rows
from triportrait.training.real3d.perceptual import PerceptualLoss
from triportrait.training.real3d.sizes import TrainedNetworks, paper_networks, tiny_networks
from triportrait.training.run_folder import tile
from triportrait.types import Array, TriPlane

log = logging.getLogger(__name__)

#: Networks by name, as a stage holds them or as plain entries.
Networks = nn.ModuleDict | Mapping[str, nn.Module]

#: Layout name of weight files that a stage of the paper writes.
LAYOUT = "triportrait_stage"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRecipe(Recipe):
    """A stage that draws pictures; the defaults are what its stages share at the paper's size.

    Args:
        networks: sizes.
        rate, discriminator_rate, betas: of Adam. Rates rise over ``warm_up_steps`` and fall by ``decay`` every ``decay_every`` steps, not
            below ``rate_floor``.
        delays, stops: network -> step from which, or until which, it learns.
        pixel_error: what a pixel costs: ``absolute`` (L1, eq. 3 and the published code) or ``squared`` (eq. 7).
        raw_weight: of the raw picture's error beside the final one's.
        perceptual_weight: of both pictures' :class:`triportrait.training.real3d.perceptual.PerceptualLoss`.
        lip_weight, lip_perceptual_weight: of the square round the mouth.
        outside_weight, mask_margin_px: pixels farther than the margin (of a 512 px picture) from what is trained count so much.
        alpha_weight, entropy_weight: the rendered matte against the head's, and its indecision.
        adversarial_weight, adversarial_from, r1_weight, r1_every: the dual discriminator; from which step; its gradient penalty.
        density_weight, density_every, density_points, density_noise: density changes little between near points (EG3D).
        source_every: the source's own view is drawn, too, every so many steps.
        apart: frames between source and target.
        validation_rows: held-out pairs that are looked at.
    """

    networks: TrainedNetworks = field(default_factory=paper_networks)
    steps: int = 250_000
    save_every: int = 1000
    validate_every: int = 2000
    precision: str = "bf16"
    rate: float = 1e-4
    discriminator_rate: float = 2e-4 * 16 / 17
    betas: tuple[float, float] = (0.0, 0.99)
    warm_up_steps: int = 4000
    decay: float = 0.95
    decay_every: int = 5000
    rate_floor: float = 1e-5
    delays: tuple[tuple[str, int], ...] = ()
    stops: tuple[tuple[str, int], ...] = ()
    pixel_error: Literal["absolute", "squared"] = "absolute"
    raw_weight: float = 1.0
    perceptual_weight: float = 0.1
    lip_weight: float = 0.0
    lip_perceptual_weight: float = 0.0
    outside_weight: float = 1.0
    mask_margin_px: int = 20
    alpha_weight: float = 0.0
    entropy_weight: float = 0.0
    adversarial_weight: float = 0.0
    adversarial_from: int = 0
    r1_weight: float = 1.0
    r1_every: int = 16
    density_weight: float = 0.25
    density_every: int = 4
    density_points: int = 1000
    density_noise: float = 5e-3
    source_every: int = 1
    apart: int = 50
    validation_rows: int = 6


AnyHeadRecipe = TypeVar("AnyHeadRecipe", bound=HeadRecipe)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A rendered head: what the volume gave, and the final picture [b, 3, s, s]."""

    volume: VolumeRender
    picture: Tensor


class HeadStage:
    """Base of the stages; attributes as :class:`triportrait.training.loop.Stage` has them. Stages say which networks they train
    (``trained``), which only serve (``served``), how rows come about and what is drawn.

    Args:
        recipe: what to do.
        row: makes one row of a batch from (step, row).
        held_out: rows to be judged by.
        start: file of an earlier stage or None.
        discriminator: file of EG3D's imported discriminator that the adversary begins as (appendix B.1); None begins anew.
        perceptual: None takes what the weights folder has.

    Raises:
        OptionError: a file does not fit, or there is no adversary to begin.
        WeightsError: a file cannot be read.
    """

    name = "head"
    trained: tuple[str, ...] = ()
    served: tuple[str, ...] = ()
    #: Whose coefficients drive the networks; None where no coefficient does.
    head_model: str | None = None

    def __init__(
        self,
        recipe: HeadRecipe,
        row: Callable[[int, int], Row],
        held_out: Sequence[Row],
        start: Path | None = None,
        discriminator: Path | None = None,
        perceptual: PerceptualLoss | None = None,
    ) -> None:
        if recipe.pixel_error not in ("absolute", "squared"):
            raise OptionError(f"pixel_error is {recipe.pixel_error!r}; use absolute or squared")
        self.recipe, self._row, self._held_out = recipe, row, list(held_out)
        torch.manual_seed(recipe.seed)
        networks = all_networks(recipe.networks)
        self._initialise(networks)
        if start is not None:
            load_start(start, networks)
        if discriminator is not None:
            if not recipe.adversarial_weight:
                raise OptionError("--discriminator has nothing to begin: this preset has no adversary (adversarial_weight is 0)")
            load_discriminator(discriminator, cast(DualDiscriminator, networks["discriminator"]))
        self.networks = nn.ModuleDict({name: networks[name] for name in self.trained})
        if recipe.adversarial_weight:
            self.networks["discriminator"] = networks["discriminator"]
        self.averaged = self.trained
        perceptual = perceptual or PerceptualLoss.from_home()
        self.frozen = nn.ModuleDict({"perceptual": perceptual} | {name: networks[name] for name in self.served})
        if not perceptual.networks:
            log.info("no VGG weights in the weights folder: the weight-free loss stands in for them (docs/guides/training.md)")

    def _initialise(self, networks: dict[str, nn.Module]) -> None:
        """Changes fresh networks before training."""

    # -- what the loop asks for --

    def optimisers(self) -> dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]]:
        recipe = self.recipe
        groups = [{"params": list(self.networks[name].parameters())} for name in self.trained]
        generator = torch.optim.Adam(groups, lr=recipe.rate, betas=recipe.betas)
        result: dict[str, tuple[torch.optim.Optimizer, tuple[str, ...]]] = {"generator": (generator, self.trained)}
        if recipe.adversarial_weight:
            adversary = torch.optim.Adam(self.networks["discriminator"].parameters(), lr=recipe.discriminator_rate, betas=recipe.betas)
            result["discriminator"] = (adversary, ("discriminator",))
        return result

    def rates(self, which: str, step: int) -> list[float]:
        recipe = self.recipe
        rise = min(1.0, (step + 1) / max(1, recipe.warm_up_steps))
        fall = recipe.decay ** (step // recipe.decay_every)
        if which == "discriminator":
            return [recipe.discriminator_rate * rise]
        rate = max(recipe.rate * fall, min(recipe.rate_floor, recipe.rate)) * rise
        delays, stops = dict(recipe.delays), dict(recipe.stops)
        return [0.0 if step < delays.get(name, 0) or step >= stops.get(name, math.inf) else rate for name in self.trained]

    def passes(self, step: int) -> tuple[str, ...]:
        return ("generator", "discriminator") if self._adversarial(step) else ("generator",)

    def rows(self, step: int, rows: Sequence[int]) -> Row:
        made = [self._row(step, row) for row in rows]
        seeds = [(self.recipe.seed * 1_000_003 + step) * 65_537 + row for row in rows]
        return stack_rows(made) | {"seed": torch.tensor(seeds)}

    def losses(self, batch: Row, step: int, which: str) -> dict[str, Tensor]:
        if which == "discriminator":
            return self._discriminator_losses(batch, step)
        return self._generator_losses(batch, step)

    def _generator_losses(self, batch: Row, step: int) -> dict[str, Tensor]:
        raise NotImplementedError

    def _draw(self, networks: Networks, batch: Row, camera: str = "target_camera", *, random: bool = True) -> Drawn:
        raise NotImplementedError

    # -- drawing --

    def render(self, networks: Networks, planes: Tensor, cameras: Tensor, batch: Row, *, random: bool) -> VolumeRender:
        """Planes [b, 3, c, h, w] seen by cameras [b, 25]; ``random`` moves the samples as the row's seed has it."""
        config = self.recipe.networks.inference.volume
        renderer = VolumeRenderer(cast(Decoder, networks["decoder"]), config)
        positions = None
        if random:
            drawn = [
                random_positions((1, config.size_px**2), config.coarse, config.fine, torch.Generator(planes.device).manual_seed(seed))
                for seed in batch["seed"].tolist()
            ]
            jitter = torch.cat([torch.as_tensor(part.jitter) for part in drawn])
            positions = SamplePositions(jitter, torch.cat([part.quantiles for part in drawn]))
        return renderer(TriPlane(planes), cameras, positions)

    # -- losses --

    def picture_terms(
        self, picture: Tensor, raw: Tensor | None, target: Tensor, mask: Tensor, lips: Tensor, prefix: str = ""
    ) -> dict[str, Tensor]:
        """Error of final and raw picture inside and outside the mask [b, 1, s, s], perceptual losses, mouth.

        Source: eq. 3, and eq. 7 for image to plane, with the terms that the published configuration adds (spec 5.3).
        """
        recipe, look = self.recipe, self.frozen["perceptual"]
        weight = recipe.outside_weight + (1 - recipe.outside_weight) * grown(mask, recipe.mask_margin_px * target.shape[-1] / 512)
        terms = {f"{prefix}picture": (weight * self._pixel_error(picture - target)).mean()}
        if recipe.perceptual_weight:
            terms[f"{prefix}look"] = recipe.perceptual_weight * look(picture, target)
        if raw is not None:
            small = resized(target, raw.shape[-1])
            terms[f"{prefix}raw"] = recipe.raw_weight * (resized(weight, raw.shape[-1]) * self._pixel_error(raw - small)).mean()
            if recipe.perceptual_weight:
                terms[f"{prefix}raw_look"] = recipe.perceptual_weight * look(raw, small)
        if recipe.lip_weight:
            side = max(16, target.shape[-1] // 4)
            ours, theirs = cut_box(picture, lips, side), cut_box(target, lips, side)
            terms[f"{prefix}lips"] = recipe.lip_weight * self._pixel_error(ours - theirs).mean()
            if recipe.lip_perceptual_weight:
                terms[f"{prefix}lips_look"] = recipe.lip_perceptual_weight * look(ours, theirs)
        return terms

    def _pixel_error(self, difference: Tensor) -> Tensor:
        """The first term of eq. 3 (absolute), or that of eq. 7 (squared), before its mean."""
        return difference.square() if self.recipe.pixel_error == "squared" else difference.abs()

    def matte_terms(self, alpha: Tensor, matte: Tensor) -> dict[str, Tensor]:
        """The rendered matte against the head's, and how undecided it is (spec 5.3)."""
        recipe, terms = self.recipe, {}
        if recipe.alpha_weight:
            terms["alpha"] = recipe.alpha_weight * (alpha - resized(matte, alpha.shape[-1])).square().mean()
        if recipe.entropy_weight:
            terms["entropy"] = recipe.entropy_weight * entropy(alpha)
        return terms

    def density_terms(self, planes: Tensor, batch: Row, step: int) -> dict[str, Tensor]:
        """EG3D's regulariser: density at random points and a little beside them (spec 5.2)."""
        recipe = self.recipe
        if not recipe.density_weight or step % recipe.density_every:
            return {}
        random = [torch.Generator(planes.device).manual_seed(seed + 1) for seed in batch["seed"].tolist()]
        shape = (recipe.density_points, 3)
        side = recipe.networks.inference.volume.box_side
        points = torch.stack([torch.rand(shape, generator=g, device=planes.device) - 0.5 for g in random]) * side
        beside = points + recipe.density_noise * torch.stack([torch.randn(shape, generator=g, device=planes.device) for g in random])
        decoder = cast(Decoder, self.networks["decoder"])
        with torch.autocast(planes.device.type, enabled=False):
            features = sample_planes(planes.float(), torch.cat([points, beside], 1), "eg3d_original", side)
            first, second = functional.softplus(decoder.density(decoder.hide(features)) - 1).chunk(2, 1)
        return {"density": recipe.density_weight * recipe.density_every * (first - second).abs().mean()}

    def _adversarial(self, step: int) -> bool:
        return bool(self.recipe.adversarial_weight) and step >= self.recipe.adversarial_from

    def adversarial_terms(self, picture: Tensor, raw: Tensor, camera: Tensor, batch: Row, step: int) -> dict[str, Tensor]:
        """What the generator is told by the discriminator."""
        if not self._adversarial(step):
            return {}
        told = self.networks["discriminator"](picture, raw, camera, self._noise(batch))
        return {"adversarial": self.recipe.adversarial_weight * functional.softplus(-told).mean()}

    def _real(self, batch: Row) -> Tensor:
        """What the discriminator should believe."""
        return batch["target"]

    def _raw(self, drawn: Drawn) -> Tensor:
        return drawn.volume.features[:, :3]

    def _discriminator_losses(self, batch: Row, step: int) -> dict[str, Tensor]:
        recipe, judge = self.recipe, self.networks["discriminator"]
        camera, noise = batch["target_camera"], self._noise(batch)
        with torch.no_grad():
            drawn = self._draw(self.networks, batch)
            raw = self._raw(drawn)
        penalised = bool(recipe.r1_weight) and step % recipe.r1_every == 0
        real = self._real(batch).detach().requires_grad_(penalised)
        real_raw = resized(real, raw.shape[-1]).detach().requires_grad_(penalised)
        fake_told = judge(drawn.picture, raw, camera, noise)
        # The penalty is differentiated twice: not in half precision.
        with torch.autocast(real.device.type, enabled=torch.is_autocast_enabled(real.device.type) and not penalised):
            real_told = judge(real, real_raw, camera, self._noise(batch))
        terms = {"fake": functional.softplus(fake_told).mean(), "real": functional.softplus(-real_told).mean()}
        if penalised:
            slopes = torch.autograd.grad(real_told.sum(), [real, real_raw], create_graph=True)
            fine, raw_only = (slope.square().sum((1, 2, 3)) for slope in slopes)
            penalty = (fine + raw_only).mean()
            terms["r1"] = 0.5 * recipe.r1_weight * recipe.r1_every * penalty
        return terms

    def _noise(self, batch: Row) -> torch.Generator:
        return torch.Generator(batch["seed"].device).manual_seed(int(batch["seed"][0]) + 2)

    # -- validation and files --

    def validate(self, networks: Mapping[str, nn.Module]) -> tuple[Values, Array | None]:
        rows, scores, copies = [], [], []
        device = next(networks[self.trained[0]].parameters()).device
        for row in self._held_out:
            batch = {name: value[None].to(device) for name, value in row.items()} | {"seed": torch.zeros(1, dtype=torch.int64)}
            drawn = self._draw(networks, batch, random=False)
            real, mask = self._real(batch), self._judged(batch)
            scores.append(masked_psnr(drawn.picture, real, mask))
            copies.append(masked_psnr(self._copy(batch), real, mask))
            turned = [
                self._draw(networks, batch | {"target_camera": orbit(batch["target_camera"], angle)}, random=False).picture
                for angle in self._turns
            ]
            away = float((batch["target_camera"][0, [3, 7, 11]].cpu() - torch.tensor(EG3D_OFFSET).float()).norm())
            # White is half a unit of EG3D's world in front of the head's middle, black as much behind it.
            depth = (2 * (away - drawn.volume.depth)).clamp(-1, 1).expand(-1, 3, -1, -1)
            shown = [batch["source"], real, drawn.picture, self._raw(drawn), depth, *turned]
            rows.append([picture[0] for picture in shown])
        if not rows:
            return {}, None
        return {"novel_db": float(np.mean(scores)), "copy_db": float(np.mean(copies))}, tile(rows)

    #: Turns of further validation pictures, in radians: a head must look like one from the side.
    _turns: tuple[float, ...] = (-0.52, 0.52)

    def _judged(self, batch: Row) -> Tensor:
        return batch["matte"] > 0.5

    def _copy(self, batch: Row) -> Tensor:
        return batch["source"]

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        everything = {**networks, **{name: self.frozen[name] for name in self.served}}
        if self.head_model is not None:
            notes = notes | {"head_model": self.head_model}
        save_stage(folder / "model.safetensors", everything, self.recipe.networks, notes)


# -- small mathematics ------------------------------------------------------------------------------------------------------


def resized(picture: Tensor, size_px: int) -> Tensor:
    """Antialiased."""
    if picture.shape[-1] == size_px:
        return picture
    return functional.interpolate(picture, size=(size_px, size_px), mode="bilinear", align_corners=False, antialias=True)


def grown(mask: Tensor, margin_px: float) -> Tensor:
    """The largest value within the margin."""
    margin = round(margin_px)
    return functional.max_pool2d(mask, 2 * margin + 1, 1, margin) if margin else mask


def entropy(alpha: Tensor) -> Tensor:
    """Mean binary entropy in nats of mattes in 0..1."""
    a = alpha.float().clamp(1e-4, 1 - 1e-4)
    return -(a * a.log() + (1 - a) * (1 - a).log()).mean()


def masked_psnr(picture: Tensor, truth: Tensor, mask: Tensor) -> float:
    """Decibels over masked pixels of pictures in -1..1 (peak 2)."""
    squared = ((picture.float().clamp(-1, 1) - truth) ** 2).mean(1, keepdim=True)
    error = float((squared * mask).sum() / mask.sum().clamp(min=1))
    return 10 * math.log10(4 / max(error, 1e-10))


def orbit(camera: Tensor, angle_rad: float) -> Tensor:
    """Cameras [b, 25] carried round the head's vertical axis."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    turn = torch.eye(4, device=camera.device)
    turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = c, s, -s, c
    centre = torch.eye(4, device=camera.device)
    centre[:3, 3] = torch.tensor(EG3D_OFFSET, dtype=torch.float32)
    back = torch.eye(4, device=camera.device)
    back[:3, 3] = -centre[:3, 3]
    moved = centre @ turn @ back @ camera[:, :16].unflatten(1, (4, 4))
    return torch.cat([moved.flatten(1), camera[:, 16:]], 1)


# -- networks and their files -----------------------------------------------------------------------------------------------


def all_networks(sizes: TrainedNetworks) -> dict[str, nn.Module]:
    """Fresh networks by name: those of the finished model, ``super_resolution`` of the head stages and ``discriminator``."""
    networks = build(sizes.inference)
    networks["super_resolution"] = SuperResolution(sizes.head_super_resolution)
    networks["discriminator"] = DualDiscriminator(sizes.discriminator)
    return networks


def save_stage(path: Path, networks: Mapping[str, nn.Module], sizes: TrainedNetworks, notes: Mapping[str, str]) -> None:
    """Weights of a stage as one of our files, names prefixed with the network's."""
    from triportrait import __version__
    from triportrait.weights.store import Provenance, save_weights

    tensors = {f"{name}.{key}": value for name, network in networks.items() for key, value in network.state_dict().items()}
    origin = Provenance(notes.get("stage", ""), "", "trained here", __version__, "that of the training data")
    save_weights(path, tensors, layout=LAYOUT, config={"sizes": asdict(sizes), **notes}, provenance=origin)


def load_start(path: Path, networks: Mapping[str, nn.Module]) -> None:
    """Weights of an earlier stage, or imported ones, into the networks of the same name; others stay fresh.

    Raises:
        OptionError: nothing in the file fits, or a network of the file has other sizes.
        WeightsError: not one of our files.
    """
    from triportrait.weights.store import load_weights

    path = path / "model.safetensors" if path.is_dir() else path
    stored, taken = load_weights(path), []
    for name, network in networks.items():
        state = {key.removeprefix(f"{name}."): value for key, value in stored.tensors.items() if key.startswith(f"{name}.")}
        if not state:
            continue
        wanted = network.state_dict()
        if stored.layout != LAYOUT and set(state) != set(wanted):
            # Imported super-resolution is folded; training needs it in the trained form.
            log.warning("%s of '%s' is stored in another form and begins anew", name, path)
            continue
        wrong = [key for key in wanted if key not in state or state[key].shape != wanted[key].shape]
        if wrong:
            raise OptionError(f"'{path}' holds {name} of another size ({wrong[0]}); take the preset that it was trained with")
        network.load_state_dict(state)
        taken.append(name)
    if not taken:
        raise OptionError(f"'{path}' holds none of {', '.join(networks)}; name the model.safetensors of an earlier stage")
    log.info("%s from '%s'", ", ".join(taken), path)


def refuse_other_head(start: Path | None, head_model: str) -> None:
    """Refuse to go on from networks that another head model drives; files that name none, such as image to plane's, serve all.

    Args:
        start: file or folder of an earlier stage, or imported weights, or None.
        head_model: of the clips.

    Raises:
        OptionError: the networks were trained on another one.
    """
    from triportrait.real3d.parts import described

    if start is None:
        return
    config = described(start / "model.safetensors" if start.is_dir() else start)
    # What its authors published was trained on the Basel face model.
    trained_on = config.get("head_model", "bfm" if "published" in config else head_model)
    if trained_on != head_model:
        raise OptionError(
            f"'{start}' was trained on the head model {trained_on}, and the clips are fitted with {head_model}; "
            f"prepare the videos with 'triportrait data prepare --head {trained_on}', or leave out --start"
        )


def in_seconds(recipe: AnyHeadRecipe, **changes: Any) -> AnyHeadRecipe:
    """The recipe with tiny networks and eight steps, in which all that it switches on happens; ``changes`` come on top."""
    return replace(
        recipe,
        networks=tiny_networks(),
        steps=8,
        batch=2,
        warm_up_steps=1,
        discriminator_rate=1e-3,
        precision="fp32",
        adversarial_from=4,
        r1_every=2,
        log_every=1,
        save_every=4,
        validate_every=4,
        validation_rows=1,
        average=0.9,
        **changes,
    )


def shortened(recipe: AnyHeadRecipe, steps: int) -> AnyHeadRecipe:
    """The recipe for another length: everything that happens at a step happens at the same share of the way."""
    share = steps / recipe.steps

    def moved(step: int) -> int:
        return round(step * share)

    return replace(
        recipe,
        steps=steps,
        warm_up_steps=moved(recipe.warm_up_steps),
        decay_every=max(1, moved(recipe.decay_every)),
        adversarial_from=moved(recipe.adversarial_from),
        delays=tuple((name, moved(step)) for name, step in recipe.delays),
        stops=tuple((name, moved(step)) for name, step in recipe.stops),
    )
