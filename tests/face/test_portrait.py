"""One photo prepared: crop, fit, mattes and layers fit together; and the crop is where it says."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.errors import NoFaceFound
from triportrait.face.fitting import LandmarkFitter
from triportrait.face.open_head import OpenHead
from triportrait.face.portrait import PortraitOptions, crop_box, person_of, prepare_portrait
from triportrait.face.tracker import DetectedFace
from triportrait.geometry.crops import cut
from triportrait.types import Motion, PreparedPortrait

PLAIN = np.full((300, 400, 3), 120, np.uint8)


def one_row(portrait: PreparedPortrait) -> Motion:
    frame = portrait.motion
    return Motion(*(row[None] for row in (frame.expression, frame.rotation_rad, frame.translation, frame.gaze_rad)))


def test_mattes_are_ordered(astronaut_portrait: PreparedPortrait):
    head, person = astronaut_portrait.head_alpha, astronaut_portrait.person_alpha
    assert head.dtype == person.dtype == np.float32
    assert 0.0 <= head.min() and person.max() <= 1.0
    assert (head <= person + 1e-6).all()
    columns, rows = astronaut_portrait.landmarks[[4, 50, 280, 9, 13], :2].T.astype(int)
    assert head[rows, columns].min() > 0.95
    # The shoulders are person and not head; a corner is neither.
    assert person[-40:, 200:300].min() > 0.95 and head[-40:].max() < 0.05
    assert person[:20, :40].max() < 0.05
    assert (person > 0.5).sum() > 1.3 * (head > 0.5).sum()


def test_all_numbers_are_finite_and_plausible(astronaut_portrait: PreparedPortrait):
    portrait = astronaut_portrait
    for array in (portrait.identity, portrait.vertex_offset, portrait.landmarks, portrait.motion.expression, portrait.motion.translation):
        assert np.isfinite(array).all()
    assert portrait.identity.shape == (80,) and np.abs(portrait.identity).max() < 6.0
    assert np.linalg.norm(portrait.vertex_offset, axis=1).max() < 0.1  # a centimetre
    assert np.degrees(np.abs(portrait.motion.rotation_rad)).max() < 15.0
    assert portrait.motion.expression.min() >= 0.0 and portrait.motion.expression.max() <= 1.0
    assert portrait.motion.landmarks is not None
    np.testing.assert_allclose(portrait.motion.landmarks, portrait.landmarks[:, :2], atol=1e-3)


def test_she_smiles_and_looks_at_us(astronaut_portrait: PreparedPortrait, open_head: OpenHead):
    names = list(open_head.expression_names)
    smile = [astronaut_portrait.motion.expression[names.index(f"mouthSmile{side}")] for side in ("Left", "Right")]
    blink = [astronaut_portrait.motion.expression[names.index(f"eyeBlink{side}")] for side in ("Left", "Right")]
    assert min(smile) > 0.2 and max(blink) < 0.6
    assert np.degrees(np.abs(astronaut_portrait.motion.gaze_rad)).max() < 15.0


def test_the_model_meets_the_photos_landmarks(astronaut_portrait: PreparedPortrait, open_head: OpenHead):
    fitter = LandmarkFitter(open_head, astronaut_portrait.focal)
    person, motion = person_of(astronaut_portrait, open_head), one_row(astronaut_portrait)
    residual = fitter.residual_px(astronaut_portrait.landmarks[None], person, motion)[0]
    # The offset is spread smoothly over the mesh, so it is met closely and not exactly.
    assert residual.mean() < 0.8 and residual.max() < 5.0
    # Fitting the same picture as a frame of this person finds the photo's own motion again.
    again = fitter.fit_motion(astronaut_portrait.landmarks[None], person)
    assert np.degrees(np.abs(again.rotation_rad - motion.rotation_rad)).max() < 1.0
    assert np.abs(again.expression - motion.expression).max() < 0.3
    np.testing.assert_allclose(again.gaze_rad, motion.gaze_rad, atol=0.03)


def test_the_crop_is_the_photo(astronaut: np.ndarray, astronaut_portrait: PreparedPortrait):
    portrait = astronaut_portrait
    np.testing.assert_array_equal(portrait.photo, astronaut)
    left, top, side = portrait.crop_box
    assert left >= 0 and top >= 0 and left + side <= 512 and top + side <= 512
    np.testing.assert_array_equal(portrait.image, cut(astronaut, portrait.crop_box, 512))
    assert portrait.image.shape == (512, 512, 3) and portrait.focal > 4


def test_layers_show_what_the_photo_shows(astronaut_portrait: PreparedPortrait):
    portrait = astronaut_portrait
    photo = portrait.image.astype(int)
    far = portrait.person_alpha == 0
    import cv2

    far = cv2.erode(far.astype(np.uint8), np.ones((103, 103), np.uint8)).astype(bool)
    assert far.sum() > 5000
    assert np.abs(portrait.background[far].astype(int) - photo[far]).max() <= 2
    # In the chest the torso layer is the photo, and opaque.
    chest = np.s_[460:, 200:300]
    assert portrait.torso[chest][..., 3].min() > 250
    assert np.abs(portrait.torso[chest][..., :3].astype(int) - photo[chest]).mean() < 2
    # Where she is, the scene shows neither hair nor suit.
    columns, rows = portrait.landmarks[[4, 50, 280, 9], :2].T.astype(int)
    assert np.abs(portrait.background[rows, columns].astype(int) - photo[rows, columns]).max() > 25
    # The torso goes on under the chin and ends below the eyes.
    chin = portrait.landmarks[152, :2].astype(int)
    assert portrait.torso[chin[1] - 8, chin[0], 3] > 200
    assert portrait.torso[: int(portrait.landmarks[168, 1]), :, 3].max() < 30


def test_between_head_and_neck_is_no_gap(astronaut_portrait: PreparedPortrait):
    """Together the layers cover the person in the photo's own pose."""
    head, person = astronaut_portrait.head_alpha, astronaut_portrait.person_alpha
    covered = head + (1 - head) * astronaut_portrait.torso[..., 3] / 255
    assert (covered < person - 0.25).mean() < 2e-4


