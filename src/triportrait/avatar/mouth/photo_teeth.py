"""The photo's own teeth on the rows of teeth: a smile keeps its teeth while lips and jaw move.

Upper teeth stand still in the skull, lower ones in the jaw. What a smiling photo shows of them is therefore theirs wherever the lips go:
it is projected onto the rows, the upper row moved up or down until its edge lies where the photo's teeth end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from triportrait.avatar.mouth.parts import MouthPart
from triportrait.avatar.photo_tone import LUMA, PhotoTone
from triportrait.geometry.landmarks import INNER_LIPS, INNER_MOUTH_CORNERS, OUTER_LIPS
from triportrait.geometry.masks import outline_mask, soft_outline_mask
from triportrait.types import Array, PreparedPortrait

#: White light becomes this on enamel.
_ENAMEL = (0.86, 0.84, 0.79)
#: So many pixels of a 512 px crop must be teeth; columns of the mouth's middle that are searched for their edge; share of them that tells.
_ENOUGH_PX, _MIDDLE, _TELLING = 80, 0.6, 0.35
#: A row is moved so far at most (decimetres).
_FARTHEST_DM = 0.05
#: Rows of teeth that bite meet in a line darker than both by this share.
_LINE = 0.07
#: Without colour, teeth are what is lighter than the lips by this factor.
_OVER_LIPS = 1.25
#: Reflectances that the photo may give.
_RANGE = (0.1, 1.25)


@dataclass(frozen=True, slots=True)
class SeenTeeth:
    """What the photo shows between the lips.

    Args:
        inside: float32 [s, s], 1 between the lips, soft at their edge; teeth: bool [s, s].
        colour: [3] what a white thing would look like there, 0..255.
    """

    inside: Array
    teeth: Array
    colour: Array

    @classmethod
    def of(cls, portrait: PreparedPortrait, tone: PhotoTone) -> SeenTeeth | None:
        """From the photo, whose tone is ``tone``; None when it shows no teeth."""
        import cv2

        size = portrait.image.shape[0]
        mask = soft_outline_mask(portrait.landmarks[INNER_LIPS, :2] - 0.5, size, size)
        inside = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 127
        scale = size / 512
        enough = _ENOUGH_PX * scale**2
        if inside.sum() < enough:
            return None
        image = tone.taken_off(portrait.image.astype(np.float32))
        level = image.max(-1)
        bright = image[inside & (level >= np.quantile(level[inside], 0.6))].mean(0)
        # Tongue and gums are red.
        teeth = inside & (level > 0.55 * bright.max()) & (image[..., 2] > 0.64 * image[..., 0])
        if tone.strength:
            # But in black and white nothing is.
            lips = outline_mask(portrait.landmarks[OUTER_LIPS, :2], size)
            luma = image @ LUMA
            around = (lips > 0) & (mask == 0)
            teeth &= luma > tone.strength * _OVER_LIPS * (float(np.median(luma[around])) if around.any() else 0.0)
        if bright[2] < 0.66 * bright[0] or teeth.sum() < enough:
            return None
        reach = (max(3, round(3 * scale)) | 1,) * 2
        teeth = cv2.morphologyEx(teeth.astype(np.uint8), cv2.MORPH_CLOSE, np.ones(reach, np.uint8)).astype(bool)
        return cls(cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 0.8 * scale), teeth, bright / np.array(_ENAMEL, np.float32))


def show_photo(
    seen: SeenTeeth,
    portrait: PreparedPortrait,
    lower: MouthPart,
    upper: MouthPart,
    source: Array,
    to_pixels: Callable[[Array], tuple[Array, Array]],
    light: Callable[[Array, Array], Array],
) -> tuple[MouthPart, MouthPart]:
    """Both rows with the photo's teeth.

    Args:
        source: [v, 3], the head as in the photo.
        to_pixels: the photo's projection of points [n, 3] to pixels [n, 2] and depths [n].
        light: what reaches points [n, 3] with normals [n, 3] in the photo, 0..255: [n, 3].
    """
    points, _ = upper.carried(source)
    pixels, depth = to_pixels(points)
    columns = upper.columns
    edge, ends = _upper_edge(seen, portrait), pixels[:columns]
    if edge is None:
        return lower, upper
    x, y = edge
    order = np.argsort(ends[:, 0])
    own = np.interp(x, ends[order, 0], ends[order, 1])
    told = np.isfinite(y)
    # Where teeth go on to the lower lip nobody sees where the upper ones end: the row stays where it is.
    shift = float(np.median((y - own)[told])) if told.mean() > _TELLING else 0.0
    x, y = (x[told], y[told]) if shift else (x, own)
    per_pixel = float(depth[columns // 2]) / (portrait.focal * len(portrait.image))
    moved = upper.points.copy()
    moved[:, 1] -= np.clip(shift * per_pixel, -_FARTHEST_DM, _FARTHEST_DM)
    upper = replace(upper, points=moved)
    border = np.polynomial.Polynomial.fit(x, y, 2)
    low, high = x.min() - 0.25 * np.ptp(x), x.max() + 0.25 * np.ptp(x)

    def ends_at(place: Array) -> Array:
        return border(np.clip(place, low, high))

    return (
        _with_photo(lower, seen, portrait, source, to_pixels, light, ends_at, is_upper=False),
        _with_photo(upper, seen, portrait, source, to_pixels, light, ends_at, is_upper=True),
    )


def _upper_edge(seen: SeenTeeth, portrait: PreparedPortrait) -> tuple[Array, Array] | None:
    """Where the upper teeth end: columns [n] and rows [n] in pixels, NaN where teeth go on down to the lower lip. None without upper teeth.

    They end where something else than teeth begins, or at the dark line on which the lower row meets them.
    """
    corners = np.sort(portrait.landmarks[list(INNER_MOUTH_CORNERS), 0])
    middle, half = corners.mean(), 0.5 * _MIDDLE * np.ptp(corners)
    level = portrait.image.max(-1).astype(np.float32)
    found = []
    columns = np.arange(int(middle - half), int(middle + half) + 1)
    for column in columns:
        rows = np.flatnonzero(seen.inside[:, column] > 0.5)
        if len(rows) < 3:
            continue
        teeth = seen.teeth[rows[0] : rows[-1] + 1, column]
        first = int(teeth.argmax()) if teeth.any() else len(teeth)
        if first > 0.4 * len(teeth):
            continue
        gap = np.flatnonzero(~teeth[first:])
        run = int(gap[0]) if len(gap) else len(teeth) - first
        ends = float(run) if first + run < len(teeth) - 1 else np.nan
        if run >= 6:
            light = level[rows[0] + first : rows[0] + first + run, column]
            low, high = run // 4, run - run // 4
            line = low + int(light[low:high].argmin())
            if light[line] < (1 - _LINE) * min(light[:line].max(), light[line:].max()):
                ends = line + 0.5
        found.append((column + 0.5, rows[0] + first + ends))
    if len(found) < max(5, _TELLING * len(columns)):
        return None
    x, y = np.array(found, np.float64).T
    told = np.isfinite(y)
    if not told.any():
        return x, y
    typical = np.median(y[told])
    far = 3 * max(1.0, float(np.median(np.abs(y[told] - typical))))
    keep = ~(np.abs(y - typical) > far)
    return x[keep], y[keep]


def _with_photo(
    part: MouthPart,
    seen: SeenTeeth,
    portrait: PreparedPortrait,
    source: Array,
    to_pixels: Callable[[Array], tuple[Array, Array]],
    light: Callable[[Array, Array], Array],
    ends_at: Callable[[Array], Array],
    *,
    is_upper: bool,
) -> MouthPart:
    """A row whose texture shows the photo where that shows the row."""
    import cv2

    points, normals = part.carried(source)
    pixels, _ = to_pixels(points)
    rows, columns = len(points) // part.columns, part.columns
    height, width = part.texture.shape[:2]
    # Nodes lie on a regular grid of texels.
    texels = part.texels.reshape(rows, columns, 2)
    step_x, step_y = texels[0, 1, 0] - texels[0, 0, 0], texels[1, 0, 1] - texels[0, 0, 1]
    at = np.meshgrid((np.arange(width) + 0.5) / step_x, (np.arange(height) + 0.5) / step_y)
    at_x, at_y = (line.astype(np.float32) for line in at)
    nodes = np.concatenate([pixels, light(points, normals)], 1).reshape(rows, columns, 5).astype(np.float32)
    spread = cv2.remap(nodes[..., :2], at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    lit = cv2.remap(nodes[..., 2:], at_x, at_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    place = spread[..., 0] - 0.5, spread[..., 1] - 0.5

    def look(picture: Array) -> Array:
        return cv2.remap(picture, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    below = np.clip(spread[..., 1] - ends_at(spread[..., 0]) + 0.5, 0.0, 1.0)
    shown = look(seen.inside) ** 2
    shown = shown * (1.0 - below) if is_upper else shown * below * look(seen.teeth.astype(np.float32))
    shown = cv2.GaussianBlur(shown, (0, 0), 1.5)
    reflectance = np.clip(look(portrait.image.astype(np.float32)) / np.maximum(lit, 1.0), *_RANGE)
    texture = part.texture.copy()
    texture[..., :3] += shown[..., None] * (reflectance - texture[..., :3])
    texture[..., 3] = np.maximum(texture[..., 3], shown)
    return replace(part, texture=texture)
