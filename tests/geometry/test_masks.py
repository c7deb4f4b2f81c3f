"""Masks cover what their outlines enclose, and bilinear look-up is OpenCV's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes

from triportrait.compiling import njit
from triportrait.geometry.masks import convex_mask, face_hull, holes_filled, hull_mask, outline_mask, soft_outline_mask
from triportrait.geometry.texels import texel_before

STAR = np.array([[32, 4], [38, 26], [60, 32], [38, 38], [32, 60], [26, 38], [4, 32], [26, 26]], float)


def test_a_hull_fills_the_notches_that_an_outline_leaves() -> None:
    hull, outline = hull_mask(STAR[::-1], 64), outline_mask(STAR, 64)
    assert hull.dtype == outline.dtype == np.uint8 and set(np.unique(hull)) == {0, 1}
    assert (hull >= outline).all() and hull[20, 20] == 1 and outline[20, 20] == 0 and outline[32, 32] == 1
    np.testing.assert_array_equal(hull, convex_mask(STAR[::2], 64))
    # Every second column of an array is a view: what is handed on is contiguous.
    wide = np.repeat(STAR.astype(np.float32), 2, axis=1)
    np.testing.assert_array_equal(hull_mask(wide[:, ::2], 64), hull)


def test_a_soft_outline_has_its_area_to_a_fraction_of_a_pixel() -> None:
    for shift in (0.0, 0.25, 0.5):
        square = np.array([[10, 8], [50, 8], [50, 28], [10, 28]]) + shift - 0.5
        mask = soft_outline_mask(square, 64, 40)
        assert mask.shape == (40, 64) and mask.max() == 255
        assert mask.sum() / 255 == pytest.approx(40 * 20, rel=0.11)
        middle = (mask * np.arange(64)).sum() / mask.sum(), (mask.T * np.arange(40)).sum() / mask.sum()
        np.testing.assert_allclose(middle, square.mean(0), atol=0.5)


def test_the_face_hull_leaves_out_the_irises() -> None:
    landmarks = np.full((478, 3), 30.0)
    landmarks[:4, :2] = [[10, 10], [50, 10], [50, 50], [10, 50]]
    landmarks[468:] = 63.0
    assert face_hull(landmarks, 64).sum() == 41 * 41


def test_bilinear_look_up_repeats_the_border() -> None:
    import cv2

    @njit(error_model="numpy")
    def look(picture, x, y):
        i, a = texel_before(x, picture.shape[1])
        j, b = texel_before(y, picture.shape[0])
        top = picture[j, i] * (1 - a) + picture[j, i + 1] * a
        return top * (1 - b) + (picture[j + 1, i] * (1 - a) + picture[j + 1, i + 1] * a) * b

    rng = np.random.default_rng(0)
    picture = rng.uniform(size=(9, 7)).astype(np.float32)
    places = rng.uniform(-1, 10, (200, 2)).astype(np.float32)
    column = (places - 0.5)[:, None]
    expected = cv2.remap(picture, column[..., 0], column[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
    # OpenCV rounds shares to a thirty-second.
    np.testing.assert_allclose([look(picture, x, y) for x, y in places], expected, atol=0.04)


def test_holes_are_filled_as_scipy_fills_them() -> None:
    rng = np.random.default_rng(6)
    for share in (0.3, 0.6, 0.8):
        mask = rng.random((40, 50)) < share
        np.testing.assert_array_equal(holes_filled(mask), binary_fill_holes(mask))
