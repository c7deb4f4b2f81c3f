"""How hair, ears, shoulders and skin of a person move in a clip besides what head, expression and body explain: a warp, by optical flow.

What the geometry says is taken back first: each frame is drawn over the photo as the fitted motion has it, and what is left is flow
between two pictures of the same pose. So no error adds up, and what is turned far is still recognised.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from triportrait.face.following import FollowedFace, own_square
from triportrait.geometry.crops import cut, resized
from triportrait.geometry.flow import flow_between, round_trip
from triportrait.geometry.warp import FACE_GRID, SIDE_PX, WARP_GRID, PhotoGrid
from triportrait.types import CAMERA_DISTANCE_DM, Array, MotionFrame

#: Flow forth and back ends within so many pixels; a sample that is off by so many counts half.
_ROUND_TRIP_PX, _OFF_PX = 1.0, 1.0
#: Deviation of a place, and of the difference between two that are neighbours (decimetres).
_USUAL_DM = 0.1
#: No place moves farther than this against head and body, whatever flow says.
_MOST_DM = 0.4
_ROUNDS = 4
#: Side of the crop that a shot's first picture keeps.
_CROP_PX = 512
#: A frame in which a smaller share of the samples is found again tells nothing, and one with so many counts fully.
_LEAST_FOUND, _ENOUGH_FOUND = 0.1, 0.3


class WarpFollower:
    """Measures the warp of pictures against a photo of the same shot and crop; several threads may ask at once."""

    def __init__(self, grid: PhotoGrid) -> None:
        self._grid = grid
        self._grey = small_grey(grid.picture)
        self._samples = (grid.around, grid.face)
        self._weights = tuple(weights.astype(np.float64) for weights in (grid.around_weights, grid.face_weights))
        self._priors = tuple(_prior(*places) for places in (WARP_GRID, FACE_GRID))

    def see(self, grey: Array, frame: MotionFrame) -> tuple[Array, Array]:
        """The warp [184] of a picture, and how surely the places round the head and those on the face are known: [2] in 0..1.

        Args:
            grey: uint8 [256, 256], from :func:`small_grey`.
            frame: the picture's motion, without a warp.
        """
        import cv2

        px_per_dm = self._grid.focal_px / (CAMERA_DISTANCE_DM - float(frame.translation[2]))
        there = self._grid.where(frame)
        # OpenCV counts pixel centres from 0, and so does the grid: a point that stays in its place is read where it is.
        taken_back = cv2.remap(grey, there[..., 0], there[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        forth = flow_between(self._grey, taken_back)
        missed = round_trip(forth, flow_between(taken_back, self._grey))
        parts = []
        for samples, weights, prior in zip(self._samples, self._weights, self._priors, strict=True):
            moved, sure = _moved(samples, there, forth, missed)
            found, share = np.zeros((weights.shape[1], 2)), float(sure.mean()) if len(sure) else 0.0
            if share > _LEAST_FOUND:
                found = _fitted(weights[sure], moved[sure] * (1.0, -1.0) / px_per_dm, prior, _OFF_PX / px_per_dm)
            parts.append((found, float(np.clip((share - _LEAST_FOUND) / (_ENOUGH_FOUND - _LEAST_FOUND), 0.0, 1.0))))
        places = np.concatenate([found for found, _ in parts])
        length = np.linalg.norm(places, axis=1, keepdims=True)
        places *= np.minimum(1.0, _MOST_DM / np.maximum(length, 1e-9))
        return places.ravel().astype(np.float32), np.array([share for _, share in parts], np.float32)


def _moved(samples: Array, there: Array, flow: Array, missed: Array) -> tuple[Array, Array]:
    """How far what a photo shows at ``samples`` [n, 2] lies from where geometry has it, [n, 2] pixels, and which of that is sure, bool [n].

    Args:
        there: [256, 256, 2], where geometry has pixels; flow: [256, 256, 2], from the photo to the picture as it is taken back.
        missed: [256, 256], how far flow forth and back ends from where it began.
    """
    import cv2

    if not len(samples):
        return np.zeros((0, 2)), np.zeros(0, bool)
    column, row = samples.T
    start = there[row, column]
    goal = (samples + flow[row, column]).astype(np.float32)[None]
    end = cv2.remap(there, goal[..., 0], goal[..., 1], cv2.INTER_LINEAR)[0]
    sure = missed[row, column] < _ROUND_TRIP_PX
    for place in (start, end):
        sure &= ((place > 1) & (place < SIDE_PX - 1)).all(1)
    return end - start, sure


def _fitted(weights: Array, moved: Array, prior: Array, off_dm: float) -> Array:
    """Shifts of places [k, 2] by weighted least squares in which what is far off counts little (Cauchy).

    Args:
        weights: [n, k], how far each place counts; moved: [n, 2] decimetres.
        prior: [k, k], inverse covariance of the places; off_dm: what is off by so much counts half.
    """
    trust = np.ones(len(moved))
    found = np.zeros((weights.shape[1], 2))
    for _ in range(_ROUNDS):
        weighted = weights * trust[:, None]
        found = np.linalg.solve(weighted.T @ weights + off_dm**2 * prior, weighted.T @ moved)
        trust = 1.0 / (1.0 + ((moved - weights @ found) ** 2).sum(1) / off_dm**2)
    return found


def _prior(rows: int, columns: int) -> Array:
    """The inverse covariance of the places of a grid and of the differences between neighbours: [k, k]."""
    number = np.arange(rows * columns).reshape(rows, columns)
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
