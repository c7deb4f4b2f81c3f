"""The 478 points of a face: MediaPipe's attention mesh, run by ONNX Runtime on a square round the face.

The square of a look is the one that the points of the look before ask for, and at first the detector's, as in MediaPipe's graph
`face_landmark_front`; the file is described in docs/models/tracker.md.
"""

from __future__ import annotations

import numpy as np

from triportrait.face.detection import Detection, FaceDetector, Region, seen_in
from triportrait.geometry.landmarks import EYE_LEFT_CORNERS, EYE_RIGHT_CORNERS
from triportrait.nn.model_files import Embedded
from triportrait.nn.runtime import load_graph
from triportrait.types import Array

#: The network sees so many sides of a face's box, in so many pixels.
_BOX_SIDES, _SIDE_PX = 1.5, 192
#: Outer corners of the eyes, between which the square stands upright.
_EYES = (EYE_RIGHT_CORNERS[0], EYE_LEFT_CORNERS[0])
#: Looks at a face that the detector found (measured: after one, landmarks are up to 20 px off at the forehead).
_SETTLE = 3
#: A face that was lost is sought in a square of so many face sizes round its last place, where even a small one is clear.
_SQUARE_FACES = 4.5
#: The looks that are averaged at a photograph: the square is shifted by this share of its side, grown or shrunk by this share, and
#: turned by this angle, both ways; every look does all of it.
_SHIFT, _GROWTH, _TURN_RAD = 0.02, 0.03, 0.05
#: Directions (across, down, size, turn) of those looks: each once for every sign of the others, and a mirrored face is seen as mirrored.
_LOOKS = [(across, down, size, across * down * size) for across in (-1, 1) for down in (-1, 1) for size in (-1, 1)]
#: Below it the network sees no face where it looks.
_PRESENT = 0.5


def region_of_landmarks(landmarks: Array) -> Region:
    """Where the network looks for a face whose landmarks [478, >=2] are known."""
    points = landmarks[:, :2].astype(np.float64)
    low, high = points.min(0), points.max(0)
    across, down = points[_EYES[1]] - points[_EYES[0]]
    return Region(0.5 * (low + high), _BOX_SIDES * float((high - low).max()), float(np.arctan2(down, across)))


def region_of_detection(face: Detection) -> Region:
    """Where the network looks first for a face that a detector sees."""
    return Region(face.centre, _BOX_SIDES * float((face.high - face.low).max()), face.turn_rad)


class FaceMesh:
    """The network; threads may share it."""

    def __init__(self) -> None:
        self._graph = load_graph(Embedded("triportrait.face", "face_mesh.onnx"), "face_mesh.1")

    def __call__(self, picture: Array, region: Region) -> Array | None:
        """Landmarks [478, 3] float32 in pixels of a picture uint8 [h, w, 3]; None if no face is seen in the region."""
        points, presence = self._graph(seen_in(picture, region, _SIDE_PX, black_outside=False)[None])
        if presence[0] < _PRESENT:
            return None
        points = points * np.float32(region.side_px / _SIDE_PX)
        points[:, :2] = (points[:, :2] - 0.5 * region.side_px) @ region.axes.T + region.centre
        return points.astype(np.float32)

    def settled(self, picture: Array, landmarks: Array) -> Array:
        """The mean landmarks [478, 3] of eight looks round a face that was found in a still picture.

        A look's landmarks change by half a hundredth of the face's width with the slightest change of its square, and by several at
        wrinkles, beards and glasses: looking again never settles. The mean does.

        Args:
            picture: uint8 [h, w, 3].
            landmarks: [478, 3] of a look; returned where fewer than half of the looks see a face.
        """
        region = region_of_landmarks(landmarks)
        seen = []
        for across, down, size, turn in _LOOKS:
            centre = region.centre + _SHIFT * region.side_px * np.array([across, down])
            points = self(picture, Region(centre, region.side_px * (1 + _GROWTH * size), region.turn_rad + _TURN_RAD * turn))
            if points is not None:
                seen.append(points)
        return np.mean(seen, 0) if 2 * len(seen) >= len(_LOOKS) else landmarks


class MeshFollower:
    """One face from picture to picture.

    Args:
        mesh: looks at it.
        detector: finds it, at first and whenever it is lost.
        least_score: of a detection.
    """

    def __init__(self, mesh: FaceMesh, detector: FaceDetector, least_score: float) -> None:
        self._mesh, self._detector, self._least_score = mesh, detector, least_score
        self._region: Region | None = None
        self._is_lost = False

    def begin(self, region: Region) -> None:
        """From here on, follow the face in this square."""
        self._region, self._is_lost = region, False

    def look(self, picture: Array) -> Array | None:
        """Landmarks [478, 3] in a picture uint8 [h, w, 3], or None. A face that is lost is sought near its last place first."""
        found = None
        if self._region is not None:
            found = None if self._is_lost else self._mesh(picture, self._region)
            if found is None:
                left, top, side = square_round(self._region, picture)
                if side < max(picture.shape[:2]):
                    found = self._detected(picture[top : top + side, left : left + side])
                    if found is not None:
                        found[:, :2] += (left, top)
        if found is None:
            found = self._detected(picture)
        self._is_lost = found is None
        if found is not None:
            self._region = region_of_landmarks(found)
        return found

    def _detected(self, picture: Array) -> Array | None:
        """The clearest face, looked at until its landmarks no longer depend on the detector's box."""
        faces = self._detector(picture, self._least_score)
        region = region_of_detection(faces[0]) if faces else None
        found: Array | None = None
        for _ in range(_SETTLE):
            found = None if region is None else self._mesh(picture, region)
            region = None if found is None else region_of_landmarks(found)
        return found


def square_round(region: Region, picture: Array) -> tuple[int, int, int]:
    """(left, top, side) of the square inside the picture in which a face is sought again that was in a region."""
    height, width = picture.shape[:2]
    side = max(1, min(round(_SQUARE_FACES * region.side_px / _BOX_SIDES), height, width))
    left, top = (round(float(np.clip(c - side / 2, 0, s - side))) for c, s in zip(region.centre, (width, height), strict=True))
    return left, top, side
