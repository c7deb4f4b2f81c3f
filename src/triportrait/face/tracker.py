"""Finding, tracking and segmenting faces. The only module that knows MediaPipe; everything else sees :class:`FaceTracker`."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import numpy as np

from triportrait.concurrency import Guard, after_fork_in_child
from triportrait.errors import ForkedProcess, NoFaceFound, WeightsError
from triportrait.face.quiet import open_standard_error, quiet
from triportrait.geometry.landmarks import CHEEK_SIDES, CHIN, FOREHEAD_TOP, NOSE_TIP
from triportrait.types import FPS, Array, FaceTrack

log = logging.getLogger(__name__)

#: Faces narrower than this carry too little detail to animate (pixels of the photograph).
MIN_FACE_PX = 64
#: Beyond this yaw one eye and half the mouth are unseen.
MAX_YAW_DEGREES = 60.0
#: The mesh network sees a square crop of this many face widths; measured best on the portraits of the data bundle.
_CROP_FACE_WIDTHS = 1.8
_CROP_PX = 384
#: Looks at a first frame until the landmarks no longer depend on the detector's box (measured: 20 px off at the forehead after one).
_SETTLE = 3
#: A picture without a face: after it a network that follows faces looks at the next picture as at its first.
_BLANK = np.zeros((64, 64, 3), np.uint8)
#: Blank pictures until a face is forgotten; measured: one is enough.
_BLANKS = 4
#: A window in which faces are searched is seen at this side; both detectors take less.
_WINDOW_PX = 256
#: Smallest window of the picture: the narrowest face worth finding is 23 px in it.
_SMALLEST_WINDOW_PX = 700.0
#: But no more than so many of them make a side of the picture.
_WINDOWS_A_SIDE = 7
#: Windows begin this share of their side after one another: a face of a third of a window lies whole in one of them.
_WINDOW_STEP = 0.62
#: Up to this side a picture's narrow faces are seen without windows.
_SMALL_PICTURE_PX = 1000
#: A photograph whose widest face is wider than this share of it shows that person; others show several, or one from afar.
_CLOSE_UP = 0.2
#: Detectors' score from which a face in a window counts; the whole picture is believed more (0.4).
_WINDOW_SCORE = 0.6
#: Beyond this roll the picture lies on its side.
MAX_ROLL_DEGREES = 60.0
#: In clips a face narrower than this share of the frame is followed in a crop of so many face sizes, which is moved when the face
#: has come half its own size off the middle.
_CROP_FACES = 4.5
#: At rest for further clips; more are let go.
_RESTING_FOLLOWERS = 4
#: Without a face the whole picture is searched at least every so many seconds.
_SEARCH_EVERY_S = 2.0
#: Classes of the segmenter that a user can bring.
_CLASSES = 6
_SEGMENTER = "give MediaPipe's selfie_multiclass_256x256.tflite, or leave it out"


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """One face of a picture: ``landmarks`` [478, 3] float32 pixels, ``width_px`` of its landmark box, ``score`` 0..1 of its detector."""

    landmarks: Array
    score: float = 1.0

    @property
    def width_px(self) -> float:
        return float(np.ptp(self.landmarks[:, 0]))

    @property
    def yaw_degrees(self) -> float:
        """Rough yaw from the nose's place between the face's sides and the depths of both cheeks."""
        right, left = CHEEK_SIDES
        across = self.landmarks[left] - self.landmarks[right]
        return float(np.degrees(np.arctan2(across[2], np.copysign(np.hypot(across[0], across[1]), across[0]))))

    @property
    def roll_degrees(self) -> float:
        """Rough roll from chin to forehead: 0 upright, positive clockwise in the picture, 180 upside down."""
        across, up = self.landmarks[FOREHEAD_TOP, :2] - self.landmarks[CHIN, :2]
        return float(np.degrees(np.arctan2(across, 0.0 - up)))


class FaceTracker(Protocol):
    """What the rest of the package asks of a tracker."""

    def detect(self, image: Array) -> list[DetectedFace]:
        """All faces of an upright RGB picture [h, w, 3] uint8, the largest first."""
        ...

    def track(self, frames: Iterable[Array]) -> Iterator[tuple[Array, bool]]:
        """One face through a clip: yields landmarks [478, 3] (pixels) and whether this frame showed it."""
        ...

    def person_mask(self, image: Array) -> Array:
        """Probability [h, w] float32 that a pixel belongs to a person."""
        ...

    def score(self, image: Array) -> float:
        """How clearly a face is seen in the whole of a picture: 0..1, 0 when none is."""
        ...


_FORKED = (
    "MediaPipe, which finds faces, does not work in a process forked from one that has used it; "
    "start the pool with the method 'spawn' or 'forkserver', or fork before the first photo"
)


class _Network:
    """One of MediaPipe's networks. It serves one thread at a time, and starts anew after a fault.

    In a child that is forked once any network was started, the next one corrupts the heap (measured with mediapipe 0.10.21, even after
    the first was closed): there it is refused.

    Raises:
        ForkedProcess: see above.
    """

    _alive: WeakSet[_Network] = WeakSet()
    #: Whether MediaPipe has made its remark on the first landmarks of a process.
    _remarked = False
    #: Whether one was started, in this process and in the one that it was forked from.
    _started = False
    _started_before_fork = False

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._solution: Any = None
        self._used = False
        self._alive.add(self)

    def __call__(self, picture: Array) -> Any:
        """What MediaPipe says of a picture [h, w, 3] uint8."""
        self.start()
        try:
            self._used = True
            if _Network._remarked:
                return self._solution.process(picture)
            with quiet():
                answer = self._solution.process(picture)
            _Network._remarked = bool(getattr(answer, "multi_face_landmarks", None))
            return answer
        except BaseException:  # half a picture inside: it would refuse all others
            self._solution = None
            raise

    def start(self) -> None:
        """Load it, unless it is."""
        if _Network._started_before_fork:
            raise ForkedProcess(_FORKED)
        if self._solution is None:
            _Network._started = True
            with quiet():
                self._solution = self._make()
                self._solution.process(_BLANK)  # it remarks on its own start
            self._used = False

    def forget(self) -> None:
        """The next picture is looked at as the first; the same as a restart, in a tenth of its time."""
        if self._used and self._solution is not None:
            for _ in range(_BLANKS):
                if not self(_BLANK).multi_face_landmarks:
                    self._used = False
                    return
            self._solution = None

    def leave_behind(self) -> None:
        """In a forked child: its threads are not there, and whoever closes it waits for them for ever. So nobody ever does."""
        if self._solution is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._solution))
            self._solution = None

    @classmethod
    def leave_all_behind(cls) -> None:
        """See :meth:`leave_behind`."""
        cls._started_before_fork = cls._started
        for network in list(cls._alive):
            network.leave_behind()


after_fork_in_child(_Network.leave_all_behind)


class MediaPipeTracker:
    """:class:`FaceTracker` on the models inside the ``mediapipe`` 0.10.21 wheel; needs no download.

    Threads may share it: photographs wait for one another, clips are followed side by side.
    """

    def __init__(self) -> None:
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        open_standard_error()
        with quiet():
            import mediapipe
        solutions = mediapipe.solutions

        def mesh(min_detection_confidence: float) -> _Network:
            return _Network(
                lambda: solutions.face_mesh.FaceMesh(
                    static_image_mode=False, max_num_faces=1, refine_landmarks=True, min_detection_confidence=min_detection_confidence
                )
            )

        detection = partial(solutions.face_detection.FaceDetection, min_detection_confidence=0.4)
        self._detectors = [_Network(partial(detection, model_selection=model)) for model in (0, 1)]
        self._still = mesh(0.3)
        self._segmenter = _Network(partial(solutions.selfie_segmentation.SelfieSegmentation, model_selection=0))
        self._new_follower = partial(mesh, 0.4)
        #: Networks that follow a face through a clip, at rest.
        self._followers: list[_Network] = []
        self._guard = Guard()

    def detect(self, image: Array) -> list[DetectedFace]:
        """See :class:`FaceTracker`. Boxes come from both detectors, landmarks from a crop round each box.

        A picture of over 1000 px is also searched in windows of half its side, and in ever smaller ones unless one face fills it.
        """
        side = max(image.shape[:2])
        image = np.ascontiguousarray(image)
        faces: list[DetectedFace] = []
        tiny: list[DetectedFace] = []
        with self._guard.lock:
            for box in self._boxes(image):
                if (face := self._face_in(image, box)) and _is_new(face, faces):
                    faces.append(face)
            for window_px in _window_sides(side):
                for box in self._boxes_in_windows(image, window_px):
                    if any(np.linalg.norm(face.landmarks[NOSE_TIP, :2] - box.centre) < 0.5 * face.width_px for face in faces):
                        continue
                    face = self._face_in(image, box)
                    if face and box.holds(face) and _is_new(face, faces):
                        (faces if face.width_px >= MIN_FACE_PX else tiny).append(face)
                if any(face.width_px > _CLOSE_UP * side for face in faces):
                    break
        return sorted(faces or tiny, key=lambda face: -face.width_px)

    def track(self, frames: Iterable[Array]) -> Iterator[tuple[Array, bool]]:
        """See :class:`FaceTracker`. Frames before the first face repeat it; a lost face repeats the last one.

        A small face is followed in a crop of the frame. The frames should be upright; none is ever turned here.

        Raises:
            NoFaceFound: no frame shows a face.
        """
        try:
            network = self._followers.pop()
        except IndexError:
            network = self._new_follower()
        follower = _Follower(self, network)
        last: Array | None = None
        missing = 0
        try:
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
        finally:
            if len(self._followers) < _RESTING_FOLLOWERS:
                self._followers.append(network)
        if last is None:
            raise NoFaceFound(
                f"no frame of the clip shows a face of {MIN_FACE_PX} px or more; use a clip of one person looking towards the camera"
            )

    def person_mask(self, image: Array) -> Array:
        """See :class:`FaceTracker`."""
        with self._guard.lock:
            return np.asarray(self._segmenter(np.ascontiguousarray(image)).segmentation_mask, np.float32)

    def score(self, image: Array) -> float:
        """See :class:`FaceTracker`."""
        with self._guard.lock:
            return max((box.score for box in self._detected(np.ascontiguousarray(image), (0.0, 0.0), 1.0)), default=0.0)

    def _boxes(self, image: Array) -> list[_Box]:
        boxes = _distinct(self._detected(image, (0.0, 0.0), 1.0))
        height, width = image.shape[:2]
        # A face that fills the picture escapes both detectors; the mesh network's own detector sees the whole.
        return boxes or [_Box(np.array([width / 2, height / 2]), max(height, width) / _CROP_FACE_WIDTHS, 0.0)]

    def _boxes_in_windows(self, image: Array, window_px: float) -> list[_Box]:
        """What the detectors find in windows of a side, the clearest first."""
        import cv2

        scale = _WINDOW_PX / window_px
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        boxes: list[_Box] = []
        for top in _window_starts(small.shape[0]):
            for left in _window_starts(small.shape[1]):
                window = np.ascontiguousarray(small[top : top + _WINDOW_PX, left : left + _WINDOW_PX])
                boxes += self._detected(window, (left, top), 1 / scale)
        return _distinct(sorted((box for box in boxes if box.score >= _WINDOW_SCORE), key=lambda box: -box.score))

    def _detected(self, picture: Array, corner: tuple[float, float], scale: float) -> list[_Box]:
        """Boxes of both detectors in a picture that stands at ``corner`` of another, ``scale`` of whose pixels one of its own spans."""
        height, width = picture.shape[:2]
        boxes = []
        for detector in self._detectors:
            for detection in detector(picture).detections or []:
                box = detection.location_data.relative_bounding_box
                centre = np.array([(box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height])
                side = max(box.width * width, box.height * height) * 1.15
                boxes.append(_Box((centre + corner) * scale, side * scale, float(detection.score[0])))
        return boxes

    def _face_in(self, image: Array, box: _Box) -> DetectedFace | None:
        landmarks = self._mesh_in_crop(image, box.centre, box.side)
        if landmarks is None:
            return None
        # A second look at the crop that the first landmarks ask for removes the detector's framing error.
        low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
        landmarks = self._mesh_in_crop(image, 0.5 * (low + high), float((high - low).max()))
        if landmarks is None:
            return None
        (height, width), (x, y) = image.shape[:2], landmarks[NOSE_TIP, :2]
        return DetectedFace(landmarks, box.score) if 0 <= x < width and 0 <= y < height else None

    def _mesh_in_crop(self, image: Array, centre: Array, face_side: float) -> Array | None:
        import cv2

        side = face_side * _CROP_FACE_WIDTHS
        scale = _CROP_PX / side
        matrix = np.array([[scale, 0, _CROP_PX / 2 - centre[0] * scale], [0, scale, _CROP_PX / 2 - centre[1] * scale]])
        if scale < 0.6:  # warpAffine does not average: shrink first
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            matrix[:, :2] = np.eye(2)
        crop = cv2.warpAffine(image, matrix, (_CROP_PX, _CROP_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        self._still.forget()
        found = _settled(self._still, crop, _SETTLE)
        if found is None:
            return None
        landmarks = found / scale
        landmarks[:, :2] += centre - side / 2
        return landmarks


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a detector sees a face: ``centre`` [2] and ``side`` in pixels of the whole picture, ``score`` 0..1."""

    centre: Array
    side: float
    score: float

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
    """Sides of the windows in which a picture is searched, each at most 2.2 times the next: none for small pictures."""
    if side_px <= _SMALL_PICTURE_PX:
        return []
    smallest = max(_SMALLEST_WINDOW_PX, side_px / _WINDOWS_A_SIDE)
    largest = max(side_px / 2, smallest)
    steps = int(np.ceil(np.log(largest / smallest) / np.log(2.2) - 1e-9))
    return list(np.geomspace(largest, smallest, steps + 1))


