"""Mattes: a shape with a known edge, a filter that leaves constants alone, and which pixels are head."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.face.mattes import HeadCover, _guided_filter, _of_this_person, head_cover, head_share, refine_matte
from triportrait.face.open_head import OpenHead
from triportrait.types import FOCAL_IN_WIDTHS, MotionFrame

SIZE = 256


def disc(radius: float, centre: tuple[float, float] = (128.0, 128.0)) -> np.ndarray:
    """An anti-aliased disc [s, s] float32."""
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    return np.clip(radius - np.hypot(x - centre[0], y - centre[1]) + 0.5, 0, 1).astype(np.float32)


def painted(alpha: np.ndarray, front: tuple, back: tuple, noise: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    picture = alpha[..., None] * np.array(front) + (1 - alpha[..., None]) * np.array(back) + rng.normal(0, noise, (SIZE, SIZE, 3))
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def blurred(alpha: np.ndarray, sigma: float) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(alpha, (0, 0), sigma)


@pytest.mark.parametrize(
    ("front", "back"),
    [((200, 150, 120), (40, 70, 90)), ((40, 30, 25), (190, 195, 200)), ((120, 160, 60), (120, 80, 160))],
)
@pytest.mark.parametrize("error_px", [-3.0, 0.0, 3.0])
def test_a_coarse_blob_snaps_to_the_disc(front, back, error_px):
    """The segmentation may be a few pixels too large or small; the matte's edge lies on the photo's."""
    truth = disc(70.0)
    alpha = refine_matte(painted(truth, front, back), blurred(disc(70.0 + error_px), 5.0), disc(40.0) > 0.5)
    assert alpha.dtype == np.float32 and alpha.shape == (SIZE, SIZE)
    assert alpha.min() >= 0.0 and alpha.max() <= 1.0
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    distance = np.hypot(x - 128, y - 128)
    assert alpha[distance < 68.5].min() > 0.5 and alpha[distance > 71.5].max() < 0.5
    # As much area as the disc, to within half a pixel all round.
    assert abs(float(alpha.sum()) - float(truth.sum())) < 0.5 * 2 * np.pi * 70
    assert np.abs(alpha - truth).mean() < 0.01


def test_a_soft_edge_stays_soft():
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    truth = np.clip((70 - np.hypot(x - 128, y - 128)) / 6 + 0.5, 0, 1).astype(np.float32)
    alpha = refine_matte(painted(truth, (200, 150, 120), (40, 70, 90), 1.0), blurred(truth, 4.0), disc(40.0) > 0.5)
    mixed = (truth > 0.1) & (truth < 0.9)
    assert np.corrcoef(alpha[mixed], truth[mixed])[0, 1] > 0.9
    assert np.abs(alpha - truth)[mixed].mean() < 0.15


def test_only_the_piece_with_the_face_stays():
    person, lamp = disc(50.0, (90.0, 128.0)), disc(18.0, (215.0, 60.0))
    both = np.maximum(person, lamp)
    alpha = refine_matte(painted(both, (200, 150, 120), (40, 70, 90)), blurred(both, 4.0), disc(25.0, (90.0, 128.0)) > 0.5)
    assert alpha[128, 90] == 1.0
    assert alpha[:, 190:].max() == 0.0


def test_the_face_is_person_whatever_the_segmentation_says():
    alpha = refine_matte(painted(disc(70.0), (200, 150, 120), (40, 70, 90)), blurred(disc(70.0), 5.0) * 0.3, disc(40.0) > 0.5)
    assert alpha[disc(30.0) > 0.5].min() > 0.95


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_all_or_nothing_stays_so(level):
    alpha = refine_matte(painted(disc(70.0), (200, 150, 120), (40, 70, 90)), np.full((SIZE, SIZE), level, np.float32))
    np.testing.assert_allclose(alpha, level, atol=1e-3)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_the_guided_filter_leaves_constants(level):
    guide = np.random.default_rng(1).uniform(0, 1, (60, 80, 3)).astype(np.float32)
    np.testing.assert_allclose(_guided_filter(guide, np.full((60, 80), level, np.float32), 5, 1e-4), level, atol=1e-4)


def test_the_guided_filter_keeps_what_is_linear_in_the_guide():
    guide = np.random.default_rng(1).uniform(0, 1, (60, 80, 3)).astype(np.float32)
    values = guide @ np.array([0.2, 0.5, -0.1], np.float32) + np.float32(0.1)
    np.testing.assert_allclose(_guided_filter(guide, values, 5, 1e-6), values, atol=2e-3)


def test_the_guided_filter_smooths_where_the_guide_is_flat():
    values = np.random.default_rng(1).uniform(0, 1, (60, 80)).astype(np.float32)
    smooth = _guided_filter(np.full((60, 80, 3), 0.5, np.float32), values, 5, 1e-4)
    assert smooth.std() < 0.25 * values.std() and smooth.mean() == pytest.approx(values.mean(), abs=0.01)


@pytest.fixture(scope="module")
def seen_head(open_head: OpenHead) -> tuple[HeadCover, np.ndarray]:
    from triportrait.geometry.cameras import project

    zero = MotionFrame(np.zeros(44, np.float32), np.zeros(3), np.array([0.0, 0.0, -4.0]), np.zeros(2))
    cover = head_cover(open_head, open_head.mean, zero, SIZE, FOCAL_IN_WIDTHS)
    landmarks = project(open_head.landmarks478(open_head.mean) + np.float32((0, 0, -4)), SIZE)[0]
    return cover, landmarks


def test_the_cover_is_the_projected_head(open_head, seen_head):
    cover, landmarks = seen_head
    columns, rows = landmarks[[4, 50, 280, 9, 152]].T.astype(int)
    assert cover.covered[rows - 1, columns].all()
    assert np.isfinite(cover.depth[cover.covered]).all() and np.isinf(cover.depth[~cover.covered]).all()
    nose = landmarks[4].astype(int)
    assert cover.depth[nose[1], nose[0]] == pytest.approx(14.0 - float(open_head.landmarks478(open_head.mean)[4, 2]), abs=0.03)
    assert cover.neck.min() >= 0.0 and cover.neck.max() <= 1.01
    assert not cover.covered[0].any()


def test_the_face_is_head_and_what_lies_below_is_not(seen_head):
    cover, landmarks = seen_head
    share = head_share(cover, landmarks)
    assert share.min() >= 0.0 and share.max() <= 1.0 + 1e-6
    columns, rows = landmarks[[4, 50, 280, 9, 13]].T.astype(int)
    assert share[rows, columns].min() > 0.95
    height = landmarks[152, 1] - landmarks[10, 1]
    below = int(landmarks[152, 1] + 0.4 * height)
    assert share[below:].max() < 0.05
    # Above the head, hair: head too.
    assert share[int(landmarks[10, 1] - 0.2 * height), int(landmarks[10, 0])] > 0.9


def test_the_guided_filters_lines_are_the_least_squares_ones() -> None:
    """Against numpy's solver, with covariances from nearly singular to large."""
    from triportrait.face.matte_kernels import local_lines

    random = np.random.default_rng(0)
    colours = random.normal(size=(6, 7, 20, 3)) * random.choice([1e-3, 0.05, 0.3], (6, 7, 1, 3)) + 0.5
    values = random.normal(size=(6, 7, 20))
    mean, level = colours.mean(2), values.mean(2)
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    squares = np.stack([(colours[..., i] * colours[..., j]).mean(2) for i, j in pairs], -1)
    crosses = (colours * values[..., None]).mean(2)
    slope, offset = np.empty((6, 7, 3)), np.empty((6, 7))
    local_lines(mean, squares, crosses, level, 1e-5, slope, offset)
    centred = colours - mean[:, :, None]
    covariance = np.einsum("hwni,hwnj->hwij", centred, centred) / 20 + 1e-5 * np.eye(3)
    expected = np.linalg.solve(covariance, (crosses - mean * level[..., None])[..., None])[..., 0]
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    np.testing.assert_allclose(offset, level - (expected * mean).sum(-1), rtol=1e-6, atol=1e-9)


