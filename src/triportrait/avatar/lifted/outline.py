"""The head's outline in the photo: where it runs, how far away it is, and how it goes on beyond the crop."""

from __future__ import annotations

import numpy as np

from triportrait.geometry.cameras import project
from triportrait.geometry.fields import smooth_step
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import BETWEEN_BROWS, NOSE_TIP, UPPER_LIP_INSIDE
from triportrait.geometry.masks import face_hull, holes_filled
from triportrait.geometry.nearest import distance_px
from triportrait.geometry.rasteriser import rasterise
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, HeadPart, PreparedPortrait

#: Strands within this share of the picture's side run alike, and sink no faster than this; those that nearly hang (squared cosine of what
#: they make with the border) go on as they are mirrored.
_ALIKE, _SINKS, _HANG = 0.05, 1.2, 0.1
#: Within this share of the picture's side above a body's first row what the border cuts widens to the body.
_WIDENS = 0.15
#: An outline comes to the border no more square to it than at this slope, so that what goes on is no higher than half as long.
_STEEPEST = 2.0
#: Head-space depth of the outline beside the brows and above (a skull is widest behind its ears), and beside the mouth (the jaw's corner),
#: where the fitted head's own outline is far away.
_CROWN_Z_DM, _JAW_Z_DM = -0.85, -0.6
#: What that counts for beside the fitted outline.
_USUAL_WEIGHT = 2e-4
#: An ear's width at most, from the face's outline on.
_EAR_DM = 0.45
#: An ear's breadth from its root to its rim. Of the rows that show it, so many are narrower than it is; and it goes back at most so many
#: times as far as it is seen to stand off.
_EAR_BREADTH_DM, _EAR_ROWS, _STEEPEST_EAR = 0.34, 0.8, 3.0
#: Its root lies within so many pixels of a 512 px crop of the face, and at most so far behind the face's edge there.
_ROOT_PX, _STEP_DM = 8, 0.2
#: The model's ears: least distance from the middle, and heights.
_EARS_DM = (0.8, -0.15), (np.inf, 0.35)
#: What is narrower than this beside the face is no ear; an ear ends where less than this share of its width is left, this far below those
#: heights at most, and is not widest in the uppermost share of its rows.
_LEAST_EAR_DM, _LOBE, _AFTER_DM, _UPPER_END = 0.05, 0.35, 0.08, 0.05
#: So much of an ear in any shade is told as skin; of dark hair nothing is.
_SOME_SKIN = 0.06
#: What is hair as surely as this, in more than this share of its pixels, is no ear in any shade.
_SURELY_HAIR, _ALL_HAIR = 0.9, 0.5
#: Between which heights of the face ears lie (0 mouth, 1 brows), and how far up a nod by a radian takes them.
_EARS_HEIGHT, _EARS_RISE = (0.0, 1.0), 0.93
#: What lies beyond the crop shows a band so wide inside it (pixels of a 512 px crop).
BAND_PX = 40
#: The solid outline: the matte smoothed by so many pixels of a 512 px crop, at this level.
_OUTLINE_PX, _OUTLINE_LEVEL = 2.5, 0.8


def rise_of_face(portrait: PreparedPortrait) -> Array:
    """0 at the mouth's height and below, 1 at the brows' and above: float64 [s, s]."""
    return smooth_step(np.clip(height_on_face(portrait), 0.0, 1.0))


def height_on_face(portrait: PreparedPortrait) -> Array:
    """0 at the mouth's height, 1 at the brows': float64 [s, s]."""
    size = len(portrait.image)
    y, x = np.mgrid[:size, :size] + 0.5
    brows, mouth = portrait.landmarks[BETWEEN_BROWS, :2], portrait.landmarks[UPPER_LIP_INSIDE, :2]
    up = (brows - mouth) / max(float(((brows - mouth) ** 2).sum()), 1.0)
    return (x - mouth[0]) * up[0] + (y - mouth[1]) * up[1]


