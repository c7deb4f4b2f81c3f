"""The published Real3D-Portrait torso branch and head-torso-background super-resolution to our names (spec 1.4, 2.5, 2.6).

Folded on the way, all exact but for rounding: spectral norms, batch norms behind convolutions, constant styles, nearest-neighbour doubling
into convolutions, and the torso's 1 x 1 encoder into the convolution after it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from triportrait.weights.folding import State, fold_batch_norm, fold_spectral_norm, rename_strictly, without
from triportrait.weights.real3d_head import synthesis_block_state, unread

SUPER_RESOLUTION = "superresolution."
TORSO = "superresolution.torso_model."

_SOURCE = "Real3D-Portrait torso"
_AFFINE = ("weight", "bias")
_BATCH_NORM = (*_AFFINE, "running_mean", "running_var")
_SYNTHESIS_BLOCKS = {"block0": "double_head", "head_torso_block": "head_torso_block", "block1": "double_scene"}
#: Published layers that only another fusion (v3) reads, and a map that nothing reads.
_UNREAD = ("head_torso_alpha_predictor.", "motion_field_estimator.occlusion_conv.")


def torso_state(published: Mapping[str, torch.Tensor], prefix: str = TORSO) -> State:
    """State of ``composite.torso_network.TorsoNetwork``, folded.

    Args:
        published: state dict with full keys, as under ``state_dict.model``.
        prefix: what the keys of the torso start with; others are not looked at.

    Raises:
        WeightsError: a key under the prefix is unknown, or one is missing.
    """
    state = rename_strictly(fold_spectral_norm(_part(published, prefix)), _torso_names(), f"{_SOURCE}, {prefix}*")
    for stem in [key.removesuffix(".norm.running_var") for key in state if key.endswith(".norm.running_var")]:
        state = fold_batch_norm(state, f"{stem}.conv", f"{stem}.norm")
    for stem in [key.removesuffix(".norm2.running_var") for key in state if key.endswith(".norm2.running_var")]:
        state = fold_batch_norm(state, f"{stem}.conv1", f"{stem}.norm2")
    doubling = [f"{part}.up.{index}.conv.weight" for part, layers in (("motion", 5), ("generator", 2)) for index in range(layers)]
    return state | {key: doubled_phases(state[key]) for key in doubling}


def htb_super_resolution_state(published: Mapping[str, torch.Tensor], prefix: str = SUPER_RESOLUTION) -> State:
    """State of ``composite.super_resolution_network.HtbSuperResolution``, folded.

    Args:
        published: state dict with full keys, as under ``state_dict.model``.
        prefix: what the keys of the super-resolution start with; others are not looked at.

    Raises:
        WeightsError: a key under the prefix is unknown, or one is missing.
    """
    part = _part(published, prefix)
    torso = {key: tensor for key, tensor in part.items() if key.startswith("torso_model.")}
    blocks = {key: tensor for key, tensor in part.items() if key.partition(".")[0] in _SYNTHESIS_BLOCKS}
    rest = without(part, lambda key: key in torso or key in blocks)
    state = rename_strictly(rest, _fusion_names(), f"{_SOURCE}, {prefix}*")
    state |= joined_encoder(*(state.pop(f"torso_encoder.{part}") for part in _AFFINE), state["head_torso_join.weight"])
    # A 1 x 1 convolution of person and background side by side is the sum of one of each; the background's does not change.
    person, background = state.pop("scene_join.weight").chunk(2, dim=1)
    state |= {"person_join.weight": person.contiguous(), "background_join.weight": background.contiguous()}
    state |= {f"torso.{key}": tensor for key, tensor in torso_state(torso, "torso_model.").items()}
    for theirs, ours in _SYNTHESIS_BLOCKS.items():
        block = synthesis_block_state(_only(blocks, theirs), theirs, doubling=theirs != "head_torso_block")
        state |= {f"{ours}.{key}": tensor for key, tensor in block.items()}
    return state


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
        names |= _conv_norm(f"deform_based_generator.up.{index}.layers.1", f"generator.up.{index}")
    for index in range(6):
        names |= _residual(f"appearance_extractor.res.{index}", f"appearance.residual.{index}")
        names |= _residual(f"deform_based_generator.res.{index}", f"generator.residual.{index}")
    for index in range(5):
        names |= _conv_norm(f"motion_field_estimator.down.{index}.layers.0", f"motion.down.{index}")
        names |= _conv_norm(f"motion_field_estimator.up.{index}.layers.1", f"motion.up.{index}")
    names |= _conv_norm("motion_field_estimator.tgt_head_encoder.0", "motion.head_encoder.stem")
    for index in range(3):
        names |= _residual(f"motion_field_estimator.tgt_head_encoder.{index + 1}", f"motion.head_encoder.residual.{index}")
        names |= _layer(f"occlusion_2_predictor.{2 * index}", f"alpha.{2 * index}")
    names |= _conv_norm("deform_based_generator.in_conv", "generator.stem")
    plain = {
        "appearance_extractor.mid_conv": "appearance.lift",
        "motion_field_estimator.compress": "motion.compress",
        "motion_field_estimator.tgt_head_fuser": "motion.head_join",
        "motion_field_estimator.mask_conv": "motion.weights",
        "motion_field_estimator.occlusion_conv2": "motion.visible",
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
    return names


def _layer(theirs: str, ours: str, parts: tuple[str, ...] = _AFFINE) -> dict[str, str]:
    return {f"{theirs}.{part}": f"{ours}.{part}" for part in parts}


def _conv_norm(theirs: str, ours: str) -> dict[str, str]:
    return _layer(f"{theirs}.layers.0", f"{ours}.conv") | _layer(f"{theirs}.layers.1", f"{ours}.norm", _BATCH_NORM)


def _residual(theirs: str, ours: str) -> dict[str, str]:
    names: dict[str, str] = {}
    for index in range(2):
        names |= _layer(f"{theirs}.layers.{index}.layers.0", f"{ours}.norm{index + 1}", _BATCH_NORM)
        names |= _layer(f"{theirs}.layers.{index}.layers.2", f"{ours}.conv{index + 1}")
    return names


def _only(state: Mapping[str, torch.Tensor], layer: str) -> State:
    return {key: tensor for key, tensor in state.items() if key.startswith(f"{layer}.")}


def _part(published: Mapping[str, torch.Tensor], prefix: str) -> State:
    part = {key.removeprefix(prefix): tensor for key, tensor in published.items() if key.startswith(prefix)}

    def dropped(key: str) -> bool:
        return unread(key) or key.endswith("num_batches_tracked") or key.removeprefix("torso_model.").startswith(_UNREAD)

    return without(part, dropped)
