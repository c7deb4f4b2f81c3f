"""Z-buffer rasteriser for one CPU core, compiled by numba on first use. Real3D-Portrait eq. 1 and 8; own code.

The rules, shared with :mod:`triportrait.geometry.rasteriser_torch` to the last bit:

* Pixels x right, y down; the pixel in row r and column c is sampled at ``(c + 0.5, r + 0.5)``.
* Edge functions are taken in float64 from the end of the edge that comes first in (y, x), so that two triangles which
  share an edge see exactly opposite values. A sample exactly on an edge belongs to the triangle for which that edge is
  a top or a left one. A mesh therefore covers every sample once: no gaps, no double hits.
* ``1 / depth`` is linear in the picture; barycentric weights are perspective-correct. The smaller float32 depth wins,
  on equal depth the triangle with the lower index (or the one already in the buffer).
* Triangles with a corner at ``depth <= NEAR_DM``, without area, or with coordinates that are not finite are skipped.
  Both sides are drawn unless ``cull="back"``; a head model's triangles are counter-clockwise seen from outside.

``draw_fragments`` and ``draw_attributes`` are numba functions that other compiled kernels may call.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.compiling import njit
from triportrait.types import Array

#: Nothing at or before this depth is drawn, in decimetres.
NEAR_DM = 0.01


@dataclass(frozen=True, slots=True)
class Fragments:
    """What each pixel of an h x w picture sees.

    Args:
        triangle: int32 [h, w], index of the triangle; -1 where nothing is.
        barycentric: float32 [h, w, 3], perspective-correct weights of its corners; 0 where nothing is.
        depth: float32 [h, w], camera depth; +inf where nothing is.
    """

    triangle: Array
    barycentric: Array
    depth: Array

    @staticmethod
    def empty(height: int, width: int) -> Fragments:
        """Cleared buffers for a picture of ``height`` x ``width`` pixels."""
        return Fragments(
            np.full((height, width), -1, np.int32),
            np.zeros((height, width, 3), np.float32),
            np.full((height, width), np.inf, np.float32),
        )

    def clear(self) -> None:
        """Set every pixel to "nothing"."""
        self.triangle.fill(-1)
        self.barycentric.fill(0.0)
        self.depth.fill(np.inf)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _edge(ax, ay, bx, by, sign):
    """Origin and direction of the edge a -> b for orientation ``sign``; does it own samples on its line?"""
    if by < ay or (by == ay and bx < ax):
        origin_x, origin_y = bx, by
    else:
        origin_x, origin_y = ax, ay
    dx, dy = (bx - ax) * sign, (by - ay) * sign
    return origin_x, origin_y, dx, dy, dy < 0.0 or (dy == 0.0 and dx > 0.0)


@njit(nogil=True, cache=True, error_model="numpy")
def _draw(
    pixels,
    depth,
    triangles,
    depth_bias,
    cull_back,
    cull_front,
    out_depth,
    out_triangle,
    out_barycentric,
    attributes,
    out_attributes,
):
    """The one loop. Outputs that are None are compiled away."""
    height, width = out_depth.shape
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        if not (depth[i] > NEAR_DM and depth[j] > NEAR_DM and depth[k] > NEAR_DM):
            continue
        ax, ay = np.float64(pixels[i, 0]), np.float64(pixels[i, 1])
        bx, by = np.float64(pixels[j, 0]), np.float64(pixels[j, 1])
        cx, cy = np.float64(pixels[k, 0]), np.float64(pixels[k, 1])
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or not np.isfinite(area) or (cull_back and area > 0.0) or (cull_front and area < 0.0):
            continue
        left = max(np.ceil(min(ax, min(bx, cx)) - 0.5), 0.0)
        right = min(np.floor(max(ax, max(bx, cx)) - 0.5), width - 1.0)
        top = max(np.ceil(min(ay, min(by, cy)) - 0.5), 0.0)
        bottom = min(np.floor(max(ay, max(by, cy)) - 0.5), height - 1.0)
        if left > right or top > bottom:
            continue
        sign = 1.0 if area > 0.0 else -1.0
        area *= sign
        ox0, oy0, dx0, dy0, on0 = _edge(bx, by, cx, cy, sign)
        ox1, oy1, dx1, dy1, on1 = _edge(cx, cy, ax, ay, sign)
        ox2, oy2, dx2, dy2, on2 = _edge(ax, ay, bx, by, sign)
        near0, near1, near2 = 1.0 / np.float64(depth[i]), 1.0 / np.float64(depth[j]), 1.0 / np.float64(depth[k])
        for row in range(int(top), int(bottom) + 1):
            y = row + 0.5
            row0, row1, row2 = dx0 * (y - oy0), dx1 * (y - oy1), dx2 * (y - oy2)
            entered = False
            for column in range(int(left), int(right) + 1):
                x = column + 0.5
                e0, e1, e2 = row0 - dy0 * (x - ox0), row1 - dy1 * (x - ox1), row2 - dy2 * (x - ox2)
                if (e0 > 0.0 or (e0 == 0.0 and on0)) and (e1 > 0.0 or (e1 == 0.0 and on1)) and (e2 > 0.0 or (e2 == 0.0 and on2)):
                    entered = True
                    w0, w1, w2 = e0 * near0, e1 * near1, e2 * near2
                    scale = 1.0 / (w0 + w1 + w2)
                    z = np.float32(area * scale + depth_bias)
                    if z < out_depth[row, column]:
                        out_depth[row, column] = z
                        b0, b1, b2 = np.float32(w0 * scale), np.float32(w1 * scale), np.float32(w2 * scale)
                        if out_triangle is not None:
                            out_triangle[row, column] = t
                            out_barycentric[row, column, 0] = b0
                            out_barycentric[row, column, 1] = b1
                            out_barycentric[row, column, 2] = b2
                        if attributes is not None:
                            for c in range(attributes.shape[1]):
                                out_attributes[row, column, c] = b0 * attributes[i, c] + b1 * attributes[j, c] + b2 * attributes[k, c]
                elif entered:  # a triangle is convex: the rest of this row lies outside
                    break


@njit(nogil=True, cache=True)
def draw_fragments(pixels, depth, triangles, out_triangle, out_barycentric, out_depth, depth_bias=0.0, cull_back=False, cull_front=False):
    """Draw into existing buffers where ``depth + depth_bias`` is smaller than what ``out_depth`` holds.

    Args:
        pixels: float32 [v, 2].
        depth: float32 [v], camera depth.
        triangles: int32 [f, 3]; indices are not checked here.
        out_triangle: int32 [h, w].
        out_barycentric: float32 [h, w, 3].
        out_depth: float32 [h, w]; also what was drawn before, so several meshes may share it.
        depth_bias: added to the depth of this mesh before comparing and storing.
        cull_back: skip triangles that face away; cull_front: those that do not.
    """
    _draw(pixels, depth, triangles, depth_bias, cull_back, cull_front, out_depth, out_triangle, out_barycentric, None, None)


@njit(nogil=True, cache=True)
def draw_attributes(pixels, depth, triangles, attributes, out_attributes, out_depth, depth_bias=0.0, cull_back=False):
    """As :func:`draw_fragments`, but writes the interpolated ``attributes`` [v, k] to ``out_attributes`` [h, w, k]."""
    _draw(pixels, depth, triangles, depth_bias, cull_back, False, out_depth, None, None, attributes, out_attributes)


@njit(nogil=True, cache=True, error_model="numpy")
def _interpolate(triangle, barycentric, triangles, attributes, out):
    height, width = triangle.shape
    channels = attributes.shape[1]
    for row in range(height):
        for column in range(width):
            t = triangle[row, column]
            if t >= 0:
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                b0, b1, b2 = barycentric[row, column, 0], barycentric[row, column, 1], barycentric[row, column, 2]
                for c in range(channels):
                    out[row, column, c] = b0 * attributes[i, c] + b1 * attributes[j, c] + b2 * attributes[k, c]


def rasterise(
    pixels: Array,
    depth: Array,
    triangles: Array,
    height: int,
    width: int,
    *,
    cull: str | None = None,
    buffers: Fragments | None = None,
) -> Fragments:
    """Which triangle each pixel sees.

    Args:
        pixels: float32 [v, 2], projected vertices (x right, y down).
        depth: float32 [v], their camera depth.
        triangles: int32 [f, 3].
        height: rows of the picture in pixels.
        width: columns of the picture in pixels.
        cull: ``"back"`` skips triangles that face away.
        buffers: cleared, drawn into and returned, so that a video allocates nothing per frame.

    Raises:
        ValueError: shapes do not fit, or a triangle names a vertex that does not exist.
    """
    pixels, depth, triangles = _checked(pixels, depth, triangles)
    if buffers is None:
        buffers = Fragments.empty(height, width)
    elif buffers.depth.shape != (height, width):
        raise ValueError(f"buffers are for {buffers.depth.shape} pixels, the picture has {(height, width)}")
    else:
        buffers.clear()
    draw_fragments(pixels, depth, triangles, buffers.triangle, buffers.barycentric, buffers.depth, 0.0, cull_is_back(cull))
    return buffers


def rasterise_attributes(
    pixels: Array,
    depth: Array,
    triangles: Array,
    attributes: Array,
    out_attributes: Array,
    out_depth: Array,
    depth_bias: float = 0.0,
    *,
    cull: str | None = None,
) -> None:
    """Draw a mesh with interpolated ``attributes`` into existing buffers; what is nearer in ``out_depth`` stays.

    Args:
        pixels: float32 [v, 2].
        depth: float32 [v], camera depth.
        triangles: int32 [f, 3].
        attributes: float32 [v, k].
        out_attributes: float32 [h, w, k], changed where the mesh is drawn.
        out_depth: float32 [h, w], +inf where nothing was drawn before; several meshes may share it.
        depth_bias: added to this mesh's depth before comparing and storing; negative values bring it forward.
        cull: ``"back"`` skips triangles that face away.

    Raises:
        ValueError: shapes do not fit, or a triangle names a vertex that does not exist.
    """
    pixels, depth, triangles = _checked(pixels, depth, triangles)
    attributes = np.ascontiguousarray(attributes, np.float32)
    expected = (*out_depth.shape, attributes.shape[-1])
    if attributes.ndim != 2 or len(attributes) != len(depth) or out_attributes.shape != expected:
        raise ValueError(
            f"attributes {attributes.shape}, {len(depth)} vertices, out_attributes {out_attributes.shape} "
            f"and out_depth {out_depth.shape} do not fit together"
        )
    draw_attributes(pixels, depth, triangles, attributes, out_attributes, out_depth, float(depth_bias), cull_is_back(cull))


def interpolate(fragments: Fragments, triangles: Array, attributes: Array, *, out: Array | None = None) -> Array:
    """Vertex ``attributes`` [v, k] at every pixel: float32 [h, w, k].

    Where nothing is, ``out`` keeps what it held (zeros when it is made here).

    Raises:
        ValueError: shapes do not fit, or the fragments or triangles name what does not exist.
    """
    triangles = np.ascontiguousarray(triangles, np.int32)
    attributes = np.ascontiguousarray(attributes, np.float32)
    if triangles.size and int(triangles.max()) >= len(attributes):
        raise ValueError(f"attributes has {len(attributes)} rows, triangles name vertex {int(triangles.max())}")
    if int(fragments.triangle.max(initial=-1)) >= len(triangles):
        raise ValueError("fragments were made with other triangles")
    expected = (*fragments.depth.shape, attributes.shape[1])
    if out is None:
        out = np.zeros(expected, np.float32)
    elif out.shape != expected:
        raise ValueError(f"out has shape {out.shape}, expected {expected}")
    _interpolate(fragments.triangle, fragments.barycentric, triangles, attributes, out)
    return out


def cull_is_back(cull: str | None) -> bool:
    """True for ``"back"``, False for None; anything else is a ValueError."""
    if cull not in (None, "back"):
        raise ValueError(f"cull is {cull!r}, expected None or 'back'")
    return cull == "back"


def _checked(pixels: Array, depth: Array, triangles: Array) -> tuple[Array, Array, Array]:
    """The arrays as the kernels want them; compiled code does not check indices, so this does."""
    pixels = np.ascontiguousarray(pixels, np.float32)
    depth = np.ascontiguousarray(depth, np.float32)
    triangles = np.ascontiguousarray(triangles, np.int32)
    count = len(depth)
    if pixels.shape != (count, 2) or depth.ndim != 1 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"pixels {pixels.shape}, depth {depth.shape}, triangles {triangles.shape} do not fit together")
    if triangles.size and not (triangles.min() >= 0 and triangles.max() < count):
        raise ValueError(f"triangles name vertices outside 0..{count - 1}")
    return pixels, depth, triangles
