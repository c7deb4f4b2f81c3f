"""Teeth and tongue: carried by the head, of human size, with painted gaps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import maximum_filter1d

from triportrait.avatar.mouth.parts import TEXELS_PER_DM, row_texture, tongue, tooth_row
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import HeadPart

ROWS = (HeadPart.TEETH_UPPER, HeadPart.TEETH_LOWER)


def parts(head):
    return [tooth_row(head, ROWS[0]), tooth_row(head, ROWS[1]), tongue(head)]


def test_they_stand_on_the_mean_head_and_move_with_it(open_head):
    matrix, shift = matrix_from_euler(np.array([0.2, -0.1, 0.3])), np.array([0.4, -0.2, 0.1])
    for part in parts(open_head):
        points, normals = part.carried(open_head.mean)
        np.testing.assert_allclose(points, part.points, atol=1e-4)
        moved, turned = part.carried(open_head.mean @ matrix.T + shift)
        np.testing.assert_allclose(moved, points @ matrix.T + shift, atol=1e-3)
        np.testing.assert_allclose(turned, normals @ matrix.T, atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("which", ROWS)
def test_rows_follow_the_models_arch(open_head, which):
    row = tooth_row(open_head, which)
    own = open_head.mean[open_head.part == which]
    assert abs(row.points[:, 2].max() - own[:, 2].max()) < 0.03
    assert 0.8 * np.ptp(own[:, 0]) < np.ptp(row.points[:, 0]) < 1.2 * np.ptp(own[:, 0])
    np.testing.assert_allclose(row.points[:, 0].reshape(6, -1), -row.points[:, 0].reshape(6, -1)[:, ::-1], atol=1e-3)
    assert (row.normals[:, 2].reshape(6, -1)[:, 30] > 0.9).all()  # the front looks forward


def test_upper_incisors_overlap_the_lower_ones(open_head):
    """An overbite of some millimetres, the upper teeth in front."""
    upper, lower = (tooth_row(open_head, which).points.reshape(6, -1, 3)[0, 30] for which in ROWS)
    assert 0.01 < lower[1] - upper[1] < 0.08 and upper[2] > lower[2]


@pytest.mark.parametrize("which", ROWS)
def test_textures_show_fourteen_crowns(open_head, which):
    texture = tooth_row(open_head, which).texture
    assert np.isfinite(texture).all() and texture.min() >= 0 and texture.max() <= 1.1
    assert np.abs(texture - texture[:, ::-1]).mean() < 0.01
    middle = texture[20, :, :3].sum(-1)  # 4 cm of a crown's height above its edge
    gaps = (middle[1:-1] < middle[:-2]) & (middle[1:-1] <= middle[2:]) & (middle < 0.87 * maximum_filter1d(middle, 31))[1:-1]
    assert 12 <= (np.diff(np.flatnonzero(gaps)) > 4).sum() + 1 <= 15
    front = texture[:, texture.shape[1] // 2 - 180 : texture.shape[1] // 2 + 180]
    assert front[0, :, 3].mean() < 0.9 < front[30, :, 3].min()  # rounded edges let the dark through
    assert texture[30, 0, 3] == 0.0 and texture[30, 0, :3].sum() < 0.3 * front[30, :, :3].sum(1).max()  # molars end softly, in the dark
    assert texture[-1, :, 0].mean() > 1.4 * texture[-1, :, 1].mean()  # gums


def test_the_tongue_lies_behind_and_below_the_teeth(open_head):
    points = tongue(open_head).points
    front = open_head.mean[open_head.part == HeadPart.TEETH_LOWER]
    assert points[:, 2].max() < front[:, 2].max() - 0.04
    assert points[:, 1].max() < front[:, 1].max()
    assert np.isfinite(points).all() and np.ptp(points[:, 0]) > 0.3


def test_crowns_may_be_taller():
    usual, tall = row_texture(True), row_texture(True, 0.04)
    enamel = [(texture[..., 2] > 0.72 * texture[..., 0]).sum(0).mean() / TEXELS_PER_DM for texture in (usual, tall)]
    assert 0.03 < enamel[1] - enamel[0] < 0.05
