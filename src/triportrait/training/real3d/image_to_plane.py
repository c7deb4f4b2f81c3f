"""Stage ``image_to_plane`` with the paper's networks (section 4.1): a picture of a head to a tri-plane that shows it from everywhere.

Learned from pairs of views of one head: of EG3D where the user has its weights (the paper's teacher), of lifted photographs, of synthetic
or real clips. The compact network of this project has its own stage, :mod:`triportrait.training.oneshot.stage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from triportrait.errors import OptionError
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.eg3d_prior import Prior
from triportrait.real3d.head_super_resolution import SuperResolution
from triportrait.real3d.volume import VolumeRenderer
from triportrait.training.data.clips import ClipSet
from triportrait.training.oneshot.views import ViewSet
from triportrait.training.real3d.examples import (
    PairOptions,
    Row,
    clip_row,
    fixed_pairs,
    fixed_views,
    numpy_generator,
    teacher_row,
    view_row,
)
from triportrait.training.real3d.heads import Drawn, HeadRecipe, HeadStage, Networks, in_seconds, resized, shortened
from triportrait.training.real3d.sizes import paper_networks, small_networks


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageToPlaneRecipe(HeadRecipe):
    """See :class:`HeadRecipe`.

    Args:
        nearest_radius, farthest_radius: distances, in EG3D's units, between which the cameras stand that look at the teacher's heads.
    """

    nearest_radius: float = 2.4
    farthest_radius: float = 5.0


def paper() -> ImageToPlaneRecipe:
    """Cameras of appendix B.1 and the squared error of eq. 7; steps, rates and delays as published (spec 5.2)."""
    return ImageToPlaneRecipe(
        networks=paper_networks(),
        steps=200_000,
        batch=4,
        delays=(("decoder", 2000), ("super_resolution", 30_000)),
        pixel_error="squared",
        adversarial_weight=0.025,
        adversarial_from=30_000,
        source_every=2,
    )


def schedule() -> ImageToPlaneRecipe:
    """The same in the 250,000 steps of appendix C.2."""
    return shortened(paper(), 250_000)


def published() -> ImageToPlaneRecipe:
    """As the published code trains: nearer cameras, absolute error (spec 5.2)."""
    return replace(paper(), pixel_error="absolute", nearest_radius=2.7, farthest_radius=4.0)


def small() -> ImageToPlaneRecipe:
    """The paper's networks at 256 px."""
    return replace(
        paper(),
        networks=small_networks(),
        steps=100_000,
        batch=4,
        warm_up_steps=500,
        rate=2e-4,
        delays=(),
        adversarial_from=40_000,
        density_points=500,
    )


def tiny() -> ImageToPlaneRecipe:
    """Seconds on a CPU, for tests: everything is switched on."""
    return in_seconds(paper(), rate=2e-3, delays=(), density_every=2, density_points=50)


RECIPES = {"tiny": tiny, "small": small, "paper": paper, "paper_schedule": schedule, "paper_published": published}