def outline_depth(portrait: PreparedPortrait, head: FullHead, posed: Array, rise: Array, ear: Array) -> Array:
    """Camera depth of the head's outline near each pixel, float64 [s, s]: the fitted head's own, far from it a usual skull's.

    Args:
        posed: [v, 3], the head's vertices with hair on them, in camera axes.
        rise: from :func:`rise_of_face`; ear: bool [s, s], the first that :func:`seen_ears` gives.
    """
    import cv2

    size, motion = len(rise), portrait.motion
    matrix = matrix_from_euler(motion.rotation_rad)
    jaw, crown = (CAMERA_DISTANCE_DM - float((matrix @ (0, 0.3, z) + motion.translation)[2]) for z in (_JAW_Z_DM, _CROWN_Z_DM))
    usual = jaw + (crown - jaw) * rise
    # Of a head in half profile the one side's outline is its cheek, the other's the back of its skull.
    bald = head.triangles[(head.part[head.triangles] == HeadPart.SKIN).all(1) & (head.neck[head.triangles] < 0.02).all(1)]
    pixels, depth = project(posed, size, portrait.focal)
    drawn = rasterise(pixels.astype(np.float32), depth.astype(np.float32), np.ascontiguousarray(bald), size, size, cull="back")
    covered = (drawn.triangle >= 0).astype(np.uint8)
    filled = cv2.morphologyEx(np.pad(covered, 1), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))[1:-1, 1:-1]
    rim = covered.astype(bool) & (cv2.erode(filled, np.ones((3, 3), np.uint8), borderValue=(1,)) == 0)
    own = np.where(rim, np.minimum(drawn.depth, 20.0) - usual, 0.0)
    # An ear lies where the model has its own, but not far behind where the photo has its root.
    rims, reach = np.zeros(ear.shape), ears_reach(portrait, ear)
    edge = face_hull(portrait.landmarks, size) & (covered > 0)
    for side, points in zip(sides(portrait, np.arange(size) + 0.5), _ears(head), strict=True):
        rims[:, side] = np.median(depth[points])
        beside = cv2.dilate((ear & side).astype(np.uint8), np.ones((1, 2 * round(_ROOT_PX * size / 512) + 1), np.uint8)) > 0
        if (beside & edge).any():
            rims[:, side] = np.minimum(rims[:, side], np.median(drawn.depth[beside & edge]) + _STEP_DM + reach[:, side])
    own = np.where(ear, rims - usual, own).astype(np.float32)
    known = (ear | (rim & (rise > 0.02))).astype(np.float32)
    away = push_pull(np.dstack([own]), np.maximum(known, _USUAL_WEIGHT))[..., 0]
    return usual + cv2.GaussianBlur(away, (0, 0), 12 * size / 512)


def seen_ears(portrait: PreparedPortrait, skin: Array, hair: Array | None = None) -> tuple[Array, Array]:
    """What lies beside the face between mouth and brows, unless so much stands there that hair hangs over the ear.

    Args:
        skin: bool [s, s], where the person is skin: beside the face that is likely an ear.
        hair: float32 [s, s], how surely there is hair; None: nobody knows.

    Returns:
        bool [s, s], where there is skin or an ear, and bool [s, s], where there are whole ears: what ends beside the jaw is one if some of
        it is told as skin, whatever shade it is in, unless most of it surely is hair.
    """
    import cv2

    size = len(skin)
    beside = cv2.dilate(face_hull(portrait.landmarks, size).astype(np.uint8), np.ones((2 * round(4 * size / 512) + 1,) * 2, np.uint8)) == 0
    px_per_dm = _px_per_dm(portrait)
    # Ears lie behind the face: a head that nods takes them up.
    height = height_on_face(portrait) - _EARS_RISE * np.sin(float(portrait.motion.rotation_rad[0]))
    likely, whole = np.zeros((2, *beside.shape), bool)
    for side in sides(portrait, np.arange(size) + 0.5):
        there = beside & side & (portrait.person_alpha > 0.5)
        wide = there.sum(1) / px_per_dm
        # A row's height is that of what it shows; a head may be bent to one side.
        at = np.where(there, height, 0.0).sum(1) / np.maximum(there.sum(1), 1)
        rows = (wide > 0) & (wide < _EAR_DM) & (at > _EARS_HEIGHT[0]) & (at < _EARS_HEIGHT[1])
        here = there & rows[:, None]
        # Of an ear that the crop's border cuts nobody can say how wide it is.
        is_cut, is_skin = here[:, [0, -1]].any(), here & skin
        is_hair = hair is not None and here.any() and float((hair[here] > _SURELY_HAIR).mean()) > _ALL_HAIR
        if not is_cut and not is_hair and _ends_below(wide, np.flatnonzero(rows), px_per_dm) and is_skin.sum() > _SOME_SKIN * here.sum():
            whole |= here
        likely |= is_skin
    return likely | whole, whole


def _ends_below(wide: Array, rows: Array, px_per_dm: float) -> bool:
    """Whether something ``wide`` [s] decimetres beside the face ends below its widest place in ``rows`` [n], in order, or soon after."""
    if not len(rows) or wide[rows].max() < _LEAST_EAR_DM:
        return False
    # What is widest at the upper end comes from above: hair, or the brim of a hat.
    widest = int(wide[rows].argmax())
    below = wide[rows[widest] : rows[-1] + 1 + round(_AFTER_DM * px_per_dm)]
    return widest > _UPPER_END * len(rows) and bool(below.min() < _LOBE * wide[rows[widest]])


