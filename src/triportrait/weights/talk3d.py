"""Talk3D's published checkpoints of one person to our names (spec A.4, A.8).

What its authors keep apart lies together here: three planes, and queries, keys and values, behind each other along the first axis.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from triportrait.weights.eg3d import read_keys, super_resolution_names
from triportrait.weights.folding import State, fold_batch_norms, rename_strictly, without

#: The person's own numbers that belong to no network.
REST = "null_vector"
POSITION = "deltaplane_predictor.transformer.0.pos_emb"

_PLANES = ("xy", "yz", "zx")
_AFFINE = ("weight", "bias")
_BATCH_NORM = (*_AFFINE, "running_mean", "running_var")
_SOURCE = "Talk3D"
_TUNED = "superresolution."
#: Landmarks that the networks are shown, of the six that are tracked: nose tip, outer corner of the left and of the right eye.
_SHOWN = (0, 2, 3)


def talk3d_state(published: Mapping[str, torch.Tensor]) -> State:
    """State of ``talk3d.delta_plane.PersonalDeltaPlane`` under ``delta_plane.``, folded, of ``talk3d.tokens.PersonalTokens`` under
    ``tokens.``, and of ``real3d.eg3d_prior.Prior.super_resolution`` under ``super_resolution.`` where the file has a tuned one.

    Args:
        published: the five networks, each under its name, :data:`REST`, and maybe the tuned super-resolution.

    Raises:
        WeightsError: a key is missing or unknown.
    """
    tuned = {key: tensor for key, tensor in published.items() if key.startswith(_TUNED)}
    state = fold_batch_norms(trained_talk3d_state(without(published, lambda key: key in tuned)), "conv", "norm")
    return state | (rename_strictly(read_keys(tuned), super_resolution_names("super_resolution"), _SOURCE) if tuned else {})


def trained_talk3d_state(published: Mapping[str, torch.Tensor]) -> State:
    """The same with the batch norms as they are, without a super-resolution."""
    parts = talk3d_parts()
    # Filters that are our code, and counters that nothing reads.
    read = without(published, lambda key: key.endswith(("resample_filter", "num_batches_tracked")))
    named = rename_strictly(read, {key: key for keys in parts.values() for key in keys}, _SOURCE)
    state = {ours: torch.cat([named[key] for key in keys]) for ours, keys in parts.items() if len(keys) > 1}
    state |= {ours: named[keys[0]] for ours, keys in parts.items() if len(keys) == 1}
    place, rest = "delta_plane.transformer.position", "tokens.rest"
    position = state[place].unflatten(2, (len(_PLANES), -1))[0].transpose(0, 1).contiguous()  # [3, n, c]
    return state | {place: position, rest: state[rest].flatten()}


def talk3d_track(published: torch.Tensor) -> tuple[str, State] | None:
    """What one array of a person is, by its shape (spec A.2): the layout and its tensors, or None for anything else.

    Args:
        published: [1, 512] the style w, [n, 2] cameras as yaw and pitch in radians, [n, 3] turns of the head in degrees, or [n, 6, 2]
            landmarks in -1..1.
    """
    shape, numbers = tuple(published.shape), published.float()
    if shape == (1, 512):
        return "talk3d_person", {"style": numbers[0]}
    if len(shape) == 2 and shape[0] and shape[1] == 2:
        return "talk3d_cameras", {"angles_rad": numbers}
    if len(shape) == 2 and shape[0] and shape[1] == 3:
        return "talk3d_rotation", {"rotation_deg": numbers}
    if len(shape) == 3 and shape[0] and shape[1:] == (6, 2):
        return "talk3d_landmarks", {"landmarks": numbers[:, list(_SHOWN)].contiguous()}
    return None


def talk3d_parts() -> dict[str, tuple[str, ...]]:
    """Our key -> the published ones that lie behind each other in it."""
    parts: dict[str, tuple[str, ...]] = {"tokens.rest": (REST,), "delta_plane.transformer.position": (POSITION,)}
    for index in range(4):
        parts |= _layer(f"tokens.speech.convolutions.{index}", f"audio_net.encoder_conv.{2 * index}")
    parts |= _layer("tokens.speech.hidden", "audio_net.encoder_fc1.0") | _layer("tokens.speech.out", "audio_net.encoder_fc1.2")
    for index in range(5):
        parts |= _layer(f"tokens.speech_attention.convolutions.{index}", f"audio_att_net.attentionConvNet.{2 * index}")
    parts |= _layer("tokens.speech_attention.weights", "audio_att_net.attentionNet.0")
    encoders = {"lids": "blink_encoder.simplemlp", "rotation": "camera_encoder.encoder1", "landmarks": "camera_encoder.encoder2"}
    for ours, theirs in encoders.items():
        for index, layer in enumerate(("in_layer", "mlp_layers.0", "mlp_layers.1")):
            parts |= _layer(f"tokens.{ours}.layers.{index}", f"{theirs}.{layer}")
    for ours, theirs in (("down", "Downnet"), ("up", "Upnet")):
        for index in range(3):
            parts |= _convolutions(f"delta_plane.{ours}.{index}", f"deltaplane_predictor.{theirs}.{theirs}{index + 1}")
    return parts | _transformer("delta_plane.transformer", "deltaplane_predictor.transformer.0")


def _convolutions(ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    parts: dict[str, tuple[str, ...]] = {}
    for index in range(2):
        parts |= _planes(f"{ours}.conv{index}.conv", f"{theirs}_{{}}.conv{index}")
        parts |= _planes(f"{ours}.conv{index}.norm", f"{theirs}_{{}}.bn{index}", _BATCH_NORM)
    return parts


def _transformer(ours: str, theirs: str) -> dict[str, tuple[str, ...]]:
    parts = _planes(f"{ours}.norm", f"{theirs}.norm.GN_{{}}") | _planes(f"{ours}.enter", f"{theirs}.proj_in.lin_{{}}")
    for index in range(2):
        block, published = f"{ours}.blocks.{index}", f"{theirs}.transformer_blocks.{index}"
        for norm in ("norm1", "norm2", "norm3"):
            parts |= _planes(f"{block}.{norm}", f"{published}.{norm}.norm_{{}}")
        attention = [f"{published}.attn1.att_{plane}.to_{name}.weight" for plane in _PLANES for name in "qkv"]
        parts[f"{block}.attention.query_key_value.weight"] = tuple(attention)
        parts |= _planes(f"{block}.attention.projection", f"{published}.attn1.att_{{}}.to_out.0")
        parts[f"{block}.drive.query.weight"] = (f"{published}.attn2.to_q.weight",)
        parts[f"{block}.drive.key_value.weight"] = tuple(f"{published}.attn2.to_{name}.weight" for name in "kv")
        parts |= _layer(f"{block}.drive.projection", f"{published}.attn2.to_out.0")
        parts |= _planes(f"{block}.mlp.expand", f"{published}.ff.ff_{{}}.net.0.proj")
        parts |= _planes(f"{block}.mlp.contract", f"{published}.ff.ff_{{}}.net.2")
    return parts


def _layer(ours: str, theirs: str, names: tuple[str, ...] = _AFFINE) -> dict[str, tuple[str, ...]]:
    return {f"{ours}.{name}": (f"{theirs}.{name}",) for name in names}


def _planes(ours: str, theirs: str, names: tuple[str, ...] = _AFFINE) -> dict[str, tuple[str, ...]]:
    """``theirs`` has braces where the plane's name stands."""
    return {f"{ours}.{name}": tuple(f"{theirs.format(plane)}.{name}" for plane in _PLANES) for name in names}
