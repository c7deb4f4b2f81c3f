"""The embedded head: what its coefficients do, and that lids, eyes and jaw behave as anatomy asks."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest

from triportrait.face.curve_kernels import add_curves
from triportrait.face.open_head import GAZE_LIMITS_RAD, OpenHead, gaze_matrix, gaze_weights
from triportrait.face.pncc import pncc
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.landmarks import INNER_LIPS, IRIS_CENTRES, LID_PAIRS, LIP_PAIRS
from triportrait.types import ARKIT_EXPRESSIONS, FullHead, HeadModel, HeadPart

NOBODY = np.zeros(80, np.float32)
BLINKS = ("eyeBlinkLeft", "eyeBlinkRight")


def curves(**values: float) -> np.ndarray:
    expression = np.zeros(len(ARKIT_EXPRESSIONS), np.float32)
    for name, value in values.items():
        expression[ARKIT_EXPRESSIONS.index(name)] = value
    return expression


#: Curves that bring the lips together; where lips touch, the head is not linear.
CLOSERS = ("mouthClose", "mouthPress", "mouthRoll", "mouthShrug")


def open_mouthed(rng: np.random.Generator, highest: float) -> np.ndarray:
    """Random curves with open eyes and parted lips."""
    expression = rng.uniform(0, highest, 44).astype(np.float32)
    for index, name in enumerate(ARKIT_EXPRESSIONS):
        if name in BLINKS or name.startswith(CLOSERS):
            expression[index] = 0.0
    expression[ARKIT_EXPRESSIONS.index("jawOpen")] = highest
    return expression


def people(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(11).normal(size=(count, 80)).astype(np.float32))


def gaps(head: OpenHead, vertices: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Height of lids' or lips' openings over the face's height, negative where they cross."""
    landmarks = head.landmarks478(vertices)
    return (landmarks[pairs[:, 0], 1] - landmarks[pairs[:, 1], 1]) / np.linalg.norm(landmarks[10] - landmarks[152])


def test_the_file_is_small():
    assert len(files("triportrait.face").joinpath("data/open_head.safetensors").read_bytes()) <= 12 * 2**20


def test_it_is_a_head_model_with_the_arkit_curves(open_head: OpenHead):
    assert isinstance(open_head, HeadModel)
    assert all(hasattr(open_head, name) for name in FullHead.__annotations__)
    assert open_head.identity_size == 80
    assert open_head.expression_names == ARKIT_EXPRESSIONS and len(set(ARKIT_EXPRESSIONS)) == 44
    count = len(open_head.mean)
    assert open_head.triangles.dtype == np.int32
    assert open_head.triangles.min() >= 0 and open_head.triangles.max() < count
    assert open_head.part.shape == open_head.neck.shape == (count,)
    assert set(np.unique(open_head.part)) == {int(part) for part in HeadPart}
    assert open_head.neck.min() == 0.0 and open_head.neck.max() == pytest.approx(1.0, abs=0.01)
    assert open_head.pncc_triangles.shape == (len(open_head.triangles),)


def test_embedded_is_one_shared_instance(open_head: OpenHead):
    assert OpenHead.embedded() is open_head


def test_axes_and_units(open_head: OpenHead):
    landmarks = open_head.landmarks68(open_head.mean)
    chin, nose, brow = landmarks[8], landmarks[30], landmarks[27]
    assert nose[2] > chin[2] and nose[2] > brow[2] and brow[1] > nose[1] > chin[1]
    # Both eyes: subject's left at positive x, 6 to 7 cm apart.
    assert 0.55 < open_head.eye_centre[0, 0] - open_head.eye_centre[1, 0] < 0.75
    # iBUG 36 is the right eye's outer corner, 45 the left's; 0 the right side of the jaw, 16 the left.
    assert landmarks[36, 0] < landmarks[39, 0] < landmarks[42, 0] < landmarks[45, 0]
    assert landmarks[0, 0] < 0 < landmarks[16, 0]


