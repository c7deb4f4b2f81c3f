"""The per-pixel arithmetic of the guided filter and of matting, compiled by numba on first use. It has no plain twin."""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit
from triportrait.types import Array


@njit(nogil=True, cache=True, error_model="numpy")
def local_lines(means: Array, squares: Array, crosses: Array, levels: Array, epsilon: float, slope: Array, offset: Array) -> None:
    """``slope`` [h, w, 3] and ``offset`` [h, w] of the line that best gives the values from the guide's colours round each pixel.

    Args:
        means: [h, w, 3], mean colour of the guide round each pixel.
        squares: [h, w, 6], mean products of its channels: 00, 01, 02, 11, 12, 22.
        crosses: [h, w, 3], mean products of channel and value.
        levels: [h, w], mean value.
        epsilon: added to the covariance's diagonal (He, Sun and Tang, 2013, eq. 19).
        slope, offset: filled.
    """
    height, width = levels.shape
    for y in range(height):
        for x in range(width):
            r, g, b = np.float64(means[y, x, 0]), np.float64(means[y, x, 1]), np.float64(means[y, x, 2])
            level = np.float64(levels[y, x])
            a00, a01, a02 = squares[y, x, 0] - r * r + epsilon, squares[y, x, 1] - r * g, squares[y, x, 2] - r * b
            a11, a12, a22 = squares[y, x, 3] - g * g + epsilon, squares[y, x, 4] - g * b, squares[y, x, 5] - b * b + epsilon
            c0, c1, c2 = crosses[y, x, 0] - r * level, crosses[y, x, 1] - g * level, crosses[y, x, 2] - b * level
            # The inverse of a symmetric matrix by its cofactors.
            i00, i01, i02 = a11 * a22 - a12 * a12, a02 * a12 - a01 * a22, a01 * a12 - a02 * a11
            i11, i12, i22 = a00 * a22 - a02 * a02, a01 * a02 - a00 * a12, a00 * a11 - a01 * a01
            scale = 1.0 / (a00 * i00 + a01 * i01 + a02 * i02)
            s0 = (i00 * c0 + i01 * c1 + i02 * c2) * scale
            s1 = (i01 * c0 + i11 * c1 + i12 * c2) * scale
            s2 = (i02 * c0 + i12 * c1 + i22 * c2) * scale
            slope[y, x, 0], slope[y, x, 1], slope[y, x, 2] = s0, s1, s2
            offset[y, x] = level - s0 * r - s1 * g - s2 * b


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _misfit(image, row, column, front, back):
    """(alpha, squared distance) of the pixel from the line between two colours."""
    along, length = np.float32(0), np.float32(1e-6)
    for c in range(3):
        line = front[c] - back[c]
        along += (image[row, column, c] - back[c]) * line
        length += line * line
    alpha = min(max(along / length, np.float32(0)), np.float32(1))
    stray = np.float32(0)
    for c in range(3):
        step = image[row, column, c] - alpha * front[c] - (np.float32(1) - alpha) * back[c]
        stray += step * step
    return alpha, stray


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _away(places, index, row, column, least):
    """How far the sample lies, in units of the nearest one's distance (He et al., 2011, eq. 4)."""
    v, u = np.float32(places[index, 0] - row), np.float32(places[index, 1] - column)
    return np.sqrt(v * v + u * u) / max(least, np.float32(1))


@njit(nogil=True, cache=True, error_model="numpy")
def best_pairs(image, scene, unknown, fronts, backs, first, second, front_px, back_px, rounds, alpha, cost, colours):
    """The pair of samples that explains each unknown pixel best (He et al., 2011): propagation and random search over both sets.

    Args:
        image, scene: float32 [h, w, 3]; the scene's colour at the pixel itself is one more sample (index -1).
        unknown: bool [h, w].
        fronts, backs: int32 [n, 2], row and column of the samples, sorted by brightness.
        first, second: int32 [h, w], index of the nearest sample of each set: replaced by the best.
        front_px, back_px: float32 [h, w], how far the nearest is.
        rounds: how often.
        alpha, cost: float32 [h, w], and colours: float32 [2, h, w, 3], front and back: filled. The cost is the misfit alone.
    """
    height, width = unknown.shape
    state = np.uint64(88172645463325252)
    fit = np.full((height, width), np.float32(np.inf))
    strength = np.float32(255.0 / 5.0)
    for turn in range(rounds):
        step = 1 if turn % 2 == 0 else -1
        for a in range(height):
            row = a if step > 0 else height - 1 - a
            for b in range(width):
                column = b if step > 0 else width - 1 - b
                if not unknown[row, column]:
                    continue
                best = fit[row, column]
                f, s = first[row, column], second[row, column]
                reach_f, reach_s = len(fronts), len(backs)
                trial = 0
                while True:
                    # The pixel's own pair and the scene behind it; then its neighbours' pairs; then chance, ever nearer.
                    if trial == 0:
                        tf, ts = first[row, column], second[row, column]
                        if turn > 0:
                            trial += 1
                            continue
                    elif trial == 1:
                        tf, ts = f, -1
                    elif trial < 8:
                        n = trial - 2
                        y, x = row - (step if n % 2 == 0 else 0), column - (step if n % 2 == 1 else 0)
                        if not (0 <= y < height and 0 <= x < width) or not unknown[y, x]:
                            trial += 1
                            continue
                        tf, ts = first[y, x], second[y, x]
                        if n // 2 == 1:
                            ts = s
                        elif n // 2 == 2:
                            tf = f
                    else:
                        if reach_f < 1 and reach_s < 1:
                            break
                        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                        tf = f + int((state >> np.uint64(33)) % np.uint64(2 * reach_f + 1)) - reach_f
                        state = state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
                        base = s if s >= 0 else len(backs) // 2
                        ts = base + int((state >> np.uint64(33)) % np.uint64(2 * reach_s + 1)) - reach_s
                        tf, ts = min(max(tf, 0), len(fronts) - 1), min(max(ts, 0), len(backs) - 1)
                        if trial % 2 == 1:
                            ts = s
                        else:
                            reach_f, reach_s = reach_f // 2, reach_s // 2
                    trial += 1
                    front = image[fronts[tf, 0], fronts[tf, 1]]
                    if ts < 0:
                        mix, stray = _misfit(image, row, column, front, scene[row, column])
                        far = np.float32(1)
                    else:
                        mix, stray = _misfit(image, row, column, front, image[backs[ts, 0], backs[ts, 1]])
                        far = _away(backs, ts, row, column, back_px[row, column])
                    total = strength * np.sqrt(stray) + _away(fronts, tf, row, column, front_px[row, column]) + far
                    if total < best:
                        best, f, s = total, tf, ts
                        alpha[row, column], cost[row, column] = mix, np.sqrt(stray)
                fit[row, column], first[row, column], second[row, column] = best, f, s
    for row in range(height):
        for column in range(width):
            if unknown[row, column]:
                f, s = first[row, column], second[row, column]
                for c in range(3):
                    colours[0, row, column, c] = image[fronts[f, 0], fronts[f, 1], c]
                    colours[1, row, column, c] = scene[row, column, c] if s < 0 else image[backs[s, 0], backs[s, 1], c]


