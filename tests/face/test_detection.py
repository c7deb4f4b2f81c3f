"""Detectors: their anchors, and boxes of one face that become one."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.face.detection import Region, _joined, anchor_places, far_detector, near_detector, seen_in


def test_anchors_are_the_middles_of_their_cells():
    places = anchor_places(128, ((8, 2), (16, 6)))
    assert places.shape == (896, 2)
    np.testing.assert_allclose(places[:4], [[1 / 32, 1 / 32], [1 / 32, 1 / 32], [3 / 32, 1 / 32], [3 / 32, 1 / 32]])
    np.testing.assert_allclose(places[512:518], [[1 / 16, 1 / 16]] * 6)
    assert anchor_places(192, ((4, 1),)).shape == (2304, 2)


def test_boxes_of_one_face_become_their_mean_by_score():
    def row(left: float, top: float) -> list[tuple[float, float]]:
        return [(left, top), (left + 10, top + 10), *[(left + 5, top + 5)] * 6]

    faces = _joined(np.array([row(0, 0), row(30, 0), row(3, 0)]), np.array([0.9, 0.8, 0.3]))
    assert [face.score for face in faces] == [0.9, 0.8]
    np.testing.assert_allclose(faces[0].low, (0.75, 0.0))
    np.testing.assert_allclose(faces[1].low, (30.0, 0.0))
    np.testing.assert_allclose(faces[0].points[0], (5.75, 5.0))


def test_a_turned_region_is_seen_upright():
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[40:60, 70:90] = 200  # to the right of the middle: with the head leaning by a quarter to the right, that is up
    upright = seen_in(picture, Region(np.array([50.0, 50.0]), 80.0, np.pi / 2), 80, black_outside=True)
    rows, columns = np.nonzero(upright[..., 0] > 100)
    assert abs(columns.mean() - 39.5) < 1 and rows.max() < 25


@pytest.mark.parametrize("black", [True, False])
def test_beyond_the_border_it_is_black_or_goes_on(black):
    picture = np.full((20, 20, 3), 90, np.uint8)
    assert seen_in(picture, Region(np.array([0.0, 0.0]), 40.0), 40, black_outside=black)[2, 2, 0] == (0 if black else 90)


@pytest.mark.parametrize("make", [near_detector, far_detector])
def test_a_face_lies_where_it_is_and_leans_as_it_does(make, astronaut):
    import cv2

    (face,) = make()(astronaut, 0.5)
    assert np.linalg.norm(face.centre - (222, 120)) < 15 and face.score > 0.7 and abs(np.degrees(face.turn_rad)) < 15
    turn = cv2.getRotationMatrix2D((222, 120), -20.0, 1.0)
    (turned,) = make()(cv2.warpAffine(astronaut, turn, (512, 512)), 0.5)
    assert 12 < np.degrees(turned.turn_rad - face.turn_rad) < 28
    assert make()(np.full((200, 300, 3), 120, np.uint8), 0.3) == []
