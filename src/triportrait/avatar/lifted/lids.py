"""Upper lids that slide: their skin, fold and lashes unrolled from the photo once, and where they are in a frame.

A lid is unrolled along its margin: columns run from the outer corner (0) to the inner one (1), rows count the height above the margin; both
in lengths of the eye. As it closes, the margin carries the visible skin down, skin that was hidden in the fold follows, and the lashes, a
strip in 3D that the margin carries, tilt down. Everything is one drawing whose geometry moves (:mod:`lid_kernels`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from triportrait.avatar.lifted.eyes import eye_opening
from triportrait.avatar.lifted.lid_kernels import ABOVE, BEFORE, LidFrame, LidPictures
from triportrait.avatar.lifted.relight import Light
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.fields import smooth_step
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import (
    BROW_LEFT,
    BROW_RIGHT,
    CHEEKS,
    EYE_LEFT_RIM,
    EYE_RIGHT_RIM,
    LID_PAIRS,
    LOWER_CHEEKS,
    UPPER_LID_LEFT,
    UPPER_LID_RIGHT,
)
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, MotionFrame, PreparedPortrait

#: Upper and lower margins from the outer to the inner corner, and the brows' lower edges, the subject's left first.
_UPPER = (UPPER_LID_LEFT, UPPER_LID_RIGHT)
_LOWER = (EYE_LEFT_RIM[:9], EYE_RIGHT_RIM[:9])
_BROW = (BROW_LEFT[:5], BROW_RIGHT[:5])
_PAIRS = (LID_PAIRS[3:], LID_PAIRS[:3])
#: An unrolled lid: lengths of the eye beyond its corners, above its margin, and texels of a length.
_BESIDE, _UP = -BEFORE, 0.75
_TEXELS = 160
#: The fold where none is seen, and how little of it a seen one must darken.
_FOLD, _CREASE = 0.11, 0.035
#: Lashes: the line at their roots, where they end at the latest, both above the margin.
_ROOTS, _TIPS = 0.035, 0.24
#: Dark lines along the margin, such as a liner, end so far above it.
_LINE = 0.07
#: A band of liner and lashes has less than this share of the light of the skin above, is at least so high, and ends below this share of
#: the way to the brow; the fold lies at least so far above it.
_BAND_DARK, _BAND_LEAST, _BAND_MOST, _BAND_FOLD = 0.37, 0.05, 0.55, 0.05
#: How far lashes turn from lying on the opened lid, and how far they bend (radians).
_TURN_RAD, _BEND_RAD = np.radians(145.0), np.radians(50.0)
#: Below an eye a lens is darker than the cheeks by this share, or its chromaticity differs so much.
_LENS_DARKER, _LENS_CHROMA = 0.8, 0.5
#: A shut lid's chromaticity has so much of that above the fold, the rest of that below the eye (34 eyes of 17 people).
_TINT_ABOVE = 0.36
#: Between these heights above the opened margin the skin beyond the fold gains less and less of the light that the shut lid gains, and
#: never more than this.
_RISEN, _RISEN_MOST = (0.12, 0.3), 1.8
#: Shade above the fold takes no more than this of the skin's light.
_DEEPEST = 0.3
#: An opening that has grown by this share shows what the lid's shadow lay on.
_RAISED = 0.15
#: Lids that have closed less are as in the photo.
_LEAST = 0.01
_STRIP_COLUMNS = np.linspace(-0.16, 1.04, 25)
_STRIP_ROWS = np.array([-0.035, 0.0, _ROOTS, _ROOTS, 0.07, 0.11, 0.17, _TIPS])

#: The first rows are the line at the roots; between it and the lashes no triangle is drawn.
_FLAT_ROWS = 3


def _strip_triangles() -> Array:
    """Triangles of a strip, int32 [f, 3], whose vertices are numbered along its rows first."""
    n, m = len(_STRIP_COLUMNS), len(_STRIP_ROWS)
    first = (np.arange(n - 1)[:, None] * m + np.array([r for r in range(m - 1) if r != _FLAT_ROWS - 1])).reshape(-1)
    quads = np.stack([first, first + 1, first + m, first + m, first + 1, first + m + 1], 1)
    return np.ascontiguousarray(quads.reshape(-1, 3), np.int32)


def _strip_texels() -> Array:
    columns, rows = np.meshgrid(_STRIP_COLUMNS, _STRIP_ROWS, indexing="ij")
    return np.stack([(columns - BEFORE) * _TEXELS, (rows + ABOVE) * _TEXELS], -1).reshape(-1, 2).astype(np.float32)


_STRIP_TRIANGLES = _strip_triangles()
#: Columns and rows of the unrolled lid that a strip of lashes shows: float32 [n, 2].
STRIP_TEXELS = _strip_texels()


@dataclass(frozen=True, slots=True)
class Lids:
    """The lids of one portrait.

    Args:
        pictures: what the photo gives.
        closed_pixels: float32 [v, 2], where the photo would show each vertex with closed eyes.
        gaps_dm: float32 [2, 2], the height of either opening in the photo and closed.
        margin_fit: float64 [2, c, 9], which turns an upper margin's landmarks into the columns of a strip of lashes.
        residual: float32 [2, c], how far the photo's own margin lies above the head's there, in lengths of the eye.
        up, ahead: float32 [2, 3], an eye's length in head space upwards and towards the photo's viewer.
        covered: sunglasses hide the eyes.
    """

    pictures: LidPictures
    closed_pixels: Array
    gaps_dm: Array
    margin_fit: Array
    residual: Array
    up: Array
    ahead: Array
    covered: bool

    @staticmethod
    def of(portrait: PreparedPortrait, head: FullHead, shape: Array, source: Array, photo: Array, light: Light) -> Lids:
        """Unroll the photo's lids.

        Args:
            shape: [v, 3], the expressionless head; source: [v, 3], the same as in the photo.
            photo: float32 [s, s, 3 or more], the head's colours 0..255.
            light: of the photo.
        """
        motion, size = portrait.motion, len(portrait.image)
        closed = head.deform(shape, closed_expression(head, motion), motion.gaze_rad)
        closed_pixels = _in_the_photo(closed, portrait)
        landmarks = [head.landmarks478(vertices) for vertices in (source, closed)]
        eyes = [_Eye.of(portrait, landmarks, side) for side in (0, 1)]
        covered = behind_sunglasses(portrait)
        skin = _without_openings(photo[..., :3], portrait)
        unrolled = [_unroll(skin, portrait, eye, light) for eye in eyes]
        pictures = LidPictures(
            np.stack([eye.frame for eye in eyes]).astype(np.float32),
            *(np.ascontiguousarray(np.stack(parts), np.float32) for parts in zip(*unrolled, strict=True)),
        )
        margin_fit = np.stack([eye.margin_fit for eye in eyes])
        to_head = matrix_from_euler(np.asarray(motion.rotation_rad, np.float64))
        depth = CAMERA_DISTANCE_DM - float(motion.translation[2])
        length = np.array([eye.length * depth / (portrait.focal * size) for eye in eyes])
        up = np.array([[-eye.down[0], eye.down[1], 0.0] for eye in eyes]) * length[:, None] @ to_head
        ahead = np.array([[0.0, 0.0, 1.0]] * 2) * length[:, None] @ to_head
        return Lids(
            pictures,
            closed_pixels.astype(np.float32),
            np.stack([_gaps(points) for points in landmarks], 1),
            margin_fit,
            np.stack([eye.residual for eye in eyes]).astype(np.float32),
            up.astype(np.float32),
            ahead.astype(np.float32),
            covered,
        )

    def closure(self, landmarks: Array) -> Array:
        """How far the openings of ``landmarks`` [478, 3] (unposed) have closed, from the photo's to shut: float32 [2]."""
        opened, shut = self.gaps_dm.T
        part = np.clip((opened - _gaps(landmarks)) / np.maximum(opened - shut, 0.02), 0.0, 1.0).astype(np.float32)
        return part * (part > _LEAST)

    def raised(self, landmarks: Array) -> Array:
        """How surely the upper lids of ``landmarks`` [478, 3] (unposed) have left what they shaded in the photo: float32 [2], 0..1."""
        opened = np.maximum(self.gaps_dm[:, 0], 0.02)
        return np.clip((_gaps(landmarks) / opened - 1.0) / _RAISED, 0.0, 1.0).astype(np.float32)

    def frame(self, closure: Array) -> LidFrame:
        """Heights and lights of the lids at a ``closure`` [2]."""
        return LidFrame(self.pictures, np.zeros(2, np.float32) if self.covered else closure)

    def strips(self, landmarks: Array, closure: Array) -> tuple[Array, Array]:
        """The strips of lashes in head space, [2, n, 3], and their triangles int32 [f, 3] of one strip.

        Args:
            landmarks: [478, 3], unposed.
        """
        turn = smooth_step(closure.astype(np.float64))[:, None, None]
        length = np.maximum(_STRIP_ROWS - _ROOTS, 0.0)
        bend = _BEND_RAD * 4 * turn * (1 - turn) * (length / (_TIPS - _ROOTS) - 0.4)
        angle = 0.5 * np.pi - turn * _TURN_RAD + bend
        # The line at the roots lies on the margin; from its upper border, which goes down to the margin, lashes turn.
        flat = np.arange(len(_STRIP_ROWS)) < _FLAT_ROWS
        rise = np.where(flat, _STRIP_ROWS, _ROOTS * (1.0 - turn) + length * np.sin(angle))
        reach = np.where(flat, 0.0, length * np.cos(angle))
        rise = rise + (1.0 - closure[:, None, None]) * self.residual[..., None]
        edge = np.einsum("ecp,epx->ecx", self.margin_fit, landmarks[np.stack(_UPPER)])
        offset = rise[..., None] * self.up[:, None, None] + reach[..., None] * self.ahead[:, None, None]
        return (edge[:, :, None] + offset).reshape(2, -1, 3).astype(np.float32), _STRIP_TRIANGLES


