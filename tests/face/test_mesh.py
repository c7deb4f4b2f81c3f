"""The mesh: where it looks, and how a face is found again."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.face.detection import Detection, Region, near_detector
from triportrait.face.mesh import FaceMesh, MeshFollower, region_of_detection, region_of_landmarks, square_round


@pytest.fixture(scope="module")
def mesh() -> FaceMesh:
    return FaceMesh()


@pytest.fixture
def follower(mesh) -> MeshFollower:
    return MeshFollower(mesh, near_detector(), 0.4)


def test_the_square_of_landmarks_holds_them_and_stands_between_the_eyes():
    landmarks = np.full((478, 3), 50.0, np.float32)
    landmarks[0, :2], landmarks[1, :2] = (10, 20), (90, 120)
    landmarks[33, :2], landmarks[263, :2] = (30, 50), (60, 80)
    region = region_of_landmarks(landmarks)
    np.testing.assert_allclose(region.centre, (50, 70))
    assert region.side_px == 150.0 and region.turn_rad == pytest.approx(np.pi / 4)


def test_the_square_of_a_detection_leans_with_its_eyes():
    points = np.array([(40.0, 60.0), (80.0, 60.0), *[(60.0, 70.0)] * 4])
    region = region_of_detection(Detection(np.array([20.0, 20.0]), np.array([100.0, 120.0]), points, 0.9))
    np.testing.assert_allclose(region.centre, (60, 70))
    assert region.side_px == 150.0 and region.turn_rad == 0.0


def test_no_face_is_seen_where_none_is(astronaut, mesh):
    landmarks = np.zeros((478, 3), np.float32)
    landmarks[:, :2] = np.random.default_rng(0).uniform((350, 300), (450, 400), (478, 2))
    assert mesh(astronaut, region_of_landmarks(landmarks)) is None


def test_a_look_does_not_change_what_was_given_before(astronaut, follower):
    first = follower.look(astronaut)
    kept = first.copy()
    first += 1000.0
    assert np.abs(follower.look(astronaut) - kept).max() < 3.0


def test_a_lost_face_is_found_in_the_very_frame_in_which_it_is_back(astronaut, follower):
    grey = np.full_like(astronaut, 120)
    moved = np.roll(astronaut, 60, axis=1)
    before = follower.look(astronaut)
    assert follower.look(grey) is None and follower.look(grey) is None
    assert abs(float(follower.look(moved)[4, 0] - before[4, 0]) - 60) < 2
    # A jump is no loss: the face is searched where it is not any more.
    assert np.linalg.norm(follower.look(np.roll(astronaut, (150, -120), (0, 1)))[4, :2] - before[4, :2] - (-120, 150)) < 3


def test_the_square_of_a_search_lies_inside_the_picture():
    picture = np.zeros((300, 400, 3), np.uint8)
    assert square_round(Region(np.array([15.0, 15.0]), 30.0), picture) == (0, 0, 90)
    assert square_round(Region(np.array([200.0, 160.0]), 30.0), picture) == (155, 115, 90)
    assert square_round(Region(np.array([390.0, 15.0]), 900.0), picture) == (100, 0, 300)


def test_the_mean_of_several_looks_depends_less_on_where_one_looked_first(astronaut, mesh, follower):
    region = region_of_landmarks(follower.look(astronaut))
    generator = np.random.default_rng(3)
    places = [Region(region.centre + generator.normal(0, 0.01, 2) * region.side_px, region.side_px) for _ in range(6)]
    looks = np.array([mesh(astronaut, place) for place in places])
    settled = np.array([mesh.settled(astronaut, look) for look in looks])
    assert settled.std(0)[:, :2].mean() < 0.5 * looks.std(0)[:, :2].mean()
    # It is no other face.
    assert np.linalg.norm((settled.mean(0) - looks.mean(0))[:, :2], axis=1).max() < 0.02 * np.ptp(looks[0][:, 0])


def test_where_the_looks_see_no_face_the_landmarks_stay(mesh):
    landmarks = np.random.default_rng(0).uniform(50, 150, (478, 3)).astype(np.float32)
    assert mesh.settled(np.full((200, 200, 3), 120, np.uint8), landmarks) is landmarks