class ImageToPlaneStage(HeadStage):
    """Image to plane, decoder and super-resolution from pairs of views.

    Args:
        recipe, start: see :class:`HeadStage`.
        sources: clips or lifted photographs; every step takes one of them, by the weights of ``shares``.
        held_out: the same for validation.
        shares: how often each source is taken; None: equally often.
        teacher: EG3D's generator and decoder, a source of its own (the last of the shares).
        discriminator: see :class:`HeadStage`.
    """

    name = "image_to_plane"
    trained = ("image_to_plane", "decoder", "super_resolution")

    def __init__(
        self,
        recipe: ImageToPlaneRecipe,
        sources: Sequence[ClipSet | ViewSet],
        held_out: Sequence[ClipSet | ViewSet],
        start: Path | None = None,
        shares: Sequence[float] | None = None,
        teacher: tuple[Prior, Decoder] | None = None,
        discriminator: Path | None = None,
    ) -> None:
        radii = recipe.nearest_radius, recipe.farthest_radius
        if not 1.0 <= radii[0] <= radii[1]:
            raise OptionError(f"the cameras stand from nearest_radius {radii[0]:g} to farthest_radius {radii[1]:g}; use 1 or more, rising")
        self._teacher = teacher
        size = recipe.networks.inference.photo_px
        options = PairOptions(size, recipe.apart)
        count = len(sources) + (teacher is not None)
        weights = torch.tensor(shares or [1.0] * count)

        def row(step: int, index: int) -> Row:
            # A batch has one kind of rows.
            kind = int(torch.multinomial(weights, 1, generator=torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)))
            random = numpy_generator(recipe.seed, step, index)
            if teacher is not None and kind == len(sources):
                return teacher_row(teacher[0].config.latent, radii, random)
            source = sources[kind]
            return clip_row(source, options, random) if isinstance(source, ClipSet) else view_row(source, size, random)

        shown = [
            row
            for source in held_out
            for row in (
                fixed_pairs(source, options, recipe.validation_rows)
                if isinstance(source, ClipSet)
                else fixed_views(source, size, -(-recipe.validation_rows // 2))
            )
        ]
        super().__init__(recipe, row, shown, start, discriminator)
        if teacher is not None:
            self.frozen["teacher"], self.frozen["teacher_decoder"] = teacher

    def _initialise(self, networks: dict[str, nn.Module]) -> None:
        if self._teacher is None:
            return
        # As published: decoder and super-resolution begin as EG3D's.
        prior, decoder = self._teacher
        _begin_as(networks["decoder"], decoder)
        for ours, theirs in zip(cast(SuperResolution, networks["super_resolution"]).blocks, prior.super_resolution, strict=True):
            _begin_as(ours.get_submodule("block"), theirs)

    @torch.no_grad()
    def _with_pictures(self, batch: Row) -> Row:
        """Pictures of EG3D's heads where the rows are latents."""
        if "latent" not in batch:
            return batch
        prior = cast(Prior, self.frozen["teacher"])
        renderer = VolumeRenderer(cast(Decoder, self.frozen["teacher_decoder"]), self.recipe.networks.inference.volume)
        with torch.autocast(batch["latent"].device.type, enabled=False):
            styles = prior.styles(batch["latent"], batch["condition"], 0.7)
            planes = prior.planes(styles)
            seen = {name: renderer(planes, batch[f"{name}_camera"]) for name in ("source", "target")}
            size = self.recipe.networks.inference.photo_px
            pictures = {name: resized(prior.super_resolve(view.features, styles), size) for name, view in seen.items()}
        return batch | pictures | {"matte": torch.ones_like(pictures["target"][:, :1])}

    def _draw(self, networks: Networks, batch: Row, camera: str = "target_camera", *, random: bool = True) -> Drawn:
        planes = networks["image_to_plane"](batch["source"])
        volume = self.render(networks, planes, batch[camera], batch, random=random)
        return Drawn(volume, networks["super_resolution"](volume.features))

    def _discriminator_losses(self, batch: Row, step: int) -> dict[str, Tensor]:
        return super()._discriminator_losses(self._with_pictures(batch), step)

    def _generator_losses(self, batch: Row, step: int) -> dict[str, Tensor]:
        batch = self._with_pictures(batch)
        planes = self.networks["image_to_plane"](batch["source"])
        everywhere = torch.ones_like(batch["matte"])
        volume = self.render(self.networks, planes, batch["target_camera"], batch, random=True)
        picture = self.networks["super_resolution"](volume.features)
        raw = volume.features[:, :3]
        terms = self.picture_terms(picture, raw, batch["target"], everywhere, batch["lips"], "novel_")
        terms |= self.adversarial_terms(picture, raw, batch["target_camera"], batch, step)
        terms |= self.density_terms(planes, batch, step)
        if step % self.recipe.source_every == 0:
            own = self.render(self.networks, planes, batch["source_camera"], batch, random=True)
            picture = self.networks["super_resolution"](own.features)
            terms |= self.picture_terms(picture, own.features[:, :3], batch["source"], everywhere, batch["lips"], "source_")
        return terms


def _begin_as(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy the weights of the teacher.

    Raises:
        OptionError: the teacher's network has another size.
    """
    try:
        ours.load_state_dict(theirs.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split()[-18:])
        raise OptionError(f"the teacher's networks have other sizes than this preset's ({reason}); take the preset paper") from None
