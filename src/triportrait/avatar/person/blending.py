"""How the pictures of a person become one: by their shares, head and body each by their own, and mouth and eyes in windows.

Low frequencies are blended, detail comes from the best picture, and each pixel from those whose photos saw it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.person import blend_kernels as kernels
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.geometry.parts import PicturePart, around
from triportrait.types import Array, RenderedHead

#: Below this width (pixels of a 512 px crop) is detail, and comes from the best picture alone.
_DETAIL_PX = 2.0
#: How much surer than the next the best picture's detail is taken.
_BEST = 2
#: A picture of no more than this share is not worth its time; what it has above it fades in.
FAINT = 0.01
#: So many pictures are blended at most: two for the head and two for the body.
_MOST_PICTURES = 4
#: Below the chin head goes over into body between these heights of the face, beside the face in the second pair, from the face's middle.
_NECK, _BESIDE, _ABOVE = (-0.3, 0.5), (0.4, 0.8), (-0.2, 0.2)
#: The map of what is head is computed on a grid so many times coarser.
_COARSER = 8
#: Outlines are compared on a grid of this step (pixels of a 512 px crop) and moved over so many steps at most; they part where their
#: distances deviate by more than the third number of steps, and fully so by the last more.
_OUTLINE_STEP, _OUTLINE_REACH, _AGREE, _PARTED = 4, 8.0, 0.6, 0.6
#: Round lips and eyes a window reaches so far beyond the outline (sizes of it), and ends as softly.
_REACH, _SOFT = 0.35, 0.16
#: A part is drawn so many pixels beyond what is shown of it: its border is not smoothed.
_BORDER_PX = 2


@dataclass(frozen=True, slots=True)
class Drawn:
    """A ``part`` of a picture as it was drawn: [h, w] pixels."""

    picture: RenderedHead
    part: PicturePart

    def colours(self, box: PicturePart) -> Array:
        """Its colours float32 [h, w, 3] in a ``box`` that lies within its part."""
        left, top = box.left - self.part.left, box.top - self.part.top
        return self.picture.rgb[top : top + box.height, left : left + box.width]

    def holds(self, box: PicturePart) -> bool:
        """Whether ``box`` lies within its part."""
        return around([self.part, box]) == self.part


def head_map(landmarks: Array, size: int) -> Array:
    """1 on head and hair, 0 on the body, and between them on the neck: float32 [s, s]; landmarks [478, 2] in pixels."""
    import cv2

    chin, top = landmarks[CHIN, :2].astype(np.float64), landmarks[FOREHEAD_TOP, :2].astype(np.float64)
    height = max(float(np.linalg.norm(chin - top)), 1.0)
    down = (chin - top) / height
    line = (np.arange(max(size // _COARSER, 2)) + 0.5) * (size / max(size // _COARSER, 2))
    x, y = np.meshgrid(line - chin[0], line - chin[1])
    below, beside = (x * down[0] + y * down[1]) / height, np.abs(x * down[1] - y * down[0]) / height

    def before(value: Array, band: tuple[float, float]) -> Array:
        return np.clip((band[1] - value) / (band[1] - band[0]), 0.0, 1.0)

    coarse = np.maximum(before(below, _NECK) * before(beside, _BESIDE), before(below, _ABOVE)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR))


def part_of(of_head: Array, head: float, body: float) -> PicturePart:
    """Where a picture with these shares counts, in a picture of which ``of_head`` [s, s] is 1 on the head and 0 on the body."""
    size = len(of_head)
    if head and body:
        return PicturePart(0, 0, size, size)
    shown = of_head > 0 if head else of_head < 1
    rows, columns = (np.flatnonzero(shown.any(axis)) for axis in (1, 0))
    if not len(rows):
        return PicturePart(0, 0, 1, 1)
    top, left = max(int(rows[0]) - _BORDER_PX, 0), max(int(columns[0]) - _BORDER_PX, 0)
    bottom, right = min(int(rows[-1]) + 1 + _BORDER_PX, size), min(int(columns[-1]) + 1 + _BORDER_PX, size)
    return PicturePart(left, top, right - left, bottom - top)


def blended(pictures: list[Drawn], head: Array, body: Array, of_head: Array) -> tuple[Array, Array]:
    """Premultiplied colours [s, s, 3] and alpha [s, s]: low frequencies by shares, detail nearly of the best picture alone.

    Where one picture has but a guess, those count whose photos saw what is shown there.

    Args:
        pictures: k, drawn at least where :func:`part_of` says.
        head, body: [k], their shares where ``of_head`` [s, s] is 1 and where it is 0.
    """
    import cv2

    size = len(of_head)
    if len(pictures) == 1:
        return pictures[0].picture.rgb.copy(), pictures[0].picture.alpha
    sharp, soft = (np.stack(shares, 1).astype(np.float32) for shares in ((sharper(head), sharper(body)), (head, body)))
    drawn = [(one.rgb, one.alpha, np.ones_like(one.alpha) if one.seen is None else one.seen) for one in (each.picture for each in pictures)]
    places = [(one.part.top, one.part.left, one.part.height, one.part.width) for one in pictures]
    # Always as many, some of them empty: a kernel is compiled for each length of a tuple, in the middle of a video.
    empty = np.empty((0, 0, 3), np.float32), np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
    drawn += [empty] * (_MOST_PICTURES - len(drawn))
    places += [(0, 0, 0, 0)] * (_MOST_PICTURES - len(places))
    rgb, change = np.empty((2, size, size, 3), np.float32)
    alpha = np.empty((size, size), np.float32)
    outline = _morphed(pictures, sharp, of_head)
    kernels.blend(tuple(drawn), np.array(places, np.int32), of_head, sharp, soft, outline, rgb, alpha, change)
    kernels.settle(cv2.GaussianBlur(change, (0, 0), _DETAIL_PX * size / 512), alpha, rgb)
    return rgb, alpha


def _morphed(pictures: list[Drawn], sharp: Array, of_head: Array) -> Array:
    """How far inside an outline between those of the pictures each pixel lies, in pixels, and how far they do not agree: float32 [s, s, 2].

    The mean of two alphas is a ghost of either outline; the zero of the mean of signed distances is one outline, which moves as shares do.

    Args:
        sharp: [k, 2], shares on head and body.
    """
    import cv2

    size = len(of_head)
    step = max(round(_OUTLINE_STEP * size / 512), 1)
    on_head = of_head[::step, ::step]
    total, away, square = np.zeros((3, *on_head.shape), np.float32)
    for one, (head, body) in zip(pictures, sharp, strict=True):
        first_row, first_column = -one.part.top % step, -one.part.left % step
        drawn = one.picture.alpha[first_row::step, first_column::step]
        top, left = (one.part.top + first_row) // step, (one.part.left + first_column) // step
        shown: Array = np.zeros(on_head.shape, np.float32)
        shown[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
        solid = (shown > 0.5).astype(np.uint8)
        inside, outside = (cv2.distanceTransform(part, cv2.DIST_L2, 3) for part in (solid, 1 - solid))
        share = body + (head - body) * on_head
        distance = np.clip(inside - outside, -_OUTLINE_REACH, _OUTLINE_REACH)
        total += share
        away += share * distance
        square += share * distance**2
    per = 1.0 / np.maximum(total, 1e-6)
    away *= per
    deviation = np.sqrt(np.maximum(square * per - away**2, 0.0))
    # Near the outline alone, where one picture shows the person and another does not; soft hair that lies alike stays soft.
    parted = np.clip((cv2.blur(deviation, (3, 3)) - _AGREE) / _PARTED, 0.0, 1.0)
    # Distances on a grid have steps.
    away = step * cv2.GaussianBlur(away, (0, 0), 1.0)
    return np.asarray(cv2.resize(np.dstack([away, parted]), (size, size), interpolation=cv2.INTER_LINEAR))


def sharper(share: Array) -> Array:
    """The shares [k] that pictures with these shares have of detail: without the faint ones."""
    best = share**_BEST
    shown = np.maximum(best / best.sum() - FAINT, 0.0)
    return np.asarray(shown / shown.sum())


def window_of(outline: Array, size: int) -> PicturePart | None:
    """What a window round an ``outline`` [n, 2] may change in a picture of ``size`` pixels; None where that is nothing."""
    low, high = outline.min(0), outline.max(0)
    margin = (_REACH + 2 * _SOFT) * float((high - low)[0])
    left, top = np.clip(np.floor(low - margin), 0, size).astype(int)
    right, bottom = np.clip(np.ceil(high + margin), 0, size).astype(int)
    if right - left < 4 or bottom - top < 4:
        return None
    return PicturePart(int(left), int(top), int(right - left), int(bottom - top))


def put_window(rgb: Array, pictures: list[Drawn], share: Array, outline: Array, window: PicturePart) -> None:
    """Blend the ``window`` of pictures round an outline [n, 2] into ``rgb`` [s, s, 3], in the light that it has there; in place.

    Args:
        pictures: k, whose parts hold the window, and ``share`` [k] of them (:func:`sharper`).
    """
    import cv2

    low, high = outline.min(0), outline.max(0)
    extent = float((high - low)[0])
    middle = 0.5 * (low + high) - (window.left, window.top)
    mask: Array = np.zeros((window.height, window.width), np.float32)
    radii = 0.5 * (high - low) + _REACH * extent
    cv2.ellipse(mask, (tuple(middle.tolist()), tuple((2 * radii).tolist()), 0.0), 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), max(0.5 * _SOFT * extent, 0.8))
    shown = np.zeros((window.height, window.width, 3), np.float32)
    for own, one in zip(share.astype(np.float32), pictures, strict=True):
        kernels.add_share(one.colours(window), own, shown)
    kernels.lay_window(shown, mask, rgb[window.box])
