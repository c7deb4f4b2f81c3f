"""The published Real3D-Portrait head to our names: image-to-plane, motion adapter, decoder, super-resolution (spec 1.4, 2.1 to 2.4).

Each ``..._state`` function reads its part of a published state dict (full keys, as under ``state_dict.model``) and multiplies in what
never changes: the gains of equalised layers, the style (the published networks only ever receive ones) and the activations' gain.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from triportrait.errors import WeightsError
from triportrait.weights.folding import State, rename_strictly, without

IMAGE_TO_PLANE = "cano_img2plane_backbone."
MOTION_ADAPTER = "secc_img2plane_backbone."
DECODER = "decoder."
SUPER_RESOLUTION = "superresolution."

_SOURCE = "Real3D-Portrait head"
_AFFINE = ("weight", "bias")
_BATCH_NORM = (*_AFFINE, "running_mean", "running_var", "num_batches_tracked")

#: Layers of a SegFormer block: published name -> ours.
_TOKEN_BLOCK = {
    "norm1": "norm1",
    "attn.q": "attention.query",
    "attn.kv": "attention.key_value",
    "attn.proj": "attention.projection",
    "norm2": "norm2",
    "mlp.fc1": "mlp.expand",
    "mlp.dwconv.dwconv": "mlp.depthwise",
    "mlp.fc2": "mlp.contract",
}
#: The two that only blocks with reduced keys have.
_REDUCTION = {"attn.sr": "attention.reduce", "attn.norm": "attention.reduce_norm"}

#: Tensors of a StyleGAN2 block that a picture depends on.
_SYNTHESIS = tuple(
    f"{layer}.{name}" for layer in ("conv0", "conv1", "torgb") for name in ("weight", "bias", "affine.weight", "affine.bias")
)

#: Published tensors that no picture depends on: filters that are our code, noise that is off, weights of training losses.
_UNREAD = re.compile(r".*resample_filter|.*noise_const|.*noise_strength|lambda_pertube_(blink_)?secc")


def unread(key: str) -> bool:
    """Whether no picture depends on the published ``key``."""
    return _UNREAD.fullmatch(key) is not None


def head_state(published: Mapping[str, torch.Tensor]) -> State:
    """The whole head, our names prefixed ``image_to_plane.``, ``motion_adapter.``, ``decoder.`` and ``super_resolution.``.

    Args:
        published: ``checkpoint["state_dict"]["model"]`` of the head model.

    Raises:
        WeightsError: a key is missing or unknown.
    """
    prefixes = (IMAGE_TO_PLANE, MOTION_ADAPTER, DECODER, SUPER_RESOLUTION)
    for key in published:
        if not key.startswith(prefixes) and not unread(key):
            raise WeightsError(f"{_SOURCE}: key {key!r} is unknown; give a published file of this kind")
    parts = {
        "image_to_plane": image_to_plane_state(published),
        "motion_adapter": motion_adapter_state(published),
        "decoder": decoder_state(published),
        "super_resolution": super_resolution_state(published),
    }
    return {f"{part}.{key}": tensor for part, state in parts.items() for key, tensor in state.items()}


def image_to_plane_config(published: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What the keys say about the variant: keyword arguments of ``ImageToPlane.Config``."""
    return {
        "low_blocks": _count(published, rf"{re.escape(IMAGE_TO_PLANE)}low_reso_vit\.block(\d+)\..*"),
        "predictor_blocks": _count(published, rf"{re.escape(IMAGE_TO_PLANE)}triplane_predictor_vit\.block(\d+)\..*"),
    }


def image_to_plane_state(published: Mapping[str, torch.Tensor]) -> State:
    """State of ``avatar.image_to_plane.ImageToPlane``."""
    names = _image_to_plane_names(**image_to_plane_config(published))
    return rename_strictly(_part(published, IMAGE_TO_PLANE), names, f"{_SOURCE}, {IMAGE_TO_PLANE}*")


def motion_adapter_state(published: Mapping[str, torch.Tensor]) -> State:
    """State of ``avatar.motion_adapter.MotionAdapter``; the equalised rate of its first layer is multiplied in."""
    state = rename_strictly(_part(published, MOTION_ADAPTER), _motion_adapter_names(), f"{_SOURCE}, {MOTION_ADAPTER}*")
    state["squeeze.weight"] = _equalised(state["squeeze.weight"])
    state["fuse.mix.weight"] = state["fuse.mix.weight"].flatten(1)
    return state


