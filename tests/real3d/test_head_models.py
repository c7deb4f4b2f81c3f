"""A user's head models: found by name, fitted to landmarks, and missed in one sentence."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from bfm_samples import synthetic_bfm
from flame_samples import synthetic_flame
from triportrait.errors import MissingPart, OptionError, WeightsError
from triportrait.face.flame import FlameHead
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.motion.smoothing import smooth_motion
from triportrait.real3d.flame_fitting import FlameFitter
from triportrait.real3d.head_models import fitter_of, load_flame, load_head, load_user_head
from triportrait.types import ARKIT_EXPRESSIONS, FOCAL_IN_WIDTHS, Motion

SIDE_PX = 256


@pytest.fixture(scope="module")
def flame(tmp_path_factory: pytest.TempPathFactory, open_head: OpenHead) -> FlameHead:
    return load_flame(synthetic_flame(tmp_path_factory.mktemp("flame"), open_head))


def seen(head: FlameHead, identity: np.ndarray, expression: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Landmarks [478, 2] in pixels, NaN where the file places none."""
    posed = pose_points(head.landmarks478(head.vertices(identity, expression)), rotation, translation)
    return project(posed, SIDE_PX, FOCAL_IN_WIDTHS)[0]


def test_the_landmarks_of_the_fit_are_those_of_the_mesh(flame: FlameHead, seed: int) -> None:
    random = np.random.default_rng(seed)
    identity, expression = random.normal(size=300), np.zeros((3, 103), np.float32)
    expression[:, :44], expression[1, 100:] = random.uniform(0, 0.3, (3, 44)), (0.9, 0.2, 0.0)
    numbers, mean, bases, curves = flame.landmark_bases()
    assert (np.diff(numbers) > 0).all() and bases.shape == (len(numbers), 3, 300) and curves.shape == (len(numbers), 3, 103)
    points = flame.landmark_points(identity, expression)
    for row, at in zip(expression, points, strict=True):
        np.testing.assert_allclose(at, flame.landmarks478(flame.vertices(identity, row))[numbers], atol=1e-5)
    # At rest the bases are exact, up to a jaw that is hardly open.
    small = np.zeros((1, 103), np.float32)
    small[0, [3, 100]] = 0.02
    linear = mean + bases @ identity + curves @ small[0]
    assert np.abs(linear - flame.landmark_points(identity, small)[0]).max() < 2e-3


def test_a_turned_face_with_an_open_jaw_is_found_again(flame: FlameHead, seed: int) -> None:
    random = np.random.default_rng(seed)
    identity = np.concatenate([0.4 * random.normal(size=80), np.zeros(220)])
    expression = np.zeros((6, 103), np.float32)
    expression[:, 100] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    expression[2, [ARKIT_EXPRESSIONS.index(name) for name in ("mouthSmileLeft", "mouthSmileRight")]] = 0.6
    rotation = random.uniform(-0.25, 0.25, (6, 3)) * (1, 1, 0.3)
    rows = np.stack([seen(flame, identity, *row, np.array([0.1, -0.2, 0.3])) for row in zip(expression, rotation, strict=True)])
    fitter = fitter_of(flame, SIDE_PX, video=True)
    assert isinstance(fitter, FlameFitter)
    began = time.process_time()
    found, _ = fitter.fit_person(rows)
    motion = fitter.fit_motion(rows, found)
    assert time.process_time() - began < 20
    assert motion.head_model == "flame" and motion.expression.shape == (6, 103) and found.shape == (300,)
    assert np.median(fitter.residual_px(rows, motion)) < 1.5
    assert np.abs(motion.rotation_rad - rotation).max() < 0.12
    # Curves may take a part of the jaw's work: that the mouth opens with it is what counts.
    gaps = [flame.landmarks478(flame.vertices(found, row))[[13, 14], 1] for row in motion.expression]
    truth = [flame.landmarks478(flame.vertices(identity, row))[[13, 14], 1] for row in expression]
    np.testing.assert_allclose(np.diff(gaps).ravel(), np.diff(truth).ravel(), atol=0.05)


def test_smoothing_keeps_the_sign_of_flames_coefficients(flame: FlameHead) -> None:
    """They are no ARKit curves, although one of them is called jawOpen."""
    rows = np.tile(np.linspace(-1.5, 1.5, 103, dtype=np.float32), (8, 1))
    still = np.zeros((8, 3), np.float32)
    motion = Motion(rows, still, still, still[:, :2], 25.0, flame.expression_names, "flame")
    np.testing.assert_allclose(smooth_motion(motion).expression, rows, atol=1e-5)


def test_both_are_found_where_weights_lie_and_missed_in_a_sentence(
    tmp_path: Path, open_head: OpenHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPORTRAIT_HOME", str(tmp_path))
    assert load_head("open") is open_head
    with pytest.raises(OptionError, match="use open, bfm, flame"):
        load_head("smile")
    with pytest.raises(MissingPart, match="weights import BFM_model_front.mat"):
        load_head("bfm")
    with pytest.raises(MissingPart, match="generic_model.pkl or flame2023.pkl"):
        load_user_head("flame")
    folder = tmp_path / "weights"
    index = synthetic_bfm(folder / "bfm", open_head).with_name("index_mp468_from_mesh35709.npy")
    synthetic_flame(folder / "flame", open_head)
    assert (load_head("bfm").name, load_head("flame").name) == ("bfm", "flame")
    (folder / "flame" / "mediapipe_landmark_embedding.npz").rename(tmp_path / "elsewhere.npz")
    (folder / "flame" / "flame.npz").rename(folder / "flame" / "flame2023.pkl")
    with pytest.raises(MissingPart, match=r"mediapipe_landmark_embedding\.npz.*flame\.is\.tue\.mpg\.de"):
        load_head("flame")
    index.unlink()
    (folder / "bfm").rename(folder / "other")
    with pytest.raises(WeightsError, match="index_mp468"):
        load_head("bfm", folder / "other")
