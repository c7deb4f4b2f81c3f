"""The photo's own teeth on the rows of teeth, from the closed bite to wide open: a smile keeps its teeth while lips and jaw move.

Upper teeth stand still in the skull, lower ones in the jaw. What a smiling photo shows of them is therefore theirs wherever the lips go:
each row is moved up or down until its edge lies where the photo's teeth of that row end, and the photo becomes its texture. Lower teeth of
a closed bite begin at the dark line on which the rows meet; farther up the upper ones hide them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from triportrait.avatar.mouth.parts import TEXELS_PER_DM, MouthPart, row_texture
from triportrait.avatar.mouth.seats import moved_up
from triportrait.avatar.photo_tone import LUMA, PhotoTone
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import INNER_LIPS, INNER_MOUTH_CORNERS, OUTER_LIPS
from triportrait.geometry.masks import outline_mask, soft_outline_mask
from triportrait.types import Array, PreparedPortrait

#: White light becomes this on enamel.
_ENAMEL = (0.86, 0.84, 0.79)
#: So many pixels of a 512 px crop must be teeth; columns of the mouth's middle that are searched for their edge; share of them that tells.
_ENOUGH_PX, _MIDDLE, _TELLING = 80, 0.6, 0.35
#: A row is moved so far at most (decimetres): the upper one, and the lower one, whose jaw the fit knows less well.
_FARTHEST_DM = (0.06, 0.1)
#: What lies under a lip continues what the photo shows of a row by so much (decimetres); crowns are taller than usual by so much at most.
_CONTINUED_DM, _TALLER_DM = 0.018, 0.06
#: Rows of teeth that bite meet in a line darker than both by this share.
_LINE = 0.07
#: Painted crowns are bluer than this share of their red, gums are not.
_ENAMEL_BLUE = 0.72
#: In white light enamel, be it yellow, is greener and bluer than these shares of its red; tongue, gums and lips are less green.
_GREEN, _BLUE = 0.74, 0.45
#: Of what is no tooth, shadow is darker than this share of the teeth's brightness.
_DARK = 0.4
#: Without colour, teeth are what is lighter than the lips by this factor.
_OVER_LIPS = 1.25
#: Reflectances that the photo may give.
_RANGE = (0.05, 1.6)


@dataclass(frozen=True, slots=True)
class SeenTeeth:
    """What the photo shows between the lips.

    Args:
        inside: float32 [s, s], 1 between the lips, soft at their edge; teeth: bool [s, s].
        clear: float32 [s, s], 1 where that is teeth or dark, and no bit of lip or tongue.
        colour: [3] what a white thing would look like there, 0..255.
    """

    inside: Array
    teeth: Array
    clear: Array
    colour: Array

    @property
    def share(self) -> float:
        """Of what is between the lips, how much is teeth: 0..1."""
        return float(self.teeth.sum() / max(self.inside.sum(), 1.0))

    @classmethod
    def of(cls, portrait: PreparedPortrait, tone: PhotoTone, light: Array) -> SeenTeeth | None:
        """From the photo, whose tone is ``tone`` and in whose ``light`` [3] white things look so; None when it shows no teeth."""
        import cv2

        size = portrait.image.shape[0]
        mask = soft_outline_mask(portrait.landmarks[INNER_LIPS, :2] - 0.5, size, size)
        inside = cv2.erode(mask, np.ones((3, 3), np.uint8)) > 127
        scale = size / 512
        enough = _ENOUGH_PX * scale**2
        if inside.sum() < enough:
            return None
        cast = np.float32(np.maximum(light, 1.0) / max(float(light.max()), 1.0))
        image = tone.taken_off(portrait.image.astype(np.float32)) / cast
        level = image.max(-1)
        bright = image[inside & (level >= np.quantile(level[inside], 0.6))].mean(0)
        teeth = inside & (level > 0.55 * bright.max()) & (image[..., 1] > _GREEN * image[..., 0]) & (image[..., 2] > _BLUE * image[..., 0])
        if tone.strength:
            # But in black and white nothing is.
            lips = outline_mask(portrait.landmarks[OUTER_LIPS, :2], size)
            luma = image @ LUMA
            around = (lips > 0) & (mask == 0)
            teeth &= luma > tone.strength * _OVER_LIPS * (float(np.median(luma[around])) if around.any() else 0.0)
        if teeth.sum() < enough:
            return None
        bright = image[teeth & (level >= np.quantile(level[teeth], 0.4))].mean(0)
        reach = (max(3, round(3 * scale)) | 1,) * 2
        teeth = cv2.morphologyEx(teeth.astype(np.uint8), cv2.MORPH_CLOSE, np.ones(reach, np.uint8)).astype(bool)
        soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), 0.8 * scale)
        clear = cv2.GaussianBlur((teeth | (inside & (level < _DARK * bright.max()))).astype(np.float32), (0, 0), 0.7 * scale)
        return cls(soft, teeth, soft * clear, cast * bright / np.array(_ENAMEL, np.float32))


def at_edge(
    upper: MouthPart,
    edge: tuple[Array, Array],
    portrait: PreparedPortrait,
    source: Array,
    to_pixels: Callable[[Array], tuple[Array, Array]],
) -> MouthPart:
    """The upper row moved to its :func:`upper_edge`; see :func:`show_photo` for the rest.

    Where teeth go on to the lower lip nobody sees where the upper ones end: the row stays where it is.
    """
    x, y = edge
    told = np.isfinite(y)
    if told.mean() <= _TELLING:
        return upper
    ends_x, ends_y, per_pixel = _ends(upper, portrait, source, to_pixels)
    return moved_up(upper, -float(np.median((y - np.interp(x, ends_x, ends_y))[told])) * per_pixel, _FARTHEST_DM[0])


def _ends(
    row: MouthPart, portrait: PreparedPortrait, source: Array, to_pixels: Callable[[Array], tuple[Array, Array]]
) -> tuple[Array, Array, float]:
    """Pixels of a row's biting edge, by their columns; decimetres of a pixel."""
    pixels, depth = to_pixels(row.carried(source)[0][: row.columns])
    order = np.argsort(pixels[:, 0])
    return pixels[order, 0], pixels[order, 1], float(depth[row.columns // 2]) / (portrait.focal * len(portrait.image))


def show_photo(
    seen: SeenTeeth,
    portrait: PreparedPortrait,
    edge: tuple[Array, Array],
    lower: MouthPart,
    upper: MouthPart,
    source: Array,
    to_pixels: Callable[[Array], tuple[Array, Array]],
    light: Callable[[Array, Array], Array],
    shade: Array,
) -> tuple[MouthPart, MouthPart, bool]:
    """Both rows with the photo's teeth, and whether the lower ones are among these.

    Args:
        edge: of the upper ones: :func:`upper_edge`; upper is already at it: :func:`at_edge`.
        source: [v, 3], the head as in the photo.
        to_pixels: the photo's projection of points [n, 3] to pixels [n, 2] and depths [n].
        light: what reaches points [n, 3] with normals [n, 3] in the photo, 0..255: [n, 3].
        shade: float32 [s, s], the share of it that the photo's lips let in.
    """

    x, y = edge
    told = np.isfinite(y)
    if told.mean() > _TELLING:
        x, y = x[told], y[told]
    else:
        ends_x, ends_y, _ = _ends(upper, portrait, source, to_pixels)
        y = np.interp(x, ends_x, ends_y)
    begins = _lower_edge(seen, x, y)
    found = np.isfinite(begins)
    lower_seen = bool(found.mean() > _TELLING)
    if lower_seen:
        ends_x, ends_y, per_pixel = _ends(lower, portrait, source, to_pixels)
        away = float(np.median((begins - np.interp(x, ends_x, ends_y))[found]))
        # In a closed bite the upper teeth may hide more of them.
        bites = np.median((begins - y)[found]) < 2.0 * len(portrait.image) / 512 + 1.0
        lower = moved_up(lower, -(min(away, 0.0) if bites else away) * per_pixel, _FARTHEST_DM[1])
    else:
        begins = np.full_like(y, np.inf)

    def border(rows: Array) -> Callable[[Array], Array]:
        told = np.isfinite(rows)
        if told.sum() < 5:
            return lambda place: np.full_like(place, np.inf)
        curve = np.polynomial.Polynomial.fit(x[told], rows[told], 2)
        low, high = x.min() - 0.25 * np.ptp(x), x.max() + 0.25 * np.ptp(x)
        return lambda place: curve(np.clip(place, low, high))

    def below(place: Array) -> Array:
        # The dark line between the rows belongs to none of them.
        return np.clip(place[..., 1] - border(begins)(place[..., 0]) - 0.5, 0.0, 1.0)

    def over(place: Array) -> Array:
        return np.clip(border(y)(place[..., 0]) - place[..., 1] + 0.5, 0.0, 1.0)

    upper, gain = _with_photo(upper, seen, portrait, source, to_pixels, light, shade, over, None)
    lower, _ = _with_photo(lower, seen, portrait, source, to_pixels, light, shade, below, gain)
    return lower, upper, lower_seen


def _lower_edge(seen: SeenTeeth, x: Array, y: Array) -> Array:
    """In which row the teeth below each place x [n], y [n] of the upper row's edge begin: [n], NaN without any."""
    found = np.full(len(x), np.nan)
    for i, (column, row) in enumerate(zip(x.astype(int), np.round(y).astype(int), strict=True)):
        inside = np.flatnonzero(seen.inside[row:, column] > 0.5)
        if not len(inside):
            continue
        teeth = seen.teeth[row : row + inside[-1] + 1, column]
        runs = np.flatnonzero(teeth[:-1] & teeth[1:])
        if len(runs) and teeth.sum() >= 3:
            found[i] = row + runs[0]
    return found


def upper_edge(seen: SeenTeeth, portrait: PreparedPortrait) -> tuple[Array, Array] | None:
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
    shade: Array,
    belongs: Callable[[Array], Array],
    gain: Array | None,
) -> tuple[MouthPart, Array]:
    """A row whose texture shows the photo where that shows the row: where its place in the photo, [..., 2] pixels, ``belongs`` to it.

    ``gain`` [3] is how this person's upper teeth differ from painted ones, None for these themselves. It is handed back.
    """
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
        return cv2.remap(picture, *place, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    shown = look(seen.clear) * belongs(spread).astype(np.float32)
    teeth = look(seen.teeth.astype(np.float32)) * shown
    is_upper = gain is None
    if not is_upper:
        shown = teeth
    reflectance = np.clip(look(portrait.image.astype(np.float32)) / np.maximum(lit * look(shade)[..., None], 1.0), *_RANGE)
    texture, gain = _own_row(is_upper, reflectance, teeth > 0.5, gain)
    if (shown > 0.5).any():
        # What a lip hides, and the dark line of the bite, goes on as what is seen beside it, and goes over into the painted row.
        near = cv2.distanceTransform((shown < 0.5).astype(np.uint8), cv2.DIST_L2, 3) / TEXELS_PER_DM
        weight = cv2.GaussianBlur(np.clip(1.0 - near / _CONTINUED_DM, 0.0, 1.0), (0, 0), 1.0)[..., None]
        texture[..., :3] += weight * (push_pull(reflectance, shown) - texture[..., :3])
        texture[..., 4] *= 1.0 - weight[..., 0]
    if is_upper:
        # Where the photo shows that they end, they end.
        inside = look(seen.inside) ** 2
        texture[..., 3] += inside * (belongs(spread).astype(np.float32) - texture[..., 3])
    texture[..., 3] = np.maximum(texture[..., 3], shown)
    return replace(part, texture=texture), gain


def _own_row(is_upper: bool, reflectance: Array, teeth: Array, gain: Array | None) -> tuple[Array, Array]:
    """The painted row in the colour of the photo's teeth, [h, w, 3] where bool [h, w], with crowns as tall as these at least.

    Their colour over that of painted teeth [3] is handed back; ``gain`` is used where there are none.
    """
    usual = row_texture(is_upper)
    enamel = usual[..., 2] > _ENAMEL_BLUE * usual[..., 0]
    taller = 0.0
    if teeth.any():
        rows, some = np.arange(1, len(teeth) + 1)[:, None], teeth.any(0)
        taller = np.quantile(((teeth * rows).max(0) - (enamel * rows).max(0))[some], 0.85) / TEXELS_PER_DM + 0.01
    texture = row_texture(is_upper, float(np.clip(np.round(taller, 2), 0.0, _TALLER_DM))).copy()
    if (teeth & enamel).any():
        gain = reflectance[teeth & enamel].mean(0) / usual[teeth & enamel, :3].mean(0)
    gain = np.ones(3, np.float32) if gain is None else gain
    crown = np.clip((texture[..., 2:3] / texture[..., :1] - 0.58) / 0.2, 0.0, 1.0)
    texture[..., :3] *= 1.0 + crown * (gain - 1.0)
    return texture, gain