def _window_starts(side_px: int) -> list[int]:
    """Where windows begin along a side, evenly, the first and the last at its ends."""
    room = max(0, side_px - _WINDOW_PX)
    return [round(start) for start in np.linspace(0, room, 1 + int(np.ceil(room / (_WINDOW_STEP * _WINDOW_PX))))]


def search_is_due(missing: int, at_least_every_s: float = _SEARCH_EVERY_S, fps: float = FPS) -> bool:
    """Whether the whole picture, which costs many looks, is searched for a face that ``missing`` frames before this one did not show.

    The first frame without it is searched; then each search waits for as long as the face has been away, but never longer than
    ``at_least_every_s``. Every search of a clip, the tracker's own and those of :mod:`~triportrait.face.following`, is due by this rule.
    """
    return missing & (missing - 1) == 0 or missing % max(1, round(at_least_every_s * fps)) == 0


class _Follower:
    """One face through the frames of a clip.

    Args:
        tracker: finds small faces.
        network: looks at every frame; whole frames as long as it finds the face in them.
    """

    def __init__(self, tracker: MediaPipeTracker, network: _Network) -> None:
        self._tracker, self._network = tracker, network
        self._network.forget()
        self._last: Array | None = None
        #: Frames since a face was seen.
        self._missing = 0
        #: (left, top, side) of the crop in which a small face is followed.
        self._crop: tuple[int, int, int] | None = None
        self._looks = 1

    def look(self, frame: Array) -> Array | None:
        """Landmarks [478, 3] in the frame, or None."""
        picture = np.ascontiguousarray(frame)
        found = self._followed(picture)
        if found is None:
            found = _settled(self._network, picture, _SETTLE if self._last is None else 1)
        if found is None and search_is_due(self._missing):
            found = self._small(picture)
        self._missing = 0 if found is not None else self._missing + 1
        self._last = self._last if found is None else found
        return found

    def _small(self, picture: Array) -> Array | None:
        """The widest small face of a picture, and from then on in a crop round it; of another size than before it is somebody else."""
        for face in self._tracker.detect(picture):
            alike = self._last is None or 0.5 < face.width_px / float(np.ptp(self._last[:, 0])) < 2.0
            if MIN_FACE_PX <= face.width_px < _CLOSE_UP * max(picture.shape[:2]) and alike:
                self._aim(_crop_round(face.landmarks, picture))
                return self._followed(picture)
        return None

    def _aim(self, crop: tuple[int, int, int]) -> None:
        self._crop, self._looks = crop, _SETTLE
        self._network.forget()

    def _followed(self, picture: Array) -> Array | None:
        """The face in its crop, which moves along in steps; None, and no crop, when it is not there."""
        if self._crop is None:
            return None
        left, top, side = self._crop
        found = _settled(self._network, np.ascontiguousarray(picture[top : top + side, left : left + side]), self._looks)
        if found is None:
            self._crop = None
            self._network.forget()
            return None
        found[:, :2] += (left, top)
        self._looks = 1
        wanted = _crop_round(found, picture)
        moves = [abs(wanted[axis] - self._crop[axis] + 0.5 * (wanted[2] - side)) for axis in (0, 1)]
        if max(moves) > 0.5 * side / _CROP_FACES or not 2 / 3 < wanted[2] / side < 1.5:
            self._aim(wanted)
        return found


