"""Laws of the paper's motion: pieces give the whole, poses start at the photograph's, blinks come and go."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triportrait.geometry.rotations import matrix_from_euler
from triportrait.real3d import driver as paper_driver
from triportrait.real3d.audio_to_motion import PaperAudioToMotion
from triportrait.real3d.driver import blink_middles, blink_starts, expressions_of_voice, lid_closings, pose_on_portrait
from triportrait.types import MotionFrame


@pytest.fixture(scope="module")
def model() -> PaperAudioToMotion:
    torch.manual_seed(0)
    config = PaperAudioToMotion.Config(features=6, condition=8, hidden=8, latent=4, encoder_layers=0, flow_hidden=8)
    network = PaperAudioToMotion(config).eval()
    for step in network.flow.steps:
        torch.nn.init.normal_(step.after.weight, std=0.3)
    return network


@pytest.mark.parametrize("rows", [1, 9, 200, 1403])
def test_pieces_give_the_same_as_the_whole(model: PaperAudioToMotion, rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 6)).astype(np.float32)
    pitch = random.uniform(0, 300, max(rows - 2, 0)).astype(np.float32)
    options = {"temperature": 0.7, "seed": 3}
    whole = np.concatenate(list(expressions_of_voice(model, [features], pitch, **options, chunk_rows=2000)))
    blocks = np.array_split(features, max(1, rows // 37))
    pieces = np.concatenate(list(expressions_of_voice(model, blocks, pitch, **options, chunk_rows=64)))
    assert whole.shape == (-(-rows // 2), 64)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)


def test_the_context_is_no_wider_than_needed_and_no_narrower(model: PaperAudioToMotion, seed: int) -> None:
    """A change of the sound reaches no row beyond the context."""
    features = np.random.default_rng(seed).normal(size=(800, 6)).astype(np.float32)
    changed = features.copy()
    changed[400] += 5.0
    first, second = (
        np.concatenate(list(expressions_of_voice(model, [rows], np.full(800, 100.0, np.float32), seed=1))) for rows in (features, changed)
    )
    reached = np.flatnonzero(np.abs(first - second).max(1) > 0)
    assert 20 < np.abs(reached - 200).max() < paper_driver.CONTEXT_ROWS


def test_without_temperature_the_seed_does_not_matter(model: PaperAudioToMotion, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(16, 6)).astype(np.float32)
    first, second, third = (
        next(expressions_of_voice(model, [features], np.zeros(16), temperature=t, seed=s)) for t, s in ((0, 1), (0, 2), (1, 2))
    )
    np.testing.assert_array_equal(first, second)
    assert np.abs(first - third).max() > 1e-3


def test_a_blink_of_the_condition_changes_the_rows_around_it(model: PaperAudioToMotion, seed: int) -> None:
    """Section 4.3: blinks are a condition. In pieces or at once, what is marked is what changes."""
    features = np.random.default_rng(seed).normal(size=(800, 6)).astype(np.float32)
    blinks = np.zeros(300, np.int64)
    blinks[200] = 1
    pitch = np.full(800, 100.0, np.float32)
    open_, shut, pieces = (
        np.concatenate(list(expressions_of_voice(model, [features], pitch, blinks=marks, chunk_rows=rows)))
        for marks, rows in ((None, 500), (blinks, 500), (blinks, 64))
    )
    reached = np.flatnonzero(np.abs(open_ - shut).max(1) > 0)
    assert 200 in reached and np.abs(reached - 200).max() < paper_driver.CONTEXT_ROWS
    np.testing.assert_allclose(pieces, shut, atol=1e-5)


def test_mouth_amplitude_is_a_condition(model: PaperAudioToMotion, seed: int) -> None:
    features = np.random.default_rng(seed).normal(size=(16, 6)).astype(np.float32)
    narrow, wide = (next(expressions_of_voice(model, [features], np.zeros(16), mouth_amplitude=dm)) for dm in (0.1, 1.0))
    assert np.abs(narrow - wide).max() > 1e-4


def test_no_sound_no_motion(model: PaperAudioToMotion) -> None:
    assert not list(expressions_of_voice(model, [], np.zeros(0)))


@pytest.mark.parametrize("published", [False, True])
def test_a_pose_starts_at_the_photographs(published: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    rotation, translation = random.uniform(-0.3, 0.3, (5, 3)), random.normal(size=(5, 3))
    zero = np.zeros(3, np.float32)
    own = MotionFrame(np.zeros(64), np.array([0.1, -0.2, 0.3]), np.array([0.5, 0.6, 0.7]), zero[:2])
    turned, moved = pose_on_portrait(rotation, translation, own, published=published)
    np.testing.assert_allclose(turned[0], own.rotation_rad, atol=1e-6)
    np.testing.assert_allclose(moved[0], own.translation, atol=1e-6)
    assert (np.ptp(moved[:, 2]) == 0) == published
    if not published:
        change = matrix_from_euler(turned[0]).T @ matrix_from_euler(turned[3])
        np.testing.assert_allclose(change, matrix_from_euler(rotation[0]).T @ matrix_from_euler(rotation[3]), atol=1e-6)


def test_blinks_come_regularly_as_published_and_naturally_otherwise() -> None:
    starts, lengths = blink_starts(400, 0, published=True)
    assert starts.tolist() == [0, 125, 250, 375] and ((8 <= lengths) & (lengths <= 12)).all()
    assert len(blink_starts(3000, 0, 60.0)[0]) > 4 * len(blink_starts(3000, 0)[0]) and not len(blink_starts(3000, 0, 0.0)[0])
    marks = blink_middles(400, np.array([5, 100, 398]), np.array([8, 9, 8]))
    assert np.flatnonzero(marks).tolist() == [9, 104]
    starts, lengths = blink_starts(4000, 0)
    assert starts[0] > 5 and len(np.unique(np.diff(starts))) > 5 and 80 < np.diff(starts).mean() < 170
    lids = lid_closings(400, [np.ones(4), np.ones(4)], np.array([10, 398]))
    assert lids.sum() == 6 and lids[10:14].all() and lids[398:].all()
