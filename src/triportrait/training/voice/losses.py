"""Losses of the voice networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from triportrait.motion.lips import gap_weights
from triportrait.training.voice.corpora import COLUMNS, CURVES, Spoken, Tracked, spoken_targets


def losses(
    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    targets: tuple[torch.Tensor, ...],
    curve_weight: torch.Tensor,
) -> torch.Tensor:
    """Curves and opening (L1 + L2), their velocity, contact, the opening that the curves themselves give, and how well
    that follows the target over the window (it counts in full where the window's lips move)."""
    curves, opening, logit = outputs
    curves_t, opening_t, contact_t, articulated, trust, sure, *_ = targets
    curve_weight = curve_weight * trust[:, None]
    # Openings are some hundredths of a face height: 15 brings them to the scale of curves.
    scale = 15.0
    importance = sure * (1.0 + 3.0 * articulated)
    gap = torch.from_numpy(gap_weights(CURVES)).to(curves.device)
    from_curves, given = curves @ gap, curves_t @ gap
    difference = (curves - curves_t) * curve_weight
    shape = (difference.abs() + 2.0 * difference**2).mean(-1)
    wrong = scale * (opening - opening_t)
    own_wrong = scale * (from_curves - given)
    amount = wrong.abs() + 2.0 * wrong**2 + 0.5 * (own_wrong.abs() + 2.0 * own_wrong**2)
    steps = ((curves[:, 1:] - curves[:, :-1]) - (curves_t[:, 1:] - curves_t[:, :-1])) * curve_weight
    gap_steps = scale * ((opening[:, 1:] - opening[:, :-1]) - (opening_t[:, 1:] - opening_t[:, :-1]))
    # A missed closure is seen, a closure too many hardly.
    weight = importance + 1.5 * sure * articulated * contact_t
    contact = functional.binary_cross_entropy_with_logits(logit, contact_t, weight=weight)
    # Where nothing is sure there is nothing to follow.
    follow = (concordance_loss(sure * from_curves, sure * opening_t) + concordance_loss(sure * opening, sure * opening_t)) / 2
    both = sure[:, 1:] * sure[:, :-1]
    return (
        (importance * (shape + amount)).mean()
        + 1.0 * (both[..., None] * steps.abs()).mean()
        + 0.5 * (both * gap_steps.abs()).mean()
        + 1.0 * contact
        + 0.5 * follow
        + 0.3 * liveliness_loss(sure * from_curves, sure * opening_t)
    )


def concordance_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """One less the concordance correlation of rows [b, t], the mean over windows.

    Unlike squared error it does not shrink the amplitude of what is uncertain. Source: L. Lin, "A concordance
    correlation coefficient to evaluate reproducibility", 1989, equation 1.
    """
    mean_p, mean_t = predicted.mean(1, keepdim=True), target.mean(1, keepdim=True)
    covariance = ((predicted - mean_p) * (target - mean_t)).mean(1)
    spread = predicted.var(1, unbiased=False) + target.var(1, unbiased=False) + (mean_p - mean_t)[:, 0] ** 2
    # A window at rest has nothing to follow: 1e-5 is a movement of 0.003 face heights.
    return (1.0 - (2 * covariance + 1e-5) / (spread + 1e-5)).mean()


def liveliness_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far spread and speed of rows [b, t] in face heights are from the target's, as shares of it; the mean over windows.

    Errors row by row are least for an average, which moves less than any of the mouths it stands for.
    """
    wrong = torch.zeros((), device=predicted.device)
    for ours, theirs in ((predicted, target), (predicted.diff(dim=1), target.diff(dim=1))):
        # 4e-3 face heights: below that nothing is seen to move.
        wrong = wrong + ((ours.std(1) - theirs.std(1)).abs() / (theirs.std(1) + 4e-3)).clamp(max=2.0).mean()
    return wrong


def viseme_loss(logits: torch.Tensor, visemes: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the sounds where they are known: logits [b, t, v], numbers [b, t]."""
    if not (visemes >= 0).any():
        return logits.sum() * 0.0
    return functional.cross_entropy(logits.flatten(0, 1), visemes.flatten(), ignore_index=-1, label_smoothing=0.05)


def curve_weights(spoken: Sequence[Spoken], tracked: Sequence[Tracked]) -> torch.Tensor:
    """Weights that bring curves of different size together: 0.15 over the standard deviation, between 0.5 and 4."""
    rows = [spoken_targets(clip).expression for clip in spoken[:100]] + [clip.targets.expression for clip in tracked[:100]]
    deviation = np.concatenate(rows)[:, COLUMNS].std(axis=0)
    weight = np.clip(0.15 / np.maximum(deviation, 1e-3), 0.5, 4.0)
    weight[CURVES.index("mouthRollLower")] = 5.0
    return torch.from_numpy(weight.astype(np.float32))
