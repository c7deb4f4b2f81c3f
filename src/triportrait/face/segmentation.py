"""Which pixels belong to a person: MediaPipe's selfie segmentation, and the six-class segmenter that a user can bring.

Both run by ONNX Runtime; the files are described in docs/models/tracker.md.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triportrait.errors import WeightsError
from triportrait.nn.model_files import Embedded
from triportrait.nn.runtime import Graph, load_graph
from triportrait.types import Array

#: Classes of the segmenter that a user can bring.
_CLASSES = 6
_SEGMENTER = (
    "convert MediaPipe's selfie_multiclass_256x256.tflite by "
    "scripts/convert_tracker_models.py --segmenter IN.tflite OUT.onnx and give OUT.onnx, or leave it out"
)


def _answer(graph: Graph, picture: Array) -> Array:
    """What a segmenter says of a picture uint8 [h, w, 3], for each pixel: float32 [h, w], or [h, w, classes]."""
    import cv2

    (_, rows, columns, _), *_ = graph.shapes.values()
    assert rows is not None and columns is not None
    height, width = picture.shape[:2]
    # The whole picture, whatever its shape, as MediaPipe shows it: corner pixel on corner pixel, bilinear between the nearest ones.
    shrink = np.diag((columns / width, rows / height, 1.0))[:2]
    (answer,) = graph(cv2.warpAffine(picture, shrink, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[None])
    return cv2.resize(answer, (width, height), interpolation=cv2.INTER_LINEAR)


class PersonSegmenter:
    """The one that ships; threads may share it."""

    def __init__(self) -> None:
        self._graph = load_graph(Embedded("triportrait.face", "person_mask.onnx"), "person_mask.1")

    def __call__(self, picture: Array) -> Array:
        """Probability [h, w] float32 that a pixel of a picture uint8 [h, w, 3] belongs to a person."""
        return np.clip(_answer(self._graph, picture), 0.0, 1.0)


class ClassSegmenter:
    """Which of six classes every pixel is: 0 background, 1 hair, 2 body skin, 3 face skin, 4 clothes, 5 other things worn.

    The published inference of Real3D-Portrait uses MediaPipe's ``selfie_multiclass_256x256.tflite``; the user brings it, converted.

    Args:
        path: the model file.

    Raises:
        WeightsError: the file is missing, or no such segmenter.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._graph = load_graph(path, "class_segmenter.1")
        except WeightsError as error:
            raise WeightsError(f"The segmenter '{path}' cannot be used; {_SEGMENTER}.") from error

    def __call__(self, image: Array) -> Array:
        """Classes uint8 [h, w] of an RGB picture uint8 [h, w, 3].

        Raises:
            WeightsError: the model knows other classes.
        """
        shares = _answer(self._graph, image)
        if shares.ndim != 3 or shares.shape[2] != _CLASSES:
            raise WeightsError(f"The segmenter does not tell {_CLASSES} classes apart; {_SEGMENTER}.")
        return shares.argmax(-1).astype(np.uint8)
