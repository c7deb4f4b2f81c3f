"""The published Real3D-Portrait torso branch and head-torso-background super-resolution to our names (spec 1.4, 2.5, 2.6).

The trained form keeps everything. Folding it is exact but for rounding: spectral norms, batch norms behind convolutions, constant styles,
nearest-neighbour doubling into convolutions, and the torso's 1 x 1 encoder into the convolution after it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from triportrait.weights.eg3d import styled_block_names
from triportrait.weights.folding import SPECTRAL_NORM, State, fold_batch_norms, fold_spectral_norm, rename_strictly, without
from triportrait.weights.real3d_head import synthesis_block_state, unread

SUPER_RESOLUTION = "superresolution."
TORSO = "superresolution.torso_model."

_SOURCE = "Real3D-Portrait torso"
_AFFINE = ("weight", "bias")
_BATCH_NORM = (*_AFFINE, "running_mean", "running_var")
_SYNTHESIS_BLOCKS = {"block0": "double_head", "head_torso_block": "head_torso_block", "block1": "double_scene"}
#: Our names of the published layers that nothing reads.
_UNREAD = ("unread.", "motion.unread.", "torso.motion.unread.")


def torso_state(published: Mapping[str, torch.Tensor], prefix: str = TORSO) -> State:
    """State of ``composite.torso_network.TorsoNetwork``, folded.

    Args:
        published: state dict with full keys, as under ``state_dict.model``.
        prefix: what the keys of the torso start with; others are not looked at.

    Raises:
        WeightsError: a key under the prefix is unknown, or one is missing.
    """
    return fold_torso(trained_torso_state(published, prefix))


def trained_torso_state(published: Mapping[str, torch.Tensor], prefix: str = TORSO) -> State:
    """The same in the trained form: with batch and spectral norms and the layer that nothing reads."""
    return rename_strictly(_part(published, prefix), _torso_names(), f"{_SOURCE}, {prefix}*")


def fold_torso(state: Mapping[str, torch.Tensor]) -> State:
    """Trained form of ``TorsoNetwork`` to the folded form."""
    folded = fold_spectral_norm(without(state, lambda key: key.startswith(_UNREAD)))
    folded = fold_batch_norms(fold_batch_norms(folded, "conv", "norm"), "conv1", "norm2")
    doubling = [key for key in folded if re.fullmatch(r"(.*\.)?(motion|generator|detector)\.up\.\d+\.conv\.weight", key)]
    return folded | {key: doubled_phases(folded[key]) for key in doubling}


def htb_super_resolution_state(published: Mapping[str, torch.Tensor], prefix: str = SUPER_RESOLUTION) -> State:
    """State of ``composite.super_resolution_network.HtbSuperResolution``, folded.

    Args:
        published: state dict with full keys, as under ``state_dict.model``.
        prefix: what the keys of the super-resolution start with; others are not looked at.

    Raises:
        WeightsError: a key under the prefix is unknown, or one is missing.
    """
    return fold_htb_super_resolution(trained_htb_super_resolution_state(published, prefix))


def trained_htb_super_resolution_state(published: Mapping[str, torch.Tensor], prefix: str = SUPER_RESOLUTION) -> State:
    """The same in the trained form: with norms, styles and the layers that nothing reads."""
    names = _fusion_names() | {f"torso_model.{theirs}": f"torso.{ours}" for theirs, ours in _torso_names().items()}
    for theirs, ours in _SYNTHESIS_BLOCKS.items():
        names |= styled_block_names(theirs, f"{ours}.block")
    state = rename_strictly(_part(published, prefix), names, f"{_SOURCE}, {prefix}*")
    # A 1 x 1 convolution of person and background side by side is the sum of one of each; the background's does not change.
    person, background = state.pop("scene_join.weight").chunk(2, dim=1)
    return state | {"person_join.weight": person.contiguous(), "background_join.weight": background.contiguous()}


def fold_htb_super_resolution(state: Mapping[str, torch.Tensor]) -> State:
    """Trained form of ``HtbSuperResolution`` to the folded form, whatever its way of fusing."""
    blocks = {key: tensor for key, tensor in state.items() if key.partition(".")[0] in _SYNTHESIS_BLOCKS.values()}
    folded = fold_torso(without(state, lambda key: key in blocks))
    if "head_torso_join.weight" in folded:
        weight, bias = (folded.pop(f"torso_encoder.{part}") for part in _AFFINE)
        folded |= joined_encoder(weight, bias, folded["head_torso_join.weight"])
    for theirs, ours in _SYNTHESIS_BLOCKS.items():
        names = styled_block_names(theirs, f"{ours}.block")
        block = {key: blocks[name] for key, name in names.items() if name in blocks and not unread(key)}
        if block:
            block = synthesis_block_state(block, theirs, doubling=theirs != "head_torso_block")
        folded |= {f"{ours}.{key}": tensor for key, tensor in block.items()}
    return folded


def doubled_phases(weight: torch.Tensor) -> torch.Tensor:
    """Weight of ``nn.volume_conv.RepeatedConvolution`` from that of the convolution after the doubling.

    Args:
        weight: [out, c, (3,) 3, 3].

    Returns:
        [4 out, c, (3,) 2, 2]: of every three taps on a doubled picture two see the same neighbour.
    """
    weight = weight.double()
    for axis in (-2, -1):
        first, middle, last = weight.unbind(axis)
        weight = torch.cat([torch.stack([first, middle + last], axis), torch.stack([first + middle, last], axis)], 0)
    # The column's phase was put in front last, so it is the slower one of the two; the row's shall be.
    return weight.unflatten(0, (2, 2, -1)).transpose(0, 1).flatten(0, 2).float().contiguous()


def joined_encoder(weight: torch.Tensor, bias: torch.Tensor, join: torch.Tensor) -> State:
    """The torso's encoder multiplied into the second half of the convolution that joins head and torso.

    Args:
        weight, bias: [c, h, 1, 1] and [c] of the encoder; the head's alpha dims its output afterwards, so its bias becomes the weight
            of one more input channel, the dimming itself.
        join: [out, 2 c, 3, 3], head first.

    Returns:
        ``head_torso_join.weight`` [out, c + h + 1, 3, 3].
    """
    head, torso = join.double().chunk(2, dim=1)
    encoder = torch.cat([weight[..., 0, 0], bias[:, None]], dim=1).double()  # [c, h + 1]
    return {"head_torso_join.weight": torch.cat([head, torch.einsum("ockl,ch->ohkl", torso, encoder)], dim=1).float()}


def _torso_names() -> dict[str, str]:
    names = _conv_norm("appearance_extractor.in_conv", "appearance.stem")
    for index in range(2):
        names |= _conv_norm(f"appearance_extractor.down.{index}.layers.0", f"appearance.down.{index}")
        names |= _conv_norm(f"deform_based_generator.up.{index}.layers.1", f"generator.up.{index}", spectral=True)
    for index in range(6):
        names |= _residual(f"appearance_extractor.res.{index}", f"appearance.residual.{index}")
        names |= _residual(f"deform_based_generator.res.{index}", f"generator.residual.{index}", spectral=True)
    for index in range(5):
        names |= _conv_norm(f"motion_field_estimator.down.{index}.layers.0", f"motion.down.{index}")
        names |= _conv_norm(f"motion_field_estimator.up.{index}.layers.1", f"motion.up.{index}")
    names |= _conv_norm("motion_field_estimator.tgt_head_encoder.0", "motion.head_encoder.stem")
    for index in range(3):
        names |= _residual(f"motion_field_estimator.tgt_head_encoder.{index + 1}", f"motion.head_encoder.residual.{index}")
        names |= _layer(f"occlusion_2_predictor.{2 * index}", f"alpha.{2 * index}")
    names |= _conv_norm("deform_based_generator.in_conv", "generator.stem", spectral=True)
    plain = {
        "appearance_extractor.mid_conv": "appearance.lift",
        "motion_field_estimator.compress": "motion.compress",
        "motion_field_estimator.tgt_head_fuser": "motion.head_join",
        "motion_field_estimator.mask_conv": "motion.weights",
        "motion_field_estimator.occlusion_conv2": "motion.visible",
        "motion_field_estimator.occlusion_conv": "motion.unread",
        "deform_based_generator.mid_conv": "generator.mix",
        "deform_based_generator.out_conv": "generator.colour",
    }
    for theirs, ours in plain.items():
        names |= _layer(theirs, ours)
    return names


def _fusion_names() -> dict[str, str]:
    names = _layer("torso_encoder.0", "torso_encoder") | _layer("fuse_head_torso_convs.0", "head_torso_join")
    names |= _layer("fuse_head_torso_convs.2", "head_torso_mix")
    names |= {"fuse_fg_bg_convs.0.weight": "scene_join.weight", "fuse_fg_bg_convs.0.bias": "person_join.bias"}
    names |= _layer("fuse_fg_bg_convs.2", "scene_mix.0") | _layer("fuse_fg_bg_convs.4", "scene_mix.2")
    for index in (0, 2, 4):
        names |= _layer(f"bg_encoder.{index}", f"background_encoder.{index}")
        names |= _layer(f"head_torso_alpha_predictor.{index}", f"unread.{index}")
    return names


def _layer(theirs: str, ours: str, parts: tuple[str, ...] = _AFFINE) -> dict[str, str]:
    return {f"{theirs}.{part}": f"{ours}.{part}" for part in parts}


def _conv_norm(theirs: str, ours: str, *, spectral: bool = False) -> dict[str, str]:
    return _convolution(f"{theirs}.layers.0", f"{ours}.conv", spectral) | _layer(f"{theirs}.layers.1", f"{ours}.norm", _BATCH_NORM)


def _residual(theirs: str, ours: str, *, spectral: bool = False) -> dict[str, str]:
    names: dict[str, str] = {}
    for index in range(2):
        names |= _layer(f"{theirs}.layers.{index}.layers.0", f"{ours}.norm{index + 1}", _BATCH_NORM)
        names |= _convolution(f"{theirs}.layers.{index}.layers.2", f"{ours}.conv{index + 1}", spectral)
    return names


def _convolution(theirs: str, ours: str, spectral: bool) -> dict[str, str]:
    if not spectral:
        return _layer(theirs, ours)
    return {f"{theirs}.{a}": f"{ours}.{b}" for a, b in ({"bias": "bias"} | SPECTRAL_NORM).items()}


def _part(published: Mapping[str, torch.Tensor], prefix: str) -> State:
    part = {key.removeprefix(prefix): tensor for key, tensor in published.items() if key.startswith(prefix)}
    return without(part, lambda key: key.endswith(("num_batches_tracked", "resample_filter")))
