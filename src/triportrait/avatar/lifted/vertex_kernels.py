"""What a frame computes for each vertex of the mesh and each node of the mantle, compiled. Tests hold each kernel against a plain sum."""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit

_0, _1 = np.float32(0), np.float32(1)


@njit(nogil=True, cache=True, error_model="numpy")
def follow(rest, corner, weight, displacement, share, body, turn, out):
    """Nodes that follow the mesh where they belong to the head, and a body where they do not.

    Args:
        rest: float32 [m, 3], at rest; corner int32 [m, 3], vertices that they follow, and weight float32 [m, 3].
        displacement: float32 [v, 3] of the vertices.
        share: float32 [m], of the head; the rest of a node is where ``body`` float32 [m, 3] is, whose rows are multiplied by ``turn``
            float32 [3, 3].
        out: float32 [m, 3], written.
    """
    for m in range(rest.shape[0]):
        x, y, z = rest[m, 0], rest[m, 1], rest[m, 2]
        for k in range(3):
            w, v = weight[m, k], corner[m, k]
            x += w * displacement[v, 0]
            y += w * displacement[v, 1]
            z += w * displacement[v, 2]
        left = _1 - share[m]
        if left != _0:
            a, b, c = body[m, 0], body[m, 1], body[m, 2]
            x += left * (a * turn[0, 0] + b * turn[1, 0] + c * turn[2, 0] - x)
            y += left * (a * turn[0, 1] + b * turn[1, 1] + c * turn[2, 1] - y)
            z += left * (a * turn[0, 2] + b * turn[1, 2] + c * turn[2, 2] - z)
        out[m, 0], out[m, 1], out[m, 2] = x, y, z


@njit(nogil=True, cache=True, error_model="numpy")
def streaks(then, points, normals, camera, law, out):
    """How far surfaces that the photo saw at cosines ``then`` would be streaks, seen from elsewhere.

    Args:
        then: float32 [n]; points and normals float32 [n, 3]; camera float32 [3].
        law: float32 [3], the cosine that is added to both, the stretch at which streaks begin, and how much of one a unit of stretch is.
        out: float32 [n], 0..1, written.
    """
    glance, begin, pull = law
    for n in range(then.shape[0]):
        x, y, z = camera[0] - points[n, 0], camera[1] - points[n, 1], camera[2] - points[n, 2]
        now = (normals[n, 0] * x + normals[n, 1] * y + normals[n, 2] * z) / np.sqrt(x * x + y * y + z * z)
        stretch = (max(now, _0) + glance) / (max(then[n], _0) + glance)
        out[n] = min(max(pull * (stretch - begin), _0), _1)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _light(coefficients, x, y, z, least):
    """Spherical harmonics of a unit normal times their coefficients, in the order of ``relight.harmonics``."""
    c = coefficients
    linear = c[0] + c[1] * x + c[2] * y + c[3] * z
    square = c[4] * x * y + c[5] * y * z + c[6] * (3 * z * z - 1) + c[7] * x * z + c[8] * (x * x - y * y)
    return max(linear + square, least)


@njit(nogil=True, cache=True, error_model="numpy")
def relit(coefficients, normal, own, turn, received, share, law, out):
    """What colours of vertices are multiplied by under another pose and expression.

    Args:
        coefficients: float64 [9].
        normal: float32 [v, 3], now; own: float32 [v, 3], the photo's, which ``turn`` float64 [3, 3] gives the present pose.
        received: float32 [v], light in the photo; share: float32 [v], how far a vertex is relit.
        law: float64 [4], light that is always there, the least and the greatest gain, and the most of an expression's part in it.
        out: float32 [v], written.
    """
    least, low, high, most = law
    for v in range(normal.shape[0]):
        out[v] = 1.0
        if share[v] == 0.0:
            continue
        x, y, z = own[v, 0], own[v, 1], own[v, 2]
        a = turn[0, 0] * x + turn[0, 1] * y + turn[0, 2] * z
        b = turn[1, 0] * x + turn[1, 1] * y + turn[1, 2] * z
        c = turn[2, 0] * x + turn[2, 1] * y + turn[2, 2] * z
        turned = _light(coefficients, a, b, c, least)
        now = _light(coefficients, np.float64(normal[v, 0]), np.float64(normal[v, 1]), np.float64(normal[v, 2]), least)
        expression = 1.0 + most * np.tanh((now / turned - 1.0) / most)
        gain = min(max(turned / received[v] * expression, low), high)
        out[v] = 1.0 + share[v] * (gain - 1.0)
