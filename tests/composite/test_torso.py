"""The torso under a moving head: still when it is still, swaying as a body does, never torn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.composite.torso import TorsoState, prepare_torso, warp_torso
from triportrait.face.open_head import OpenHead
from triportrait.types import MotionFrame, PreparedPortrait


@pytest.fixture(scope="module")
def state(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> TorsoState:
    return prepare_torso(astronaut_portrait, open_head)


def turned(portrait: PreparedPortrait, degrees=(0, 0, 0), shift=(0, 0, 0)) -> MotionFrame:
    return replace(
        portrait.motion,
        rotation_rad=(portrait.motion.rotation_rad + np.radians(degrees)).astype(np.float32),
        translation=(portrait.motion.translation + np.array(shift)).astype(np.float32),
    )


def place(layer: np.ndarray, rows: slice) -> np.ndarray:
    """Centre of the layer's matte in some rows, (x, y) in pixels."""
    matte = layer[rows, :, 3].astype(float)
    y, x = np.mgrid[: matte.shape[0], : matte.shape[1]]
    return np.array([(x * matte).sum(), (y * matte).sum()]) / matte.sum()


def test_the_photos_pose_leaves_the_layer_as_it_is(state, astronaut_portrait):
    np.testing.assert_array_equal(warp_torso(state, astronaut_portrait.motion), state.layer)


def test_the_layer_is_the_portraits_premultiplied(state, astronaut_portrait):
    torso = astronaut_portrait.torso.astype(float)
    np.testing.assert_array_equal(state.layer[..., 3], astronaut_portrait.torso[..., 3])
    np.testing.assert_allclose(state.layer[..., :3], torso[..., :3] * torso[..., 3:] / 255, atol=0.51)
    assert state.share.min() >= 0.0 and state.share.max() <= 1.0
    assert np.isfinite(state.points).all()


def test_expression_and_gaze_do_not_move_it(state, astronaut_portrait):
    frame = replace(astronaut_portrait.motion, expression=np.ones(44, np.float32), gaze_rad=np.float32((0.3, 0.3)))
    np.testing.assert_array_equal(warp_torso(state, frame), state.layer)


@pytest.mark.parametrize("degrees", [(0, 20, 0), (0, -20, 0), (15, 0, 0), (-15, 0, 0), (0, 0, 15), (8, 12, -6)])
def test_turns_bend_the_neck_and_leave_the_shoulders(state, astronaut_portrait, degrees):
    layer = warp_torso(state, turned(astronaut_portrait, degrees))
    assert layer.shape == state.layer.shape and layer.dtype == np.uint8
    assert (layer[..., :3] <= layer[..., 3:].astype(int) + 2).all()  # still premultiplied
    height = np.linalg.norm(astronaut_portrait.landmarks[152, :2] - astronaut_portrait.landmarks[10, :2])
    shoulders = int(astronaut_portrait.landmarks[152, 1] + 0.6 * height)
    assert np.abs(layer[shoulders:].astype(int) - state.layer[shoulders:]).mean() < 2.0
    area = layer[..., 3].sum(dtype=float) / state.layer[..., 3].sum(dtype=float)
    assert 0.9 < area < 1.1


def test_a_step_aside_sways_the_body_less_than_the_head(state, astronaut_portrait):
    size, shift_dm = 512, 0.2
    whole_px = shift_dm * state.focal * size / (10 - astronaut_portrait.motion.translation[2])
    moves = []
    for sign in (-1, 1):
        layer = warp_torso(state, turned(astronaut_portrait, shift=(sign * shift_dm, 0, 0)))
        # At the foot of the picture, where the matte is not cut by the sides.
        rows = slice(400, 440)
        moves.append(place(layer, rows)[0] - place(state.layer, rows)[0])
    assert moves[0] < 0 < moves[1]
    assert max(np.abs(moves)) < 0.8 * whole_px


def test_larger_turns_bend_more(state, astronaut_portrait):
    changes = [np.abs(warp_torso(state, turned(astronaut_portrait, (0, yaw, 0))).astype(int) - state.layer).sum() for yaw in (0, 2, 6, 12)]
    assert changes[0] == 0 and changes == sorted(changes) and changes[-1] > changes[1] > 0


def test_nothing_that_is_handed_in_changes(state, astronaut_portrait):
    kept = state.layer.copy(), state.points.copy(), state.share.copy()
    frame = turned(astronaut_portrait, (5, 10, 0))
    first = warp_torso(state, frame)
    np.testing.assert_array_equal(warp_torso(state, frame), first)
    for now, then in zip((state.layer, state.points, state.share), kept, strict=True):
        np.testing.assert_array_equal(now, then)


def test_a_neck_bends_and_never_kinks(state, astronaut_portrait):
    """The share of the head's motion depends on the height alone and falls downwards."""
    chin, top = astronaut_portrait.landmarks[152, :2], astronaut_portrait.landmarks[10, :2]
    down = (chin - top) / np.linalg.norm(chin - top)
    grid = np.linspace(0, len(astronaut_portrait.image), len(state.share))
    below = (grid[None, :] - chin[0]) * down[0] + (grid[:, None] - chin[1]) * down[1]
    order = np.argsort(below, axis=None)
    assert (np.diff(state.share.ravel()[order]) <= 0.02).all()


@pytest.mark.parametrize("yaw_deg", [-25, 25])
def test_nothing_folds_and_the_crops_sides_stay(state, astronaut_portrait, yaw_deg):
    """What lies side by side stays in its order, even at the height of the mouth, and nothing is drawn in from beyond the crop."""
    size = len(state.layer)
    ramp = np.zeros_like(state.layer)
    ramp[...] = np.linspace(0, 255, size).round().astype(np.uint8)[None, :, None]
    motion = astronaut_portrait.motion
    frame = replace(motion, rotation_rad=motion.rotation_rad + np.float32([0, np.radians(yaw_deg), 0]), landmarks=None)
    moved = warp_torso(replace(state, layer=ramp), frame)[..., 0].astype(int)
    assert np.diff(moved, axis=1).min() >= -1
    assert (moved[:, 0] <= 1).all() and (moved[:, -1] >= 254).all()


def test_a_body_of_its_own_moves_the_layer_and_its_border(state, astronaut_portrait):
    frame = replace(astronaut_portrait.motion, body=np.float32((0.1, 0.05, 0.0, 0.0)))
    moved, rows = warp_torso(state, frame), slice(430, 500)
    shift = place(moved, rows) - place(state.layer, rows)
    assert 0.5 * 0.1 * state.px_per_dm < shift[0] < 1.2 * 0.1 * state.px_per_dm
    assert moved[-1, :, 3].max() > 200
    still = replace(astronaut_portrait.motion, body=np.zeros(4, np.float32))
    np.testing.assert_array_equal(warp_torso(state, still), state.layer)
