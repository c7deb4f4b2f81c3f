"""Laws of key-point motion."""

from __future__ import annotations

import torch

from triportrait.nn.warping import identity_field, key_point_maps, key_point_motions, warp


def test_identity_field_keeps_a_volume() -> None:
    volume = torch.randn(1, 2, 3, 4, 5)
    field = identity_field((3, 4, 5), volume)[None]
    for padding in ("zeros", "border"):
        torch.testing.assert_close(warp(volume, field, padding), volume, atol=1e-5, rtol=1e-5)


def test_points_at_rest_move_nothing() -> None:
    points = torch.rand(2, 3, 3) - 0.5
    field = identity_field((3, 4, 5), points)
    assert not key_point_maps(points, points, field).any()
    assert torch.equal(key_point_motions(points, points, field), field.expand(2, 3, -1, -1, -1, -1))


def test_a_point_that_moves_takes_its_neighbourhood_along() -> None:
    volume = torch.zeros(1, 1, 1, 5, 5)
    volume[0, 0, 0, 2, 1] = 1.0
    source, driving = torch.tensor([[[-0.5, 0.0, 0.0]]]), torch.tensor([[[0.0, 0.5, 0.0]]])
    moved = warp(volume, key_point_motions(source, driving, identity_field((1, 5, 5), volume))[:, 0], "border")
    assert moved[0, 0, 0].nonzero().tolist() == [[3, 2]]
