"""Matting against its definitions: the Laplacian, mixtures of known colours, and strands that the segmentation never saw."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.face.mattes import refine_matte, strangeness, trimap
from triportrait.face.matting import closed_form_matte, sampled_matte

SIZE = 256


def written_laplacian(image: np.ndarray, epsilon: float) -> np.ndarray:
    """Levin et al. (2008), eq. 12, entry by entry: [h w, h w]."""
    height, width = image.shape[:2]
    matrix = np.zeros((height * width,) * 2)
    number = np.arange(height * width).reshape(height, width)
    for row in range(1, height - 1):
        for column in range(1, width - 1):
            window = (slice(row - 1, row + 2), slice(column - 1, column + 2))
            colours = image[window].reshape(9, 3).astype(np.float64)
            centred = colours - colours.mean(0)
            inverse = np.linalg.inv(centred.T @ centred / 9 + epsilon / 9 * np.eye(3))
            places = number[window].ravel()
            matrix[np.ix_(places, places)] += np.eye(9) - (1 + centred @ inverse @ centred.T) / 9
    return matrix


def test_the_laplacian_is_the_written_one():
    from triportrait.face.matte_kernels import add_laplacian, window_statistics

    random = np.random.default_rng(0)
    image = random.uniform(0, 1, (9, 11, 3)).astype(np.float32)
    expected = written_laplacian(image, 1e-3)
    centres = np.stack(np.meshgrid(np.arange(1, 8), np.arange(1, 10), indexing="ij"), -1).reshape(-1, 2).astype(np.int32)
    means, inverses = np.empty((len(centres), 3), np.float32), np.empty((len(centres), 6), np.float32)
    diagonal, out = np.zeros((9, 11), np.float32), np.zeros((9, 11), np.float32)
    values = random.normal(size=(9, 11)).astype(np.float32)
    window_statistics(image, centres, 1e-3, means, inverses, diagonal)
    add_laplacian(image, centres, means, inverses, values, out)
    np.testing.assert_allclose(out.ravel(), expected @ values.ravel(), atol=2e-4)
    np.testing.assert_allclose(diagonal.ravel(), np.diag(expected), atol=2e-4)


@pytest.fixture(scope="module")
def strands() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head with loose hairs before a wall of soft light: (image, alpha, the head without its hairs)."""
    import cv2

    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    head = np.clip(60 - np.hypot(x - 128, y - 150) + 0.5, 0, 1).astype(np.float32)
    hairs = np.zeros((4 * SIZE, 4 * SIZE), np.uint8)
    for angle in np.linspace(-2.6, -0.5, 14):
        tip = (128 + 74 * np.cos(angle), 150 + 74 * np.sin(angle + 0.06))
        cv2.line(hairs, (512, 600), tuple(round(4 * c) for c in tip), 255, 4)
    alpha = np.maximum(head, cv2.resize(hairs, (SIZE, SIZE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255)
    wall = np.stack([150 + 0.2 * x, 160 + 0.1 * y, 170 + 0 * x], -1)
    image = alpha[..., None] * (60, 40, 30) + (1 - alpha[..., None]) * wall + np.random.default_rng(0).normal(0, 1.5, (SIZE, SIZE, 3))
    return np.clip(np.round(image), 0, 255).astype(np.uint8), alpha, head


def test_strands_that_the_segmentation_never_saw(strands):
    import cv2

    image, truth, head = strands
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    alpha = refine_matte(image, cv2.GaussianBlur(head, (0, 0), 4.0), np.hypot(x - 128, y - 150) < 45)
    loose = (np.hypot(x - 128, y - 150) > 63) & (np.hypot(x - 128, y - 150) < 70) & (y < 150)
    assert np.corrcoef(alpha[loose], truth[loose])[0, 1] > 0.9
    assert np.abs(alpha - truth)[loose].mean() < 0.4 * truth[loose].mean()
    # And nothing else: the wall beside them is clean.
    assert alpha[loose & (truth == 0)].mean() < 0.02
    assert alpha[(y < 60) | (x < 30) | (x > 226)].max() == 0.0


def test_a_plain_edge_is_even():
    """A shoulder: as far out in every column, in spite of a segmentation that wavers."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    edge = 180.3
    truth = np.clip(y - edge + 0.5, 0, 1).astype(np.float32)
    image = truth[..., None] * (70, 80, 150) + (1 - truth[..., None]) * (190, 185, 170)
    image = np.clip(np.round(image + np.random.default_rng(0).normal(0, 2, image.shape)), 0, 255).astype(np.uint8)
    probability = np.clip((y - edge + 3 * np.sin(x / 9)) / 8 + 0.5, 0, 1).astype(np.float32)
    alpha = refine_matte(image, probability, (np.hypot(x - 128, y - 236) < 18) & (y > 200))
    found = SIZE - alpha[140:].sum(0)
    assert np.abs(found - edge).mean() < 0.25 and found.std() < 0.25


def test_a_mixture_of_known_colours():
    """Two plain sides and a slope between them: the pair is found, and with it the share."""
    truth = np.clip((np.arange(64) - 20) / 24.0, 0, 1).astype(np.float32)
    alpha = np.broadcast_to(truth, (32, 64))
    front, back = np.float32((0.8, 0.3, 0.2)), np.float32((0.1, 0.4, 0.7))
    image = (alpha[..., None] * front + (1 - alpha[..., None]) * back).astype(np.float32)
    sampled = sampled_matte(image, alpha == 1, alpha == 0, np.broadcast_to(back, image.shape).copy())
    unknown = (alpha > 0) & (alpha < 1)
    np.testing.assert_allclose(sampled.alpha[unknown], alpha[unknown], atol=1e-3)
    assert sampled.trust[unknown].min() > 0.9 and not sampled.trust[~unknown].any()


def test_the_closed_form_continues_what_is_known():
    """Colours on a line: the matte is that line although nothing but the two ends holds it."""
    y, x = np.mgrid[:40, :40] / 39.0
    truth = np.clip(1.2 * x + 0.3 * np.sin(5 * y) - 0.2, 0, 1).astype(np.float32)
    image = (truth[..., None] * np.float32((0.9, 0.5, 0.1)) + (1 - truth[..., None]) * np.float32((0.1, 0.2, 0.6))).astype(np.float32)
    free = (truth > 0.1) & (truth < 0.9)
    start = np.where(free, 0.5, truth).astype(np.float32)
    found = closed_form_matte(image, start, np.full_like(truth, 1e-6), start, free)
    np.testing.assert_array_equal(found[~free], truth[~free])
    assert np.abs(found - truth).max() < 0.05


def test_without_anything_unknown_nothing_is_solved():
    mask = np.eye(8, dtype=np.float32)
    np.testing.assert_array_equal(closed_form_matte(np.zeros((8, 8, 3), np.float32), mask, mask, mask, np.zeros((8, 8), bool)), mask)


def test_what_is_strange_before_a_wall():
    random = np.random.default_rng(0)
    picture = (0.5 + random.normal(0, 0.01, (96, 96, 3))).astype(np.float32)
    picture[40:44, 20:60] = 0.2
    strange, usual = strangeness(picture, np.ones((96, 96), bool), 12.0)
    assert strange[40:44, 20:60].min() > 2.0
    assert np.quantile(strange[60:], 0.99) < 1.0
    assert 0.005 < np.median(usual) < 0.05


def test_the_band_is_wide_for_hair_and_narrow_at_shoulders(strands):
    import cv2

    image, _, head = strands
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    body = np.maximum(head, ((np.abs(x - 128) < 100) & (y > 220)).astype(np.float32))
    face = np.hypot(x - 128, y - 150) < 45
    soft = cv2.GaussianBlur(body, (0, 0), 1.0)
    known = trimap(image.astype(np.float32) / 255, soft, soft, face)
    assert not (known.inside & known.outside).any() and known.inside[face].all()
    unknown = ~known.inside & ~known.outside
    assert unknown[80:150, 128].sum() > 1.5 * unknown[200:, 60].sum()
