"""Published audio-to-motion checkpoint of Real3D-Portrait (``audio2secc_vae``) to the names of ``PaperAudioToMotion``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from triportrait.weights.folding import WEIGHT_NORM, State, fold_weight_norm, rename_strictly, without

_SOURCE = "Real3D-Portrait audio-to-motion"
_WAVENET = {"in_layers": "gates", "res_skip_layers": "outputs"}


def audio_to_motion_config(published: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What the keys say about the variant: keyword arguments of ``PaperAudioToMotion.Config``."""
    amplitudes = tuple(name for name in ("mouth", "eye") if f"{name}_amp_embed" in published)
    return {"amplitudes": amplitudes}


def audio_to_motion_state(published: Mapping[str, torch.Tensor]) -> State:
    """Our state dict, folded.

    Args:
        published: ``checkpoint["state_dict"]["model"]``.

    Raises:
        WeightsError: a key is missing or unknown.
    """
    return fold_weight_norm(trained_audio_to_motion_state(published))


def trained_audio_to_motion_state(published: Mapping[str, torch.Tensor]) -> State:
    """The same in the trained form, with weight norms; :func:`triportrait.weights.folding.fold_weight_norm` folds it."""
    state = without(published, lambda key: key.endswith("num_batches_tracked"))
    return rename_strictly(state, _names(audio_to_motion_config(published)["amplitudes"]), _SOURCE)


def _names(amplitudes: tuple[str, ...]) -> dict[str, str]:
    names = {"pitch_embed.weight": "pitch_table.weight", "blink_embed.weight": "blink_table.weight"}
    names |= {f"{name}_amp_embed": f"amplitudes.{name}" for name in amplitudes}
    for theirs, ours in (("mel_encoder", "speech_encoder"), ("pitch_encoder", "pitch_encoder")):
        for layer in ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var", "3.weight"):
            names[f"{theirs}.{layer}"] = f"{ours}.layers.{layer}"
    names |= _layer("cond_proj", "condition") | _layer("vae.g_pre_net.0", "squeeze")
    for coder, layers in (("encoder", 8), ("decoder", 4)):
        names |= _layer(f"vae.{coder}.pre_net.0", f"{coder}_in")
        names |= _wavenet(f"vae.{coder}.wn", coder, layers)
        names |= _layer(f"vae.{coder}.out_proj", f"{coder}_out")
    for step in range(4):
        theirs, ours = f"vae.prior_flow.flows.{2 * step}", f"flow.steps.{step}"
        names |= _layer(f"{theirs}.pre", f"{ours}.before") | _layer(f"{theirs}.post", f"{ours}.after")
        names |= _wavenet(f"{theirs}.enc", f"{ours}.wavenet", 4)
    return names


def _layer(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{part}": f"{ours}.{part}" for part in ("weight", "bias")}


def _wavenet(theirs: str, ours: str, layers: int) -> dict[str, str]:
    names = _normed(f"{theirs}.cond_layer", f"{ours}.condition")
    for their_list, our_list in _WAVENET.items():
        for index in range(layers):
            names |= _normed(f"{theirs}.{their_list}.{index}", f"{ours}.{our_list}.{index}")
    return names


def _normed(theirs: str, ours: str) -> dict[str, str]:
    return {f"{theirs}.{a}": f"{ours}.{b}" for a, b in ({"bias": "bias"} | WEIGHT_NORM).items()}