def closed_expression(head: FullHead, motion: MotionFrame) -> Array:
    """The expression [e] of ``motion`` with both lids shut."""
    names = list(head.expression_names)
    expression = motion.expression.copy()
    for name, value in (("eyeBlink", 1.0), ("eyeWide", 0.0)):
        for half in ("Left", "Right"):
            expression[names.index(name + half)] = value
    return expression


def behind_sunglasses(portrait: PreparedPortrait) -> bool:
    """Whether what the photo shows below both eyes is too dark or too differently coloured for this face's skin."""
    import cv2

    picture = cv2.GaussianBlur(portrait.image, (0, 0), 3.0 * len(portrait.image) / 512).astype(np.float64) + 2.0

    def colours(points: Array) -> Array:
        x, y = np.clip(points, 0, len(picture) - 1).astype(int).T
        return picture[y, x]

    skin = np.median(colours(portrait.landmarks[list(CHEEKS + LOWER_CHEEKS), :2]), axis=0)
    found = []
    for upper, lower in zip(_UPPER, _LOWER, strict=True):
        # Above the eye lie brows and deep shade.
        middle = portrait.landmarks[np.concatenate([upper, lower]), :2].mean(0)
        below = portrait.landmarks[lower[1:-1], :2] - middle
        ring = np.median(colours(np.concatenate([middle + below * (0.9, grown) for grown in (2.0, 2.5, 3.0)])), axis=0)
        chroma = np.abs(ring / ring.sum() - skin / skin.sum()).sum()
        found.append(max((1.0 - ring.sum() / skin.sum()) / _LENS_DARKER, chroma / _LENS_CHROMA))
    # Light from aside darkens one eye alone.
    return max(found) >= 1.0 and min(found) >= 0.36


