"""The published layers of a photograph, on a drawn one."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.real3d.layers import background_by_nearest, inpaint_torso, published_layers, published_layers_of_classes
from triportrait.types import PreparedPortrait

SKIN, CLOTH, HAIR, WALL = (200, 150, 120), (20, 40, 160), (60, 40, 30), (90, 200, 90)


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Picture, head, neck and clothes of a block figure of 128 px."""
    image = np.full((128, 128, 3), WALL, np.uint8)
    head, neck, clothes = (np.zeros((128, 128), bool) for _ in range(3))
    head[20:70, 40:88] = True
    neck[70:90, 52:76] = True
    clothes[90:, 20:108] = True
    clothes[70:90, 76:88] = True
    for mask, colour in ((head, HAIR), (neck, SKIN), (clothes, CLOTH)):
        image[mask] = colour
    return image, head, neck, clothes


def test_neck_and_clothes_go_on_behind_the_head(drawn: tuple[np.ndarray, ...]) -> None:
    image, head, neck, clothes = drawn
    torso = inpaint_torso(image, head, neck, clothes)
    np.testing.assert_array_equal(torso[clothes], image[clothes])
    np.testing.assert_array_equal(torso[75:90, 52:76], image[75:90, 52:76])
    # Skin colours behind the head, darker and darker, and then black.
    column = torso[50:70, 64].astype(float)
    shown = column.any(1)
    assert 8 <= shown.sum() <= 16 and shown[-1]
    bright = column[shown].mean(1)
    assert (np.diff(bright) >= -0.5).all() and bright[-1] > 0.8 * np.mean(SKIN)
    np.testing.assert_allclose(column[shown][0] / column[shown][0].sum(), np.array(SKIN) / sum(SKIN), atol=0.02)
    # Clothes directly under the head reach a little upwards, others do not.
    assert torso[68:70, 82].any() and not torso[60, 82].any() and not torso[85:89, 25].any()


def test_background_is_taken_from_beyond_the_person(drawn: tuple[np.ndarray, ...]) -> None:
    image, head, neck, clothes = drawn
    scene = background_by_nearest(image, head | neck | clothes)
    assert (scene == WALL).all()


def test_a_real_photograph_gives_skin_below_the_chin_and_cloth_below_that(astronaut_portrait: PreparedPortrait) -> None:
    portrait = astronaut_portrait
    layers = published_layers(portrait.image, portrait.person_alpha, portrait.head_alpha, portrait.landmarks)
    neck, clothes = layers.masks.astype(bool)
    assert not (neck & clothes).any()
    assert 0.002 < neck.mean() < 0.1 and clothes.mean() > 0.1
    assert np.nonzero(neck)[0].mean() < np.nonzero(clothes)[0].mean()
    assert not layers.head[neck].any() and not layers.torso[:20].any()


def test_without_inpainting_the_scene_stays_black_behind_the_person(astronaut_portrait: PreparedPortrait) -> None:
    portrait = astronaut_portrait
    given = (portrait.image, portrait.person_alpha, portrait.head_alpha, portrait.landmarks)
    whole, plain = published_layers(*given), published_layers(*given, inpaint_background=False)
    person = portrait.person_alpha > 0.5
    assert not plain.background[person].any() and whole.background[person].any()
    np.testing.assert_array_equal(plain.background[~person], portrait.image[~person])
    np.testing.assert_array_equal(plain.torso, whole.torso)
    np.testing.assert_array_equal(plain.head, whole.head)


def test_a_segmenters_classes_say_what_belongs_where(drawn: tuple[np.ndarray, ...]) -> None:
    image, head, neck, clothes = drawn
    classes = np.zeros(head.shape, np.uint8)
    for mask, number in ((head, 3), (neck, 2), (clothes, 4)):
        classes[mask] = number
    classes[20:40, 40:88], classes[60:64, 50:60] = 1, 5  # hair, and something worn
    layers = published_layers_of_classes(image, classes)
    np.testing.assert_array_equal(layers.head.any(-1), head)
    np.testing.assert_array_equal(layers.masks.astype(bool), np.stack([neck, clothes]))
    np.testing.assert_array_equal(layers.torso, inpaint_torso(image, head, neck, clothes))
    assert (layers.background == WALL).all()
