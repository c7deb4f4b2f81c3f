"""How the shoulders of a person move in a clip, by optical flow of what lies below the chin, without drift.

Every frame is compared with a key frame directly (pyramidal Lucas-Kanade, forth and back). The first key frame is the reference; others are
added where the body has moved far from all of them, and of these the nearest is taken. A neck and long hair move partly with the head,
which is known: at each corner the flow is a mixture of head and body, by a share that falls with the distance from the chin, and the body
is what explains it best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from triportrait.face.following import FollowedFace
from triportrait.geometry.body import body_pivot, body_similarity, similarity_body
from triportrait.geometry.crops import cut
from triportrait.geometry.landmarks import CHEEK_SIDES, CHIN, FOREHEAD_TOP, OVAL
from triportrait.geometry.masks import face_hull
from triportrait.types import Array

#: The square that is looked at: its side, and how far above the chin it begins, in heights of the face; the face is so high in it (pixels).
_SQUARE_HEIGHTS, _ABOVE_CHIN, _FACE_PX = 3.2, 1.4, 128.0
#: Corners are looked for so many heights of the face below the chin, inside the matte by so many pixels.
_BELOW_CHIN, _INSIDE_PX, _MOST_CORNERS, _APART_PX = 0.1, 4, 200, 5
#: Heights under the chin at which all moves with the head, and nothing; beside it, shoulders begin where nothing does (as in the mantle).
_HEAD_ABOVE, _BODY_BELOW, _SHOULDERS_BESIDE = -0.3, 0.5, 0.8
#: Flow forth and back ends within so many pixels, and a corner agrees with head and body within so many.
_ROUND_TRIP_PX, _AGREES_PX = 1.0, 2.0
#: A frame counts with so many agreeing corners at least; below this share of the key frame's, another key is set.
_LEAST_CORNERS, _FRESH_SHARE = 6, 0.5
#: A key frame serves within this distance of its own place (pixels); so many are kept.
_KEY_REACH_PX, _MOST_KEYS = 20.0, 24
#: So many of the nearest key frames are tried.
_TRIED_KEYS = 3
#: Deviation of a body's shift (pixels), log scale and roll (radians) between frames of a clip, and of so many corners that err together.
_USUAL = np.array([40.0, 40.0, 0.03, 0.04])
_ALIKE = 8.0
_ROUNDS = 8

#: The jaw's line from ear to ear: it lies round the axis that a head turns about.
JAW = OVAL[int(np.flatnonzero(CHEEK_SIDES[1] == OVAL)[0]) : int(np.flatnonzero(CHEEK_SIDES[0] == OVAL)[0]) + 1]


@dataclass(frozen=True, slots=True)
class _Key:
    """A frame to compare with: uint8 [h, w], and the matrix [3, 3] from the reference's pixels to its own.

    Its corners are float32 [n, 2], ``share`` [n] of the head's motion each; ``face`` [m, 2] are landmarks that turn little with the head.
    """

    grey: Array
    pose: Array
    corners: Array
    share: Array
    face: Array


class BodyFollower:
    """Follows one body through a shot, picture by picture.

    Args:
        person_mask: picture -> how surely each pixel belongs to a person, [h, w] in 0..1.
    """

    def __init__(self, person_mask: Callable[[Array], Array]) -> None:
        self._person_mask = person_mask
        self._keys: list[_Key] = []
        self._box: tuple[float, float, float] | None = None
        self._side = 0
        self._pivot = np.zeros(2)
        self._pose = np.eye(3)

    def see(self, picture: Array, landmarks: Array) -> Array:
        """How the body has moved since the first picture that was seen: [4], x right and y up in pixels, log scale, roll in radians.

        Args:
            picture: uint8 [h, w, 3].
            landmarks: [478, 2 or more], the face's in its pixels.

        Returns:
            NaN where it cannot be told.
        """
        import cv2

        if self._box is None:
            self._look_at(landmarks)
        assert self._box is not None
        square = cut(picture, self._box, self._side)
        grey = np.asarray(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY))
        scale = self._side / self._box[2]
        points = (landmarks[:, :2] - self._box[:2]) * scale
        shown = (np.array([(0, 0), picture.shape[1::-1]]) - self._box[:2]) * scale
        if not self._keys:
            self._keys.append(self._key(square, grey, points, shown))
            return np.zeros(4)
        found = self._compared(grey, points[JAW])
        if found is None:
            # Who was lost is looked for where the clip began.
            self._pose = np.eye(3)
            return np.full(4, np.nan)
        self._pose, share = found
        nearest = min(self._distance(key.pose, self._pose) for key in self._keys)
        if (nearest > _KEY_REACH_PX or share < _FRESH_SHARE) and len(self._keys) < _MOST_KEYS:
            self._keys.append(self._key(square, grey, points, shown))
        body = similarity_body(self._pose[:2], 1.0, self._pivot)
        body[:2] /= scale
        return body

    def _look_at(self, landmarks: Array) -> None:
        chin, top = landmarks[CHIN, :2].astype(np.float64), landmarks[FOREHEAD_TOP, :2]
        height = max(float(np.linalg.norm(chin - top)), 8.0)
        side = _SQUARE_HEIGHTS * height
        self._box = (float(chin[0] - side / 2), float(chin[1] - _ABOVE_CHIN * height), side)
        self._side = round(_SQUARE_HEIGHTS * min(_FACE_PX, height))
        self._pivot = (body_pivot(landmarks) - self._box[:2]) * (self._side / side)

    def _key(self, square: Array, grey: Array, points: Array, shown: Array) -> _Key:
        """The present frame as one to compare with: its corners are those of the person below the chin.

        Args:
            shown: [2, 2], the corners of the picture in pixels of the square.
        """
        import cv2

        chin = points[CHIN].astype(np.float64)
        height = max(float(np.linalg.norm(chin - points[FOREHEAD_TOP])), 1.0)
        body = self._person_mask(square) > 0.8
        body[: max(0, int(chin[1] + _BELOW_CHIN * height))] = False
        body &= ~face_hull(points - 0.5, self._side)
        # Beyond the picture its border repeats: nothing moves there.
        (left, top), (right, bottom) = np.clip(shown.astype(int), 0, self._side)
        body[:top] = body[bottom:] = body[:, :left] = body[:, right:] = False
        inside = cv2.erode(np.pad(body.astype(np.uint8), 1), np.ones((2 * _INSIDE_PX + 1,) * 2, np.uint8))[1:-1, 1:-1]
        found = cv2.goodFeaturesToTrack(grey, _MOST_CORNERS, 0.002, _APART_PX, mask=inside)
        corners = np.zeros((0, 2), np.float32) if found is None else np.asarray(found).reshape(-1, 2)
        beside, below = np.abs(corners[:, 0] - chin[0]) / height, (corners[:, 1] - chin[1]) / height
        share = np.clip((_BODY_BELOW - below) / (_BODY_BELOW - _HEAD_ABOVE), 0.0, 1.0)
        share *= np.clip(2.0 * (1.0 - beside / _SHOULDERS_BESIDE), 0.0, 1.0)
        return _Key(grey, self._pose, corners, share, points[JAW])

    def _distance(self, first: Array, second: Array) -> float:
        """How far apart two poses have the pit of the neck, in pixels."""
        centre = np.append(self._pivot, 1.0)
        return float(np.linalg.norm((first @ centre - second @ centre)[:2]))

    def _compared(self, grey: Array, face: Array) -> tuple[Array, float] | None:
        """Pose [3, 3] of a picture against the nearest key frame that fits it, and the share of that key's corners that agree."""
        near = sorted(self._keys, key=lambda key: self._distance(key.pose, self._pose))
        for key in near[:_TRIED_KEYS]:
            guess = self._pose @ np.linalg.inv(key.pose)
            start, there = _tracked(key, grey, guess)
            if len(start) >= _LEAST_CORNERS:
                head = _similarity(key.face, face)
                pivot = (key.pose @ np.append(self._pivot, 1.0))[:2]
                moved, agree = _body_between(key.corners[start], there, key.share[start], head, pivot)
                if agree >= _LEAST_CORNERS:
                    return moved @ key.pose, agree / len(key.corners)
        return None


