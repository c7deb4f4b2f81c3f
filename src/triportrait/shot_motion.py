"""The motion of one person in one shot: fitted to landmarks, without tremble, and with what hair and shoulders do besides.

It is made piece by piece: of a long clip neither landmarks nor pictures are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from triportrait.concurrency import in_order, thread_count
from triportrait.geometry.warp import AROUND
from triportrait.motion.timing import join_motion, without_body
from triportrait.types import CAMERA_DISTANCE_DM, FOCAL_IN_WIDTHS, WARP_COLUMNS, Array, Motion, MotionFrame, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.face.fitting import LandmarkFitter, Person
    from triportrait.face.following import FollowedFace
    from triportrait.face.open_head import OpenHead
    from triportrait.face.tracker import FaceTracker
    from triportrait.motion.shots import Shot

#: Frames of a driving clip from which the driver's own shape is estimated.
_PERSON_FRAMES = 200
_PERSON_ROWS = 10
#: Rows fitted at a time.
_FIT_ROWS = 256
#: So many rows beside them have a say in how they are smoothed.
_BESIDE_ROWS = 16
#: Tremble of a tracked landmark, in sides of the crop.
_LIPS_NOISE = 0.0007
#: A shot that shows the face in fewer of its first rows has no warp, nor has one whose first face is turned farther than this.
_WARPED_ROWS, _WARPED_YAW_RAD = 12, np.radians(40.0)

#: Called with what is being done, how many are done and how many there are (0 = not known).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class SeenRow:
    """One frame of a shot, in the pixels of a crop that stays.

    Args:
        landmarks: [478, >=2].
        body: [4] how the body has moved, in pixels (:class:`triportrait.face.body_following.BodyFollower`); NaN where nobody can tell.
        square: uint8 [256, 256], the crop as :func:`triportrait.face.warp_following.small_grey` makes it; None where no face is seen.
    """

    landmarks: Array
    body: Array
    square: Array | None


def calm_motion(motion: Motion, landmarks: Array, person: Person, fitter: LandmarkFitter) -> Motion:
    """A fitted motion without the tremble of tracking, whose lips are where they were seen.

    Pose and curves make up for each other's tremble, and each is smoothed by itself. So the mouth is solved again for the smooth pose, from
    landmarks that are smoothed as places in the picture.

    Args:
        motion: from :meth:`LandmarkFitter.fit_motion`, [t] rows; landmarks: [t, 478, >=2], what it was fitted to, and whose.
    """
    from triportrait.motion.smoothing import smooth_motion, smooth_points

    places = smooth_points(np.asarray(landmarks, np.float64)[..., :2], _LIPS_NOISE * fitter.side_px)
    return fitter.with_mouth(places, person, smooth_motion(motion))


def followed_motion(
    rows: Iterator[SeenRow],
    person: Person,
    fitter: LandmarkFitter,
    fps: float,
    portrait: PreparedPortrait | None,
    tell: Callable[[int], None] = lambda done: None,
) -> Motion:
    """The motion of one person in one shot: expression, pose, gaze and body, and a warp since ``portrait``, if there is one.

    Args:
        rows: frame by frame, with the crop that ``portrait`` has.
        person, fitter: whose shape, and what fits it, in the crop.
        fps: frames per second.
        portrait: the photo that warps are counted from.
        tell: is told of how many frames the warp is measured.

    Returns:
        Motion without a body where fewer than half of the frames tell one.
    """
    from triportrait.motion.smoothing import smooth_warp

    waiting: deque[Array | None] = deque()
    body = None if portrait is None else _BodyInDecimetres(float(portrait.motion.translation[2]), portrait.focal * fitter.side_px)

    def fitted() -> Iterator[tuple[Motion, Array]]:
        nonlocal body
        while batch := list(islice(rows, _FIT_ROWS)):
            waiting.extend(row.square for row in batch)
            places = np.stack([row.landmarks for row in batch])
            motion = fitter.fit_motion(places, person, fps)
            body = body or _BodyInDecimetres(float(np.median(motion.translation[:, 2])), FOCAL_IN_WIDTHS * fitter.side_px)
            yield motion.with_rows(body=body.of(np.stack([row.body for row in batch]))), places

    look = None if portrait is None else _warps_since(portrait, fitter.head)
    pieces, warps = [], []
    for piece in calmed(fitted(), person, fitter):
        pieces.append(piece)
        squares = [waiting.popleft() for _ in range(len(piece))]
        if look is not None:
            for warp in in_order(look, zip(squares, piece, strict=True), thread_count()):
                warps.append(warp)
                tell(len(warps))
    motion = join_motion(pieces)
    known = body is not None and body.is_known
    if warps:
        smooth = smooth_warp(np.stack([warp for warp, _ in warps]), np.stack([sure for _, sure in warps]), fps)
        motion = motion.with_rows(warp=smooth)
    return motion if known else without_body(motion)


class _BodyInDecimetres:
    """Measured bodies as :class:`triportrait.types.Motion` has them, batch by batch.

    What is not known lies between the rows around it; to the end of a batch a body stays where it was known last.

    Args:
        z_dm: the head's translation along the view; focal_px: the focal length.
    """

    def __init__(self, z_dm: float, focal_px: float) -> None:
        dm_per_px = (CAMERA_DISTANCE_DM - z_dm) / focal_px
        self._units = np.array([dm_per_px, dm_per_px, 1.0, 1.0])
        self._last: Array | None = None
        self._rows = self._known = 0

    @property
    def is_known(self) -> bool:
        """Whether at least half of the rows, and two, were known."""
        return self._known >= max(2, 0.5 * self._rows)

    def of(self, bodies: Array) -> Array:
        """The next bodies [t, 4] in pixels, NaN where nobody can tell: float32 [t, 4]."""
        known = np.isfinite(bodies).all(1)
        self._rows, self._known = self._rows + len(bodies), self._known + int(known.sum())
        at, rows = np.flatnonzero(known), bodies[known]
        if self._last is not None:
            at, rows = np.append(-1, at), np.vstack([self._last, rows])
        if not len(at):
            return np.zeros((len(bodies), 4), np.float32)
        filled = np.stack([np.interp(np.arange(len(bodies)), at, column) for column in rows.T], 1)
        self._last = filled[-1]
        return np.asarray(filled * self._units, np.float32)


def with_warps(portrait: PreparedPortrait, head: OpenHead) -> PreparedPortrait:
    """A person in several pictures, with the warp of each since the first one; none in what is framed otherwise or of another take."""
    if all(other.motion.body is None for other in portrait.others):
        return portrait
    place = warped_rows(portrait, head)
    unmoved = np.zeros(len(WARP_COLUMNS), np.float32)
    others = []
    for other in portrait.others:
        # In another take hair and clothes lie differently, and flow would tell of that.
        is_alike = other.same_take and other.motion.body is not None
        others.append(replace(other, motion=place(other.image, other.motion) if is_alike else replace(other.motion, warp=unmoved)))
    return replace(portrait, others=tuple(others))


def warped_rows(portrait: PreparedPortrait, head: OpenHead) -> Callable[[Array, MotionFrame], MotionFrame]:
    """What gives a row of motion the warp of its crop uint8 [s, s, 3] since the ``portrait``'s photo."""
    from triportrait.face.warp_following import small_grey

    look = _warps_since(replace(portrait, others=()), head)

    def place(crop: Array, frame: MotionFrame) -> MotionFrame:
        warp, known = look((small_grey(crop), frame))
        return replace(frame, warp=warp * np.repeat(known, (2 * AROUND, len(warp) - 2 * AROUND)))

    return place


