"""The ray integral over two slabs: the law of added densities, its limits, and pictures made by it."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.avatar.dual_field.integral_kernels import integrate, two_slabs
from triportrait.avatar.lifted.neck import OPAQUE, optical_depth, thinned


def fine_sum(near: float, far: float, first: float, second: float, half: float) -> tuple[float, float, float]:
    """Emission and absorption of both densities added, in twenty thousand steps (Max 1995, equation 5)."""
    line = np.linspace(min(near, far) - half, max(near, far) + half, 20_001)
    middle, step = 0.5 * (line[1:] + line[:-1]), line[1] - line[0]
    one, two = (optical / (2 * half) * (np.abs(middle - at) < half) for at, optical in ((near, first), (far, second)))
    total = one + two
    passed = np.exp(-step * (np.cumsum(total) - total))
    met = passed * (1 - np.exp(-step * total)) / np.maximum(total, 1e-12)
    return float((met * one).sum()), float((met * two).sum()), float(np.exp(-step * total.sum()))


@pytest.mark.parametrize("apart", [-0.5, -0.13, 0.0, 0.04, 0.19, 0.2, 1.0])
@pytest.mark.parametrize("optical", [(8.0, 8.0), (0.3, 2.0), (2.0, 0.0), (0.0, 1.5), (0.0, 0.0)])
def test_shares_are_those_of_added_densities(apart, optical) -> None:
    found = two_slabs(np.float32(9.0), np.float32(9.0 + apart), np.float32(optical[0]), np.float32(optical[1]), np.float32(0.1))
    assert found == pytest.approx(fine_sum(9.0, 9.0 + apart, *optical, 0.1), abs=1e-3)
    assert sum(found) == pytest.approx(1.0, abs=1e-5)


def test_fields_apart_are_composited_and_coincident_ones_mix_by_density() -> None:
    half, one, two = np.float32(0.1), np.float32(1.2), np.float32(0.7)
    front, back, left = two_slabs(np.float32(8.0), np.float32(9.0), one, two, half)
    matte = 1 - np.exp(-1.2)
    assert (front, back) == pytest.approx((matte, (1 - matte) * (1 - np.exp(-0.7))), abs=1e-5) and left == pytest.approx(
        np.exp(-1.9), abs=1e-5
    )
    front, back, _ = two_slabs(np.float32(9.0), np.float32(9.0), one, two, half)
    assert front / back == pytest.approx(1.2 / 0.7, rel=1e-5)


def test_nothing_jumps_when_one_field_passes_through_the_other() -> None:
    shares = np.array(
        [two_slabs(np.float32(9.0), np.float32(z), np.float32(8.0), np.float32(4.0), np.float32(0.1)) for z in np.arange(8.7, 9.3, 0.002)]
    )
    assert np.abs(np.diff(shares, axis=0)).max() < 0.09 and shares[0, 1] > 0.97 and shares[-1, 0] > 0.99


def test_a_matte_shared_out_among_two_fields_is_whole_again() -> None:
    share, matte = np.float32([0.0, 0.02, 0.3, 0.5, 1.0]), np.float32([1.0, 0.9, 0.5, 0.99, 0.2])
    one, two = thinned(matte, share), thinned(matte, 1 - share)
    np.testing.assert_allclose((1 - one) * (1 - two), 1 - np.minimum(matte, 1 - np.exp(-OPAQUE)), atol=1e-6)
    np.testing.assert_allclose(optical_depth(one), share * optical_depth(matte), atol=1e-3)


def fields(size: int = 24):
    """A head's layer and a static field that show one photo, each a share of its density at the same depth."""
    random = np.random.default_rng(3)
    photo = random.uniform(0, 255, (size, size, 3)).astype(np.float32)
    share = np.linspace(1, 0, size, dtype=np.float32)[:, None] * np.ones((1, size), np.float32)
    own, rest = thinned(np.ones_like(share), share), thinned(np.ones_like(share), 1 - share)
    depth = np.full((size, size), 9.5, np.float32)
    return photo, photo / 255 * own[..., None], own, depth, np.ascontiguousarray(np.dstack([photo, rest])), depth.copy()


def drawn(rgb, alpha, depth, static, static_depth, back=((1, 0, 0), (0, 1, 0)), farther=0.0):
    out = np.empty_like(rgb), np.empty_like(alpha), np.empty_like(depth)
    integrate(rgb, alpha, depth, static, static_depth, np.float32(farther), np.float32(back), np.float32(4), np.float32(0.1), *out)
    return out


def test_two_shares_of_a_photo_give_the_photo() -> None:
    photo, *parts = fields()
    rgb, alpha, depth = drawn(*parts)
    # The look-up never quite reaches the last texel.
    assert np.abs(255 * rgb - photo)[:-1, :-1].max() < 0.1 and alpha.min() > 1 - 1e-3 and (depth == 9.5).all()


def test_the_static_field_moves_as_it_is_told_and_mirrors_at_the_border() -> None:
    size = 24
    photo, *_, static, depth = fields(size)
    static[..., 3] = 1.0
    nothing = np.zeros((size, size, 3), np.float32), np.zeros((size, size), np.float32), np.full((size, size), np.inf, np.float32)
    rgb, alpha, _ = drawn(*nothing, static, depth, back=((1, 0, 3), (0, 1, -2)))
    np.testing.assert_allclose(255 * rgb[2:, :-3], photo[:-2, 3:], atol=0.3)
    np.testing.assert_allclose(255 * rgb[:2, :-3], photo[1::-1, 3:], atol=0.3)
    # Nine pixels beyond the border a band of four shows its second column: to, fro and to again.
    far, *_ = drawn(*nothing, static, depth, back=((1, 0, 9), (0, 1, 0)))
    np.testing.assert_allclose(255 * far[:, -1], photo[:, -1], atol=0.3)
    assert (alpha == 1).all()


def test_who_leans_forward_does_not_pass_through_the_neck() -> None:
    _, rgb, alpha, depth, static, static_depth = fields()
    static[..., :3], static[..., 3] = 0.0, 1.0
    static_depth += 0.5
    alpha[:], rgb[:] = 1.0, 1.0
    white, *_ = drawn(rgb, alpha, depth, static, static_depth)
    assert white.min() > 0.99
    behind, *_ = drawn(rgb, alpha, depth + 1, static, static_depth)
    assert behind.max() < 0.01
    level, *_ = drawn(rgb, alpha, depth + 1, static, static_depth, farther=1.0)
    np.testing.assert_allclose(level, white, atol=1e-4)