def test_triangles_look_outwards(open_head: OpenHead):
    corner = open_head.mean[open_head.triangles]
    volume = np.einsum("ij,ij->i", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])).sum() / 6
    assert volume > 2.0  # litres
    face = np.linalg.norm(corner.mean(1) - open_head.landmarks68(open_head.mean)[30], axis=1) < 0.2
    facing = np.cross(corner[face, 1] - corner[face, 0], corner[face, 2] - corner[face, 0])[:, 2]
    assert facing.sum() > 0


def test_the_mean_head_is_symmetric(open_head: OpenHead):
    jaw = open_head.landmarks68(open_head.mean)[:17]
    np.testing.assert_allclose(jaw[::-1] * (-1, 1, 1), jaw, atol=1e-4)
    np.testing.assert_allclose(open_head.eye_centre[1] * (-1, 1, 1), open_head.eye_centre[0], atol=1e-4)
    from scipy.spatial import cKDTree

    away = cKDTree(open_head.mean).query(open_head.mean * (-1, 1, 1))[0]
    # The mesh was thinned without regard to symmetry: vertices need not have partners, but the surface is the same.
    assert np.median(away) < 1e-3 and away.max() < 0.12


def test_mirrored_curves_mirror_the_face(open_head: OpenHead):
    for left in (name for name in ARKIT_EXPRESSIONS if name.endswith("Left") and name.removesuffix("Left") + "Right" in ARKIT_EXPRESSIONS):
        right = left.removesuffix("Left") + "Right"
        a = open_head.landmarks68(open_head.vertices(NOBODY, curves(**{left: 1.0})))
        b = open_head.landmarks68(open_head.vertices(NOBODY, curves(**{right: 1.0})))
        # Compared in their sums, which do not depend on which landmark mirrors which.
        np.testing.assert_allclose(a.sum(0), b.sum(0) * (-1, 1, 1), atol=0.25, err_msg=left)


def test_identity_is_linear_and_missing_coefficients_are_zero(open_head: OpenHead):
    a, b = people(2)
    together = open_head.shape(a + b) - open_head.mean
    np.testing.assert_allclose(together, (open_head.shape(a) - open_head.mean) + (open_head.shape(b) - open_head.mean), atol=1e-5)
    np.testing.assert_array_equal(open_head.shape(NOBODY), open_head.mean)
    np.testing.assert_allclose(open_head.shape(a[:30]), open_head.shape(np.pad(a[:30], (0, 50))), atol=1e-6)


def test_expression_is_linear_but_for_lids_and_touching_lips(open_head: OpenHead):
    rng = np.random.default_rng(4)
    shape = open_head.shape(people(1)[0])
    a, b = open_mouthed(rng, 0.4), open_mouthed(rng, 0.5)
    together = open_head.deform(shape, a + b) - shape
    np.testing.assert_allclose(together, open_head.deform(shape, a) + open_head.deform(shape, b) - 2 * shape, atol=1e-5)
    # Small blinks are the curve itself.
    still = open_head.deform(shape, np.zeros(44, np.float32))
    small = open_head.deform(shape, curves(eyeBlinkLeft=0.2)) - still
    np.testing.assert_allclose(open_head.deform(shape, curves(eyeBlinkLeft=0.4)) - still, 2 * small, atol=1e-5)


def test_curves_are_summed_as_a_product_sums_them(open_head: OpenHead):
    random = np.random.default_rng(5)
    weights = np.where(random.random(len(open_head.expression_basis)) < 0.5, 0, random.normal(size=44)).astype(np.float32)
    flat = random.normal(size=open_head.mean.size).astype(np.float32)
    wanted = flat + weights.astype(np.float64) @ open_head.expression_basis
    add_curves(open_head.expression_basis, weights, flat)
    np.testing.assert_allclose(flat, wanted, atol=1e-5)


def test_curves_of_before_are_forgotten(open_head: OpenHead):
    """The last sum of curves is kept; another frame's is another one, and nobody can change the kept one."""
    random = np.random.default_rng(6)
    first, second = random.uniform(0, 0.5, (2, 44)).astype(np.float32)
    fresh = OpenHead.__new__(OpenHead)
    fresh.__dict__.update(open_head.__dict__, _summed=(b"", np.zeros(0, np.float32)))
    wanted = fresh.deform(open_head.mean, second).copy()
    open_head.deform(open_head.mean, first)[:] = 7.0
    np.testing.assert_array_equal(open_head.deform(open_head.mean, second), wanted)
    np.testing.assert_array_equal(open_head.deform(open_head.mean, second), wanted)


