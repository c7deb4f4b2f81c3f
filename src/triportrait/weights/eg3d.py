"""NVIDIA's published EG3D generators and discriminators to our names (spec C.5, C.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from triportrait.weights.folding import State, rename_strictly, without
from triportrait.weights.real3d_head import DECODER, decoder_state

_AFFINE = ("weight", "bias")
#: Filters that are our code, and statistics of the training set.
_UNREAD = re.compile(r"(.*\.)?resample_filter|dataset_label_std")
#: Sides of the generator's and the discriminator's blocks; the last of the discriminator is another kind of layer.
_PLANE_SIDES = (4, 8, 16, 32, 64, 128, 256)
_PICTURE_SIDES = (512, 256, 128, 64, 32, 16, 8)


def eg3d_state(published: Mapping[str, torch.Tensor]) -> State:
    """The generator: our names prefixed ``prior.`` (``real3d.eg3d_prior.Prior``) and ``decoder.`` (``real3d.decoder.Decoder``).

    Raises:
        WeightsError: a key is missing or unknown.
    """
    decoder = {key: tensor for key, tensor in published.items() if key.startswith(DECODER)}
    rest = without(published, lambda key: key in decoder)
    state = prior_state(rest)
    parts = {"prior": state, "decoder": decoder_state(decoder)}
    return {f"{part}.{key}": tensor for part, tensors in parts.items() for key, tensor in tensors.items()}


def prior_state(published: Mapping[str, torch.Tensor]) -> State:
    """State of ``real3d.eg3d_prior.Prior`` from a generator without its decoder.

    Raises:
        WeightsError: a key is missing or unknown.
    """
    names = {"backbone.mapping.w_avg": "mean_style"} | _mapping("backbone.mapping", "mapping", 2)
    for index, side in enumerate(_PLANE_SIDES):
        names |= styled_block_names(f"backbone.synthesis.b{side}", f"synthesis.blocks.{index}", first=index == 0)
    names |= super_resolution_names("super_resolution")
    # The noise of the super-resolution is published, though off; it stays so that the generator can be trained further.
    return rename_strictly(read_keys(published), names, "EG3D generator")


def super_resolution_names(ours: str) -> dict[str, str]:
    """Published key -> name of the two blocks in a ``ModuleList`` called ``ours``."""
    names: dict[str, str] = {}
    for index in range(2):
        names |= styled_block_names(f"superresolution.block{index}", f"{ours}.{index}")
    return names


def discriminator_state(published: Mapping[str, torch.Tensor]) -> State:
    """State of ``training.real3d.discriminator.DualDiscriminator``.

    Raises:
        WeightsError: a key is missing or unknown.
    """
    names = _mapping("mapping", "mapping", 8) | _layer("b512.fromrgb", "stem")
    for index, side in enumerate(_PICTURE_SIDES):
        for layer in ("conv0", "conv1"):
            names |= _layer(f"b{side}.{layer}", f"blocks.{index}.{layer}")
        names[f"b{side}.skip.weight"] = f"blocks.{index}.shortcut.weight"
    names |= _layer("b4.conv", "last") | _layer("b4.fc", "flat") | _layer("b4.out", "out")
    return rename_strictly(read_keys(published), names, "EG3D discriminator")


def read_keys(published: Mapping[str, torch.Tensor]) -> State:
    """A state dict without the filters that are our code and the statistics of a training set."""
    return without(published, lambda key: _UNREAD.fullmatch(key) is not None)


def _layer(theirs: str, ours: str, parts: tuple[str, ...] = _AFFINE) -> dict[str, str]:
    return {f"{theirs}.{part}": f"{ours}.{part}" for part in parts}


def _mapping(theirs: str, ours: str, layers: int) -> dict[str, str]:
    names = _layer(f"{theirs}.embed", f"{ours}.embed")
    for index in range(layers):
        names |= _layer(f"{theirs}.fc{index}", f"{ours}.layers.{index}")
    return names


def styled_block_names(theirs: str, ours: str, first: bool = False) -> dict[str, str]:
    """Published key -> name in ``nn.stylegan.StyledBlock``; the ``first`` block of a synthesis starts from a constant."""
    names = {f"{theirs}.const": f"{ours}.constant"} if first else {}
    for layer in ("conv1",) if first else ("conv0", "conv1"):
        names |= _layer(f"{theirs}.{layer}", f"{ours}.{layer}", (*_AFFINE, "noise_strength"))
        names[f"{theirs}.{layer}.noise_const"] = f"{ours}.{layer}.noise"
        names |= _layer(f"{theirs}.{layer}.affine", f"{ours}.{layer}.style")
    names |= _layer(f"{theirs}.torgb", f"{ours}.to_colours") | _layer(f"{theirs}.torgb.affine", f"{ours}.to_colours.style")
    return names
