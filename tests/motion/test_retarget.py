"""Retargeting, controls and smoothing: identities, closures and blinks survive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from triportrait.geometry.body import NECK_LENGTH_DM
from triportrait.geometry.curve_range import LOWEST_BROW
from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler
from triportrait.geometry.warp import AROUND, FACE_GRID, FACE_UP
from triportrait.motion import retarget
from triportrait.motion import timing as motion_timing
from triportrait.motion.lips import close_lips, lip_opening
from triportrait.motion.natural import blink_shape, idle_motion
from triportrait.motion.smoothing import smooth_adaptive, smooth_motion, smooth_rotations
from triportrait.types import ARKIT_EXPRESSIONS, WARP_COLUMNS, Motion, MotionFrame


def column(name: str) -> int:
    return ARKIT_EXPRESSIONS.index(name)


def talking(frames: int = 100, seed: int = 0) -> Motion:
    """A mouth that opens and closes, lids that blink, a turning head."""
    random = np.random.default_rng(seed)
    expression = np.zeros((frames, 44), np.float32)
    time_s = np.arange(frames) / 25
    expression[:, column("jawOpen")] = 0.15 + 0.15 * np.sin(2 * np.pi * 2.3 * time_s)
    expression[:, column("mouthFunnel")] = 0.1
    contact = np.zeros(frames)
    contact[::13] = 1.0
    contact[:4] = 1.0
    expression = close_lips(expression, ARKIT_EXPRESSIONS, contact)
    for side in ("Left", "Right"):
        lid = [max(blink_shape(t - at, 0.1, 0.05, 0.2) for at in (0.8, 2.9)) for t in time_s]
        expression[:, column(f"eyeBlink{side}")] = lid
    rotation = np.cumsum(random.normal(0, 0.01, (frames, 3)), axis=0).astype(np.float32)
    translation = np.cumsum(random.normal(0, 0.005, (frames, 3)), axis=0).astype(np.float32)
    return Motion(expression, rotation, translation, np.zeros((frames, 2), np.float32))


def portrait_frame() -> MotionFrame:
    expression = np.zeros(44, np.float32)
    expression[column("mouthSmileLeft")] = expression[column("mouthSmileRight")] = 0.4
    expression[column("jawOpen")] = 0.1
    return MotionFrame(expression, np.array([0.1, -0.4, 0.05]), np.array([0.1, -0.2, 0.3]), np.array([0.02, -0.01]))


def test_reference_row_gives_the_portrait_itself() -> None:
    motion, portrait = talking(), portrait_frame()
    for reference, row in (("first", 0), (37, 37), ("neutral", retarget.neutral_row(talking()))):
        result = retarget.relative(motion, reference, portrait, lip_contact=False)
        np.testing.assert_allclose(result.expression[row], portrait.expression, atol=1e-6)
        np.testing.assert_allclose(result.rotation_rad[row], portrait.rotation_rad, atol=1e-6)
        np.testing.assert_allclose(result.translation[row], portrait.translation, atol=1e-6)
        np.testing.assert_allclose(result.gaze_rad[row], portrait.gaze_rad, atol=1e-6)


def test_motion_onto_its_own_reference_is_itself() -> None:
    motion = talking()
    result = retarget.relative(motion, 20, motion[20])
    np.testing.assert_allclose(result.rotation_rad, motion.rotation_rad, atol=1e-6)
    np.testing.assert_allclose(result.translation, motion.translation, atol=1e-6)
    np.testing.assert_allclose(result.expression, motion.expression, atol=2e-3)


def test_brows_sink_below_the_portraits_own_and_other_curves_do_not() -> None:
    motion, portrait = talking(), portrait_frame()
    expression = motion.expression.copy()
    expression[:, column("browOuterUpLeft")] = 0.3 - 0.5 * np.linspace(0, 1, len(motion))
    expression[:, column("mouthSmileLeft")] = 0.5 - 0.5 * np.linspace(0, 1, len(motion))
    result = smooth_motion(retarget.relative(motion.with_rows(expression=expression), 0, portrait))
    np.testing.assert_allclose(result.expression[-1, column("browOuterUpLeft")], LOWEST_BROW, atol=0.01)
    assert result.expression[:, column("mouthSmileLeft")].min() == 0.0


def test_rotations_compose_in_the_heads_own_frame() -> None:
    frames = 3
    rotation = np.zeros((frames, 3), np.float32)
    rotation[:, 0] = [0.0, 0.2, -0.1]
    motion = talking(frames).with_rows(rotation_rad=rotation)
    portrait = portrait_frame()
    result = matrix_from_euler(retarget.relative(motion, "first", portrait).rotation_rad)
    expected = matrix_from_euler(portrait.rotation_rad) @ matrix_from_euler(rotation)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_closed_lips_close_an_open_portrait() -> None:
    motion = talking()
    closed = lip_opening(motion.expression, ARKIT_EXPRESSIONS) < 1e-3
    assert closed.sum() > 8
    for result in (retarget.relative(motion, 6, portrait_frame()), retarget.from_rest(motion, portrait_frame())):
        assert lip_opening(result.expression, ARKIT_EXPRESSIONS)[closed].max() < 1e-3
        assert lip_opening(result.expression, ARKIT_EXPRESSIONS)[~closed].mean() > 0.02
    smile = retarget.from_rest(motion, portrait_frame()).expression[:, column("mouthSmileLeft")]
    np.testing.assert_allclose(smile, 0.4, atol=1e-6)


def test_neutral_row_is_at_rest() -> None:
    motion = talking()
    row = retarget.neutral_row(motion)
    assert lip_opening(motion.expression, ARKIT_EXPRESSIONS)[row] < 1e-2
    assert motion.expression[row, column("eyeBlinkLeft")] < 0.1


def test_to_and_fro() -> None:
    assert motion_timing.to_and_fro(9, 4).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert motion_timing.to_and_fro(2, 4).tolist() == [0, 1]
    assert motion_timing.to_and_fro(3, 1).tolist() == [0, 0, 0]
    whole = motion_timing.to_and_fro(40, 7)
    np.testing.assert_array_equal(motion_timing.to_and_fro(15, 7, 25), whole[25:])


def test_pose_replacement() -> None:
    motion, portrait = talking(60), portrait_frame()
    still = retarget.with_pose(motion, "still", portrait)
    np.testing.assert_allclose(still.rotation_rad, np.tile(portrait.rotation_rad, (60, 1)), atol=1e-6)
    natural = retarget.with_pose(motion, "natural", portrait, seed=3)
    np.testing.assert_allclose(natural.rotation_rad[0], portrait.rotation_rad, atol=1e-6)
    assert np.ptp(natural.rotation_rad, axis=0).max() > 0.01
    other = retarget.relative(talking(20, seed=5), "first", portrait, lip_contact=False)
    posed = retarget.with_clip_pose(motion, other)
    np.testing.assert_allclose(posed.rotation_rad[0], portrait.rotation_rad, atol=1e-6)
    np.testing.assert_allclose(posed.rotation_rad[38], posed.rotation_rad[0], atol=1e-6)
    for result in (still, natural, posed):
        np.testing.assert_array_equal(result.expression, motion.expression)


def test_resample_keeps_duration_and_ends() -> None:
    motion = talking(50)
    slow, back = motion_timing.resample(motion, 12.5), motion_timing.resample(motion_timing.resample(motion, 100.0), 25.0)
    assert (len(slow), len(back)) == (25, 50)
    np.testing.assert_allclose(slow.expression, motion.expression[::2][:25], atol=1e-5)
    np.testing.assert_allclose(back.rotation_rad, motion.rotation_rad, atol=1e-5)


@pytest.mark.parametrize("gain", [0.5, 1.5, 3.0])
def test_mouth_gain_keeps_closures(gain: float) -> None:
    motion = talking()
    before = lip_opening(motion.expression, ARKIT_EXPRESSIONS)
    result = retarget.mouth_gain(motion, gain)
    after = lip_opening(result.expression, ARKIT_EXPRESSIONS)
    assert after[before < 1e-3].max() < 1e-3
    wide = before > 0.03
    np.testing.assert_allclose(after[wide] / before[wide], gain, rtol=0.02)


def test_blinks_off_and_on() -> None:
    motion = talking(200)
    without = retarget.without_blinks(motion)
    assert without.expression[:, column("eyeBlinkLeft")].max() < 0.2
    mouth = column("jawOpen")
    np.testing.assert_array_equal(without.expression[:, mouth], motion.expression[:, mouth])
    again = retarget.with_blinks(without, 30.0, seed=1)
    assert again.expression[:, column("eyeBlinkLeft")].max() > 0.85


def test_smoothing_removes_tremble_and_keeps_events() -> None:
    clean = talking(200)
    random = np.random.default_rng(0)
    noisy = clean.with_rows(
        expression=np.clip(clean.expression + random.normal(0, 0.008, clean.expression.shape), 0, 1).astype(np.float32),
        rotation_rad=idle_motion(200).rotation_rad + random.normal(0, 0.003, (200, 3)).astype(np.float32),
    )
    smooth = smooth_motion(noisy)
    target = idle_motion(200).rotation_rad
    assert np.abs(smooth.rotation_rad - target).mean() < 0.6 * np.abs(noisy.rotation_rad - target).mean()
    lid = column("eyeBlinkLeft")
    shut = noisy.expression[:, lid] > 0.7
    np.testing.assert_array_equal(smooth.expression[shut, lid], noisy.expression[shut, lid])
    touching = lip_opening(noisy.expression, ARKIT_EXPRESSIONS) < 0.004
    assert touching.sum() > 5
    # Fleeting closures stay closures: what is left is the size of the tremble.
    assert lip_opening(smooth.expression, ARKIT_EXPRESSIONS)[touching].max() < 0.013
    brow = column("browInnerUp")
    assert smooth.expression[:, brow].std() < noisy.expression[:, brow].std()


def test_smoothing_has_no_lag_and_leaves_parabolas() -> None:
    time_s = np.linspace(-1, 1, 60)
    parabola = np.stack([time_s**2, 3 * time_s], axis=1)
    np.testing.assert_allclose(smooth_adaptive(parabola, 10.0), parabola, atol=1e-9)
    step = np.zeros((40, 1))
    step[20:] = 1.0
    np.testing.assert_allclose(smooth_adaptive(step, 0.01)[[5, 19, 20, 35]], step[[5, 19, 20, 35]], atol=1e-6)
    assert len(smooth_adaptive(step[:3], 0.01)) == 3


def test_smooth_rotations_of_a_constant() -> None:
    constant = np.tile([0.3, -0.9, 0.2], (30, 1))
    np.testing.assert_allclose(smooth_rotations(constant), constant, atol=1e-9)


def test_close_lips_is_exact() -> None:
    random = np.random.default_rng(1)
    expression = random.uniform(0, 0.4, (50, 44)).astype(np.float32)
    expression[:, column("mouthClose")] = 0
    assert lip_opening(close_lips(expression, ARKIT_EXPRESSIONS, np.ones(50)), ARKIT_EXPRESSIONS).max() < 1e-6
    np.testing.assert_array_equal(close_lips(expression, ARKIT_EXPRESSIONS, np.zeros(50)), expression)


@pytest.mark.parametrize("own_yaw_degrees", [-35.0, -15.0, 0.0, 20.0])
def test_natural_turns_stay_in_view(own_yaw_degrees: float) -> None:
    motion = idle_motion(1500, seed=2)
    own = MotionFrame(np.zeros(44, np.float32), np.radians([0.0, own_yaw_degrees, 0.0]), np.zeros(3), np.zeros(2))
    kept = retarget.keep_in_view(motion, own, 0.9)
    total, free = (np.degrees(rows.rotation_rad[:, 1]) + own_yaw_degrees for rows in (kept, motion))
    assert np.abs(total).max() <= max(24.0, abs(own_yaw_degrees) + 4.0) + 1e-3
    back = (free - own_yaw_degrees) * own_yaw_degrees <= 0
    np.testing.assert_allclose(total[back], free[back], atol=1e-4)
    # Where somebody looks is where they looked before.
    np.testing.assert_allclose(
        kept.gaze_rad[:, 1] + 0.9 * kept.rotation_rad[:, 1], motion.gaze_rad[:, 1] + 0.9 * motion.rotation_rad[:, 1], atol=1e-6
    )


def moved(shift_dm: np.ndarray, turn_degrees: np.ndarray, own: MotionFrame) -> Motion:
    """Rows at these places and turns [t, 3] from the portrait's own."""
    turns = matrix_from_euler(own.rotation_rad.astype(np.float64)) @ matrix_from_euler(np.radians(turn_degrees))
    rows = len(shift_dm)
    return Motion(
        np.zeros((rows, len(own.expression)), np.float32),
        np.float32(euler_from_matrix(turns)),
        np.float32(own.translation + shift_dm),
        np.zeros((rows, 2), np.float32),
    )