def test_no_expression_is_the_shape_and_the_arguments_stay(open_head: OpenHead):
    shape = open_head.shape(people(1)[0])
    kept, expression = shape.copy(), curves(jawOpen=0.5, eyeBlinkLeft=1.0)
    expression_kept = expression.copy()
    still = open_head.deform(open_head.mean, np.zeros(44, np.float32))
    np.testing.assert_array_equal(still, open_head.mean)
    np.testing.assert_allclose(open_head.deform(open_head.mean, np.zeros(44, np.float32), np.zeros(2)), still, atol=1e-6)
    # Somebody's lips may have to be parted by a hair.
    np.testing.assert_allclose(open_head.deform(shape, np.zeros(44, np.float32)), shape, atol=5e-3)
    open_head.deform(shape, expression, np.array([0.2, -0.3]))
    assert np.array_equal(shape, kept) and np.array_equal(expression, expression_kept)


def test_landmark_bases_are_the_landmarks(open_head: OpenHead):
    rng = np.random.default_rng(5)
    identity, gaze = people(1)[0], np.array([0.2, -0.3])
    expression = open_mouthed(rng, 0.7)
    bases = open_head.landmark_bases()
    linear = bases.mean + bases.identity @ identity + bases.expression @ expression + bases.gaze @ np.array(gaze_weights(*gaze))
    np.testing.assert_allclose(linear, open_head.landmarks478(open_head.vertices(identity, expression, gaze))[:468], atol=1e-5)


def test_landmarks_are_finite_and_lie_on_the_face(open_head: OpenHead):
    for identity in [NOBODY, *people(5)]:
        landmarks = open_head.landmarks478(open_head.vertices(identity, curves(jawOpen=0.6, mouthSmileLeft=0.5), np.array([0.3, -0.2])))
        assert landmarks.shape == (478, 3) and np.isfinite(landmarks).all()
        sixty_eight = open_head.landmarks68(open_head.vertices(identity, np.zeros(44, np.float32)))
        whole = open_head.landmarks478(open_head.shape(identity))
        # The same points by two tables: nose tip and chin within 12 mm of each other.
        assert np.linalg.norm(whole[4] - sixty_eight[30]) < 0.12 and np.linalg.norm(whole[152] - sixty_eight[8]) < 0.12


def test_the_weights_of_the_landmarks_are_convex(open_head: OpenHead):
    np.testing.assert_allclose(open_head.landmark_barycentric.sum(1), 1.0, atol=1e-5)
    assert open_head.landmark_barycentric.min() >= -1e-6


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_a_blink_closes_one_eye_of_anybody(open_head: OpenHead, side: str):
    own, other = (LID_PAIRS[3:], LID_PAIRS[:3]) if side == "Left" else (LID_PAIRS[:3], LID_PAIRS[3:])
    for identity in [NOBODY, *people(60)]:
        shape = open_head.shape(identity)
        before = gaps(open_head, shape, own)
        shut = open_head.deform(shape, curves(**{f"eyeBlink{side}": 1.0}))
        after = gaps(open_head, shut, own)
        assert before.min() > 0.02
        # Shut in the middle, nowhere open by as much as 2 % of the face, and lids never slide far over each other.
        assert abs(np.median(after)) < 0.012
        assert after.max() < 0.02 and after.min() > -0.025
        np.testing.assert_allclose(gaps(open_head, shut, other), gaps(open_head, shape, other), atol=1e-3)


def test_lids_close_steadily(open_head: OpenHead):
    for identity in people(10):
        shape = open_head.shape(identity)
        amounts = np.linspace(0, 1, 21)
        openings = [np.median(gaps(open_head, open_head.deform(shape, curves(eyeBlinkLeft=a)), LID_PAIRS[3:])) for a in amounts]
        assert (np.diff(openings) <= 1e-6).all()
        assert np.abs(np.diff(openings)).max() < 0.25 * openings[0]  # no jump between two frames of a slow blink


