"""The compiled guide of a frame is expression_offsets, smoothly continued."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from triportrait.avatar.lifted.avatar import LiftedAvatar, LiftedState
from triportrait.avatar.lifted.moved_head import MovedHead
from triportrait.avatar.oneshot.guide import guide_mesh, render_guide
from triportrait.avatar.oneshot.guide_plain import expression_offsets
from triportrait.avatar.oneshot.volume import fill_smoothly
from triportrait.face.open_head import OpenHead
from triportrait.types import MotionFrame, PreparedPortrait


@pytest.fixture(scope="module")
def state(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> LiftedState:
    return LiftedAvatar(open_head).prepare(astronaut_portrait)


@pytest.fixture
def turned(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> MotionFrame:
    motion = astronaut_portrait.motion
    expression = motion.expression.copy()
    expression[open_head.expression_names.index("jawOpen")] = 0.6
    return replace(motion, expression=expression, rotation_rad=motion.rotation_rad + np.float32([0.05, 0.25, 0.0]), landmarks=None)


@pytest.mark.parametrize("size", [64, 128])
def test_is_the_plain_path_and_its_smooth_continuation(state: LiftedState, turned: MotionFrame, open_head: OpenHead, size: int) -> None:
    guide = render_guide(guide_mesh(state, open_head), turned, size)
    depth, offset = expression_offsets(state, open_head, turned, size)
    # Vertices are projected in float64 here: a pixel on an edge may go to the other triangle.
    assert (guide.known != np.isfinite(depth)).mean() < 1e-3
    both = guide.known & np.isfinite(depth)
    assert (np.abs(guide.depth[both] - depth[both]) > 1e-4).mean() < 2e-3
    assert (np.abs(guide.offset - offset)[both].max(-1) > 1e-4).mean() < 2e-3

    known = torch.from_numpy(guide.known).float()[None, None]
    maps = np.concatenate([np.where(guide.known, guide.depth, 0)[..., None], guide.offset], -1)
    sent = np.isfinite(guide.depth)
    assert sent.sum() > guide.known.sum() and not (guide.known & ~sent).any()
    for axis, answer in enumerate((guide.depth, *guide.offset.transpose(2, 0, 1))):
        expected = fill_smoothly(torch.from_numpy(maps[..., axis].copy())[None, None], known)[0, 0].numpy()
        np.testing.assert_allclose(answer[sent], expected[sent], atol=2e-5)
    assert (guide.offset[~sent] == 0).all()


def test_any_size_will_do(state: LiftedState, turned: MotionFrame, open_head: OpenHead) -> None:
    mesh = guide_mesh(state, open_head)
    guide, double = (render_guide(mesh, turned, size) for size in (96, 192))
    sent, twice = np.isfinite(guide.depth), np.isfinite(double.depth)
    assert abs(sent.mean() - twice.mean()) < 0.02
    inside = sent & twice[::2, ::2]
    assert np.median(np.abs(guide.depth[inside] - double.depth[::2, ::2][inside])) < 0.03


def test_a_moved_head_at_hand_changes_nothing(state: LiftedState, turned: MotionFrame, open_head: OpenHead) -> None:
    mesh = guide_mesh(state, open_head)
    fresh, given = (render_guide(mesh, turned, 64, moved=moved) for moved in (None, MovedHead.of(open_head, state.shape, turned)))
    np.testing.assert_array_equal(fresh.depth, given.depth)
    np.testing.assert_array_equal(fresh.offset, given.offset)


def test_rays_are_sent_wherever_the_teacher_draws(state: LiftedState, turned: MotionFrame, open_head: OpenHead) -> None:
    size = 128
    alpha = LiftedAvatar(open_head).render(state, turned).alpha.reshape(size, 4, size, 4).mean((1, 3))
    sent = np.isfinite(render_guide(guide_mesh(state, open_head), turned, size).depth)
    assert (alpha[~sent] > 0.05).sum() == 0


def test_a_head_out_of_the_picture_sends_no_ray(state: LiftedState, turned: MotionFrame, open_head: OpenHead) -> None:
    guide = render_guide(guide_mesh(state, open_head), replace(turned, translation=turned.translation + np.float32([90, 0, 0])), 64)
    assert not guide.known.any() and np.isinf(guide.depth).all()