def decoder_state(published: Mapping[str, torch.Tensor]) -> State:
    """State of ``render.decoder.Decoder``; the equalised rates are multiplied in."""
    names = _layer("net.0", "hidden") | _layer("net.2", "out")
    state = rename_strictly(_part(published, DECODER), names, f"{_SOURCE}, {DECODER}*")
    return {key: _equalised(tensor) if key.endswith("weight") else tensor for key, tensor in state.items()}


def super_resolution_state(published: Mapping[str, torch.Tensor]) -> State:
    """State of ``render.super_resolution.SuperResolution``; style and gains are multiplied in."""
    blocks = _count(published, rf"{re.escape(SUPER_RESOLUTION)}block(\d+)\..*")
    names = {f"block{i}.{key}": f"block{i}.{key}" for i in range(blocks) for key in _SYNTHESIS}
    state = rename_strictly(_part(published, SUPER_RESOLUTION), names, f"{_SOURCE}, {SUPER_RESOLUTION}*")
    return {f"blocks.{i}.{key}": tensor for i in range(blocks) for key, tensor in synthesis_block_state(state, f"block{i}").items()}


def synthesis_block_state(published: Mapping[str, torch.Tensor], block: str, *, doubling: bool = True) -> State:
    """State of ``nn.synthesis.SynthesisBlock`` from a StyleGAN2 block whose style never changes.

    Args:
        published: state dict that holds the block.
        block: prefix of its keys, without the last dot.
        doubling: the block's first convolution doubles the size (ours then has its weight transposed).

    Raises:
        WeightsError: a tensor is missing.
    """
    needed = {f"{block}.{key}": key for key in _SYNTHESIS}
    state = rename_strictly({key: published[key] for key in needed if key in published}, needed, f"{_SOURCE}, {block}")
    folded: State = {}
    for layer in ("conv0", "conv1"):
        weight = _styled(state, layer)
        weight = weight * torch.rsqrt(weight.square().sum((1, 2, 3), keepdim=True) + 1e-8)  # demodulation
        # A leaky ReLU is positively homogeneous: the gain after it is as good before it.
        weight = weight * math.sqrt(2.0)
        folded[f"{layer}.weight"] = (weight.transpose(0, 1) if doubling and layer == "conv0" else weight).contiguous()
        folded[f"{layer}.bias"] = state[f"{layer}.bias"] * math.sqrt(2.0)
    weight = _styled(state, "torgb")
    return folded | {"to_colours.weight": weight / math.sqrt(weight.shape[1]), "to_colours.bias": state["torgb.bias"]}


def _image_to_plane_names(low_blocks: int, predictor_blocks: int) -> dict[str, str]:
    names = {"low_reso_encoder.encoder.conv1.weight": "encoder.stem.weight"}
    names |= _layer("low_reso_encoder.encoder.bn1", "encoder.stem_norm", _BATCH_NORM)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            theirs, ours = f"low_reso_encoder.encoder.layer{stage + 1}.{block}", f"encoder.stages.{stage}.{block}"
            for number in (1, 2):
                names[f"{theirs}.conv{number}.weight"] = f"{ours}.conv{number}.weight"
                names |= _layer(f"{theirs}.bn{number}", f"{ours}.norm{number}", _BATCH_NORM)
            if stage > 0 and block == 0:
                names[f"{theirs}.downsample.0.weight"] = f"{ours}.shortcut.0.weight"
                names |= _layer(f"{theirs}.downsample.1", f"{ours}.shortcut.1", _BATCH_NORM)
    for branch in range(4):
        names[f"low_reso_encoder.decoder.0.convs.{branch}.0.weight"] = f"encoder.pyramid.branches.{branch}.weight"
    names["low_reso_encoder.decoder.0.convs.4.1.weight"] = "encoder.pyramid.pooled.weight"
    names["low_reso_encoder.decoder.0.project.0.weight"] = "encoder.pyramid.join.weight"
    names["low_reso_encoder.decoder.1.weight"] = "encoder.out.weight"

    names |= _embedding("low_reso_vit.patch_embed", "low.embed")
    for block in range(low_blocks):
        names |= _layers(f"low_reso_vit.block{block + 1}", f"low.blocks.{block}", _TOKEN_BLOCK)
    names |= _layers("low_reso_vit", "low", {"conv_after_upsample1": "conv1", "conv_after_upsample2": "conv2", "final_conv": "out"})

    names |= _layers("high_reso_encoder", "detail", {"first": "stem", "final": "out"})
    for layer in range(4):
        # Convolutions and activations alternate in the published list.
        names |= _layer(f"high_reso_encoder.conv_layers.{2 * layer}", f"detail.layers.{layer}")

    names |= _embedding("triplane_predictor_vit.patch_embed", "predictor.embed")
    for block in range(predictor_blocks):
        names |= _layers(f"triplane_predictor_vit.block{block + 1}", f"predictor.blocks.{block}", _TOKEN_BLOCK | _REDUCTION)
    joined = {"first_conv": "conv1", "second_conv": "conv2", "final_conv": "out"}
    joined |= {"first_conv_after_cat": "merge1", "second_conv_after_cat": "merge2", "third_conv_after_cat": "merge3"}
    return names | _layers("triplane_predictor_vit", "predictor", joined)


