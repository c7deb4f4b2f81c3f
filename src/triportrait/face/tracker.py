"""Finding, tracking and segmenting faces. The only module that knows MediaPipe; everything else sees :class:`FaceTracker`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from triportrait.errors import NoFaceFound, WeightsError
from triportrait.types import FaceTrack

Array = np.ndarray

#: Faces narrower than this carry too little detail to animate (pixels of the photograph).
MIN_FACE_PX = 64
#: Beyond this yaw one eye and half the mouth are unseen.
MAX_YAW_DEGREES = 60.0
#: The mesh network sees a square crop of this many face widths; measured best on the portraits of the data bundle.
_CROP_FACE_WIDTHS = 1.8
_CROP_PX = 384
#: Looks at a first frame until the landmarks no longer depend on the detector's box (measured: 20 px off at the forehead after one).
_SETTLE = 3
#: Classes of the segmenter that a user can bring.
_CLASSES = 6
_SEGMENTER = "give MediaPipe's selfie_multiclass_256x256.tflite, or leave it out"


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """One face of a picture: ``landmarks`` [478, 3] float32 pixels, ``width_px`` of its landmark box."""

    landmarks: Array

    @property
    def width_px(self) -> float:
        return float(np.ptp(self.landmarks[:, 0]))

    @property
    def yaw_degrees(self) -> float:
        """Rough yaw from the nose's place between the face's sides and the depths of both cheeks."""
        left, right = self.landmarks[454], self.landmarks[234]
        return float(np.degrees(np.arctan2(left[2] - right[2], left[0] - right[0])))


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


class MediaPipeTracker:
    """:class:`FaceTracker` on the models inside the ``mediapipe`` 0.10.21 wheel; needs no download."""

    def __init__(self) -> None:
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _quiet():
            import mediapipe

        self._solutions = mediapipe.solutions
        self._still: Any = None
        self._segmenter: Any = None
        self._detectors: list[Any] = []

    def detect(self, image: Array) -> list[DetectedFace]:
        """See :class:`FaceTracker`. Boxes come from both detectors, landmarks from a crop round each box."""
        height, width = image.shape[:2]
        faces: list[DetectedFace] = []
        for centre, side in self._boxes(image):
            landmarks = self._mesh_in_crop(image, centre, side)
            if landmarks is None:
                continue
            # A second look at the crop that the first landmarks ask for removes the detector's framing error.
            low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
            landmarks = self._mesh_in_crop(image, 0.5 * (low + high), float((high - low).max()))
            if landmarks is None:
                continue
            nose = landmarks[4, :2]
            if not (0 <= nose[0] < width and 0 <= nose[1] < height):
                continue
            if any(np.linalg.norm(f.landmarks[4, :2] - nose) < 0.4 * f.width_px for f in faces):
                continue
            faces.append(DetectedFace(landmarks))
        return sorted(faces, key=lambda face: -face.width_px)

    def track(self, frames: Iterable[Array]) -> Iterator[tuple[Array, bool]]:
        """See :class:`FaceTracker`. Frames before the first face repeat it; a lost face repeats the last one.

        Raises:
            NoFaceFound: no frame shows a face.
        """
        with _quiet():
            mesh = self._solutions.face_mesh.FaceMesh(
                static_image_mode=False, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.4
            )
            mesh.process(np.zeros((64, 64, 3), np.uint8))
        last: Array | None = None
        missing = 0
        with mesh:
            for frame in frames:
                if last is not None:
                    found = self._settled(mesh, np.ascontiguousarray(frame), 1)
                else:
                    with _quiet():  # it remarks on the first landmarks
                        found = self._settled(mesh, np.ascontiguousarray(frame), _SETTLE)
                if found:
                    last = found[0]
                    yield from ((last, False) for _ in range(missing))
                    missing = 0
                    yield last, True
                elif last is None:
                    missing += 1
                else:
                    yield last, False
        if last is None:
            raise NoFaceFound("no frame of the clip shows a face; use a clip of one person looking towards the camera")

    def person_mask(self, image: Array) -> Array:
        """See :class:`FaceTracker`."""
        if self._segmenter is None:
            with _quiet():
                self._segmenter = self._solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
                self._segmenter.process(np.zeros((64, 64, 3), np.uint8))
        return np.asarray(self._segmenter.process(np.ascontiguousarray(image)).segmentation_mask, np.float32)

    def _boxes(self, image: Array) -> list[tuple[Array, float]]:
        if not self._detectors:
            with _quiet():
                for model in (0, 1):
                    detector = self._solutions.face_detection.FaceDetection(model_selection=model, min_detection_confidence=0.4)
                    detector.process(np.zeros((64, 64, 3), np.uint8))
                    self._detectors.append(detector)
        height, width = image.shape[:2]
        boxes: list[tuple[Array, float]] = []
        for detector in self._detectors:
            for detection in detector.process(image).detections or []:
                box = detection.location_data.relative_bounding_box
                centre = np.array([(box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height])
                side = max(box.width * width, box.height * height) * 1.15
                if all(np.linalg.norm(c - centre) > 0.5 * max(s, side) for c, s in boxes):
                    boxes.append((centre, side))
        # A face that fills the picture escapes both detectors; the mesh network's own detector sees the whole.
        return boxes or [(np.array([width / 2, height / 2]), max(height, width) / _CROP_FACE_WIDTHS)]

    @staticmethod
    def _settled(mesh: Any, image: Array, repeats: int) -> list[Array]:
        """Landmarks after ``repeats`` looks: the first frames its region on the detector's box, the later ones on the landmarks."""
        for _ in range(repeats):
            found = _landmarks(mesh.process(image), image.shape)
        return found

    def _mesh_in_crop(self, image: Array, centre: Array, face_side: float) -> Array | None:
        import cv2

        if self._still is None:
            with _quiet():
                self._still = self._solutions.face_mesh.FaceMesh(
                    static_image_mode=False, max_num_faces=1, refine_landmarks=True, min_detection_confidence=0.3
                )
                self._still.process(np.zeros((64, 64, 3), np.uint8))
        side = face_side * _CROP_FACE_WIDTHS
        scale = _CROP_PX / side
        matrix = np.array([[scale, 0, _CROP_PX / 2 - centre[0] * scale], [0, scale, _CROP_PX / 2 - centre[1] * scale]])
        filter_ = cv2.INTER_AREA if scale < 0.6 else cv2.INTER_LINEAR
        if scale < 0.6:  # warpAffine does not average: shrink first
            shrunk = cv2.resize(image, None, fx=scale, fy=scale, interpolation=filter_)
            matrix[:, :2] = np.eye(2)
            image = shrunk
        crop = cv2.warpAffine(image, matrix, (_CROP_PX, _CROP_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        with _quiet():  # a reset builds the graph anew
            self._still.reset()
            found = self._settled(self._still, crop, _SETTLE)
        if not found:
            return None
        landmarks = found[0] / scale
        landmarks[:, :2] += centre - side / 2
        return landmarks


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
        with _quiet():
            import mediapipe
            from mediapipe.tasks.python import BaseOptions, vision

            self._image = lambda picture: mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
            self._path = path
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
        """
        result = self._segmenter.segment(self._image(image))
        if len(result.confidence_masks) != _CLASSES:
            raise WeightsError(f"'{self._path}' does not tell {_CLASSES} classes apart; {_SEGMENTER}.")
        return result.category_mask.numpy_view().copy()


@contextmanager
def _quiet() -> Iterator[None]:
    """MediaPipe's C++ writes warnings about its own models past Python's logging; nobody can act on them."""
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def _landmarks(result: Any, shape: tuple[int, ...]) -> list[Array]:
    height, width = shape[:2]
    return [
        np.array([(p.x * width, p.y * height, p.z * width) for p in face.landmark], np.float32)
        for face in result.multi_face_landmarks or []
    ]


def choose_face(faces: list[DetectedFace], number: int | None, name: str) -> DetectedFace:
    """The face to animate: the largest, or ``number`` (1 = leftmost) when given.

    Raises:
        NoFaceFound: none at all, no such number, too small, or in profile; the text names ``name`` and the remedy.
    """
    if not faces:
        raise NoFaceFound(f"{name}: no face found; use a photo of a person looking towards the camera")
    if number is None:
        face = faces[0]
    else:
        ordered = sorted(faces, key=lambda f: float(f.landmarks[4, 0]))
        if not 1 <= number <= len(ordered):
            found = "only one is found, leave the number out" if len(ordered) == 1 else f"{len(ordered)} found, counted from the left"
            raise NoFaceFound(f"{name}: there is no face {number}; {found}")
        face = ordered[number - 1]
    if face.width_px < MIN_FACE_PX:
        raise NoFaceFound(
            f"{name}: the face is only {face.width_px:.0f} px wide; at least {MIN_FACE_PX} px are needed, use a closer photo"
        )
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
