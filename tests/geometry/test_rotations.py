"""Rotations: group laws, round trips, and SciPy (and roma, where installed) as oracles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from triportrait.geometry.rotations import (
    angle_between,
    euler_from_matrix,
    matrix_from_euler,
    matrix_from_vector,
    mean_rotation,
    skew,
    vector_from_matrix,
)

angle = st.floats(-3.1, 3.1)
steep_yaw = st.floats(-1.5, 1.5)
rng = np.random.default_rng(7)
EULER = rng.uniform((-3.1, -1.5, -3.1), (3.1, 1.5, 3.1), (200, 3))


def vectors(longest: float) -> np.ndarray:
    """[200, 3] rotation vectors, lengths from nearly zero to ``longest``."""
    direction = rng.normal(size=(200, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return direction * np.geomspace(1e-9, longest, 200)[:, None]


def test_euler_is_roll_after_yaw_after_pitch():
    for one in EULER[:20]:
        about = [matrix_from_euler(np.where(np.arange(3) == axis, one, 0.0)) for axis in range(3)]
        np.testing.assert_allclose(matrix_from_euler(one), about[2] @ about[1] @ about[0], atol=1e-14)


@pytest.mark.parametrize(
    ("euler", "point", "goes_to"),
    [
        ((0.3, 0, 0), (0, 0, 1), (0, -np.sin(0.3), np.cos(0.3))),  # positive pitch: the nose goes down
        ((0, 0.3, 0), (0, 0, 1), (np.sin(0.3), 0, np.cos(0.3))),  # positive yaw: the nose goes to image right
        ((0, 0, 0.3), (1, 0, 0), (np.cos(0.3), np.sin(0.3), 0)),  # positive roll: counter-clockwise, y up
    ],
)
def test_the_signs_of_pitch_yaw_and_roll(euler, point, goes_to):
    np.testing.assert_allclose(matrix_from_euler(np.array(euler)) @ point, goes_to, atol=1e-15)


def test_euler_agrees_with_scipy():
    np.testing.assert_allclose(matrix_from_euler(EULER), Rotation.from_euler("xyz", EULER).as_matrix(), atol=1e-14)


def test_vectors_agree_with_scipy():
    turns = vectors(3.1)
    matrices = Rotation.from_rotvec(turns).as_matrix()
    np.testing.assert_allclose(matrix_from_vector(turns), matrices, atol=1e-14)
    np.testing.assert_allclose(vector_from_matrix(matrices), Rotation.from_matrix(matrices).as_rotvec(), atol=1e-12)


def test_vectors_agree_with_roma():
    roma = pytest.importorskip("roma")
    import torch

    turns = torch.tensor(vectors(3.1))
    matrices = roma.rotvec_to_rotmat(turns)
    np.testing.assert_allclose(matrix_from_vector(turns.numpy()), matrices.numpy(), atol=1e-12)
    np.testing.assert_allclose(vector_from_matrix(matrices.numpy()), roma.rotmat_to_rotvec(matrices).numpy(), atol=1e-7)


@given(angle, steep_yaw, angle)
@settings(deadline=None)
def test_euler_round_trip_and_inverse(pitch, yaw, roll):
    euler = np.array([pitch, yaw, roll])
    matrix = matrix_from_euler(euler)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    np.testing.assert_allclose(euler_from_matrix(matrix), euler, atol=1e-12)


@pytest.mark.parametrize("longest", [1e-5, 1.0, 3.13])
def test_vector_round_trip_and_inverse(longest):
    turns = vectors(longest)
    matrices = matrix_from_vector(turns)
    # Near a half turn the axis is lost in the rounding of the matrix.
    np.testing.assert_allclose(vector_from_matrix(matrices), turns, atol=1e-9, rtol=1e-6)
    np.testing.assert_allclose(matrix_from_vector(-turns), np.swapaxes(matrices, -1, -2), atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(turns, axis=1), Rotation.from_matrix(matrices).magnitude(), atol=1e-9)


def test_turns_about_one_axis_add():
    axis = np.array([0.36, -0.48, 0.8])
    product = matrix_from_vector(0.7 * axis) @ matrix_from_vector(-0.2 * axis)
    np.testing.assert_allclose(product, matrix_from_vector(0.5 * axis), atol=1e-15)


def test_no_turn_is_exactly_the_identity():
    zero = np.zeros(3)
    assert np.array_equal(matrix_from_vector(zero), np.eye(3))
    assert np.array_equal(matrix_from_euler(zero), np.eye(3))
    assert np.array_equal(vector_from_matrix(np.eye(3)), zero)


def test_batches_are_rows():
    many = EULER[:24].reshape(2, 3, 4, 3)
    for function, argument in (
        (matrix_from_euler, many),
        (matrix_from_vector, many),
        (euler_from_matrix, matrix_from_euler(many)),
        (vector_from_matrix, matrix_from_euler(many)),
    ):
        whole = function(argument)
        assert np.array_equal(whole[1, 2, 3], function(argument[1, 2, 3]))


def test_skew_is_the_cross_product():
    a, b = rng.normal(size=(2, 10, 3))
    np.testing.assert_allclose((skew(a) @ b[..., None])[..., 0], np.cross(a, b), atol=1e-15)


def test_mean_rotation_is_scipys_chordal_mean_and_a_rotation():
    spread = Rotation.from_rotvec(rng.normal(0, 0.4, (9, 3))) * Rotation.from_euler("xyz", (0.4, 1.0, -2.0))
    mean = mean_rotation(spread.as_matrix())
    np.testing.assert_allclose(mean, spread.mean().as_matrix(), atol=1e-12)
    assert np.linalg.det(mean) == pytest.approx(1.0)


def test_mean_of_opposite_turns_is_no_turn():
    turns = vectors(1.0)[-5:]
    both = np.concatenate([matrix_from_vector(turns), matrix_from_vector(-turns)])
    np.testing.assert_allclose(mean_rotation(both), np.eye(3), atol=1e-12)


def test_angle_between_is_scipys_magnitude() -> None:
    first, second = EULER[:100], EULER[100:]
    oracle = (Rotation.from_euler("xyz", first).inv() * Rotation.from_euler("xyz", second)).magnitude()
    np.testing.assert_allclose(angle_between(first, second), oracle, atol=1e-9)
    assert angle_between(first[0], first[0] + [0.0, 0.0, 1e-9]) == pytest.approx(1e-9, rel=1e-3)
    assert angle_between(first, second[0]).shape == (100,)
