"""Where faces are in a picture: MediaPipe's two detectors (short and full range), run by ONNX Runtime.

The networks answer with one box for each anchor, a place in a grid over the picture; boxes of the same face are joined. Regions, anchors
and joining follow MediaPipe's graphs `face_detection_short_range` and `face_detection_full_range`; the files are described in
docs/models/tracker.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.nn.model_files import Embedded
from triportrait.nn.runtime import load_graph
from triportrait.types import Array

#: Boxes that share more than this of their joint area show the same face.
_SAME_FACE = 0.3
#: Of the points, the person's right and left eye.
_RIGHT_EYE, _LEFT_EYE = 0, 1


@dataclass(frozen=True, slots=True)
class Region:
    """A square of a picture, turned about its centre.

    Args:
        centre: [2] pixels.
        side_px: of the square.
        turn_rad: clockwise in the picture; 0 upright.
    """

    centre: Array
    side_px: float
    turn_rad: float = 0.0

    @property
    def axes(self) -> Array:
        """[2, 2]: the columns are the square's own x and y in the picture."""
        cosine, sine = np.cos(self.turn_rad), np.sin(self.turn_rad)
        return np.array([[cosine, -sine], [sine, cosine]])

    def within(self, corner: Array | tuple[float, float], scale: float) -> Region:
        """The same in another picture, which begins at a corner of this one and has ``scale`` pixels for each of its."""
        return Region((self.centre - corner) * scale, self.side_px * scale, self.turn_rad)


def seen_in(picture: Array, region: Region, side_px: int, *, black_outside: bool) -> Array:
    """A region as a picture of its own: uint8 [side_px, side_px, 3].

    Bilinear between the nearest pixels, however much smaller it gets, because the networks were trained on such pictures.

    Args:
        picture: uint8 [h, w, 3].
        black_outside: whether black lies beyond the border, or its last pixels go on.
    """
    import cv2

    corners = np.array([(-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5), (0.5, 0.5)]) * region.side_px @ region.axes.T + region.centre
    into = np.array([(0, side_px), (0, 0), (side_px, 0), (side_px, side_px)], np.float32)
    border = cv2.BORDER_CONSTANT if black_outside else cv2.BORDER_REPLICATE
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), into)
    return cv2.warpPerspective(picture, matrix, (side_px, side_px), flags=cv2.INTER_LINEAR, borderMode=border)


@dataclass(frozen=True, slots=True)
class Detection:
    """A face that a detector sees.

    Args:
        low, high: [2] pixels, corners of its box, from the brows to the chin.
        points: [6, 2] pixels: both eyes, nose, mouth, both ears.
        score: 0..1.
    """

    low: Array
    high: Array
    points: Array
    score: float

    @property
    def centre(self) -> Array:
        return 0.5 * (self.low + self.high)

    @property
    def turn_rad(self) -> float:
        """Of the line between the eyes."""
        across, down = self.points[_LEFT_EYE] - self.points[_RIGHT_EYE]
        return float(np.arctan2(down, across))


class FaceDetector:
    """One of the detectors; threads may share it.

    Args:
        name: of its file.
        grids: (pixels between anchors, anchors at each place) of its grids over the picture that it takes.
    """

    def __init__(self, name: str, grids: tuple[tuple[int, int], ...]) -> None:
        self._graph = load_graph(Embedded("triportrait.face", f"{name}.onnx"), f"{name}.1")
        (_, side, _, _), *_ = self._graph.shapes.values()
        assert side is not None
        self._side_px = side
        self._anchors = anchor_places(side, grids)

    def __call__(self, picture: Array, least_score: float) -> list[Detection]:
        """Faces of a picture uint8 [h, w, 3] with at least a score, the clearest first."""
        size = np.array([picture.shape[1], picture.shape[0]], np.float64)
        region = Region(0.5 * size, float(size.max()))
        boxes, scores = self._graph(seen_in(picture, region, self._side_px, black_outside=True)[None])
        clear = np.flatnonzero(scores >= least_score)
        clear = clear[np.argsort(-scores[clear], kind="stable")]
        if not len(clear):
            return []
        rows = boxes[clear].reshape(len(clear), -1, 2) / self._side_px
        anchors = self._anchors[clear]
        # Low and high corner, then the points, all as places.
        middle, half = rows[:, 0] + anchors, 0.5 * rows[:, 1]
        places = np.concatenate([(middle - half)[:, None], (middle + half)[:, None], rows[:, 2:] + anchors[:, None]], 1)
        places = (places - 0.5) * region.side_px + region.centre
        return _joined(places, scores[clear])


def anchor_places(side_px: int, grids: tuple[tuple[int, int], ...]) -> Array:
    """Places [n, 2] of the anchors in a picture of a side, 0..1: row by row, grid by grid; ``grids`` as of :class:`FaceDetector`."""
    places = []
    for stride, count in grids:
        steps = (np.arange(side_px // stride) + 0.5) * stride / side_px
        across, down = np.meshgrid(steps, steps)
        places.append(np.stack([across, down], -1).reshape(-1, 2).repeat(count, 0))
    return np.concatenate(places)


def near_detector() -> FaceDetector:
    """For faces that fill a good part of the picture."""
    return FaceDetector("face_detector_near", ((8, 2), (16, 6)))


def far_detector() -> FaceDetector:
    """For smaller ones, too."""
    return FaceDetector("face_detector_far", ((4, 1),))


def _joined(places: Array, scores: Array) -> list[Detection]:
    """Rows [n, 8, 2] (low and high corner, six points), the clearest first, of which those of one face become their mean by score."""
    found = []
    left = np.arange(len(scores))
    while len(left):
        alike = _shared_area(places[left[0]], places[left]) > _SAME_FACE
        alike[0] = True
        same = left[alike]
        mean = np.average(places[same], axis=0, weights=scores[same])
        found.append(Detection(mean[0], mean[1], mean[2:], float(scores[left[0]])))
        left = left[~alike]
    return found


def _shared_area(one: Array, many: Array) -> Array:
    """Of one box with each of many [n], over their joint area."""
    overlap = np.minimum(one[1], many[:, 1]) - np.maximum(one[0], many[:, 0])
    shared = np.prod(np.maximum(overlap, 0.0), axis=1)
    areas = [np.prod(np.maximum(box[..., 1, :] - box[..., 0, :], 0.0), axis=-1) for box in (one, many)]
    return shared / np.maximum(areas[0] + areas[1] - shared, 1e-9)
