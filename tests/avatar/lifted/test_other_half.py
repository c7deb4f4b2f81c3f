"""What a turned photo hides of a face has the relief of its other half; a face from the front needs none of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.lifted.other_half import OtherHalf
from triportrait.avatar.lifted.surface import Surface, fit_surface
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.normals import vertex_normals
from triportrait.types import Array, PreparedPortrait


def _turned(portrait: PreparedPortrait, degrees: float) -> PreparedPortrait:
    """The same head as if the photo showed it turned, before nothing but itself."""
    size = len(portrait.image)
    motion = replace(portrait.motion, rotation_rad=np.array([0, np.radians(degrees), 0], np.float32), translation=np.zeros(3, np.float32))
    y, x = np.mgrid[:size, :size]
    checks = np.where(((x // 12 + y // 12) % 2)[..., None] == 1, 200, 90).astype(np.uint8)
    everywhere = np.ones((size, size), np.float32)
    return replace(portrait, image=np.repeat(checks, 3, -1), motion=motion, person_alpha=everywhere, head_alpha=everywhere)


def _half(portrait: PreparedPortrait, head: OpenHead) -> tuple[OtherHalf, Surface, Array]:
    surface = fit_surface(portrait, head)
    posed = pose_points(surface.source, portrait.motion.rotation_rad, portrait.motion.translation)
    view = np.array([0, 0, 10.0]) - posed
    facing = (vertex_normals(posed, surface.skin) * view).sum(1) / np.linalg.norm(view, axis=1)
    return OtherHalf.of(portrait, head, surface, facing), surface, facing


def test_the_far_cheek_is_shown_the_near_ones_pixels(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    portrait = _turned(astronaut_portrait, 30.0)
    half, surface, facing = _half(portrait, open_head)
    used = np.flatnonzero(half.texels[:, 2] > 0.5)
    assert len(used) > 50
    sides = np.sign(open_head.mean[used, 0])
    assert np.abs(sides.mean()) == 1.0, "one side only"
    far = int(used[np.argmin(facing[used])])
    mirror = int(np.argmin(np.linalg.norm(open_head.mean - open_head.mean[far] * (-1, 1, 1), axis=1)))
    pixels, _ = project(
        pose_points(surface.source, portrait.motion.rotation_rad, portrait.motion.translation), len(portrait.image), portrait.focal
    )
    assert np.linalg.norm(half.texels[far, :2] - pixels[mirror]) < 6.0
    assert half.relief.shape == portrait.image.shape and 0.3 < half.relief.min() < 0.9 and 1.1 < half.relief.max() < 1.3


def test_a_frame_shows_the_relief(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    """The far cheek of a head that turns to the viewer differs by it, and the near one does not."""
    portrait = _turned(astronaut_portrait, 30.0)
    avatar = LiftedAvatar(open_head, whole_person=True)
    state = avatar.prepare(portrait)
    assert state.other_half.texels[:, 2].max() > 0.5
    plain = replace(state, other_half=replace(state.other_half, texels=np.zeros_like(state.other_half.texels)))
    frame = replace(portrait.motion, rotation_rad=np.zeros(3, np.float32))
    differs = np.abs(avatar.render(state, frame).rgb - avatar.render(plain, frame).rgb).max(-1) > 0.02
    middle = len(portrait.image) // 2
    far, near = differs[:, :middle].sum(), differs[:, middle:].sum()
    assert max(far, near) > 100 and min(far, near) < 0.02 * max(far, near)


def test_from_the_front_nothing_is_taken(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> None:
    half, _, _ = _half(_turned(astronaut_portrait, 0.0), open_head)
    assert not half.texels.any() and not half.upper.any()
