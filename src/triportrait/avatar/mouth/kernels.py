"""Per-pixel work of the mouth's inside, compiled: layers of flesh and teeth to colours, averaging, and the shadow of the lips.

It has no plain twin.
"""

from __future__ import annotations

import math

import numpy as np

from triportrait.compiling import njit
from triportrait.geometry.texels import texel_before

_0, _1 = np.float32(0), np.float32(1)


@njit(nogil=True, cache=True, error_model="numpy")
def light(points, normals, middle, gap, through, law, reached, mirrored):
    """Light that open lips let in to points behind them.

    From all sides comes the share of their sky that the open lips are, and what flesh throws back. The gap between the lips counts as a
    disc of its area, seen from the distance of the point (its form factor).

    Args:
        points, normals: float32 [n, 3].
        middle: float32 [3], of the gap; gap: float32 [3], half its width, half its height, and the squared radius of a disc of its area.
        through: float32 [3], what flesh throws back.
        law: float32 [3], how far lips curve back per decimetre sideways squared, how far above the gap a mirrored light stands, and the
            exponent of its lobe.
        reached: float32 [n, 3], light from all sides, and mirrored: float32 [n], what a mirror would throw to the camera; written.
    """
    half_width, half_height, disc = gap
    curve, from_above, lobe = law
    for n in range(points.shape[0]):
        x, y, z = points[n, 0] - middle[0], points[n, 1] - middle[1], points[n, 2] - middle[2]
        # Lips curve back towards their corners; the nearest place of the gap counts, from its middle it is a disc.
        beside = min(max(x, -half_width), half_width)
        back = curve * (half_width * half_width / np.float32(3) - beside * beside)
        x, y, z = beside - x, min(max(y, -half_height), half_height) - y, back - z
        squared = x * x + y * y + z * z
        far = np.sqrt(max(squared, np.float32(1e-6)))
        facing = np.float32(0.6) + np.float32(0.4) * (normals[n, 0] * x + normals[n, 1] * y + normals[n, 2] * z) / far
        facing = min(max(facing, _0), _1)
        # Right behind the lips the gap is the whole sky whichever way a surface faces.
        near = np.exp(squared * np.float32(-50))
        seen = disc / (disc + squared) * (facing + near * (_1 - facing) * np.float32(0.6))
        up = y + from_above * far
        length = max(np.sqrt(x * x + up * up + z * z), np.float32(1e-6))
        shine = (normals[n, 0] * x + normals[n, 1] * up + normals[n, 2] * z) / length
        mirrored[n] = seen * min(max(shine, _0), _1) ** lobe
        for c in range(3):
            reached[n, c] = through[c] + (_1 - through[c]) * seen


@njit(nogil=True, cache=True, error_model="numpy")
def lay_flesh(triangle, barycentric, colours, triangles, deep, out):
    """Plain surfaces: fragments [h, w] and lit colours [v, 3] to ``out`` [h, w, 4]; the colour ``deep`` [3] where nothing is."""
    for row in range(triangle.shape[0]):
        for column in range(triangle.shape[1]):
            t = triangle[row, column]
            out[row, column, 3] = 0.0
            for c in range(3):
                total = deep[c]
                if t >= 0:
                    total = 0.0
                    for corner in range(3):
                        total += barycentric[row, column, corner] * colours[triangles[t, corner], c]
                out[row, column, c] = total