def _tracked(key: _Key, grey: Array, guess: Array) -> tuple[Array, Array]:
    """Which of a key frame's corners are found again in a picture, numbers [k], and where, [k, 2]."""
    import cv2

    if len(key.corners) < _LEAST_CORNERS:
        return np.zeros(0, int), np.zeros((0, 2))
    start = key.corners.reshape(-1, 1, 2)
    ahead = (key.corners @ guess[:2, :2].T + guess[:2, 2]).astype(np.float32).reshape(-1, 1, 2)

    def flow(before: Array, after: Array, points: Array, guess: Array) -> tuple[Array, Array]:
        settings: Any = {"winSize": (21, 21), "maxLevel": 3, "flags": cv2.OPTFLOW_USE_INITIAL_FLOW}
        place, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, guess.copy(), **settings)
        return np.asarray(place), np.asarray(found).astype(bool)

    there, reached = flow(key.grey, grey, start, ahead)
    back, returned = flow(grey, key.grey, there, start)
    sure = (reached & returned).ravel() & (np.linalg.norm(back - start, axis=-1).ravel() < _ROUND_TRIP_PX)
    return np.flatnonzero(sure), there.reshape(-1, 2)[sure].astype(np.float64)


def _similarity(start: Array, end: Array) -> Array:
    """The similarity [3, 3] that takes points [n, 2] to others with the least squares."""
    middle, goal = start.mean(0, dtype=np.float64), end.mean(0, dtype=np.float64)
    x, y = (start - middle).T.astype(np.float64)
    u, v = (end - goal).T.astype(np.float64)
    along, aside = np.array([(x * u + y * v).sum(), (x * v - y * u).sum()]) / max(float((x * x + y * y).sum()), 1e-9)
    turn = np.array([[along, -aside], [aside, along]])
    return np.vstack([np.concatenate([turn, (goal - turn @ middle)[:, None]], 1), (0.0, 0.0, 1.0)])


