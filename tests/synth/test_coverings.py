"""Painted coverings hide the mouth, leave the eyes, and are the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triportrait.face.coverings import load_judge, lower_face
from triportrait.synth.coverings import COVERINGS, covered, random_covering
from triportrait.types import PreparedPortrait


@pytest.mark.parametrize("kind", COVERINGS)
def test_a_covering_hides_the_mouth_and_leaves_the_eyes(kind: str, astronaut_portrait: PreparedPortrait) -> None:
    image, landmarks = astronaut_portrait.image, astronaut_portrait.landmarks
    painted = covered(image, landmarks, kind, np.random.default_rng(1))
    assert painted.dtype == np.uint8 and painted.shape == image.shape
    changed = np.abs(painted.astype(int) - image).max(-1)
    lips, brows = (landmarks[rows, :2].astype(int) for rows in ([13, 14, 0, 17], [105, 334, 10]))
    assert changed[lips[:, 1], lips[:, 0]].min() > 0 and changed[brows[:, 1], brows[:, 0]].max() < 12
    with torch.inference_mode():
        assert load_judge()(lower_face(painted, landmarks))[0][0] > 0
    np.testing.assert_array_equal(painted, covered(image, landmarks, kind, np.random.default_rng(1)))


def test_masks_microphones_and_hands_are_taken_most() -> None:
    random = np.random.default_rng(0)
    drawn = [random_covering(random) for _ in range(600)]
    counts = {kind: drawn.count(kind) for kind in COVERINGS}
    assert min(counts.values()) > 25 and counts["hand"] > counts["cup"] + 20
