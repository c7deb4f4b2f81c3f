"""PNCC against the published renderer's golden picture, and its own laws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from golden_folder import golden, golden_fill, golden_folder
from triportrait.face.pncc import PnccRenderer, pncc, pncc_torch
from triportrait.geometry.cameras import pose_points


@dataclass
class Mesh:
    """As much of a head model as PNCC looks at."""

    triangles: np.ndarray
    ncc_colours: np.ndarray
    pncc_triangles: np.ndarray


def ball(rings: int = 30, sectors: int = 40) -> tuple[np.ndarray, Mesh]:
    """A sphere of radius 0.8 with two holes in front, coloured by position."""
    polar, around = np.meshgrid(np.linspace(0.01, np.pi - 0.01, rings), np.linspace(0, 2 * np.pi, sectors, endpoint=False), indexing="ij")
    directions = [np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)]
    vertices = (0.8 * np.stack(directions, -1)).reshape(-1, 3).astype(np.float32)
    first = np.arange(rings - 1)[:, None] * sectors + np.arange(sectors)
    second = np.arange(rings - 1)[:, None] * sectors + (np.arange(sectors) + 1) % sectors
    upper = np.stack([first, first + sectors, second], -1).reshape(-1, 3)
    lower = np.stack([second, first + sectors, second + sectors], -1).reshape(-1, 3)
    triangles = np.concatenate([upper, lower]).astype(np.int32)
    centre = vertices[triangles].mean(1)
    eyes = np.minimum(*(np.linalg.norm(centre - (x, 0.2, 0.72), axis=1) for x in (-0.3, 0.3))) < 0.15
    low, high = vertices.min(0), vertices.max(0)
    return vertices, Mesh(triangles, (vertices - low) / (high - low), ~eyes)


def golden_mesh() -> tuple[np.ndarray, Mesh]:
    """The 9 x 9 bump of pncc.json, in head space; the published renderer never draws triangle 0."""
    fill, seed = golden_fill(), golden("real3d/pncc.json")["seed"]
    noise = fill.unit("pncc.z", 81, seed).reshape(9, 9)
    x = np.broadcast_to(-0.9 + 1.8 * np.arange(9) / 8, (9, 9))
    y = 0.9 - 1.8 * np.arange(9)[:, None] / 8 + 0 * x
    z = 0.8 - 0.5 * (x**2 + y**2) + 0.2 * noise
    vertices = np.stack([x + 0.05 * y, y, z], -1).reshape(-1, 3).astype(np.float32)
    triangles = []
    for i in range(8):
        for j in range(8):
            if (i, j) in ((3, 2), (3, 5)):
                continue
            p = 9 * i + j
            first = [p, p + 9, p + 1]
            triangles += [first[::-1] if (i + j) % 2 else first, [p + 1, p + 9, p + 10]]
    colours = fill.rand_in((1, 81, 3), "pncc.col", seed, 0, 1)[0].numpy()
    drawn = np.ones(len(triangles), bool)
    drawn[0] = False
    return vertices, Mesh(np.array(triangles, np.int32), colours, drawn)


def test_the_published_renderers_picture_is_reproduced():
    vertices, mesh = golden_mesh()
    expected = np.load(golden_folder() / "real3d" / "pncc_64.npy")
    for picture in (
        pncc(mesh, vertices, 64, cull=None),
        pncc_torch(mesh, torch.from_numpy(vertices), 64, cull=None).numpy(),
    ):
        different = (np.abs(picture - expected) > 1e-5).any(0)
        assert different.mean() <= 1e-3, f"{different.sum()} pixels differ"


@pytest.mark.parametrize("case", ["res64", "res512"])
def test_sampled_values_of_the_published_renderer_are_met(case):
    vertices, mesh = golden_mesh()
    expected = golden("real3d/pncc.json")["cases"][case]["pncc"]
    picture = pncc(mesh, vertices, expected["shape"][-1], cull=None)
    error, projection_error = golden_fill().compare9(torch.from_numpy(picture)[None], expected)
    assert error < 1e-5
    assert projection_error < 1e-3


def test_eyes_are_holes_and_the_rest_shows_where_it_lies_on_the_mean_head():
    vertices, mesh = ball()
    picture = pncc(mesh, vertices, 128)
    assert picture.shape == (3, 128, 128) and picture.dtype == np.float32
    assert picture.min() == -1.0 and picture.max() <= 1.0
    covered = (picture != -1.0).any(0)
    # Two separate holes, one on each side of the middle column, both in the upper half.
    assert not covered[:, :64].all() and not covered[55, 64 - 17] and not covered[55, 64 + 16]
    assert covered[64, 64]
    # Unposed, red grows to the right and green upwards.
    rows, columns = np.nonzero(covered)
    assert np.corrcoef(columns, picture[0][covered])[0, 1] > 0.99
    assert np.corrcoef(-rows, picture[1][covered])[0, 1] > 0.99


def test_expression_moves_pixels_pose_is_applied_when_asked_and_torch_agrees():
    vertices, mesh = ball()
    rotation, translation = np.array([0.1, -0.3, 0.05]), np.array([0.05, 0.1, -0.4])
    posed = pncc(mesh, vertices, 96, rotation, translation)
    np.testing.assert_array_equal(posed, pncc(mesh, pose_points(vertices, rotation, translation), 96))
    assert (posed != pncc(mesh, vertices, 96)).mean() > 0.2
    torch_picture = pncc_torch(mesh, torch.from_numpy(pose_points(vertices, rotation, translation)), 96).numpy()
    # torch divides by way of the reciprocal, so projected pixels differ in the last bit.
    np.testing.assert_allclose(torch_picture, posed, atol=1e-5)


def test_a_renderer_reuses_its_picture_and_leaves_nothing_of_the_last_frame():
    vertices, mesh = ball()
    renderer = PnccRenderer(mesh, 64)
    first = renderer.render(vertices + np.float32(0.2))
    second = renderer.render(vertices)
    assert first is second
    np.testing.assert_array_equal(second, pncc(mesh, vertices, 64))
    assert (np.isinf(renderer.depth) == (second == -1.0).all(0)).all()
    kept = np.empty((3, 64, 64), np.float32)
    assert renderer.render(vertices, out=kept) is kept
