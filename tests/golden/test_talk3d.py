"""Talk3D's networks against the published modules' outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from golden_folder import check_digest, golden, golden_fill, key_list
from triportrait.talk3d.delta_plane import PersonalDeltaPlane, position_encoding
from triportrait.talk3d.tokens import PersonalTokens
from triportrait.weights.talk3d import REST, talk3d_state

ROTATION_DEG = (3.0, -7.0, 1.5)
LANDMARKS = ((0.01, -0.2), (0.3, -0.25), (-0.3, -0.24))


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return golden("golden_talk3d.json")


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """A person's checkpoint: every network filled alone, and the token of rest."""
    networks = key_list("talk3d.json")
    fill = golden_fill()
    state = {REST: fill.noise_in((1, 1, 64), 2)}
    for network, shapes in networks.items():
        filled = fill.fill_state({key: torch.zeros(shape) for key, shape in shapes.items()}, "fan_in")
        state |= {f"{network}.{key}": tensor for key, tensor in filled.items()}
    return state


@pytest.fixture(scope="module")
def encoders(published: dict[str, torch.Tensor]) -> PersonalTokens:
    network = PersonalTokens(PersonalTokens.Config())
    state = {key: tensor for key, tensor in talk3d_state(published).items() if key.startswith("tokens.")}
    network.load_state_dict({key.removeprefix("tokens."): tensor for key, tensor in state.items()})
    return network.eval().requires_grad_(False)


def speech() -> torch.Tensor:
    return golden_fill().noise_in((8, 44, 16), 1)


def tokens_of(encoders: PersonalTokens) -> torch.Tensor:
    return encoders(speech()[None], torch.tensor([0.7]), torch.tensor([ROTATION_DEG]), torch.tensor([LANDMARKS]))


def test_voice(encoders: PersonalTokens, reference: dict[str, Any]) -> None:
    vectors = encoders.speech(speech())
    check_digest(vectors, reference["audio_net"])
    check_digest(encoders.speech_attention(vectors[None]), reference["audio_att_net"])


def test_lids_rotation_and_landmarks(encoders: PersonalTokens, reference: dict[str, Any]) -> None:
    check_digest(encoders.lids(torch.full((1, 1, 1), 0.7)), reference["blink_encoder"])
    check_digest(encoders.rotation(torch.tensor([[ROTATION_DEG]])), reference["camera_encoder_rot"])
    check_digest(encoders.landmarks(torch.tensor([[LANDMARKS]]).flatten(2)), reference["camera_encoder_ldm"])


def test_tokens(encoders: PersonalTokens, reference: dict[str, Any]) -> None:
    check_digest(tokens_of(encoders), reference["tokens"])


def test_position_encoding(reference: dict[str, Any]) -> None:
    check_digest(position_encoding(32, 256).transpose(0, 1).flatten(1)[None], reference["pos_emb_official_init"])


@torch.no_grad()
def test_delta_plane(published: dict[str, torch.Tensor], encoders: PersonalTokens, reference: dict[str, Any]) -> None:
    """About 1.4 CPU seconds; folded, as an import is."""
    with torch.device("meta"):
        network = PersonalDeltaPlane(PersonalDeltaPlane.Config.published())
    state = {key: tensor for key, tensor in talk3d_state(published).items() if key.startswith("delta_plane.")}
    network.load_state_dict({key.removeprefix("delta_plane."): tensor for key, tensor in state.items()}, assign=True)
    planes = golden_fill().noise_in((1, 96, 256, 256), 3).unflatten(1, (3, 32))
    check_digest(network.eval()(planes, tokens_of(encoders)).flatten(1, 2), reference["deltaplane"])
