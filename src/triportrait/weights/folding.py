"""Multiply out re-parametrisations of a state dict: the result computes the same with fewer operations.

Plain functions from dict to dict; keys they do not concern pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from triportrait.errors import WeightsError

State = dict[str, torch.Tensor]


def rename_strictly(published: Mapping[str, torch.Tensor], names: Mapping[str, str], source: str) -> State:
    """Tensors under our names.

    Args:
        published: state dict of a published model.
        names: published key -> our key.
        source: what the state dict is said to be, for the message.

    Raises:
        WeightsError: a key is missing or unknown; the message names it.
    """
    missing = sorted(names.keys() - published.keys())
    unknown = sorted(published.keys() - names.keys())
    if missing:
        raise WeightsError(f"{source}: key {missing[0]!r} is missing ({len(missing)} in all); give the complete published file")
    if unknown:
        raise WeightsError(f"{source}: key {unknown[0]!r} is unknown ({len(unknown)} in all); give a published file of this kind")
    return {ours: published[theirs] for theirs, ours in names.items()}


def without(state: Mapping[str, torch.Tensor], unread: Callable[[str], bool]) -> State:
    """A copy that lacks the keys for which ``unread`` is true."""
    return {key: value for key, value in state.items() if not unread(key)}


#: Names of a re-parametrised weight: as published (old PyTorch) -> as PyTorch's parametrizations call it.
WEIGHT_NORM = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
SPECTRAL_NORM = {
    "weight_orig": "parametrizations.weight.original",
    "weight_u": "parametrizations.weight.0._u",
    "weight_v": "parametrizations.weight.0._v",
}


def fold_weight_norm(state: Mapping[str, torch.Tensor]) -> State:
    """Weights g v / |v| from their :data:`WEIGHT_NORM`, the norm taken per output channel."""
    folded = dict(state)
    gains, directions = WEIGHT_NORM.values()
    for stem in _stems(state, gains):
        gain, direction = (_take(folded, f"{stem}.{name}", f"{stem}.{gains}") for name in (gains, directions))
        length = direction.double().flatten(1).norm(dim=1).reshape(-1, *[1] * (direction.ndim - 1))
        folded[f"{stem}.weight"] = (direction * (gain / length)).float()
    return folded


def fold_spectral_norm(state: Mapping[str, torch.Tensor]) -> State:
    """Weights W / (u^T W v) from their :data:`SPECTRAL_NORM`, with the stored vectors."""
    folded = dict(state)
    original = SPECTRAL_NORM["weight_orig"]
    for stem in _stems(state, original):
        weight, left, right = (_take(folded, f"{stem}.{name}", f"{stem}.{original}") for name in SPECTRAL_NORM.values())
        norm = torch.dot(left.double(), weight.double().flatten(1) @ right.double())
        folded[f"{stem}.weight"] = (weight / norm).float()
    return folded


def fold_batch_norms(state: Mapping[str, torch.Tensor], convolution: str, norm: str) -> State:
    """:func:`fold_batch_norm` for every layer that has both parts of these names."""
    folded = dict(state)
    for stem in _stems(state, f"{norm}.running_var"):
        folded = fold_batch_norm(folded, f"{stem}.{convolution}", f"{stem}.{norm}")
    return folded


def fold_batch_norm(state: Mapping[str, torch.Tensor], convolution: str, norm: str, epsilon: float = 1e-5) -> State:
    """The batch norm with the key prefix ``norm`` multiplied into the convolution before it; its keys disappear."""
    folded = dict(state)
    folded.pop(f"{norm}.num_batches_tracked", None)
    variance, mean, gain, shift = (
        _take(folded, f"{norm}.{name}", convolution).double() for name in ("running_var", "running_mean", "weight", "bias")
    )
    weight = _take(folded, f"{convolution}.weight", norm).double()
    bias = folded[f"{convolution}.bias"].double() if f"{convolution}.bias" in folded else torch.zeros_like(mean)
    scale = gain / torch.sqrt(variance + epsilon)
    folded[f"{convolution}.weight"] = (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).float()
    folded[f"{convolution}.bias"] = ((bias - mean) * scale + shift).float()
    return folded


def _stems(state: Mapping[str, torch.Tensor], ending: str) -> list[str]:
    return [key.removesuffix(f".{ending}") for key in state if key.endswith(f".{ending}")]


def _take(state: State, key: str, because: str) -> torch.Tensor:
    if key not in state:
        raise WeightsError(f"key {key!r} is missing although {because!r} is there; the file is damaged or of another kind")
    return state.pop(key)
