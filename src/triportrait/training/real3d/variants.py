"""A recipe of the paper's stages turned into that of a variant; what a variant is stands in :mod:`triportrait.real3d.variants`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from triportrait.errors import OptionError
from triportrait.real3d.networks import PaperNetworks
from triportrait.real3d.variants import VARIANTS
from triportrait.training.loop import Recipe
from triportrait.training.real3d.audio_to_motion import AudioToMotionRecipe
from triportrait.training.real3d.heads import HeadRecipe
from triportrait.training.real3d.motion_adapter import MotionAdapterRecipe


def with_variant(recipe: Recipe, model: str, name: str) -> Recipe:
    """The recipe of a variant.

    Args:
        recipe: of the whole system, of any size.
        model: what is trained, ``real3d.`` and the stage's name.
        name: of the variant.

    Raises:
        OptionError: there is no such variant, or it changes nothing in this stage.
    """
    if name not in VARIANTS:
        raise OptionError(f"there is no variant {name!r}; the variants are {', '.join(VARIANTS)}")
    variant, stage = VARIANTS[name], model.removeprefix("real3d.")
    if model == stage or stage not in variant.stages:
        concerned = ", ".join(f"real3d.{one}" for one in variant.stages)
        raise OptionError(f"--variant {name} changes nothing in {model}; it belongs to {concerned}")
    if isinstance(recipe, AudioToMotionRecipe):
        whole = PaperNetworks(audio_to_motion=recipe.network)
        return replace(recipe, network=variant.networks(whole).audio_to_motion)
    assert isinstance(recipe, HeadRecipe), "the other stages of the paper draw heads"
    changes: dict[str, Any] = {"networks": replace(recipe.networks, inference=variant.networks(recipe.networks.inference))}
    if isinstance(recipe, MotionAdapterRecipe):
        changes |= {"pretrained": variant.pretrained, "finetune": variant.finetuned}
        if not variant.laplacian:
            changes["laplacian"] = "none"
        if not variant.pretrained:
            # Delays protect networks that know something already.
            changes["delays"] = ()
    return replace(recipe, **changes)
