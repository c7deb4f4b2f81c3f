"""Stage ``motion_adapter`` (paper, section 4.2): the tri-plane of a photograph learns to take on expressions.

From pairs of frames of a clip: the source's picture and PNCC, the target's PNCC -> the target's picture. Image to plane is trained on. The
Laplacian loss (eq. 4) keeps what the adapter changes of the planes smooth over neighbouring frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from triportrait.errors import OptionError
from triportrait.real3d.motion_adapter import MotionAdapter
from triportrait.training.data.clips import ClipSet
from triportrait.training.real3d.examples import PairOptions, Row, clip_row, fixed_pairs, numpy_generator
from triportrait.training.real3d.heads import Drawn, HeadRecipe, HeadStage, Networks, in_seconds, refuse_other_head, shortened
from triportrait.training.real3d.sizes import paper_networks, small_networks


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionAdapterRecipe(HeadRecipe):
    """See :class:`HeadRecipe`.

    Args:
        laplacian: ``neighbours`` (eq. 4: squared second difference of its planes over frames t - 1, t, t + 1), ``perturbed`` (published:
            its planes stay when the coefficients are disturbed) or ``none`` (ablation of Table 4).
        laplacian_weight: of it; perturb: deviation of the disturbance.
        pretrained: image to plane, decoder and super-resolution begin as an earlier stage left them; False (Table 4) refuses one.
        finetune: image to plane learns on; False (Table 4) keeps it still.
    """

    laplacian: Literal["neighbours", "perturbed", "none"] = "neighbours"
    laplacian_weight: float = 1.0
    perturb: float = 0.01
    pretrained: bool = True
    finetune: bool = True


def paper() -> MotionAdapterRecipe:
    """The paper: Laplacian loss over neighbouring frames; weights of the other losses as published (spec 5.3)."""
    return MotionAdapterRecipe(
        networks=paper_networks(),
        steps=150_000,
        batch=4,
        rate_floor=5e-6,
        warm_up_steps=1000,
        delays=(("image_to_plane", 6000), ("decoder", 6000), ("super_resolution", 30_000)),
        lip_weight=0.5,
        lip_perceptual_weight=0.05,
        outside_weight=0.2,
        alpha_weight=0.1,
        entropy_weight=0.01,
        source_every=16,
        adversarial_weight=0.002,
        adversarial_from=100_000,
    )


def schedule() -> MotionAdapterRecipe:
    """The same in the 200,000 steps of appendix C.2."""
    return shortened(paper(), 200_000)


def published() -> MotionAdapterRecipe:
    """As the published weights were trained: no adversary, planes that stay when the coefficients are disturbed."""
    return replace(paper(), adversarial_weight=0.0, laplacian="perturbed")


def small() -> MotionAdapterRecipe:
    """The paper's networks at 256 px."""
    return replace(paper(), networks=small_networks(), steps=60_000, rate=2e-4, delays=(), adversarial_from=40_000, density_points=500)


def tiny() -> MotionAdapterRecipe:
    """Seconds on a CPU, for tests: everything is switched on."""
    return in_seconds(paper(), rate=2e-3, delays=(), density_every=2, density_points=50, source_every=2, apart=2)


RECIPES = {"tiny": tiny, "small": small, "paper": paper, "paper_schedule": schedule, "paper_published": published}