def _warps_since(portrait: PreparedPortrait, head: OpenHead) -> Callable[[tuple[Array | None, MotionFrame]], tuple[Array, Array]]:
    """What measures the warp [184] of a picture under a row of motion, and how surely; several pictures may be looked at at once."""
    from triportrait.avatar.lifted.photo_grid import photo_grid
    from triportrait.face.warp_following import WarpFollower

    follower = WarpFollower(photo_grid(portrait, head))
    nothing = np.zeros(len(WARP_COLUMNS), np.float32), np.zeros(2, np.float32)

    def look(seen: tuple[Array | None, MotionFrame]) -> tuple[Array, Array]:
        picture, frame = seen
        return nothing if picture is None else follower.see(picture, frame)

    return look


def shot_of(
    fitter: LandmarkFitter, tracker: FaceTracker, rows: Iterator[FollowedFace], fps: float, progress: Progress | None = None
) -> Shot:
    """Fit the person of one shot and smooth the motion.

    Args:
        fitter, tracker: the parts to use.
        rows: of the shot, after :func:`triportrait.face.warp_following.with_squares`.
        fps: frames per second.
        progress: is told of the rows whose warp is measured.
    """
    from triportrait.face.following import own_square
    from triportrait.motion.shots import Shot

    opening = list(islice(rows, _PERSON_FRAMES))
    shown = [row for row in opening if row.seen] or opening
    left, top, side = own_square(shown[0].landmarks)
    if not side:  # nobody in this shot
        count = len(opening) + sum(1 for _ in rows)
        names = fitter.head.expression_names
        expression, rotation, move, gaze = (np.zeros((count, size), np.float32) for size in (len(names), 3, 3, 2))
        return Shot(Motion(expression, rotation, move, gaze, fps, names, fitter.head.name), np.zeros(count, bool))

    def in_crop(rows: list[FollowedFace]) -> Array:
        return (np.stack([row.landmarks for row in rows])[..., :2] - (left, top)) * (fitter.side_px / side)

    person = fitter.fit_person(in_crop(shown[:: max(1, len(shown) // _PERSON_ROWS)]))[0]
    seen: list[bool] = []
    # Bodies are told in pixels of the frame.
    units = np.array([fitter.side_px / side, fitter.side_px / side, 1.0, 1.0])

    def seen_rows() -> Iterator[SeenRow]:
        for row in chain(opening, rows):
            seen.append(row.seen)
            yield SeenRow(in_crop([row])[0], np.full(4, np.nan) if row.body is None else row.body * units, row.square)

    first = _portrait_of(shown[0], person, fitter, tracker) if len(shown) >= _WARPED_ROWS else None

    def tell(done: int) -> None:
        if progress is not None:
            progress("measuring hair and skin", done, 0)

    return Shot(followed_motion(seen_rows(), person, fitter, fps, first, tell), np.array(seen))


def _portrait_of(row: FollowedFace, person: Person, fitter: LandmarkFitter, tracker: FaceTracker) -> PreparedPortrait | None:
    """The driver as a portrait, from the first picture of a shot; None where there is none, or where its face is turned far."""
    from triportrait.face.following import own_square
    from triportrait.face.portrait import PortraitOptions, portrait_from_landmarks

    if not row.seen or row.picture is None:
        return None
    left, top, side = own_square(row.landmarks)
    size = len(row.picture)
    scale = size / side
    landmarks = ((row.landmarks - (left, top, 0.0)) * scale).astype(np.float32)
    if abs(float(fitter.fit_motion(landmarks[None, :, :2], person).rotation_rad[0, 1])) > _WARPED_YAW_RAD:
        return None
    box = (0.0, 0.0, float(size))
    # Nothing of the scene is drawn, so none needs to be painted behind the person.
    return portrait_from_landmarks(
        row.picture, box, row.picture, landmarks, tracker, fitter.head, PortraitOptions(size), person, scene=row.picture
    )


def calmed(pieces: Iterator[tuple[Motion, Array]], person: Person, fitter: LandmarkFitter) -> Iterator[Motion]:
    """:func:`calm_motion` of motion and landmarks that come piece by piece; some rows beside a piece are looked at, too."""
    before: tuple[Motion, Array] | None = None
    now = next(pieces, None)
    while now is not None:
        after = next(pieces, None)
        first = 0 if before is None else min(_BESIDE_ROWS, len(before[0]))
        parts = [
            (one[0].rows(part), one[1][part])
            for one, part in ((before, slice(-first, None)), (now, slice(None)), (after, slice(0, _BESIDE_ROWS)))
            if one is not None
        ]
        motion, places = join_motion(part for part, _ in parts), np.concatenate([place for _, place in parts])
        yield calm_motion(motion, places, person, fitter).rows(slice(first, first + len(now[0])))
        before, now = now, after
