"""Settings of the image-to-plane network's training, by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from triportrait.avatar.oneshot.image_to_plane import CompactConfig
from triportrait.avatar.oneshot.volume import Slab
from triportrait.training.loop import Recipe

#: Every second row and column of a patch is followed into the neighbouring frame.
TEMPORAL_STRIDE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageToPlaneRecipe(Recipe):
    """Everything that decides a run besides its data; ``batch`` counts photographs.

    Args:
        model: sizes of the network.
        slab: where samples lie.
        views, patch_px, render_px: pictures per photograph, side of the square that is drawn of each, and of the picture it is cut from;
            ``render_px`` is 64 or 128.
        rate, warm_up_steps, weight_decay: AdamW; the rate falls along a cosine.
        alpha_weight, gradient_weight, depth_weight: of the losses beside the colours' L1.
        unseen_weight: of teacher pixels that the photograph does not show (the teacher guesses there).
        drop_prior: share of photographs for which the fitted depth is withheld; ``jitter`` scales all its other disturbances.
        march: share of steps in which samples surround the prior met along the ray instead of the teacher's own depth.
        temporal_weight: of :func:`temporal_loss`; at 0 it is not computed.
        sway_deg, ease: how far the neighbouring frame of that loss lies: degrees per axis, and share of the way back to the photograph's
            expression.
        validation_photos: held-out photographs that are looked at during the run.
    """

    model: CompactConfig = field(default_factory=CompactConfig)
    slab: Slab = field(default_factory=Slab)
    steps: int = 8000
    batch: int = 4
    views: int = 4
    patch_px: int = 32
    render_px: int = 64
    rate: float = 1.5e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.01
    average: float = 0.99
    alpha_weight: float = 0.4
    gradient_weight: float = 0.5
    depth_weight: float = 0.05
    unseen_weight: float = 0.5
    drop_prior: float = 0.2
    march: float = 0.5
    temporal_weight: float = 1.0
    sway_deg: float = 5.0
    ease: float = 0.15
    jitter: float = 1.0
    precision: str = "bf16"
    validation_photos: int = 10


def compact() -> ImageToPlaneRecipe:
    """The network that is meant to be used."""
    return ImageToPlaneRecipe()


def compact_sharp() -> ImageToPlaneRecipe:
    """A second stage for :func:`compact`: pictures of twice the size, a third of the rate."""
    return replace(compact(), steps=2000, render_px=128, rate=5e-4, slab=Slab(12, 0.25))


def tiny() -> ImageToPlaneRecipe:
    """Seconds on one core, for tests."""
    model = CompactConfig(64, (16, 16, 32), (1, 1, 1), 1, 8, 16, 2, 16)
    return replace(
        compact(),
        model=model,
        slab=Slab(6, 0.3),
        steps=30,
        batch=2,
        views=2,
        patch_px=16,
        rate=3e-3,
        warm_up_steps=2,
        precision="fp32",
        log_every=1,
        save_every=10,
        validate_every=10,
        validation_photos=1,
    )


RECIPES = {"tiny": tiny, "compact": compact, "compact_sharp": compact_sharp}


def rate_at(step: int, recipe: ImageToPlaneRecipe) -> float:
    """Learning rate: a short rise, then a cosine down to a fiftieth."""
    rise = min(1.0, (step + 1) / max(1, recipe.warm_up_steps))
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.steps)))
    return recipe.rate * rise * (0.02 + 0.98 * fall)