def ears_reach(portrait: PreparedPortrait, ear: Array) -> Array:
    """How far back ears go from root to rim, in decimetres: float64 [s, s], of the ear on that side; 0 where there is no ``ear`` [s, s].

    An ear is a plate of known breadth that stands off the head: the narrower it is seen, the farther back it goes.
    """
    reach = np.zeros(ear.shape)
    for side in sides(portrait, np.arange(len(ear)) + 0.5):
        widths = (ear & side).sum(1) / _px_per_dm(portrait)
        if widths.any():
            seen = float(np.quantile(widths[widths > 0], _EAR_ROWS))
            reach[:, side] = min(np.sqrt(max(_EAR_BREADTH_DM**2 - seen**2, 0.0)), _STEEPEST_EAR * seen)
    return reach


def sides(portrait: PreparedPortrait, x: Array) -> tuple[Array, Array]:
    """Which pixels ``x`` lie beyond the nose to the right of the picture, where the subject's left is, and which do not: bool like x."""
    left = x > portrait.landmarks[NOSE_TIP, 0]
    return left, ~left


def _px_per_dm(portrait: PreparedPortrait) -> float:
    """How many pixels of the crop a decimetre takes at the head's distance."""
    return portrait.focal * len(portrait.image) / (CAMERA_DISTANCE_DM - float(portrait.motion.translation[2]))


def _ears(head: FullHead) -> tuple[Array, Array]:
    """Vertices of the model's left and right ear."""
    low, high = _EARS_DM
    mean = head.mean
    at_ears = (head.part == HeadPart.SKIN) & (mean[:, 1] > low[1]) & (mean[:, 1] < high[1]) & (np.abs(mean[:, 0]) > low[0])
    return np.flatnonzero(at_ears & (mean[:, 0] > 0)), np.flatnonzero(at_ears & (mean[:, 0] < 0))


def signed_distance(alpha: Array, unit: float) -> Array:
    """Pixels to the outline of the solid head, positive inside: float32 like ``alpha``. One piece without holes, and smooth."""
    import cv2

    solid = cv2.GaussianBlur(alpha, (0, 0), _OUTLINE_PX * unit) > _OUTLINE_LEVEL
    _, labels, stats, _ = cv2.connectedComponentsWithStats(solid.astype(np.uint8))
    if len(stats) > 1:
        solid = labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
    solid = holes_filled(solid)
    if solid.all() or not solid.any():
        return np.full(alpha.shape, 1e3 if solid.all() else -1e3, np.float32)
    distance = (distance_px(~solid) - distance_px(solid)).astype(np.float32)
    return cv2.GaussianBlur(distance, (0, 0), 1.5 * unit)


def mirrored(x: Array, y: Array, alpha: Array, photo: Array | None = None) -> tuple[Array, Array]:
    """What lies beyond the crop of side s is the photo mirrored: its pixels [..., 2] for pixels x, y [...], and where the head may be.

    It goes to and fro in a narrow band at the border: farther inside there may be a collar, of which there is no second one. A crown cut
    off by the upper border closes above it as a circle would: what is mirrored is drawn together sideways. Strands of a ``photo`` [s, s, 3]
    go on beyond the left and right border in their direction, where they would meet their mirror images in a zigzag.
    """
    size = len(alpha)
    band = BAND_PX * size / 512
    if photo is not None:
        for away, inwards in ((-x, photo), (x - size, photo[:, ::-1])):
            beyond = np.maximum(away, 0.0)
            slope = _strands(inwards[:, : round(band)])[np.clip(y, 0, size - 1).astype(int)] * np.clip(y / band, 0.0, 1.0)
            y = np.where(y > 0, np.maximum(y + slope * (beyond + to_and_fro(beyond, band)), 0.0), y)
    shown = np.stack([np.where(v > size, size - to_and_fro(v - size, band), np.where(v < 0, to_and_fro(-v, band), v)) for v in (x, y)], -1)
    centre, half, growth = _crown(alpha)
    inside, beyond = np.sqrt(half**2 + growth * np.abs(y)), np.sqrt(np.maximum(half**2 - growth * np.abs(y), 1e-3))
    above = y < 0
    shown[..., 0] = np.where(above, np.clip(centre + (x - centre) * inside / beyond, 0, size), shown[..., 0])
    return shown, ~above | ((np.abs(x - centre) < beyond) & (half**2 > growth * np.abs(y)))


