"""Polygon meshes: Catmull-Clark subdivision, normals, and shadow rays through a bounding-volume hierarchy.

Lengths are decimetres. Faces are quads ``[f, 4]``; a triangle has -1 in its fourth column. The kernels have no plain twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from triportrait.compiling import njit
from triportrait.types import Array

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True, slots=True)
class Mesh:
    """A polygon mesh whose texture coordinates have their own indices.

    Args:
        vertices: [v, 3] float64.
        faces: [f, 4] int64 vertex indices, counter-clockwise from outside; -1 in the last column marks a triangle.
        uv: [m, 2] float64, origin bottom left.
        faces_uv: [f, 4] int64 indices into ``uv``.
    """

    vertices: Array
    faces: Array
    uv: Array
    faces_uv: Array

    def triangles(self) -> tuple[Array, Array]:
        """(vertex indices [t, 3], uv indices [t, 3]); every quad is cut along its first diagonal."""
        quads = self.faces[:, 3] >= 0
        pick = ([0, 1, 2], [0, 2, 3])
        corners = np.concatenate([self.faces[:, pick[0]], self.faces[quads][:, pick[1]]])
        corners_uv = np.concatenate([self.faces_uv[:, pick[0]], self.faces_uv[quads][:, pick[1]]])
        return corners, corners_uv

    def keep_faces(self, keep: Array) -> Mesh:
        """The mesh with only the faces where ``keep`` [f] is true; vertices that nothing uses are dropped."""
        faces, faces_uv = self.faces[keep], self.faces_uv[keep]
        used, new = _compact(faces, len(self.vertices))
        used_uv, new_uv = _compact(faces_uv, len(self.uv))
        return Mesh(self.vertices[used], new, self.uv[used_uv], new_uv)

    def with_vertices(self, vertices: Array) -> Mesh:
        """The same faces on other vertices."""
        return Mesh(vertices, self.faces, self.uv, self.faces_uv)


def _compact(faces: Array, count: int) -> tuple[Array, Array]:
    used = np.unique(faces[faces >= 0])
    lookup = np.full(count + 1, -1)
    lookup[used] = np.arange(len(used))
    return used, lookup[faces]  # lookup[-1] is -1: triangles stay triangles


def refinement(faces: Array, count: int, smooth: bool = True) -> tuple[csr_matrix, Array]:
    """One Catmull-Clark step on ``faces`` over ``count`` points as a matrix: (new points x old points, new quads [f', 4]).

    The quads that a face becomes follow each other, in the order of the faces. Without ``smooth`` old points stay where they are.
    """
    from scipy.sparse import coo_matrix, diags, identity, vstack

    sizes = np.where(faces[:, 3] >= 0, 4, 3)
    corner_face = np.repeat(np.arange(len(faces)), sizes)
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    slot = np.arange(sizes.sum()) - first[corner_face]
    here = faces[corner_face, slot]
    after = faces[corner_face, (slot + 1) % sizes[corner_face]]
    before = faces[corner_face, (slot - 1) % sizes[corner_face]]

    def key(a: Array, b: Array) -> Array:
        return np.minimum(a, b) * np.int64(count) + np.maximum(a, b)

    def matrix(rows: Array, columns: Array, values: Array | float, shape: tuple[int, int]) -> csr_matrix:
        return coo_matrix((np.broadcast_to(values, rows.shape), (rows, columns)), shape).tocsr()

    edges, forward = np.unique(key(here, after), return_inverse=True)
    backward = np.searchsorted(edges, key(before, here))
    ends = np.stack([edges // count, edges % count], -1)
    edge_rows = np.repeat(np.arange(len(edges)), 2)
    face_points = matrix(corner_face, here, 1.0 / sizes[corner_face], (len(faces), count))
    middles = matrix(edge_rows, ends.reshape(-1), 0.5, (len(edges), count))
    edge_points, moved = middles, identity(count, format="csr")
    if smooth:
        uses = np.bincount(forward, minlength=len(edges))
        inner = (uses == 2).astype(float)
        sums = matrix(forward, corner_face, 1.0, (len(edges), len(faces))) @ face_points
        edge_points = diags(1.0 - 0.5 * inner) @ middles + diags(0.25 * inner) @ sums
        valence = np.bincount(here, minlength=count)
        around = matrix(here, corner_face, 1.0, (count, len(faces))) @ face_points
        at_edge = matrix(ends.reshape(-1), edge_rows, 1.0, (count, len(edges)))
        edge_count = np.asarray(at_edge.sum(1)).ravel()
        n = np.maximum(valence, 1).astype(float)
        rule = diags(1.0 / n**2) @ around + diags(2.0 / (n * np.maximum(edge_count, 1))) @ (at_edge @ middles) + diags((n - 3.0) / n)
        on_rim = at_edge @ diags(1.0 - inner)
        rim_count = np.asarray(on_rim.sum(1)).ravel()
        curve = 0.5 * identity(count) + diags(0.5 / np.maximum(rim_count, 1)) @ (on_rim @ middles)
        inside, smooth_rim = (valence > 0) & (rim_count == 0), rim_count == 2
        moved = diags(inside.astype(float)) @ rule + diags(smooth_rim.astype(float)) @ curve + diags((~inside & ~smooth_rim).astype(float))
    quads = np.stack([here, count + forward, count + len(edges) + corner_face, count + backward], -1)
    return vstack([moved, edge_points, face_points]).tocsr(), quads


def _refine(faces: Array, points: Array, smooth: bool) -> tuple[Array, Array]:
    """One step for one index set: (new points, new quads)."""
    matrix, quads = refinement(faces, len(points), smooth)
    return matrix @ points, quads


def subdivide(mesh: Mesh, smooth: bool = True) -> Mesh:
    """One Catmull-Clark step (Catmull and Clark 1978); texture coordinates are subdivided linearly.

    Without ``smooth`` the shape stays and only the faces are cut.
    """
    vertices, faces = _refine(mesh.faces, mesh.vertices, smooth)
    uv, faces_uv = _refine(mesh.faces_uv, mesh.uv, False)
    return Mesh(vertices, faces, uv, faces_uv)


@dataclass(frozen=True, slots=True)
class Occluders:
    """Triangles in a bounding-volume hierarchy; ``opacity`` [t] is what a ray loses at each one it crosses."""

    corner: Array
    edge1: Array
    edge2: Array
    opacity: Array
    box: Array
    link: Array

    @staticmethod
    def build(vertices: Array, triangles: Array, opacity: Array) -> Occluders:
        """Median-split hierarchy over ``triangles`` [t, 3] with ``opacity`` [t] in 0..1."""
        points = vertices[triangles].astype(np.float32)
        order, box, link = _build(points.min(1), points.max(1))
        points = points[order]
        return Occluders(
            np.ascontiguousarray(points[:, 0]),
            np.ascontiguousarray(points[:, 1] - points[:, 0]),
            np.ascontiguousarray(points[:, 2] - points[:, 0]),
            opacity[order].astype(np.float32),
            box,
            link,
        )


@njit(cache=True)
def _build(low: Array, high: Array) -> tuple[Array, Array, Array]:
    """(triangle order, node boxes [n, 6], links [n, 2]); a leaf's link is (start, -count), an inner node's (left, right)."""
    count = low.shape[0]
    order = np.arange(count)
    centre = 0.5 * (low + high)
    box = np.zeros((2 * count + 1, 6), np.float32)
    link = np.zeros((2 * count + 1, 2), np.int64)
    stack = np.zeros((128, 3), np.int64)
    stack[0] = np.array([0, 0, count])
    top, nodes = 1, 1
    while top > 0:
        top -= 1
        node, start, end = stack[top]
        for k in range(3):
            box[node, k], box[node, 3 + k] = 1e9, -1e9
        spread_low = np.full(3, 1e9)
        spread_high = np.full(3, -1e9)
        for i in range(start, end):
            for k in range(3):
                box[node, k] = min(box[node, k], low[order[i], k])
                box[node, 3 + k] = max(box[node, 3 + k], high[order[i], k])
                spread_low[k] = min(spread_low[k], centre[order[i], k])
                spread_high[k] = max(spread_high[k], centre[order[i], k])
        if end - start <= 4:
            link[node, 0], link[node, 1] = start, -(end - start)
            continue
        axis = np.argmax(spread_high - spread_low)
        part = order[start:end].copy()
        order[start:end] = part[np.argsort(centre[part, axis])]
        middle = (start + end) // 2
        link[node, 0], link[node, 1] = nodes, nodes + 1
        stack[top, 0], stack[top, 1], stack[top, 2] = nodes, start, middle
        stack[top + 1, 0], stack[top + 1, 1], stack[top + 1, 2] = nodes + 1, middle, end
        top += 2
        nodes += 2
    return order, box[:nodes], link[:nodes]


@njit(cache=True, fastmath=True)
def _transmittance(origin, direction, corner, edge1, edge2, opacity, box, link, stack):  # type: ignore[no-untyped-def]
    """Product of (1 - opacity) along a ray; a small value ends it early."""
    inv0 = 1.0 / (direction[0] if abs(direction[0]) > 1e-9 else 1e-9)
    inv1 = 1.0 / (direction[1] if abs(direction[1]) > 1e-9 else 1e-9)
    inv2 = 1.0 / (direction[2] if abs(direction[2]) > 1e-9 else 1e-9)
    passed = 1.0
    stack[0] = 0
    top = 1
    while top > 0:
        top -= 1
        node = stack[top]
        a0, b0 = (box[node, 0] - origin[0]) * inv0, (box[node, 3] - origin[0]) * inv0
        a1, b1 = (box[node, 1] - origin[1]) * inv1, (box[node, 4] - origin[1]) * inv1
        a2, b2 = (box[node, 2] - origin[2]) * inv2, (box[node, 5] - origin[2]) * inv2
        near = max(max(min(a0, b0), min(a1, b1)), max(min(a2, b2), 0.0))
        far = min(min(max(a0, b0), max(a1, b1)), max(a2, b2))
        if near > far:
            continue
        if link[node, 1] >= 0:
            stack[top] = link[node, 0]
            stack[top + 1] = link[node, 1]
            top += 2
            continue
        for i in range(link[node, 0], link[node, 0] - link[node, 1]):
            px = direction[1] * edge2[i, 2] - direction[2] * edge2[i, 1]
            py = direction[2] * edge2[i, 0] - direction[0] * edge2[i, 2]
            pz = direction[0] * edge2[i, 1] - direction[1] * edge2[i, 0]
            det = edge1[i, 0] * px + edge1[i, 1] * py + edge1[i, 2] * pz
            if abs(det) < 1e-14:
                continue
            inv = 1.0 / det
            tx, ty, tz = origin[0] - corner[i, 0], origin[1] - corner[i, 1], origin[2] - corner[i, 2]
            u = (tx * px + ty * py + tz * pz) * inv
            if u < 0.0 or u > 1.0:
                continue
            qx = ty * edge1[i, 2] - tz * edge1[i, 1]
            qy = tz * edge1[i, 0] - tx * edge1[i, 2]
            qz = tx * edge1[i, 1] - ty * edge1[i, 0]
            v = (direction[0] * qx + direction[1] * qy + direction[2] * qz) * inv
            if v < 0.0 or u + v > 1.0:
                continue
            if (edge2[i, 0] * qx + edge2[i, 1] * qy + edge2[i, 2] * qz) * inv > 1e-4:
                passed *= 1.0 - opacity[i]
                if passed < 0.02:
                    return 0.0
    return passed


@njit(cache=True, fastmath=True)
def _gather(points, normals, offset, spherical, directions, radiance, corner, edge1, edge2, opacity, box, link):  # type: ignore[no-untyped-def]
    count = points.shape[0]
    lit = np.zeros((count, 3))
    bare = np.zeros((count, 3))
    lean = np.zeros((count, 3))
    stack = np.zeros(128, np.int64)
    origin = np.zeros(3)
    for i in range(count):
        for k in range(directions.shape[0]):
            d = directions[k]
            cosine = normals[i, 0] * d[0] + normals[i, 1] * d[1] + normals[i, 2] * d[2]
            weight = 0.25 if spherical else cosine
            if weight <= 0.0:
                continue
            for j in range(3):
                bare[i, j] += weight * radiance[k, j]
                # Spherical receivers (hair) lie inside their own ribbons: start clear of them, along the ray.
                origin[j] = points[i, j] + offset * (d[j] if spherical else normals[i, j] + 0.3 * d[j])
            seen = weight * _transmittance(origin, d, corner, edge1, edge2, opacity, box, link, stack)
            if seen > 0.0:
                for j in range(3):
                    lit[i, j] += seen * radiance[k, j]
                strength = seen * (radiance[k, 0] + radiance[k, 1] + radiance[k, 2]) / 3.0
                for j in range(3):
                    lean[i, j] += strength * d[j]
    return lit, bare, lean


def gather_light(
    points: Array,
    normals: Array,
    directions: Array,
    radiance: Array,
    occluders: Occluders,
    offset: float = 0.004,
    spherical: bool = False,
) -> tuple[Array, Array, Array]:
    """Light that reaches ``points`` [n, 3] from ``directions`` [k, 3], each carrying ``radiance`` [k, 3] (times solid angle).

    Returns:
        irradiance with shadows [n, 3], irradiance without [n, 3], and the luminance-weighted mean direction [n, 3] (not a
        unit vector). With ``spherical`` the receiver has no normal: every direction counts a quarter (a thin fibre's mean).
    """
    o = occluders
    return _gather(
        np.ascontiguousarray(points, np.float64),
        np.ascontiguousarray(normals, np.float64),
        offset,
        spherical,
        np.ascontiguousarray(directions, np.float64),
        np.ascontiguousarray(radiance, np.float64),
        o.corner,
        o.edge1,
        o.edge2,
        o.opacity,
        o.box,
        o.link,
    )
