"""Laws of what covers a sample: shares and depths of a known triangle and a known piece of a strand."""

from __future__ import annotations

import pytest

from triportrait.synth import coverage

CORNERS, INVERSE = (0.0, 0.0, 4.0, 0.0, 0.0, 4.0), 1.0 / 16.0


def test_a_stretch_touches_more_pixels_than_it_holds_middles_of() -> None:
    assert coverage.pixels_touched(1.2, 2.4, 10) == (1, 3)
    assert coverage.centres_within(1.2, 2.6, 10) == (1, 2)
    first, last = coverage.centres_within(1.6, 2.4, 10)
    assert last < first
    assert coverage.pixels_touched(-3.0, 30.0, 10) == coverage.centres_within(-3.0, 30.0, 10) == (0, 9)


def test_shares_are_those_of_the_corners_and_negative_outside() -> None:
    assert coverage.corner_weights(CORNERS, INVERSE, 1.0, 2.0) == pytest.approx((0.25, 0.25, 0.5))
    assert min(coverage.corner_weights(CORNERS, INVERSE, 3.0, 3.0)) < 0.0


def test_depth_is_linear_in_its_inverse() -> None:
    depth, second, third = coverage.surface_at(CORNERS, INVERSE, (1.0, 0.5, 0.25), 1.0, 2.0)
    assert 1.0 / depth == pytest.approx(0.25 * 1.0 + 0.25 * 0.5 + 0.5 * 0.25)
    assert (second, third) == pytest.approx((0.25 * 0.5 * depth, 0.5 * 0.25 * depth))
    assert coverage.surface_at(CORNERS, INVERSE, (1.0, 0.5, 0.25), 3.0, 3.0)[0] < 0.0


def test_a_strand_covers_what_lies_no_farther_off_than_half_its_width() -> None:
    start, end = (1.0, 5.0, 10.0), (9.0, 5.0, 14.0)
    assert coverage.strand_at(start, end, 0.6, 3.0, 5.5) == pytest.approx((0.25, 11.0))
    for x, y in ((3.0, 5.7), (0.5, 5.0), (9.5, 5.0)):
        assert coverage.strand_at(start, end, 0.6, x, y)[0] < 0.0
    assert coverage.strand_box(start, end, 0.6, (8, 8)) == (0, 7, 4, 6)
    left, right, _, _ = coverage.strand_box(start, start, 0.6, (8, 8))
    assert right < left
