"""One person through a clip of any kind: shots are told apart, one of several faces is chosen and kept, faces half out of the picture
count as unseen.

A cut is a change of the whole picture that lasts one frame and after which no face is where the followed one was. Whoever cuts to and
fro on a face that stays in its place (a jump cut) is followed as one shot, because nothing has to be joined there. A face that is
somewhere else from one frame to the next begins a shot, too: fades have no single frame that changes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from triportrait.errors import NoFaceFound
from triportrait.face.tracker import DetectedFace, FaceTracker, search_is_due
from triportrait.face.upright import TURNS, turned_upright_in_clip
from triportrait.geometry.landmarks import ALL_POINTS, NOSE_TIP
from triportrait.types import FPS, Array

if TYPE_CHECKING:
    from triportrait.face.fitting import LandmarkFitter, Person

log = logging.getLogger(__name__)

#: Thumbnails in which frames are compared (pixels), and the least mean change of a cut (levels of 255).
_THUMBNAIL_PX = 32
_CUT_LEVELS = 6.0
#: A cut changes the picture so many times as much as any of the frames around it.
_CUT_OVER_MOTION = 2.5
_HISTORY = 8
#: A face farther away than this (face widths), or larger or smaller by this ratio, is not where the other was.
_ELSEWHERE, _OTHER_SIZE = 0.6, 1.6
#: The same after the face was out of sight for more than _LOST_FRAMES.
_ELSEWHERE_LATER, _OTHER_SIZE_LATER = 1.0, 1.8
_LOST_FRAMES = 7
#: With more than this share of its landmarks outside the picture a face is guessed, not seen.
_OUTSIDE = 0.12
#: Frames for which somebody who was lost among others is waited for before the whole picture is searched.
_PATIENCE = 5
#: Where nobody has been seen, a search for people who lie on their side is due at least so often; the tracker's own for others is sooner.
_SEARCH_NOBODY_S = 8.0
#: Where there are several people, the tracker sees so many face sides round the one who is followed.
_WINDOW = 2.2
#: A second face of this share of the first one's width is worth a word.
_COMPANION = 0.5
#: The chosen person's shape is fitted to so many rows of the first shot that shows him, this many frames apart.
_KNOWN_ROWS, _KNOWN_EVERY = 8, 6
#: People before and behind a change of the picture are compared in so many rows, this many frames apart, before and behind it.
_COMPARED_ROWS, _BEFORE_EVERY, _BEHIND_EVERY = 4, 12, 6
#: They are two if the shape of each misses the landmarks of the other so many times as much as its own. On the nine development clips
#: 34 of 36 pairs of two people exceed it, and one of 72 pairs of the same person.
_TWO_PEOPLE = 2.1


@dataclass(frozen=True, slots=True)
class FollowedFace:
    """The followed face in one frame.

    Args:
        landmarks: [478, 3] float32 pixels of the frame; the nearest known where the face is not ``seen``, zeros in a shot without any.
        seen: whether this frame shows it.
        shot: number of the shot, from 0.
        size: width and height of the upright frame that ``landmarks`` are pixels of.
        changed: whether the whole picture changes with this frame, though somebody is where the followed face was.
        picture: uint8 [h, w, 3], the upright frame, where it was asked for; after :func:`.warp_following.with_squares` the first of a shot
            alone has one, cut.
        square: uint8 [256, 256], what a warp is measured on.
        body: [4] how the body has moved within the shot (:mod:`.body_following`), NaN where nobody can tell; None where nobody looked.
        turn: quarter turns to the left that made the clip's frame upright.
    """

    landmarks: Array
    seen: bool
    shot: int
    size: tuple[int, int]
    changed: bool = False
    picture: Array | None = None
    square: Array | None = None
    body: Array | None = None
    turn: int = 0


def follow_face(
    tracker: FaceTracker,
    frames: Iterable[Array],
    number: int | None = None,
    name: str = "the clip",
    *,
    fps: float = FPS,
    can_choose: bool = True,
    fitter: LandmarkFitter | None = None,
    with_pictures: bool = False,
) -> Iterator[FollowedFace]:
    """Follow the largest face, or face ``number``, through all shots: one row per frame, in bounded memory.

    A clip that lies on its side, or is upside down, is turned before anybody is followed; one warning says so. The first frame that
    shows a face decides, and frames before it stay as they are.

    Args:
        tracker: finds and tracks faces.
        frames: uint8 RGB [h, w, 3].
        number: counted from the left, 1 first, in the first frame that shows faces. In a later shot with several people it is whoever
            looks most like that person, without a ``fitter`` again the one at that place, and where there are too few the largest.
        name: how errors and warnings name the clip.
        fps: frames per second, by which searches for a face that is not in sight become rarer.
        can_choose: whether ``--driver-face`` would choose another person here; warnings then say so.
        fitter: measures how much the people of a later shot look like the one whom ``number`` chose.
        with_pictures: rows hold their frames; whoever takes them lets go of them.

    Raises:
        NoFaceFound: no frame shows a face, or the first that does shows fewer than ``number``.
    """
    clip = _Clip(tracker, _marked_cuts(frames), number, name, fps=fps, can_choose=can_choose, fitter=fitter)
    shot, found_any = -1, False
    refusal: NoFaceFound | None = None
    while clip.begin_shot():
        shot += 1
        given = 0
        before = _Before()
        try:
            for landmarks, found in clip.tracked():
                seen = found and before.is_whole(landmarks, clip.size)
                if seen:
                    elsewhere = before.is_elsewhere(landmarks)
                    shot += elsewhere
                    before.see(landmarks)
                    clip.see(landmarks, elsewhere)
                else:
                    before.miss()
                clip.report(found)
                given += 1
                picture = clip.frame if with_pictures else None
                yield FollowedFace(landmarks, seen, shot, clip.size, clip.changed, picture, turn=clip.turn)
            found_any = True
        except _NoSuchFace:
            raise
        except NoFaceFound as error:
            refusal = error
            nothing = np.zeros((ALL_POINTS, 3), np.float32)
            for _ in range(clip.count - given):
                yield FollowedFace(nothing, False, shot, clip.size)
    if not found_any:
        raise NoFaceFound(f"{name}: {refusal or 'there is no frame in it'}")


def people_apart(rows: Iterable[FollowedFace], fitter: LandmarkFitter) -> Iterator[FollowedFace]:
    """Begin a shot also where behind a change of the picture somebody else is in the same place; rows come less than a second late."""
    ahead: deque[FollowedFace] = deque()
    known: deque[Array] = deque(maxlen=_COMPARED_ROWS)
    more, shot, since = 0, 0, 0
    for row in chain(rows, [None] * (_COMPARED_ROWS * _BEHIND_EVERY)):
        if row is not None:
            ahead.append(row)
        if not ahead or (row is not None and len(ahead) <= _COMPARED_ROWS * _BEHIND_EVERY):
            continue
        now = ahead.popleft()
        if now.shot != shot:
            shot, since = now.shot, 0
            known.clear()
        if now.changed and now.seen and len(known) > 1:
            # The very first rows still bear the other face's crop.
            coming = [later for later in list(ahead)[_BEHIND_EVERY - 1 :: _BEHIND_EVERY] if later.seen and later.shot == shot]
            behind = [in_own_square(later.landmarks) for later in coming]
            if len(behind) > 1 and _are_two(fitter, np.stack(known), np.stack(behind)):
                more, since = more + 1, 0
                known.clear()
        if now.seen:
            if since % _BEFORE_EVERY == 0:
                known.append(in_own_square(now.landmarks))
            since += 1
        yield replace(now, shot=shot + more)


def _are_two(fitter: LandmarkFitter, *pair: Array) -> bool:
    """Whether two sets of landmarks [t, 478, 2], in squares of 512 px, are of different people."""

    def missed(rows: Array, person: Person) -> float:
        distance = fitter.residual_px(rows, person, fitter.fit_motion(rows, person))
        return float(np.median(np.sqrt((distance**2).mean(1))))

    people = [fitter.fit_person(rows)[0] for rows in pair]
    across = sum(missed(rows, person) for rows, person in zip(pair, reversed(people), strict=True))
    return across > _TWO_PEOPLE * sum(missed(rows, person) for rows, person in zip(pair, people, strict=True))


class _Before:
    """The last frames that showed the face."""

    def __init__(self) -> None:
        self._landmarks: Array | None = None
        self._missed = 0
        self._least_outside = 1.0

    def is_whole(self, landmarks: Array, size: tuple[int, int]) -> bool:
        """Whether the picture shows as much of the face as it does at best (a close-up never shows all of it), or nearly all."""
        points = landmarks[:, :2]
        outside = float(((points < 0) | (points >= size)).any(1).mean())
        self._least_outside = min(self._least_outside, outside)
        return outside <= max(_OUTSIDE, self._least_outside + 0.08)

    def see(self, landmarks: Array) -> None:
        self._landmarks, self._missed = landmarks, 0

    def miss(self) -> None:
        self._missed += 1

    def is_elsewhere(self, landmarks: Array) -> bool:
        if self._landmarks is None:
            return False
        if self._missed > _LOST_FRAMES:
            return not same_place(self._landmarks, landmarks, _ELSEWHERE_LATER, _OTHER_SIZE_LATER)
        return not same_place(self._landmarks, landmarks)


class _Clip:
    """The frames of a clip, dealt out upright and shot by shot; where several people are in sight all but the followed one are covered."""

    def __init__(
        self,
        tracker: FaceTracker,
        marked: Iterator[tuple[Array, bool]],
        number: int | None,
        name: str,
        *,
        fps: float,
        can_choose: bool,
        fitter: LandmarkFitter | None,
    ) -> None:
        self._tracker, self._marked, self._number, self._name = tracker, marked, number, name
        self._fps, self._can_choose = fps, can_choose
        self._person = None if fitter is None or number is None else _KnownPerson(fitter)
        self._next: tuple[Array, bool] | None = next(marked, None)
        #: The frame that the tracker has, as the clip has it, and whether it was searched.
        self._now: Array | None = None
        self._searched = False
        #: Quarter turns to the left that make the clip upright; None until a frame shows a face.
        self._turn: int | None = None
        #: Faces in the frame that begins the next shot, where they were looked for.
        self._faces: list[DetectedFace] = []
        self._chosen: DetectedFace | None = None
        self._crowded = self._counted = self._told = False
        self._lost = 0
        self.last: Array | None = None
        self.size = (0, 0)
        #: The frame that the tracker has, upright.
        self.frame: Array | None = None
        self.changed = False
        self.count = 0

    @property
    def turn(self) -> int:
        """Quarter turns to the left that make the clip upright, as far as is known."""
        return self._turn or 0

    def begin_shot(self) -> bool:
        """Go on to the next shot; False at the end of the clip."""
        if self._chosen is not None and self._person is not None:
            self._person.is_complete = True
        self._chosen, self._crowded, self._lost, self.count = None, False, 0, 0
        self.last = None
        return self._next is not None

    def see(self, landmarks: Array, elsewhere: bool) -> None:
        """Take where the followed face is, and whether it may be somebody else's than in the frame before."""
        self.last = landmarks
        if self._person is not None:
            self._person.is_complete |= elsewhere
            self._person.see(landmarks)

    def report(self, found: bool) -> None:
        """Tell how the tracker fared with the last frame."""
        self._lost = 0 if found else self._lost + 1

    def tracked(self) -> Iterator[tuple[Array, bool]]:
        """What the tracker says of the frames of the present shot, see :meth:`FaceTracker.track`.

        Where it is the first to find somebody, the frame is searched; if that one should not be followed, or lies on the side, the
        tracker begins anew with this frame.
        """
        owed, again = 0, True
        while again:
            again, begun = False, False
            for landmarks, found in self._tracker.track(self._frames()):
                if not begun and self._chosen is None and self._must_begin_anew(landmarks):
                    owed, again = self.count, True
                    break
                if not begun:
                    yield from ((landmarks, False) for _ in range(owed))
                begun = True
                yield landmarks, found

    def _must_begin_anew(self, landmarks: Array) -> bool:
        """Choose somebody in the frame in which the tracker has found a face; whether it has to look at that frame again."""
        assert self._now is not None
        was_upright = not self._turn
        faces = [] if self._searched else self._search(self._now)
        if not faces and self._number is not None and not self._counted:
            return False  # people cannot be counted yet
        # Whom only the tracker sees is alone, as far as anybody can tell.
        self._choose(faces or [DetectedFace(landmarks)])
        self._turn = self._turn or 0
        turned = was_upright and self._turn != 0
        if not turned and not (self._crowded and self.last is not None and not same_place(self.last, landmarks)):
            return False
        if self._next is not None:
            self._marked = chain([self._next], self._marked)
        self._next = (self._now, False)
        self.count -= 1
        return True

    def _frames(self) -> Iterator[Array]:
        """Frames of the present shot as the tracker shall see them."""
        while self._next is not None:
            self._now, self.changed = self._next
            frame = self._upright(self._now)
            if self.changed and self.count and self._cuts_here(frame):
                return
            self._next = next(self._marked, None)
            self._searched = False
            if not self.count and self._faces:
                self._choose(self._faces)
            elif self._needs_search():
                self._searched = True
                self._choose(self._search(self._now))
                frame = self._upright(self._now)
            self.size, self.frame = (frame.shape[1], frame.shape[0]), frame
            self._faces = []
            self.count += 1
            yield self._covered(frame) if self._crowded else frame

    def _upright(self, frame: Array) -> Array:
        return np.ascontiguousarray(np.rot90(frame, self._turn)) if self._turn else frame

    def _search(self, frame: Array) -> list[DetectedFace]:
        """Everybody in a frame of the clip; the first who is seen shows how the clip has to be turned."""
        if self._turn is not None:
            return self._tracker.detect(self._upright(frame))
        turn, faces = turned_upright_in_clip(self._tracker, frame)
        if faces:
            self._turn = turn
            if turn:
                log.warning("%s is not upright; its frames are turned by %s", self._name, TURNS[turn])
        return faces

    def _cuts_here(self, frame: Array) -> bool:
        if self.last is None:
            return False
        faces = self._tracker.detect(frame)
        if not faces or any(same_place(self.last, face.landmarks) for face in faces):
            return False
        self._faces = faces
        assert self._now is not None
        self._next = (self._now, False)
        return True

    def _needs_search(self) -> bool:
        """Until somebody is chosen, and where one of several was lost; ever more rarely."""
        if self._chosen is None:
            return search_is_due(self.count, _SEARCH_NOBODY_S, self._fps)
        return self._crowded and self._lost >= _PATIENCE and search_is_due(self._lost - _PATIENCE, fps=self._fps)

    def _choose(self, faces: list[DetectedFace]) -> None:
        if not faces:
            return
        number = self._number
        if number is not None and not self._counted and not 1 <= number <= len(faces):
            found = "only one is found, leave the number out" if len(faces) == 1 else f"{len(faces)} are found, counted from the left"
            raise _NoSuchFace(f"{self._name}: there is no face {number} in the first frame that shows faces; {found}")
        self._counted = True
        near = [] if self.last is None else [face for face in faces if same_place(self.last, face.landmarks, 2.0, 2.0)]
        if near and self._crowded:
            last = self.last[:, :2].mean(0) if self.last is not None else 0.0
            face = min(near, key=lambda face: float(np.linalg.norm(face.landmarks[:, :2].mean(0) - last)))
        elif len(faces) > 1 and self._person is not None and self._person.is_complete:
            face = self._person.most_alike(faces)
        elif number is not None and number <= len(faces):
            face = sorted(faces, key=lambda face: float(face.landmarks[NOSE_TIP, 0]))[number - 1]
        else:
            face = faces[0]
        self._chosen, self._crowded = face, self._crowded or len(faces) > 1
        if self._crowded:
            self.last = face.landmarks
        widths = sorted((face.width_px for face in faces), reverse=True)
        if number is None and len(widths) > 1 and widths[1] > _COMPANION * widths[0] and not self._told:
            self._told = True
            remedy = ", --driver-face N follows the Nth from the left" if self._can_choose else ""
            log.warning("%s shows %d people; the largest face is followed%s", self._name, len(faces), remedy)

    def _covered(self, frame: Array) -> Array:
        """The frame in grey but for a window round the followed face."""
        if self.last is None:
            return frame
        low, high = self.last[:, :2].min(0), self.last[:, :2].max(0)
        half = 0.5 * _WINDOW * float((high - low).max())
        left, top = np.maximum(0.5 * (low + high) - half, 0).astype(int)
        right, bottom = np.maximum(0.5 * (low + high) + half, 0).astype(int)
        covered = np.full_like(frame, 127)
        covered[top:bottom, left:right] = frame[top:bottom, left:right]
        return covered


