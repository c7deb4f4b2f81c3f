"""Compiled sums over vertices against plain ones."""

from __future__ import annotations

import numpy as np

from triportrait.avatar.lifted import vertex_kernels as kernels
from triportrait.avatar.lifted.relight import harmonics
from triportrait.geometry.rotations import matrix_from_euler

COUNT = 200


def units(random: np.random.Generator) -> np.ndarray:
    directions = random.normal(size=(COUNT, 3))
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def test_nodes_follow_mesh_and_body() -> None:
    random = np.random.default_rng(0)
    rest, displacement, body = random.normal(size=(3, COUNT, 3)).astype(np.float32)
    weight = random.uniform(0, 0.5, (COUNT, 3)).astype(np.float32)
    corner = random.integers(0, COUNT, (COUNT, 3)).astype(np.int32)
    share = np.clip(random.uniform(-0.5, 1.5, COUNT), 0, 1).astype(np.float32)
    turn = matrix_from_euler(np.array([0.1, -0.4, 0.2])).astype(np.float32)
    moved = np.empty_like(rest)
    kernels.follow(rest, corner, weight, displacement, share, body, turn, moved)
    head = rest + (weight[..., None] * displacement[corner]).sum(1)
    np.testing.assert_allclose(moved, head + (1 - share)[:, None] * (body @ turn - head), atol=1e-5)


def test_streaks_are_where_little_was_seen_and_much_is() -> None:
    random = np.random.default_rng(1)
    points, normals, camera = random.normal(size=(COUNT, 3)).astype(np.float32), units(random), np.float32([0.5, 0, 10])
    then = random.uniform(0, 1, COUNT).astype(np.float32)
    found = np.empty_like(then)
    kernels.streaks(then, points, normals, camera, np.float32([0.1, 1.25, 0.7]), found)
    view = camera - points
    now = (normals * view).sum(1) / np.linalg.norm(view, axis=1)
    stretch = (np.maximum(now, 0) + 0.1) / (then + 0.1)
    np.testing.assert_allclose(found, np.clip(0.7 * (stretch - 1.25), 0, 1), atol=1e-5)
    assert 0.05 < (found > 0).mean() < 0.95


def test_relit_is_the_quotient_of_what_normals_receive() -> None:
    random = np.random.default_rng(2)
    coefficients = np.array([1.0, -0.4, 0.2, 0.3, 0.1, -0.1, 0.05, 0.1, 0.1])
    normal, own, turn = units(random), units(random), matrix_from_euler(np.array([0.2, 0.5, -0.1]))
    received = random.uniform(0.5, 1.5, COUNT).astype(np.float32)
    share = np.clip(random.uniform(-0.5, 1.5, COUNT), 0, 1).astype(np.float32)
    gain = np.empty_like(share)
    kernels.relit(coefficients, normal, own, turn, received, share, np.array([0.25, 0.6, 1.6, 0.06]), gain)
    now, turned = (np.maximum(harmonics(n) @ coefficients, 0.25) for n in (normal.astype(np.float64), own @ turn.T))
    expression = 1 + 0.06 * np.tanh((now / turned - 1) / 0.06)
    np.testing.assert_allclose(gain, 1 + share * (np.clip(turned / received * expression, 0.6, 1.6) - 1), atol=1e-5)
