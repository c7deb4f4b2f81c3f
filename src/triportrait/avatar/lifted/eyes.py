"""Eyes of the lifted avatar: a texture for each eyeball, and the same photo with closed lids."""

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
_SUPERSAMPLE = 4
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


def closed_eyes_photo(portrait: PreparedPortrait, head: FullHead, shape: Array) -> tuple[Array, Array]:
    """The photo with both lids shut: (float32 [s, s, 3], the expression [e] that shuts them).

    The openings are painted over with the tone of the skin around and the grain of the skin below; the photo's own upper lid, with its
    make-up, is drawn down over that, and its lashes hang from where it ends.
    """
    import cv2

    size = portrait.image.shape[0]
    names = list(head.expression_names)
    expression = portrait.motion.expression.copy()
    for name, value in (("eyeBlink", 1.0), ("eyeWide", 0.0)):
        for half in ("Left", "Right"):
            expression[names.index(name + half)] = value
    closed = head.landmarks478(head.deform(shape, expression, portrait.motion.gaze_rad))
    pixels, _ = project(pose_points(closed, portrait.motion.rotation_rad, portrait.motion.translation), size, portrait.focal)
    photo = portrait.image.astype(np.float32)
    result = photo.copy()
    for rim, lid in _SIDES:
        points = portrait.landmarks[rim, :2]
        width = float(np.ptp(points[:, 0]))
        reach = max(2, round(0.10 * width))
        opened = (_polygon(points, size, 0.0) > 0.5).astype(np.uint8)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        hole: Any = np.maximum(cv2.dilate(opened, kernel).astype(np.float32), _lashes_above(photo, points, width))
        soft = cv2.GaussianBlur(hole, (0, 0), reach / 1.3)[..., None]
        result = soft * _lid_skin(photo, hole, points, width) + (1 - soft) * result
        result = _close(result, photo, points, portrait.landmarks[lid, :2], _smooth_curve(pixels[lid], 0.04), width)
    return result.astype(np.float32), expression


def _lashes_above(photo: Array, rim: Array, width: float) -> Array:
    """Where lashes stand above and beside an opened eye: 0 or 1, float32 [s, s]."""
    import cv2

    size = (max(3, round(0.2 * width)) | 1,) * 2
    luma = photo.sum(-1)
    bare = cv2.morphologyEx(luma, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size))
    middle = rim.mean(0)
    y, x = np.mgrid[: len(photo), : len(photo)] + 0.5
    # Brows begin where an eye's half width ends.
    near = ((x - middle[0]) / (0.8 * width)) ** 2 + ((y - middle[1]) / (0.42 * width)) ** 2 < 1
    lower = np.polynomial.Polynomial.fit(rim[:9, 0], rim[:9, 1], 2, domain=[rim[:9, 0].min(), rim[:9, 0].max()])
    dark = near & (bare - luma > 0.12 * bare) & (y < lower(np.clip(x, *lower.domain)))
    return cv2.dilate(dark.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)


