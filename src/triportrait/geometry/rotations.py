"""Rotations as 3 x 3 matrices, Euler angles (pitch, yaw, roll) and rotation vectors; batches lead. Source: spec 3.1."""

from __future__ import annotations

import numpy as np

from triportrait.types import Array


def matrix_from_euler(euler_rad: Array) -> Array:
    """``Rz(roll) Ry(yaw) Rx(pitch)`` for angles [..., 3] (pitch, yaw, roll) in radians -> [..., 3, 3] float64."""
    euler_rad = np.asarray(euler_rad, np.float64)
    cosine, sine = np.cos(euler_rad), np.sin(euler_rad)
    cx, cy, cz = cosine[..., 0], cosine[..., 1], cosine[..., 2]
    sx, sy, sz = sine[..., 0], sine[..., 1], sine[..., 2]
    matrix = np.empty((*euler_rad.shape, 3))
    matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2] = cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx
    matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2] = sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx
    matrix[..., 2, 0], matrix[..., 2, 1], matrix[..., 2, 2] = -sy, cy * sx, cy * cx
    return matrix


def euler_from_matrix(matrix: Array) -> Array:
    """Inverse of :func:`matrix_from_euler` for |yaw| < 90 degrees: [..., 3, 3] -> [..., 3] radians."""
    matrix = np.asarray(matrix, np.float64)
    yaw = np.arcsin(np.clip(-matrix[..., 2, 0], -1.0, 1.0))
    pitch = np.arctan2(matrix[..., 2, 1], matrix[..., 2, 2])
    roll = np.arctan2(matrix[..., 1, 0], matrix[..., 0, 0])
    return np.stack([pitch, yaw, roll], -1)


def angle_between(first_rad: Array, second_rad: Array) -> Array:
    """Angle in radians, 0..pi, of the rotation from head poses ``first_rad`` [..., 3] (pitch, yaw, roll) to ``second_rad`` [..., 3]."""
    relative = np.swapaxes(matrix_from_euler(first_rad), -1, -2) @ matrix_from_euler(second_rad)
    # The sine from the antisymmetric part keeps small angles exact where arccos of the trace would not.
    axis = [relative[..., i, j] - relative[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0))]
    sine = 0.5 * np.linalg.norm(np.stack(axis, -1), axis=-1)
    return np.arctan2(sine, 0.5 * (np.trace(relative, axis1=-2, axis2=-1) - 1.0))


def matrix_from_vector(vector_rad: Array) -> Array:
    """Rodrigues' formula: rotation vectors [..., 3] in radians -> [..., 3, 3] float64."""
    vector_rad = np.asarray(vector_rad, np.float64)
    angle = np.linalg.norm(vector_rad, axis=-1)[..., None, None]
    cross = skew(vector_rad)
    # Series near zero: sin(a)/a and (1 - cos a)/a^2 lose all digits there.
    small = angle < 1e-6
    safe = np.where(small, 1.0, angle)
    first = np.where(small, 1.0 - angle**2 / 6.0, np.sin(safe) / safe)
    second = np.where(small, 0.5 - angle**2 / 24.0, (1.0 - np.cos(safe)) / safe**2)
    return np.eye(3) + first * cross + second * (cross @ cross)


def vector_from_matrix(matrix: Array) -> Array:
    """Inverse of :func:`matrix_from_vector` for angles below pi: [..., 3, 3] -> [..., 3] radians."""
    matrix = np.asarray(matrix, np.float64)
    axis = np.stack(
        [
            matrix[..., 2, 1] - matrix[..., 1, 2],
            matrix[..., 0, 2] - matrix[..., 2, 0],
            matrix[..., 1, 0] - matrix[..., 0, 1],
        ],
        -1,
    )
    sine = 0.5 * np.linalg.norm(axis, axis=-1)
    angle = np.arctan2(sine, 0.5 * (np.trace(matrix, axis1=-2, axis2=-1) - 1.0))
    scale = np.where(sine < 1e-8, 0.5, angle / np.where(sine < 1e-8, 1.0, 2.0 * sine))
    return axis * scale[..., None]


def skew(vector: Array) -> Array:
    """The matrix [..., 3, 3] with ``skew(a) @ b == cross(a, b)``."""
    x, y, z = np.moveaxis(np.asarray(vector, np.float64), -1, 0)
    zero = np.zeros_like(x)
    return np.stack([np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2)


def mean_rotation(matrices: Array) -> Array:
    """The rotation nearest to the mean of [n, 3, 3] in the Frobenius norm (projection by SVD) -> [3, 3]."""
    u, _, vt = np.linalg.svd(np.mean(matrices, axis=0))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
