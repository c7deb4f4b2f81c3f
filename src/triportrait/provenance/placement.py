"""Where the marked frame lies, when a picture shows only a part of it, or shows it within a larger one.

The fixed mark is a template. A picture is scaled to each size that it may have relative to the marked frame, and one
inverse transform then scores every place at once. What scores best is cut out, brought to the canonical grid and
judged like any other picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from triportrait.provenance.votes import CANONICAL_PX, mark_score
from triportrait.provenance.waves import HIGHEST_PERIODS, LOWEST_PERIODS, pattern, waves
from triportrait.types import Array

#: Side of the marked frame while it is searched for; three pixels for the finest wave.
_SEARCH_PX = 192
#: Sizes that are tried for each factor of two. Between two of them the finest wave is out of step by an eighth at the frame's edge.
_SIZES_PER_OCTAVE = 89
#: The smallest part of a marked frame, the smallest band and the smallest inset in a larger picture, as shares of a side.
_SMALLEST_PART, _SMALLEST_BAND, _SMALLEST_INSET = 0.5, 0.35, 0.5
#: An inset in a still longer picture is not looked for, as the search would take long.
_LONGEST_ASPECT = 4.0
#: How many of the best places are judged as the detector does, and how many of those are then moved to fit better.
_JUDGED, _REFINED = 40, 3
#: Looks of one search, for the false-positive rate: sizes, places, mirroring, and the few that are judged once more.
LOOKS = 5e7


@dataclass(frozen=True, slots=True)
class Placement:
    """A picture on the canonical grid of the marked frame, in 1/256 of the frame's sides.

    Args:
        width, height: of the whole picture; 256 where it is as wide or as high as the marked frame.
        left, top: of the marked frame within the picture; negative where the picture begins inside the frame.
    """

    width: int
    height: int
    left: int
    top: int

    @property
    def kept(self) -> tuple[float, float]:
        """Shares of the marked frame's width and height that the picture shows."""
        return min(1.0, self.width / CANONICAL_PX), min(1.0, self.height / CANONICAL_PX)

    @property
    def share(self) -> tuple[float, float]:
        """Shares of the picture's width and height that the marked frame takes."""
        return min(1.0, CANONICAL_PX / self.width), min(1.0, CANONICAL_PX / self.height)

    def cut(self, fine: Array) -> Array:
        """The marked frame out of the detail [h, w] of a picture, zero where the picture does not reach: float32 [256, 256]."""
        import cv2

        shrinks = self.width <= fine.shape[1] and self.height <= fine.shape[0]
        scaled = cv2.resize(fine, (self.width, self.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        frame = np.zeros((CANONICAL_PX, CANONICAL_PX), dtype=np.float32)
        part = scaled[max(self.top, 0) : self.top + CANONICAL_PX, max(self.left, 0) : self.left + CANONICAL_PX]
        top, left = max(-self.top, 0), max(-self.left, 0)
        frame[top : top + part.shape[0], left : left + part.shape[1]] = part
        return frame


WHOLE = Placement(CANONICAL_PX, CANONICAL_PX, 0, 0)


def find_placement(fine: Array, aspect: float) -> tuple[float, Placement, bool]:
    """The best place of the marked frame, its score in standard deviations, and whether it is mirrored.

    Args:
        fine: the picture's detail [h, w], on a square grid.
        aspect: the shown picture's width over its height.

    Returns:
        Score, place and mirroring; the place is that in the mirrored picture.
    """
    pictures = fine, mirror(fine)
    every = [found for size in _sizes(aspect) for found in _best_places(fine, *size)]
    likely = sorted(every, key=lambda found: found[0], reverse=True)[:_JUDGED]
    # Where a picture is rich and where it is flat differs within a large one, which makes its best places look better than they are.
    places = ((_enlarged(place), flips) for _, place, flips in likely)
    judged = [(mark_score(place.cut(pictures[flips])), place, flips) for place, flips in places]
    best = sorted(judged, key=lambda found: found[0], reverse=True)[:_REFINED]
    refined = ((*_refined(pictures[flips], place), flips) for _, place, flips in best)
    return max(refined, key=lambda found: found[0])


def mirror(picture: Array) -> Array:
    """A picture [h, w], left and right exchanged."""
    return np.ascontiguousarray(picture[:, ::-1])


def _sizes(aspect: float) -> Iterator[tuple[int, int]]:
    """Widths and heights in search pixels that the whole picture may have while the marked frame has 192 x 192.

    Smaller than that are cuts that keep the aspect ratio or take off one side only. Larger are pictures with bands above
    and below or at both sides, and pictures with a square inset.
    """
    side = _SEARCH_PX
    seen: set[tuple[int, int]] = {(side, side)}
    steps = [2.0 ** (-step / _SIZES_PER_OCTAVE) for step in range(2 * _SIZES_PER_OCTAVE)]
    aspect = min(max(aspect, 1 / _LONGEST_ASPECT), _LONGEST_ASPECT)
    shorter = min(1.0, aspect)
    for share in steps:
        part, band = round(side * share), round(side / share)
        sizes = [(part, part), (part, side), (side, part)] if share >= _SMALLEST_PART else []
        sizes += [(band, side), (side, band)] if share >= _SMALLEST_BAND else []
        if share >= _SMALLEST_INSET:
            sizes.append((round(side * aspect / (shorter * share)), round(side / (shorter * share))))
        for size in sizes:
            if size not in seen:
                seen.add(size)
                yield size


def _best_places(fine: Array, width: int, height: int) -> Iterator[tuple[float, Placement, bool]]:
    """The best place for one size of the picture, in search pixels, as it is and mirrored, with its score above the mean of all places."""
    import cv2

    side = _SEARCH_PX
    scaled = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    shape = (_transform_length(height), _transform_length(width))
    spectrum = np.fft.rfft2(scaled, shape)
    band, templates = _templates(shape)
    magnitude = np.abs(spectrum)
    level = np.sqrt(np.mean(magnitude[band] ** 2))
    spectrum *= np.float32(1) / np.maximum(magnitude, max(level, 1e-12))
    rows = np.arange(min(0, height - side), max(0, height - side) + 1)
    columns = np.arange(min(0, width - side), max(0, width - side) + 1)
    for flips, template in enumerate(templates):
        scores = np.fft.irfft2(spectrum * template, shape)
        deviation = max(float(scores.std()), 1e-12)
        # The transform is periodic: negative places lie at its end.
        scores = scores[np.ix_(rows % shape[0], columns % shape[1])]
        row, column = np.unravel_index(np.argmax(scores), scores.shape)
        left, top = int(columns[column]), int(rows[row])
        place = Placement(width, height, width - side - left if flips else left, top)
        yield float(scores[row, column]) / deviation, place, bool(flips)


def _transform_length(length: int) -> int:
    """Room for the picture and the frame, of few small factors, so that transforms are fast and their shapes few."""
    return -(-max(_SEARCH_PX, length) // 24) * 24


@lru_cache(maxsize=32)
def _templates(shape: tuple[int, int]) -> tuple[Array, tuple[Array, Array]]:
    """Frequencies of the mark's band, and the conjugate spectra of the fixed mark and of its mirror image in a picture of this shape."""
    template = pattern(_SEARCH_PX, _SEARCH_PX, waves().is_mark.astype(np.int64))
    down = np.fft.fftfreq(shape[0])[:, None] * _SEARCH_PX
    across = np.fft.rfftfreq(shape[1])[None, :] * _SEARCH_PX
    radius = np.hypot(down, across)
    plain, flipped = (np.conj(np.fft.rfft2(one, shape)) for one in (template, mirror(template)))
    return (radius >= LOWEST_PERIODS) & (radius <= HIGHEST_PERIODS), (plain, flipped)


def _enlarged(place: Placement) -> Placement:
    """From search pixels to canonical ones."""
    return Placement(*(round(length * CANONICAL_PX / _SEARCH_PX) for length in (place.width, place.height, place.left, place.top)))


def _refined(fine: Array, start: Placement) -> tuple[float, Placement]:
    """Climb from a place to the best one near it, by steps of one canonical pixel in size and in place."""
    best = mark_score(start.cut(fine)), start
    for _ in range(6):
        _, place = best
        near = [
            Placement(place.width + wider, place.height + higher, place.left + right, place.top + lower)
            for wider, higher, right, lower in _STEPS
        ]
        best = max([best, *((mark_score(step.cut(fine)), step) for step in near)], key=lambda found: found[0])
        if best[1] == place:
            break
    return best


#: Changes of width, height, left and top that are tried together.
_STEPS = [
    (1, 1, 0, 0),
    (-1, -1, 0, 0),
    (1, 0, 0, 0),
    (-1, 0, 0, 0),
    (0, 1, 0, 0),
    (0, -1, 0, 0),
    (0, 0, 1, 0),
    (0, 0, -1, 0),
    (0, 0, 0, 1),
    (0, 0, 0, -1),
    (1, 1, 1, 1),
    (-1, -1, -1, -1),
    (1, 0, 1, 0),
    (-1, 0, -1, 0),
    (0, 1, 0, 1),
    (0, -1, 0, -1),
]
