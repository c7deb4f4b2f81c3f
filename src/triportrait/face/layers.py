"""Painting in the scene behind a person.

Source of the KNN fill: Real3D-Portrait, appendix B.4.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from triportrait.face.mattes import RESTLESS, ellipse, strangeness
from triportrait.face.scene_fill import fill_scene
from triportrait.geometry.filling import push_pull
from triportrait.geometry.nearest import nearest_pixels
from triportrait.types import Array

#: In the picture's side: how much round the matte is taken for the person, and how far wisps may fly.
_MARGIN, _REACH = 0.014, 0.08
#: An ornament or a loose strand covers less than this share of the picture, differs by so many levels, and has an edge no wider than this
#: part of the picture's side.
_ORNAMENT, _PLAIN, _EDGE = 0.0015, 8, 0.012
#: A larger piece is the scene's if the scene within this part of the picture's side has its colours: so many levels are one colour, and it
#: takes this share of that scene to count.
_NEAR, _ONE_COLOUR, _COMMON = 0.1, 24, 0.01
#: Nearer to the person than this the scene is never clear (in the picture's side).
_CLOSE = 0.006
#: What strays farther than this share of its distance from the line between scene and person is of neither.
_OFF_THE_LINE = 0.6
#: A piece of scene with less than this share of the picture, all round closed in by the person, tells nothing about the scene.
_ISLAND = 0.003


def nearest_fill(image: Array, known: Array) -> Array:
    """The published background: every unknown pixel takes the colour of the nearest known one (appendix B.4).

    Args:
        image: uint8 [h, w, 3]; known: bool [h, w], True where the colour is trusted.
    """
    if not known.any():
        return np.full_like(image, 127)
    return image[nearest_pixels(known)]


def background_behind(image: Array, person_alpha: Array, method: str = "smooth") -> Array:
    """The scene with the person painted out: uint8 [h, w, 3].

    Args:
        image: uint8 [h, w, 3].
        person_alpha: float32 [h, w].
        method: ``"smooth"`` (multi-scale, with the scene's own texture) or ``"knn"`` (as published).
    """
    touched = persons_pixels(image, person_alpha)
    return nearest_fill(image, ~touched) if method == "knn" else painted_in(image, touched)


def painted_in(image: Array, hidden: Array) -> Array:
    """The scene ``image`` uint8 [h, w, 3], painted in where it is ``hidden`` bool [h, w], with its own texture: uint8 [h, w, 3]."""
    if hidden.all():
        return np.full_like(image, 127)
    if not hidden.any():
        return image.copy()
    return np.clip(_with_grain(fill_scene(image, ~hidden), image, hidden) + 0.5, 0, 255).astype(np.uint8)


def scene_colours(image: Array, person_alpha: Array) -> Array:
    """A quick, smooth guess at the scene, for what shines through the person's soft edges: float32 [h, w, 3].

    Args:
        image: uint8 [h, w, 3]; person_alpha: float32 [h, w].
    """
    import cv2

    known = cv2.dilate((person_alpha > 0.02).astype(np.uint8), ellipse(_MARGIN * max(image.shape[:2]))) == 0
    return push_pull(image.astype(np.float32), known.astype(np.float32))


def persons_pixels(image: Array, person_alpha: Array) -> Array:
    """What must go if the person goes: bool [h, w]. Besides the matte itself these are wisps and earrings that it may have missed.

    Args:
        image: uint8 [h, w, 3]; person_alpha: float32 [h, w].
    """
    import cv2

    size = max(image.shape[:2])
    person = (person_alpha > 0.02).astype(np.uint8)
    if not person.any():
        return person.astype(bool)
    touched = cv2.dilate(person, ellipse(_MARGIN * size))
    free = touched == 0
    if not free.any():
        return touched.astype(bool)
    # Strange colours that hang together with the person are the person's; a restless scene has strange colours of its own.
    strange, usual = strangeness(image.astype(np.float32) / 255.0, free, 0.03 * size)
    reach = cv2.distanceTransform(1 - person, cv2.DIST_L2, 3) < _REACH * size
    candidates = ((strange > np.exp(usual / RESTLESS)) & reach).astype(np.uint8) | touched
    _, labels = cv2.connectedComponents(cv2.dilate(candidates, ellipse(0.01 * size)))
    own = np.isin(labels, np.unique(labels[person > 0])) & (candidates > 0)
    own = _like_the_person(image, person_alpha, own & free, free)
    touched = np.maximum(touched, cv2.dilate(own.astype(np.uint8), ellipse(_MARGIN / 2 * size)))
    touched = cv2.morphologyEx(touched, cv2.MORPH_CLOSE, ellipse(0.02 * size))
    touched = touched & ~_clear_scene(image, touched.astype(bool), (person > 0) | own)
    # An island between strands shows more of them than of the scene.
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - touched, connectivity=4)
    island = stats[:, cv2.CC_STAT_AREA] < _ISLAND * size**2
    # What the picture's border cuts may go on beyond it.
    island[np.unique(np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()]))] = False
    return touched.astype(bool) | island[labels]


def _clear_scene(image: Array, touched: Array, surely: Array) -> Array:
    """Where what is ``touched`` looks like the scene beside it after all: uint8 [h, w]. A sofa goes on up to the shoulder.

    Args:
        touched, surely: bool [h, w], what may be the person's, and what certainly is.
    """
    import cv2

    if touched.all():
        return np.zeros(touched.shape, np.uint8)
    size = max(touched.shape)
    soft = cv2.GaussianBlur(image, (0, 0), 0.002 * size).astype(np.int16)
    alike = np.abs(soft - soft[nearest_pixels(~touched)]).max(-1) < _ONE_COLOUR
    # The person's own pixels blur into their neighbours.
    beside = cv2.dilate(surely.astype(np.uint8), ellipse(_CLOSE * size)) > 0
    clear = (alike & touched & ~beside).astype(np.uint8)
    return cv2.morphologyEx(clear | ~touched, cv2.MORPH_OPEN, ellipse(_CLOSE * size)) & touched


def _like_the_person(image: Array, person_alpha: Array, pieces: Array, free: Array) -> Array:
    """Those of ``pieces`` bool [h, w] that are small and sharp, as an earring is, or lie between the scene's colours and the person's.

    So do wisps. A lamp beside the hair lies on neither's way to the other, and is out of focus. A sofa goes on where no piece is.

    Args:
        free: bool [h, w], where there is scene or a piece.
    """
    import cv2

    picture = image.astype(np.float32)
    scene = push_pull(picture, (free & ~pieces).astype(np.float32))
    towards = push_pull(picture, (person_alpha > 0.95).astype(np.float32)) - scene
    away = picture - scene
    part = (away * towards).sum(-1) / np.maximum((towards**2).sum(-1), 1.0)
    stray = np.linalg.norm(away - np.clip(part, 0.0, 1.0)[..., None] * towards, axis=-1)
    explained = (stray < _OFF_THE_LINE * np.linalg.norm(away, axis=-1)).ravel()
    _, labels = cv2.connectedComponents(pieces.astype(np.uint8))
    which: Any = labels.ravel()
    area = np.bincount(which)
    height, steepest = np.zeros(len(area)), np.zeros(len(area))
    down, across = np.gradient(picture.mean(-1))
    np.maximum.at(height, which, np.abs(away.mean(-1)).ravel())
    np.maximum.at(steepest, which, np.hypot(down, across).ravel())
    share = np.bincount(which, explained) / np.maximum(area, 1)
    sharp = (height > _PLAIN) & (steepest * _EDGE * max(pieces.shape) > height)
    small = area < _ORNAMENT * pieces.size
    own = (small & sharp) | (share > 0.5)
    for label in np.flatnonzero(own & ~small):
        own[label] = not goes_on(image, labels == label, free & ~pieces)
    return pieces & own[labels]


def goes_on(image: Array, piece: Array, scene: Array) -> bool:
    """Whether most of a ``piece`` bool [h, w] of an image uint8 [h, w, 3] has colours of the ``scene`` bool [h, w] round it."""
    import cv2

    reach = round(_NEAR * max(piece.shape))
    row, column = np.nonzero(piece)
    box = tuple(slice(max(int(at.min()) - reach, 0), int(at.max()) + reach + 1) for at in (row, column))
    image, piece, scene = image[box], piece[box], scene[box]
    scene = scene & (cv2.distanceTransform((~piece).astype(np.uint8), cv2.DIST_L2, 3) < reach)
    if not scene.any():
        return False
    bins = [256 // _ONE_COLOUR + 1] * 3
    common = cv2.calcHist([image], [0, 1, 2], scene.astype(np.uint8), bins, [0, _ONE_COLOUR * bins[0]] * 3) > _COMMON * scene.sum()
    at = (image[piece] // _ONE_COLOUR).astype(int)
    return bool(common[tuple(at.T)].mean() > 0.5)


def _with_grain(filled: Array, image: Array, hole: Array) -> Array:
    """``filled`` [h, w, 3] with as much fine noise in the ``hole`` as the scene round it has; without it a fill looks like plastic."""
    import cv2

    def fine(picture: Array) -> Array:
        return (picture - cv2.GaussianBlur(picture, (0, 0), 1.5)).mean(-1)

    def strength(values: Array, where: Array) -> float:
        return 1.48 * float(np.median(np.abs(values[where]))) if where.any() else 0.0

    wanted, present = strength(fine(image.astype(np.float32)), ~hole), strength(fine(filled), hole)
    missing = np.sqrt(max(min(wanted, 4.0) ** 2 - present**2, 0.0))
    noise = np.random.default_rng(0).normal(0, missing, (*image.shape[:2], 1)).astype(np.float32)
    return np.where(hole[..., None], filled + noise, filled)
