"""Layers over layers, and the crop back in its photograph."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.composite.fusion import PasteBack, fuse
from triportrait.geometry.crops import cut
from triportrait.types import MotionFrame, PreparedPortrait, RenderedHead

rng = np.random.default_rng(9)


def layer(rgb: np.ndarray, alpha: np.ndarray) -> RenderedHead:
    return RenderedHead(rgb.astype(np.float32), alpha.astype(np.float32), np.full(alpha.shape, 10, np.float32))


@pytest.fixture
def layers() -> tuple[RenderedHead, np.ndarray, np.ndarray]:
    """Random head, torso (premultiplied) and background, 40 px."""
    alpha = rng.uniform(0, 1, (40, 40))
    head = layer(rng.uniform(0, 1, (40, 40, 3)) * alpha[..., None], alpha)
    torso_alpha = rng.uniform(0, 1, (40, 40, 1))
    torso = np.concatenate([rng.uniform(0, 255, (40, 40, 3)) * torso_alpha, 255 * torso_alpha], -1).astype(np.uint8)
    return head, torso, rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)


def test_fusion_is_the_over_operator(layers):
    head, torso, background = layers
    share = torso[..., 3:] / 255.0
    below = torso[..., :3] + (1 - share) * background
    expected = 255.0 * head.rgb + (1 - head.alpha[..., None]) * below
    np.testing.assert_allclose(fuse(head, torso, background), np.clip(expected, 0, 255), atol=0.51)


def test_an_opaque_head_hides_everything(layers):
    _, torso, background = layers
    colour = rng.integers(0, 256, (40, 40, 3))
    head = layer(colour / 255.0, np.ones((40, 40)))
    np.testing.assert_array_equal(fuse(head, torso, background), colour)


def test_no_head_and_no_torso_is_the_background(layers):
    _, _, background = layers
    nothing = layer(np.zeros((40, 40, 3)), np.zeros((40, 40)))
    np.testing.assert_array_equal(fuse(nothing, np.zeros((40, 40, 4), np.uint8), background), background)


def test_an_opaque_torso_hides_the_background(layers):
    _, torso, background = layers
    torso[..., 3] = 255
    nothing = layer(np.zeros((40, 40, 3)), np.zeros((40, 40)))
    np.testing.assert_array_equal(fuse(nothing, torso, background), torso[..., :3])


def test_fusion_leaves_its_layers_alone(layers):
    head, torso, background = layers
    kept = head.rgb.copy(), head.alpha.copy(), torso.copy(), background.copy()
    out = fuse(head, torso, background)
    for now, then in zip((head.rgb, head.alpha, torso, background), kept, strict=True):
        np.testing.assert_array_equal(now, then)
    assert out is not background and out.dtype == np.uint8


def portrait_of(photo: np.ndarray, box: tuple[float, float, float], size: int) -> PreparedPortrait:
    """A portrait that knows only its photo and crop."""
    zero = MotionFrame(np.zeros(44), np.zeros(3), np.zeros(3), np.zeros(2))
    blank = np.zeros((size, size), np.float32)
    return PreparedPortrait(
        photo,
        box,
        cut(photo, box, size),
        blank,
        blank,
        np.zeros((size, size, 4), np.uint8),
        np.zeros((size, size, 3), np.uint8),
        np.zeros((478, 3), np.float32),
        np.zeros(80, np.float32),
        np.zeros((1, 3), np.float32),
        zero,
    )


BOXES = {
    "inside": (120.0, 60.0, 256.0),
    "fraction": (100.3, 40.7, 230.4),
    "at the left": (0.0, 30.0, 256.0),
    "the whole height": (128.0, 0.0, 512.0),
    "small": (300.0, 200.0, 90.0),
}


@pytest.fixture(scope="module")
def wide(astronaut: np.ndarray) -> np.ndarray:
    """A photo that is wider than high: uint8 [512, 768, 3]."""
    return np.ascontiguousarray(np.concatenate([astronaut, astronaut[:, ::-1][:, :256]], axis=1))


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize("size", [128, 256, 512])
def test_outside_the_crop_nothing_changes(wide, name, size):
    box = BOXES[name]
    portrait = portrait_of(wide, box, size)
    out = PasteBack(portrait)(255 - portrait.image)
    assert out.shape == wide.shape and out.dtype == np.uint8 and out is not wide
    y, x = np.mgrid[: wide.shape[0], : wide.shape[1]] + 0.5
    outside = (x < box[0] - 0.5) | (x > box[0] + box[2] + 0.5) | (y < box[1] - 0.5) | (y > box[1] + box[2] + 0.5)
    np.testing.assert_array_equal(out[outside], wide[outside])
    # In the middle the crop has replaced the photo altogether.
    x0, y0 = (int(edge + 0.5 * box[2]) for edge in box[:2])
    centre = np.s_[y0 - 10 : y0 + 10, x0 - 10 : x0 + 10]
    assert np.abs(out[centre].astype(int) - (255 - wide[centre])).mean() < 12


@pytest.mark.parametrize("name", BOXES)
def test_an_unchanged_crop_gives_the_photo(wide, name):
    portrait = portrait_of(wide, BOXES[name], 512)
    out = PasteBack(portrait)(portrait.image)
    error = out.astype(float) - wide
    assert 10 * np.log10(255**2 / max((error**2).mean(), 1e-9)) > 40.0
    assert np.abs(error).mean() < 0.5


def test_without_scaling_an_unchanged_crop_is_exact(wide):
    portrait = portrait_of(wide, (120.0, 60.0, 256.0), 256)
    np.testing.assert_array_equal(PasteBack(portrait)(portrait.image), wide)


def test_the_seam_is_gradual(wide):
    portrait = portrait_of(np.full_like(wide, 50), (200.0, 100.0, 256.0), 256)
    out = PasteBack(portrait)(np.full((256, 256, 3), 250, np.uint8)).astype(int)
    for line in (out[228, :, 0], out[:, 328, 0]):
        assert np.abs(np.diff(line)).max() < 40 and line.max() == 250 and line[0] == line[-1] == 50
    # Where the crop ends with the photo there is nothing to fit to.
    at_edge = portrait_of(np.full_like(wide, 50), (0.0, 100.0, 256.0), 256)
    assert (PasteBack(at_edge)(np.full((256, 256, 3), 250, np.uint8))[200:256, 0] == 250).all()


def test_frames_do_not_share_their_pixels(wide):
    portrait = portrait_of(wide, BOXES["inside"], 256)
    paste, kept = PasteBack(portrait), wide.copy()
    first = paste(portrait.image)
    before = first.copy()
    paste(255 - portrait.image)
    np.testing.assert_array_equal(first, before)
    np.testing.assert_array_equal(wide, kept)


def test_pasted_content_lands_where_it_was_cut(wide):
    """A white spot drawn in the crop appears at the photo pixel that the spot's place in the crop stands for."""
    box = BOXES["fraction"]
    portrait = portrait_of(np.zeros_like(wide), box, 512)
    crop = np.zeros((512, 512, 3), np.uint8)
    crop[300:312, 200:212] = 255
    out = PasteBack(portrait)(crop)[..., 0].astype(float)
    y, x = np.mgrid[: out.shape[0], : out.shape[1]] + 0.5
    place = np.array([(x * out).sum(), (y * out).sum()]) / out.sum()
    np.testing.assert_allclose(place, (box[0] + 206 * box[2] / 512, box[1] + 306 * box[2] / 512), atol=0.3)
