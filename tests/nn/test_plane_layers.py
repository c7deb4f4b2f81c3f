"""Layers of all planes compute what one layer for each plane would."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from triportrait.nn.plane_layers import ConditionAttention, PlaneAttention, PlaneGatedMlp, PlaneLinear, PlaneNorm, roll_out


def test_linear_and_norm_are_one_for_each_plane() -> None:
    torch.manual_seed(0)
    x, linear, norm = torch.randn(2, 3, 5, 4), PlaneLinear(3, 4, 6), PlaneNorm(3, 4)
    nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    for plane in range(3):
        rows, own = slice(6 * plane, 6 * plane + 6), slice(4 * plane, 4 * plane + 4)
        torch.testing.assert_close(linear(x)[:, plane], functional.linear(x[:, plane], linear.weight[rows], linear.bias[rows]))
        torch.testing.assert_close(norm(x)[:, plane], functional.layer_norm(x[:, plane], (4,), norm.weight[own], norm.bias[own]))


def test_attention_is_pytorchs_for_each_plane() -> None:
    torch.manual_seed(0)
    x, layer = torch.randn(2, 3, 5, 8), PlaneAttention(3, 8, 2)
    for plane in range(3):
        theirs = nn.MultiheadAttention(8, 2, batch_first=True)
        out = layer.projection
        parts = {"in_proj_weight": layer.query_key_value.weight, "out_proj.weight": out.weight, "out_proj.bias": out.bias}
        state = {name: tensor.chunk(3)[plane] for name, tensor in parts.items()}
        theirs.load_state_dict(state | {"in_proj_bias": torch.zeros(24)})
        expected, _ = theirs(*[x[:, plane]] * 3, need_weights=False)
        torch.testing.assert_close(layer(x)[:, plane], expected, atol=1e-6, rtol=1e-5)


def test_one_condition_gives_every_place_the_same() -> None:
    torch.manual_seed(0)
    places = ConditionAttention(8, 6, 2)(torch.randn(2, 3, 5, 8), torch.randn(2, 1, 6))
    torch.testing.assert_close(places, places[:, :1, :1].expand_as(places))


def test_a_closed_gate_leaves_the_bias() -> None:
    layer = PlaneGatedMlp(3, 4, 6)
    gates = layer.expand.bias.data.unflatten(0, (3, 2, 6))[:, 1]
    layer.expand.weight.data.zero_()
    gates.zero_()
    torch.testing.assert_close(layer(torch.randn(1, 3, 2, 4)), layer.contract.bias.view(3, 1, 4).expand(1, 3, 2, 4))


def test_roll_out_lays_profiles_along_the_shared_axis() -> None:
    """Planes of one volume: what one plane shows of another depends on their shared coordinate only, in the right direction."""
    x, y, z = (torch.arange(4.0).view(shape) for shape in ((1, 4), (4, 1), (4, 1)))
    marks = {"x": 1.0, "y": 10.0, "z": 100.0}
    planes = torch.stack([marks["y"] * y + marks["x"] * x, marks["z"] * z + marks["x"] * x, marks["y"] * y + marks["z"] * x])[None, :, None]
    seen = roll_out(planes, ("yx", "zx", "yz"))[0].unflatten(0, (3, 3))
    mean = 1.5
    assert torch.equal(torch.stack([seen[plane, plane] for plane in range(3)]), planes[0, :, 0])
    torch.testing.assert_close(seen[0, 1], (marks["z"] * mean + marks["x"] * x).expand(4, 4))
    torch.testing.assert_close(seen[0, 2], (marks["y"] * y + marks["z"] * mean).expand(4, 4))
    torch.testing.assert_close(seen[1, 0], (marks["y"] * mean + marks["x"] * x).expand(4, 4))
    torch.testing.assert_close(seen[1, 2], (marks["y"] * mean + marks["z"] * z).expand(4, 4))
    torch.testing.assert_close(seen[2, 0], (marks["y"] * y + marks["x"] * mean).expand(4, 4))
    torch.testing.assert_close(seen[2, 1], (marks["z"] * x + marks["x"] * mean).expand(4, 4))
