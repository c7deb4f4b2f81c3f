"""All that the paper's pipeline asks its user for, made up: tiny networks with random weights, a face model, a HuBERT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from bfm_samples import synthetic_bfm
from triportrait.face.open_head import OpenHead
from triportrait.real3d.networks import build, tiny
from triportrait.weights.store import Provenance, save_weights

#: Width of the made-up HuBERT.
FEATURES = 32


def made_up_parts(folder: Path, head: OpenHead) -> dict[str, Path]:
    """Write weights, face model and HuBERT below ``folder``: {"weights", "bfm", "hubert"}."""
    import transformers

    torch.manual_seed(0)
    preset = tiny()
    preset = replace(preset, audio_to_motion=replace(preset.audio_to_motion, features=FEATURES))
    networks = build(preset)
    voice = networks.pop("audio_to_motion").state_dict()
    provenance = Provenance("made_up.ckpt", "0" * 64, "model", "1", "none")
    state = {f"{name}.{key}": tensor for name, network in networks.items() for key, tensor in network.state_dict().items()}
    save_weights(folder / "real3d_torso.safetensors", state, layout="real3d_torso", config={"preset": "tiny"}, provenance=provenance)
    config = {"audio_to_motion": {"amplitudes": ["mouth"], "features": FEATURES}}
    save_weights(folder / "real3d_a2m.safetensors", voice, layout="real3d_a2m", config=config, provenance=provenance)
    hubert = transformers.HubertConfig(
        hidden_size=FEATURES,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        feat_extract_norm="layer",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    transformers.HubertModel(hubert).save_pretrained(folder / "hubert")
    return {"weights": folder, "bfm": synthetic_bfm(folder / "bfm", head), "hubert": folder / "hubert"}
