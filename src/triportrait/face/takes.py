"""The videos that a person is made of, watched one by one: where the face is, how sharp it is, and how the body moves.

Takes with the same framing (pictures of one size, the face in the same place) share a square crop, and a body is followed from one to the
next. Any other take has a square of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from triportrait.errors import OptionError
from triportrait.face.body_following import BodyFollower
from triportrait.face.fitting import LandmarkFitter, Person
from triportrait.face.following import FollowedFace, follow_face, in_own_square, same_place
from triportrait.face.portrait import PortraitOptions, crop_box
from triportrait.face.tracker import DetectedFace, FaceTracker
from triportrait.geometry.crops import cut
from triportrait.types import Array

#: A second face of this share of the first one's width is somebody else; seen in so many of the frames that are searched, one a second,
#: it belongs to the video, and is no passer-by and no picture that the detector found for once.
_COMPANION, _OFTEN = 0.5, 0.25
#: Side of the square in which sharpness is measured.
_SHARP_PX = 128
#: Takes are compared in a square of this side round the head, so many times as wide as the landmarks spread (root of their mean square),
#: and so many of these spreads above their middle. The head lies in an ellipse about its centre, with these half-axes in sides.
_LOOK_PX, _LOOK_SPREADS, _LOOK_UP = 64, 6.0, 0.8
_LOOK_AXES = 0.39, 0.47
#: The people of two takes are compared in so many rows of each.
_COMPARED_ROWS = 12
#: They are two if one shape for both misses their landmarks so many times as much as a shape of each one's own: of one speaker's takes 1.38
#: at most (5 pairs), of different speakers 1.74 at least (7 pairs).
_TWO_PEOPLE = 1.55

Box = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Take:
    """One shot of the person.

    Args:
        read: gives its frames, uint8 RGB [h, w, 3], from the first one on, as often as it is called.
        name: what to call it in messages.
    """

    read: Callable[[], Iterable[Array]]
    name: str


@dataclass(frozen=True, slots=True)
class WatchedTake:
    """What was seen of a take.

    Args:
        rows: one a frame, without pictures.
        sharpness: [t] of the face.
        bodies: [t, 4] motion of the body in pixels, NaN where nobody can tell.
        is_framed_alike: whether the face is where it is in the first take, in pictures of the same size.
        box: the square (left, top, side) of the upright frames that is cut out.
        look: float32 [p, p, 3], the head in the mean of its frames; zero where nobody is seen.
    """

    rows: list[FollowedFace]
    sharpness: Array
    bodies: Array
    is_framed_alike: bool
    box: Box
    look: Array

    @property
    def seen(self) -> Array:
        """bool [t], where the face is seen."""
        return np.array([row.seen for row in self.rows])

    @property
    def landmarks(self) -> Array:
        """float32 [t, 478, 3], pixels of the upright frames."""
        return np.stack([row.landmarks for row in self.rows])


def watch_takes(takes: Sequence[Take], fps: float, tracker: FaceTracker, fitter: LandmarkFitter, box: Box | None) -> list[WatchedTake]:
    """Watch all takes; their frames are read once, one by one.

    Args:
        fps: frames per second.
        fitter: tells whether the takes show one person.
        box: of the first take and those that are framed alike, in pixels of the frames; None lays it round the face's usual place.

    Raises:
        NoFaceFound: nobody is in a take.
        OptionError: a take with a cut or with several people, or takes of different people.
    """
    found: list[WatchedTake] = []
    framing: _Framing | None = None
    for take in takes:
        framing, watched = _watched(take, fps, tracker, framing)
        if found and _is_other(fitter, np.concatenate([_sample(one) for one in found]), _sample(watched)):
            raise OptionError(f"{take.name} shows somebody else than {takes[0].name}; give videos of one person.")
        found.append(watched)
    alike = [one for one in found if one.is_framed_alike]
    shared = box or _usual_box([one.landmarks[one.seen] for one in alike], alike[0].rows[0].size)
    return [replace(one, box=shared if one.is_framed_alike else _usual_box([one.landmarks[one.seen]], one.rows[0].size)) for one in found]


def usual_take(watched: Sequence[WatchedTake]) -> int:
    """The number of the take whose head looks most like that of all frames: of those framed as the first one.

    Hair, light and clothes differ from day to day. A picture of the take returned has the least mean squared difference from a frame of
    unknown take, where takes are as frequent as their frames.
    """
    seen = np.array([one.seen.sum() for one in watched])
    looks = np.stack([one.look[_head_ellipse()] for one in watched])
    differs = [
        float(seen @ ((looks - look) ** 2).mean((1, 2))) if one.is_framed_alike else np.inf
        for one, look in zip(watched, looks, strict=True)
    ]
    return int(np.argmin(differs))


def upright(frames: Iterable[Array], turn: int) -> Iterator[Array]:
    """Frames of a take, turned by so many quarters to the left."""
    return (np.ascontiguousarray(np.rot90(frame, turn)) if turn else frame for frame in frames)


def usable_turn(take: WatchedTake) -> int:
    """Quarter turns to the left that make a take upright: what is known once a face was seen holds for all of it."""
    return take.rows[-1].turn


@dataclass(frozen=True, slots=True)
class _Framing:
    """Size of the first take's pictures, its first face [478, 3] in them, and who follows the body there."""

    size: tuple[int, int]
    landmarks: Array
    follower: BodyFollower


