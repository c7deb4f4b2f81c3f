"""Eyeballs: textures that show the photo, and frames that turn with the gaze."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.avatar.lifted.eyes import TEXTURE_PX, eye_coordinates, eye_frame, eyeball_textures
from triportrait.avatar.lifted.surface import fit_surface
from triportrait.avatar.photo_tone import PhotoTone
from triportrait.face.open_head import gaze_matrix
from triportrait.geometry.landmarks import IRIS_CENTRES


@pytest.mark.parametrize("side", [0, 1])
def test_the_eyes_frame_turns_with_the_gaze(open_head, side):
    for gaze in ((0.0, 0.0), (0.3, -0.2), (-0.4, 0.5)):
        vertices = open_head.vertices(np.zeros(80), np.zeros(44), np.array(gaze))
        centre, frame = eye_frame(open_head, vertices, side)
        np.testing.assert_allclose(centre, open_head.eye_centre[side], atol=2e-3)
        np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-3)
        np.testing.assert_allclose(frame, gaze_matrix(*gaze), atol=2e-3)


@pytest.mark.parametrize("side", [0, 1])
def test_texture_coordinates_are_the_angle_from_the_gaze(open_head, side):
    texels = eye_coordinates(open_head, side)
    assert texels.shape == (len(open_head.eye_vertices[side]), 2) and texels.dtype == np.float32
    np.testing.assert_allclose(texels[0], TEXTURE_PX / 2, atol=0.5)  # the pole
    ring = np.linalg.norm(texels[1:25] - TEXTURE_PX / 2, axis=1)
    assert np.ptp(ring) < 0.5 and ring.min() > 0.5
    # The first vertex of a ring lies towards image right, the seventh upwards.
    right, up = texels[1] - TEXTURE_PX / 2, texels[7] - TEXTURE_PX / 2
    assert right[0] > abs(right[1]) and up[1] > abs(up[0])


@pytest.mark.parametrize("side", [0, 1])
def test_the_texture_shows_the_iris_of_the_photo(astronaut_portrait, open_head, side):
    source = fit_surface(astronaut_portrait, open_head).source
    texture = eyeball_textures(astronaut_portrait, open_head, source, PhotoTone.of(astronaut_portrait))[0][side]
    assert texture.shape == (TEXTURE_PX, TEXTURE_PX, 3) and np.isfinite(texture).all()
    assert texture.min() > -60 and texture.max() < 315  # bicubic sampling overshoots a little
    middle = texture[TEXTURE_PX // 2 - 8 : TEXTURE_PX // 2 + 8, TEXTURE_PX // 2 - 8 : TEXTURE_PX // 2 + 8].mean()
    sides = texture[TEXTURE_PX // 2, [12, 16, -16, -12]].mean()
    assert middle < sides - 30  # a dark iris between whites
    x, y = astronaut_portrait.landmarks[IRIS_CENTRES[side], :2].astype(int)
    assert abs(middle - astronaut_portrait.image[y - 3 : y + 3, x - 3 : x + 3].mean()) < 40