def test_ordinary_motion_is_within_reach() -> None:
    own = portrait_frame()
    motion = moved(np.random.uniform(-0.2, 0.2, (50, 3)), np.random.uniform(-15, 15, (50, 3)), own)
    kept, limited = retarget.within_reach(motion, own)
    assert limited == {}
    np.testing.assert_array_equal(kept.translation, motion.translation)
    np.testing.assert_array_equal(kept.rotation_rad, motion.rotation_rad)


@pytest.mark.parametrize(
    ("way", "reach"), [((1, 0, 0), 0.6), ((-1, 0, 0), 0.6), ((0, 1, 0), 0.38), ((0, -1, 0), 0.55), ((0, 0, 1), 1.9), ((0, 0, -1), 1.9)]
)
def test_a_head_never_leaves_its_neck_however_far_the_driver_goes(way: tuple[int, ...], reach: float) -> None:
    own, amounts = portrait_frame(), np.concatenate([np.zeros(500), np.linspace(0, 12, 400)])
    kept, limited = retarget.within_reach(moved(amounts[:, None] * way, np.zeros((900, 3)), own), own)
    shift = ((kept.translation - own.translation) @ np.array(way))[500:]
    assert shift.max() <= reach + 1e-4
    # Who goes farther is drawn farther, without a corner.
    steps = np.diff(shift)
    assert steps.min() >= -1e-6 and np.abs(np.diff(steps)).max() < 0.25 * steps[0]
    assert len(limited) == 1 and 0 < next(iter(limited.values())) < 400