def _close(painted: Array, photo: Array, rim: Array, margin: Array, line: Array, width: float) -> Array:
    """The upper lid drawn down: float32 [s, s, 3].

    Args:
        painted: float32 [s, s, 3], the photo without this eye; photo: with it.
        rim: [16, 2], the lids' landmarks; margin: [9, 2], the upper lid's, in pixels.
        line: [40, 2], where that ends up.
        width: of the opening in pixels.
    """
    import cv2

    # A frame along the corners; heights are counted downwards from their line.
    origin, end = rim[0], rim[8]
    along, down = _axes(rim)
    low = np.floor(rim.min(0) - 0.6 * width).astype(int).clip(0)
    high = np.ceil(rim.max(0) + 0.5 * width).astype(int).clip(None, len(photo))
    place = (slice(low[1], high[1]), slice(low[0], high[0]))
    y, x = np.mgrid[place]
    x, y = x + 0.5 - origin[0], y + 0.5 - origin[1]
    u, v = x * along[0] + y * along[1], x * down[0] + y * down[1]
    length = float((end - origin) @ along)

    def curve(points: Array) -> Array:
        """Height of a curve at every pixel."""
        at, height = (points - origin) @ along, (points - origin) @ down
        return np.polynomial.Polynomial.fit(at, height, 4, domain=[0, length])(np.clip(u, 0, length))

    upper, closing = curve(margin), curve(line)
    # The fold stays where it is; towards the corners it comes down to them.
    arch = np.sqrt(np.clip(1 - (2 * u / length - 1) ** 2, 0, 1))
    fold = upper - width * (0.05 + _FOLD * arch)
    inside = np.clip(closing - v + 0.5, 0, 1) * np.clip((v - fold) / (0.35 * width * _FOLD), 0, 1)
    inside *= np.clip(4 * np.minimum(u, length - u) / length, 0, 1)
    # The hem keeps its size, what lies between it and the fold is stretched.
    hem, edge = 0.05 * width, upper + 0.015 * width
    to_edge = np.maximum(closing - v, 0)
    stretch = (edge - hem - fold) / np.maximum(closing - hem - fold, 1.0)
    height = np.where(to_edge < hem, edge - to_edge, fold + (v - fold) * stretch)

    def seen(picture: Array, at: Array) -> Array:
        move = at - v
        ways = ((x + origin[0] - 0.5, down[0]), (y + origin[1] - 0.5, down[1]))
        columns, rows = ((axis + move * way).astype(np.float32) for axis, way in ways)
        return cv2.remap(picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    # Lashes are fine and stand upright: without them the lid is left, and what they darken hangs from it.
    reach = max(3, round(0.16 * width)) | 1
    bare = cv2.GaussianBlur(cv2.morphologyEx(photo, cv2.MORPH_CLOSE, np.ones((1, reach))), (0, 0), 0.02 * width)
    lashes = np.clip(photo.sum(-1) / np.maximum(bare.sum(-1), 1.0), 0.25, 1.0)
    lid = seen(bare, height)
    own, around = (cv2.GaussianBlur(part, (0, 0), 0.12 * width) for part in (lid, painted[place]))
    lid = np.clip(lid + _TONE * (around - own) + (painted[place] - around) * 0.5, 0, 255)
    part = painted[place] + inside[..., None] * (lid - painted[place])
    below = v - closing
    hanging = seen(lashes, np.minimum(edge - below * 1.4, edge)) ** 1.2
    fade = np.clip(1 - below / (0.12 * width), 0, 1) * (below > -0.5) * np.clip(10 * np.minimum(u, length - u) / length, 0, 1)
    part *= (1 + fade * (hanging - 1))[..., None]
    result = painted.copy()
    dark = np.quantile(photo[_polygon(rim, len(photo), 0.0) > 0.5], 0.03, axis=0)
    stroke = 0.45 * _stroke(line - 0.012 * width * down, len(photo), max(0.8, 0.02 * width))[place][..., None]
    result[place] = part + stroke * (dark - part)
    return result


def _axes(rim: Array) -> tuple[Array, Array]:
    """Unit vectors [2] from corner to corner of an eye's ``rim`` [16, 2], and across that downwards."""
    along = (rim[8] - rim[0]) / max(float(np.linalg.norm(rim[8] - rim[0])), 1e-6)
    down = np.array([-along[1], along[0]])
    return along, down if down[1] > 0 else -down


def _lid_skin(photo: Array, hole: Array, rim: Array, width: float) -> Array:
    """Skin for an eye's opening ``hole`` [s, s]: float32 [s, s, 3].

    Args:
        photo: float32 [s, s, 3].
        rim: [16, 2], the lids' margins from the outer corner along the lower lid to the inner corner and back.
        width: of the opening in pixels.
    """
    import cv2

    def grown(amount: float) -> Array:
        return cv2.dilate(hole, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * max(1, round(amount * width)) + 1,) * 2))

    # Lashes, liner and creases lie next to the opening; brows farther out are dark as well. The tone is what is left between them.
    around = np.clip(grown(0.42) - grown(0.1), 0, 1)
    luma = photo.sum(-1)
    low, high = np.quantile(luma[around > 0.5], (0.25, 0.85)) if (around > 0.5).any() else (0.0, 765.0)
    tone = push_pull(cv2.GaussianBlur(photo, (0, 0), 0.03 * width), around * ((luma >= low) & (luma <= high)) + 1e-5)
    tone = cv2.GaussianBlur(tone, (0, 0), 0.12 * width)
    # A lid is a part of a ball: it turns away from the light towards the crease and, less, towards the lashes.
    _, down = _axes(rim)
    y, x = np.mgrid[: len(photo), : len(photo)] + 0.5
    height = (x - rim[0, 0]) * down[0] + (y - rim[0, 1]) * down[1]
    top, bottom = (((rim - rim[0]) @ down).min(), ((rim - rim[0]) @ down).max())
    level = np.clip((height - top) / max(bottom - top, 1.0), -0.3, 1.2)
    shade = 0.95 - 0.16 * np.clip(0.35 - level, 0, 1) - 0.10 * np.clip(level - 0.55, 0, 1)
    # Grain: the skin below the eye, mirrored at a line under the lower lid.
    middle = rim[0] + (bottom + 0.16 * width) * down
    mirror = np.eye(2) - 2 * np.outer(down, down)
    matrix = np.concatenate([mirror, (middle - mirror @ middle)[:, None]], 1)
    fine = photo - cv2.GaussianBlur(photo, (0, 0), 0.06 * width)
    grain = cv2.warpAffine(fine, matrix, fine.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT)
    return tone * shade[..., None].astype(np.float32) + np.clip(grain, -14.0, 14.0)


