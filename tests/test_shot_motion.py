"""The motion of one person in one shot: bodies in decimetres, warps smoothed, and the warps of a person's pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.face.open_head import OpenHead
from triportrait.geometry.warp import AROUND
from triportrait.motion.smoothing import smooth_warp
from triportrait.shot_motion import _BodyInDecimetres, warped_rows, with_warps
from triportrait.types import WARP_COLUMNS, PreparedPortrait


def test_a_body_is_scaled_and_its_gaps_lie_between_what_is_known() -> None:
    body = _BodyInDecimetres(-2.0, 1200.0)
    rows = np.stack([np.arange(6.0), np.zeros(6), np.zeros(6), np.full(6, 0.5)], 1)
    rows[2:4] = np.nan
    found = body.of(rows)
    np.testing.assert_allclose(found[:, 0], 0.01 * np.arange(6), atol=1e-6)
    np.testing.assert_allclose(found[:, 3], 0.5)
    assert body.is_known
    # The next batch goes on where the body was known last.
    later = np.full((4, 4), np.nan)
    np.testing.assert_allclose(body.of(later)[:, 0], 0.05, atol=1e-6)
    body.of(np.full((9, 4), np.nan))
    assert not body.is_known


def test_nobodys_body_is_still_and_not_known() -> None:
    body = _BodyInDecimetres(0.0, 1000.0)
    assert not body.of(np.full((3, 4), np.nan)).any() and not body.is_known


def test_a_warp_is_smoothed_as_surely_as_it_is_known() -> None:
    random = np.random.default_rng(1)
    warps = np.full((60, len(WARP_COLUMNS)), 0.1, np.float32)
    known = np.ones((60, 2), np.float32)
    found = smooth_warp(warps, known, 25.0)
    assert found is not None
    np.testing.assert_allclose(found, 0.1, atol=1e-5)
    # What is not known lies as its neighbours do, in each part by itself.
    warps[20:23], known[20:23, 0] = 5.0, 0.0
    found = smooth_warp(warps, known, 25.0)
    assert found is not None
    np.testing.assert_allclose(found[:, : 2 * AROUND], 0.1, atol=0.03)
    assert found[21, 2 * AROUND :].min() > 1.0
    trembling = random.normal(0, 0.02, warps.shape).astype(np.float32)
    calm = smooth_warp(trembling, np.ones((60, 2)), 25.0)
    assert calm is not None and calm[:, 2 * AROUND :].std() < calm[:, : 2 * AROUND].std() < 0.7 * trembling.std()
    assert smooth_warp(warps, np.zeros((60, 2)), 25.0) is None


def test_pictures_of_one_take_have_a_warp_and_others_have_none(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    """The second picture is the first with everything but the face shifted by three pixels."""
    image = np.roll(astronaut_portrait.image, 3, axis=1)
    away = np.zeros(image.shape[:2], bool)
    away[: int(astronaut_portrait.landmarks[10, 1]) - 8] = True
    image = np.where(away[..., None], image, astronaut_portrait.image)
    body = np.zeros(4, np.float32)
    other = replace(astronaut_portrait, image=image, motion=replace(astronaut_portrait.motion, body=body))
    elsewhere = replace(other, motion=replace(other.motion, body=None))
    of_another_day = replace(other, same_take=False)
    person = with_warps(replace(astronaut_portrait, others=(other, elsewhere, of_another_day)), open_head)
    first, second, third = (one.motion.warp for one in person.others)
    assert first is not None and second is not None and third is not None and not second.any() and not third.any()
    px_per_dm = astronaut_portrait.focal * len(image) / (10.0 - float(astronaut_portrait.motion.translation[2]))
    above = first[: 2 * AROUND].reshape(5, 4, 2)[1, 1:3, 0] * px_per_dm
    assert above.mean() == pytest.approx(3.0, abs=1.2)
    alone = replace(astronaut_portrait, others=(elsewhere,))
    assert with_warps(alone, open_head) is alone


def test_a_rows_warp_is_what_its_crop_shows(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    place = warped_rows(astronaut_portrait, open_head)
    row = place(astronaut_portrait.image, astronaut_portrait.motion)
    assert row.warp is not None and np.abs(row.warp).max() < 0.01