@pytest.mark.parametrize("offset", [3.0, -8.0])
def test_who_is_far_all_the_time_is_at_rest_there(offset: float) -> None:
    own, sway = portrait_frame(), 0.3 * np.sin(np.arange(100) / 8)
    kept, _ = retarget.within_reach(moved((offset + sway)[:, None] * (0, 0, 1), np.zeros((100, 3)), own), own)
    shift = kept.translation[:, 2] - own.translation[2]
    assert np.ptp(shift) > 0.15 and np.abs(np.median(shift)) < 1.9


@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_who_walks_far_is_not_drawn_at_one_end_and_then_at_the_other(seconds: float) -> None:
    """20 decimetres back, the photo's own place half-way."""
    own, rows = portrait_frame(), round(25 * seconds)
    walk = -10 * np.tanh(np.linspace(-3, 3, rows))
    kept, _ = retarget.within_reach(moved(walk[:, None] * np.array([0, 0, 1.0]), np.zeros((rows, 3)), own), own)
    shift = kept.translation[:, 2] - own.translation[2]
    assert 2.5 < shift[0] - shift[-1] < 3.801
    assert np.diff(shift).max() < 1e-3 and np.diff(shift).min() > -0.3


def test_both_ways_at_once_keep_their_direction() -> None:
    own = portrait_frame()
    kept, _ = retarget.within_reach(moved(np.array([[6.0, -4.0, 0.0]]), np.zeros((1, 3)), own), own)
    shift = kept.translation[0] - own.translation
    assert shift[0] / shift[1] == pytest.approx(-1.5, rel=1e-3)
    assert np.hypot(shift[0] / 0.6, shift[1] / 0.55) < 1.0001


