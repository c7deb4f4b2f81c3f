"""Eyes of the lifted avatar: a texture for each eyeball."""

from __future__ import annotations

from typing import Any

import numpy as np

from triportrait.avatar.photo_tone import PhotoTone
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, IRIS_CENTRES, UPPER_LID_LEFT, UPPER_LID_RIGHT
from triportrait.geometry.masks import soft_outline_mask
from triportrait.types import Array, FullHead, PreparedPortrait

_SIDES = ((EYE_LEFT_RIM, UPPER_LID_LEFT), (EYE_RIGHT_RIM, UPPER_LID_RIGHT))
#: Texels of an eyeball's texture along one side, and the angle from the gaze axis at its border.
TEXTURE_PX = 128
TEXTURE_ANGLE_RAD = np.radians(80.0)
#: Height of the fold above the lid's margin in the middle, in widths of the eye; how far a closed lid takes on the tone around it.
_FOLD, _TONE = 0.22, 0.8


def eyeball_texture(portrait: PreparedPortrait, head: FullHead, source: Array, side: int, tone: PhotoTone) -> Array:
    """One eye's surface unrolled round its gaze axis: float32 [e, e, 3] (0..255); the distance from the centre is the angle.

    The photo gives what it shows. The hidden part of the iris repeats its seen colours at the same radius, the hidden sclera continues
    the seen one.

    Args:
        side: 0 the subject's left, 1 the right.
        tone: of the photo.
    """
    import cv2

    size = portrait.image.shape[0]
    rim, _ = _SIDES[side]
    offset = (np.arange(TEXTURE_PX) + 0.5) / TEXTURE_PX * 2 - 1
    tx, ty = np.meshgrid(offset, offset)
    radius = np.hypot(tx, ty)
    angle = np.minimum(radius, 1.0) * TEXTURE_ANGLE_RAD
    around = np.arctan2(ty, tx)
    direction = np.stack([np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.cos(angle)], -1)
    centre, frame = eye_frame(head, source, side)
    points = centre + head.eye_radius[side] * direction.reshape(-1, 3) @ frame.T
    pixels, _ = project(pose_points(points, portrait.motion.rotation_rad, portrait.motion.translation), size, portrait.focal)
    x, y = (pixels[:, c].reshape(TEXTURE_PX, TEXTURE_PX).astype(np.float32) for c in (0, 1))
    opening = eye_opening(portrait, rim)
    seen = cv2.remap(opening, x - 0.5, y - 0.5, cv2.INTER_LINEAR, borderValue=(0,)) * (radius < 1.0)
    colour = cv2.remap(portrait.image, x - 0.5, y - 0.5, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)

    middle, iris_radius = _iris(portrait.landmarks[IRIS_CENTRES[side] : IRIS_CENTRES[side] + 5, :2], x, y)
    from_iris = np.hypot(tx - middle[0], ty - middle[1])
    whites = (seen > 0.9) & (from_iris > iris_radius * 1.15)
    sclera = _sclera(colour, whites, float(np.median(portrait.image)))
    rings = _rings(colour, seen > 0.9, from_iris / iris_radius * 20)
    edge = np.clip((from_iris / iris_radius - 0.95) / 0.15, 0, 1)[..., None]
    guess = tone.apply((1 - edge) * rings + edge * sclera)
    # The upper lid's shadow lies on whatever is uncovered there.
    keep = cv2.GaussianBlur(seen, (0, 0), 1.2)[..., None]
    return (keep * colour + (1 - keep) * guess).astype(np.float32)


def _iris(points: Array, x: Array, y: Array) -> tuple[Array, float]:
    """Centre [2] and radius of the iris in texture coordinates, from its landmarks [5, 2] and the texels' pixels x, y [e, e]."""
    middle = _texture_position(points[0], x, y)
    ring = np.array([_texture_position(point, x, y) for point in points[1:]])
    radius = float(np.median(np.hypot(*(ring - middle).T))) if np.isfinite(ring).all() else 0.3
    return middle, float(np.clip(radius, 0.2, 0.45))