def _without_openings(photo: Array, portrait: PreparedPortrait) -> Array:
    """The photo [s, s, 3] with both openings filled from their rims: lids show nothing of the eyes."""
    result = photo.copy()
    for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM):
        points = portrait.landmarks[rim, :2]
        margin = 0.2 * np.ptp(points[:, 0])
        left, top = np.clip(points.min(0) - margin, 0, len(photo)).astype(int)
        right, bottom = np.clip(np.ceil(points.max(0) + margin), 0, len(photo)).astype(int)
        part = result[top:bottom, left:right]
        if part.size:
            seen = eye_opening(portrait, rim)[top:bottom, left:right] > 0.0
            part[seen] = push_pull(part, (~seen).astype(np.float32))[seen]
    return result


@dataclass(frozen=True, slots=True)
class _Eye:
    """One eye in the photo; heights count downwards from the line between the corners, in lengths of the eye, per column."""

    frame: Array
    origin: Array
    along: Array
    down: Array
    length: float
    upper: Array
    lower: Array
    shut: Array
    brow: Array
    margin_fit: Array
    residual: Array

    @staticmethod
    def of(portrait: PreparedPortrait, landmarks: list[Array], side: int) -> _Eye:
        """From the head's landmarks [478, 3] as in the photo and with closed lids."""
        points = portrait.landmarks[:, :2].astype(np.float64)
        margin, lower = points[_UPPER[side]], points[_LOWER[side]]
        origin, end = margin[0], margin[-1]
        length = max(float(np.linalg.norm(end - origin)), 2.0)
        along = (end - origin) / length
        down = np.array([-along[1], along[0]])
        down = down if down[1] > 0 else -down
        columns = column_places()

        def curve(pixels: Array, at: Array, degree: int = 4) -> Array:
            u, v = (pixels - origin) @ along / length, (pixels - origin) @ down / length
            return np.polynomial.Polynomial.fit(u, v, degree)(np.clip(at, 0.0, 1.0))

        opened, closed = (_in_the_photo(part, portrait) for part in landmarks)
        upper, below = curve(margin, columns), curve(lower, columns)
        below = np.maximum(below, upper)
        shut = 0.5 * (curve(closed[_UPPER[side]], columns) + curve(closed[_LOWER[side]], columns))
        # Beyond the corners nothing moves.
        free = smooth_step(np.clip(10.0 * np.minimum(columns, 1.0 - columns) + 0.3, 0.0, 1.0))
        shut = upper + free * np.maximum(shut - upper, 0.0)
        brow = points[_BROW[side]]
        order = np.argsort((brow - origin) @ along)
        brow_height = np.interp(columns, ((brow - origin) @ along / length)[order], ((brow - origin) @ down / length)[order])
        residual = curve(opened[_UPPER[side]], _STRIP_COLUMNS) - curve(margin, _STRIP_COLUMNS)
        # A smooth curve through the margin's nine landmarks, and on beyond its ends.
        place = (margin - origin) @ along / length
        margin_fit = np.vander(np.clip(_STRIP_COLUMNS, 0.0, 1.0), 5) @ np.linalg.pinv(np.vander(place, 5))
        margin_fit[:, [0, -1]] += (_STRIP_COLUMNS - np.clip(_STRIP_COLUMNS, 0.0, 1.0))[:, None] * (-1.0, 1.0)
        frame = np.concatenate([origin, along / length, down / length])
        return _Eye(frame, origin, along, down, length, upper, below, shut, upper - brow_height, margin_fit, residual)


