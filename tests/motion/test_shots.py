"""Laws of joined shots: nothing is touched that needs no joining, every joint is smooth, and an unseen head is at rest."""

from __future__ import annotations

import numpy as np
import pytest

from triportrait.geometry.rotations import matrix_from_euler, vector_from_matrix
from triportrait.motion.retarget import neutral_row
from triportrait.motion.shots import Shot, absences, join_shots
from triportrait.types import ARKIT_EXPRESSIONS, WARP_COLUMNS, Motion

FPS = 25.0
ROWS = ("expression", "rotation_rad", "translation", "gaze_rad")


def swaying(frames: int, place: tuple[float, ...] = (0.0, 0.0, -5.0), turn: tuple[float, ...] = (0.0, 0.0, 0.0), start: int = 0) -> Motion:
    """Somebody who speaks and sways round a place and a pose."""
    t = (start + np.arange(frames)) / FPS
    wave = np.stack([np.sin(3 * t), np.sin(2 * t + 1), np.sin(4 * t + 2)], 1)
    expression = np.zeros((frames, len(ARKIT_EXPRESSIONS)))
    expression[:, ARKIT_EXPRESSIONS.index("jawOpen")] = 0.2 - 0.2 * np.cos(6 * t)
    rows = (expression, np.array(turn) + 0.08 * wave, np.array(place) + 0.1 * wave, 0.05 * wave[:, :2])
    return Motion(*(np.float32(r) for r in rows), fps=FPS)


def seen(frames: int, *away: tuple[int, int]) -> np.ndarray:
    shown = np.ones(frames, bool)
    for start, stop in away:
        shown[start:stop] = False
    return shown


def largest_step(motion: Motion) -> tuple[float, float]:
    """Of the translation in decimetres and of the rotation in radians, from row to row."""
    turns = matrix_from_euler(motion.rotation_rad.astype(np.float64))
    between = vector_from_matrix(turns[:-1].transpose(0, 2, 1) @ turns[1:])
    return float(np.abs(np.diff(motion.translation, axis=0)).max()), float(np.abs(between).max())


def assert_same_rows(one: Motion, other: Motion, rows: slice) -> None:
    for name in ROWS:
        np.testing.assert_array_equal(getattr(one, name)[rows], getattr(other, name)[rows])


def test_one_shot_that_shows_the_face_is_left_alone() -> None:
    motion = swaying(40)
    assert join_shots([Shot(motion, seen(40))]) is motion


@pytest.mark.parametrize(("place", "turn"), [((1.5, -0.4, -3.0), (0.2, 0.9, 0.0)), ((-2.0, 0.3, -9.0), (-0.3, -0.7, 0.4))])
def test_the_second_person_goes_on_from_the_first_ones_rest(place: tuple[float, ...], turn: tuple[float, ...]) -> None:
    first, second = swaying(60), swaying(75, place, turn, start=60)
    joined = join_shots([Shot(first, seen(60)), Shot(second, seen(75))])
    assert len(joined) == 135
    assert_same_rows(joined, first, slice(0, 60))
    np.testing.assert_allclose(np.median(joined.translation[70:], 0), np.median(first.translation, 0), atol=0.05)
    np.testing.assert_allclose(joined.rotation_rad[60:].mean(0), first.rotation_rad.mean(0), atol=0.05)
    # What is said is not changed, but for a moment behind the cut.
    np.testing.assert_allclose(joined.expression[64:], second.expression[4:], atol=1e-6)
    # It goes on: no step is larger than a few of the swaying's own.
    own = largest_step(first)
    assert largest_step(joined)[0] < 2.5 * own[0] and largest_step(joined)[1] < 2.5 * own[1]


@pytest.mark.parametrize("away", [(40, 80), (45, 56)])
def test_an_unseen_head_rests_and_returns_softly(away: tuple[int, int]) -> None:
    motion = swaying(150)
    far = np.array(motion.translation)
    far[away[0] - 8 : away[0]] += np.linspace(0, 1.2, 8)[:, None] * (1, 0, 0)  # leaves the picture sideways
    far[away[0] : away[1]] = far[away[0] - 1]
    motion = motion.with_rows(translation=far.astype(np.float32))
    shown = seen(150, away)
    joined = join_shots([Shot(motion, shown)])
    rest = neutral_row(motion.with_rows(**{name: getattr(motion, name)[shown] for name in ROWS}))
    last = away[1] - 1
    for name in ROWS:
        np.testing.assert_allclose(getattr(joined, name)[last], getattr(motion, name)[shown][rest], atol=1e-5)
    assert_same_rows(joined, motion, slice(0, away[0] - 2))
    assert_same_rows(joined, motion, slice(away[1] + 16, None))
    assert largest_step(joined)[0] < 0.3  # it left by 0.17 a row


