"""What is done with faces that were found: which one is taken, what users are told when none is, and clips as tracks."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.errors import NoFaceFound
from triportrait.face.tracker import MAX_YAW_DEGREES, MIN_FACE_PX, DetectedFace, choose_face, search_is_due, track_clip

PLAIN = np.full((300, 400, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def astronaut_face(astronaut, face_tracker) -> DetectedFace:
    faces = face_tracker.detect(astronaut)
    assert len(faces) == 1
    return faces[0]


def test_a_clip_keeps_one_row_for_every_frame(astronaut, face_tracker):
    small = astronaut[0:300, 70:370]
    nothing = np.full_like(small, 120)
    track = track_clip(face_tracker, [nothing, nothing, small, small, nothing], fps=12.5)
    assert len(track) == 5 and track.size == (300, 300) and track.fps == 12.5
    assert track.found.tolist() == [False, False, True, True, False]
    # Before the first face that face, after the last one the last.
    np.testing.assert_array_equal(track.landmarks[0], track.landmarks[2])
    np.testing.assert_array_equal(track.landmarks[1], track.landmarks[2])
    np.testing.assert_array_equal(track.landmarks[4], track.landmarks[3])
    assert np.linalg.norm(track.landmarks[3, :, :2] - track.landmarks[2, :, :2], axis=1).mean() < 1.0


def test_a_clip_without_a_face_is_refused(face_tracker):
    with pytest.raises(NoFaceFound, match="no frame"):
        track_clip(face_tracker, [PLAIN, PLAIN], fps=25.0)


def face_at(x: float, width: float = 100.0, yaw_degrees: float = 0.0) -> DetectedFace:
    """A face of so many pixels whose cheeks lie as far apart in depth as its yaw asks."""
    landmarks = np.tile(np.float32((x, 200.0, 0.0)), (478, 1))
    half = 0.5 * width
    depth = half * np.tan(np.radians(yaw_degrees))
    landmarks[234], landmarks[454] = (x - half, 200, -depth), (x + half, 200, depth)
    return DetectedFace(landmarks)


def test_faces_are_counted_from_the_left():
    faces = [face_at(300, 150), face_at(100, 120), face_at(500, 90)]
    assert choose_face(faces, None, "it") is faces[0]
    assert [choose_face(faces, number, "it") for number in (1, 2, 3)] == [faces[1], faces[0], faces[2]]


@pytest.mark.parametrize(
    ("faces", "number", "says"),
    [
        ([], None, "no face found"),
        ([], 1, "no face found"),
        ([face_at(100)], 2, "no face 2"),
        ([face_at(100)], 0, "no face 0"),
        ([face_at(100), face_at(300)], 3, "2 found"),
        ([face_at(100, MIN_FACE_PX - 2)], None, f"only {MIN_FACE_PX - 2} px"),
        ([face_at(100, 100, MAX_YAW_DEGREES + 5)], None, "turned away by 65 degrees"),
        ([face_at(100, 100, -MAX_YAW_DEGREES - 5)], None, "turned away by 65 degrees"),
    ],
)
def test_refusals_name_the_photo_and_the_trouble(faces, number, says):
    with pytest.raises(NoFaceFound, match=says) as refused:
        choose_face(faces, number, "holiday.jpg")
    assert str(refused.value).startswith("holiday.jpg")


def test_just_large_and_frontal_enough_is_accepted():
    face = face_at(100, MIN_FACE_PX + 1, MAX_YAW_DEGREES - 1)
    assert choose_face([face], None, "it") is face
    assert face.yaw_degrees == pytest.approx(MAX_YAW_DEGREES - 1, abs=0.1)


@pytest.mark.parametrize(("quarter", "roll"), [(0, 0), (1, -90), (2, 180), (3, 90)])
def test_roll_tells_how_a_face_stands(astronaut_face, quarter, roll):
    turned = astronaut_face.landmarks.copy()
    for _ in range(quarter):
        turned = np.stack([turned[:, 1], 512 - turned[:, 0], turned[:, 2]], 1)
    difference = DetectedFace(turned).roll_degrees - astronaut_face.roll_degrees - roll
    assert abs((difference + 180) % 360 - 180) < 0.1 and abs(astronaut_face.roll_degrees) < 15


def test_searches_become_rarer_and_never_stop():
    due = [missing for missing in range(1500) if search_is_due(missing)]
    assert due[:6] == [0, 1, 2, 4, 8, 16] and 30 <= len(due) <= 42
    assert max(np.diff(due)) <= 2.0 * 25
    often = [missing for missing in range(1500) if search_is_due(missing, 2.0, 5.0)]
    assert max(np.diff(often)) <= 10
