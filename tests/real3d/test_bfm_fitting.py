"""The fit of the Basel face model's layout: what was projected is found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bfm_samples import synthetic_bfm
from triportrait.errors import WeightsError
from triportrait.face.bfm import BfmHead
from triportrait.face.open_head import OpenHead
from triportrait.face.pncc import PNCC_FOCAL
from triportrait.geometry.cameras import pose_points, project
from triportrait.real3d.bfm_fitting import BfmFitSettings, BfmFitter

SIDE_PX = 512


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory, open_head: OpenHead) -> BfmHead:
    path = synthetic_bfm(tmp_path_factory.mktemp("bfm"), open_head)
    return BfmHead.from_file(path, index_mp468=path.with_name("index_mp468_from_mesh35709.npy"))


def seen(head: BfmHead, identity: np.ndarray, expression: np.ndarray, rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Landmarks [478, 3] in pixels, NaN where the model has none."""
    posed = pose_points(head.landmarks478(head.vertices(identity, expression)), rotation, translation)
    pixels, _ = project(posed, SIDE_PX, PNCC_FOCAL)
    return np.concatenate([pixels, np.zeros((478, 1))], 1)


def test_pose_and_landmarks_are_found_again(head: BfmHead, seed: int) -> None:
    random = np.random.default_rng(seed)
    identity = random.normal(size=80)
    rotation, translation = random.uniform(-0.35, 0.35, (4, 3)), random.uniform(-0.5, 0.5, (4, 3))
    rows = np.stack([seen(head, identity, 0.5 * random.normal(size=64), *pose) for pose in zip(rotation, translation, strict=True)])
    settings = BfmFitSettings(identity_prior=1e-4, expression_prior=1e-4, depth_prior=0.0, turn_prior=0.0, steps=20)
    found, motion = BfmFitter(head, SIDE_PX, settings).fit_person(rows)
    assert motion.head_model == "bfm" and len(motion) == 4
    known = np.isfinite(rows[0, :468, 0])
    for row, frame in zip(rows, motion, strict=True):
        again = seen(head, found, frame.expression, frame.rotation_rad, frame.translation)
        assert np.abs(again[:468][known] - row[:468][known]).max() < 0.5


def test_the_published_priors_keep_pose_and_shape_apart(head: BfmHead, seed: int) -> None:
    random = np.random.default_rng(seed)
    identity = 0.3 * random.normal(size=80)
    rotation = random.uniform(-0.3, 0.3, (4, 3))
    rows = np.stack([seen(head, identity, 0.3 * random.normal(size=64), turn, np.zeros(3)) for turn in rotation])
    found, motion = BfmFitter(head, SIDE_PX).fit_person(rows)
    assert np.abs(motion.rotation_rad - rotation).max() < 0.15
    assert np.abs(motion.translation).max() < 0.3
    assert np.abs(found).max() < 3.0


def test_a_known_person_gives_the_same_motion_row_by_row_and_at_once(head: BfmHead, seed: int) -> None:
    random = np.random.default_rng(seed)
    identity = 0.5 * random.normal(size=80)
    rotation = np.linspace(-0.2, 0.2, 70)[:, None] * (0.3, 1.0, 0.1)
    rows = np.stack([seen(head, identity, np.zeros(64), turn, np.zeros(3)) for turn in rotation])
    fitter = BfmFitter(head, SIDE_PX, BfmFitSettings.video())
    motion = fitter.fit_motion(rows, identity, 30.0)
    assert motion.fps == 30.0
    assert np.abs(motion.rotation_rad - rotation).max() < 0.01
    one = fitter.fit_motion(rows[66:67], identity)
    np.testing.assert_allclose(one.expression[0], motion.expression[66], atol=1e-5)


def test_the_size_of_the_crop_does_not_matter(head: BfmHead, seed: int) -> None:
    row = seen(head, np.random.default_rng(seed).normal(size=80), np.zeros(64), np.array([0.1, 0.2, 0.0]), np.zeros(3))[None]
    small, large = BfmFitter(head, SIDE_PX).fit_person(row), BfmFitter(head, 64).fit_person(row * (64 / SIDE_PX))
    np.testing.assert_allclose(small[0], large[0], atol=1e-6)


def test_without_the_index_it_is_said_what_is_missing(head: BfmHead, tmp_path: Path, open_head: OpenHead) -> None:
    with pytest.raises(WeightsError, match="index_mp468_from_mesh35709"):
        BfmFitter(BfmHead.from_file(synthetic_bfm(tmp_path, open_head)), SIDE_PX)