def test_others_who_stand_about_are_not_this_person() -> None:
    """Doubt counts beside what is sure and belongs to the face, and not elsewhere, not even where the segmentation is sure again."""
    probability, face = np.zeros((200, 200), np.float32), np.zeros((200, 200), bool)
    face[60:140, 70:110] = True
    probability[50:200, 60:120] = 1.0
    probability[50:120, 120:126] = 0.6  # hair
    probability[80:160, 150:190] = 0.5  # somebody out of focus
    probability[100:120, 165:175] = 0.95
    probability[60:70, 120:160] = 0.4  # a lock that flies
    own = _of_this_person(probability, face)
    np.testing.assert_array_equal(own[:60, :126], probability[:60, :126])
    np.testing.assert_array_equal(own[70:, :126], probability[70:, :126])
    lock = own[65, 120:160]
    assert lock[0] == np.float32(0.4) and not lock[20:].any()
    assert 0.1 < lock[10] < 0.3 and (np.diff(lock) <= 0).all()
    assert not own[:, 150:].any()
    np.testing.assert_array_equal(_of_this_person(probability, None), probability)


def test_below_a_scarf_it_is_still_this_person() -> None:
    """A band of which the segmentation is not sure parts nobody from the shoulders."""
    probability, face = np.zeros((300, 200), np.float32), np.zeros((300, 200), bool)
    face[40:140, 60:130] = True
    probability[30:150, 50:140] = 1.0
    probability[150:175, 70:120] = 0.5
    probability[175:, 20:180] = 1.0
    np.testing.assert_array_equal(_of_this_person(probability, face), probability)
