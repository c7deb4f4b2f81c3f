"""A hole in a scene filled with the scene's own patches, from coarse to fine, as sharp and as grainy as the scene is.

At its edge the scene goes on smoothly, and far from everything known it is smooth, too.

Sources: Wexler, Shechtman and Irani, "Space-time completion of video" (2007); search by Barnes et al., "PatchMatch" (2009).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from triportrait.geometry.filling import push_pull
from triportrait.geometry.nearest import nearest_pixels
from triportrait.types import Array

#: Sides of the coarsest and the finest pictures that are searched; a larger picture is shrunk to the latter.
_COARSEST_PX, _FINEST_PX = 32, 512
#: How often each picture is searched and voted on, from coarse to fine; the last number holds for all finer ones.
_PASSES = (6, 4, 2, 1, 1)
_RADIUS = 3
#: What a patch that comes from the picture's other side must be better by, as a difference of each colour.
_AWAY = 25.0
#: Farther from the known scene than this share of the picture's side, the fill is smooth.
_REACH = 0.1
#: What lies so near the hole's edge (pixels of a 512 px picture) on both sides is made to meet.
_EDGE_PX = 1.5
#: Along the edge what is lacking is evened out over so many times that width.
_EVEN_EDGE = 6.0
#: From so many levels on what is lacking counts less, and from twice as many on not at all: that is another thing, not another tone.
_TONE = 100.0
#: So near the edge (of the picture's side) the scene goes on smoothly rather than in patches, which may be another thing.
_GOES_ON = 0.027
#: Fewer known patches than this say nothing about the scene.
_FEWEST = 60


def fill_scene(image: Array, known: Array) -> Array:
    """Colours for all pixels of a square picture: float32 [s, s, 3], the known ones as they are.

    Args:
        image: uint8 [s, s, 3]; known: bool [s, s].
    """
    import cv2

    size = len(image)
    photo = image.astype(np.float32)
    smooth = push_pull(photo, known.astype(np.float32))
    patched = _patched(photo, known, smooth)
    if patched is None:
        return smooth
    if len(patched) != size:
        patched = cv2.resize(patched, (size, size), interpolation=cv2.INTER_CUBIC)
    patched = _no_sharper(patched, image, known)
    patched = patched + _step(photo, patched, known)
    from_edge = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 3) / size
    go_on = np.exp(-((from_edge / _GOES_ON) ** 2))[..., None]
    patched = go_on * smooth + (1 - go_on) * patched
    # Far from anything known nobody can say what is there: patches of several sides would meet in seams.
    away = from_edge / _REACH
    keep = np.exp(-(away**4))[..., None]
    filled = keep * patched + (1 - keep) * push_pull(patched, known | (away < 0.7))
    return np.where(known[..., None], photo, np.clip(filled, 0, 255)).astype(np.float32)


def _no_sharper(filled: Array, image: Array, known: Array) -> Array:
    """``filled`` blurred until its edges are as soft as those of the ``known`` scene: out of focus, patches would meet in visible seams."""
    import cv2

    unit = len(image) / 512

    def steepness(picture: Array, where: Array) -> float:
        grey = cv2.GaussianBlur(picture, (0, 0), unit).astype(np.float32).mean(-1)
        slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        return float(np.quantile(slope[where], 0.95))

    away = cv2.erode(known.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    if not away.any():
        return filled
    limit = steepness(image, away)
    result = filled
    for width in (1.0, 2.0, 3.0, 5.0, 8.0):
        if steepness(result, ~known) <= 1.1 * limit:
            break
        result = cv2.GaussianBlur(filled, (0, 0), width * unit)
    return result


def _step(photo: Array, filled: Array, known: Array) -> Array:
    """What the fill lacks to meet the photo at the hole's edge, spread smoothly over the hole: float32 [s, s, 3]."""
    import cv2

    # Narrower than a pixel it would not reach across the edge.
    width = max(_EDGE_PX * len(photo) / 512, 1.0)

    def beside(picture: Array, share: Array) -> Array:
        weight = cv2.GaussianBlur(share, (0, 0), width)
        return cv2.GaussianBlur(picture * share[..., None], (0, 0), width) / np.maximum(weight, 1e-6)[..., None]

    hole: Any = (~known).astype(np.uint8)
    edge = hole & cv2.dilate(1 - hole, np.ones((3, 3), np.uint8))
    lacks = beside(photo, known.astype(np.float32)) - beside(filled, hole.astype(np.float32))
    along = (edge * np.clip(2.0 - np.abs(lacks).max(-1) / _TONE, 0.0, 1.0)).astype(np.float32)
    if not along.any():
        return np.zeros_like(filled)
    # A line that goes on beside itself is no step.
    even = cv2.GaussianBlur(along, (0, 0), _EVEN_EDGE * width)
    evened = cv2.GaussianBlur(lacks * along[..., None], (0, 0), _EVEN_EDGE * width) / np.maximum(even, 1e-6)[..., None]
    return push_pull(evened.astype(np.float32), along)


