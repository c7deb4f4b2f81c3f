"""The Laplacian penalty of the motion adapter: laws, gradient, and the switch that leaves it out."""

from __future__ import annotations

import pytest
import torch

from triportrait.real3d import networks as real3d_networks
from triportrait.real3d.motion_adapter import MotionAdapter
from triportrait.training.laplacian import laplacian_loss, second_difference


def test_even_motion_costs_nothing_and_a_jerk_does() -> None:
    start, speed = torch.randn(2, 3, 4, 5, 5), torch.randn(2, 3, 4, 5, 5)
    assert second_difference(start, start + speed, start + 2 * speed) < 1e-10
    jerk = second_difference(start, start + 0.1, start)
    assert float(jerk) == pytest.approx(0.04, rel=1e-4)


def test_the_adapter_learns_from_it_unless_its_weight_is_nothing() -> None:
    torch.manual_seed(0)
    base = real3d_networks.tiny()
    adapter = MotionAdapter(base.motion_adapter).eval()
    still, driving = torch.rand(2, 6, 64, 64), torch.rand(2, 3, 3, 64, 64)
    loss = laplacian_loss(adapter, still, driving, base.laplacian_weight)
    planes = [adapter(torch.cat([still, driving[:, index]], 1)) for index in range(3)]
    torch.testing.assert_close(loss, base.laplacian_weight * second_difference(*planes))
    loss.backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in adapter.layers.parameters())
    torch.testing.assert_close(laplacian_loss(adapter, still, driving, 2 * base.laplacian_weight), 2 * loss)
    even = driving[:, :1].expand(-1, 3, -1, -1, -1)
    assert laplacian_loss(adapter, still, even, 1.0) < 1e-10

    def never(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the adapter ran for nothing")

    without = real3d_networks.ablations(base)["no_laplacian"]
    assert float(laplacian_loss(never, still, driving, without.laplacian_weight)) == 0.0
