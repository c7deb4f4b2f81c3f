"""The torso branch's own operations against plain ones."""

from __future__ import annotations

import torch
from torch.nn import functional

from triportrait.real3d.torso import convolve_with_flat, grown


def test_flat_picture_beside_a_volume_is_a_volume_of_equal_slices() -> None:
    torch.manual_seed(0)
    volume, flat = torch.randn(2, 3, 9, 5, 6), torch.randn(2, 2, 5, 6)
    weight, bias = torch.randn(4, 5, 7, 7, 7), torch.randn(4)
    joined = torch.cat([volume, flat[:, :, None].expand(-1, -1, 9, -1, -1)], dim=1)
    expected = functional.conv3d(joined, weight, bias, padding=3)
    torch.testing.assert_close(convolve_with_flat(volume, flat, weight, bias), expected, atol=1e-3, rtol=1e-4)


def test_a_mask_grows_by_three_cells() -> None:
    mask = torch.zeros(1, 1, 12, 12)
    mask[..., 6, 6] = 1.0
    expected = torch.zeros_like(mask)
    expected[..., 3:10, 3:10] = 1.0
    assert torch.equal(grown(mask), expected)