def _watched(take: Take, fps: float, tracker: FaceTracker, framing: _Framing | None) -> tuple[_Framing | None, WatchedTake]:
    """One take, without its box, and the framing of the first one that shows a face."""
    rows: list[FollowedFace] = []
    sharp: list[float] = []
    bodies: list[Array] = []
    follower: BodyFollower | None = None
    alike = True
    look = np.zeros((_LOOK_PX, _LOOK_PX, 3), np.float32)
    seen_frames = follow_face(tracker, _alone(take, fps, tracker), name=take.name, fps=fps, can_choose=False, with_pictures=True)
    for row in seen_frames:
        if row.shot or row.changed:
            raise OptionError(f"{take.name} has a cut at {len(rows) / fps:.1f} s; give uncut pieces of it, each as a file of its own.")
        assert row.picture is not None
        if row.seen and follower is None:
            framing = framing or _Framing(row.size, row.landmarks, BodyFollower(tracker.person_mask))
            alike = framing.size == row.size and same_place(framing.landmarks, row.landmarks)
            follower = framing.follower if alike else BodyFollower(tracker.person_mask)
        sharp.append(_sharpness(row.picture, row.landmarks) if row.seen else 0.0)
        bodies.append(follower.see(row.picture, row.landmarks) if row.seen and follower is not None else np.full(4, np.nan))
        if row.seen:
            look += _head_square(row.picture, row.landmarks)
        rows.append(replace(row, picture=None))
    look /= max(sum(row.seen for row in rows), 1)
    return framing, WatchedTake(rows, np.array(sharp), np.stack(bodies), alike, (0.0, 0.0, 0.0), look)


def _is_other(fitter: LandmarkFitter, known: Array, take: Array) -> bool:
    """Whether the one shape that fits a take's faces [n, 478, 2] and as many of the ``known`` ones best misses both by far."""
    known = known[np.linspace(0, len(known) - 1, len(take)).astype(int)]

    def missed(rows: Array, person: Person) -> float:
        distance = fitter.residual_px(rows, person, fitter.fit_motion(rows, person))
        return float(np.median(np.sqrt((distance**2).mean(1))))

    together = fitter.fit_person(np.concatenate([known, take]))[0]
    alone = sum(missed(rows, fitter.fit_person(rows)[0]) for rows in (known, take))
    return sum(missed(rows, together) for rows in (known, take)) > _TWO_PEOPLE * alone


def _sample(take: WatchedTake) -> Array:
    """Some of a take's faces, spread over it: [n, 478, 2] in squares of their own."""
    good = np.flatnonzero(take.seen)
    return np.stack([in_own_square(take.rows[i].landmarks) for i in good[np.linspace(0, len(good) - 1, _COMPARED_ROWS).astype(int)]])


def _usual_box(faces: list[Array], size: tuple[int, int]) -> Box:
    usual = np.median(np.concatenate(faces), axis=0)
    width, height = size
    return crop_box(DetectedFace(usual, 1.0), (height, width), PortraitOptions().face_widths)


def _alone(take: Take, fps: float, tracker: FaceTracker) -> Iterator[Array]:
    """The frames; behind the last one it is told whether they show one person."""
    searched = several = 0
    for index, frame in enumerate(take.read()):
        if index % max(round(fps), 1) == 0:
            widths = sorted((face.width_px for face in tracker.detect(frame)), reverse=True)
            searched += 1
            several += len(widths) > 1 and widths[1] > _COMPANION * widths[0]
        yield frame
    if several > _OFTEN * searched:
        raise OptionError(f"{take.name} shows several people; crop it to one of them.")


def _head_square(picture: Array, landmarks: Array) -> Array:
    """The head in a square of :data:`_LOOK_PX`, as large and in the same place whatever the frame: [p, p, 3]."""
    points = landmarks[:, :2]
    middle = points.mean(0)
    spread = float(np.sqrt(((points - middle) ** 2).sum(1).mean()))
    side = max(_LOOK_SPREADS * spread, 4.0)
    return cut(picture, (float(middle[0]) - 0.5 * side, float(middle[1]) - _LOOK_UP * spread - 0.5 * side, side), _LOOK_PX)


def _head_ellipse() -> Array:
    """Where the head lies in that square: bool [p, p]."""
    places = (np.arange(_LOOK_PX) + 0.5) / _LOOK_PX
    across, down = ((places - 0.5) / axis for axis in _LOOK_AXES)
    return np.asarray(across**2 + down[:, None] ** 2 < 1.0)


def _sharpness(picture: Array, landmarks: Array) -> float:
    """Spread of the Laplacian over the face, brought to one size."""
    import cv2

    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    side = max(float((high - low).max()), 4.0)
    square = cut(picture, (*(0.5 * (low + high) - 0.5 * side), side), _SHARP_PX)
    return float(cv2.Laplacian(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std())