def column_places() -> Array:
    """Places of an unrolled lid's columns between the corners (0 and 1): [n]."""
    return (np.arange(round((1 + 2 * _BESIDE) * _TEXELS)) + 0.5) / _TEXELS + BEFORE


def _row_heights() -> Array:
    return (np.arange(round((_UP + ABOVE) * _TEXELS)) + 0.5) / _TEXELS - ABOVE


def _unroll(photo: Array, portrait: PreparedPortrait, eye: _Eye, light: Light) -> tuple[Array, Array, Array, Array, Array]:
    """Heights [6, n], opened lid and what lies above it, closing lid, lashes [m, n, 4 / 4 / 1], and lights [16]."""
    import cv2

    columns, heights = column_places(), _row_heights()
    u, d = np.meshgrid(columns, heights)
    v = eye.upper - np.maximum(d, 0.0)
    x, y = (eye.origin[c] + eye.length * (u * eye.along[c] + v * eye.down[c]) - 0.5 for c in (0, 1))
    seen: Any = cv2.remap(photo, x.astype(np.float32), y.astype(np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    seen = np.clip(seen, 0.0, 255.0)
    # Lashes are fine and stand upright.
    upright = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((1, _odd(0.12))))
    below, grain, wet_rim = _skin_below(photo, eye, u, d)
    # Make-up takes all colours; shade leaves skin its red.
    band = _dark_band(upright.max(-1), columns, heights, eye.brow)
    fold = _find_fold(upright.sum(-1), columns, heights, eye.brow, 0.35 * below.sum())
    fold = fold + _made_up(band) * np.maximum(band + _BAND_FOLD - fold, 0.0)
    bare, lashes = _without_lashes(seen, upright, u, d, fold, band)
    bare, lid, lift = _unfolded(bare, below, grain, u, d, fold, band, eye)
    heights_of = np.stack([eye.upper, eye.lower, eye.shut, fold, lift, np.full_like(fold, wet_rim)])
    return heights_of, bare, lid, lashes, _lights(light, portrait, eye)


def _odd(length: float) -> int:
    """Texels of a length of the eye, odd."""
    return max(3, round(length * _TEXELS) | 1)


def _dark_band(value: Array, columns: Array, heights: Array, brow: Array) -> Array:
    """How high liner and lashes stand together, dark without a gap, above the margin: [n].

    Args:
        value: [m, n], the lightest channel.
    """
    import cv2

    between = (heights[:, None] > 0.08) & (heights[:, None] < np.clip(brow - 0.08, 0.2, 0.5))
    skin = np.nanquantile(np.where(between, value, np.nan), 0.75, axis=0)
    skin = np.minimum(skin, np.median(skin[(columns > 0.0) & (columns < 1.0)]) * 1.2)
    skin = _along(skin[None], 0.08 * _TEXELS)[0]
    soft = cv2.GaussianBlur(value, (0, 0), sigmaX=0.02 * _TEXELS, sigmaY=0.01 * _TEXELS)
    first = np.searchsorted(heights, _ROOTS)
    light = soft[first:] > _BAND_DARK * skin
    top = np.where(light.any(0), heights[first + light.argmax(0)], np.inf)
    # What goes on to the brow is shade or a frame.
    known = (top < _BAND_MOST * brow) & (columns > -0.1) & (columns < 1.0)
    if known.sum() < 0.7 * len(columns) / (1 + 2 * _BESIDE):
        return np.zeros_like(columns)
    top = np.interp(columns, columns[known], top[known])
    # Make-up and lashes get lower towards the nose, where shade does not.
    inward = columns > 0.3
    top[inward] = np.minimum.accumulate(top[inward])
    width = _odd(0.15)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(top, width // 2, mode="edge"), width)
    return _along(np.median(windows, axis=1)[None], 0.06 * _TEXELS)[0]


def _made_up(band: Array) -> Array:
    """How sure it is that a dark band of height ``band`` [n] is make-up rather than the lashes' roots: 0..1."""
    return _along(smooth_step(np.clip((band - _BAND_LEAST) / 0.03, 0.0, 1.0))[None], 0.08 * _TEXELS)[0]


def _find_fold(luma: Array, columns: Array, heights: Array, brow: Array, dark: float) -> Array:
    """How high the fold lies above the margin: [n]; the darkest smooth path along the lid, or a plain arch where none is dark.

    Args:
        dark: luma that skin exceeds: what is darker is a frame, under which the fold lies.
    """
    import cv2

    rows = np.flatnonzero((heights > 0.05) & (heights < 0.28))
    inside = np.flatnonzero((columns > 0.1) & (columns < 0.9))
    soft = cv2.GaussianBlur(luma, (0, 0), sigmaX=0.05 * _TEXELS, sigmaY=0.012 * _TEXELS)
    valley = 1.0 - soft / np.maximum(cv2.morphologyEx(soft, cv2.MORPH_CLOSE, np.ones((_odd(0.16), 1))), 1.0)
    likely = np.exp(-0.5 * ((heights[:, None] - 0.13) / 0.07) ** 2) * (heights[:, None] < brow - 0.1)
    likely *= np.cumsum((soft < dark) & (heights[:, None] > 0.1), axis=0) == 0
    score = (valley * likely)[np.ix_(rows, inside)]
    best, back = score[:, 0].copy(), []
    for column in range(1, len(inside)):
        moves = np.stack([np.roll(best, shift) - 0.004 * abs(shift) for shift in (-1, 0, 1)])
        moves[0, -1] = moves[2, 0] = -np.inf
        back.append(moves.argmax(0))
        best = moves.max(0) + score[:, column]
    path = [int(best.argmax())]
    for step in back[::-1]:
        path.append(path[-1] + (1, 0, -1)[step[path[-1]]])
    path_rows = np.array(path[::-1])
    strength = float(score[path_rows, np.arange(len(inside))].mean())
    found = np.interp(columns, columns[inside], _along(heights[rows][path_rows][None], 0.05 * _TEXELS)[0])
    plain = np.full_like(columns, _FOLD)
    share = np.clip((strength - 0.5 * _CREASE) / (0.5 * _CREASE), 0.0, 1.0)
    height = np.where(share > 0.5, found - 0.02, plain)
    # Towards the corners it comes down to them, and stays above the line of the lashes.
    arch = 1.0 - (2 * np.clip(columns, 0, 1) - 1) ** 4
    return _ROOTS + 0.03 + np.maximum(height - _ROOTS - 0.03, 0.0) * arch


def _without_lashes(seen: Array, upright: Array, u: Array, d: Array, fold: Array, band: Array) -> tuple[Array, Array]:
    """The lid and what lies above without lashes and how much lighter it gets as it unfolds, and what lashes leave of its light.

    Returns:
        [m, n, 4] and [m, n, 1].
    """
    import cv2

    heights = d[:, 0]
    # A margin that lies a little off shows the white of the eye.
    covered = seen[np.maximum(np.arange(len(heights)), np.searchsorted(heights, 0.03))]
    dense = cv2.morphologyEx(covered, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_odd(0.18), _odd(0.14))))
    dense = cv2.GaussianBlur(dense[np.maximum(np.arange(len(heights)), np.searchsorted(heights, _LINE))], (0, 0), 0.01 * _TEXELS)
    hem = np.clip((0.01 + _ROOTS - d) / 0.02, 0.0, 1.0)[..., None]
    # Lashes that stand out of a band of make-up are thick.
    made_up = _made_up(band)
    thick = made_up * np.clip((d - band) / 0.03, 0.0, 1.0)
    skin = cv2.morphologyEx(seen, cv2.MORPH_CLOSE, np.ones((1, _odd(0.35))))
    upright = upright + thick[..., None] * (skin - upright)
    full = cv2.GaussianBlur(hem * dense + (1 - hem) * upright, (0, 0), 0.008 * _TEXELS)
    zone = np.clip((_TIPS - d) / 0.07, 0, 1) * np.clip((u + 0.15) / 0.08, 0, 1) * np.clip((1.04 - u) / 0.08, 0, 1)
    left = np.clip((seen.sum(-1) + 1.0) / (full.sum(-1) + 1.0) / 0.94, 0.04, 1.0)
    # The roots are a line without gaps.
    line = cv2.GaussianBlur(cv2.erode(left, np.ones((1, _odd(0.05)))), (0, 0), sigmaX=0.02 * _TEXELS, sigmaY=0.01)
    left = np.where(d < _ROOTS, line, left)
    left = (1.0 - zone * (1.0 - left) * np.clip(1.0 + d / 0.03, 0.0, 1.0))[..., None]
    clear = np.clip((left - 0.75) / 0.2, 0.0, 1.0)
    bare = np.clip(clear * seen / left + (1 - clear) * full, 0.0, 255.0)
    # Masses of lashes, liners and creases are shade that goes as the lid unfolds.
    luma = bare.sum(-1)
    flat = cv2.GaussianBlur(cv2.morphologyEx(luma, cv2.MORPH_CLOSE, np.ones((_odd(0.14), 1))), (0, 0), 0.02 * _TEXELS)
    fold_near = np.clip(1.0 - np.abs(d - fold - 0.02) / 0.10, 0.0, 1.0)
    low = zone * np.clip((np.maximum(fold, 0.11) + 0.01 - d) / 0.02, 0.0, 1.0)
    lighter = fold_near * (flat / np.maximum(luma, 1.0) - 1.0), low * (dense.sum(-1) / np.maximum(luma, 1.0) - 1.0)
    # The make-up's band stays dark.
    free = 1.0 - made_up * np.clip((band - d) / 0.03 + 0.5, 0.0, 1.0)
    return np.dstack([bare, 1.0 + free * np.clip(np.maximum(*lighter), 0.0, 0.5)]), left


