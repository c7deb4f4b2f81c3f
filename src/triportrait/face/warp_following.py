"""How hair, ears, neck and shoulders of a person move in a clip besides what head and body explain: a warp, by optical flow.

What the geometry says is taken back first: each frame is drawn over the photo as the fitted motion has it, and what is left is flow
between two pictures of the same pose. So no error adds up, and what is turned far is still recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from triportrait.face.following import FollowedFace, own_square
from triportrait.geometry.crops import cut, resized
from triportrait.geometry.warp import SIDE_PX, STEP_PX, WARP_GRID, PhotoGrid
from triportrait.types import CAMERA_DISTANCE_DM, WARP_COLUMNS, Array, MotionFrame

#: Flow forth and back ends within so many pixels; a sample that is off by so many counts half.
_ROUND_TRIP_PX, _OFF_PX = 1.0, 1.0
#: Deviation of a place, and of the difference between two that are neighbours (decimetres).
_USUAL_DM = 0.1
#: No place moves farther than this against head and body, whatever flow says.
_MOST_DM = 0.4
_ROUNDS = 8
#: Side of the crop that a shot's first picture keeps.
_CROP_PX = 512
#: A frame in which a smaller share of the samples is found again tells nothing, and one with so many counts fully.
_LEAST_FOUND, _ENOUGH_FOUND = 0.1, 0.3


class WarpFollower:
    """Measures the warp of pictures against a photo of the same shot and crop; several threads may ask at once."""

    def __init__(self, grid: PhotoGrid) -> None:
        self._grid = grid
        self._grey = small_grey(grid.picture)
        y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
        self._x, self._y = x, y
        self._prior = _prior()

    def see(self, grey: Array, frame: MotionFrame) -> tuple[Array, float]:
        """The warp [40] of a picture, and how surely it is known, 0..1.

        Args:
            grey: uint8 [256, 256], from :func:`small_grey`.
            frame: the picture's motion, without a warp.
        """
        import cv2

        nothing = np.zeros(len(WARP_COLUMNS)), 0.0
        if not len(self._grid.samples):
            return nothing
        px_per_dm = self._grid.focal_px / (CAMERA_DISTANCE_DM - float(frame.translation[2]))
        goes = self._grid.where(frame).astype(np.float32)
        there = cv2.remap(goes, self._x / STEP_PX, self._y / STEP_PX, cv2.INTER_LINEAR)
        # OpenCV counts pixel centres from 0, and so does the grid: a point that stays in its place is read where it is.
        taken_back = cv2.remap(grey, there[..., 0], there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        forth, back = _flow(self._grey, taken_back), _flow(taken_back, self._grey)
        returned = forth + cv2.remap(back, self._x + forth[..., 0], self._y + forth[..., 1], cv2.INTER_LINEAR)
        column, row = self._grid.samples.T
        start, flow = there[row, column], forth[row, column]
        goal = (self._grid.samples + flow).astype(np.float32)[None]
        end = cv2.remap(there, goal[..., 0], goal[..., 1], cv2.INTER_LINEAR)[0]
        sure = np.linalg.norm(returned[row, column], axis=1) < _ROUND_TRIP_PX
        for place in (start, end):
            sure &= ((place > 1) & (place < SIDE_PX - 1)).all(1)
        found_again = float(sure.mean())
        if found_again <= _LEAST_FOUND:
            return nothing
        moved = (end - start)[sure] * np.array([1.0, -1.0]) / px_per_dm
        found = self._fitted(self._grid.weights[sure].astype(np.float64), moved, _OFF_PX / px_per_dm)
        length = np.linalg.norm(found, axis=1, keepdims=True)
        found *= np.minimum(1.0, _MOST_DM / np.maximum(length, 1e-9))
        return found.ravel(), min(1.0, (found_again - _LEAST_FOUND) / (_ENOUGH_FOUND - _LEAST_FOUND))

    def _fitted(self, weights: Array, moved: Array, off_dm: float) -> Array:
        """Shifts of the places [20, 2] by weighted least squares in which what is far off counts little (Cauchy)."""
        prior = off_dm**2 * self._prior
        trust = np.ones(len(moved))
        for _ in range(_ROUNDS):
            weighted = weights * trust[:, None]
            found = np.linalg.solve(weighted.T @ weights + prior, weighted.T @ moved)
            trust = 1.0 / (1.0 + ((moved - weights @ found) ** 2).sum(1) / off_dm**2)
        return found


def _flow(start: Array, end: Array) -> Array:
    """Dense inverse search flow [s, s, 2] between two grey pictures (Kroeger et al., ECCV 2016)."""
    import cv2

    # One instance a call: threads may not share it.
    unknown: Any = None
    return np.asarray(cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(start, end, unknown))


def _prior() -> Array:
    """The inverse covariance of places and of the differences between neighbours: [20, 20]."""
    rows, columns = WARP_GRID
    number = np.arange(rows * columns).reshape(WARP_GRID)
    pairs = [*zip(number[:, :-1].ravel(), number[:, 1:].ravel(), strict=True), *zip(number[:-1].ravel(), number[1:].ravel(), strict=True)]
    result = np.eye(rows * columns)
    for one, other in pairs:
        result[[one, other], [one, other]] += 1.0
        result[[one, other], [other, one]] -= 1.0
    return result / _USUAL_DM**2


def with_squares(rows: Iterable[FollowedFace]) -> Iterator[FollowedFace]:
    """Rows with what warps are measured on in place of their pictures: squares round where the shot first shows the face.

    The first row of a shot that shows it keeps its picture, cut to a crop of 512 px.
    """
    box: tuple[float, float, float] | None = None
    shot = 0
    for row in rows:
        if row.shot != shot:
            box, shot = None, row.shot
        picture, square = None, None
        if row.seen and row.picture is not None:
            is_first = box is None
            box = box or own_square(row.landmarks)
            crop = cut(row.picture, box, _CROP_PX if is_first else SIDE_PX)
            picture, square = crop if is_first else None, small_grey(crop)
        yield replace(row, picture=picture, square=square)


def small_grey(picture: Array) -> Array:
    """A crop uint8 [s, s, 3] as warps are measured on: uint8 [256, 256]."""
    import cv2

    return np.asarray(cv2.cvtColor(resized(picture, SIDE_PX), cv2.COLOR_RGB2GRAY))