def test_preparing_again_gives_the_same(astronaut, astronaut_portrait, face_tracker, open_head):
    kept = astronaut.copy()
    again = prepare_portrait(astronaut, face_tracker, open_head)
    np.testing.assert_array_equal(astronaut, kept)
    for name in ("image", "person_alpha", "head_alpha", "torso", "background", "landmarks", "identity", "vertex_offset"):
        np.testing.assert_array_equal(getattr(again, name), getattr(astronaut_portrait, name), err_msg=name)


def test_a_larger_photo_of_her_is_the_same_person(astronaut, astronaut_portrait, face_tracker, open_head):
    import cv2

    large = cv2.resize(astronaut, None, fx=3.0, fy=3.0, interpolation=cv2.INTER_CUBIC)
    portrait = prepare_portrait(large, face_tracker, open_head, PortraitOptions(background_fill="knn"))
    np.testing.assert_allclose(np.array(portrait.crop_box) / 3, astronaut_portrait.crop_box, atol=5.0)
    assert np.degrees(np.abs(portrait.motion.rotation_rad - astronaut_portrait.motion.rotation_rad)).max() < 3.0
    assert np.abs(portrait.head_alpha - astronaut_portrait.head_alpha).mean() < 0.03
    assert portrait.image.shape == (512, 512, 3)


