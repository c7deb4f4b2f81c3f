"""What a frame computes for each vertex of the mesh and each node of the mantle, compiled. Tests hold each kernel against a plain sum."""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit

_0, _1 = np.float32(0), np.float32(1)


@njit(nogil=True, cache=True, error_model="numpy")
def project(points, pose, focal_px, left, top, far, pixels, depth):
    """Where points of head space lie in a picture: :func:`triportrait.geometry.cameras.pose_points` and ``project`` in one.

    Args:
        points: float32 [n, 3]; pose: float64 [3, 4], from head space to the axes of the camera.
        focal_px: focal length; left, top: where the picture begins, in pixels from what the camera looks at; far: the camera's distance.
        pixels: float32 [n, 2], and depth: float32 [n], written.
    """
    for n in range(points.shape[0]):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        away = far - (pose[2, 0] * x + pose[2, 1] * y + pose[2, 2] * z + pose[2, 3])
        scale = focal_px / away
        pixels[n, 0] = scale * (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2] * z + pose[0, 3]) - left
        pixels[n, 1] = -scale * (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2] * z + pose[1, 3]) - top
        depth[n] = away


@njit(nogil=True, cache=True, error_model="numpy")
def follow(rest, corner, weight, displacement, share, home, body, out):
    """Nodes that follow the mesh where they belong to the head, and a body where they do not.

    Args:
        rest: float32 [m, 3], at rest; corner int32 [m, 3], vertices that they follow, and weight float32 [m, 3].
        displacement: float32 [v, 3] of the vertices.
        share: float32 [m], of the head; the rest of a node is where the affine map ``body`` float64 [3, 4] takes ``home`` float32 [m, 3].
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
            a, b, c = home[m, 0], home[m, 1], home[m, 2]
            x += left * (np.float32(body[0, 0] * a + body[0, 1] * b + body[0, 2] * c + body[0, 3]) - x)
            y += left * (np.float32(body[1, 0] * a + body[1, 1] * b + body[1, 2] * c + body[1, 3]) - y)
            z += left * (np.float32(body[2, 0] * a + body[2, 1] * b + body[2, 2] * c + body[2, 3]) - z)
        out[m, 0], out[m, 1], out[m, 2] = x, y, z


@njit(nogil=True, cache=True, error_model="numpy")
def carry(weight, corner, values, out):
    """Values float32 [v] of the vertices ``corner`` int32 [m, 3] times their weights float32 [m, 3], into ``out`` float32 [m]."""
    for m in range(corner.shape[0]):
        total = _0
        for k in range(3):
            total += weight[m, k] * values[corner[m, k]]
        out[m] = total


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _cosine(points, normals, camera, n):
    """Between the normal at point ``n`` and the way to the camera."""
    x, y, z = camera[0] - points[n, 0], camera[1] - points[n, 1], camera[2] - points[n, 2]
    return (normals[n, 0] * x + normals[n, 1] * y + normals[n, 2] * z) / np.sqrt(x * x + y * y + z * z)


@njit(nogil=True, cache=True, error_model="numpy")
def rim_colours(guess, points, normals, camera, rim_cosine, out):
    """What nodes show where the photo saw nothing: what faces the camera has one colour, what is the rim another.

    Args:
        guess: float32 [m, 8], numbers that stay, then a colour that faces the camera, then one of the rim.
        points, normals, camera: as of :func:`streaks`.
        rim_cosine: what is seen at a lower cosine is rim, the more the lower.
        out: float32 [m, 5], written.
    """
    for n in range(guess.shape[0]):
        facing = min(max(_cosine(points, normals, camera, n) / rim_cosine, _0), _1)
        rim = _1 - facing * facing * (np.float32(3) - np.float32(2) * facing)
        out[n, 0], out[n, 1] = guess[n, 0], guess[n, 1]
        for c in range(2, 5):
            out[n, c] = guess[n, c] + rim * (guess[n, c + 3] - guess[n, c])


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
        stretch = (max(_cosine(points, normals, camera, n), _0) + glance) / (max(then[n], _0) + glance)
        out[n] = min(max(pull * (stretch - begin), _0), _1)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _light(coefficients, turn, normal, v, least):
    """Spherical harmonics of the turned normal ``v`` times their coefficients, in the order of ``relight.harmonics``."""
    c, right, up, near = coefficients, np.float64(normal[v, 0]), np.float64(normal[v, 1]), np.float64(normal[v, 2])
    length = max(np.sqrt(right * right + up * up + near * near), 1e-9)
    right, up, near = right / length, up / length, near / length
    x = turn[0, 0] * right + turn[0, 1] * up + turn[0, 2] * near
    y = turn[1, 0] * right + turn[1, 1] * up + turn[1, 2] * near
    z = turn[2, 0] * right + turn[2, 1] * up + turn[2, 2] * near
    linear = c[0] + c[1] * x + c[2] * y + c[3] * z
    square = c[4] * x * y + c[5] * y * z + c[6] * (3 * z * z - 1) + c[7] * x * z + c[8] * (x * x - y * y)
    return max(linear + square, least)


@njit(nogil=True, cache=True, error_model="numpy")
def relit(coefficients, normal, own, turn, received, share, law, out):
    """What colours of vertices are multiplied by under another pose and expression.

    Args:
        coefficients: float64 [9].
        normal: float32 [v, 3], now, of any length; own: float32 [v, 3], the photo's; ``turn`` float64 [3, 3] gives both the present pose.
        received: float32 [v], light in the photo; share: float32 [v], how far a vertex is relit.
        law: float64 [4], light that is always there, the least and the greatest gain, and the most of an expression's part in it.
        out: float32 [v], written.
    """
    least, low, high, most = law
    for v in range(normal.shape[0]):
        out[v] = 1.0
        if share[v] == 0.0:
            continue
        turned, now = _light(coefficients, turn, own, v, least), _light(coefficients, turn, normal, v, least)
        expression = 1.0 + most * np.tanh((now / turned - 1.0) / most)
        gain = min(max(turned / received[v] * expression, low), high)
        out[v] = 1.0 + share[v] * (gain - 1.0)