def _crop_round(landmarks: Array, picture: Array) -> tuple[int, int, int]:
    """(left, top, side) of the square in which a small face is followed, inside the picture."""
    height, width = picture.shape[:2]
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    side = min(round(_CROP_FACES * float((high - low).max())), height, width)
    left, top = (round(float(np.clip(c - side / 2, 0, s - side))) for c, s in zip(0.5 * (low + high), (width, height), strict=True))
    return left, top, side


class ClassSegmenter:
    """Which of six classes every pixel is: 0 background, 1 hair, 2 body skin, 3 face skin, 4 clothes, 5 other things worn.

    The published inference of Real3D-Portrait uses MediaPipe's ``selfie_multiclass_256x256.tflite``, which is not in the ``mediapipe``
    wheel; the user brings it.

    Args:
        path: the model file.

    Raises:
        WeightsError: the file is missing or no segmenter of MediaPipe's.
    """

    def __init__(self, path: Path) -> None:
        with quiet():
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision

            self._image = lambda picture: mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
            self._path, self._process = path, os.getpid()
            try:
                # Handed over as bytes: MediaPipe's own messages for missing files speak of its internals.
                options = vision.ImageSegmenterOptions(
                    base_options=BaseOptions(model_asset_buffer=path.read_bytes()), output_category_mask=True, output_confidence_masks=True
                )
                self._segmenter = vision.ImageSegmenter.create_from_options(options)
            except OSError as error:
                raise WeightsError(f"The segmenter '{path}' cannot be read ({error.strerror}); {_SEGMENTER}.") from error
            except (ValueError, RuntimeError) as error:
                raise WeightsError(f"'{path}' is no segmenter that MediaPipe can run; {_SEGMENTER}.") from error

    def __call__(self, image: Array) -> Array:
        """Classes uint8 [h, w] of an RGB picture uint8 [h, w, 3].

        Raises:
            WeightsError: the model knows other classes.
            ForkedProcess: it was loaded before this process was forked.
        """
        if os.getpid() != self._process:
            raise ForkedProcess(_FORKED)
        result = self._segmenter.segment(self._image(image))
        if len(result.confidence_masks) != _CLASSES:
            raise WeightsError(f"'{self._path}' does not tell {_CLASSES} classes apart; {_SEGMENTER}.")
        return result.category_mask.numpy_view().copy()


