"""Laws of how a body stands to its head."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.geometry.body import NECK_LENGTH_DM, body_motion, body_pivot, body_similarity, borne, similarity_body
from triportrait.geometry.cameras import project
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, MotionFrame

PIVOT = np.array([250.0, 430.0])


def row(translation=(0.0, 0.0, 0.0), body=None) -> MotionFrame:
    zeros = np.zeros(3, np.float32)
    return MotionFrame(np.zeros(44), zeros, np.float32(translation), zeros[:2], body=None if body is None else np.float32(body))


def test_a_similarity_and_its_numbers_belong_together() -> None:
    body = np.array([0.1, -0.2, 0.05, 0.1])
    matrix = body_similarity(body, 200.0, PIVOT)
    np.testing.assert_allclose(similarity_body(matrix, 200.0, PIVOT), body, atol=1e-12)
    np.testing.assert_allclose(matrix @ np.append(PIVOT, 1.0), PIVOT + (20.0, 40.0))
    # Counter-clockwise: what lies right of the pit of the neck goes up in the picture.
    turned = body_similarity(np.array([0, 0, 0, 0.1]), 200.0, PIVOT) @ (PIVOT[0] + 50, PIVOT[1], 1)
    assert turned[1] < PIVOT[1] - 4
    np.testing.assert_allclose(body_similarity(np.zeros(4), 200.0, PIVOT), np.eye(2, 3))


def test_the_pit_of_the_neck_lies_below_the_chin() -> None:
    landmarks = np.zeros((478, 3))
    landmarks[CHIN, :2], landmarks[FOREHEAD_TOP, :2] = (100, 200), (100, 100)
    np.testing.assert_allclose(body_pivot(landmarks), (100, 235))


def test_points_of_a_body_move_in_the_picture_as_the_similarity_says() -> None:
    size, source = 512, row((0.1, 0.2, -1.0))
    points = np.random.default_rng(0).uniform((-1, -1, -2), (1, 0, 0), (20, 3)).astype(np.float32)
    body = np.array([0.1, -0.2, 0.05, 0.1])
    focal_px = FOCAL_IN_WIDTHS * size
    motion = body_motion(row(body=body), source, (PIVOT - size / 2) / focal_px)
    moved = points @ motion[:, :3].T + motion[:, 3]
    before, after = project(points, size)[0], project(moved, size)[0]
    matrix = body_similarity(body, focal_px / (CAMERA_DISTANCE_DM + 1.0), PIVOT)
    np.testing.assert_allclose(after, before @ matrix[:, :2].T + matrix[:, 2], atol=1e-2)
    np.testing.assert_array_equal(moved[:, 2], points[:, 2])


def test_unmeasured_bodies_follow_their_heads() -> None:
    points = np.zeros((3, 3), np.float32)
    motion = body_motion(row((0.4, 0.0, 0.0)), row(), np.zeros(2))
    moved = points @ motion[:, :3].T + motion[:, 3]
    assert 0.1 < moved[0, 0] < 0.4 and (moved == moved[0]).all()


@pytest.mark.parametrize("distance", [0.1, 0.2, 0.5, 2.0, 20.0])
def test_no_neck_is_stretched(distance: float) -> None:
    head, body = np.array([[distance, 0.0, 0.3]]), np.array([[0.0, 0.0, 0.02, 0.01]])
    kept = borne(body, head)
    apart = distance - kept[0, 0]
    assert apart <= 0.5 * NECK_LENGTH_DM + 1e-9 and (kept[:, 1:] == body[:, 1:]).all()
    assert (apart == distance) == (distance <= 0.25 * NECK_LENGTH_DM)
    further = distance + 0.1 - borne(body, head + (0.1, 0, 0))[0, 0]
    assert apart <= further
