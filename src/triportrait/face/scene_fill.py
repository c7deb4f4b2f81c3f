"""A hole in a scene filled smoothly, and with the texture of the scene's own patches, from coarse to fine.

Sources: Wexler, Shechtman and Irani, "Space-time completion of video" (2007); search by Barnes et al., "PatchMatch" (2009).
"""

from __future__ import annotations

import numpy as np

from triportrait.geometry.filling import push_pull
from triportrait.geometry.nearest import nearest_pixels
from triportrait.types import Array

_SIDES_PX = (32, 64, 128, 256)
_PASSES = (6, 3, 2, 1)
_RADIUS = 3
#: Of the patches is kept what is smaller than this (pixels of a 512 px picture), so strongly.
_TEXTURE_PX, _STRENGTH = 16.0, 0.7
#: At most so many times as strong as half of the known scene's.
_USUAL = 3.0
#: Fewer known patches than this say nothing about the scene.
_FEWEST = 60


def fill_scene(image: Array, known: Array) -> Array:
    """Colours for all pixels of a square picture: float32 [s, s, 3], the known ones as they are.

    Args:
        image: uint8 [s, s, 3]; known: bool [s, s].
    """
    import cv2

    from triportrait.face.fill_kernels import search, vote

    size = len(image)
    smooth = push_pull(image.astype(np.float32), known.astype(np.float32))
    current: Array | None = None
    place: Array | None = None
    for level, (side, passes) in enumerate(zip(_SIDES_PX, _PASSES, strict=True)):
        share = cv2.resize(known.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        hole = share < 0.999
        window = np.ones((2 * _RADIUS + 1,) * 2, np.uint8)
        wanted = cv2.dilate(hole.astype(np.uint8), window).astype(bool)
        source = cv2.erode((~hole).astype(np.uint8), window, borderValue=(0,)).astype(bool)
        if source.sum() < _FEWEST or not hole.any():
            continue
        here = cv2.resize(smooth, (side, side), interpolation=cv2.INTER_AREA)
        if current is None or place is None:
            random = np.random.default_rng(level)
            rows, columns = np.nonzero(source)
            pick = random.integers(0, len(rows), hole.shape)
            place = np.stack([rows[pick], columns[pick]], -1).astype(np.int32)
        else:
            here = np.where(hole[..., None], cv2.resize(current, (side, side), interpolation=cv2.INTER_LINEAR), here)
            finer = cv2.resize(place.astype(np.float32), (side, side), interpolation=cv2.INTER_NEAREST) * 2
            finer[1::2, :, 0] += 1
            finer[:, 1::2, 1] += 1
            place = finer.astype(np.int32)
        place = _into(source, place)
        trust = (1.3 ** -cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)).astype(np.float32)
        cost = np.zeros(hole.shape, np.float32)
        here = np.ascontiguousarray(here, np.float32)
        for turn in range(passes):
            search(here, wanted, source, place, cost, _RADIUS, 2, 1 + turn + 16 * level)
            filled = np.empty_like(here)
            vote(here, hole, wanted, place, cost, trust, _RADIUS, filled)
            here = filled
        current = here
    if current is None:
        return smooth
    wide = _no_sharper(cv2.resize(current, (size, size), interpolation=cv2.INTER_CUBIC), image, known)
    whole = np.where(known[..., None], image.astype(np.float32), wide)
    # Patches bring texture; what is large and even is better guessed smoothly, and meets the scene without a step.
    texture = whole - cv2.GaussianBlur(whole, (0, 0), _TEXTURE_PX * size / 512)
    # It is no stronger than the scene's own: seams between patches are.
    limit = _USUAL * float(np.median(np.abs(texture[known]))) + 0.5
    return np.where(known[..., None], whole, smooth + _STRENGTH * np.clip(texture, -limit, limit))


def _no_sharper(filled: Array, image: Array, known: Array) -> Array:
    """``filled`` blurred until its edges are as soft as those of the ``known`` scene: out of focus, patches would meet in visible seams."""
    import cv2

    unit = len(image) / 512

    def steepness(picture: Array, where: Array) -> float:
        grey = picture.astype(np.float32).mean(-1)
        slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        return float(np.quantile(slope[where], 0.95))

    away = cv2.erode(known.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    if not away.any():
        return filled
    limit = steepness(cv2.GaussianBlur(image, (0, 0), 1.0 * unit), away)
    result = filled
    for width in (1.5, 2.5, 4.0, 6.0, 9.0, 13.0):
        if steepness(result, ~known) <= limit:
            break
        result = cv2.GaussianBlur(filled, (0, 0), width * unit)
    return result


def _into(source: Array, place: Array) -> Array:
    """Places [h, w, 2] moved to the nearest ``source``."""
    rows, columns = nearest_pixels(source)
    row, column = (np.clip(place[..., c], 0, n - 1) for c, n in ((0, source.shape[0]), (1, source.shape[1])))
    return np.stack([rows[row, column], columns[row, column]], -1).astype(np.int32)
