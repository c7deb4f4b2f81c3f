"""Compiled sums over vertices against plain ones."""

from __future__ import annotations

import numpy as np

from triportrait.avatar.lifted import vertex_kernels as kernels
from triportrait.avatar.lifted.relight import harmonics
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM

COUNT = 200


def units(random: np.random.Generator) -> np.ndarray:
    directions = random.normal(size=(COUNT, 3))
    return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)


def test_nodes_follow_mesh_and_body() -> None:
    random = np.random.default_rng(0)
    rest, displacement, home = random.normal(size=(3, COUNT, 3)).astype(np.float32)
    body = random.normal(size=(3, 4))
    weight = random.uniform(0, 0.5, (COUNT, 3)).astype(np.float32)
    corner = random.integers(0, COUNT, (COUNT, 3)).astype(np.int32)
    share = np.clip(random.uniform(-0.5, 1.5, COUNT), 0, 1).astype(np.float32)
    moved = np.empty_like(rest)
    kernels.follow(rest, corner, weight, displacement, share, home, body, moved)
    head = rest + (weight[..., None] * displacement[corner]).sum(1)
    np.testing.assert_allclose(moved, head + (1 - share)[:, None] * (home @ body[:, :3].T + body[:, 3] - head), atol=1e-5)


def test_projection_is_the_cameras() -> None:
    random = np.random.default_rng(3)
    points, angles, shift = random.normal(size=(COUNT, 3)).astype(np.float32), np.array([0.2, -0.3, 0.1]), np.array([0.1, -0.2, 0.5])
    pose = np.column_stack([matrix_from_euler(angles), shift])
    pixels, depth = np.empty((COUNT, 2), np.float32), np.empty(COUNT, np.float32)
    kernels.project(points, pose, 2.0 * 512, 40 - 256.0, 30 - 256.0, CAMERA_DISTANCE_DM, pixels, depth)
    there, away = project(pose_points(points.astype(np.float64), angles, shift), 512, 2.0)
    np.testing.assert_allclose(pixels, there - (40, 30), atol=1e-2)
    np.testing.assert_allclose(depth, away, rtol=1e-5)


def test_rims_have_their_own_colour_and_nodes_carry_what_vertices_have() -> None:
    random = np.random.default_rng(4)
    points, normals, camera = random.normal(size=(COUNT, 3)).astype(np.float32), units(random), np.float32([0.5, 0, 10])
    guess, shown = random.uniform(0, 255, (COUNT, 8)).astype(np.float32), np.empty((COUNT, 5), np.float32)
    kernels.rim_colours(guess, points, normals, camera, np.float32(0.5), shown)
    view = camera - points
    facing = np.clip((normals * view).sum(1) / np.linalg.norm(view, axis=1) / 0.5, 0, 1)
    facing = facing**2 * (3 - 2 * facing)
    np.testing.assert_array_equal(shown[:, :2], guess[:, :2])
    np.testing.assert_allclose(shown[:, 2:], guess[:, 5:] + facing[:, None] * (guess[:, 2:5] - guess[:, 5:]), atol=1e-3)
    weight, corner = random.uniform(0, 0.5, (COUNT, 3)).astype(np.float32), random.integers(0, COUNT, (COUNT, 3)).astype(np.int32)
    values, carried = random.normal(size=COUNT).astype(np.float32), np.empty(COUNT, np.float32)
    kernels.carry(weight, corner, values, carried)
    np.testing.assert_allclose(carried, (weight * values[corner]).sum(1), atol=1e-6)


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
    now, turned = (np.maximum(harmonics(n) @ coefficients, 0.25) for n in (normal @ turn.T, own @ turn.T))
    expression = 1 + 0.06 * np.tanh((now / turned - 1) / 0.06)
    np.testing.assert_allclose(gain, 1 + share * (np.clip(turned / received * expression, 0.6, 1.6) - 1), atol=1e-5)
