"""Clips of synthetic people: layers, landmarks and curves that fit together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from triportrait.synth.head_factory import HeadFactory
from triportrait.synth.people import random_person
from triportrait.synth.procedural_head import HeadPose, ProceduralHead
from triportrait.training.data.clips import ClipSet, write_clips
from triportrait.training.data.synthetic import pair_frames, procedural_clip, random_performance

SOURCE = HeadPose({}, np.zeros(2, np.float32), np.radians([2.0, -6.0, 1.0]), np.array([0.05, 0.0, -5.0]))


def test_a_clip_is_head_over_torso_over_scene(shared: Path, tmp_path: Path) -> None:
    factory = HeadFactory(shared / "data")
    person = random_person(np.random.default_rng(6), factory.targets, len(factory.hdri))
    head = ProceduralHead(factory, replace(person, hair="card:short02", beard=None), 16)
    poses = random_performance(np.random.default_rng(3), 3, SOURCE)
    clip = procedural_clip(head, SOURCE, poses, 96, "clip")
    assert len(clip) == 3 and clip.expression.shape == (3, 44) and clip.head_model == "open"
    alpha, body = clip.head_alpha[..., None] / 255.0, clip.torso[..., 3:] / 255.0
    under = clip.torso[..., :3] * body + clip.background * (1 - body)
    outside = clip.head_alpha == 0
    assert np.abs(under - clip.frames)[outside].mean() < 6.0
    # Landmarks lie on the head.
    x, y = np.clip(clip.landmarks[0, :468].T.astype(int), 0, 95)
    assert (alpha[0, y, x, 0] > 0.5).mean() > 0.9
    assert np.abs(np.diff(clip.rotation_rad, axis=0)).max() < 0.1  # neighbouring frames
    # It goes through a shard, and serves as real clips do.
    write_clips(tmp_path / "s.tar", [clip])
    (back,) = ClipSet([tmp_path])
    np.testing.assert_array_equal(back.expression, clip.expression)
    assert pair_frames(back).head_alpha.max() == 1.0


def test_a_performance_is_smooth_speaks_and_blinks() -> None:
    poses = random_performance(np.random.default_rng(1), 100, SOURCE)
    jaw = np.array([pose.weights.get("jawOpen", 0.0) for pose in poses])
    blink = np.array([pose.weights.get("eyeBlinkLeft", 0.0) for pose in poses])
    assert np.ptp(jaw) > 0.2 and np.abs(np.diff(jaw)).max() < 0.6
    assert blink.max() == 1.0 and (blink < 0.1).mean() > 0.4
    turn = np.stack([pose.rotation_rad for pose in poses])
    assert np.ptp(turn[:, 1]) > 0.02 and np.abs(np.diff(turn, axis=0)).max() < 0.08