@pytest.mark.parametrize(("axis", "reach"), [(0, 27.0), (1, 36.0), (2, 36.0)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_turns_are_held_back(axis: int, reach: float, sign: int) -> None:
    own, amounts = portrait_frame(), np.linspace(0, 80, 200)
    kept, limited = retarget.within_reach(moved(np.zeros((200, 3)), sign * amounts[:, None] * np.eye(3)[axis], own), own)
    home = matrix_from_euler(own.rotation_rad.astype(np.float64))
    turn = np.degrees(euler_from_matrix(home.T @ matrix_from_euler(kept.rotation_rad.astype(np.float64))))[:, axis] * sign
    assert turn.max() <= reach + 0.01 and np.diff(turn).min() > -1e-3
    assert list(limited) == ["turned"]


@pytest.mark.parametrize("own_degrees", [30.0, -40.0])
def test_a_turned_photo_turns_less_far_away(own_degrees: float) -> None:
    own = replace(portrait_frame(), rotation_rad=np.radians(np.float32([0, own_degrees, 0])))
    ends = np.sign(own_degrees) * np.array([[0, 60, 0], [0, -60, 0]])
    kept, _ = retarget.within_reach(moved(np.zeros((2, 3)), ends, own), own)
    yaw = np.degrees(kept.rotation_rad[:, 1]) * np.sign(own_degrees)
    assert yaw[0] <= 48.1 and yaw[1] == pytest.approx(abs(own_degrees) - 36, abs=1.5)


def test_a_body_is_taken_since_the_reference_and_goes_along_with_its_head() -> None:
    own, frames = portrait_frame(), 900
    shift = np.linspace(0, 3, frames)[:, None] * (1, 0, 0)
    body = np.float32([0.2, 0.1, 0.3, 0.05]) + np.zeros((frames, 4), np.float32)
    placed = retarget.relative(moved(shift, np.zeros((frames, 3)), own).with_rows(body=body), 0, own)
    assert not placed.body.any()
    kept, _ = retarget.within_reach(placed, own)
    apart = (kept.translation - own.translation)[:, 0] - kept.body[:, 0]
    # Shoulders that stood still would be left behind; those of somebody who is held back are held back, too.
    assert np.abs(apart).max() <= 0.5 * NECK_LENGTH_DM + 1e-6 and kept.body[-1, 0] < (kept.translation - own.translation)[-1, 0]
    walking = retarget.within_reach(placed.with_rows(body=np.float32(shift @ np.eye(3, 4))), own)[0]
    np.testing.assert_allclose(walking.body[:, :2], (walking.translation - own.translation)[:, :2], atol=1e-5)
    near = retarget.body_since(np.float32([[0, 0, np.log(2), 0], [0.2, 0, np.log(2), 0]]), 0)
    np.testing.assert_allclose(near[1], (0.1, 0, 0, 0), atol=1e-6)


def test_a_warp_is_taken_since_the_reference_and_goes_with_the_pose() -> None:
    own, still = portrait_frame(), np.zeros((5, 3))
    warp = np.random.default_rng(4).normal(0, 0.1, (5, len(WARP_COLUMNS))).astype(np.float32)
    placed = retarget.relative(moved(still, still, own).with_rows(warp=warp), 2, own)
    assert placed.warp is not None and not placed.warp[2].any()
    np.testing.assert_allclose(placed.warp[4], warp[4] - warp[2], atol=1e-7)
    others = retarget.with_clip_pose(moved(np.zeros((7, 3)), np.zeros((7, 3)), own), placed)
    around = 2 * AROUND
    np.testing.assert_array_equal(others.warp[:, :around], placed.warp[[0, 1, 2, 3, 4, 3, 2], :around])
    # The face that speaks is another's.
    assert not others.warp[:, around:].any()
    held = retarget.hold_mouth(placed, own).warp.reshape(5, -1, 2)[:, AROUND:].reshape(5, *FACE_GRID, 2)
    assert not held[:, [up < 0.3 for up in FACE_UP]].any() and held[4, 0].any()
    for pose in ("still", "natural"):
        assert retarget.with_pose(placed, pose, own).warp is None