def _skin_below(photo: Array, eye: _Eye, u: Array, d: Array) -> tuple[Array, Array, float]:
    """The colour of the skin below the eye, [3], the photo's own fine texture there, of mean 0, for an unrolled lid, [m, n, 3], and the
    height of the lower lid's wet rim."""
    import cv2

    v = eye.lower + 0.18 + np.abs(d % 0.6 - 0.3)
    x, y = ((eye.origin[c] + eye.length * (u * eye.along[c] + v * eye.down[c]) - 0.5).astype(np.float32) for c in (0, 1))
    soft = cv2.GaussianBlur(photo, (0, 0), max(0.045 * eye.length, 0.8))
    skin, texture = (cv2.remap(part, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT) for part in (soft, photo - soft))
    # Lower lashes and a lens's rim are no texture of skin.
    limit = min(2.0 * float(np.median(np.abs(texture))), 0.035 * float(np.median(skin)))
    rim = np.linspace(0.0, 0.25, 26)[:, None]
    places = eye.origin + eye.length * ((u[:1].T * eye.along)[None] + (eye.lower[None] + rim)[..., None] * eye.down) - 0.5
    columns, rows = places[..., 0].astype(np.float32), places[..., 1].astype(np.float32)
    seen = cv2.remap(photo, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT).sum(-1)
    line = np.median(seen[:, (u[0] > 0.15) & (u[0] < 0.85)], axis=1)
    # The roots of the lower lashes are the darkest.
    wet_rim = float(rim[4 + line[4:14].argmin(), 0])
    return np.median(skin.reshape(-1, 3), axis=0), np.clip(texture, -limit, limit), wet_rim


