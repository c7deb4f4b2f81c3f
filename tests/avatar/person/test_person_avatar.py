"""A person of several pictures: shares that change smoothly, and one picture drawn as a photo is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.person.avatar import PersonAvatar, turned_apart, weights_of
from triportrait.face.open_head import OpenHead
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import WARP_COLUMNS, MotionFrame, PreparedPortrait


@pytest.fixture(scope="module")
def frame(astronaut_portrait: PreparedPortrait) -> MotionFrame:
    own = astronaut_portrait.motion
    return replace(own, rotation_rad=own.rotation_rad + np.radians((2.0, 9.0, 1.0)).astype(np.float32), landmarks=None)


def test_shares_are_continuous_and_go_to_the_nearest() -> None:
    random = np.random.default_rng(0)
    start, end = random.random((2, 6)) * 20.0
    shares = np.stack([weights_of(start + (end - start) * part, 2) for part in np.linspace(0.0, 1.0, 2001)])
    np.testing.assert_allclose(shares.sum(1), 1.0)
    assert (shares > 0).sum(1).max() <= 2
    # Ten times shorter ways make ten times smaller steps: nothing jumps.
    fine = np.stack([weights_of(start + (end - start) * part, 2) for part in np.linspace(0.0, 1.0, 20001)])
    assert np.abs(np.diff(fine, axis=0)).max() < 0.15 * np.abs(np.diff(shares, axis=0)).max()
    assert all(
        share.argmax() == (start + (end - start) * part).argmin() for share, part in zip(shares, np.linspace(0, 1, 2001), strict=True)
    )


def test_one_picture_is_drawn_as_a_photo(astronaut_portrait: PreparedPortrait, open_head: OpenHead, frame: MotionFrame) -> None:
    inner = LiftedAvatar(open_head, whole_person=True)
    person = PersonAvatar(inner)
    one = person.render(person.prepare(astronaut_portrait), frame)
    photo = inner.render(inner.prepare(astronaut_portrait), frame)
    np.testing.assert_allclose(one.rgb, photo.rgb, atol=1e-5)
    np.testing.assert_array_equal(one.alpha, photo.alpha)


def test_the_picture_turned_alike_is_taken(astronaut_portrait: PreparedPortrait, open_head: OpenHead, frame: MotionFrame) -> None:
    """A second picture of the person in the frame's own pose, in another colour, is what the frame then shows."""
    inner = LiftedAvatar(open_head, whole_person=True)
    person = PersonAvatar(inner)
    turned = inner.render(inner.prepare(astronaut_portrait), frame)
    image = np.clip(255.0 * (turned.rgb + (1.0 - turned.alpha[..., None]) * astronaut_portrait.background / 255.0), 0, 255).astype(np.uint8)
    green = image.copy()
    green[..., (0, 2)] //= 2
    alpha = turned.alpha
    other = replace(astronaut_portrait, image=green, person_alpha=alpha, head_alpha=alpha, motion=frame)
    state = person.prepare(replace(astronaut_portrait, others=(other,)))
    face, shoulders = np.s_[200:320, 200:320], np.s_[490:512, 150:360]
    whole = person.render(state, frame).rgb
    near = whole[face]
    far = person.render(state, astronaut_portrait.motion).rgb[face]
    # The body has not moved: its picture stays, however the head turns.
    alone = inner.render(inner.prepare(astronaut_portrait), frame).rgb
    np.testing.assert_allclose(whole[shoulders], alone[shoulders], atol=2e-3)
    assert near[..., 1].mean() > 1.3 * near[..., 0].mean() > 0
    assert far[..., 0].mean() > 0.9 * far[..., 1].mean()


def test_hair_moves_since_the_picture_that_shows_it(astronaut_portrait: PreparedPortrait, open_head: OpenHead, frame: MotionFrame) -> None:
    """Another picture whose hair has swung as the frame's has is drawn as it is."""
    person = PersonAvatar(LiftedAvatar(open_head, whole_person=True))
    warp, turned = np.full(len(WARP_COLUMNS), 0.05, np.float32), replace(frame, landmarks=None)

    def drawn(own: np.ndarray | None, seen: np.ndarray | None) -> np.ndarray:
        other = replace(astronaut_portrait, motion=replace(turned, warp=own))
        return person.render(person.prepare(replace(astronaut_portrait, others=(other,))), replace(turned, warp=seen)).rgb[:200]

    unmoved = drawn(None, None)
    np.testing.assert_allclose(drawn(warp, warp), unmoved, atol=0.02)
    assert np.abs(drawn(np.zeros_like(warp), warp) - unmoved).mean() > 1e-3
    # What has not been measured in it does not move.
    np.testing.assert_allclose(drawn(None, warp), unmoved, atol=0.02)


def test_pictures_that_are_turned_alike_are_one_picture_for_the_head():
    turns_deg = np.array([0.0, 2.0, 9.0, 20.0, 18.0, -7.0])
    rotations = [matrix_from_euler(np.radians([0.0, turn, 0.0])) for turn in turns_deg]
    chosen = turned_apart(rotations, [5.5] * len(rotations))
    assert chosen[0] == 0 and chosen[1] == 3
    apart = np.abs(turns_deg[chosen][:, None] - turns_deg[chosen]) + 1e3 * np.eye(len(chosen))
    assert apart.min() >= 5.5
    left_out = np.setdiff1d(np.arange(len(turns_deg)), chosen)
    assert np.abs(turns_deg[left_out][:, None] - turns_deg[chosen]).min(1).max() < 5.5
    assert turned_apart(rotations[:1], [5.5]) == [0]


def test_a_picture_of_another_take_shows_the_head_only_where_no_other_picture_does():
    rotations = [matrix_from_euler(np.radians([0.0, turn, 0.0])) for turn in (0.0, 9.0, 21.0, 16.0, 40.0)]
    assert sorted(turned_apart(rotations, [5.5, 15.0, 15.0, 5.5, 15.0])) == [0, 3, 4]
    assert turned_apart(rotations[:2], [5.5, 15.0]) == [0]
