"""One frame of Talk3D at its published sizes on formula-filled weights: what this code gave once, it gives again.

The single networks are held against the published modules' outputs in test_talk3d.py and test_eg3d.py. This file holds how they are joined
(styles, plane layout, cameras, bounds of the rays), for which there is no outside reference.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from golden_folder import HERE, check_digest, golden_fill, key_list
from triportrait.real3d.decoder import Decoder
from triportrait.real3d.eg3d_prior import Prior
from triportrait.real3d.volume import VolumeRenderer
from triportrait.talk3d.model import PersonalAvatar, PersonalFrame
from triportrait.talk3d.networks import build, personal
from triportrait.talk3d.person import BOUNDS, cameras_of_angles, make_person
from triportrait.weights.eg3d import eg3d_state
from triportrait.weights.talk3d import REST, talk3d_state


def parts(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in state.items() if key.startswith(f"{name}.")}


@torch.no_grad()
def frame() -> dict[str, torch.Tensor]:
    """Delta plane, and features and alpha of the volume, of one row."""
    fill = golden_fill()
    shapes = {key: shape for key, shape in key_list("eg3d.json")["G"].items() if key != "dataset_label_std"}
    generator = eg3d_state(fill.fill_state({key: torch.zeros(shape) for key, shape in shapes.items()}, "unit"))
    published = {REST: fill.noise_in((1, 1, 64), 2)}
    for network, keys in key_list("talk3d.json").items():
        filled = fill.fill_state({key: torch.zeros(shape) for key, shape in keys.items()}, "fan_in")
        published |= {f"{network}.{key}": tensor for key, tensor in filled.items()}
    state = talk3d_state(published)
    with torch.device("meta"):
        prior, decoder, networks = Prior(Prior.Config(layout="eg3d_fixed")), Decoder(), build(personal())
    prior.load_state_dict(parts(generator, "prior"), assign=True)
    decoder.load_state_dict(parts(generator, "decoder"), assign=True)
    for name, network in networks.items():
        network.load_state_dict(parts(state, name), assign=True)
        network.eval()
    styles = fill.noise_in((1, 1, 512), 11).expand(1, prior.synthesis.layers, -1)
    cameras = cameras_of_angles(torch.tensor([[0.3, -0.1], [-0.2, 0.05]]).numpy())
    person = make_person(prior.planes(styles), styles, cameras, None, None)
    avatar = PersonalAvatar(
        networks["tokens"], networks["delta_plane"], VolumeRenderer(decoder, VolumeRenderer.Config(bounds=BOUNDS)), person
    )
    still = torch.zeros(44).numpy(), torch.zeros(3).numpy(), torch.zeros(3).numpy(), torch.zeros(2).numpy()
    row = PersonalFrame(
        *still,
        speech=fill.noise_in((8, 44, 16), 1).numpy(),
        camera=cameras[0],
        rotation_deg=torch.tensor([3.0, -7.0, 1.5]).numpy(),
        points=torch.tensor([[0.01, -0.2], [0.3, -0.25], [-0.3, -0.24]]).numpy(),
    )
    change = avatar.planes([row], [avatar.placed(row)]).planes - person.planes.planes
    seen = avatar.look([row])
    return {"delta_plane": change, "features": seen.features, "alpha": seen.alpha}


@pytest.mark.parametrize("reference", [json.loads((HERE / "golden_talk3d_frame.json").read_text())], ids=["ours"])
def test_a_frame_is_what_it_was(reference: dict[str, Any]) -> None:
    """About 8 CPU seconds: published sizes, filled by a formula."""
    for name, tensor in frame().items():
        check_digest(tensor, reference[name])