def _unfolded(
    bare: Array, below: Array, grain: Array, u: Array, d: Array, fold: Array, band: Array, eye: _Eye
) -> tuple[Array, Array, Array]:
    """What lies above the fold, as light as it gets, and the closing lid, [m, n, 4] each: visible skin below the fold, and behind it the
    skin that this hides, in the colours of both sides.

    The fold shades the open lid: how much brighter the lid becomes without is the third value, [n].
    """
    import cv2

    flat = bare[..., :3] * bare[..., 3:]
    luma = flat.sum(-1)
    # Behind black glasses nothing has a colour.
    below = np.maximum(below, 1.0)
    brow, inside = np.maximum(eye.brow - 0.08, fold + 0.10), slice(round(-BEFORE * _TEXELS), round((1 - BEFORE) * _TEXELS))
    above = (d > fold + 0.02) & (d < np.minimum(fold + 0.12, brow))
    own = (d > np.maximum(np.maximum(0.5 * fold, 0.04), _made_up(band) * (band + 0.02))) & (d < fold - 0.01)
    # Brows and frames are darker than skin, or have another colour.
    strange = np.abs(flat / np.maximum(luma, 1.0)[..., None] - below / below.sum()).sum(-1) > 0.2
    above &= (luma > 0.35 * below.sum()) & ~strange
    own &= luma > 0.45 * below.sum()
    skin_above, _ = _column_means(flat, above, _around(flat, u, d, fold, brow, above, below), 0.12 * _TEXELS)
    skin_above = _no_greyer(skin_above, below)
    skin_own, trust = _column_means(flat, own, skin_above, 0.25 * _TEXELS)
    trust = np.full_like(trust, np.mean(trust[:, inside]))[..., None]
    light_above, light_own = (skin.sum(-1, keepdims=True) + 1.0 for skin in (skin_above, skin_own))
    # Under a low brow lies shade; a frame's is as narrow as it.
    near, _ = _column_means(flat, (d > fold + 0.02) & (d < fold + 0.12), skin_above.mean((0, 1)), 0.12 * _TEXELS)
    shade = np.clip((near.sum(-1, keepdims=True) + 1.0) / light_above, _DEEPEST, 1.0)
    light_near = light_above * shade
    # Measured on 34 eyes of 17 people, each judged by the others: right to 7 %.
    shut_light = np.sqrt(light_near * (below.sum() + 1.0))
    # What lies above the fold leaves its shade, too, and gets as light as the lid.
    soft = cv2.GaussianBlur(luma, (0, 0), 0.03 * _TEXELS)[..., None] + 1.0
    risen = np.clip(shut_light / soft, 1.0, _RISEN_MOST) ** _risen(d)[..., None]
    # What is greyer than skin is shade and lashes rather than make-up.
    vivid, skin_vivid = (1.0 - skin.min(-1, keepdims=True) / (skin.max(-1, keepdims=True) + 1.0) for skin in (skin_own, skin_above))
    own_share = 0.6 * trust * np.clip(vivid / (skin_vivid + 0.02), 0.0, 1.0) ** 2
    tint_above = skin_above / light_above
    colour = _TINT_ABOVE * tint_above + (1 - _TINT_ABOVE) * below / below.sum()
    colour = own_share * skin_own / light_own + (1 - own_share) * colour
    lift = np.clip(shut_light / light_own, 0.85, 1.7) ** trust
    # Towards the fold and the corners it goes over into the skin around.
    share = smooth_step(np.clip((d - fold) / np.maximum(eye.shut - eye.upper, 0.1), 0.0, 1.0))
    share = np.maximum(share, smooth_step(np.clip(1.0 - 5.0 * np.minimum(u, 1.0 - u), 0.0, 1.0)))[..., None]
    tone = ((1 - share) * colour + share * tint_above) * shut_light
    hidden = np.clip((tone + grain) / lift, 0.0, 255.0)
    # Beyond the corners no skin comes out of the fold.
    behind = np.clip((d - fold + 0.04) / 0.06, 0.0, 1.0) * np.clip(15.0 * np.minimum(u, 1.0 - u) + 0.5, 0.0, 1.0)
    lid = bare + behind[..., None] * (np.dstack([hidden, np.ones_like(d)]) - bare)
    above_fold = np.clip((d - fold) / 0.05, 0.0, 1.0)[..., None]
    bare = np.dstack([bare[..., :3], bare[..., 3:] * (1 + above_fold * (risen - 1))])
    return bare, lid, lift[0, :, 0]


