"""Per-pixel work of the mouth's inside, compiled: layers of flesh and teeth to colours, averaging, and the shadow of the lips.

It has no plain twin.
"""

from __future__ import annotations

import math

import numpy as np

from triportrait.compiling import njit
from triportrait.geometry.texels import texel_before


@njit(nogil=True, cache=True, error_model="numpy")
def lay_flesh(triangle, barycentric, colours, triangles, out):
    """Plain surfaces: fragments [h, w] and lit colours [v, 3] to ``out`` [h, w, 4]; black where nothing is."""
    for row in range(triangle.shape[0]):
        for column in range(triangle.shape[1]):
            t = triangle[row, column]
            for c in range(4):
                out[row, column, c] = 0.0
            if t >= 0:
                for c in range(3):
                    total = 0.0
                    for corner in range(3):
                        total += barycentric[row, column, corner] * colours[triangles[t, corner], c]
                    out[row, column, c] = total


@njit(nogil=True, cache=True, error_model="numpy")
def lay_part(triangle, barycentric, depth, light, triangles, texels, texture, is_teeth, out_depth, out):
    """A textured patch over ``out`` [h, w, 4] where it is nearer than ``out_depth`` [h, w] and covers.

    Fragments int32 [h, w], float32 [h, w, 3] and [h, w]; light [n, 3] 0..255; texels [n, 2] of texture [a, b, 4].
    """
    for row in range(triangle.shape[0]):
        for column in range(triangle.shape[1]):
            t = triangle[row, column]
            if t < 0 or depth[row, column] >= out_depth[row, column]:
                continue
            x, y, red, green, blue = 0.0, 0.0, 0.0, 0.0, 0.0
            for corner in range(3):
                weight, n = barycentric[row, column, corner], triangles[t, corner]
                x += weight * texels[n, 0]
                y += weight * texels[n, 1]
                red += weight * light[n, 0]
                green += weight * light[n, 1]
                blue += weight * light[n, 2]
            i, a = texel_before(x, texture.shape[1])
            j, b = texel_before(y, texture.shape[0])
            w00, w01, w10, w11 = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
            cover = w00 * texture[j, i, 3] + w01 * texture[j, i + 1, 3] + w10 * texture[j + 1, i, 3] + w11 * texture[j + 1, i + 1, 3]
            for c in range(3):
                tint = w00 * texture[j, i, c] + w01 * texture[j, i + 1, c] + w10 * texture[j + 1, i, c] + w11 * texture[j + 1, i + 1, c]
                lit = tint * (red if c == 0 else (green if c == 1 else blue))
                out[row, column, c] += cover * (min(lit, 240.0) - out[row, column, c])
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
def shadow(opening, rgb, upper_strength, upper_px, any_strength, any_px):
    """Darken colours [h, w, >=3] behind the lips: bool ``opening`` [h, w] tells where none are; distances in pixels."""
    height, width = opening.shape
    below = np.zeros((height, width), np.float32)  # pixels down from the upper lip
    near = np.zeros((height, width), np.float32)  # pixels to the nearest lip, taxicab
    for row in range(height):
        for column in range(width):
            if opening[row, column]:
                above = below[row - 1, column] if row else 0.0
                below[row, column] = above + 1.0
                beside = near[row, column - 1] if column else 0.0
                near[row, column] = min(near[row - 1, column] if row else 0.0, beside) + 1.0
    for row in range(height - 1, -1, -1):
        for column in range(width - 1, -1, -1):
            if opening[row, column]:
                under = near[row + 1, column] if row + 1 < height else 0.0
                beside = near[row, column + 1] if column + 1 < width else 0.0
                near[row, column] = min(near[row, column], min(under, beside) + 1.0)
    for row in range(height):
        for column in range(width):
            # A column's run jumps from tooth to tooth of a ragged lip: three columns' mean.
            run, count = 0.0, 0
            for x in range(max(column - 1, 0), min(column + 2, width)):
                run += below[row, x]
                count += 1
            light = 1.0 - upper_strength * math.exp(-run / count / upper_px)
            light *= 1.0 - any_strength * math.exp(-near[row, column] / any_px)
            for c in range(3):
                rgb[row, column, c] *= light