def test_refusals(astronaut, face_tracker, open_head):
    import cv2

    with pytest.raises(NoFaceFound, match="wall.png: no face found"):
        prepare_portrait(PLAIN, face_tracker, open_head, name="wall.png")
    with pytest.raises(NoFaceFound, match="no face 2"):
        prepare_portrait(astronaut, face_tracker, open_head, PortraitOptions(face=2))
    small = cv2.resize(astronaut, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    with pytest.raises(NoFaceFound, match="px wide"):
        prepare_portrait(small, face_tracker, open_head)


def face_in(x: float, y: float, extent: float) -> DetectedFace:
    landmarks = np.tile(np.float32((x, y, 0.0)), (478, 1))
    landmarks[10, 1], landmarks[152, 1] = y - extent / 2, y + extent / 2
    landmarks[234, 0], landmarks[454, 0] = x - 0.4 * extent, x + 0.4 * extent
    return DetectedFace(landmarks)


@pytest.mark.parametrize("shape", [(1000, 1400), (700, 500), (300, 300)])
@pytest.mark.parametrize("place", [(0.5, 0.5), (0.05, 0.1), (0.95, 0.9)])
def test_the_crop_lies_inside_the_photo(shape, place):
    height, width = shape
    face = face_in(place[0] * width, place[1] * height, 200.0)
    left, top, side = crop_box(face, shape, 2.3)
    assert left >= 0 and top >= 0 and left + side <= width + 1e-6 and top + side <= height + 1e-6
    assert side == pytest.approx(min(460.0, *shape))


def test_the_crop_is_round_the_face_where_there_is_room():
    left, top, side = crop_box(face_in(700, 500, 200.0), (1000, 1400), 2.3)
    assert left + side / 2 == pytest.approx(700, abs=1)
    assert top + side / 2 == pytest.approx(500, abs=0.1 * 200)


@pytest.mark.parametrize(
    ("shape", "box", "size"),
    [
        ((1501, 2001), (301.3, 203.7, 1001.9), 512),  # shrunk
        ((600, 700), (50.3, 20.8, 300.2), 512),  # enlarged
        ((800, 900), (10.4, 30.6, 700.1), 512),
        ((1333, 1333), (0.0, 0.0, 1333.0), 512),  # the whole
        ((512, 512), (0.0, 0.0, 512.0), 512),
        ((700, 900), (10.4, 20.3, 601.2), 512),
    ],
)
def test_a_cut_pixel_shows_the_place_it_stands_for(shape, box, size):
    """A picture of its own coordinates, cut: the values are those of the box's pixel centres."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) + 0.5
    seen = cut(np.dstack([x, y, 0 * x]), box, size)
    centres = (np.arange(size) + 0.5) * box[2] / size
    inner = slice(2, -2)
    np.testing.assert_allclose(seen[inner, inner, 0].mean(0), (box[0] + centres)[inner], atol=0.13 * box[2] / size)
    np.testing.assert_allclose(seen[inner, inner, 1].mean(1), (box[1] + centres)[inner], atol=0.13 * box[2] / size)


def test_a_cut_takes_the_box():
    rows = np.arange(64, dtype=np.uint8)[:, None, None] * 2
    image = np.broadcast_to(rows + np.arange(64, dtype=np.uint8)[None, :, None], (64, 64, 3)).copy()
    assert np.array_equal(cut(image, (8.0, 16.0, 32.0), 32), image[16:48, 8:40])
    # Halving averages 2 x 2 pixels; beyond the border the border repeats.
    halved = cut(image, (0.0, 0.0, 64.0), 32).astype(float)
    assert np.abs(halved - image.reshape(32, 2, 32, 2, 3).astype(float).mean((1, 3))).max() <= 1
    beyond = cut(image, (-8.0, 0.0, 64.0), 64)
    assert np.array_equal(beyond[:, 8:], image[:, :56]) and (beyond[:, :8] == image[:, :1]).all()


@pytest.mark.parametrize(("box", "size"), [((-30.4, -20.3, 500.2), 256), ((150.4, 60.3, 450.2), 256), ((-30.4, 20.3, 300.2), 512)])
def test_beyond_the_photo_its_border_repeats(box, size):
    y, x = np.mgrid[:512, :512].astype(np.float32)
    photo, border = np.dstack([x, y, 255 * np.sin(x / 60) * np.cos(y / 70)]), 160
    wide = np.pad(photo, ((border, border), (border, border), (0, 0)), mode="edge")
    np.testing.assert_allclose(cut(photo, box, size), cut(wide, (box[0] + border, box[1] + border, box[2]), size), atol=3)


def test_cutting_everything_changes_nothing(astronaut):
    np.testing.assert_array_equal(cut(astronaut, (0.0, 0.0, 512.0), 512), astronaut)