def _body_between(start: Array, end: Array, share: Array, head: Array, pivot: Array) -> tuple[Array, int]:
    """The similarity [3, 3] of a body about ``pivot``, and how many corners agree with it.

    A corner at p moves by ``share (H p - p) + (1 - share) (d + J (p - pivot))`` with the head's H; d and the scaled turn J are found by
    weighted least squares in which what is far off counts little (Cauchy), and what is unusual has to be seen clearly.

    Args:
        start, end: [n, 2] pixels; share: [n], of the head's motion; head: [3, 3].
    """
    own = 1.0 - share
    left = end - start - share[:, None] * (start @ head[:2, :2].T + head[:2, 2] - start)
    x, y = ((start - pivot) * own[:, None]).T
    nought = np.zeros(len(own))
    # Unknown: shift x and y, log scale, roll (counter-clockwise, y down).
    rows = np.stack([np.stack([own, nought, x, y], -1), np.stack([nought, own, y, -x], -1)], 1)
    prior = np.diag((_AGREES_PX / _USUAL) ** 2 * _ALIKE)
    weight = np.ones(len(own))
    for _ in range(_ROUNDS):
        normal = np.einsum("n,nca,ncb->ab", weight, rows, rows) + prior
        found = np.linalg.solve(normal, np.einsum("n,nca,nc->a", weight, rows, left))
        miss = np.linalg.norm(left - rows @ found, axis=1)
        weight = 1.0 / (1.0 + (miss / _AGREES_PX) ** 2)
    # The columns hold shifts in pixels with y down, where a body has y up.
    matrix = body_similarity(found * (1, -1, 1, 1), 1.0, pivot)
    return np.vstack([matrix, (0.0, 0.0, 1.0)]), int((miss < _AGREES_PX).sum())


def with_bodies(rows: Iterable[FollowedFace], person_mask: Callable[[Array], Array]) -> Iterator[FollowedFace]:
    """Rows with the motion of the body within their shot, in pixels of the frame."""
    follower, shot = BodyFollower(person_mask), 0
    for row in rows:
        if row.shot != shot:
            follower, shot = BodyFollower(person_mask), row.shot
        body = np.full(4, np.nan)
        if row.seen and row.picture is not None:
            body = follower.see(row.picture, row.landmarks)
        yield replace(row, body=body)


def in_decimetres(bodies: Array, dm_per_px: float) -> Array | None:
    """Measured bodies [t, 4] as :class:`triportrait.types.Motion` has them: float32, NaN rows between those around them.

    Returns:
        None where fewer than half of the rows are known.
    """
    known = np.isfinite(bodies).all(1)
    if known.sum() < max(2, 0.5 * len(bodies)):
        return None
    at = np.arange(len(bodies))
    filled = np.stack([np.interp(at, at[known], column[known]) for column in bodies.T], 1)
    return (filled * (dm_per_px, dm_per_px, 1.0, 1.0)).astype(np.float32)
