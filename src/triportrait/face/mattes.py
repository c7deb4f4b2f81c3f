"""Soft masks: person, head, torso. From the tracker's coarse segmentation, the photo's edges and the fitted head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.face.open_head import OpenHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP, UPPER_LIP_INSIDE
from triportrait.geometry.nearest import distance_of, nearest_pixels
from triportrait.types import Array, HeadPart, MotionFrame


def refine_matte(image: Array, probability: Array, face_mask: Array | None = None) -> Array:
    """A segmentation's soft blob sharpened onto the photo's edges: guided filtering (He, Sun and Tang, 2013) and linear unmixing.

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
    certain = np.clip((probability - 0.25) / 0.5, 0.0, 1.0).astype(np.float32)
    if face_mask is not None:
        certain[face_mask] = 1.0
    wide = np.clip(_guided_filter(guide, certain, max(4, size // 50), 2e-4), 0.0, 1.0)

    # Trimap: inside, outside, and a band between them as wide as the segmentation is coarse.
    band = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * (size // 64) + 1,) * 2)
    inside = cv2.erode((certain > 0.7).astype(np.uint8), band).astype(bool)
    outside = cv2.dilate((certain > 0.3).astype(np.uint8), band) == 0
    if face_mask is not None:
        inside |= face_mask
    if not inside.any() or not outside.any():
        return np.clip((wide - 0.25) / 0.5, 0.0, 1.0)
    # In the band a pixel is a mixture of the colours on both sides: its place on the line between them is the matte.
    front = push_pull(guide, inside.astype(np.float32))
    back = push_pull(guide, outside.astype(np.float32))
    line = front - back
    length = np.maximum((line**2).sum(-1), 1e-6)
    mixture = np.clip(((guide - back) * line).sum(-1) / length, 0.0, 1.0)
    # Only as far as the two sides differ, and the pixel lies near that line, is this to be believed.
    stray = ((guide - back - mixture[..., None] * line) ** 2).sum(-1)
    trust = np.clip((np.sqrt(length) - 0.08) / 0.25, 0.0, 1.0) * np.exp(-stray / 0.02)
    steep = np.clip((wide - 0.4) / 0.3, 0.0, 1.0)
    # The segmentation keeps a say: a dark wall behind dark hair is still a wall.
    mixture = np.clip(mixture * 1.15 - 0.06, 0.0, 1.0) * np.clip(wide * 5.0, 0.0, 1.0)
    alpha = trust * mixture + (1 - trust) * steep
    alpha[inside] = 1.0
    alpha[outside] = 0.0
    alpha = _guided_filter(guide, alpha.astype(np.float32), max(2, size // 170), 1e-5)
    alpha = np.clip((alpha - 0.06) / 0.88, 0.0, 1.0).astype(np.float32)
    # One person: pieces of scenery that the segmentation took along are not connected to the face.
    _, labels, stats, _ = cv2.connectedComponentsWithStats((alpha > 0.3).astype(np.uint8))
    votes = np.bincount(labels[face_mask], minlength=len(stats)) if face_mask is not None else stats[:, cv2.CC_STAT_AREA].copy()
    votes[0] = 0
    own = cv2.dilate((labels == votes.argmax()).astype(np.uint8), band)
    return alpha * own if votes.any() else alpha


def _guided_filter(guide: Array, values: Array, radius: int, epsilon: float) -> Array:
    """Edge-preserving smoothing of ``values`` [h, w] that follows the colours of ``guide`` [h, w, 3] in 0..1 (He et al., 2013, eq. 19)."""
    import cv2

    from triportrait.face.matte_kernels import local_lines

    def mean(array: Array) -> Array:
        return cv2.blur(array, (2 * radius + 1,) * 2, borderType=cv2.BORDER_REFLECT)

    values = values.astype(np.float32, copy=False)
    red, green, blue = (np.ascontiguousarray(guide[..., channel]) for channel in range(3))
    first = mean(cv2.merge([red * red, red * green, red * blue]))
    second = mean(cv2.merge([green * green, green * blue, blue * blue]))
    crosses = mean(cv2.merge([red * values, green * values, blue * values]))
    slope, offset = np.empty_like(guide), np.empty_like(values)
    local_lines(mean(guide), np.concatenate([first, second], -1), crosses, mean(values), epsilon, slope, offset)
    slope = mean(slope)
    return slope[..., 0] * red + slope[..., 1] * green + slope[..., 2] * blue + mean(offset)


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

    On the mesh the neck weight decides; beside it (hair, hats) the nearest mesh pixel does. The step along the jaw is sharp, elsewhere
    soft.
    """
    import cv2

    side = cover.covered.shape[0]
    notch = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * (side // 40) + 1,) * 2)
    on_mesh = 1.0 - np.clip((cover.neck - 0.02) / 0.06, 0.0, 1.0)
    nearest = nearest_pixels(cover.covered)
    # Notches below the ears, where the neck shows through between cheek and hair, belong to the head.
    share = cv2.morphologyEx(on_mesh[nearest].astype(np.float32), cv2.MORPH_CLOSE, notch)
    # The jaw's rim goes with the head, and a little of its shadow: a sliver left behind would be a second jaw.
    rim = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(4 * side / 512) + 1,) * 2)
    share = cv2.dilate(share, rim)
    face_height = float(np.linalg.norm(landmarks[FOREHEAD_TOP, :2] - landmarks[CHIN, :2]))
    # Nothing far below the chin is head, whatever lies nearest.
    along = landmarks[CHIN, :2] - landmarks[FOREHEAD_TOP, :2]
    along = along / np.linalg.norm(along)
    y, x = np.mgrid[:side, :side] + 0.5
    below = ((x - landmarks[CHIN, 0]) * along[0] + (y - landmarks[CHIN, 1]) * along[1]) / face_height
    share = share * np.clip(1.0 - (below - 0.05) / 0.25, 0.0, 1.0).astype(np.float32)
    soft = cv2.GaussianBlur(share, (0, 0), side / 60)
    near = np.clip(distance_of(nearest) / (side / 50), 0.0, 1.0).astype(np.float32)
    crisp = cv2.GaussianBlur(share, (0, 0), side / 400)
    return (near * soft + (1 - near) * crisp).astype(np.float32)


def settle_jaw(image: Array, alpha: Array, share: Array, landmarks: Array) -> Array:
    """``share`` with its step along the jaw moved onto the edge that the photo shows: float32 [s, s].

    The fitted jaw is bare and never exactly as wide as a real one. A beard's rim, or a sliver of cheek beside the fit, would stay behind
    with the torso and show as a second jaw. Near the step, a pixel's place between the colours on both sides decides (as in
    :func:`refine_matte`); beside the neck there is nothing but head.

    Args:
        image: uint8 [s, s, 3]; alpha: float32 [s, s], person; share: from :func:`head_share`; landmarks: [478, 2 or 3] in pixels.
    """
    import cv2

    side = len(image)
    unit = side / 512
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(10 * unit) + 1,) * 2)
    person = (alpha > 0.9).astype(np.uint8)
    head = ((share > 0.5) & (alpha > 0.5)).astype(np.uint8)
    inside, near = cv2.erode(head, reach), cv2.dilate(head, reach)
    outside = person * (1 - near)
    band = person.astype(bool) & (inside == 0) & (near == 1)
    guide = image.astype(np.float32) / 255
    front, back = push_pull(guide, inside.astype(np.float32)), push_pull(guide, outside.astype(np.float32))
    line = front - back
    length = np.maximum((line**2).sum(-1), 1e-6)
    mixture = np.clip(((guide - back) * line).sum(-1) / length, 0.0, 1.0)
    stray = ((guide - back - mixture[..., None] * line) ** 2).sum(-1)
    trust = np.clip((np.sqrt(length) - 0.12) / 0.2, 0.0, 1.0) * np.exp(-stray / 0.02) * band
    # The jaw alone: beside the ears hair hangs before everything, and far below the chin there is cloth.
    rows = np.arange(side)[:, None] + 0.5
    mouth, chin = float(landmarks[UPPER_LIP_INSIDE, 1]), float(landmarks[CHIN, 1])
    fade = 0.12 * max(chin - float(landmarks[FOREHEAD_TOP, 1]), 1.0)
    trust = trust * np.clip((rows - mouth) / fade, 0.0, 1.0) * np.clip((chin + fade - rows) / fade, 0.0, 1.0)
    trust = cv2.GaussianBlur(trust.astype(np.float32), (0, 0), unit)
    left, right = neck_sides(alpha, landmarks)
    columns = np.arange(side)[None, :]
    beside = ((columns < left) | (columns >= right)) & (near == 1) & (rows < chin) & (rows > mouth - fade)
    settled = (1 - trust) * share + trust * np.clip((mixture - 0.3) / 0.4, 0.0, 1.0)
    settled = np.where(beside, np.maximum(settled, share + (1 - share) * cv2.GaussianBlur(near.astype(np.float32), (0, 0), unit)), settled)
    # One step and no islands: what is thinner than a few pixels, or has no connection with the head, is not jaw.
    level = cv2.medianBlur(np.round(255 * settled).astype(np.uint8), 2 * max(1, round(4 * unit)) + 1)
    _, labels = cv2.connectedComponents((level > 127).astype(np.uint8))
    own = np.isin(labels, np.unique(labels[(inside > 0) & (level > 127)]))
    moved = (level / 255) * cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8))
    result = np.where(band & (rows > mouth - fade) & (rows < chin + fade), moved, share).astype(np.float32)
    return cv2.GaussianBlur(result, (0, 0), 0.7 * unit)


def neck_sides(alpha: Array, landmarks: Array) -> tuple[int, int]:
    """Left and right edge (pixels) of the neck where it is narrowest, from the person's outline just below the chin."""
    size = alpha.shape[0]
    face_height = float(np.linalg.norm(landmarks[FOREHEAD_TOP, :2] - landmarks[CHIN, :2]))
    chin_x, chin_y = landmarks[CHIN, :2]
    best = (0, size)
    for row in range(int(chin_y - 0.05 * face_height), int(chin_y + 0.2 * face_height)):
        column = int(np.clip(chin_x, 0, size - 1))
        if not 0 <= row < size or alpha[row, column] < 0.5:
            continue
        gaps = np.flatnonzero(alpha[row] < 0.5)
        left = int(gaps[gaps < column].max(initial=-1)) + 1
        right = int(gaps[gaps > column].min(initial=size))
        if right - left < best[1] - best[0]:
            best = (left, right)
    return best