def _risen(height: Array) -> Array:
    """The share of a shut lid's gain in light that skin has so high above the opened margin, beyond the fold: 0..1."""
    low, high = _RISEN
    return smooth_step(np.clip((high - height) / (high - low), 0.0, 1.0))


def _no_greyer(skin: Array, other: Array) -> Array:
    """Tones [1, n, 3], which take on the chromaticity of an ``other`` [3] as far as they are greyer: frames and shade are."""
    vivid, other_vivid = (1.0 - part.min(-1, keepdims=True) / (part.max(-1, keepdims=True) + 1.0) for part in (skin, other))
    share = np.clip(vivid / (other_vivid + 0.02), 0.0, 1.0)
    return share * skin + (1.0 - share) * skin.sum(-1, keepdims=True) * other / (other.sum() + 1.0)


def _around(flat: Array, u: Array, d: Array, fold: Array, brow: Array, sure: Array, below: Array) -> Array:
    """A tone of skin [3] for columns of a lid that show none: the lighter half of what is ``sure`` elsewhere, as far as that is enough,
    else the skin ``below`` in the light of what lies above the lid."""
    luma = flat.sum(-1)
    inside = (u > 0.0) & (u < 1.0)
    zone = (d > fold) & (d < brow) & inside
    seen = float(np.quantile(luma[zone], 0.75)) if zone.any() else float(below.sum())
    dim = below * min(seen / float(below.sum() + 1.0), 1.0)
    chosen = sure & inside
    if not chosen.any():
        return dim
    share = min(float(chosen.sum()) / (0.01 * _TEXELS**2), 1.0)
    lighter = chosen & (luma >= np.median(luma[chosen]))
    return share * np.median(flat[lighter], axis=0) + (1.0 - share) * dim