def _strands(band: Array) -> Array:
    """By how many pixels strands sink for each pixel that they lie farther inside, in each row of a ``band`` [s, b, 3] at a border: [s].

    They run across the steepest change of light (the structure tensor); where nothing runs in one direction, it is 0.
    """
    import cv2

    grey = cv2.GaussianBlur(band.astype(np.float32), (0, 0), 1.0).mean(-1)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    rows = len(band) * _ALIKE
    xx, xy, yy = (
        cv2.GaussianBlur(product.mean(1, keepdims=True), (0, 0), rows).ravel() for product in (across * across, across * down, down * down)
    )
    one_way = np.hypot(xx - yy, 2 * xy) / np.maximum(xx + yy, 1e-6)
    steepest = 0.5 * np.arctan2(2 * xy, xx - yy)
    return one_way * np.clip(-np.sin(steepest) * np.cos(steepest) / (np.sin(steepest) ** 2 + _HANG), -_SINKS, _SINKS)


def to_and_fro(way: Array, band: float) -> Array:
    """Ways of any length folded into 0..band."""
    return band - np.abs(band - np.mod(way, 2.0 * band))


def beyond_the_crop(alpha: Array, margin: int, body_row: float = np.inf, photo: Array | None = None) -> Array:
    """A matte continued by ``margin`` pixels on all sides: float32. From ``body_row`` on a body goes on as wide as it is.

    With its ``photo`` [s, s, 3] hair goes on in its strands' direction: see :func:`mirrored`.
    """
    line = np.arange(-margin, len(alpha) + margin) + 0.5
    x, y = np.meshgrid(line, line)
    shown, there = mirrored(x, y, alpha, photo)
    size = len(alpha)
    column, row = (np.clip(shown[..., c], 0, size - 1).astype(int) for c in (0, 1))
    wide = np.where(there, alpha[row, column], 0.0).astype(np.float32)
    # Only what the border cuts goes on beyond it, and closes: mirrored as it is, half an ear would become a whole one.
    deep = max(2, size // 32)
    sides = (alpha[:, :deep], slice(margin - 1, None, -1)), (alpha[:, : -deep - 1 : -1], slice(margin + size, None))
    for inwards, beyond in sides:
        reach = np.pad(_bows(inwards, margin), margin, mode="edge")
        # Hair that hangs down to a shoulder widens towards it: a step would show as the head turns.
        towards = np.clip(1.0 + (line - body_row) / (_WIDENS * size), 0.0, 1.0)
        reach = np.where(reach > 0, np.maximum(reach, margin * smooth_step(towards)), reach)
        reach[line > body_row] = margin
        wide[:, beyond] *= np.arange(margin)[None, :] < reach[:, None]
    reach = np.pad(_bows(alpha[: -deep - 1 : -1].T, margin), margin, mode="edge") if body_row > size else np.full(len(wide), margin)
    wide[margin + size :] *= np.arange(margin)[:, None] < reach[None, :]
    return wide


def _bows(band: Array, limit: float) -> Array:
    """How far what the border cuts goes on beyond it, at most ``limit``: float64 [n] of a matte [n, b] from the border inwards.

    An outline goes on as it comes to the border and closes as a cubic; of a run that ends at the picture's corner, half a cubic shows.
    """
    count, deep = len(band), band.shape[1] - 1
    at_border, inside = band[:, 0] > 0.5, band[:, -1] > 0.5
    height = np.zeros(count)
    for first, last in _runs(at_border):
        within = next(((low, high) for low, high in _runs(inside) if low < last and high > first), (first, last))
        rises, falls = (deep / max(way, deep / _STEEPEST) for way in (first - within[0], within[1] - last))
        low, high = (first if first else -count), (last if last < count else 2 * count)
        rises, falls = (falls if not first else rises), (rises if last == count else falls)
        along = (np.arange(first, last) + 0.5 - low) / (high - low)
        cubic = rises * along * (1 - along) ** 2 + falls * along**2 * (1 - along)
        height[first:last] = np.minimum((high - low) * cubic, limit)
    return height


def _runs(mask: Array) -> Array:
    """First and behind the last of each run of ``mask`` [n] bool: [r, 2]."""
    return np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]]))).reshape(-1, 2)


def _crown(alpha: Array) -> tuple[float, float, float]:
    """The head at the crop's upper border: the middle and half width of its chord there, and how fast that half width's square grows
    downwards (all in pixels; a circle's chord does so evenly). Without growth the head goes on as wide as it is."""
    rows = max(2, len(alpha) // 32)
    chords = [np.flatnonzero(alpha[row] > 0.5) for row in (0, rows)]
    if not len(chords[0]):
        return len(alpha) / 2, 0.0, 0.0
    halves = [(chord[-1] - chord[0] + 1) / 2 if len(chord) else 0.0 for chord in chords]
    return float(chords[0][0] + halves[0]), halves[0], max(0.0, (halves[1] ** 2 - halves[0] ** 2) / rows)
