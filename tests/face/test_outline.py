"""A face's outline in a photograph lies on the person that the segmentation sees."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.face.outline import outline_on_person
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, LIPS, OVAL
from triportrait.geometry.masks import face_hull

FEATURES = np.concatenate([LIPS, EYE_LEFT_RIM, EYE_RIGHT_RIM])


@pytest.fixture(scope="module")
def landmarks(astronaut, face_tracker) -> np.ndarray:
    return face_tracker.detect(astronaut)[0].landmarks


def on_person(person: np.ndarray, points: np.ndarray) -> np.ndarray:
    column, row = points[:, :2].astype(int).T
    return person[row, column] >= 0.5


def test_an_outline_on_the_person_stays(astronaut, face_tracker, landmarks):
    np.testing.assert_array_equal(outline_on_person(landmarks, np.ones(astronaut.shape[:2], np.float32)), landmarks)


def test_what_lies_beside_the_person_comes_back_and_the_features_stay(astronaut, landmarks):
    """The person ends 8 % of the face's width before the outline, on one side."""
    face_px = np.ptp(landmarks[:, 0])
    person = np.ones(astronaut.shape[:2], np.float32)
    edge = int(landmarks[:, 0].max() - 0.08 * face_px)
    person[:, edge:] = 0.0
    moved = outline_on_person(landmarks, person)
    shift = np.linalg.norm(moved - landmarks, axis=1)
    assert not on_person(person, landmarks[OVAL]).all() and on_person(person, moved[OVAL]).all()
    assert shift.max() == pytest.approx(0.08 * face_px, abs=1.5)
    assert shift[FEATURES].max() < 0.005 * face_px and np.array_equal(moved[:, 2], landmarks[:, 2])
    side = OVAL[landmarks[OVAL, 0] > edge]
    assert np.abs(moved[side, 0] - edge).max() < 1.0


def test_a_mask_of_somebody_else_moves_nothing(astronaut, landmarks):
    elsewhere = (~face_hull(landmarks, len(astronaut))).astype(np.float32)
    np.testing.assert_array_equal(outline_on_person(landmarks, elsewhere), landmarks)