def _smooth_curve(points: Array, inset: float) -> Array:
    """A cubic through noisy points of a lid from corner to corner, less a share of its length at both: [40, 2]."""
    along = points[-1] - points[0]
    length = float(np.linalg.norm(along)) or 1.0
    along = along / length
    across = np.array([-along[1], along[0]])
    u, v = (points - points[0]) @ along, (points - points[0]) @ across
    fit = np.polynomial.Polynomial.fit(u, v, 3)
    at = np.linspace(inset, 1.0 - inset, 40) * length
    return points[0] + at[:, None] * along + fit(at)[:, None] * across


def _polygon(points: Array, size: int, shrink_px: float) -> Array:
    """Anti-aliased filled polygon [s, s] float32, optionally shrunk."""
    import cv2

    hull = cv2.convexHull(points.astype(np.float32))[:, 0]
    mask: Any = soft_outline_mask(hull - np.float32(0.5), size, size).astype(np.float32) / 255.0
    if shrink_px > 0:
        mask = np.clip(cv2.GaussianBlur(mask, (0, 0), shrink_px) * 2.0 - 1.0, 0.0, 1.0)
    return mask


def _stroke(points: Array, size: int, width_px: float) -> Array:
    """A soft polyline [s, s] float32, drawn supersampled."""
    import cv2

    low = np.floor(points.min(0) - 4 * width_px).astype(int)
    high = np.ceil(points.max(0) + 4 * width_px).astype(int)
    canvas: Any = np.zeros(((high - low)[1] * _SUPERSAMPLE, (high - low)[0] * _SUPERSAMPLE), np.uint8)
    line = np.round((points - low) * _SUPERSAMPLE).astype(np.int32)
    cv2.polylines(canvas, [line], False, (255,), max(1, round(width_px * _SUPERSAMPLE)), cv2.LINE_AA)
    small: Any = cv2.resize(canvas, tuple((high - low).tolist()), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    small = cv2.GaussianBlur(small, (0, 0), 0.35 * width_px)
    result = np.zeros((size, size), np.float32)
    y0, x0 = max(low[1], 0), max(low[0], 0)
    y1, x1 = min(high[1], size), min(high[0], size)
    if y1 > y0 and x1 > x0:
        result[y0:y1, x0:x1] = small[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]]
    return result


def _texture_position(pixel: Array, x: Array, y: Array) -> Array:
    """Where in the texture (coordinates -1..1) a photo pixel lies, from the texels' own pixels."""
    nearest = np.unravel_index(np.argmin((x - pixel[0]) ** 2 + (y - pixel[1]) ** 2), x.shape)
    return np.array([(nearest[1] + 0.5) / TEXTURE_PX * 2 - 1, (nearest[0] + 0.5) / TEXTURE_PX * 2 - 1])
