"""Metrics: laws, figures worked by hand, and equality with scikit-image."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.evaluation import metrics


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    first = random.integers(0, 256, (200, 180, 3), np.uint8)
    second = np.clip(first.astype(int) + random.integers(-40, 41, first.shape), 0, 255).astype(np.uint8)
    return first, second


def still_face(side: float = 256.0) -> np.ndarray:
    """478 points on an ellipse grid whose special points lie where the test can count on them."""
    random = np.random.default_rng(1)
    angle = random.uniform(0, 2 * np.pi, 478)
    radius = np.sqrt(random.uniform(0, 0.8, 478))
    face = np.stack([0.5 + 0.2 * radius * np.cos(angle), 0.5 + 0.25 * radius * np.sin(angle)], -1)
    face[metrics.FOREHEAD], face[metrics.CHIN] = (0.5, 0.25), (0.5, 0.75)
    for i, index in enumerate(metrics.OUTER_LIPS):
        turn = 2 * np.pi * i / len(metrics.OUTER_LIPS)
        face[index] = (0.5 - 0.1 * np.cos(turn), 0.65 + 0.03 * np.sin(turn))
    for upper, lower in metrics.LIP_PAIRS:
        face[upper], face[lower] = (0.5, 0.64), (0.5, 0.66)
    for x, pairs, corners in zip((0.4, 0.6), metrics.EYE_PAIRS, metrics.EYE_CORNERS, strict=True):
        for upper, lower in pairs:
            face[upper], face[lower] = (x, 0.44), (x, 0.46)
        face[corners[0]], face[corners[1]] = (x - 0.04, 0.45), (x + 0.04, 0.45)
    return (face * side).astype(np.float32)


def test_l1_and_psnr_by_hand():
    black, grey = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 51, np.uint8)
    assert metrics.l1(black, grey) == pytest.approx(0.2)
    assert metrics.psnr(black, grey) == pytest.approx(-10 * np.log10(0.04), abs=1e-5)
    half = np.zeros((4, 4), bool)
    half[:2] = True
    grey[2:] = 0
    assert metrics.l1(black, grey) == pytest.approx(0.1)
    assert metrics.l1(black, grey, half) == pytest.approx(0.2)
    assert metrics.l1(black, grey, ~half) == 0
    assert metrics.psnr(black, grey, ~half) == metrics.HIGHEST_PSNR_DB
    assert np.isnan(metrics.l1(black, grey, np.zeros((4, 4), bool)))
    assert np.isnan(metrics.psnr(black, grey, np.zeros((4, 4), bool)))


def test_bytes_and_floats_are_the_same_picture(pair):
    first, second = pair
    assert metrics.l1(first, second) == pytest.approx(metrics.l1(first / 255.0, second / 255.0), abs=1e-7)


def test_ssim_equals_scikit_image(pair):
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    first, second = pair
    expected = structural_similarity(
        first / 255.0,
        second / 255.0,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
    )
    assert metrics.ssim(first, second) == pytest.approx(expected, abs=1e-6)
    assert metrics.ssim(first, first) == pytest.approx(1.0)


def test_psnr_equals_scikit_image(pair):
    peak = pytest.importorskip("skimage.metrics").peak_signal_noise_ratio
    assert metrics.psnr(*pair) == pytest.approx(peak(*pair, data_range=255), abs=1e-4)


def test_ssim_mask_leaves_pixels_out(pair):
    first, _ = pair
    spoilt = first.copy()
    spoilt[:40, :40] = 0
    mask = np.ones(first.shape[:2], bool)
    mask[:46, :46] = False
    assert metrics.ssim(first, spoilt, mask) == pytest.approx(1.0, abs=1e-9)
    assert metrics.ssim(first, spoilt) < 0.99


def test_ms_ssim_laws(pair):
    first, second = pair
    assert metrics.ms_ssim(first, first) == pytest.approx(1.0)
    assert 0.0 < metrics.ms_ssim(first, second) < 1.0
    assert metrics.ms_ssim(first, second) == pytest.approx(metrics.ms_ssim(second, first))
    # A change of brightness alone touches only the coarsest scale's luminance term, to the power .1333.
    flat, brighter = np.full((176, 176, 3), 0.4, np.float32), np.full((176, 176, 3), 0.6, np.float32)
    luminance = (2 * 0.24 + 1e-4) / (0.16 + 0.36 + 1e-4)
    assert metrics.ms_ssim(flat, brighter) == pytest.approx(luminance**0.1333, abs=1e-5)
    spoilt = first.copy()
    spoilt[:16, :16] = 0
    mask = np.ones(first.shape[:2], bool)
    mask[:96, :96] = False
    assert metrics.ms_ssim(first, spoilt, mask) > metrics.ms_ssim(first, spoilt)
    with pytest.raises(ValueError, match="176"):
        metrics.ms_ssim(first[:100], second[:100])


def test_wrong_shapes_are_refused(pair):
    first, second = pair
    for measure in (metrics.l1, metrics.psnr, metrics.ssim):
        with pytest.raises(ValueError, match="expected the same"):
            measure(first, second[:-1])
    with pytest.raises(ValueError, match="11 x 11"):
        metrics.ssim(first[:10], second[:10])


def test_landmark_distance_by_hand():
    face = still_face()
    assert metrics.landmark_distance(face, face + np.float32([3, 4])) == pytest.approx(5.0, abs=1e-5)
    moved = face.copy()
    moved[list(metrics.LIPS)] += (0, 2)
    assert metrics.landmark_distance(face, moved, metrics.LIPS) == pytest.approx(2.0, abs=1e-5)
    assert metrics.landmark_distance(face, moved) == pytest.approx(2.0 * len(metrics.LIPS) / 478, abs=1e-5)


def test_openings_are_fractions_of_the_face_height():
    real = still_face()
    made = real.copy()
    for upper, lower in metrics.LIP_PAIRS:
        made[upper, 1] -= 4
        made[lower, 1] += 4
    for upper, _ in metrics.EYE_PAIRS[0]:
        made[upper, 1] += 2
    assert metrics.face_height(real) == pytest.approx(128.0)
    assert metrics.lip_opening_error(made, real) == pytest.approx(8 / 128, abs=1e-6)
    assert metrics.eye_opening_error(made, real) == pytest.approx(0.5 * 2 / 128, abs=1e-6)
    # The figure does not depend on the size of the picture.
    assert metrics.lip_opening_error(2 * made, 2 * real) == pytest.approx(8 / 128, abs=1e-6)
    assert metrics.eye_aspect(real) == pytest.approx(0.02 / 0.08, abs=1e-5)


def test_masks_follow_the_face():
    face = still_face()
    mouth, head = metrics.mouth_mask(face, 256), metrics.head_mask(face, 256)
    assert mouth[int(0.65 * 256), 128] and not mouth[int(0.5 * 256), 128]
    # Hull 0.2 x 0.06 of the side (an ellipse), grown by 15 % of 0.2.
    assert mouth.sum() / 256**2 == pytest.approx(np.pi * (0.1 + 0.03) * (0.03 + 0.03), rel=0.1)
    assert head[128, 128] and head[int(256 * 0.16), 128] and not head[int(256 * 0.12), 128]
    assert head[int(256 * 0.755), 128] and not head[int(256 * 0.79), 128]
    shifted = metrics.head_mask(face + np.float32([10, -5]), 256)
    assert np.array_equal(shifted[:-5, 10:], head[5:, :-10])
    # A face beyond the picture gives an empty mask and no error.
    assert not metrics.head_mask(face + 1000, 256).any()


def test_rotation_angle():
    assert metrics.rotation_angle_deg(np.zeros(3), np.radians([0, 7, 0])) == pytest.approx(7)
    assert metrics.rotation_angle_deg(np.radians([0, 10, 0]), np.radians([0, -10, 0])) == pytest.approx(20)
    pose = np.radians([5.0, -12.0, 3.0])
    assert metrics.rotation_angle_deg(pose, pose) == pytest.approx(0, abs=1e-6)
    assert metrics.rotation_angle_deg(pose, pose[::-1]) == pytest.approx(metrics.rotation_angle_deg(pose[::-1], pose))


def test_mean_by_rotation_bins_are_half_open():
    bins = metrics.mean_by_rotation([10, 20, 30, 40, 50, float("nan")], [0, 3.99, 4, 14.9, 30, 1])
    assert bins["0_4"] == (15, 2) and bins["4_8"] == (30, 1) and bins["8_15"] == (40, 1)
    assert np.isnan(bins["15_30"][0]) and bins["15_30"][1] == 0


def test_jitter_ignores_steady_motion():
    steady = still_face()[None] + np.arange(6)[:, None, None] * np.float32([1.5, -1.0])
    assert metrics.jitter(steady) == pytest.approx(0, abs=1e-4)
    shaking = steady.copy()
    shaking[::2] += np.float32([1.0, 0.0])
    assert metrics.jitter(shaking) == pytest.approx(2.0, abs=1e-4)
    assert np.isnan(metrics.jitter(steady[:2]))


def test_flicker_counts_only_still_pixels():
    real = np.full((4, 32, 32, 3), 100, np.uint8)
    real[1::2, :, :8] = 200
    made = real.copy()
    made[1::2] += 10
    result = metrics.flicker(made, real)
    assert result.real == 0 and result.made == pytest.approx(10 / 255, abs=1e-6)
    made[3] += 20
    popped = metrics.flicker(made, real)
    assert popped.real_most == 0 and popped.made_most == pytest.approx(30 / 255, abs=1e-6) and popped.made < popped.made_most
    assert 0.6 < result.still_share < 0.76
    assert np.isnan(metrics.flicker(made[:1], real[:1]).made)


def test_blinks_are_counted_once():
    curve = np.full(250, 0.3)
    curve[20:24] = 0.05
    curve[100:104] = (0.1, 0.155, 0.1, 0.16)
    curve[150:200] = 0.05
    assert metrics.blinks(curve, 25.0) == [(20, 24), (100, 104)]
    assert metrics.blink_rate_per_minute(curve, 25.0) == pytest.approx(12.0)
    assert metrics.blinks(np.array([]), 25.0) == []


def test_silent_lip_by_hand():
    opening = np.concatenate([np.zeros(50), np.ones(50)])
    silent = np.arange(100) < 50
    assert metrics.silent_lip(opening, silent) == {"opening": 0.0, "movement": 0.0}
    assert metrics.silent_lip(opening, ~silent)["opening"] == 1.0
    assert np.isnan(metrics.silent_lip(opening, np.zeros(100, bool))["opening"])
    assert np.isnan(metrics.silent_lip(np.ones(100), silent)["movement"])