def _settled(network: Callable[[Array], Any], image: Array, repeats: int) -> Array | None:
    """Landmarks [478, 3] after ``repeats`` looks: the first frames its region on the detector's box, the later ones on the landmarks."""
    height, width = image.shape[:2]
    for _ in range(repeats):
        found = network(image).multi_face_landmarks
    return np.array([(p.x * width, p.y * height, p.z * width) for p in found[0].landmark], np.float32) if found else None


def choose_face(faces: list[DetectedFace], number: int | None, name: str) -> DetectedFace:
    """The face to animate: the largest, or ``number`` (1 = leftmost) when given.

    Raises:
        NoFaceFound: none at all, no such number, too small, on its side, or in profile; the text names ``name`` and the remedy.
    """
    if not faces:
        raise NoFaceFound(
            f"{name}: no face found (of {MIN_FACE_PX} px or more, upright or turned); use a photo of a person looking towards the camera"
        )
    if number is None:
        face = faces[0]
    else:
        ordered = sorted(faces, key=lambda f: float(f.landmarks[NOSE_TIP, 0]))
        if not 1 <= number <= len(ordered):
            found = "only one is found, leave the number out" if len(ordered) == 1 else f"{len(ordered)} found, counted from the left"
            raise NoFaceFound(f"{name}: there is no face {number}; {found}")
        face = ordered[number - 1]
    if face.width_px < MIN_FACE_PX:
        raise NoFaceFound(f"{name}: the face is only {face.width_px:.0f} px wide; at least {MIN_FACE_PX} px are needed, use a closer photo")
    if abs(face.roll_degrees) > MAX_ROLL_DEGREES:
        raise NoFaceFound(f"{name}: the face lies on its side; turn the photo until it is upright")
    if abs(face.yaw_degrees) > MAX_YAW_DEGREES:
        raise NoFaceFound(
            f"{name}: the face is turned away by {abs(face.yaw_degrees):.0f} degrees; "
            f"use a photo with less than {MAX_YAW_DEGREES:.0f} degrees"
        )
    return face


def track_clip(tracker: FaceTracker, frames: Iterable[Array], fps: float) -> FaceTrack:
    """Collect ``tracker.track`` into a :class:`FaceTrack` (landmarks only; frames are not kept)."""
    size = (0, 0)

    def watched() -> Iterator[Array]:
        nonlocal size
        for frame in frames:
            size = (frame.shape[1], frame.shape[0])
            yield frame

    rows = list(tracker.track(watched()))
    return FaceTrack(np.stack([r[0] for r in rows]), np.array([r[1] for r in rows]), size, fps)