class _KnownPerson:
    """The chosen person, to be known again behind a cut.

    Of two people the fitted shape of the right one leaves the smaller error in 94 of 100 pairs of faces, each seen in one frame
    (432 pairs of the nine development clips).
    """

    def __init__(self, fitter: LandmarkFitter) -> None:
        self._fitter = fitter
        self._rows: list[Array] = []
        self._seen = 0
        self._shape: Person | None = None
        #: Set behind the first shot that shows the person: from then on it may be somebody else.
        self.is_complete = False

    def see(self, landmarks: Array) -> None:
        """Take the face of a frame of the first shot."""
        if not self.is_complete and self._seen % _KNOWN_EVERY == 0 and len(self._rows) < _KNOWN_ROWS:
            self._rows.append(in_own_square(landmarks))
        self._seen += 1

    def most_alike(self, faces: list[DetectedFace]) -> DetectedFace:
        """Whose landmarks the person's shape meets best."""
        if not self._rows:
            return faces[0]
        if self._shape is None:
            self._shape = self._fitter.fit_person(np.stack(self._rows))[0]
        rows = np.stack([in_own_square(face.landmarks) for face in faces])
        missed = self._fitter.residual_px(rows, self._shape, self._fitter.fit_motion(rows, self._shape))
        return faces[int(np.argmin((missed**2).mean(1)))]


