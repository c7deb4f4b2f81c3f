"""A hair-fine matte from a trimap: colours sampled on both sides of the unknown band, then one sparse system over the photo's own edges.

Sources: He, Rhemann, Rother, Tang and Sun, "A global sampling method for alpha matting" (2011); Levin, Lischinski and Weiss, "A closed-form
solution to natural image matting" (2008), whose Laplacian is solved by conjugate gradients without ever being written down.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from triportrait.geometry.nearest import distance_of, nearest_pixels
from triportrait.types import Array

#: Added to the colours' covariance in each window of 3 x 3 pixels, colours in 0..1: noise of a JPEG is not an edge.
_NOISE = 1e-5
#: Passes of the search for the best pair of colours.
_SEARCHES = 4
#: Steps of the conjugate gradients at most, and the share of the residual at which they end.
_STEPS, _RESIDUAL = 80, 2e-3


class Sampled(NamedTuple):
    """What the best pair of a person's and a scene's colour says: alpha, trust and both colours, float32 [h, w], [h, w], [h, w, 3] x 2."""

    alpha: Array
    trust: Array
    front: Array
    back: Array


def sampled_matte(image: Array, inside: Array, outside: Array, scene: Array) -> Sampled:
    """For each unknown pixel, the pair of known colours that explains it best as their mixture, and how surely.

    Args:
        image: float32 [h, w, 3] in 0..1.
        inside, outside: bool [h, w], certainly person, certainly scene.
        scene: float32 [h, w, 3], the scene continued behind the band: one more candidate for the scene's colour.
    """
    import cv2

    from triportrait.face.matte_kernels import best_pairs

    unknown = ~inside & ~outside
    ring = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    near = cv2.dilate(unknown.astype(np.uint8), ring, iterations=2).astype(bool)
    sides = []
    for side in (inside, outside):
        places = np.argwhere(side & near)
        order = np.argsort(image[places[:, 0], places[:, 1]].sum(-1), kind="stable")
        places = places[order].astype(np.int32)
        index = np.full(unknown.shape, -1, np.int32)
        index[places[:, 0], places[:, 1]] = np.arange(len(places))
        sides.append((places, *_nearest(side & near, index)))
    (fronts, first, front_px), (backs, second, back_px) = sides
    alpha, cost = np.zeros(unknown.shape, np.float32), np.zeros(unknown.shape, np.float32)
    colours = np.zeros((2, *image.shape), np.float32)
    if not len(fronts):
        return Sampled(alpha, cost, colours[0], colours[1])
    best_pairs(image, scene, unknown, fronts, backs, first, second, front_px, back_px, _SEARCHES, alpha, cost, colours)
    apart = np.sqrt(((colours[0] - colours[1]) ** 2).sum(-1))
    trust = np.exp(-cost / 0.03) * np.clip((apart - 0.06) / 0.25, 0.0, 1.0) * unknown
    return Sampled(alpha, trust.astype(np.float32), colours[0], colours[1])


def _nearest(places: Array, index: Array) -> tuple[Array, Array]:
    """For each pixel the ``index`` [h, w] of the nearest of ``places`` bool [h, w], and how many pixels away that is."""
    rows, columns = nearest_pixels(places)
    away = distance_of((rows, columns))
    return np.ascontiguousarray(index[rows, columns]), away.astype(np.float32)


def closed_form_matte(image: Array, wanted: Array, weight: Array, start: Array, free: Array) -> Array:
    """The matte that is locally a line in the photo's colours and close to ``wanted`` where ``weight`` says so: float32 [h, w].

    Args:
        image: float32 [h, w, 3] in 0..1.
        wanted, weight: float32 [h, w]; start: float32 [h, w], where to begin.
        free: bool [h, w], what is to be solved; the others stay as ``start`` has them.
    """
    import cv2

    from triportrait.face.matte_kernels import add_laplacian, window_statistics

    # Windows that hold at least one free pixel matter.
    touched = cv2.dilate(free.astype(np.uint8), np.ones((3, 3), np.uint8))
    touched[[0, -1]] = touched[:, [0, -1]] = 0
    centres = np.ascontiguousarray(np.argwhere(touched), np.int32)
    if not len(centres):
        return start.astype(np.float32)
    means, inverses = np.empty((len(centres), 3), np.float32), np.empty((len(centres), 6), np.float32)
    diagonal = np.zeros(free.shape, np.float32)
    window_statistics(image, centres, _NOISE, means, inverses, diagonal)

    def product(values: Array) -> Array:
        out = weight * values
        add_laplacian(image, centres, means, inverses, values, out)
        return np.where(free, out, 0.0).astype(np.float32)

    inverse = np.where(free, 1.0 / np.maximum(diagonal + weight, 1e-6), 0.0).astype(np.float32)
    alpha = start.astype(np.float32).copy()
    residual = np.where(free, weight * wanted, 0.0).astype(np.float32) - product(alpha)
    scaled = inverse * residual
    direction, power = scaled, float(np.vdot(residual, scaled))
    enough = power * _RESIDUAL**2
    for _ in range(_STEPS):
        if power <= enough or power == 0.0:
            break
        moved = product(direction)
        step = power / float(np.vdot(direction, moved))
        alpha += step * direction
        residual -= step * moved
        scaled = inverse * residual
        before, power = power, float(np.vdot(residual, scaled))
        direction = scaled + (power / before) * direction
    return alpha
