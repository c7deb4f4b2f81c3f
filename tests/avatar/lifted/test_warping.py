"""A warp moves hair and shoulders by its places round the head and the face by its own, and folds nothing between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar, LiftedState
from triportrait.avatar.lifted.photo_grid import photo_grid
from triportrait.avatar.lifted.warping import LoosePoints, face_frame
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points
from triportrait.geometry.masks import face_hull
from triportrait.geometry.warp import AROUND, SIDE_PX
from triportrait.types import ARKIT_EXPRESSIONS, WARP_COLUMNS, MotionFrame, PreparedPortrait


@pytest.fixture(scope="module")
def avatar(open_head: OpenHead) -> LiftedAvatar:
    return LiftedAvatar(open_head, whole_person=True)


@pytest.fixture(scope="module")
def state(avatar: LiftedAvatar, astronaut_portrait: PreparedPortrait) -> LiftedState:
    return avatar.prepare(astronaut_portrait)


def warped(portrait: PreparedPortrait, right: float, up: float = 0.0, yaw: float = 0.0) -> MotionFrame:
    """All places round the head shifted alike, and none on the face."""
    turn = portrait.motion.rotation_rad + np.float32([0.0, yaw, 0.0])
    places = np.zeros((len(WARP_COLUMNS) // 2, 2), np.float32)
    places[:AROUND] = right, up
    return replace(portrait.motion, rotation_rad=turn, warp=places.ravel())


@pytest.mark.parametrize("yaw", [0.0, 0.3])
def test_hair_goes_where_the_warp_says_and_the_face_stays(avatar, state, astronaut_portrait, yaw) -> None:
    own = replace(astronaut_portrait.motion, rotation_rad=astronaut_portrait.motion.rotation_rad + np.float32([0, yaw, 0]))
    frame = warped(astronaut_portrait, 0.05, -0.02, yaw)
    still, moved = (state.mantle.follow(np.zeros_like(state.source), row) for row in (own, frame))
    shift = pose_points(moved, own.rotation_rad, np.zeros(3)) - pose_points(still, own.rotation_rad, np.zeros(3))
    far, near = state.mantle.warp.away_dm > 0.3, state.mantle.warp.away_dm == 0
    assert far.any() and near.any()
    np.testing.assert_allclose(shift[far], np.broadcast_to([0.05, -0.02, 0.0], shift[far].shape), atol=1e-5)
    assert not shift[near].any()
    assert (state.warp.away_dm == 0).any()
    drawn, plain = avatar.draw(state, frame), avatar.draw(state, own)
    # The outline's own vertices may lie a little beside it.
    np.testing.assert_allclose(drawn.landmarks, plain.landmarks, atol=1.0)
    assert np.median(np.abs(drawn.landmarks - plain.landmarks)) == 0.0
    assert np.abs(drawn.rgb - plain.rgb).mean() > 1e-3


def test_the_face_goes_by_its_own_places(avatar, state, astronaut_portrait) -> None:
    places = np.zeros((len(WARP_COLUMNS) // 2, 2), np.float32)
    places[AROUND:] = 0.03, 0.0
    frame = replace(astronaut_portrait.motion, warp=places.ravel())
    drawn, plain = avatar.draw(state, frame), avatar.draw(state, astronaut_portrait.motion)
    px_per_dm = astronaut_portrait.focal * len(astronaut_portrait.image) / (10.0 - float(astronaut_portrait.motion.translation[2]))
    inner = np.abs(state.warp.away_dm) == 0
    assert inner.any()
    middle = [1, 13, 14, 33, 263, 50, 280]
    np.testing.assert_allclose(
        (drawn.landmarks - plain.landmarks)[middle], np.broadcast_to([0.03 * px_per_dm, 0.0], (7, 2)), rtol=0.12, atol=0.05
    )
    shift = state.mantle.warp.shift(frame)
    assert shift is not None and np.abs(shift[state.mantle.warp.away_dm > 0.3]).max() < 1e-6


def test_no_warp_and_one_of_nothing_are_the_same_picture(avatar, state, astronaut_portrait) -> None:
    plain, nothing = (avatar.draw(state, frame) for frame in (astronaut_portrait.motion, warped(astronaut_portrait, 0.0)))
    np.testing.assert_array_equal(plain.rgb, nothing.rgb)


@pytest.mark.parametrize("length", [0.03, 0.1, 0.3])
def test_whatever_its_length_a_warp_does_not_fold(astronaut_portrait, open_head, length) -> None:
    """Points on a line away from the face keep their order when they are pushed towards it."""
    portrait = astronaut_portrait
    row = int(portrait.landmarks[:, 1].mean())
    right = int(np.flatnonzero(face_hull(portrait.landmarks, len(portrait.image))[row]).max())
    dm_per_px = (10.0 - float(portrait.motion.translation[2])) / (portrait.focal * len(portrait.image))
    x = (np.arange(right - 10, len(portrait.image)) + 0.5 - len(portrait.image) / 2) * dm_per_px
    y, z = (len(portrait.image) / 2 - row - 0.5) * dm_per_px, float(portrait.motion.translation[2])
    face = face_frame(open_head, open_head.shape(portrait.identity))
    points = LoosePoints.of(portrait, face, np.stack([x, np.full_like(x, y), np.full_like(x, z)], -1))
    frame = replace(warped(portrait, -length), rotation_rad=np.zeros(3, np.float32))
    shift = points.shift(frame)
    assert shift is not None and shift[-1, 0] == pytest.approx(-length, abs=1e-5)
    assert (np.diff(x + shift[:, 0]) > 0).all()


def test_the_grid_stays_in_the_photos_own_pose_and_follows_a_turn(astronaut_portrait, open_head) -> None:
    grid = photo_grid(astronaut_portrait, open_head)
    still = grid.where(astronaut_portrait.motion)
    np.testing.assert_allclose(still, np.stack(np.meshgrid(np.arange(SIDE_PX), np.arange(SIDE_PX)), -1), atol=2e-3)
    turned = replace(astronaut_portrait.motion, rotation_rad=astronaut_portrait.motion.rotation_rad + np.float32([0, 0.3, 0]))
    assert np.abs(grid.where(turned) - still).max() > 5.0
    inside = face_hull(astronaut_portrait.landmarks, len(astronaut_portrait.image))
    unit = len(astronaut_portrait.image) / SIDE_PX
    for samples, weights, within in ((grid.around, grid.around_weights, False), (grid.face, grid.face_weights, True)):
        column, row = (samples * unit).astype(int).T
        assert len(samples) > 100 and (inside[row, column] == within).mean() > 0.98
        assert (astronaut_portrait.person_alpha[row, column] > 0.8).mean() > 0.99
        np.testing.assert_allclose(weights.sum(1), 1.0, atol=1e-5)


def test_the_jaws_pixels_go_down_where_it_opens(astronaut_portrait, open_head) -> None:
    grid = photo_grid(astronaut_portrait, open_head)
    own = astronaut_portrait.motion
    opened = np.array(own.expression)
    opened[ARKIT_EXPRESSIONS.index("jawOpen")] += 0.4
    moved = grid.where(replace(own, expression=opened)) - grid.where(own)
    unit = len(astronaut_portrait.image) / SIDE_PX
    (x, y), (brow_x, brow_y) = ((astronaut_portrait.landmarks[k, :2] / unit).astype(int) for k in (18, 9))
    assert moved[y, x, 1] > 2.0 > 0.3 > np.abs(moved[brow_y, brow_x]).max()
