"""The learned avatar in the pipeline: a proper layer, the photo at its own pose, what it adds to the lifted one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.model import AVATARS
from triportrait.types import Avatar


@pytest.fixture(scope="module")
def avatar(open_head):
    return AVATARS["oneshot"](open_head).avatar


@pytest.fixture(scope="module")
def state(avatar, astronaut_portrait):
    return avatar.prepare(astronaut_portrait)


def turned(portrait, yaw_degrees, **curves):
    return replace(
        portrait.motion,
        rotation_rad=portrait.motion.rotation_rad + np.radians([0, yaw_degrees, 0]).astype(np.float32),
        landmarks=None,
    )


def test_it_is_an_avatar(avatar):
    assert isinstance(avatar, Avatar) and avatar.name == "oneshot"


def test_the_photos_own_motion_gives_the_photo(avatar, state, astronaut_portrait):
    layer = avatar.render(state, astronaut_portrait.motion)
    solid = (astronaut_portrait.head_alpha > 0.99) & (layer.alpha > 0.99)
    error = (255 * layer.rgb - astronaut_portrait.image)[solid]
    assert -10 * np.log10((error**2).mean() / 255**2) > 30


@pytest.mark.parametrize("yaw", [0, 20, -20, 45, -45])
def test_every_frame_is_a_proper_layer(avatar, state, astronaut_portrait, yaw):
    frame = turned(astronaut_portrait, yaw)
    layer = avatar.render(state, frame)
    assert np.isfinite(layer.rgb).all() and layer.rgb.dtype == np.float32
    assert layer.rgb.min() >= 0 and (layer.rgb.max(-1) <= layer.alpha + 2e-3).all()
    np.testing.assert_array_equal(layer.rgb, avatar.render(state, frame).rgb)


def test_the_volume_paints_what_a_turn_uncovers_and_nothing_at_rest(avatar, state, astronaut_portrait):
    frames = [turned(astronaut_portrait, yaw) for yaw in (0, 20)]
    unseen = [avatar._volume(state, frame, avatar.lifted.draw(state.lifted, frame))[1] for frame in frames]
    assert unseen[0].mean() < 0.001 and 0.003 < unseen[1].mean() < 0.2
    plain = avatar.lifted.render(state.lifted, frames[1])
    changed = np.abs(avatar.render(state, frames[1]).rgb - plain.rgb).max(-1) > 0.02
    assert 0.001 < changed.mean() < 0.2
