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
from dataclasses import dataclass

import numpy as np

from triportrait.errors import NoFaceFound
from triportrait.face.tracker import DetectedFace, FaceTracker
from triportrait.types import Array

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
#: Frames between two searches of the whole picture for somebody who was lost among others.
_SEARCH_FRAMES = 5
#: First frames of a shot in which each one is searched, for the tracker may take anybody.
_SEARCH_FIRST = 50
#: Where there are several people, the tracker sees so many face sides round the one who is followed.
_WINDOW = 2.2
#: A second face of this share of the first one's width is worth a word.
_COMPANION = 0.5


@dataclass(frozen=True, slots=True)
class FollowedFace:
    """The followed face in one frame.

    Args:
        landmarks: [478, 3] float32 pixels of the frame; the nearest known where the face is not ``seen``, zeros in a shot without any.
        seen: whether this frame shows it.
        shot: number of the shot, from 0.
    """

    landmarks: Array
    seen: bool
    shot: int


def follow_face(tracker: FaceTracker, frames: Iterable[Array], number: int | None = None, name: str = "the clip") -> Iterator[FollowedFace]:
    """Follow the largest face, or face ``number``, through all shots: one row per frame, in bounded memory.

    Args:
        tracker: finds and tracks faces.
        frames: uint8 RGB [h, w, 3].
        number: counted from the left, 1 first, in the first frame that shows faces; shots with fewer people show the largest.
        name: how errors and warnings name the clip.

    Raises:
        NoFaceFound: no frame shows a face, or the first that does shows fewer than ``number``.
    """
    clip = _Clip(tracker, _marked_cuts(frames), number, name)
    shot, found_any = -1, False
    refusal: NoFaceFound | None = None
    while clip.begin_shot():
        shot += 1
        given = 0
        before = _Before()
        try:
            for landmarks, found in tracker.track(clip.frames()):
                seen = found and before.is_whole(landmarks, clip.size)
                if seen:
                    shot += before.is_elsewhere(landmarks)
                    before.see(landmarks)
                    clip.last = landmarks
                else:
                    before.miss()
                clip.report(found)
                given += 1
                yield FollowedFace(landmarks, seen, shot)
            found_any = True
        except _NoSuchFace:
            raise
        except NoFaceFound as error:
            refusal = error
            nothing = np.zeros((478, 3), np.float32)
            for _ in range(clip.count - given):
                yield FollowedFace(nothing, False, shot)
    if not found_any:
        raise NoFaceFound(f"{name}: {refusal or 'there is no frame in it'}")


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
            return not _same_place(self._landmarks, landmarks, _ELSEWHERE_LATER, _OTHER_SIZE_LATER)
        return not _same_place(self._landmarks, landmarks)


class _Clip:
    """The frames of a clip, dealt out shot by shot; where several people are in sight all but the followed one are covered."""

    def __init__(self, tracker: FaceTracker, marked: Iterator[tuple[Array, bool]], number: int | None, name: str) -> None:
        self._tracker, self._marked, self._number, self._name = tracker, marked, number, name
        self._next: tuple[Array, bool] | None = next(marked, None)
        #: Faces in the frame that begins the next shot, where they were looked for.
        self._faces: list[DetectedFace] = []
        self._chosen: DetectedFace | None = None
        self._crowded = self._counted = self._told = False
        self._lost = 0
        self.last: Array | None = None
        self.size = (0, 0)
        self.count = 0

    def begin_shot(self) -> bool:
        """Go on to the next shot; False at the end of the clip."""
        self._chosen, self._crowded, self._lost, self.count = None, False, 0, 0
        self.last = None
        return self._next is not None

    def report(self, found: bool) -> None:
        """Tell how the tracker fared with the last frame."""
        self._lost = 0 if found else self._lost + 1

    def frames(self) -> Iterator[Array]:
        """Frames of the present shot as the tracker shall see them."""
        while self._next is not None:
            frame, changed = self._next
            self.size = (frame.shape[1], frame.shape[0])
            if changed and self.count and self._cuts_here(frame):
                return
            self._next = next(self._marked, None)
            if not self.count and self._faces:
                self._choose(self._faces)
            elif self._needs_search():
                self._choose(self._tracker.detect(frame))
            self._faces = []
            self.count += 1
            yield self._covered(frame) if self._crowded else frame

    def _cuts_here(self, frame: Array) -> bool:
        if self.last is None:
            return False
        faces = self._tracker.detect(frame)
        if not faces or any(_same_place(self.last, face.landmarks) for face in faces):
            return False
        self._faces = faces
        assert self._next is not None
        self._next = (frame, False)
        return True

    def _needs_search(self) -> bool:
        """Until the first face is there (less often after a while), and now and then where one of several was lost."""
        if self._chosen is None:
            return self.last is not None or self.count < _SEARCH_FIRST or self.count % _SEARCH_FRAMES == 0
        return self._crowded and self._lost > 0 and self._lost % _SEARCH_FRAMES == 0

    def _choose(self, faces: list[DetectedFace]) -> None:
        if not faces:
            return
        number = self._number
        if number is not None and not self._counted and not 1 <= number <= len(faces):
            found = "only one is found, leave the number out" if len(faces) == 1 else f"{len(faces)} are found, counted from the left"
            raise _NoSuchFace(f"{self._name}: there is no face {number} in the first frame that shows faces; {found}")
        self._counted = True
        near = [] if self.last is None else [face for face in faces if _same_place(self.last, face.landmarks, 2.0, 2.0)]
        if near and self._crowded:
            last = self.last[:, :2].mean(0) if self.last is not None else 0.0
            face = min(near, key=lambda face: float(np.linalg.norm(face.landmarks[:, :2].mean(0) - last)))
        elif number is not None and number <= len(faces):
            face = sorted(faces, key=lambda face: float(face.landmarks[4, 0]))[number - 1]
        else:
            face = faces[0]
        self._chosen, self._crowded = face, self._crowded or len(faces) > 1
        if self._crowded:
            self.last = face.landmarks
        widths = sorted((face.width_px for face in faces), reverse=True)
        if number is None and len(widths) > 1 and widths[1] > _COMPANION * widths[0] and not self._told:
            self._told = True
            log.warning(
                "%s shows %d people; the largest face is followed, --driver-face N follows the Nth from the left", self._name, len(faces)
            )

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


class _NoSuchFace(NoFaceFound):
    """The number asked for is not there; unlike a shot without faces this ends everything."""


def _same_place(one: Array, other: Array, widths: float = _ELSEWHERE, ratio: float = _OTHER_SIZE) -> bool:
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