def _motion_adapter_names() -> dict[str, str]:
    names = _layer("prenet", "squeeze")
    for stage in range(4):
        names |= _embedding(f"mix_vit.patch_embed{stage + 1}", f"stages.{stage}.embed")
        # The last stage attends to every token.
        layers = _TOKEN_BLOCK | (_REDUCTION if stage < 3 else {})
        for block in range(2):
            names |= _layers(f"mix_vit.block{stage + 1}.{block}", f"stages.{stage}.blocks.{block}", layers)
        names |= _layer(f"mix_vit.norm{stage + 1}", f"stages.{stage}.norm")
        names |= _layer(f"fuse_head.linear_c{stage + 1}.proj", f"fuse.project.{stage}")
    names["fuse_head.linear_fuse.conv.weight"] = "fuse.mix.weight"
    names |= _layer("fuse_head.linear_fuse.bn", "fuse.norm", _BATCH_NORM)
    for layer in range(3):
        names |= _layer(f"to_plane_cnn.{2 * layer}", f"layers.{layer}")
    return names | _layer("to_plane_cnn.7", "out")


def _layer(theirs: str, ours: str, parts: tuple[str, ...] = _AFFINE) -> dict[str, str]:
    return {f"{theirs}.{part}": f"{ours}.{part}" for part in parts}


def _layers(theirs: str, ours: str, layers: Mapping[str, str]) -> dict[str, str]:
    return {key: name for a, b in layers.items() for key, name in _layer(f"{theirs}.{a}", f"{ours}.{b}").items()}


def _embedding(theirs: str, ours: str) -> dict[str, str]:
    return _layers(theirs, ours, {"proj": "projection", "norm": "norm"})


def _part(published: Mapping[str, torch.Tensor], prefix: str) -> State:
    part = {key.removeprefix(prefix): tensor for key, tensor in published.items() if key.startswith(prefix)}
    return without(part, unread)


def _count(published: Mapping[str, torch.Tensor], pattern: str) -> int:
    """How many different numbers the group of ``pattern`` takes."""
    return len({match[1] for key in published if (match := re.fullmatch(pattern, key))})


def _equalised(weight: torch.Tensor) -> torch.Tensor:
    """A weight that the published layer multiplies by 1 / sqrt(inputs per output) whenever it runs."""
    return weight * (1.0 / math.sqrt(weight[0].numel()))


def _styled(state: Mapping[str, torch.Tensor], layer: str) -> torch.Tensor:
    """Weight [out, in, k, k] of a modulated convolution times the style that w = ones gives (StyleGAN2, section 2.2)."""
    affine = state[f"{layer}.affine.weight"]  # equalised: [in, w]
    style = affine.sum(1) / math.sqrt(affine.shape[1]) + state[f"{layer}.affine.bias"]
    return state[f"{layer}.weight"] * style[:, None, None]
