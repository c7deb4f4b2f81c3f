"""Normals of triangle meshes: one compiled sum over the triangles for every room. It has no plain twin."""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit
from triportrait.types import Array


@njit(nogil=True, cache=True, error_model="numpy")
def add_normals(points, triangles, out):
    """Add each triangle's normal, as long as twice its area, to its corners: points [v, 3], triangles [f, 3], out [v, 3]."""
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
        bx, by, bz = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1], points[k, 2] - points[i, 2]
        x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for corner in (i, j, k):
            out[corner, 0] += x
            out[corner, 1] += y
            out[corner, 2] += z


def vertex_normals(vertices: Array, triangles: Array) -> Array:
    """Area-weighted unit normals [v, 3] in the precision of ``vertices`` [v, 3], for ``triangles`` [f, 3]; zero where no triangle is."""
    total = np.zeros_like(vertices)
    add_normals(vertices, triangles, total)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