def test_a_moment_is_bridged() -> None:
    motion = swaying(50)
    held = {name: np.array(getattr(motion, name)) for name in ROWS}
    for values in held.values():
        values[20:25] = values[19]
    joined = join_shots([Shot(motion.with_rows(**held), seen(50, (20, 25)))])
    assert absences(seen(50, (20, 25)), FPS) == []
    np.testing.assert_allclose(joined.translation, motion.translation, atol=0.02)
    np.testing.assert_allclose(joined.rotation_rad, motion.rotation_rad, atol=0.02)
    for name in ROWS:
        keep = np.r_[0:20, 25:50]
        np.testing.assert_array_equal(getattr(joined, name)[keep], getattr(motion, name)[keep])


def test_shots_of_nobody_rest_in_the_shape_of_somebody() -> None:
    nobody = Motion(*(np.zeros((30, n), np.float32) for n in (len(ARKIT_EXPRESSIONS), 3, 3, 2)), fps=FPS)
    person = swaying(60).with_rows(identity=np.ones(80, np.float32))
    joined = join_shots([Shot(nobody, seen(30, (0, 30))), Shot(person, seen(60)), Shot(nobody, seen(30, (0, 30)))])
    assert len(joined) == 120 and joined.identity is person.identity
    rest = neutral_row(person)
    for row in (0, 25, 119):
        np.testing.assert_allclose(joined.translation[row], person.translation[rest], atol=1e-5)
        np.testing.assert_allclose(joined.expression[row], person.expression[rest], atol=1e-5)
    assert_same_rows(joined.with_rows(**{n: getattr(joined, n)[30:90] for n in ROWS}), person, slice(20, 58))
    assert largest_step(joined)[0] < 3 * largest_step(person)[0]


@pytest.mark.parametrize("lengths", [(1, 1, 40), (40, 1, 2, 3, 40), (3,), (2, 2)])
def test_shots_of_any_length_are_joined(lengths: tuple[int, ...]) -> None:
    shots = [Shot(swaying(n, (2.0 * i, 0, -5)), seen(n, *([(0, n)] if i == 1 else []))) for i, n in enumerate(lengths)]
    joined = join_shots(shots)
    assert len(joined) == sum(lengths)
    assert all(np.isfinite(getattr(joined, name)).all() for name in ROWS)
    assert 0 <= joined.expression.min() and joined.expression.max() <= 1


def test_bodies_are_joined_as_poses_are_and_dropped_where_one_is_not_known() -> None:
    first, second = swaying(40), swaying(50)
    bodies = [np.float32(np.linspace(0, 0.1, len(m))[:, None] * np.ones(4)) + offset for m, offset in ((first, 0.0), (second, 5.0))]
    shots = [Shot(m.with_rows(body=b), seen(len(m))) for m, b in zip((first, second), bodies, strict=True)]
    joined = join_shots(shots)
    assert joined.body.shape == (90, 4) and np.abs(np.diff(joined.body, axis=0)).max() < 0.02 and np.abs(joined.body).max() < 0.25
    assert join_shots([shots[0], Shot(second, seen(50))]).body is None
    nobody = Shot(second, np.zeros(50, bool))
    assert np.abs(join_shots([shots[0], nobody]).body).max() < 0.11


def test_a_warp_is_counted_from_one_rest_and_is_none_where_nobody_measured_it() -> None:
    """Each shot's warp is since its own first picture: joined, all have the base's typical one."""
    first, second, third = swaying(40), swaying(50), swaying(40)
    noise = np.random.default_rng(1).normal(0, 0.01, (40, len(WARP_COLUMNS))).astype(np.float32)
    measured = Shot(first.with_rows(warp=noise + np.float32(0.1)), seen(40))
    other = Shot(third.with_rows(warp=noise - np.float32(0.2)), seen(40))
    still = np.zeros((40, 4), np.float32)
    bodies = [Shot(shot.motion.with_rows(body=still), shot.seen) for shot in (measured, other)]
    joined = join_shots(bodies)
    assert joined.warp is not None and joined.warp.shape == (80, len(WARP_COLUMNS))
    np.testing.assert_allclose(np.median(joined.warp[40:], 0), np.median(joined.warp[:40], 0), atol=0.02)
    unmeasured = join_shots([measured, Shot(second, seen(50))])
    assert unmeasured.warp is not None and unmeasured.body is None
    around = unmeasured.warp[:, :40].reshape(90, 5, 4, 2)
    # Nobody knows where the shoulders are, so that they have no warp either.
    assert not around[:, 4].any() and np.abs(around[-1, :4] - 0.1).max() < 0.01
    assert join_shots([Shot(first, seen(40)), Shot(second, seen(50))]).warp is None
