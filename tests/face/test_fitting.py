"""Fitting: what was put in comes out, whatever the pose; a blink is not a nod; a clip is its frames."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from triportrait.face import fitting
from triportrait.face.fitting import FitSettings, LandmarkFitter, Person, spread_offset
from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.curve_range import lowest_curves
from triportrait.geometry.landmarks import (
    BROW_LEFT,
    BROW_RIGHT,
    EYE_LEFT_CORNERS,
    EYE_RIGHT_CORNERS,
    LID_PAIRS,
    LIP_PAIRS,
    LIPS,
    OUTER_MOUTH_CORNERS,
)
from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.rotations import matrix_from_euler, vector_from_matrix
from triportrait.types import ARKIT_EXPRESSIONS, Motion

PAIRS = np.concatenate([LIP_PAIRS, LID_PAIRS])
BLINKS = [ARKIT_EXPRESSIONS.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]
NO_OFFSET = np.zeros((468, 3))


def landmarks_of(head: OpenHead, identity: np.ndarray, motion: Motion, side_px: float = 512.0) -> np.ndarray:
    """The 478 landmarks [t, 478, 2] in pixels that a perfect tracker would see."""
    rows = []
    for frame in motion:
        points = head.landmarks478(head.vertices(identity, frame.expression, frame.gaze_rad)).astype(np.float64)
        rows.append(project(pose_points(points, frame.rotation_rad, frame.translation), side_px)[0])
    return np.stack(rows)


def random_motion(count: int) -> Motion:
    """A few curves at a time, turns up to 17 degrees, gaze up to 14 degrees, lids at most half shut, lips parted.

    Where lids or lips touch, the head is not linear, and the fitter's model is.
    """
    rng = np.random.default_rng(1)
    expression = rng.uniform(0, 1, (count, 44)) * (rng.uniform(size=(count, 44)) < 0.12)
    expression[:, BLINKS] = np.minimum(expression[:, BLINKS], 0.5)
    for column, name in enumerate(ARKIT_EXPRESSIONS):
        if name.startswith(("mouthClose", "mouthPress", "mouthRoll", "mouthShrug")):
            expression[:, column] = 0.0
    jaw = ARKIT_EXPRESSIONS.index("jawOpen")
    expression[:, jaw] = np.maximum(expression[:, jaw], 0.15)
    return Motion(
        expression.astype(np.float32),
        rng.uniform(-0.3, 0.3, (count, 3)).astype(np.float32),
        (rng.uniform(-0.3, 0.3, (count, 3)) - (0, 0, 0.5)).astype(np.float32),
        rng.uniform(-0.25, 0.25, (count, 2)).astype(np.float32),
    )


def angles_between(a: Motion, b: Motion) -> np.ndarray:
    """Degrees [t] between the rotations of two motions."""
    turn = np.swapaxes(matrix_from_euler(a.rotation_rad), 1, 2) @ matrix_from_euler(b.rotation_rad)
    return np.degrees(np.linalg.norm(vector_from_matrix(turn), axis=-1))


def openings(head: OpenHead, identity: np.ndarray, motion: Motion) -> np.ndarray:
    """Openings of lips and lids [t, 13] in face heights."""
    whole = head.landmarks478(head.shape(identity))
    height = np.linalg.norm(whole[10] - whole[152])
    rows = [head.landmarks478(head.vertices(identity, frame.expression, frame.gaze_rad)) for frame in motion]
    return np.array([(row[PAIRS[:, 0], 1] - row[PAIRS[:, 1], 1]) / height for row in rows])


@pytest.fixture(scope="module")
def identity() -> np.ndarray:
    return 0.7 * np.random.default_rng(2).normal(size=80)


@pytest.fixture(scope="module")
def fitter(open_head: OpenHead) -> LandmarkFitter:
    return LandmarkFitter(open_head)


def test_a_known_person_is_recovered(open_head, fitter, identity):
    truth = random_motion(24)
    landmarks = landmarks_of(open_head, identity, truth)
    person = Person(identity, NO_OFFSET)
    found = fitter.fit_motion(landmarks, person)
    assert angles_between(found, truth).max() < 0.3
    assert np.abs(found.translation - truth.translation).max() < 0.02
    assert fitter.residual_px(landmarks, person, found).mean() < 0.3
    assert np.abs(openings(open_head, identity, found) - openings(open_head, identity, truth)).max() < 0.01
    # The fitter takes the iris to lie on the ball, the model a little inside it: gaze comes out a tenth too small.
    assert np.abs(found.gaze_rad - truth.gaze_rad).max() < 0.09


def test_an_unknown_person_in_a_clip_is_recovered(open_head, fitter, identity):
    truth = random_motion(12)
    landmarks = landmarks_of(open_head, identity, truth)
    person, found, residual = fitter.fit_person(landmarks)
    assert angles_between(found, truth).max() < 0.3
    assert np.linalg.norm(residual, axis=-1).mean() < 0.3
    assert np.abs(openings(open_head, person.identity, found) - openings(open_head, identity, truth)).max() < 0.01
    scale = np.linalg.norm(identity @ open_head.identity_basis)
    assert np.linalg.norm((person.identity - identity) @ open_head.identity_basis) < 0.5 * scale


@pytest.mark.parametrize("frame", [0, 1, 2])
def test_an_unknown_person_in_one_picture_is_recovered(open_head, fitter, identity, frame):
    truth = random_motion(3)
    one = truth.with_rows(**{f: getattr(truth, f)[frame : frame + 1] for f in ("expression", "rotation_rad", "translation", "gaze_rad")})
    landmarks = landmarks_of(open_head, identity, one)
    person, found, residual = fitter.fit_person(landmarks)
    assert angles_between(found, one).max() < 0.5
    assert np.linalg.norm(residual, axis=-1).mean() < 0.3
    # What the coefficients leave, the offset takes: the only picture is met exactly.
    assert fitter.residual_px(landmarks, person, found).max() < 1e-3


def test_a_blink_is_no_nod(open_head, fitter, identity):
    count = 13
    expression = np.zeros((count, 44), np.float32)
    expression[:, BLINKS] = np.sin(np.linspace(0, np.pi, count))[:, None]
    still = np.tile(np.float32([0.05, 0.1, -0.03]), (count, 1))
    truth = Motion(expression, still, np.zeros((count, 3), np.float32), np.zeros((count, 2), np.float32))
    landmarks = landmarks_of(open_head, identity, truth)
    rng = np.random.default_rng(3)
    for noise_px in (0.0, 0.5):
        found = fitter.fit_motion(landmarks + rng.normal(0, noise_px, landmarks.shape), Person(identity, NO_OFFSET))
        assert angles_between(found, truth).max() < 0.5
        assert found.expression[0, BLINKS].max() < 0.1 and found.expression[count // 2, BLINKS].min() > 0.85


@pytest.mark.parametrize("turn_rad", [(0.0, 0.0, 0.0), (0.1, -0.3, 0.15)])
def test_brows_move_as_far_as_they_are_seen(open_head, fitter, identity, turn_rad):
    """Up and down from their rest, at each end: the head does what the tracker saw, and what the tracker leaves out of it."""
    count = 24
    wave = np.sin(np.linspace(0, 2 * np.pi, count, endpoint=False))
    expression = np.zeros((count, 44), np.float32)
    for name, highest, turn in (("browInnerUp", 0.4, 0), ("browOuterUpLeft", 0.5, 4), ("browOuterUpRight", 0.5, 4)):
        expression[:, ARKIT_EXPRESSIONS.index(name)] = highest * np.roll(wave, turn)
    pose = np.tile(np.float32(turn_rad), (count, 1))
    truth = Motion(expression, pose, np.zeros((count, 3), np.float32), np.zeros((count, 2), np.float32))
    landmarks, still = (
        landmarks_of(open_head, identity, truth),
        landmarks_of(open_head, identity, truth.with_rows(expression=0 * expression)),
    )
    found = fitter.fit_motion(still + fitting._BROW_SEEN * (landmarks - still), Person(identity, NO_OFFSET))
    drawn = landmarks_of(open_head, identity, found)
    up = matrix_from_euler(pose)[:, :2, 1] * (1, -1)

    def height(points: np.ndarray, part: np.ndarray, eye: tuple[int, int]) -> np.ndarray:
        return np.einsum("tnc,tc->tn", points[:, part] - points[:, list(eye)].mean(1, keepdims=True), up).mean(1)

    for brow, eye in ((BROW_RIGHT, EYE_RIGHT_CORNERS), (BROW_LEFT, EYE_LEFT_CORNERS)):
        for part in (brow[[0, 5]], brow[[2, 3, 7, 8]], brow[[4, 9]]):
            rest = height(still, part, eye)
            real, made = height(landmarks, part, eye) - rest, height(drawn, part, eye) - rest
            for rows in (real > 0, real < 0):
                assert 0.8 < made[rows] @ real[rows] / (real[rows] @ real[rows]) < 1.15
    assert angles_between(found, truth).max() < 1.0
    assert (found.expression >= lowest_curves(ARKIT_EXPRESSIONS)).all() and (found.expression <= 1.0).all()


def test_lips_are_as_wide_as_they_are_seen(open_head, fitter, identity):
    """Rounded and drawn wide, also where the pose is known to differ from the fitted one."""
    wave = np.sin(np.linspace(0, 2 * np.pi, 24, endpoint=False))
    expression = np.zeros((24, 44), np.float32)
    for name, amount in (
        ("mouthPucker", np.maximum(wave, 0.0)),
        ("mouthStretchLeft", np.maximum(-wave, 0.0)),
        ("jawOpen", 0.2 + 0.1 * wave),
    ):
        expression[:, ARKIT_EXPRESSIONS.index(name)] = amount
    expression[:, ARKIT_EXPRESSIONS.index("mouthStretchRight")] = expression[:, ARKIT_EXPRESSIONS.index("mouthStretchLeft")]
    zero = np.zeros((24, 3), np.float32)
    truth = Motion(expression, zero, zero, np.zeros((24, 2), np.float32))
    landmarks, person = landmarks_of(open_head, identity, truth), Person(identity, NO_OFFSET)

    def width(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points[:, OUTER_MOUTH_CORNERS[0]] - points[:, OUTER_MOUTH_CORNERS[1]], axis=-1)

    found = fitter.fit_motion(landmarks, person)
    real, made = width(landmarks), width(landmarks_of(open_head, identity, found))
    assert 0.93 < np.polyfit(real, made, 1)[0] < 1.05
    turned = found.with_rows(rotation_rad=found.rotation_rad + np.float32([0.01, 0.02, 0.0]))
    left, mended = (
        np.linalg.norm((landmarks_of(open_head, identity, motion) - landmarks)[:, LIPS], axis=-1).mean()
        for motion in (turned, fitter.with_mouth(landmarks, person, turned))
    )
    assert mended < 0.6 * left


def test_shut_lips_are_found_shut(open_head, fitter, identity):
    """As in m, b and p: whatever curves shut them, the fitted lips are as shut as the seen ones."""
    rng = np.random.default_rng(9)
    expression = np.zeros((12, 44), np.float32)
    for name, highest in (("jawOpen", 0.25), ("mouthPressLeft", 0.6), ("mouthPressRight", 0.6), ("mouthRollLower", 0.5)):
        expression[:, ARKIT_EXPRESSIONS.index(name)] = rng.uniform(0, highest, 12)
    expression[:, ARKIT_EXPRESSIONS.index("mouthClose")] = expression[:, ARKIT_EXPRESSIONS.index("jawOpen")]
    zero = np.zeros((12, 3), np.float32)
    truth = Motion(expression, zero, zero, np.zeros((12, 2), np.float32))
    found = fitter.fit_motion(landmarks_of(open_head, identity, truth), Person(identity, NO_OFFSET))
    lips = slice(0, len(LIP_PAIRS))
    apart = openings(open_head, identity, found)[:, lips] - openings(open_head, identity, truth)[:, lips]
    assert np.abs(apart).max() < 0.01
    assert angles_between(found, truth).max() < 0.5


def test_gaze_follows_the_irises(open_head, fitter, identity):
    gaze = np.float32([(0, 0), (0, 0.3), (0, -0.3), (0.25, 0), (-0.25, 0)])
    zero = np.zeros((len(gaze), 3), np.float32)
    truth = Motion(np.zeros((len(gaze), 44), np.float32), zero, zero, gaze)
    found = fitter.fit_motion(landmarks_of(open_head, identity, truth), Person(identity, NO_OFFSET)).gaze_rad
    assert np.abs(found - gaze).max() < 0.05
    assert found[1, 1] > 0.2 > -0.2 > found[2, 1]
    assert found[3, 0] > 0.15 > -0.15 > found[4, 0]


def test_a_clip_is_its_frames(open_head, fitter, identity):
    truth = random_motion(70)  # more than one batch of the solver
    landmarks = landmarks_of(open_head, identity, truth)
    person = Person(identity, NO_OFFSET)
    whole = fitter.fit_motion(landmarks, person, fps=30.0)
    assert whole.fps == 30.0 and len(whole) == 70
    for row in (0, 37, 63, 64, 69):
        single = fitter.fit_motion(landmarks[row : row + 1], person)
        for name in ("expression", "rotation_rad", "translation", "gaze_rad"):
            np.testing.assert_allclose(getattr(single, name)[0], getattr(whole, name)[row], atol=1e-5)


def test_the_size_of_the_crop_does_not_matter(open_head, fitter, identity):
    truth = random_motion(4)
    person = Person(identity, NO_OFFSET)
    small = LandmarkFitter(open_head, side_px=200.0).fit_motion(landmarks_of(open_head, identity, truth, 200.0), person)
    large = fitter.fit_motion(landmarks_of(open_head, identity, truth), person)
    np.testing.assert_allclose(small.expression, large.expression, atol=1e-3)
    np.testing.assert_allclose(small.rotation_rad, large.rotation_rad, atol=1e-4)


def test_curves_stay_in_their_range_even_for_nonsense(fitter):
    rng = np.random.default_rng(6)
    face = fitter.bases.mean[:, :2] * (218, -218) + 256
    wild = np.concatenate([face, np.full((10, 2), 256.0)])[None] + rng.normal(0, 12, (3, 478, 2))
    person, motion, _ = fitter.fit_person(wild)
    again = fitter.fit_motion(wild, person)
    for found in (motion, again):
        assert (found.expression >= lowest_curves(ARKIT_EXPRESSIONS)).all() and found.expression.max() <= 1.0
        assert np.abs(found.gaze_rad).max() <= 0.7 + 1e-6
        for name in ("expression", "rotation_rad", "translation", "gaze_rad"):
            assert np.isfinite(getattr(found, name)).all()
    assert np.isfinite(person.identity).all() and np.isfinite(person.landmark_offset).all()


def test_a_stronger_prior_gives_calmer_curves(open_head, identity):
    landmarks = landmarks_of(open_head, identity, random_motion(6))
    landmarks += np.random.default_rng(7).normal(0, 1.0, landmarks.shape)
    sums = []
    free = [not name.startswith(("brow", "eyeBlink", "eyeWide")) for name in ARKIT_EXPRESSIONS]
    for prior in (1.0, 25.0, 400.0, 1e5):
        fitter = LandmarkFitter(open_head, settings=FitSettings(expression_prior=prior))
        sums.append(float(fitter.fit_motion(landmarks, Person(identity, NO_OFFSET)).expression[:, free].sum()))
    assert sums == sorted(sums, reverse=True)
    # Lids are as far open as they are seen, whatever the prior, and so are brows as high.
    assert sums[-1] < 0.25 * sums[0]


def test_the_motion_names_its_model_and_person(open_head, fitter, identity):
    person, motion, _ = fitter.fit_person(landmarks_of(open_head, identity, random_motion(2)))
    assert motion.head_model == "open" and motion.expression_names == ARKIT_EXPRESSIONS
    np.testing.assert_allclose(motion.identity, person.identity, rtol=1e-6)


def test_arguments_stay_as_they_are(open_head, fitter, identity):
    landmarks = landmarks_of(open_head, identity, random_motion(2))
    person, kept = Person(identity.copy(), NO_OFFSET.copy()), landmarks.copy()
    fitter.fit_motion(landmarks, person)
    assert np.array_equal(landmarks, kept) and np.array_equal(person.identity, identity) and not person.landmark_offset.any()


def test_offsets_spread_from_the_landmarks_and_fade(open_head):
    nothing = spread_offset(open_head, Person(np.zeros(80), NO_OFFSET))
    assert nothing.shape == open_head.mean.shape and not nothing.any()
    shift = spread_offset(open_head, Person(np.zeros(80), np.tile((0.01, -0.02, 0.03), (468, 1))))
    corner = open_head.triangles[open_head.landmark_triangle]
    at_landmarks = np.einsum("nk,nkc->nc", open_head.landmark_barycentric, shift[corner])
    np.testing.assert_allclose(at_landmarks, np.tile((0.01, -0.02, 0.03), (468, 1)), atol=1e-3)
    anchors = open_head.landmarks478(open_head.mean)[:468]
    away = np.array([np.linalg.norm(anchors - vertex, axis=1).min() for vertex in open_head.mean])
    assert (away > 1.0).sum() > 100 and np.linalg.norm(shift[away > 1.0], axis=1).max() < 1e-3
    assert np.linalg.norm(shift, axis=1).max() < 0.0375


def test_real_speech_is_followed(shared: Path, open_head: OpenHead):
    path = shared / "data" / "speech_av" / "landmarks_0.npz"
    if not path.is_file():
        pytest.skip("no tracks of speech in the shared material")
    data = np.load(path)
    for clip in (0, 20):
        start, end = data["clip_start"][clip : clip + 2]
        landmarks = data["landmarks"][start:end:2].astype(np.float64)[..., :2] * data["image_wh"]
        low, high = landmarks[:, :468].min((0, 1)), landmarks[:, :468].max((0, 1))
        side = 2.3 * (high - low).max()
        landmarks += side / 2 - (low + high) / 2
        fitter = LandmarkFitter(open_head, side_px=side)
        person, _, _ = fitter.fit_person(landmarks[::10])
        motion = fitter.fit_motion(landmarks, person)
        residual = fitter.residual_px(landmarks, person, motion)
        assert residual.mean() < 0.7 and residual[:, LIPS].mean() < 0.7
        seen = landmarks[:, PAIRS[:7, 1], 1] - landmarks[:, PAIRS[:7, 0], 1]
        fitted = openings(open_head, person.identity, motion)[:, :7]
        for column in range(7):
            assert np.corrcoef(seen[:, column], fitted[:, column])[0, 1] > 0.95
        assert np.degrees(motion.rotation_rad).std(0).max() < 3.0
        assert np.abs(person.identity).max() < 6.0


def test_real_portraits_are_met(shared: Path, open_head: OpenHead, face_tracker):
    from PIL import Image

    folder = shared / "data" / "portraits"
    if not (folder / "index.csv").is_file():
        pytest.skip("no portraits in the shared material")
    with (folder / "index.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["file"].startswith("cc0/")][::67]
    for row in rows:
        face = face_tracker.detect(np.array(Image.open(folder / row["file"]).convert("RGB")))[0].landmarks[None, :, :2].astype(np.float64)
        low, high = face[0].min(0), face[0].max(0)
        side = 2.3 * (high - low).max()
        landmarks = face + side / 2 - (low + high) / 2
        fitter = LandmarkFitter(open_head, side_px=side)
        person, motion, residual = fitter.fit_person(landmarks)
        assert np.linalg.norm(residual, axis=-1).mean() < 2.0
        assert np.abs(person.identity).max() < 8.0
        # The index's angles come from another fit, with its own zero of pitch.
        assert abs(np.degrees(motion.rotation_rad[0, 2])) == pytest.approx(abs(float(row["roll_deg"])), abs=4.0)


@pytest.mark.parametrize("yaw_degrees", [-45.0, 45.0])
def test_what_a_tracker_guesses_on_the_unseen_side_turns_the_head_little(open_head, fitter, identity, yaw_degrees):
    """There it draws the landmarks as of a head that is turned by 30 degrees; if they counted fully, 38 would be read."""
    zero = np.zeros((1, 3), np.float32)
    turns = [np.float32([[0.0, np.radians(yaw), 0.0]]) for yaw in (yaw_degrees, yaw_degrees * 30 / 45)]
    truth, guess = (Motion(np.zeros((1, 44), np.float32), turn, zero, np.zeros((1, 2), np.float32)) for turn in turns)
    landmarks = landmarks_of(open_head, identity, truth)
    normals = vertex_normals(open_head.shape(identity.astype(np.float32)), open_head.triangles)
    normals = np.einsum("nk,nkc->nc", open_head.landmark_barycentric, normals[open_head.triangles[open_head.landmark_triangle]])
    unseen = np.flatnonzero((normals @ matrix_from_euler(turns[0])[0].T)[:, 2] < 0.0)
    landmarks[0, unseen] = landmarks_of(open_head, identity, guess)[0, unseen]
    _, found, _ = fitter.fit_person(landmarks)
    assert abs(np.degrees(found.rotation_rad[0, 1]) - yaw_degrees) < 5.0
