"""Light on a procedural head: a small environment with lamps, spherical harmonics, and soft shadows from shadow maps.

Numpy and numba; the kernels have no plain twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.compiling import njit
from triportrait.synth.coverage import centres_within, corner_weights
from triportrait.synth.people import Lamp
from triportrait.synth.shade import direction_of
from triportrait.types import Array

HEIGHT, WIDTH = 32, 64
#: Angular blur in radians of the levels that mirror the light.
BLUR_RAD = (0.0, 0.12, 0.30, 0.60)
#: Side of a shadow map, and half of what it covers in decimetres.
_MAP_PX, _MAP_HALF_DM = 128, 2.4


def _grid() -> tuple[Array, Array]:
    v, u = np.meshgrid((np.arange(HEIGHT) + 0.5) / HEIGHT, (np.arange(WIDTH) + 0.5) / WIDTH, indexing="ij")
    solid = np.sin(v * np.pi) * (np.pi / HEIGHT) * (2.0 * np.pi / WIDTH)
    return direction_of(u.reshape(-1), v.reshape(-1)), solid.reshape(-1)


_DIRECTIONS, _SOLID = _grid()


def _kernels() -> list[Array]:
    cosine = (_DIRECTIONS @ _DIRECTIONS.T).astype(np.float32)
    kernels = []
    for angle in BLUR_RAD[1:]:
        kernel = np.exp((cosine - 1.0) / np.float32(angle**2)) * _SOLID.astype(np.float32)
        kernels.append(kernel / kernel.sum(1, keepdims=True))
    return kernels


_KERNELS: list[Array] = []


def harmonics(normals: Array) -> Array:
    """Real spherical harmonics up to degree 2: [n, 9] for unit directions [n, 3]."""
    x, y, z = np.moveaxis(normals, -1, 0)
    return np.stack(
        [
            0.282095 + 0 * x,
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        -1,
    )


_BASIS = harmonics(_DIRECTIONS)
#: What a cosine lobe leaves of each degree (Ramamoorthi and Hanrahan 2001), over pi.
_LOBE = np.array([1.0] + [2.0 / 3.0] * 3 + [0.25] * 5)


@dataclass(frozen=True, slots=True)
class HeadLight:
    """Light round a head, in the photograph's head space.

    Args:
        levels: [4, 32, 64, 3] float32 radiance, blurred by ``BLUR_RAD``.
        coefficients: [9, 3], of the unshadowed irradiance over pi.
        directions: [k, 3], where shadows are looked for; power: [k, 3], what arrives from there over pi.
    """

    levels: Array
    coefficients: Array
    directions: Array
    power: Array

    def scattered(self, normals: Array) -> Array:
        """Unshadowed irradiance over pi [n, 3] for unit normals [n, 3]."""
        return np.maximum(harmonics(normals) @ self.coefficients, 0.02).astype(np.float32)


def small_map(image: Array) -> Array:
    """An HDRI [h, w, 3] as [32, 64, 3] with mean 1 over the sphere, its sun cut to 30 times the mean."""
    rows, columns = image.shape[0] // HEIGHT, image.shape[1] // WIDTH
    small = image[: rows * HEIGHT, : columns * WIDTH].reshape(HEIGHT, rows, WIDTH, columns, 3).mean((1, 3))
    mean = float((small.mean(-1).reshape(-1) * _SOLID).sum() / _SOLID.sum())
    return np.minimum(small / mean, 30.0).astype(np.float32)


def head_light(picture: Array, turn: float, lamps: tuple[Lamp, ...], count: int, random: np.random.Generator) -> HeadLight:
    """A map of :func:`small_map` rolled by ``turn`` of a circle, with lamps; ``count`` shadow directions."""
    if not _KERNELS:
        _KERNELS.extend(_kernels())
    flat = np.roll(picture, int(round(turn * WIDTH)), 1).reshape(-1, 3).astype(np.float32)
    for lamp in lamps:
        gap = np.arccos(np.clip(_DIRECTIONS @ np.asarray(lamp.direction), -1.0, 1.0))
        inside = np.clip((lamp.radius_rad - gap) / 0.08 + 0.5, 0.0, 1.0)[:, None].astype(np.float32)
        flat = flat * (1 - inside) + inside * np.asarray(lamp.radiance, np.float32)
    levels = np.stack([flat, *(kernel @ flat for kernel in _KERNELS)]).reshape(4, HEIGHT, WIDTH, 3)
    coefficients = _LOBE[:, None] * ((_BASIS * _SOLID[:, None]).T @ flat)
    weight = (flat.mean(-1) + 0.25 * flat.mean()) * _SOLID
    share = weight / weight.sum()
    pixel = np.minimum(np.searchsorted(np.cumsum(share), (np.arange(count) + random.random(count)) / count), len(share) - 1)
    power = flat[pixel] * (_SOLID[pixel] / (share[pixel] * count * np.pi))[:, None]
    return HeadLight(levels.astype(np.float32), coefficients, _DIRECTIONS[pixel], power)


def gather(
    points: Array,
    normals: Array,
    light: HeadLight,
    solid: tuple[Array, Array],
    veil: tuple[Array, Array],
    hair_points: Array,
    opacity: float = 0.75,
) -> tuple[Array, Array]:
    """Shadowed irradiance over pi [n, 3] at points [n, 3], and light [m, 3] from all sides at ``hair_points`` [m, 3].

    Args:
        points, normals: receivers.
        light: with its directions.
        solid: (vertices, triangles) that let nothing pass; veil: the same of hair, which lets 1 - ``opacity`` pass.
        hair_points: points of strands, which shade like the veil too.
        opacity: of hair.
    """
    lit = np.zeros((len(points), 3), np.float32)
    fibre = np.zeros((len(hair_points), 3), np.float32)
    for direction, power in zip(light.directions, light.power, strict=True):
        side = np.cross(direction, (0.0, 1.0, 0.0) if abs(direction[1]) < 0.9 else (1.0, 0.0, 0.0))
        side /= np.linalg.norm(side)
        frame = np.stack([side, np.cross(side, direction), direction]).astype(np.float32)
        _one_light(
            points,
            normals,
            hair_points,
            frame,
            power.astype(np.float32),
            solid[0],
            solid[1],
            veil[0],
            veil[1],
            np.float32(opacity),
            lit,
            fibre,
        )
    return lit, fibre


@njit(cache=True, fastmath=True)
def _one_light(  # type: ignore[no-untyped-def]
    points,
    normals,
    hair,
    frame,
    power,
    solid_vertices,
    solid_triangles,
    veil_vertices,
    veil_triangles,
    opacity,
    lit,
    fibre,
):
    nothing = np.float32(-1e9)
    solid = np.full((_MAP_PX, _MAP_PX), nothing, np.float32)
    veil = np.full((_MAP_PX, _MAP_PX), nothing, np.float32)
    _height_map(solid_vertices, solid_triangles, frame, solid)
    _height_map(veil_vertices, veil_triangles, frame, veil)
    scale = _MAP_PX / (2.0 * _MAP_HALF_DM)
    for i in range(hair.shape[0]):
        x = int((hair[i, 0] * frame[0, 0] + hair[i, 1] * frame[0, 1] + hair[i, 2] * frame[0, 2] + _MAP_HALF_DM) * scale)
        y = int((hair[i, 0] * frame[1, 0] + hair[i, 1] * frame[1, 1] + hair[i, 2] * frame[1, 2] + _MAP_HALF_DM) * scale)
        if 0 <= x < _MAP_PX and 0 <= y < _MAP_PX:
            h = hair[i, 0] * frame[2, 0] + hair[i, 1] * frame[2, 1] + hair[i, 2] * frame[2, 2]
            veil[y, x] = max(veil[y, x], h)
    for i in range(points.shape[0]):
        cosine = normals[i, 0] * frame[2, 0] + normals[i, 1] * frame[2, 1] + normals[i, 2] * frame[2, 2]
        if cosine <= 0.0:
            continue
        px = points[i, 0] + 0.03 * normals[i, 0]
        py = points[i, 1] + 0.03 * normals[i, 1]
        pz = points[i, 2] + 0.03 * normals[i, 2]
        passed = cosine * _passed(px, py, pz, frame, solid, veil, np.float32(0.05), np.float32(0.03), opacity)
        for c in range(3):
            lit[i, c] += passed * power[c]
    for i in range(hair.shape[0]):
        passed = 0.5 * _passed(hair[i, 0], hair[i, 1], hair[i, 2], frame, solid, veil, np.float32(0.05), np.float32(0.10), opacity)
        for c in range(3):
            fibre[i, c] += passed * power[c]


@njit(cache=True, fastmath=True)
def _passed(px, py, pz, frame, solid, veil, solid_bias, veil_bias, opacity):  # type: ignore[no-untyped-def]
    scale = _MAP_PX / (2.0 * _MAP_HALF_DM)
    x = (px * frame[0, 0] + py * frame[0, 1] + pz * frame[0, 2] + _MAP_HALF_DM) * scale - 0.5
    y = (px * frame[1, 0] + py * frame[1, 1] + pz * frame[1, 2] + _MAP_HALF_DM) * scale - 0.5
    h = px * frame[2, 0] + py * frame[2, 1] + pz * frame[2, 2]
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    if x0 < 0 or y0 < 0 or x0 >= _MAP_PX - 1 or y0 >= _MAP_PX - 1:
        return 1.0
    fx, fy = x - x0, y - y0
    total = 0.0
    for j in range(2):
        for i in range(2):
            weight = (fx if i else 1.0 - fx) * (fy if j else 1.0 - fy)
            through = 1.0
            if solid[y0 + j, x0 + i] > h + solid_bias:
                through = 0.0
            elif veil[y0 + j, x0 + i] > h + veil_bias:
                through = 1.0 - opacity
            total += weight * through
    return total


@njit(cache=True, fastmath=True)
def _height_map(vertices, triangles, frame, out):  # type: ignore[no-untyped-def]
    """Greatest height along the third row of ``frame`` over the plane of the first two."""
    scale = _MAP_PX / (2.0 * _MAP_HALF_DM)
    count = vertices.shape[0]
    flat = np.empty((count, 3), np.float32)
    for i in range(count):
        for j in range(3):
            flat[i, j] = vertices[i, 0] * frame[j, 0] + vertices[i, 1] * frame[j, 1] + vertices[i, 2] * frame[j, 2]
        flat[i, 0] = (flat[i, 0] + _MAP_HALF_DM) * scale
        flat[i, 1] = (flat[i, 1] + _MAP_HALF_DM) * scale
    for t in range(triangles.shape[0]):
        a, b, c = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, bx, by, cx, cy = flat[a, 0], flat[a, 1], flat[b, 0], flat[b, 1], flat[c, 0], flat[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        left, right = centres_within(min(ax, min(bx, cx)), max(ax, max(bx, cx)), _MAP_PX)
        top, bottom = centres_within(min(ay, min(by, cy)), max(ay, max(by, cy)), _MAP_PX)
        if left > right or top > bottom:
            continue
        corners, inverse = (ax, ay, bx, by, cx, cy), 1.0 / area
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                w0, w1, w2 = corner_weights(corners, inverse, x + 0.5, y + 0.5)
                if w0 < 0.0 or w1 < 0.0 or w2 < 0.0:
                    continue
                h = w0 * flat[a, 2] + w1 * flat[b, 2] + w2 * flat[c, 2]
                if h > out[y, x]:
                    out[y, x] = h