@njit(nogil=True, cache=True, error_model="numpy")
def lay_part(triangle, barycentric, depth, light, mirrored, triangles, texels, texture, is_teeth, out_depth, out):
    """A textured patch over ``out`` [h, w, 4] where it is nearer than ``out_depth`` [h, w] and covers.

    Fragments int32 [h, w], float32 [h, w, 3] and [h, w]; light and mirrored light [n, 3] 0..255; texels [n, 2] of texture [a, b, 5].
    """
    tint = np.empty(5, np.float32)
    lit, shine = np.empty(3, np.float32), np.empty(3, np.float32)
    for row in range(triangle.shape[0]):
        for column in range(triangle.shape[1]):
            t = triangle[row, column]
            if t < 0 or depth[row, column] >= out_depth[row, column]:
                continue
            x, y = 0.0, 0.0
            for c in range(3):
                lit[c], shine[c] = 0.0, 0.0
            for corner in range(3):
                weight, n = barycentric[row, column, corner], triangles[t, corner]
                x += weight * texels[n, 0]
                y += weight * texels[n, 1]
                for c in range(3):
                    lit[c] += weight * light[n, c]
                    shine[c] += weight * mirrored[n, c]
            i, a = texel_before(x, texture.shape[1])
            j, b = texel_before(y, texture.shape[0])
            w00, w01, w10, w11 = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
            for c in range(5):
                tint[c] = w00 * texture[j, i, c] + w01 * texture[j, i + 1, c] + w10 * texture[j + 1, i, c] + w11 * texture[j + 1, i + 1, c]
            cover = tint[3]
            for c in range(3):
                out[row, column, c] += cover * (min(tint[c] * lit[c] + tint[4] * shine[c], 255.0) - out[row, column, c])
            out[row, column, 3] += cover * (is_teeth - out[row, column, 3])
            if cover > 0.5:
                out_depth[row, column] = depth[row, column]


@njit(nogil=True, cache=True, error_model="numpy")
def shrink(fine, times, out):
    """Mean of ``times`` x ``times`` samples: [h, w, c] from [h * times, w * times, c]."""
    share = 1.0 / (times * times)
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            for c in range(out.shape[2]):
                total = 0.0
                for y in range(times):
                    for x in range(times):
                        total += fine[row * times + y, column * times + x, c]
                out[row, column, c] = total * share


@njit(nogil=True, cache=True, error_model="numpy")
def shadow(opening, upper_strength, upper_px, any_strength, any_px, narrow_px, light):
    """Write how much light the lips let in, to ``light`` float32 [h, w]: bool ``opening`` [h, w] tells where none are; distances in pixels.

    The upper lip throws a shadow down, any lip a little one; where lips are less than ``narrow_px`` apart, as at the corners, it is dark.
    """
    height, width = opening.shape
    below = np.zeros((height, width), np.float32)  # pixels down from the upper lip
    above = np.zeros((height, width), np.float32)  # pixels up from the lower lip
    near = np.zeros((height, width), np.float32)  # pixels to the nearest lip, taxicab
    for row in range(height):
        for column in range(width):
            if opening[row, column]:
                below[row, column] = (below[row - 1, column] if row else 0.0) + 1.0
                beside = near[row, column - 1] if column else 0.0
                near[row, column] = min(near[row - 1, column] if row else 0.0, beside) + 1.0
    for row in range(height - 1, -1, -1):
        for column in range(width - 1, -1, -1):
            if opening[row, column]:
                above[row, column] = (above[row + 1, column] if row + 1 < height else 0.0) + 1.0
                under = near[row + 1, column] if row + 1 < height else 0.0
                beside = near[row, column + 1] if column + 1 < width else 0.0
                near[row, column] = min(near[row, column], min(under, beside) + 1.0)
    for row in range(height):
        for column in range(width):
            light[row, column] = 0.0
            if not opening[row, column]:
                continue
            # A column's run jumps from tooth to tooth of a ragged lip: the mean of columns beside it.
            run, gap, count = 0.0, 0.0, 0
            for x in range(max(column - 2, 0), min(column + 3, width)):
                if opening[row, x]:
                    run += below[row, x]
                    gap += below[row, x] + above[row, x] - 1.0
                    count += 1
            share = 1.0 - upper_strength * math.exp(-run / count / upper_px)
            share *= 1.0 - any_strength * math.exp(-near[row, column] / any_px)
            light[row, column] = share * (1.0 - math.exp(-gap / count / narrow_px))
