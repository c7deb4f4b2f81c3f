"""The person without a scene: what is put behind later looks as if it had been there."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.composite.cut_out import layer_of_two_scenes, person_layer, straight
from triportrait.composite.fusion import fuse
from triportrait.types import RenderedHead

SIDE = 64


def layers(seed: int, has_torso: bool) -> tuple[RenderedHead, np.ndarray | None]:
    """A head and a torso of smooth colours with soft edges, premultiplied."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    alpha = np.clip((20 - np.hypot(x - 32, y - 24)) / 6, 0, 1).astype(np.float32)
    rgb = (random.uniform(0.2, 0.9, 3) * alpha[..., None]).astype(np.float32)
    head = RenderedHead(rgb, alpha, np.full((SIDE, SIDE), np.inf, np.float32))
    if not has_torso:
        return head, None
    body = np.clip((y - 40) / 8, 0, 1)[..., None]
    return head, np.round(255 * np.concatenate([random.uniform(0.2, 0.9, 3) * body, body], axis=2)).astype(np.uint8)


def before(image: np.ndarray, alpha: np.ndarray, scene: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255.0
    return share * image + (1 - share) * scene


@pytest.mark.parametrize("has_torso", [False, True])
def test_a_scene_may_come_later(has_torso: bool, seed: int) -> None:
    head, torso = layers(seed, has_torso)
    image, alpha = straight(person_layer(head, torso))
    scene = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    assert np.abs(before(image, alpha, scene) - fuse(head, torso, scene)).max() <= 2.0
    assert (alpha[:3, :3] == 0).all() and alpha.max() == 255


def test_two_scenes_tell_the_layer(seed: int) -> None:
    head, torso = layers(seed, True)
    over = [fuse(head, torso, np.full((SIDE, SIDE, 3), level, np.uint8)) for level in (0, 255)]
    layer = layer_of_two_scenes(*over)
    assert np.abs(layer - person_layer(head, torso)).max() <= 1.5 / 255
    assert (layer[..., :3] <= layer[..., 3:] + 1e-6).all()


def test_colours_go_on_beyond_the_edge(seed: int) -> None:
    """What codecs mix at an edge is the person's own colour, not black."""
    head, _ = layers(seed, False)
    image, alpha = straight(person_layer(head, None))
    own = image[24, 32].astype(int)
    assert np.abs(image[alpha == 0].astype(int) - own).max() <= 2
