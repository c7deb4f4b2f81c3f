"""Laws of the personal delta plane at a tiny size."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from triportrait.real3d.sampling import LAYOUTS
from triportrait.talk3d.delta_plane import AXES, PersonalDeltaPlane, position_encoding
from triportrait.weights.folding import fold_batch_norms

TINY = PersonalDeltaPlane.Config(
    plane_side=16, plane_channels=4, channels=(4, 8), up_channels=(4,), token=6, blocks=1, heads=2, hidden=8, norm_groups=2
)


def network_of(config: PersonalDeltaPlane.Config) -> PersonalDeltaPlane:
    torch.manual_seed(0)
    return PersonalDeltaPlane(config).eval()


def lively(config: PersonalDeltaPlane.Config = TINY) -> PersonalDeltaPlane:
    """All numbers away from where training starts."""
    network = network_of(config)
    generator = torch.Generator().manual_seed(1)
    for key, tensor in network.state_dict().items():
        if key.endswith("running_var"):
            tensor.copy_(1.0 + torch.rand(tensor.shape, generator=generator))
        elif tensor.is_floating_point() and not key.endswith("position"):
            tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    return network.requires_grad_(False)


@pytest.mark.parametrize("gated", [True, False])
def test_an_untrained_network_changes_nothing(gated: bool) -> None:
    delta = network_of(replace(TINY, gated=gated))(torch.randn(2, 3, 4, 16, 16), torch.randn(2, 5, 6))
    assert delta.shape == (2, 3, 4, 16, 16) and not delta.any()


def test_a_frame_does_not_depend_on_its_neighbours_in_the_batch() -> None:
    planes, tokens, network = torch.randn(3, 3, 4, 16, 16), torch.randn(3, 5, 6), lively()
    torch.testing.assert_close(network(planes, tokens)[1:2], network(planes[1:2], tokens[1:2]), atol=1e-5, rtol=1e-5)


def test_every_driving_token_counts_and_their_order_does_not() -> None:
    planes, tokens, network = torch.randn(1, 3, 4, 16, 16), torch.randn(1, 5, 6), lively()
    delta = network(planes, tokens)
    torch.testing.assert_close(network(planes, tokens.flip(1)), delta, atol=1e-5, rtol=1e-5)
    for token in range(5):
        changed = tokens.clone()
        changed[:, token] += 1
        assert (network(planes, changed) - delta).abs().max() > 1e-4


def test_folded_batch_norms_compute_the_same() -> None:
    network, folded = lively(), network_of(replace(TINY, trained_form=False))
    state = {key: tensor for key, tensor in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    folded.load_state_dict(fold_batch_norms(state, "conv", "norm"))
    planes, tokens = torch.randn(2, 3, 4, 16, 16), torch.randn(2, 5, 6)
    torch.testing.assert_close(folded(planes, tokens), network(planes, tokens), atol=1e-4, rtol=1e-4)


def test_aligned_axes_are_those_of_the_layout() -> None:
    assert AXES["aligned"] == tuple("xyz"[height] + "xyz"[width] for width, height in LAYOUTS["eg3d_fixed"])


def test_position_encoding_tells_places_apart() -> None:
    encoding = position_encoding(8, 12)
    assert encoding.shape == (3, 64, 12)
    # Plane xy: its first four numbers follow the row, the next four the column, the last four neither.
    grid = encoding[0].unflatten(0, (8, 8))
    assert torch.equal(grid[:, :1, :4].expand(8, 8, 4), grid[..., :4])
    assert torch.equal(grid[:1, :, 4:8].expand(8, 8, 4), grid[..., 4:8])
    assert torch.equal(grid[:1, :1, 8:].expand(8, 8, 4), grid[..., 8:])
    assert len(encoding[0].unique(dim=0)) == 64