def second_difference(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
    """Eq. 4: mean square of ``before - 2 here + after``, planes of frames t - 1, t, t + 1; 0 for whatever moves evenly, at any speed."""
    return (before - 2.0 * here + after).square().mean()


class MotionAdapterStage(HeadStage):
    """Motion adapter, with image to plane, decoder and super-resolution trained on.

    Args:
        recipe, start, discriminator: see :class:`HeadStage`; ``start`` should be the stage image_to_plane.
        clips, held_out: clips to learn from, and to be judged by.

    Raises:
        MediaError: the clips are fitted with several head models.
        OptionError: ``start`` was trained on another head model, or is what the recipe goes without, or is missing where image to plane
            is to stand still.
    """

    name = "motion_adapter"
    trained: tuple[str, ...] = ("motion_adapter", "image_to_plane", "decoder", "super_resolution")

    def __init__(
        self,
        recipe: MotionAdapterRecipe,
        clips: ClipSet,
        held_out: ClipSet | None,
        start: Path | None = None,
        discriminator: Path | None = None,
    ) -> None:
        if start is not None and not recipe.pretrained:
            raise OptionError("without pre-training the stage begins with fresh networks; leave out --start")
        if not recipe.finetune:
            if start is None:
                raise OptionError("without fine-tuning image to plane stays as it begins; give --start with real3d.image_to_plane's folder")
            self.trained = tuple(name for name in self.trained if name != "image_to_plane")
            self.served = ("image_to_plane",)
        self.head_model = clips.head_model
        refuse_other_head(start, self.head_model)
        sizes = recipe.networks.inference
        perturb = recipe.perturb if recipe.laplacian == "perturbed" else 0.0
        options = PairOptions(sizes.photo_px, recipe.apart, sizes.motion_adapter.pictures - 1, motion=True, perturb=perturb)
        shown = fixed_pairs(held_out, options, recipe.validation_rows) if held_out is not None else []
        super().__init__(
            recipe, lambda step, row: clip_row(clips, options, numpy_generator(recipe.seed, step, row)), shown, start, discriminator
        )

    def _initialise(self, networks: dict[str, nn.Module]) -> None:
        # The adapter begins by changing nothing, so that image to plane is not disturbed.
        for parameter in cast(MotionAdapter, networks["motion_adapter"]).out.parameters():
            nn.init.zeros_(parameter)

    def _canonical(self, networks: Networks, batch: Row) -> Tensor:
        """Planes of the source in its own expression, by image to plane among ``networks``, or by the one that stands still."""
        held = self.frozen if "image_to_plane" in self.served else networks
        return held["image_to_plane"](batch["source"]).float()

    def _draw(self, networks: Networks, batch: Row, camera: str = "target_camera", *, random: bool = True) -> Drawn:
        planes = self._canonical(networks, batch)
        pictures = torch.cat([batch["pictures"], batch["driving"][:, 1]], 1)
        planes = planes + networks["motion_adapter"](pictures).float()
        volume = self.render(networks, planes, batch[camera], batch, random=random)
        return Drawn(volume, networks["super_resolution"](volume.features))

    def _generator_losses(self, batch: Row, step: int) -> dict[str, Tensor]:
        recipe, networks = self.recipe, self.networks
        canonical = self._canonical(networks, batch)
        change, terms = self._changes(batch)
        planes = canonical + change
        volume = self.render(networks, planes, batch["target_camera"], batch, random=True)
        picture, raw = networks["super_resolution"](volume.features), volume.features[:, :3]
        terms |= self.picture_terms(picture, raw, batch["target"], batch["matte"], batch["lips"])
        terms |= self.matte_terms(volume.alpha, batch["matte"])
        terms |= self.adversarial_terms(picture, raw, batch["target_camera"], batch, step)
        terms |= self.density_terms(planes, batch, step)
        if step % recipe.source_every == 0:
            # The source drives itself.
            pictures = torch.cat([batch["pictures"], batch["pictures"][:, -3:]], 1)
            own = self.render(
                networks, canonical + networks["motion_adapter"](pictures).float(), batch["source_camera"], batch, random=True
            )
            seen = networks["super_resolution"](own.features)
            mask = (batch["source"].amax(1, keepdim=True) > -1).float()
            terms |= self.picture_terms(seen, own.features[:, :3], batch["source"], mask, batch["lips"], "source_")
        return terms

    def _changes(self, batch: Row) -> tuple[Tensor, dict[str, Tensor]]:
        """What the adapter changes of the planes for the target, and the loss on how that goes on around it."""
        recipe, adapter = cast(MotionAdapterRecipe, self.recipe), self.networks["motion_adapter"]
        if recipe.laplacian == "none":
            return adapter(torch.cat([batch["pictures"], batch["driving"][:, 1]], 1)).float(), {}
        count = 3 if recipe.laplacian == "neighbours" else 2
        driving = batch["driving"][:, :count]
        own = batch["pictures"][:, None].expand(-1, count, -1, -1, -1)
        changes = adapter(torch.cat([own, driving], 2).flatten(0, 1)).float().unflatten(0, (-1, count))
        if recipe.laplacian == "neighbours":
            loss = second_difference(*changes.unbind(1))  # eq. 4
        else:
            loss = (changes[:, 0] - changes[:, 1]).abs().mean()
        return changes[:, 1], {"laplacian": recipe.laplacian_weight * loss}
