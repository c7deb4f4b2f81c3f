"""Laws of the driving tokens."""

from __future__ import annotations

import pytest
import torch

from triportrait.talk3d.tokens import PersonalTokens

SMALL = PersonalTokens.Config(speech_features=5, window=4, width=8, lid_octaves=3, rotation_octaves=2, landmark_octaves=2)


@pytest.fixture
def tokens() -> PersonalTokens:
    torch.manual_seed(0)
    return PersonalTokens(SMALL).requires_grad_(False)


def drivers() -> tuple[torch.Tensor, ...]:
    return torch.randn(3, 4, 5, 16), torch.rand(3), 10 * torch.randn(3, 3), torch.rand(3, 3, 2)


def test_each_driver_changes_its_own_token_only(tokens: PersonalTokens) -> None:
    before = drivers()
    whole = tokens(*before)
    assert whole.shape == (3, 5, 8)
    for position, driver in enumerate((0, 1, 3, 4)):
        changed = [given + 0.1 if index == position else given for index, given in enumerate(before)]
        moved = (tokens(*changed) - whole).abs().amax((0, 2)) > 1e-6
        assert moved.tolist() == [index == driver for index in range(5)]


def test_the_token_of_rest_is_the_same_for_every_frame(tokens: PersonalTokens) -> None:
    assert torch.equal(tokens(*drivers())[:, 2], tokens.rest.expand(3, -1))


def test_the_voice_is_a_mean_of_its_window(tokens: PersonalTokens) -> None:
    vectors = torch.randn(2, 4, 8)
    voice = tokens.speech_attention(vectors)
    assert (voice <= vectors.amax(1) + 1e-6).all() and (voice >= vectors.amin(1) - 1e-6).all()