def _along(values: Array, sigma: float) -> Array:
    """Values [1, n] or [1, n, 3] smoothed along the lid."""
    import cv2

    return cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def _column_means(picture: Array, chosen: Array, other: Array, smooth: float) -> tuple[Array, Array]:
    """Mean colour [1, n, 3] of the ``chosen`` texels [m, n] of each column, smoothed along the lid, and how sure it is [1, n].

    Args:
        other: [3], where there are none.
    """
    sure = _along(chosen.sum(0)[None].astype(np.float64), smooth)
    total = (picture * chosen[..., None]).sum(0)[None].astype(np.float64)
    mean = _along(total, smooth) / np.maximum(sure, 1e-4)[..., None]
    trust = np.clip(sure / (0.03 * _TEXELS), 0.0, 1.0)
    return trust[..., None] * mean + (1 - trust[..., None]) * other, trust


def _lights(light: Light, portrait: PreparedPortrait, eye: _Eye) -> Array:
    """How a closed lid, a part of a ball, is lit from the fold to the margin relative to its upper half: [16]."""
    angle = np.radians(np.linspace(40.0, -40.0, 16))
    normal = np.stack([-np.sin(angle) * eye.down[0], np.sin(angle) * eye.down[1], np.cos(angle)], -1)
    received = light.at(normal)
    # Fold and lashes take some of it.
    place = np.linspace(0.0, 1.0, 16)
    near = 1.0 - 0.15 * np.exp(-place / 0.15) - 0.12 * np.exp((place - 1.0) / 0.15)
    lit = np.clip(received / received.mean(), 0.85, 1.12) * near
    return lit / lit[2:8].mean()


def _gaps(landmarks: Array) -> Array:
    """Heights [2] of the openings of landmarks [478, 3]."""
    return np.array([np.median(landmarks[pairs[:, 0], 1] - landmarks[pairs[:, 1], 1]) for pairs in _PAIRS], np.float32)


def _in_the_photo(points: Array, portrait: PreparedPortrait) -> Array:
    """Pixels [n, 2] where the photo would show points [n, 3] of the unposed head."""
    posed = pose_points(points, portrait.motion.rotation_rad, portrait.motion.translation)
    return project(posed, len(portrait.image), portrait.focal)[0]