def own_square(landmarks: Array) -> tuple[float, float, float]:
    """The square (left, top, side) round a face [478, >=2]."""
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    side = 2.3 * float((high - low).max())
    left, top = (0.5 * (low + high) - 0.5 * side).tolist()
    return left, top, side


def in_own_square(landmarks: Array) -> Array:
    """Landmarks [478, 2] in a square of 512 px round the face."""
    left, top, side = own_square(landmarks)
    return (landmarks[:, :2] - (left, top)) * (512.0 / side)


class _NoSuchFace(NoFaceFound):
    """The number asked for is not there; unlike a shot without faces this ends everything."""


def same_place(one: Array, other: Array, widths: float = _ELSEWHERE, ratio: float = _OTHER_SIZE) -> bool:
    """Whether two faces [478, >=2] lie within so many face widths of each other and differ in size by less than ``ratio``."""
    boxes = [(face[:, :2].min(0), face[:, :2].max(0)) for face in (one, other)]
    sides = [max(float((high - low).max()), 1e-6) for low, high in boxes]
    apart = float(np.linalg.norm(0.5 * (boxes[0][0] + boxes[0][1]) - 0.5 * (boxes[1][0] + boxes[1][1])))
    return apart < widths * max(sides) and max(sides) / min(sides) < ratio


def _marked_cuts(frames: Iterable[Array]) -> Iterator[tuple[Array, bool]]:
    """Each frame, and whether the picture changes with it and with it alone (one frame is read ahead)."""
    import cv2

    changes: deque[float] = deque(maxlen=_HISTORY)
    held: tuple[Array, float] | None = None
    before: Array | None = None
    for frame in frames:
        thumbnail = cv2.resize(frame, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
        change = 0.0 if before is None else float(np.abs(thumbnail - before).mean())
        before = thumbnail
        if held is not None:
            yield held[0], _is_cut(held[1], change, changes)
            changes.append(held[1])
        held = frame, change
    if held is not None:
        yield held[0], _is_cut(held[1], 0.0, changes)


def _is_cut(change: float, following: float, earlier: Iterable[float]) -> bool:
    return change > max(_CUT_LEVELS, _CUT_OVER_MOTION * max(following, *earlier, 0.0))
