"""The tracker that ships: faces of photographs and of clips, found and followed by the networks of detection, mesh and segmentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from triportrait.errors import NoFaceFound
from triportrait.face.detection import Region, far_detector, near_detector
from triportrait.face.mesh import FaceMesh, MeshFollower, region_of_detection, region_of_landmarks
from triportrait.face.segmentation import PersonSegmenter
from triportrait.face.tracker import MIN_FACE_PX, DetectedFace, search_is_due
from triportrait.geometry.landmarks import NOSE_TIP
from triportrait.types import Array

#: The mesh network's own search sees a square crop of this many face widths; measured best on the portraits of the data bundle.
_CROP_FACE_WIDTHS = 1.8
_CROP_PX = 384
#: Looks at a face where it is known to be.
_LOOKS_AT_KNOWN = 3
#: A window in which faces are searched is seen at this side; both detectors take less.
_WINDOW_PX = 256
#: Smallest window of the picture: the narrowest face worth finding is 23 px in it.
_SMALLEST_WINDOW_PX = 700.0
#: But no more than so many of them make a side of the picture.
_WINDOWS_A_SIDE = 7
#: Windows begin this share of their side after one another: a face of a third of a window lies whole in one of them.
_WINDOW_STEP = 0.62
#: Pictures up to this side are searched in windows only where no face fills them, and then in smaller ones.
_SMALL_PICTURE_PX = 1000
_SMALLEST_WINDOW_OF_SMALL_PX, _WINDOW_SCORE_OF_SMALL = 350.0, 0.75
#: A photograph whose widest face is wider than this share of it shows that person; others show several, or one from afar.
_CLOSE_UP = 0.2
#: Detectors' scores from which a face in a whole picture counts (near, far), in a window, and in a crop round a face or a frame of a clip.
_PICTURE_SCORES = (0.5, 0.6)
_WINDOW_SCORE = 0.6
_STILL_SCORE, _CLIP_SCORE = 0.3, 0.4
#: From this score on, a face is known to be where a detector has it.
_DIRECT_SCORE = 0.65
#: A picture is dark if this percentage of it stays below this level; a darker one still is black.
_BRIGHT_SHARE, _DARK_LEVEL, _BLACK_LEVEL = 99.0, 120.0, 6.0
#: A face's landmarks reach so far beyond a detector's box.
_BOX_MARGIN = 1.15


class MeshTracker:
    """:class:`~triportrait.face.tracker.FaceTracker` on networks that ship with the package.

    Threads and forked children may share it.
    """

    def __init__(self) -> None:
        self._detectors = (near_detector(), far_detector())
        self._mesh = FaceMesh()
        self._segmenter = PersonSegmenter()

    def detect(self, image: Array) -> list[DetectedFace]:
        """See :class:`~triportrait.face.tracker.FaceTracker`. Boxes come from both detectors, landmarks from a crop round each box.

        A picture of over 1000 px is also searched in windows of half its side, and in ever smaller ones unless one face fills it; a smaller
        picture only if none does. A dark picture in which nobody is seen is searched once more, made bright.
        """
        image = _picture(image)
        faces = self._faces(image)
        if not faces and (bright := _brightened(image)) is not None:
            faces = self._faces(bright)
        return faces

    def _faces(self, image: Array) -> list[DetectedFace]:
        """See :meth:`detect`."""
        side = max(image.shape[:2])
        faces: list[DetectedFace] = []
        tiny: list[DetectedFace] = []
        for box in self._boxes(image):
            if (face := self._face_in(image, box)) and _is_new(face, faces):
                faces.append(face)
        for number, window_px in enumerate(_window_sides(side)):
            if any(face.width_px > _CLOSE_UP * side for face in faces) and (number or side <= _SMALL_PICTURE_PX):
                break
            for box in self._boxes_in_windows(image, window_px):
                if any(np.linalg.norm(face.landmarks[NOSE_TIP, :2] - box.centre) < 0.5 * face.width_px for face in faces + tiny):
                    continue
                face = self._face_in(image, box)
                if face and box.holds(face) and _is_new(face, faces + tiny):
                    (faces if face.width_px >= MIN_FACE_PX else tiny).append(face)
        return sorted(faces or tiny, key=lambda face: -face.width_px)

    def track(self, frames: Iterable[Array]) -> Iterator[tuple[Array, bool]]:
        """See :class:`~triportrait.face.tracker.FaceTracker`. Frames before the first face repeat it; a lost face repeats the last one.

        The frames should be upright; none is ever turned here.

        Raises:
            NoFaceFound: no frame shows a face.
        """
        follower = _Follower(self, self._follower(_CLIP_SCORE))
        last: Array | None = None
        missing = 0
        for frame in frames:
            found = follower.look(frame)
            if found is not None:
                last = found
                yield from ((last, False) for _ in range(missing))
                missing = 0
                yield last, True
            elif last is None:
                missing += 1
            else:
                yield last, False
        if last is None:
            raise NoFaceFound(
                f"no frame of the clip shows a face of {MIN_FACE_PX} px or more; use a clip of one person looking towards the camera"
            )

    def person_mask(self, image: Array) -> Array:
        """See :class:`~triportrait.face.tracker.FaceTracker`."""
        return self._segmenter(_picture(image))

    def score(self, image: Array) -> float:
        """See :class:`~triportrait.face.tracker.FaceTracker`."""
        return max((box.score for box in self._detected(_picture(image), (0.0, 0.0), 1.0)), default=0.0)

    def _follower(self, least_score: float) -> MeshFollower:
        return MeshFollower(self._mesh, self._detectors[0], least_score)

    def _boxes(self, image: Array) -> list[_Box]:
        boxes = _distinct(self._detected(image, (0.0, 0.0), 1.0))
        height, width = image.shape[:2]
        # A face that fills the picture escapes both detectors; the mesh network's own detector sees the whole.
        return boxes or [_Box(np.array([width / 2, height / 2]), max(height, width) / _CROP_FACE_WIDTHS, 0.0)]

    def _boxes_in_windows(self, image: Array, window_px: float) -> list[_Box]:
        """What the detectors find in windows of a side, the clearest first."""
        import cv2

        scale = _WINDOW_PX / window_px
        small = cv2.resize(image, _scaled(image, scale), interpolation=cv2.INTER_AREA)
        boxes: list[_Box] = []
        for top in _window_starts(small.shape[0]):
            for left in _window_starts(small.shape[1]):
                window = np.ascontiguousarray(small[top : top + _WINDOW_PX, left : left + _WINDOW_PX])
                boxes += self._detected(window, (left, top), 1 / scale)
        least = _WINDOW_SCORE if max(image.shape[:2]) > _SMALL_PICTURE_PX else _WINDOW_SCORE_OF_SMALL
        return _distinct(sorted((box for box in boxes if box.score >= least), key=lambda box: -box.score))

    def _detected(self, picture: Array, corner: tuple[float, float], scale: float) -> list[_Box]:
        """Boxes of both detectors in a picture that stands at ``corner`` of another, ``scale`` of whose pixels one of its own spans."""
        return [
            _Box(
                (face.centre + corner) * scale,
                float((face.high - face.low).max()) * _BOX_MARGIN * scale,
                face.score,
                region_of_detection(face).within((-corner[0], -corner[1]), scale),
            )
            for detector, least in zip(self._detectors, _PICTURE_SCORES, strict=True)
            for face in detector(picture, least)
        ]

    def _face_in(self, image: Array, box: _Box) -> DetectedFace | None:
        landmarks = self._mesh_in_crop(image, box.centre, box.side, box.region if box.score >= _DIRECT_SCORE else None)
        if landmarks is None:
            return None
        # A second search in the crop that the first landmarks ask for removes the detector's framing error.
        low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
        known = region_of_landmarks(landmarks)
        landmarks = self._mesh_in_crop(image, 0.5 * (low + high), float((high - low).max()), known, settle=True)
        if landmarks is None:
            return None
        (height, width), (x, y) = image.shape[:2], landmarks[NOSE_TIP, :2]
        return DetectedFace(landmarks, box.score) if 0 <= x < width and 0 <= y < height else None

    def _mesh_in_crop(self, image: Array, centre: Array, face_side: float, known: Region | None, settle: bool = False) -> Array | None:
        """Landmarks of the face in a crop round a place, or None.

        The crop is searched. That can go astray, a beard or a tongue confuses it; then the mesh looks where the face is ``known`` to be.
        Landmarks that ``settle`` are the mean of several looks.
        """
        import cv2

        side = face_side * _CROP_FACE_WIDTHS
        scale = _CROP_PX / side
        matrix = np.array([[scale, 0, _CROP_PX / 2 - centre[0] * scale], [0, scale, _CROP_PX / 2 - centre[1] * scale]])
        if scale < 0.6:  # warpAffine does not average: shrink first
            image = cv2.resize(image, _scaled(image, scale), interpolation=cv2.INTER_AREA)
            matrix[:, :2] = np.eye(2)
        crop = cv2.warpAffine(image, matrix, (_CROP_PX, _CROP_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        corner = centre - side / 2
        follower = self._follower(_STILL_SCORE)
        found = follower.look(crop)
        if found is None and known is not None:
            follower.begin(known.within(corner, scale))
            for _ in range(_LOOKS_AT_KNOWN):
                found = follower.look(crop)
        if found is not None and settle:
            found = self._mesh.settled(crop, found)
        return None if found is None else found / np.float32(scale) + np.append(corner, 0.0).astype(np.float32)


def _scaled(image: Array, scale: float) -> tuple[int, int]:
    """Width and height of a picture at another scale, at least one pixel."""
    height, width = image.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def _picture(image: Array) -> Array:
    """An image in one piece of memory.

    Raises:
        ValueError: it is none.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"a picture is uint8 [h, w, 3], not {image.dtype} {list(image.shape)}")
    return np.ascontiguousarray(image)