def _sclera(colour: Array, whites: Array, level: float) -> Array:
    """The white of the eye continued everywhere: [e, e, 3] from colours [e, e, 3] where the photo shows ``whites`` [e, e].

    Args:
        level: the photo's median, 0..255, for eyes that show none.
    """
    fallback = np.array([205.0, 200.0, 196.0]) * np.clip(level / 150.0, 0.4, 1.1)
    if whites.sum() > 40:
        dark = np.quantile(colour[whites].sum(1), 0.3)
        whites = whites & (colour.sum(-1) > dark)
    return push_pull(np.where(whites[..., None], colour, fallback).astype(np.float32), np.maximum(whites, 3e-3).astype(np.float32))


def _rings(colour: Array, seen: Array, distance: Array) -> Array:
    """The iris's colours as rings, [e, e, 3]: medians of what is ``seen`` [e, e] at each distance [e, e], 20 at the iris's edge."""
    bins = np.clip(distance.astype(int), 0, 23)
    profile = np.stack(
        [
            np.array([np.median(colour[..., c][seen & (bins == b)]) if (seen & (bins == b)).sum() > 2 else np.nan for b in range(24)])
            for c in range(3)
        ],
        -1,
    )
    for c in range(3):
        valid = np.isfinite(profile[:, c])
        profile[:, c] = np.interp(np.arange(24), np.flatnonzero(valid), profile[valid, c]) if valid.any() else 60.0
    return np.stack([np.interp(distance - 0.5, np.arange(24), profile[:, c]) for c in range(3)], -1)


def eye_opening(portrait: PreparedPortrait, rim: Array) -> Array:
    """Where the photo shows the eye whose lids' landmarks are ``rim``: float32 [s, s], a little within the lids."""
    size = portrait.image.shape[0]
    return _polygon(portrait.landmarks[rim, :2], size, shrink_px=1.2 * size / 512)


def eye_frame(head: FullHead, vertices: Array, side: int) -> tuple[Array, Array]:
    """Centre [3] and axes [3, 3] (columns: towards image right, up, gaze) of an eyeball as it stands in ``vertices``."""
    ball = vertices[head.eye_vertices[side]]
    ring = ball[1:25]
    right, up = ring[0] - ring[12], ring[6] - ring[18]
    right, up = right / np.linalg.norm(right), up / np.linalg.norm(up)
    gaze = np.cross(right, up)
    return ball[0] - head.eye_radius[side] * gaze, np.stack([right, up, gaze], 1)


def eye_coordinates(head: FullHead, side: int) -> Array:
    """Texture coordinates [n, 2] (texels) of an eyeball's vertices, in the order of ``head.eye_vertices``."""
    points = head.mean[head.eye_vertices[side]] - head.eye_centre[side]
    direction = points / np.linalg.norm(points, axis=1, keepdims=True)
    angle = np.arccos(np.clip(direction[:, 2], -1, 1)) / TEXTURE_ANGLE_RAD
    flat = direction[:, :2] / np.maximum(np.linalg.norm(direction[:, :2], axis=1, keepdims=True), 1e-9)
    return ((flat * angle[:, None] + 1) * 0.5 * TEXTURE_PX).astype(np.float32)


def _polygon(points: Array, size: int, shrink_px: float) -> Array:
    """Anti-aliased filled polygon [s, s] float32, optionally shrunk."""
    import cv2

    hull = cv2.convexHull(points.astype(np.float32))[:, 0]
    mask: Any = soft_outline_mask(hull - np.float32(0.5), size, size).astype(np.float32) / 255.0
    if shrink_px > 0:
        mask = np.clip(cv2.GaussianBlur(mask, (0, 0), shrink_px) * 2.0 - 1.0, 0.0, 1.0)
    return mask


def _texture_position(pixel: Array, x: Array, y: Array) -> Array:
    """Where in the texture (coordinates -1..1) a photo pixel lies, from the texels' own pixels."""
    nearest = np.unravel_index(np.argmin((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2), x.shape)
    return np.array([(nearest[1] + 0.5) / TEXTURE_PX * 2 - 1, (nearest[0] + 0.5) / TEXTURE_PX * 2 - 1])