@njit(nogil=True, cache=True, error_model="numpy")
def window_statistics(image, centres, epsilon, means, inverses, diagonal):
    """Mean colour and inverse covariance (00, 01, 02, 11, 12, 22) of windows of 3 x 3 pixels, and the Laplacian's diagonal.

    Args:
        image: float32 [h, w, 3]; centres: int32 [n, 2]; epsilon: added to the covariance's diagonal, over nine (Levin et al., eq. 12).
        means: float32 [n, 3], inverses: [n, 6], diagonal: [h, w]: filled; the diagonal is added to.
    """
    for k in range(len(centres)):
        row, column = centres[k, 0], centres[k, 1]
        m = np.zeros(3, np.float64)
        for j in range(-1, 2):
            for i in range(-1, 2):
                for c in range(3):
                    m[c] += image[row + j, column + i, c] / 9.0
        a00, a11, a22 = epsilon / 9.0, epsilon / 9.0, epsilon / 9.0
        a01, a02, a12 = 0.0, 0.0, 0.0
        for j in range(-1, 2):
            for i in range(-1, 2):
                r, g, b = (image[row + j, column + i, 0] - m[0], image[row + j, column + i, 1] - m[1], image[row + j, column + i, 2] - m[2])
                a00 += r * r / 9.0
                a01 += r * g / 9.0
                a02 += r * b / 9.0
                a11 += g * g / 9.0
                a12 += g * b / 9.0
                a22 += b * b / 9.0
        i00, i01, i02 = a11 * a22 - a12 * a12, a02 * a12 - a01 * a22, a01 * a12 - a02 * a11
        i11, i12, i22 = a00 * a22 - a02 * a02, a01 * a02 - a00 * a12, a00 * a11 - a01 * a01
        scale = 1.0 / (a00 * i00 + a01 * i01 + a02 * i02)
        inverses[k, 0], inverses[k, 1], inverses[k, 2] = i00 * scale, i01 * scale, i02 * scale
        inverses[k, 3], inverses[k, 4], inverses[k, 5] = i11 * scale, i12 * scale, i22 * scale
        for c in range(3):
            means[k, c] = m[c]
        for j in range(-1, 2):
            for i in range(-1, 2):
                r, g, b = (image[row + j, column + i, 0] - m[0], image[row + j, column + i, 1] - m[1], image[row + j, column + i, 2] - m[2])
                spread = scale * (r * (i00 * r + 2 * i01 * g + 2 * i02 * b) + g * (i11 * g + 2 * i12 * b) + b * i22 * b)
                diagonal[row + j, column + i] += 1.0 - (1.0 + spread) / 9.0


@njit(nogil=True, cache=True, error_model="numpy", fastmath=True)
def add_laplacian(image, centres, means, inverses, values, out):
    """``out`` [h, w] plus the matting Laplacian times ``values`` [h, w] (Levin et al., 2008, eq. 12), window by window.

    Args:
        image: float32 [h, w, 3]; centres, means, inverses: of :func:`window_statistics`.
    """
    ninth = np.float32(1.0 / 9.0)
    for k in range(len(centres)):
        row, column = centres[k, 0], centres[k, 1]
        m0, m1, m2 = means[k, 0], means[k, 1], means[k, 2]
        total, x0, x1, x2 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for j in range(-1, 2):
            for i in range(-1, 2):
                p = values[row + j, column + i]
                total += p
                x0 += p * (image[row + j, column + i, 0] - m0)
                x1 += p * (image[row + j, column + i, 1] - m1)
                x2 += p * (image[row + j, column + i, 2] - m2)
        s0 = inverses[k, 0] * x0 + inverses[k, 1] * x1 + inverses[k, 2] * x2
        s1 = inverses[k, 1] * x0 + inverses[k, 3] * x1 + inverses[k, 4] * x2
        s2 = inverses[k, 2] * x0 + inverses[k, 4] * x1 + inverses[k, 5] * x2
        for j in range(-1, 2):
            for i in range(-1, 2):
                r, g, b = (image[row + j, column + i, 0] - m0, image[row + j, column + i, 1] - m1, image[row + j, column + i, 2] - m2)
                out[row + j, column + i] += values[row + j, column + i] - ninth * (total + s0 * r + s1 * g + s2 * b)
