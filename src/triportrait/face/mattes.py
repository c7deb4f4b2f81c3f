"""Soft masks: person, head, torso. From the tracker's coarse segmentation, the photo's edges and the fitted head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.types import HeadPart, MotionFrame

Array = np.ndarray


def refine_matte(image: Array, probability: Array, face_mask: Array | None = None) -> Array:
    """A segmentation's soft blob sharpened onto the photo's edges by guided filtering (He, Sun and Tang, 2013).

    Args:
        image: uint8 [h, w, 3].
        probability: float32 [h, w] from the tracker.
        face_mask: bool [h, w] that is certainly person, or None.

    Returns:
        float32 [h, w] alpha in 0..1.
    """
    import cv2

    size = max(image.shape[:2])
    guide = image.astype(np.float32) / 255.0
    sharp = np.clip((probability - 0.25) / 0.5, 0.0, 1.0).astype(np.float32)
    if face_mask is not None:
        sharp[face_mask] = 1.0
    wide = cv2.ximgproc.guidedFilter(guide, sharp, max(4, size // 40), 2e-4)
    fine = cv2.ximgproc.guidedFilter(guide, np.clip(wide, 0, 1), max(2, size // 128), 5e-5)
    alpha = np.clip((fine - 0.3) / 0.55, 0.0, 1.0)
    # Far from the blob's edge the filter has nothing to say.
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size // 24 | 1, size // 24 | 1))
    alpha[cv2.erode(sharp, kernel) > 0.98] = 1.0
    alpha[cv2.dilate(sharp, kernel) < 0.02] = 0.0
    return alpha.astype(np.float32)


@dataclass(frozen=True, slots=True)
class HeadCover:
    """The fitted head seen in the photo; s is the crop's side.

    Args:
        covered: bool [s, s], some skin of the mesh projects here.
        neck: float32 [s, s], how much that skin belongs to the neck (0 head .. 1 shoulders).
        depth: float32 [s, s], camera depth in decimetres, inf where not covered.
    """

    covered: Array
    neck: Array
    depth: Array


def head_cover(head: OpenHead, vertices: Array, motion: MotionFrame, side: int, focal: float) -> HeadCover:
    """Rasterise the fitted skin (``vertices`` [v, 3], unposed) at the photo's pose."""
    from triportrait.geometry.rasteriser import interpolate, rasterise

    pixels, depth = project(pose_points(vertices, motion.rotation_rad, motion.translation), side, focal)
    skin = head.triangles[(head.part[head.triangles] <= HeadPart.SOCKET).all(1)]
    fragments = rasterise(pixels.astype(np.float32), depth.astype(np.float32), skin, side, side, cull="back")
    neck = interpolate(fragments, skin, head.neck[:, None])[..., 0]
    return HeadCover(fragments.triangle >= 0, neck, fragments.depth)


def head_share(cover: HeadCover, landmarks: Array) -> Array:
    """Which part of each pixel belongs to the head rather than to neck and torso: float32 [s, s].

    On the mesh the neck weight decides; beside it (hair, hats) the nearest mesh pixel does. The step along the jaw is sharp, elsewhere soft.
    """
    import cv2
    from scipy.ndimage import distance_transform_edt

    side = cover.covered.shape[0]
    on_mesh = 1.0 - np.clip((cover.neck - 0.02) / 0.06, 0.0, 1.0)
    distance, (rows, columns) = distance_transform_edt(~cover.covered, return_indices=True)
    share = on_mesh[rows, columns].astype(np.float32)
    face_height = float(np.linalg.norm(landmarks[10, :2] - landmarks[152, :2]))
    # Nothing far below the chin is head, whatever lies nearest.
    along = landmarks[152, :2] - landmarks[10, :2]
    along = along / np.linalg.norm(along)
    y, x = np.mgrid[:side, :side] + 0.5
    below = ((x - landmarks[152, 0]) * along[0] + (y - landmarks[152, 1]) * along[1]) / face_height
    share *= np.clip(1.0 - (below - 0.05) / 0.25, 0.0, 1.0).astype(np.float32)
    soft = cv2.GaussianBlur(share, (0, 0), side / 60)
    near = np.clip(distance / (side / 50), 0.0, 1.0).astype(np.float32)
    crisp = cv2.GaussianBlur(share, (0, 0), side / 400)
    return (near * soft + (1 - near) * crisp).astype(np.float32)
