"""Finding faces: where they are, whatever the picture's size, light and framing."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.face.mesh import MeshFollower
from triportrait.face.tracker import MIN_FACE_PX, DetectedFace, choose_face, track_clip

PLAIN = np.full((300, 400, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def astronaut_face(astronaut, face_tracker) -> DetectedFace:
    faces = face_tracker.detect(astronaut)
    assert len(faces) == 1
    return faces[0]


def test_the_astronaut_is_found(astronaut_face):
    assert astronaut_face.landmarks.shape == (478, 3) and astronaut_face.landmarks.dtype == np.float32
    nose, right_eye, left_eye, chin = astronaut_face.landmarks[[4, 33, 263, 152], :2]
    assert np.linalg.norm(nose - (222, 125)) < 12
    assert right_eye[0] < nose[0] < left_eye[0] and right_eye[1] < nose[1] < chin[1]
    assert 80 < astronaut_face.width_px < 110
    assert abs(astronaut_face.yaw_degrees) < 15
    # Irises lie inside their eyes.
    for iris, inner, outer in ((468, 133, 33), (473, 362, 263)):
        x = astronaut_face.landmarks[[iris, inner, outer], 0]
        assert min(x[1:]) < x[0] < max(x[1:])


def test_a_shifted_picture_shifts_the_landmarks(astronaut, face_tracker, astronaut_face):
    moved = np.pad(astronaut, ((60, 0), (150, 90), (0, 0)), mode="edge")
    found = face_tracker.detect(moved)[0].landmarks[:, :2] - (150, 60)
    assert np.linalg.norm(found - astronaut_face.landmarks[:, :2], axis=1).mean() < 1.5


def test_a_larger_picture_scales_the_landmarks(astronaut, face_tracker, astronaut_face):
    import cv2

    large = cv2.resize(astronaut, None, fx=2.0, fy=2.0, interpolation=cv2.INTER_CUBIC)
    found = face_tracker.detect(large)[0].landmarks / 2
    assert np.linalg.norm(found - astronaut_face.landmarks, axis=1).mean() < 1.5


def test_the_same_picture_gives_the_same_landmarks(astronaut, face_tracker, astronaut_face):
    face_tracker.detect(PLAIN)
    np.testing.assert_array_equal(face_tracker.detect(astronaut)[0].landmarks, astronaut_face.landmarks)


def test_two_people_the_larger_first(astronaut, face_tracker):
    import cv2

    head = astronaut[0:300, 70:370]
    small = cv2.resize(head, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    both = np.full((300, 560, 3), 128, np.uint8)
    both[:210, 20:230], both[:, 250:550] = small, head
    faces = face_tracker.detect(both)
    assert len(faces) == 2
    assert faces[0].width_px > faces[1].width_px
    assert choose_face(faces, None, "both") is faces[0]
    assert choose_face(faces, 1, "both") is faces[1] and choose_face(faces, 2, "both") is faces[0]


def test_nobody_is_nobody(face_tracker):
    assert face_tracker.detect(PLAIN) == []


def test_the_mask_covers_the_person(astronaut, face_tracker):
    mask = face_tracker.person_mask(astronaut)
    assert mask.shape == astronaut.shape[:2] and mask.dtype == np.float32
    assert mask.min() >= 0.0 and mask.max() <= 1.0
    assert mask[90:150, 200:245].mean() > 0.9  # the face
    assert mask[:40, :60].mean() < 0.1 and mask[150:250, 5:40].mean() < 0.1  # curtain and flag's far edge


def test_masks_and_clips_do_not_depend_on_what_was_seen_before(astronaut, face_tracker):
    small = np.ascontiguousarray(astronaut[0:300, 70:370])
    mask, rows = face_tracker.person_mask(astronaut), [row[0] for row in face_tracker.track([small] * 2)]
    face_tracker.person_mask(PLAIN)
    list(face_tracker.track([np.ascontiguousarray(small[:, ::-1])] * 2))
    face_tracker.detect(small)
    np.testing.assert_array_equal(face_tracker.person_mask(astronaut), mask)
    np.testing.assert_array_equal([row[0] for row in face_tracker.track([small] * 2)], rows)


def test_a_clip_agrees_with_a_photo(astronaut, face_tracker, astronaut_face):
    track = track_clip(face_tracker, [astronaut[0:300, 70:370]] * 2, fps=25.0)
    apart = np.linalg.norm(track.landmarks[1, :, :2] + (70, 0) - astronaut_face.landmarks[:, :2], axis=1)
    assert apart.mean() < 0.04 * astronaut_face.width_px


def on_canvas(picture: np.ndarray, places: list[tuple[int, int]], side: int, shape: tuple[int, int]) -> np.ndarray:
    """Copies of a picture, ``side`` px wide, on grey ground; places are (left, top)."""
    import cv2

    canvas = np.full((*shape, 3), 118, np.uint8)
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    for left, top in places:
        canvas[top : top + side, left : left + side] = small
    return canvas


@pytest.fixture(scope="module")
def head(astronaut) -> np.ndarray:
    """Her head and shoulders, a square; the face is a third of it."""
    return astronaut[:300, 70:370]


def test_everybody_in_a_group_of_twenty_can_be_chosen(head, face_tracker):
    places = [(60 + 290 * column, 40 + 290 * row) for row in range(2) for column in range(10)]
    faces = face_tracker.detect(on_canvas(head, places, 270, (640, 3000)))
    assert len(faces) == 20
    noses = sorted((face.landmarks[4, :2] for face in faces), key=lambda nose: (nose[1] > 320, nose[0]))
    for (left, top), nose in zip(places, noses, strict=True):
        assert left < nose[0] < left + 270 and top < nose[1] < top + 270
    assert len({id(choose_face(faces, number, "group")) for number in range(1, 21)}) == 20


def test_a_small_face_in_a_large_photo_is_found_where_it_is(head, face_tracker):
    picture = on_canvas(head, [(1810, 900)], 240, (3000, 2400))
    (face,) = face_tracker.detect(picture)
    (near,) = face_tracker.detect(np.ascontiguousarray(picture[800:1240, 1700:2140]))
    assert MIN_FACE_PX < face.width_px < 110
    assert np.linalg.norm(face.landmarks[:, :2] - (1700, 800) - near.landmarks[:, :2], axis=1).mean() < 1.0


@pytest.mark.parametrize("face_px", [40, 70])
def test_a_small_face_in_a_small_photo_is_found_once(head, face_tracker, face_px):
    picture = on_canvas(head, [(610, 420)], 3 * face_px, (700, 900))
    (face,) = face_tracker.detect(picture)
    assert 0.8 * face_px < face.width_px < 1.2 * face_px
    assert 610 < face.landmarks[4, 0] < 610 + 3 * face_px and 420 < face.landmarks[4, 1] < 420 + 3 * face_px


def test_large_pictures_of_nobody_show_nobody(face_tracker, seed):
    noise = np.random.default_rng(seed).integers(0, 255, (75, 100, 3), np.uint8)
    assert face_tracker.detect(noise.repeat(16, 0).repeat(16, 1)) == []


def test_a_small_speaker_is_followed_as_in_a_crop_of_the_clip(head, face_tracker):
    places = [(300 + 12 * step, 420 - 3 * step) for step in range(12)]
    frames = [on_canvas(head, [place], 330, (1080, 1920)) for place in places]
    rows = list(face_tracker.track(frames))
    assert all(found for _, found in rows)
    near = list(face_tracker.track([np.ascontiguousarray(frame[200:900, 150:850]) for frame in frames]))
    for (wide, _), (narrow, _) in zip(rows, near, strict=True):
        assert np.linalg.norm(wide[:, :2] - (150, 200) - narrow[:, :2], axis=1).mean() < 1.5


def test_a_small_speaker_who_leaves_is_not_found_and_comes_back_elsewhere(head, face_tracker):
    empty, there, elsewhere = (on_canvas(head, places, 330, (1080, 1920)) for places in ([], [(300, 420)], [(1300, 500)]))
    rows = list(face_tracker.track([empty, there, there, empty, empty, elsewhere, elsewhere, elsewhere, elsewhere]))
    found = [shown for _, shown in rows]
    assert found[:5] == [False, True, True, False, False] and found[-1]
    assert 1300 < rows[-1][0][4, 0] < 1630 and 300 < rows[3][0][4, 0] < 630


def test_no_clip_is_turned_by_the_tracker(astronaut, face_tracker, astronaut_face, caplog):
    """Whoever lies is found as he lies, or not at all: landmarks are always those of the frames that were given."""
    lying = np.ascontiguousarray(np.rot90(astronaut))
    rows = list(face_tracker.track([lying] * 2))
    x, y = astronaut_face.landmarks[4, :2]
    assert np.linalg.norm(rows[-1][0][4, :2] - (y, 512 - x)) < 12 and not caplog.records


@pytest.mark.parametrize("light", [0.15, 0.03])
def test_in_the_dark_she_is_where_she_was(light, astronaut, face_tracker, astronaut_face):
    (face,) = face_tracker.detect((light * astronaut).astype(np.uint8))
    apart = np.linalg.norm(face.landmarks[:, :2] - astronaut_face.landmarks[:, :2], axis=1)
    assert apart.mean() < 0.05 * astronaut_face.width_px


def test_a_black_picture_shows_nobody(face_tracker):
    assert face_tracker.detect(np.full((300, 300, 3), 3, np.uint8)) == []


def test_a_face_that_the_search_in_its_crop_misses_is_found_where_the_detector_has_it(astronaut, face_tracker, astronaut_face, monkeypatch):
    monkeypatch.setattr(MeshFollower, "_detected", lambda *_: None)
    (face,) = face_tracker.detect(astronaut)
    assert np.linalg.norm(face.landmarks[:, :2] - astronaut_face.landmarks[:, :2], axis=1).mean() < 0.02 * astronaut_face.width_px


@pytest.mark.parametrize(
    "picture", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(picture, face_tracker):
    for ask in (face_tracker.detect, face_tracker.score, face_tracker.person_mask, lambda picture: list(face_tracker.track([picture]))):
        with pytest.raises(ValueError, match="a picture is uint8"):
            ask(picture)


@pytest.mark.parametrize("shape", [(2, 4000, 3), (5000, 1, 3), (1, 1, 3)])
def test_the_thinnest_pictures_show_nobody(face_tracker, shape) -> None:  # noqa: ANN001
    assert face_tracker.detect(np.full(shape, 128, np.uint8)) == []
