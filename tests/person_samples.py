"""Files of a made-up person of Talk3D: tiny networks with random weights, and an EG3D to invert into."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from triportrait.real3d.decoder import Decoder
from triportrait.real3d.eg3d_prior import Prior
from triportrait.talk3d import networks as talk3d
from triportrait.weights.store import Provenance, save_weights

PROVENANCE = Provenance("made_up", "0" * 64, "model", "1", "none")
#: 64 px pictures of a 16 px render, as small as training tries things.
PRIOR = Prior.Config(
    latent=8,
    style=16,
    plane_side=32,
    plane_channels=8,
    layout="eg3d_fixed",
    base_channels=64,
    most_channels=8,
    render_side=16,
    super_channels=(8, 8),
)
DECODER = Decoder.Config(8, 16, 8)
VOLUME = {"size_px": 16, "coarse": 8, "fine": 8}


def generator_state(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    networks = {"prior": Prior(PRIOR), "decoder": Decoder(DECODER)}
    return {f"{name}.{key}": tensor for name, network in networks.items() for key, tensor in network.state_dict().items()}


def made_up_prior(folder: Path, layout: str = "eg3d") -> Path:
    """A generator as 'triportrait weights import' leaves it."""
    path = folder / f"{layout}.safetensors"
    config = {"prior": asdict(PRIOR), "decoder": asdict(DECODER), "volume": VOLUME}
    save_weights(path, generator_state(), layout=layout, config=config, provenance=PROVENANCE)
    return path


def made_up_person(folder: Path, classes: int = 44, frames: int = 6) -> Path:
    """All files of a person, with a delta plane that moves, and the recogniser beside them."""
    import transformers

    made_up_prior(folder, "talk3d_generator")
    torch.manual_seed(1)
    sizes = talk3d.tiny(classes)
    networks = talk3d.build(sizes)
    torch.nn.init.ones_(networks["delta_plane"].gate)
    state = {f"{name}.{key}": tensor for name, network in networks.items() for key, tensor in network.state_dict().items()}
    angles = torch.stack([torch.linspace(-0.2, 0.2, frames), torch.linspace(-0.05, 0.05, frames)], 1)
    files = {"talk3d": state, "talk3d_person": {"style": torch.randn(PRIOR.style)}, "talk3d_cameras": {"angles_rad": angles}}
    for layout, tensors in files.items():
        config = {"sizes": asdict(sizes)} if layout == "talk3d" else {}
        save_weights(folder / f"{layout}.safetensors", tensors, layout=layout, config=config, provenance=PROVENANCE)
    recogniser = transformers.Wav2Vec2Config(
        vocab_size=classes,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        feat_extract_norm="layer",
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    transformers.Wav2Vec2ForCTC(recogniser).save_pretrained(folder / "wav2vec2")
    return folder
