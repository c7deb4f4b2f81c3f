"""The painted-in scene: nearest colours exactly, untouched pixels untouched, nothing of the person left."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.face.layers import background_behind, nearest_fill, persons_pixels

rng = np.random.default_rng(8)


def test_nearest_fill_equals_brute_force():
    image = rng.integers(0, 255, (24, 31, 3), dtype=np.uint8)
    known = rng.uniform(size=(24, 31)) < 0.08
    filled = nearest_fill(image, known)
    places = np.argwhere(known)
    for row in range(24):
        for column in range(31):
            squared = ((places - (row, column)) ** 2).sum(1)
            nearest = {tuple(image[r, c]) for r, c in places[squared == squared.min()]}  # any of those equally near
            assert tuple(filled[row, column]) in nearest
    np.testing.assert_array_equal(filled[known], image[known])


def test_nearest_fill_without_anything_known_is_grey():
    assert (nearest_fill(np.zeros((5, 6, 3), np.uint8), np.zeros((5, 6), bool)) == 127).all()


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A green person before a smooth blue scene: (image, alpha, scene)."""
    y, x = np.mgrid[:128, :128] + 0.5
    behind = np.stack([40 + 0.2 * x, 60 + 0.2 * y, 180 + 0 * x], -1)
    alpha = np.clip(30 - np.hypot(x - 64, y - 80) + 0.5, 0, 1).astype(np.float32)
    image = alpha[..., None] * (30, 220, 30) + (1 - alpha[..., None]) * behind
    return np.round(image).astype(np.uint8), alpha, behind


@pytest.mark.parametrize("method", ["smooth", "knn"])
def test_the_person_is_gone(scene, method):
    image, alpha, behind = scene
    background = background_behind(image, alpha, method)
    assert background.dtype == np.uint8 and background.shape == image.shape
    assert np.abs(background.astype(float) - behind).max() < 20.0  # the person differs by 150


@pytest.mark.parametrize("method", ["smooth", "knn"])
def test_far_from_the_person_the_scene_is_the_photo(scene, method):
    image, alpha, _ = scene
    y, x = np.mgrid[:128, :128] + 0.5
    far = np.hypot(x - 64, y - 80) > 45
    difference = np.abs(background_behind(image, alpha, method)[far].astype(int) - image[far])
    assert difference.max() <= 1


@pytest.mark.parametrize("method", ["smooth", "knn"])
def test_without_a_person_nothing_changes(scene, method):
    image, alpha, _ = scene
    np.testing.assert_array_equal(background_behind(image, np.zeros_like(alpha), method), image)


@pytest.mark.parametrize("method", ["smooth", "knn"])
def test_a_person_who_fills_the_picture_leaves_grey(scene, method):
    image, alpha, _ = scene
    assert (background_behind(image, np.ones_like(alpha), method) == 127).all()


def test_the_same_photo_gives_the_same_scene(scene):
    image, alpha, _ = scene
    kept = image.copy(), alpha.copy()
    first = background_behind(image, alpha)
    np.random.seed(123)
    np.testing.assert_array_equal(background_behind(image, alpha), first)
    assert np.array_equal(image, kept[0]) and np.array_equal(alpha, kept[1])


def test_wisps_and_earrings_go_with_the_person(scene):
    """What the matte missed beside the person is nobody's scene; what hangs together with nothing stays."""
    image, alpha, _ = scene
    image = image.copy()
    image[78:80, 94:102] = (30, 220, 30)
    image[20:24, 20:24] = (30, 220, 30)
    gone = persons_pixels(image, alpha)
    assert gone[78:80, 94:102].all() and gone[alpha > 0.02].all()
    assert not gone[20:24, 20:24].any()
    # Where nothing is strange, the cut is tight.
    distance = np.hypot(*(np.mgrid[:128, :128] + 0.5 - np.array([80, 64])[:, None, None]))
    assert not gone[:70][distance[:70] > 36].any()


def test_the_scenes_grain_goes_on():
    random = np.random.default_rng(0)
    image = np.clip(np.round(140 + random.normal(0, 3, (128, 128, 1)) + np.zeros(3)), 0, 255).astype(np.uint8)
    alpha = np.zeros((128, 128), np.float32)
    alpha[40:, 30:100] = 1.0
    grain = background_behind(image, alpha)[50:, 40:90].astype(float).std()
    assert 0.7 * 3 < grain < 1.3 * 3


def test_a_sofa_goes_on_up_to_the_shoulder():
    """A dark person before a light wall, and behind the shoulders a sofa whose colour lies between the two."""
    y, x = np.mgrid[:256, :256] + 0.5
    wall, sofa, coat = (205, 200, 185), (105, 60, 45), (30, 35, 50)
    behind = np.where(((y > 130) & (y < 170))[..., None], sofa, wall).astype(np.float32)
    alpha = (np.hypot(x - 128, (y - 190) * 0.9) < 85).astype(np.float32)
    alpha = np.maximum(alpha, np.hypot(x - 128, y - 70) < 45)
    image = np.where(alpha[..., None] > 0, coat, behind).astype(np.uint8)
    touched = persons_pixels(image, alpha)
    at_sofa = (np.abs(y - 150) < 14) & ~(alpha > 0)
    assert touched[alpha > 0].all() and touched[at_sofa].mean() < 0.06
    drawn = background_behind(image, alpha)
    shown = at_sofa & (np.hypot(x - 128, (y - 190) * 0.9) < 88)
    assert np.abs(drawn[shown].astype(float) - sofa).max(-1).mean() < 12


def test_a_loose_lock_goes_with_the_person():
    y, x = np.mgrid[:256, :256]
    alpha = (np.hypot(x - 128, y - 150) < 60).astype(np.float32)
    hair, wall = (40, 30, 25), (200, 200, 205)
    image = np.where(alpha[..., None] > 0, hair, wall).astype(np.uint8)
    lock = (np.abs(x - 128) < 6) & (y > 70) & (y < 95)
    image[lock] = (60, 50, 45)
    assert persons_pixels(image, alpha)[lock].all()