def _brightened(image: Array) -> Array | None:
    """A dark picture with its brightest colours at full level; None if it is bright, or black."""
    brightest = float(np.percentile(image.max(-1), _BRIGHT_SHARE))
    if not _BLACK_LEVEL < brightest < _DARK_LEVEL:
        return None
    return np.clip(np.arange(256) * (255.0 / brightest), 0, 255).astype(np.uint8)[image]


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a detector sees a face: ``centre`` [2] and ``side`` in pixels of the whole picture, ``score`` 0..1.

    ``region`` is where it lets the mesh look; None in a picture in which no detector saw anything.
    """

    centre: Array
    side: float
    score: float
    region: Region | None = None

    def holds(self, face: DetectedFace) -> bool:
        """Whether landmarks fit it: what is no face draws them elsewhere, or at another size."""
        low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)
        extent = float((high - low).max())
        return 0.5 < extent / self.side < 1.6 and float(np.linalg.norm(0.5 * (low + high) - self.centre)) < 0.4 * self.side


def _distinct(boxes: list[_Box]) -> list[_Box]:
    """One box per place, the first; it takes the best score of its place."""
    kept: list[_Box] = []
    for box in boxes:
        for index, other in enumerate(kept):
            if np.linalg.norm(other.centre - box.centre) <= 0.5 * max(other.side, box.side):
                kept[index] = replace(other, score=max(other.score, box.score))
                break
        else:
            kept.append(box)
    return kept


def _is_new(face: DetectedFace, faces: list[DetectedFace]) -> bool:
    nose = face.landmarks[NOSE_TIP, :2]
    return not any(np.linalg.norm(other.landmarks[NOSE_TIP, :2] - nose) < 0.4 * other.width_px for other in faces)


def _window_sides(side_px: int) -> list[float]:
    """Sides of the windows in which a picture is searched, each at most 2.2 times the next: none for very small pictures."""
    if side_px <= _SMALLEST_WINDOW_OF_SMALL_PX:
        return []
    least = _SMALLEST_WINDOW_PX if side_px > _SMALL_PICTURE_PX else _SMALLEST_WINDOW_OF_SMALL_PX
    smallest = max(least, side_px / _WINDOWS_A_SIDE)
    largest = max(side_px / 2, smallest)
    steps = int(np.ceil(np.log(largest / smallest) / np.log(2.2) - 1e-9))
    return list(np.geomspace(largest, smallest, steps + 1))


def _window_starts(side_px: int) -> list[int]:
    """Where windows begin along a side, evenly, the first and the last at its ends."""
    room = max(0, side_px - _WINDOW_PX)
    return [round(start) for start in np.linspace(0, room, 1 + int(np.ceil(room / (_WINDOW_STEP * _WINDOW_PX))))]


class _Follower:
    """One face through the frames of a clip.

    Args:
        tracker: finds small faces.
        face: looks at every frame.
    """

    def __init__(self, tracker: MeshTracker, face: MeshFollower) -> None:
        self._tracker, self._face = tracker, face
        self._last: Array | None = None
        #: Frames since a face was seen.
        self._missing = 0

    def look(self, frame: Array) -> Array | None:
        """Landmarks [478, 3] in the frame, or None."""
        picture = _picture(frame)
        found = self._face.look(picture)
        if found is None and search_is_due(self._missing):
            found = self._small(picture)
        self._missing = 0 if found is not None else self._missing + 1
        self._last = self._last if found is None else found
        return found

    def _small(self, picture: Array) -> Array | None:
        """The widest small face of a picture, which is followed from then on; of another size than before it is somebody else."""
        for face in self._tracker.detect(picture):
            alike = self._last is None or 0.5 < face.width_px / float(np.ptp(self._last[:, 0])) < 2.0
            if MIN_FACE_PX <= face.width_px < _CLOSE_UP * max(picture.shape[:2]) and alike:
                self._face.begin(region_of_landmarks(face.landmarks))
                return self._face.look(picture)
        return None
