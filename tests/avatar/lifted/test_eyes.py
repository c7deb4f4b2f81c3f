"""Eyeballs and lids: textures that show the photo, frames that turn with the gaze, and closed eyes."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.avatar.lifted.eyes import TEXTURE_PX, closed_eyes_photo, eye_coordinates, eye_frame, eyeball_texture
from triportrait.avatar.lifted.surface import fit_surface
from triportrait.avatar.photo_tone import PhotoTone
from triportrait.face.open_head import OpenHead, gaze_matrix
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, IRIS_CENTRES
from triportrait.types import ARKIT_EXPRESSIONS, PreparedPortrait

RIMS = (EYE_LEFT_RIM, EYE_RIGHT_RIM)


@pytest.fixture(scope="module")
def closed(astronaut_portrait: PreparedPortrait, open_head: OpenHead) -> tuple[np.ndarray, np.ndarray]:
    return closed_eyes_photo(astronaut_portrait, open_head, fit_surface(astronaut_portrait, open_head).shape)


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
    texture = eyeball_texture(astronaut_portrait, open_head, source, side, PhotoTone.of(astronaut_portrait))
    assert texture.shape == (TEXTURE_PX, TEXTURE_PX, 3) and np.isfinite(texture).all()
    assert texture.min() > -60 and texture.max() < 315  # bicubic sampling overshoots a little
    middle = texture[TEXTURE_PX // 2 - 8 : TEXTURE_PX // 2 + 8, TEXTURE_PX // 2 - 8 : TEXTURE_PX // 2 + 8].mean()
    sides = texture[TEXTURE_PX // 2, [12, 16, -16, -12]].mean()
    assert middle < sides - 30  # a dark iris between whites
    x, y = astronaut_portrait.landmarks[IRIS_CENTRES[side], :2].astype(int)
    assert abs(middle - astronaut_portrait.image[y - 3 : y + 3, x - 3 : x + 3].mean()) < 40


def test_closing_shuts_both_lids_and_leaves_the_rest(closed, astronaut_portrait):
    _, expression = closed
    for half in ("Left", "Right"):
        assert expression[ARKIT_EXPRESSIONS.index(f"eyeBlink{half}")] == 1.0
        assert expression[ARKIT_EXPRESSIONS.index(f"eyeWide{half}")] == 0.0
    other = [i for i, name in enumerate(ARKIT_EXPRESSIONS) if not name.startswith(("eyeBlink", "eyeWide"))]
    np.testing.assert_array_equal(expression[other], astronaut_portrait.motion.expression[other])


def test_closed_eyes_change_only_the_eyes(closed, astronaut_portrait):
    picture, _ = closed
    near = np.zeros((512, 512), bool)
    for rim in RIMS:
        low, high = astronaut_portrait.landmarks[rim, :2].min(0), astronaut_portrait.landmarks[rim, :2].max(0)
        margin = 0.7 * (high - low)[0]
        (left, top), (right, bottom) = (low - margin).astype(int), (high + margin).astype(int)
        near[top:bottom, left:right] = True
    assert np.isfinite(picture).all() and picture.min() >= 0.0 and picture.max() <= 255.0
    np.testing.assert_allclose(picture[~near], astronaut_portrait.image[~near], atol=0.01)


def test_closed_lids_have_the_colour_of_skin(closed, astronaut_portrait):
    picture, _ = closed
    for iris, rim in zip(IRIS_CENTRES, RIMS, strict=True):
        x, y = astronaut_portrait.landmarks[iris, :2].astype(int)
        points = astronaut_portrait.landmarks[rim, :2]
        lid = picture[y - 3 : y + 1, x - 2 : x + 3].mean((0, 1))
        cheek = astronaut_portrait.image[int(points[:, 1].max()) + 12 :][:10, x - 10 : x + 10].mean((0, 1))
        eye = astronaut_portrait.image[y - 3 : y + 1, x - 2 : x + 3].mean((0, 1))
        assert np.linalg.norm(lid - cheek) < 0.6 * np.linalg.norm(eye - cheek)
