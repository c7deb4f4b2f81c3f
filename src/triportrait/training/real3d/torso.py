"""Stage ``torso`` (paper, section 4.3): head, torso and background to one picture. Everything before the super-resolution stands still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from triportrait.real3d.head_torso_background import HtbSuperResolution
from triportrait.real3d.torso import TorsoLayer
from triportrait.real3d.volume import VolumeRender
from triportrait.training.data.clips import ClipSet
from triportrait.training.real3d.examples import PairOptions, Row, clip_row, fixed_pairs, numpy_generator
from triportrait.training.real3d.heads import Drawn, HeadRecipe, HeadStage, Networks, entropy, in_seconds, refuse_other_head, shortened
from triportrait.training.real3d.sizes import paper_networks, small_networks


@dataclass(frozen=True, slots=True, kw_only=True)
class TorsoRecipe(HeadRecipe):
    """See :class:`HeadRecipe`; ``entropy_weight`` is that of the torso's visibility (published: 0.001)."""


def paper() -> TorsoRecipe:
    """The published schedule and network (spec 5.4)."""
    return TorsoRecipe(
        networks=paper_networks(),
        steps=100_000,
        batch=4,
        rate=1e-5,
        rate_floor=1e-7,
        warm_up_steps=1000,
        decay=0.5,
        decay_every=50_000,
        raw_weight=0.0,
        lip_weight=0.2,
        lip_perceptual_weight=0.02,
        outside_weight=0.5,
        entropy_weight=0.001,
        adversarial_weight=0.003,
        adversarial_from=40_000,
        density_weight=0.0,
    )


def schedule() -> TorsoRecipe:
    """The same in the 200,000 steps of appendix C.2."""
    return shortened(paper(), 200_000)


def small() -> TorsoRecipe:
    """The paper's networks at 256 px. They begin anew, and so with a larger rate."""
    return replace(paper(), networks=small_networks(), steps=60_000, rate=2e-4, rate_floor=1e-5)


def tiny() -> TorsoRecipe:
    """Seconds on a CPU, for tests: everything is switched on."""
    return in_seconds(paper(), rate=3e-3, apart=2)


RECIPES = {"tiny": tiny, "small": small, "paper": paper, "paper_schedule": schedule}


class TorsoStage(HeadStage):
    """Head-torso-background super-resolution.

    Args:
        recipe, start, discriminator: see :class:`HeadStage`; ``start`` should be the stage motion_adapter.
        clips, held_out: clips to learn from, and to be judged by.

    Raises:
        MediaError: the clips are fitted with several head models.
        OptionError: ``start`` was trained on another head model.
    """

    name = "torso"
    trained = ("htb_super_resolution",)
    served = ("image_to_plane", "motion_adapter", "decoder")
    _turns = ()

    def __init__(
        self, recipe: TorsoRecipe, clips: ClipSet, held_out: ClipSet | None, start: Path | None = None, discriminator: Path | None = None
    ) -> None:
        self.head_model = clips.head_model
        refuse_other_head(start, self.head_model)
        sizes = recipe.networks.inference
        options = PairOptions(
            sizes.photo_px,
            recipe.apart,
            sizes.motion_adapter.pictures - 1,
            motion=True,
            scene=True,
            inpaint_background=sizes.inpaint_background,
        )
        shown = fixed_pairs(held_out, options, recipe.validation_rows) if held_out is not None else []
        super().__init__(
            recipe, lambda step, row: clip_row(clips, options, numpy_generator(recipe.seed, step, row)), shown, start, discriminator
        )

    @torch.no_grad()
    def _head(self, batch: Row, camera: Tensor, random: bool) -> VolumeRender:
        """The head in the target's expression, by the networks that stand still."""
        planes = self.frozen["image_to_plane"](batch["source"]).float()
        planes = planes + self.frozen["motion_adapter"](torch.cat([batch["pictures"], batch["driving"][:, 1]], 1)).float()
        return self.render(self.frozen, planes, camera, batch, random=random)

    def _whole(self, network: HtbSuperResolution, batch: Row, head: VolumeRender) -> tuple[Tensor, TorsoLayer]:
        """The picture, and the torso that went into it."""
        caught: list[TorsoLayer] = []
        handle = network.torso.register_forward_hook(lambda module, inputs, output: caught.append(output))
        try:
            scene = network.prepare(batch["torso"], batch["torso_masks"], batch["background"], batch["source_points"], batch["source"])
            picture = network(head.features, head.alpha, scene, batch["target_points"])
        finally:
            handle.remove()
        return picture, caught[-1]

    def _draw(self, networks: Networks, batch: Row, camera: str = "target_camera", *, random: bool = True) -> Drawn:
        head = self._head(batch, batch[camera], random)
        return Drawn(head, self._whole(cast(HtbSuperResolution, networks["htb_super_resolution"]), batch, head)[0])

    def _real(self, batch: Row) -> Tensor:
        return batch["whole"]

    def _judged(self, batch: Row) -> Tensor:
        return torch.ones_like(batch["matte"])

    def _generator_losses(self, batch: Row, step: int) -> dict[str, Tensor]:
        network, recipe = cast(HtbSuperResolution, self.networks["htb_super_resolution"]), self.recipe
        head = self._head(batch, batch["target_camera"], True)
        picture, torso = self._whole(network, batch, head)
        terms = self.picture_terms(picture, None, batch["whole"], batch["torso_matte"], batch["lips"])
        terms |= self.adversarial_terms(picture, head.features[:, :3], batch["target_camera"], batch, step)
        if recipe.entropy_weight:
            terms["torso_entropy"] = recipe.entropy_weight * entropy(torso.alpha)
        return terms

    def save(self, networks: Mapping[str, nn.Module], folder: Path, notes: dict[str, str]) -> None:
        super().save(networks, folder, notes)
        everything = {**networks, **{name: self.frozen[name] for name in self.served}}
        save_finished(folder / "real3d_torso.safetensors", everything, self.recipe, notes | {"head_model": str(self.head_model)})


def save_finished(path: Path, networks: Mapping[str, nn.Module], recipe: HeadRecipe, notes: Mapping[str, str]) -> None:
    """The finished model in the layout that ``triportrait animate --preset paper`` reads."""
    from triportrait import __version__
    from triportrait.weights.store import Provenance, save_weights

    tensors = {f"{name}.{key}": value for name, network in networks.items() for key, value in network.state_dict().items()}
    origin = Provenance(notes.get("stage", ""), "", "trained here", __version__, "that of the training data")
    config = {"sizes": asdict(recipe.networks.inference), **notes}
    save_weights(path, tensors, layout="real3d_torso", config=config, provenance=origin)
