"""A filled scene keeps what is known, is even where the scene is even, and goes on with its texture where it has one."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.face.scene_fill import _step, fill_scene
from triportrait.geometry.filling import push_pull


@pytest.fixture(scope="module")
def known() -> np.ndarray:
    y, x = np.mgrid[:256, :256] + 0.5
    return (np.hypot(x - 128, y - 140) > 45) & ~((np.abs(x - 128) < 70) & (y > 190))


@pytest.fixture(scope="module")
def stripes() -> np.ndarray:
    x = np.arange(256) + 0.5
    row = 128 + 60 * np.sin(2 * np.pi * x / 12)
    return np.broadcast_to(row[None, :, None], (256, 256, 3)).round().astype(np.uint8)


def test_what_is_known_stays(stripes, known):
    filled = fill_scene(stripes, known)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[known], stripes[known])


def test_an_even_scene_stays_even(known):
    image = np.full((256, 256, 3), (40, 90, 200), np.uint8)
    image[~known] = (255, 0, 0)
    assert np.abs(fill_scene(image, known) - (40, 90, 200)).max() < 1.0


def test_texture_goes_on(stripes, known):
    hidden = np.where(known[..., None], stripes, 0).astype(np.uint8)
    filled = fill_scene(hidden, known)
    spread = stripes[known].astype(float).std()
    assert filled[~known].std() > 0.35 * spread
    assert push_pull(hidden.astype(np.float32), known.astype(np.float32))[~known].std() < 0.3 * spread
    # In step with the scene: what is hidden is guessed better than by its mean.
    assert ((filled - stripes)[~known] ** 2).mean() < 0.6 * spread**2


def test_same_again(stripes, known):
    np.testing.assert_array_equal(fill_scene(stripes, known), fill_scene(stripes, known))


def test_an_edge_goes_on_as_an_edge(known):
    """Light over dark: near the hole's rim the border of both is where it was, and as sharp."""
    image = np.where(np.mgrid[:256, :256][0][..., None] < 150, 200, 60).astype(np.uint8) + np.zeros((1, 1, 3), np.uint8)
    filled = fill_scene(np.where(known[..., None], image, 0).astype(np.uint8), known)
    for column in (88, 168):
        assert filled[140:146, column].min() > 170 and filled[155:161, column].max() < 90


@pytest.mark.parametrize("case", ["all", "hardly any"])
def test_little_to_do_or_little_to_learn_from(stripes, case):
    known = np.zeros((256, 256), bool)
    known[:, : 256 if case == "all" else 3] = True
    filled = fill_scene(stripes, known)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[known], stripes[known])


@pytest.mark.parametrize("size", [96, 512])
def test_a_fill_that_is_too_dark_is_raised_to_meet_the_photo(size):
    y, x = np.mgrid[:size, :size] + 0.5
    known = np.hypot(x - size / 2, y - size / 2) > 0.2 * size
    photo = np.full((size, size, 3), (120, 90, 60), np.float32)
    step = _step(photo, photo - (30, 10, 0), known)
    np.testing.assert_allclose(step[~known], np.broadcast_to((30, 10, 0), (int((~known).sum()), 3)), atol=0.5)


def test_another_colour_does_not_begin_at_the_edge_of_the_hole():
    """Whatever is painted in, next to the edge it is what the photo shows there."""
    photo = np.full((128, 128, 3), 200.0, np.float32)
    photo[:, :50] = (90, 50, 40)
    known = np.ones((128, 128), bool)
    known[20:108, 50:90] = False
    filled = fill_scene(photo.astype(np.uint8), known)
    np.testing.assert_allclose(filled[40:90, 50], photo[40:90, 49], atol=30)
    np.testing.assert_allclose(filled[40:90, 88], 200.0, atol=10)
    assert (np.diff(filled[60, 50:90, 0]) > -3).all()
