"""How alike two faces are, by dlib's face embedding: ``pip install 'triportrait[identity]'``; nothing is downloaded at run time.

The network is D. King's ``dlib_face_recognition_resnet_model_v1`` (29 convolutions, 128 numbers; CC0), which the Python package
``face_recognition_models`` carries; dlib itself is under the Boost licence. Its author's rule: pictures less than 0.6 apart show one
person (99.4 % right on LFW). Only that one file of the package is read: its 68-point landmark model has other terms and is not needed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from triportrait.evaluation.learned import align_face
from triportrait.evaluation.metrics import unit
from triportrait.types import Array

#: Below this distance two pictures show the same person, as the network's author says.
SAME_PERSON = 0.6
#: Said where the packages are missing.
REMEDY = "needs dlib's face embedding; pip install 'triportrait[identity]'"
_CHIP_PX = 150
#: Where dlib's alignment wants the points below, of a chip with a quarter of padding on every side.
_MEAN_FACE = np.array(
    [[0.8595675, 0.2134982], [0.6460605, 0.2289674], [0.1205751, 0.2137275], [0.3340851, 0.2290643], [0.4901123, 0.6277975]]
)
_CHIP_POINTS = (0.25 + _MEAN_FACE) * (_CHIP_PX / 1.5)
#: The same in MediaPipe's points: the subject's left eye's outer and inner corner, the right eye's, and where the nose meets the lip.
_POINTS = ((263,), (362,), (33,), (133,), (2,))
_FILE = "dlib_face_recognition_resnet_model_v1.dat"


class FaceEmbedder:
    """Faces -> points in a space where one person's pictures lie close together.

    Args:
        path: dlib's weights file.

    Raises:
        ImportError: dlib is not installed.
    """

    def __init__(self, path: Path) -> None:
        import dlib

        self._network = dlib.face_recognition_model_v1(str(path))

    def __call__(self, pictures: Sequence[Array], landmarks: Array) -> Array:
        """float32 [n, 128] of the faces at ``landmarks`` [n, 478, 2] in pixels of ``pictures`` (uint8 or 0..1, RGB, best about 256 px)."""
        rows = []
        for picture, points in zip(pictures, landmarks, strict=True):
            whole = picture if picture.dtype == np.uint8 else np.round(255 * unit(picture)).astype(np.uint8)
            chip = align_face(whole, points, _POINTS, _CHIP_POINTS, _CHIP_PX)
            rows.append(np.array(self._network.compute_face_descriptor(np.ascontiguousarray(chip)), np.float32))
        return np.stack(rows) if rows else np.zeros((0, 128), np.float32)


@lru_cache(maxsize=1)
def find_face_embedder() -> tuple[FaceEmbedder | None, str]:
    """The embedder, or None and the reason in one sentence."""
    # The package's own module asks for pkg_resources, which new environments lack: its folder is enough.
    models = importlib.util.find_spec("face_recognition_models")
    if models is None or not models.submodule_search_locations or importlib.util.find_spec("dlib") is None:
        return None, REMEDY
    path = Path(models.submodule_search_locations[0]) / "models" / _FILE
    if not path.is_file():
        return None, f"'{path}' is missing; pip install --force-reinstall face_recognition_models"
    return FaceEmbedder(path), ""


def distances(first: Array, second: Array) -> Array:
    """Euclidean distances [n] of rows [n, 128] to rows [n, 128] (or to one row)."""
    return np.linalg.norm(np.asarray(first, np.float64) - second, axis=-1)


def centred_cosines(first: Array, second: Array, centre: Array) -> Array:
    """Cosines [n] of rows after taking away ``centre`` [128], the mean of many people: about 0 between strangers."""
    a, b = np.asarray(first, np.float64) - centre, np.asarray(second, np.float64) - centre
    return (a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-12)
