"""Eyes of the lifted avatar: textures for each eyeball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from triportrait.avatar.photo_tone import PhotoTone
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import (
    EYE_LEFT_RIM,
    EYE_RIGHT_RIM,
    IRIS_CENTRES,
    RIM_LOWER_MIDDLE,
    RIM_UPPER_MIDDLE,
)
from triportrait.geometry.masks import soft_outline_mask
from triportrait.types import Array, FullHead, PreparedPortrait

_SIDES = (EYE_LEFT_RIM, EYE_RIGHT_RIM)
#: Texels of an eyeball's texture along one side, and the angle from the gaze axis at its border.
TEXTURE_PX = 128
TEXTURE_ANGLE_RAD = np.radians(80.0)
#: So many texels below it lie in the upper lid's shadow (some 1.5 mm).
_SHADOW_TEXELS = 5


def eyeball_textures(portrait: PreparedPortrait, head: FullHead, source: Array, tone: PhotoTone) -> tuple[Array, Array]:
    """Both eyes' surfaces unrolled round their gaze axes, the subject's left first: float32 [2, e, e, 3] (0..255), as in the photo and with
    the upper lids farther up. The distance from the centre is the angle.

    The photo gives what it shows. The hidden part of an iris repeats the colours that either eye shows at the same radius, the hidden
    sclera continues the seen one. What lay in the upper lid's shadow is a guess, too, once the lid goes up.

    Args:
        source: [v, 3], the head as in the photo, unposed.
        tone: of the photo.
    """
    import cv2

    eyes = [_SeenEye.of(portrait, head, source, side) for side in (0, 1)]
    white = _white(eyes, float(np.median(portrait.image)))
    profile = _rings(eyes)
    textures: list[list[Array]] = [[], []]
    for eye in eyes:
        edge = np.clip((eye.from_iris - 0.95) / 0.15, 0, 1)[..., None]
        rings = np.stack([np.interp(20.0 * eye.from_iris - 0.5, np.arange(24), profile[:, c]) for c in range(3)], -1)
        guess = tone.apply((1 - edge) * rings + edge * eye.sclera(white))
        for texture, seen in zip(textures, (eye.seen, eye.unshaded()), strict=True):
            keep = cv2.GaussianBlur(seen, (0, 0), 1.2)[..., None]
            texture.append(keep * eye.colour + (1 - keep) * guess)
    in_photo, raised = (np.stack(texture).astype(np.float32) for texture in textures)
    return in_photo, raised


@dataclass(frozen=True, slots=True)
class _SeenEye:
    """What the photo shows of one eyeball, unrolled [e, e].

    Args:
        colour: float32 [e, e, 3], 0..255; seen: float32, where that is the eyeball's.
        from_iris: the distance from the middle of the iris in its radii.
    """

    colour: Array
    seen: Array
    from_iris: Array

    @staticmethod
    def of(portrait: PreparedPortrait, head: FullHead, source: Array, side: int) -> _SeenEye:
        import cv2

        size = portrait.image.shape[0]
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
        opening = eye_opening(portrait, _SIDES[side])
        seen = cv2.remap(opening, x - 0.5, y - 0.5, cv2.INTER_LINEAR, borderValue=(0,)) * (radius < 1.0)
        colour = cv2.remap(portrait.image, x - 0.5, y - 0.5, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        middle, iris_radius = _iris(portrait, side, x, y)
        return _SeenEye(colour, seen.astype(np.float32), np.hypot(tx - middle[0], ty - middle[1]) / iris_radius)

    def unshaded(self) -> Array:
        """``seen`` without what lies in the upper lid's shadow."""
        above = np.zeros_like(self.seen)
        above[:-_SHADOW_TEXELS] = self.seen[_SHADOW_TEXELS:]
        return np.minimum(self.seen, above)

    def whites(self) -> Array:
        """Where sclera shows, but no corner, which is red and lies in the shade of lids and lashes: bool."""
        whites = (self.unshaded() > 0.9) & (self.from_iris > 1.15)
        return whites & (self.colour.sum(-1) >= np.quantile(self.colour[whites].sum(1), 0.6)) if whites.sum() > 40 else whites & False

    def sclera(self, white: Array) -> Array:
        """The white of the eye continued everywhere [e, e, 3], far from what shows of it towards ``white`` [3]."""
        whites = self.whites()
        return push_pull(np.where(whites[..., None], self.colour, white).astype(np.float32), np.maximum(whites, 1e-2).astype(np.float32))


def _white(eyes: list[_SeenEye], level: float) -> Array:
    """The mean colour [3] of both eyes' sclera.

    Args:
        level: the photo's median, 0..255, for eyes that show none.
    """
    shown = np.concatenate([eye.colour[eye.whites()] for eye in eyes])
    return shown.mean(0) if len(shown) else np.array([205.0, 200.0, 196.0]) * np.clip(level / 150.0, 0.4, 1.1)


def _rings(eyes: list[_SeenEye]) -> Array:
    """The irises' colours [24, 3] as medians of what is seen at each distance from their middle, 20 at the iris's edge."""
    shown = [eye.unshaded() > 0.9 for eye in eyes]
    if min(part.sum() for part in shown) == 0:
        shown = [eye.seen > 0.9 for eye in eyes]
    colours = np.concatenate([eye.colour[part] for eye, part in zip(eyes, shown, strict=True)])
    bins = np.clip(np.concatenate([eye.from_iris[part] for eye, part in zip(eyes, shown, strict=True)]) * 20, 0, 23).astype(int)
    profile = np.full((24, 3), np.nan)
    for ring in range(24):
        if (bins == ring).sum() > 2:
            profile[ring] = np.median(colours[bins == ring], axis=0)
    known = np.flatnonzero(np.isfinite(profile[:, 0]))
    if not len(known):
        return np.full((24, 3), 60.0)
    return np.stack([np.interp(np.arange(24), known, profile[known, c]) for c in range(3)], -1)


def _iris(portrait: PreparedPortrait, side: int, x: Array, y: Array) -> tuple[Array, float]:
    """Centre [2] and radius of the iris in texture coordinates, from its landmarks and the texels' pixels x, y [e, e].

    Lids cut the iris, and the tracker draws the part that it sees: a circle as wide as that goes on under the nearer lid.
    """
    first = IRIS_CENTRES[side]
    middle, right, top, left, bottom = (_texture_position(point, x, y) for point in portrait.landmarks[first : first + 5, :2])
    across, upright = 0.5 * np.linalg.norm(right - left), 0.5 * np.linalg.norm(top - bottom)
    radius = float(np.clip(max(across, upright), 0.2, 0.45))
    rim = _SIDES[side]
    upper, lower = (_texture_position(portrait.landmarks[rim[at], :2], x, y)[1] for at in (RIM_UPPER_MIDDLE, RIM_LOWER_MIDDLE))
    nearer = np.clip(((middle[1] - lower) - (upper - middle[1])) / radius, -1.0, 1.0)
    return middle + (0.0, nearer * max(radius - upright, 0.0)), radius


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