def test_a_blink_shuts_wide_and_squinting_eyes_too(open_head: OpenHead):
    shape = open_head.shape(people(1)[0])
    for extra in ({"eyeWideLeft": 0.8}, {"eyeSquintLeft": 1.0}, {"cheekSquintLeft": 1.0, "mouthSmileLeft": 1.0}):
        for gaze in ((0.0, 0.0), (0.3, 0.2), (-0.3, -0.2)):
            shut = open_head.deform(shape, curves(eyeBlinkLeft=1.0, **extra), np.array(gaze))
            assert abs(np.median(gaps(open_head, shut, LID_PAIRS[3:]))) < 0.015


@pytest.mark.parametrize("gaze", [(0.0, 0.3), (0.3, 0.0), (-0.4, -0.2), (-0.6, 0.0)])
def test_gaze_moves_eyeballs_and_lids_only(open_head: OpenHead, gaze):
    shape = open_head.shape(people(1)[0])
    moved = np.linalg.norm(open_head.deform(shape, np.zeros(44), np.array(gaze)) - shape, axis=1)
    part = open_head.part
    assert moved[part >= HeadPart.EYE_LEFT].max() > 0.02
    inside = (part == HeadPart.TONGUE) | (part == HeadPart.GUMS) | (part == HeadPart.TEETH_UPPER) | (part == HeadPart.TEETH_LOWER)
    assert moved[inside].max() == 0.0
    to_eye = np.min(np.linalg.norm(shape[:, None] - open_head.eye_centres(shape), axis=-1), axis=1)
    skin = part <= HeadPart.SOCKET
    assert moved[skin & (to_eye > 0.45)].max() < 0.002  # 0.2 mm
    assert moved[skin].max() > 0.004


def test_eyeballs_turn_round_their_centres(open_head: OpenHead):
    shape = open_head.shape(people(1)[0])
    turned = open_head.deform(shape, np.zeros(44), np.array([0.3, -0.25]))
    for ball, centre in zip(open_head.eye_vertices, open_head.eye_centres(shape), strict=True):
        before, after = (np.linalg.norm(points[ball] - centre, axis=1) for points in (shape, turned))
        np.testing.assert_allclose(after, before, atol=1e-5)
        direction = turned[ball[0]] - centre
        np.testing.assert_allclose(direction / np.linalg.norm(direction), gaze_matrix(0.3, -0.25) @ (0, 0, 1), atol=1e-3)


def test_the_iris_looks_where_gaze_says_in_the_picture(open_head: OpenHead):
    def iris(gaze: tuple[float, float]) -> np.ndarray:
        landmarks = open_head.landmarks478(open_head.vertices(NOBODY, np.zeros(44), np.array(gaze)))
        return project(pose_points(landmarks, np.zeros(3), np.zeros(3)), 512)[0][list(IRIS_CENTRES)]

    ahead = iris((0.0, 0.0))
    right, up = iris((0.0, 0.3)) - ahead, iris((0.3, 0.0)) - ahead
    assert (right[:, 0] > 3.0).all() and np.abs(right[:, 1]).max() < 0.5
    assert (up[:, 1] < -3.0).all() and np.abs(up[:, 0]).max() < 0.5


def test_irises_are_rings_round_their_centres(open_head: OpenHead):
    landmarks = open_head.landmarks478(open_head.vertices(people(1)[0], np.zeros(44), np.array([0.1, 0.3])))
    for centre in IRIS_CENTRES:
        spokes = landmarks[centre + 1 : centre + 5] - landmarks[centre]
        np.testing.assert_allclose(spokes.sum(0), 0.0, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(spokes, axis=1), 0.06, atol=1e-5)


def test_gaze_weights_are_one_at_the_limits():
    up, down, side = GAZE_LIMITS_RAD
    assert gaze_weights(0.0, 0.0) == (0.0, 0.0, 0.0, 0.0)
    assert gaze_weights(up, side) == (1.0, 0.0, 1.0, 0.0)
    assert gaze_weights(-down, -side) == (0.0, 1.0, 0.0, 1.0)


