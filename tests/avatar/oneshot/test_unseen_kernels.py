"""Compiled change-over from photograph to volume against NumPy and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np

from triportrait.avatar.oneshot import unseen_kernels as kernels

SIZE, SIDE = 32, 64
BEHIND, STRETCHED = np.float32([0.05, 0.2]), np.float32([0.45, 0.2])


def test_unseen_is_what_lies_behind_or_is_stretched() -> None:
    random = np.random.default_rng(0)
    down, across = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
    place = np.dstack([across**2, 0.5 * down]) + random.uniform(-0.01, 0.01, (SIZE, SIZE, 2))
    place = place.astype(np.float32)
    depth = random.uniform(9.8, 10.2, (SIZE, SIZE)).astype(np.float32)
    depth[:4] = np.inf
    alpha, prior = (
        random.uniform(0, high, shape).astype(np.float32) + low for high, shape, low in ((1, depth.shape, 0), (0.1, (SIDE,) * 2, 9.9))
    )
    spared = (random.uniform(size=depth.shape) < 0.3).astype(np.uint8)
    found = np.empty_like(depth)
    kernels.unseen(place, depth, alpha, prior, spared, BEHIND, STRETCHED, found)

    x, y = (np.clip(place[..., c] * SIDE, 0, SIDE - 1).astype(int) for c in (0, 1))
    away = np.where(np.isfinite(depth), depth - prior[y, x], 0)
    shown = SIZE * np.minimum(*(np.linalg.norm(np.gradient(place, axis=axis), axis=-1) for axis in (0, 1)))
    stretched = np.clip((0.45 - shown) / 0.25, 0, 1) * (1 - spared)
    plain = np.maximum(np.clip((away - 0.05) / 0.15, 0, 1), stretched) * (alpha > 0.5)
    np.testing.assert_allclose(found, plain, atol=1e-4)
    assert 0.1 < (found > 0).mean() < 0.9


def test_a_plane_seen_at_a_slant_shows_fewer_pixels() -> None:
    """A quarter of a pixel of the photograph for each: four fifths of the way from the first bound to the second."""
    x, y = np.meshgrid(np.linspace(0, 0.25, SIZE), np.linspace(0, 1, SIZE))
    sides, depth = np.ones((SIZE, SIZE), np.float32), np.full((SIZE, SIZE), np.inf, np.float32)
    found = np.empty_like(depth)
    kernels.unseen(np.dstack([x, y]).astype(np.float32), depth, sides, sides, np.zeros(depth.shape, np.uint8), BEHIND, STRETCHED, found)
    np.testing.assert_allclose(found, 0.8, atol=0.05)


def test_colours_go_over_as_opencv_would_widen_the_guess() -> None:
    random = np.random.default_rng(1)
    alpha = random.uniform(0, 1, (4 * SIZE, 4 * SIZE)).astype(np.float32)
    rgb = (random.uniform(0, 1, (*alpha.shape, 3)) * alpha[..., None]).astype(np.float32)
    guess = random.uniform(0, 1.2, (SIZE, SIZE, 4)).astype(np.float32)
    guess[..., 3] = 0
    guess[5:20, 8:30, 3] = random.uniform(0, 1, (15, 22))
    wide = cv2.resize(guess, alpha.shape, interpolation=cv2.INTER_LINEAR)
    plain = rgb + wide[..., 3:] * (alpha[..., None] * wide[..., :3].clip(0, 1) - rgb)
    kernels.go_over(rgb, alpha, guess, np.array([5, 19, 8, 29]))
    np.testing.assert_allclose(rgb, plain, atol=2e-3)
    assert np.abs(rgb - plain)[:110].max() < 1e-5
