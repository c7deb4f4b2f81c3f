"""Light of a photograph: what the fit finds, and that it stays where it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.avatar.lifted.relight import fit_light, harmonics
from triportrait.avatar.lifted.surface import fit_surface
from triportrait.geometry.cameras import pose_points
from triportrait.geometry.normals import vertex_normals
from triportrait.motion.emotion import EMOTIONS, with_emotion
from triportrait.types import HeadPart


@pytest.fixture(scope="module")
def surface(astronaut_portrait, open_head):
    return fit_surface(astronaut_portrait, open_head)


def posed(portrait, surface, turn_degrees=(0, 0, 0)):
    turn = np.radians(turn_degrees).astype(np.float32)
    return pose_points(surface.source, portrait.motion.rotation_rad + turn, portrait.motion.translation)


def drawn(portrait, surface, turn_degrees=(0, 0, 0)):
    """What ``Light.gain`` takes: the head, and its pose."""
    return surface.source, portrait.motion.rotation_rad + np.radians(turn_degrees)


def lit_from_the_left(portrait, surface, strength=0.5):
    """The portrait with every pixel of the face shaded by a lamp at the picture's left."""
    normal = vertex_normals(posed(portrait, surface), surface.skin)
    corners = surface.skin[np.maximum(surface.fragments.triangle, 0)]
    side = -(normal[corners, 0] * surface.fragments.barycentric).sum(-1)
    shade = np.where(surface.fragments.triangle >= 0, 1 + strength * side, 1.0)
    return replace(portrait, image=np.clip(150 * shade, 0, 255).astype(np.uint8)[..., None].repeat(3, 2))


def test_the_photos_own_pose_changes_nothing(astronaut_portrait, open_head, surface):
    light = fit_light(astronaut_portrait, open_head, surface)
    np.testing.assert_allclose(light.gain(*drawn(astronaut_portrait, surface)), 1.0, atol=2e-3)


def test_a_lamp_is_found(astronaut_portrait, open_head, surface):
    light = fit_light(lit_from_the_left(astronaut_portrait, surface), open_head, surface)
    assert light.coefficients[1] < -0.3
    assert abs(light.coefficients[2]) < 0.1


def test_flat_light_stays_flat(astronaut_portrait, open_head, surface):
    light = fit_light(lit_from_the_left(astronaut_portrait, surface, 0.0), open_head, surface)
    np.testing.assert_allclose(light.gain(*drawn(astronaut_portrait, surface, (5, 20, 0))), 1.0, atol=0.02)


def test_a_cheek_that_turns_to_the_lamp_gets_brighter(astronaut_portrait, open_head, surface):
    light = fit_light(lit_from_the_left(astronaut_portrait, surface), open_head, surface)
    normal = vertex_normals(posed(astronaut_portrait, surface), surface.skin)
    face = (surface.face > 0.9) & (open_head.part == HeadPart.SKIN) & (normal[:, 2] > 0.5)
    for yaw in (-15, 15):
        turned = posed(astronaut_portrait, surface, (0, yaw, 0))
        nearer = (vertex_normals(turned, surface.skin)[face, 0] < normal[face, 0]).mean() > 0.5
        gain = light.gain(*drawn(astronaut_portrait, surface, (0, yaw, 0)))[face]
        assert ((gain > 1.0) == nearer).mean() > 0.9
        assert 0.05 < np.abs(gain - 1).mean() < 0.4


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_an_expression_leaves_no_stain(astronaut_portrait, open_head, surface, emotion):
    light = fit_light(lit_from_the_left(astronaut_portrait, surface), open_head, surface)
    motion = astronaut_portrait.motion
    expression = with_emotion(motion.expression[None], np.float32([name == emotion for name in EMOTIONS]))[0]
    gain = light.gain(open_head.deform(surface.shape, expression, motion.gaze_rad), motion.rotation_rad)
    assert 0.002 < np.abs(gain - 1.0).max() < 0.07


def test_harmonics_are_orthogonal_on_the_sphere():
    random = np.random.default_rng(0)
    normal = random.normal(size=(200_000, 3))
    basis = harmonics(normal / np.linalg.norm(normal, axis=1, keepdims=True))
    products = basis.T @ basis / len(normal)
    assert np.abs(products - np.diag(np.diag(products))).max() < 0.01
