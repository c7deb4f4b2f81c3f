"""Light that stays where it is while the head turns.

A photograph's shading turns with a texture; real light does not. Luminance of the seen face is explained by spherical harmonics of the
second order in the surface's normal (Ramamoorthi and Hanrahan, "An efficient representation for irradiance environment maps", 2001), and
each vertex is brightened by the quotient of what its present and its photographed normal would receive.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.lifted.surface import Surface
from triportrait.avatar.lifted.vertex_kernels import relit
from triportrait.geometry.cameras import pose_points
from triportrait.geometry.neighbours import NeighbourMean
from triportrait.geometry.normals import add_normals
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import Array, FullHead, HeadPart, PreparedPortrait

#: Ridge on first and second order, relative to the number of vertices: one face shows few normals.
_RIDGE = 0.005
#: Darker than this part of the median is brow, nostril or beard, not shading.
_DARK = 0.5
_LEAST_LIGHT = 0.25
#: That, the least and the greatest gain, and the share by which expression brightens or darkens at most; small changes pass.
_LAW = np.array([_LEAST_LIGHT, 0.6, 1.6, 0.06])


@dataclass(frozen=True, slots=True)
class Light:
    """Light of a photograph.

    Args:
        coefficients: float64 [9] of :func:`harmonics` of the normal in camera axes; about 1 for the median of the face.
        received: float32 [v], of each vertex in the photograph.
        normal: float32 [v, 3], of the head as in the photograph, unposed.
        share: float32 [v], how far a vertex is relit (0 off the face).
        smoothing: averages normals over neighbours, twice: folds of lips and lids are not form.
        skin: [f, 3] int32, the skin's triangles near vertices that are relit.
    """

    coefficients: Array
    received: Array
    normal: Array
    share: Array
    smoothing: NeighbourMean
    skin: Array

    def at(self, normal: Array) -> Array:
        """Light that surfaces with these normals [n, 3], in camera axes, receive: [n], about 1 in the middle of the face."""
        return _light(self.coefficients, normal)

    def gain(self, vertices: Array, rotation_rad: Array) -> Array:
        """What the colours of vertices are multiplied by under another pose and expression: float32 [v].

        Args:
            vertices: [v, 3] in head space, as the head is drawn.
            rotation_rad: [3], its pose, from which follows what of a normal's change is expression.
        """
        normal, turn = _normals(vertices, self.skin, self.smoothing), matrix_from_euler(rotation_rad)
        gain = np.empty_like(self.share)
        relit(self.coefficients, normal, self.normal, turn, self.received, self.share, _LAW, gain)
        return gain


def fit_light(portrait: PreparedPortrait, head: FullHead, surface: Surface) -> Light:
    """Fit by ridge regression with Cauchy weights (brows, beards and glasses are no light).

    A face that hardly shows gives light from everywhere: all gains are 1. What the photo saw edge-on, such as the inner rims of lips, is
    not relit.
    """
    import cv2

    size = portrait.image.shape[0]
    posed = pose_points(surface.source, portrait.motion.rotation_rad, portrait.motion.translation)
    smoothing = NeighbourMean.of(surface.skin, len(posed))
    normal = _normals(posed, surface.skin, smoothing)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    x, y = (np.clip(surface.pixels[:, c].astype(int), 0, size - 1) for c in (0, 1))
    luminance = cv2.GaussianBlur(portrait.image, (0, 0), 3.0 * size / 512).astype(np.float64).mean(-1)[y, x]
    used = (surface.seen > 0.6) & (surface.face > 0.8) & (head.part == HeadPart.SKIN)
    coefficients = np.eye(9)[0]
    if used.sum() > 200:
        level = max(float(np.median(luminance[used])), 1.0)
        used &= luminance > _DARK * level
        basis, wanted = harmonics(normal[used]), luminance[used] / level
        ridge = _RIDGE * len(wanted) * np.diag([0, 1, 1, 1, 3, 3, 3, 3, 3])
        weight = np.ones(len(wanted))
        for _ in range(6):
            coefficients = np.linalg.solve((basis * weight[:, None]).T @ basis + ridge, (basis * weight[:, None]).T @ wanted)
            rest = wanted - basis @ coefficients
            spread = max(1.5 * float(np.median(np.abs(rest))), 1e-3)
            weight = 1.0 / (1.0 + (rest / spread) ** 2)
    share = surface.face * (head.part == HeadPart.SKIN) * np.clip(normal[:, 2] / 0.15, 0.0, 1.0)
    received = _light(coefficients, normal).astype(np.float32)
    own = (normal @ matrix_from_euler(np.asarray(portrait.motion.rotation_rad, np.float64))).astype(np.float32)
    # Normals are needed where skin is relit, and before they are smoothed twice, as far as two edges round it.
    once = _with_neighbours(share > 0, surface.skin)
    near = surface.skin[_with_neighbours(once, surface.skin)[surface.skin].any(1)]
    smoothing = NeighbourMean.of(surface.skin, len(posed), once)
    return Light(coefficients, received, own, share.astype(np.float32), smoothing, np.ascontiguousarray(near))


def harmonics(normal: Array) -> Array:
    """Real spherical harmonics up to the second order, without their constant factors: [n, 3] -> [n, 9]."""
    x, y, z = normal.T
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y], 1)


def _light(coefficients: Array, normal: Array) -> Array:
    return np.maximum(harmonics(normal) @ coefficients, _LEAST_LIGHT)


def _with_neighbours(vertices: Array, triangles: Array) -> Array:
    """Those of ``vertices`` bool [v], and whatever shares one of the ``triangles`` [f, 3] with them: bool [v]."""
    grown = vertices.copy()
    grown[triangles[vertices[triangles].any(1)]] = True
    return grown


def _normals(vertices: Array, skin: Array, smoothing: NeighbourMean) -> Array:
    """Smoothed normals of all vertices, of any length: float32 [v, 3]."""
    normal = np.zeros((len(vertices), 3), np.float32)
    add_normals(np.ascontiguousarray(vertices, np.float32), skin, normal)
    return smoothing(smoothing(normal))
