"""Offsets lead from a frame's skin back to the photograph's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.avatar.lifted.avatar import LiftedAvatar, LiftedState
from triportrait.avatar.oneshot.guide_plain import expression_offsets
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.types import PreparedPortrait


@pytest.fixture(scope="module")
def state(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> LiftedState:
    return LiftedAvatar(open_head).prepare(astronaut_portrait)


def test_a_turn_alone_moves_nothing(state: LiftedState, open_head: OpenHead) -> None:
    still = state.portrait.motion
    turned = replace(still, rotation_rad=still.rotation_rad + np.float32([0, 0.2, 0]), landmarks=None)
    depth, offset = expression_offsets(state, open_head, turned, 64)
    assert np.isfinite(depth).mean() > 0.1
    assert np.abs(offset).max() < 1e-5


def test_an_open_jaw_leads_back_to_the_photo(state: LiftedState, open_head: OpenHead) -> None:
    """Vertices of the chin, posed and projected, find at their pixel the way back to where the photo has them."""
    still = state.portrait.motion
    expression = still.expression.copy()
    expression[open_head.expression_names.index("jawOpen")] = 0.7
    frame = replace(still, expression=expression, landmarks=None)
    depth, offset = expression_offsets(state, open_head, frame, 256)
    deformed = open_head.deform(state.shape, expression, still.gaze_rad)
    chin = open_head.landmarks478(deformed)[[152, 175, 199]]
    before = open_head.landmarks478(state.source)[[152, 175, 199]]
    pixels, away = project(pose_points(chin, frame.rotation_rad, frame.translation), 256)
    column, row = np.floor(pixels).astype(int).T
    way = before - chin
    assert np.linalg.norm(way, axis=1).min() > 0.1
    front = np.abs(depth[row, column] - away) < 0.1
    assert front.sum() >= 2
    np.testing.assert_allclose(offset[row, column][front], way[front], atol=0.05)