def test_gaze_matrix_turns_the_view_by_both_angles():
    for pitch, yaw in ((0.3, 0.0), (0.0, 0.4), (-0.2, 0.5)):
        x, y, z = gaze_matrix(pitch, yaw) @ (0.0, 0.0, 1.0)
        assert np.arctan2(x, z) == pytest.approx(yaw, abs=1e-6) and np.arcsin(y) == pytest.approx(pitch, abs=1e-6)


def test_the_jaw_takes_the_lower_teeth_and_leaves_the_upper(open_head: OpenHead):
    moved = open_head.vertices(NOBODY, curves(jawOpen=1.0)) - open_head.mean
    part = open_head.part
    assert np.abs(moved[part == HeadPart.TEETH_UPPER]).max() < 1e-3
    assert moved[part == HeadPart.TEETH_LOWER, 1].max() < -0.1
    assert moved[part == HeadPart.TONGUE, 1].max() < 0.0
    assert np.abs(moved[part >= HeadPart.EYE_LEFT]).max() == 0.0
    brows = open_head.landmarks68(moved)[17:27]
    assert np.abs(brows).max() < 0.02
    opened = gaps(open_head, open_head.mean + moved, LIP_PAIRS)
    assert opened.min() > gaps(open_head, open_head.mean, LIP_PAIRS).max() + 0.05


def test_each_lip_has_its_own_landmarks(open_head: OpenHead):
    """The lips touch in the mean head; a landmark on the wrong one would not follow an opening mouth."""
    lowered = open_head.landmarks478(open_head.vertices(NOBODY, curves(jawOpen=1.0)))[:, 1] - open_head.landmarks478(open_head.mean)[:, 1]
    upper, lower = INNER_LIPS[1:10], INNER_LIPS[:10:-1]
    # From the right corner to the left, partners above each other.
    assert (lowered[lower] < lowered[upper] - 0.05).all()
    assert (np.abs(lowered[upper[2:-2]]) < 0.07).all() and (lowered[lower[2:-2]] < -0.2).all()


def test_lips_touch_and_do_not_pass_through_each_other(open_head: OpenHead):
    rng = np.random.default_rng(6)
    for identity in people(30):
        expression = (rng.uniform(0, 1, 44) * (rng.uniform(size=44) < 0.3)).astype(np.float32)
        expression[ARKIT_EXPRESSIONS.index("mouthClose")] = 1.0
        expression[ARKIT_EXPRESSIONS.index("jawOpen")] = rng.uniform(0, 0.3)
        assert np.median(gaps(open_head, open_head.vertices(identity, expression), LIP_PAIRS)) > -0.004


def test_pncc_has_holes_for_the_eyes(open_head: OpenHead):
    inner = (open_head.part > HeadPart.SOCKET)[open_head.triangles].any(1)
    assert not open_head.pncc_triangles[inner].any()
    picture = pncc(open_head, open_head.mean)
    shown = picture.max(0) > -1.0
    landmarks, _ = project(open_head.landmarks478(open_head.mean), 512, 1015.0 / 224.0)
    for row, column in landmarks[list(IRIS_CENTRES)][:, ::-1].astype(int):
        assert not shown[row - 1 : row + 2, column - 1 : column + 2].any()
    for name in (4, 50, 280, 152, 9):  # nose, cheeks, chin, brow
        column, row = landmarks[name].astype(int)
        assert shown[row - 2, column]
    assert open_head.ncc_colours.min() >= 0.0 and open_head.ncc_colours.max() <= 1.0


def test_eye_centres_follow_the_shape(open_head: OpenHead):
    np.testing.assert_allclose(open_head.eye_centres(open_head.mean), open_head.eye_centre, atol=1e-7)
    for identity in people(5):
        shape = open_head.shape(identity)
        for centre, ball, radius in zip(open_head.eye_centres(shape), open_head.eye_vertices, open_head.eye_radius, strict=True):
            assert np.linalg.norm(shape[ball[0]] - centre) == pytest.approx(float(radius), rel=0.02)
