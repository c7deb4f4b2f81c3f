"""A FLAME file of the real layout made up from our own head: its mesh and shapes, a jaw that hinges, and the two files of landmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from triportrait.face.flame import EXPRESSION_SIZE, IDENTITY_SIZE, LANDMARK_FILE, MEDIAPIPE_FILE
from triportrait.face.open_head import OpenHead
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, LIPS
from triportrait.types import ARKIT_EXPRESSIONS

#: Brows, nose, inner lips and cheeks, as the published embedding has them besides eyes and lips; no outline of the face.
_OTHERS = (1, 4, 5, 6, 13, 14, 46, 52, 53, 55, 65, 70, 105, 107, 168, 195, 197, 276, 282, 283, 285, 295, 300, 334, 336, 50, 280, 205, 425)


def synthetic_flame(folder: Path, head: OpenHead) -> Path:
    """Write ``flame.npz`` and its landmarks into ``folder``; returns the model file."""
    count = len(head.mean)
    opened = head.expression_basis[ARKIT_EXPRESSIONS.index("jawOpen")].reshape(count, 3)
    shapes = np.zeros((count, 3, IDENTITY_SIZE + EXPRESSION_SIZE), np.float32)
    shapes[..., : head.identity_size] = head.identity_basis.T.reshape(count, 3, -1) / 10
    curves = head.expression_basis.T.reshape(count, 3, -1).copy()
    curves[..., ARKIT_EXPRESSIONS.index("jawOpen")] = 0  # the jaw does that
    shapes[..., IDENTITY_SIZE : IDENTITY_SIZE + curves.shape[-1]] = curves / 10
    weights = np.zeros((count, 5), np.float32)
    weights[:, 2] = np.linalg.norm(opened, axis=1) / np.linalg.norm(opened, axis=1).max()
    regressor = np.zeros((5, count), np.float32)
    for joint, place in enumerate([(0.0, -1.0, -0.5), (0.0, -0.8, -0.3), (0.0, 0.1, -0.1)]):
        regressor[joint, np.linalg.norm(head.mean - place, axis=1).argmin()] = 1
    for joint, ball in zip((3, 4), head.eye_vertices, strict=True):
        weights[ball], regressor[joint, ball] = np.eye(5)[joint], 1 / len(ball)
    weights[:, 1] += 1 - weights.sum(1)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "flame.npz",
        v_template=head.mean / 10,
        shapedirs=shapes,
        posedirs=np.zeros((count, 3, 36), np.float32),
        J_regressor=regressor,
        weights=weights,
        kintree_table=np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]]),
        f=head.triangles.astype(np.uint32),
    )
    numbers = np.unique([*LIPS, *EYE_LEFT_RIM, *EYE_RIGHT_RIM, *_OTHERS])[::-1]  # in no order, as published
    np.savez(
        folder / MEDIAPIPE_FILE,
        landmark_indices=numbers,
        lmk_face_idx=head.landmark_triangle[numbers],
        lmk_b_coords=head.landmark_barycentric[numbers],
    )
    triangle = np.array([np.flatnonzero((head.triangles == vertex).any(1))[0] for vertex in head.landmarks68_vertices])
    corner = (head.triangles[triangle] == head.landmarks68_vertices[:, None]).astype(np.float32)
    np.save(folder / LANDMARK_FILE, {"full_lmk_faces_idx": triangle[None], "full_lmk_bary_coords": corner[None]})
    return folder / "flame.npz"