def _patched(photo: Array, known: Array, smooth: Array) -> Array | None:
    """The hole made of known patches, at most ``_FINEST_PX`` wide: float32 [n, n, 3]; None if too little is known.

    Args:
        photo, smooth: float32 [s, s, 3]; known: bool [s, s].
    """
    import cv2

    from triportrait.face.fill_kernels import search, vote

    finest = min(len(photo), _FINEST_PX)
    sides = [finest]
    while sides[0] // 2 >= _COARSEST_PX:
        sides.insert(0, sides[0] // 2)
    current: Array | None = None
    place: Array | None = None
    window = np.ones((2 * _RADIUS + 1,) * 2, np.uint8)
    pictures = np.where(known[..., None], photo, smooth)
    for level, side in enumerate(sides):
        share = cv2.resize(known.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        hole = share < 0.999
        wanted = cv2.dilate(hole.astype(np.uint8), window).astype(bool)
        source = cv2.erode((~hole).astype(np.uint8), window, borderValue=(0,)).astype(bool)
        if source.sum() < _FEWEST or not hole.any():
            continue
        here = cv2.resize(pictures, (side, side), interpolation=cv2.INTER_AREA)
        if current is None or place is None:
            place = _mirrored(source)
        else:
            here = np.where(hole[..., None], cv2.resize(current, (side, side), interpolation=cv2.INTER_LINEAR), here)
            place = _finer(place, side)
        place = _into(source, place)
        trust = (1.3 ** -cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)).astype(np.float32)
        cost = np.zeros(hole.shape, np.float32)
        here = np.ascontiguousarray(here, np.float32)
        pull = np.float32(3 * window.size * (_AWAY / side) ** 2)
        for turn in range(_PASSES[min(level, len(_PASSES) - 1)]):
            search(here, wanted, source, place, cost, _RADIUS, 2 if side < 256 else 1, 1 + turn + 16 * level, pull)
            filled = np.empty_like(here)
            vote(here, hole, wanted, place, cost, trust, _RADIUS, filled)
            here = filled
        current = here
    return current


def _mirrored(source: Array) -> Array:
    """For each pixel the place [h, w, 2] that mirrors it at the edge of ``source`` [h, w]: what lies beside the hole goes on in it."""
    rows, columns = nearest_pixels(source)
    row, column = np.indices(source.shape)
    return np.stack([2 * rows - row, 2 * columns - column], -1)


def _finer(place: Array, side: int) -> Array:
    """Places of a picture half as wide, for each pixel of one that is ``side`` wide."""
    rows, columns = (np.minimum(np.arange(side) // 2, n - 1) for n in place.shape[:2])
    odd_row, odd_column = np.indices((side, side)) % 2
    return 2 * place[rows][:, columns] + np.stack([odd_row, odd_column], -1)


def _into(source: Array, place: Array) -> Array:
    """Places [h, w, 2] moved to the nearest ``source``."""
    rows, columns = nearest_pixels(source)
    row, column = (np.clip(place[..., c], 0, n - 1) for c, n in ((0, source.shape[0]), (1, source.shape[1])))
    return np.stack([rows[row, column], columns[row, column]], -1).astype(np.int32)
