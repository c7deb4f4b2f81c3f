"""Milliseconds per 256 x 256 PNCC frame on one core: numba, torch and plain numpy on the same mesh.

    OMP_NUM_THREADS=1 python benchmarks/pncc.py [--frames 50] [--side 256]

Draws the open head where its data is built in, else a sphere of about as many vertices.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from triportrait.errors import TriPortraitError
from triportrait.face.open_head import OpenHead
from triportrait.face.pncc import PNCC_FOCAL, PnccRenderer, pncc_torch
from triportrait.geometry.cameras import project


@dataclass
class Mesh:
    """As much of a head model as PNCC looks at."""

    triangles: np.ndarray
    ncc_colours: np.ndarray
    pncc_triangles: np.ndarray


def sphere(rings: int = 80, sectors: int = 100) -> tuple[np.ndarray, Mesh]:
    """8000 vertices and 15,800 triangles, radius 0.9 dm."""
    polar, around = np.meshgrid(np.linspace(0.01, np.pi - 0.01, rings), np.linspace(0, 2 * np.pi, sectors, endpoint=False), indexing="ij")
    directions = [np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)]
    vertices = (0.9 * np.stack(directions, -1)).reshape(-1, 3).astype(np.float32)
    first = np.arange(rings - 1)[:, None] * sectors + np.arange(sectors)
    second = np.arange(rings - 1)[:, None] * sectors + (np.arange(sectors) + 1) % sectors
    upper = np.stack([first, first + sectors, second], -1).reshape(-1, 3)
    lower = np.stack([second, first + sectors, second + sectors], -1).reshape(-1, 3)
    triangles = np.concatenate([upper, lower]).astype(np.int32)
    return vertices, Mesh(triangles, vertices / 1.8 + 0.5, np.ones(len(triangles), bool))


def head() -> tuple[str, np.ndarray, Mesh]:
    """The mean open head, or the sphere."""
    try:
        model = OpenHead.embedded()
        neutral = np.zeros(model.identity_size, np.float32), np.zeros(len(model.expression_names), np.float32)
        return "open head", model.vertices(*neutral), model
    except (OSError, TriPortraitError):
        return "sphere", *sphere()


def pncc_numpy(mesh: Mesh, vertices: np.ndarray, side: int) -> np.ndarray:
    """The same picture with whole-array numpy: every sample in every front triangle's bounding box, nearest last."""
    pixels, depth = project(vertices, side, PNCC_FOCAL)
    triangles = mesh.triangles[mesh.pncc_triangles]
    corners = pixels[triangles].astype(np.float64)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    low = np.maximum(np.ceil(corners.min(1) - 0.5), 0).astype(int)
    high = np.minimum(np.floor(corners.max(1) - 0.5), side - 1).astype(int)
    index = np.flatnonzero((area < 0) & (low <= high).all(1))
    size = high[index] - low[index] + 1
    counts = size.prod(1)
    owner = np.repeat(np.arange(len(index)), counts)
    local = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    column, row = low[index][owner, 0] + local % size[owner, 0], low[index][owner, 1] + local // size[owner, 0]
    start, end = corners[index][:, [1, 2, 0]][owner], corners[index][:, [2, 0, 1]][owner]
    x, y = (column + 0.5)[:, None], (row + 0.5)[:, None]
    edges = (end[..., 1] - start[..., 1]) * (x - start[..., 0]) - (end[..., 0] - start[..., 0]) * (y - start[..., 1])
    inside = (edges >= 0).all(1)
    triangle, column, row = index[owner[inside]], column[inside], row[inside]
    weights = edges[inside] / depth[triangles[triangle]]
    total = weights.sum(1)
    order = np.argsort(total / -area[triangle], kind="stable")  # far to near: the last write wins
    colours = 2.0 * mesh.ncc_colours - 1.0
    values = ((weights / total[:, None])[:, :, None] * colours[triangles[triangle]]).sum(1)
    picture = np.full((3, side, side), -1.0, np.float32)
    picture[:, row[order], column[order]] = values[order].T
    return picture


def milliseconds(draw: Callable[[], object], frames: int) -> float:
    """Median wall time of one call after a warm-up call."""
    draw()
    times = []
    for _ in range(frames):
        start = time.perf_counter()
        draw()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    name, vertices, model = head()
    renderer = PnccRenderer(model, options.side)
    tensor = torch.from_numpy(vertices)
    ways = {
        "numba": lambda: renderer.render(vertices),
        "torch": lambda: pncc_torch(model, tensor, options.side),
        "numpy": lambda: pncc_numpy(model, vertices, options.side),
    }
    reference = renderer.render(vertices).copy()
    print(f"{name}: {len(vertices)} vertices, {len(renderer.triangles)} triangles, {options.side} x {options.side} pixels")
    print("| way | ms/frame | times numba | pixels that differ |\n|---|---|---|---|")
    first = None
    for way, draw in ways.items():
        taken = milliseconds(draw, options.frames)
        first = first or taken
        different = (np.abs(np.asarray(draw()) - reference) > 1e-3).any(0).mean()
        print(f"| {way} | {taken:.2f} | {taken / first:.1f} | {different:.3%} |")


if __name__ == "__main__":
    main()
