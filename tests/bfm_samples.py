"""A face model file of the real layout made up from scratch: an ellipsoid with eyes cut out, and smooth random bases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy.io import savemat

from triportrait.face.bfm import EXPRESSION_SIZE, IDENTITY_SIZE
from triportrait.face.open_head import OpenHead
from triportrait.weights.bfm import INDEX_FILE, MODEL_FILE

#: Rows and columns of the sheet.
_SIDE = 56


def synthetic_bfm(folder: Path, head: OpenHead, seed: int = 0, vertices: int = _SIDE**2) -> Path:
    """Write ``BFM_model_front.mat``, the landmark index and the eyes' triangles into ``folder``; returns the model file.

    The sheet is a curved mask as large as a face with this many vertices (the real one has 35,709); landmarks take the vertex nearest to
    those of our own open head.
    """
    random = np.random.default_rng(seed)
    side = math.isqrt(vertices - 1) + 1
    x, y = np.meshgrid(np.linspace(-0.85, 0.85, side), np.linspace(1.1, -1.0, side))
    mean = np.stack([x, y, 0.75 - 0.55 * x**2 - 0.35 * y**2], -1).reshape(-1, 3)[:vertices]
    corner = (np.arange(side - 1)[:, None] * side + np.arange(side - 1)).reshape(-1)
    triangles = np.concatenate(
        [
            np.stack([corner, corner + side, corner + 1], -1),
            np.stack([corner + 1, corner + side, corner + side + 1], -1),
        ]
    )
    triangles = triangles[triangles.max(1) < vertices]

    def smooth(count: int, size_dm: float) -> np.ndarray:
        waves = random.normal(0, 4.0, (count, 3, 2))
        phase = random.uniform(0, 2 * np.pi, (count, 3))
        field = np.sin(np.einsum("kcd,nd->nck", waves, mean[:, :2]) + phase.T[None])
        return (size_dm * field).reshape(3 * len(mean), count)

    zero = np.zeros(head.identity_size, np.float32)
    shape = head.shape(zero)
    ours = head.landmarks478(shape)[:468]
    theirs = head.landmarks68(shape)
    offset = ours.mean(0)

    def nearest(points: np.ndarray) -> np.ndarray:
        return np.linalg.norm(mean[None, :, :2] - (points - offset)[:, None, :2], axis=-1).argmin(1)

    index = nearest(ours)
    index[[93, 127, 132, 234, 323, 356, 361, 454]] = -999
    centres = mean[triangles].mean(1)[:, :2]
    eyes = [np.flatnonzero((np.abs(centres - (0.34 * sign, 0.35)) < (0.16, 0.09)).all(1)) + 1 for sign in (1, -1)]
    folder.mkdir(parents=True, exist_ok=True)
    savemat(
        folder / MODEL_FILE,
        {
            "meanshape": (mean + (0.1, 0.2, 0.3)).reshape(1, -1),
            "idBase": smooth(IDENTITY_SIZE, 0.02),
            "exBase": smooth(EXPRESSION_SIZE, 0.02),
            "tri": triangles + 1,
            "keypoints": np.minimum(nearest(theirs), len(mean) - 2).reshape(1, -1) + 1,
            "meantex": np.zeros((1, mean.size)),
        },
    )
    np.save(folder / INDEX_FILE, index)
    for name, faces in zip(("left", "right"), eyes, strict=True):
        np.save(folder / f"bfm_{name}_eye_faces.npy", faces)
    return folder / MODEL_FILE
