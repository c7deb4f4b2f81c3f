"""The inside of the mouth: teeth, gums, tongue and lining in the light that falls between the lips, and the photo's own view into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triportrait.avatar.lifted.eyes import eye_opening
from triportrait.avatar.mouth import kernels
from triportrait.avatar.mouth.parts import tongue, tooth_row
from triportrait.avatar.mouth.photo_teeth import SeenTeeth, show_photo
from triportrait.avatar.photo_tone import PhotoTone
from triportrait.geometry.landmarks import (
    EYE_LEFT_RIM,
    EYE_RIGHT_RIM,
    INNER_LIPS,
    INNER_MOUTH_CORNERS,
    IRIS_CENTRES,
    LOWER_LIP_INSIDE,
    UPPER_LIP_INSIDE,
)
from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.rasteriser import Fragments, draw_fragments
from triportrait.types import Array, FullHead, HeadPart, PreparedPortrait

#: Skin's colour under white light, relative to its reddest; how much brighter white is than the whites of eyes, which lids shade;
#: limits of white over the skin's brightness, and how many pixels of the eyes' white are enough.
_SKIN, _SHADED, _LEVELS, _WHITES = (1.0, 0.76, 0.64), 1.35, (0.95, 1.4), 12
#: Light is no more coloured than this (its weakest channel over its strongest), unless eyes and skin both say so
#: of much more: evening sun leaves teeth nearly white, a stage lamp does not.
_COLOURED, _MUCH_MORE = 0.65, 1.3
#: The photo's view of teeth may be stretched or squeezed by the first share entirely, by the second not at all.
_TEETH_STRETCH = (0.2, 0.6)
#: Reflectance of the mouth's lining under white light.
_LINING = np.array([0.6, 0.3, 0.29], np.float32)
#: Light that reaches any place from the flesh around, and how much redder than the light from outside it is, per channel.
_INDIRECT, _REDDER = 0.14, np.array([1.0, 0.6, 0.55], np.float32)
#: How far lips curve back, per decimetre sideways squared (the open head's inner lips).
_CURVE = 2.0
#: Eyes and cameras even out the light's range by this exponent.
_EVEN = 0.4
#: Drawn with so many samples along each side of a pixel.
_FINER = 2
#: Pixels of a margin round the lips.
_MARGIN_PX = 3
#: Lips throw a shadow on what is right behind them: how dark, and over which distance (decimetres); the upper lip's and any lip's.
_SHADOW = ((0.3, 0.025), (0.18, 0.015))


def seat_teeth(head: FullHead, shape: Array) -> Array:
    """Shift [3] for everything inside the mouth that puts the teeth behind this person's lips as they are behind the mean head's.

    Shape coefficients place the jaws only roughly, while lips are fitted to the pixel: without it smiles show gums or no teeth at all.
    """
    inner = INNER_LIPS
    lips = head.landmarks478(shape)[inner].mean(0) - head.landmarks478(head.mean)[inner].mean(0)
    upper = head.part == HeadPart.TEETH_UPPER
    return (lips - (shape[upper] - head.mean[upper]).mean(0)).astype(np.float32)


def white_in(portrait: PreparedPortrait, face: Array, seen: SeenTeeth | None, tone: PhotoTone) -> Array:
    """What a white thing would look like in this photo's light: [3] float32, 0..255.

    Teeth tell, where the photo shows them. Otherwise eyes hold the only white that every face has; they are small, shaded and often red, so
    that the skin has a say, too. Of a toned photo only the lightness counts: what is drawn gets the tone afterwards.

    Args:
        face: [3] typical colour (0..255) of lit skin.
        seen: the photo's teeth, if it shows any.
        tone: of the photo.
    """
    white = _white_in_colour(portrait, face, seen)
    return white + np.float32(tone.strength) * (white.max() - white)


def _white_in_colour(portrait: PreparedPortrait, face: Array, seen: SeenTeeth | None) -> Array:
    if seen is not None:
        level = np.clip(seen.colour.max(), *_levels_over(face))
        return (level * np.maximum(seen.colour / seen.colour.max(), _COLOURED)).astype(np.float32)
    size = portrait.image.shape[0]
    y, x = np.mgrid[:size, :size] + 0.5
    whites = []
    for rim, iris in ((EYE_LEFT_RIM, IRIS_CENTRES[0]), (EYE_RIGHT_RIM, IRIS_CENTRES[1])):
        points = portrait.landmarks[iris : iris + 5, :2]
        reach = 1.15 * np.linalg.norm(points[1:] - points[0], axis=1).max()
        white = (eye_opening(portrait, rim) > 0.9) & (np.hypot(x - points[0, 0], y - points[0, 1]) > reach)
        whites.append(portrait.image[white].astype(np.float32))
    found = np.concatenate(whites)
    neutral = np.maximum(np.asarray(face, np.float32) / np.array(_SKIN, np.float32), 1.0)
    least = np.full(3, _COLOURED)
    if len(found) >= _WHITES:
        level = found.max(1)
        white = np.maximum(found[level >= np.quantile(level, 0.6)].mean(0), 1.0)
        least = np.minimum(least, _MUCH_MORE * np.maximum(white / white.max(), neutral / neutral.max()))
    else:
        white = neutral
    colour = np.sqrt((white / white.max()) * (neutral / neutral.max()))
    level = np.clip(_SHADED * white.max(), *_levels_over(face))
    return (level * np.maximum(colour / colour.max(), least)).astype(np.float32)


def _levels_over(face: Array) -> tuple[float, float]:
    """Between which white lies for a face of colour [3]."""
    low, high = (limit * float(np.max(face)) for limit in _LEVELS)
    return low, high


@dataclass(frozen=True, slots=True)
class InsidePicture:
    """Part of a picture.

    Args:
        rgb: float32 [h, w, 4], colours 0..255 and the share of teeth.
        top, left: where its first pixel lies.
    """

    rgb: Array
    top: int
    left: int


class MouthInside:
    """Draws what lies between the lips of one portrait.

    Args:
        head: the head model.
        white: [3] what a white thing would look like in the photo (0..255): :func:`white_in`.
        tone: of the photo.
    """

    def __init__(self, head: FullHead, white: Array, tone: PhotoTone) -> None:
        self._head, self._tone = head, tone
        lining = (head.part[head.triangles] == HeadPart.SOCKET).all(1)
        self._used, corners = np.unique(head.triangles[lining], return_inverse=True)
        self._triangles = np.ascontiguousarray(corners.reshape(-1, 3).astype(np.int32))
        # From the back to the front: the lower teeth bite behind the upper ones.
        self._parts = (tongue(head), tooth_row(head, HeadPart.TEETH_LOWER), tooth_row(head, HeadPart.TEETH_UPPER))
        self._white = np.float32(white)

    def show_teeth(
        self, seen: SeenTeeth, portrait: PreparedPortrait, source: Array, to_pixels: Callable[[Array], tuple[Array, Array]]
    ) -> None:
        """Take the teeth of the photo, as which the head ``source`` [v, 3] lies under ``to_pixels``, for this mouth's own."""
        landmarks = self._head.landmarks478(source)

        def light(points: Array, normals: Array) -> Array:
            return self._white * _light(points, normals, landmarks)

        flesh, lower, upper = self._parts
        self._parts = (flesh, *show_photo(seen, portrait, lower, upper, source, to_pixels, light))

    def draw(self, deformed: Array, landmarks: Array, to_pixels: Callable[[Array], tuple[Array, Array]], opening: Array) -> InsidePicture:
        """The inside of the moved mouth.

        Args:
            deformed: [v, 3] the head's vertices in head space; landmarks: its landmarks [478, 3].
            to_pixels: projects points [n, 3] to pixels [n, 2] and depths [n].
            opening: bool [s, s], where the picture shows the inside.

        Returns:
            the part of the picture around the opening; without pixels when there is none.
        """
        rows, columns = (np.flatnonzero(opening.any(axis)) for axis in (1, 0))
        if not len(rows):
            return InsidePicture(np.zeros((0, 0, 4), np.float32), 0, 0)
        size = len(opening)
        top, left = max(int(rows[0]) - _MARGIN_PX, 0), max(int(columns[0]) - _MARGIN_PX, 0)
        height = min(int(rows[-1]) + _MARGIN_PX + 1, size) - top
        width = min(int(columns[-1]) + _MARGIN_PX + 1, size) - left

        box = (top, left, height, width)
        lining = deformed[self._used]
        colours = self._white * _LINING * _light(lining, -vertex_normals(lining, self._triangles), landmarks)
        behind = _layer(lining, self._triangles, to_pixels, box)
        fine = np.empty((*behind.depth.shape, 4), np.float32)
        kernels.lay_flesh(behind.triangle, behind.barycentric, colours, self._triangles, fine)
        for part in self._parts:
            points, normals = part.carried(deformed)
            layer = _layer(points, part.triangles, to_pixels, box)
            light = self._white * _light(points, normals, landmarks)
            kernels.lay_part(
                layer.triangle,
                layer.barycentric,
                layer.depth,
                light,
                part.triangles,
                part.texels,
                part.texture,
                np.float32(part is not self._parts[0]),
                behind.depth,
                fine,
            )
        pixels, _ = to_pixels(landmarks[list(INNER_MOUTH_CORNERS)])
        reach = float(np.linalg.norm(pixels[1] - pixels[0])) / max(_width(landmarks), 1e-3)
        rgb = np.empty((height, width, 4), np.float32)
        kernels.shrink(fine, _FINER, rgb)
        rgb[..., :3] = self._tone.apply(rgb[..., :3])
        kernels.shadow(
            np.ascontiguousarray(opening[top : top + height, left : left + width]),
            rgb,
            *(np.float32(number) for strength, distance in _SHADOW for number in (strength, distance * reach)),
        )
        return InsidePicture(rgb, top, left)


def _layer(points: Array, triangles: Array, to_pixels: Callable, box: tuple[int, int, int, int]) -> Fragments:
    """Finer fragments of a mesh in a box (top, left, height, width) of the picture."""
    top, left, height, width = box
    pixels, depth = to_pixels(points)
    layer = Fragments.empty(height * _FINER, width * _FINER)
    pixels = (pixels - np.array([left, top], np.float32)) * np.float32(_FINER)
    draw_fragments(pixels, depth, triangles, layer.triangle, layer.barycentric, layer.depth)
    return layer


def _light(points: Array, normals: Array, landmarks: Array) -> Array:
    """Light [n, 3] at points [n, 3] with normals [n, 3]: the share of their sky that the open lips are, and what flesh throws back.

    The gap between the lips counts as a disc of its area, seen from the distance of the point (its form factor).
    """
    ring = landmarks[INNER_LIPS]
    centre = ring.mean(0)
    half = np.array([0.5 * _width(landmarks), 0.5 * _opening(landmarks), 0.0], np.float32)
    disc = max(float(half[0] * half[1]), 1e-5)
    away = points - centre
    # Lips curve back towards their corners; the nearest place of the gap counts, from its middle it is a disc.
    beside = np.clip(away, -half, half)
    beside[:, 2] = -_CURVE * beside[:, 0] ** 2 + _CURVE * half[0] ** 2 / 3
    way = beside - away
    squared = (way * way).sum(1)
    facing = np.clip(0.7 + 0.3 * (normals * way).sum(1) / np.sqrt(np.maximum(squared, 1e-6)), 0.0, 1.0)
    # Right behind the lips the gap is the whole sky whichever way a surface faces.
    near = np.exp(-squared / 0.02)
    seen = disc / (disc + squared) * (facing + near * (1.0 - facing) * 0.6)
    through = _INDIRECT * min(1.0, disc / 0.02) * _REDDER
    return (through + (1.0 - through) * seen[:, None] ** _EVEN).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Membrane:
    """The photo's own view between the lips, stretched over their inner contour like a skin (one fan of triangles).

    It is what the mouth really looks like while it is open about as far as in the photo; :meth:`trust` tells how far that holds.

    Args:
        pixels: [n + 1, 2] float32, the contour's points in the photo and their centre.
        triangles: [n, 3] int32.
        opening_dm: gap between the middles of the lips in the photo.
        shows_teeth: whether that shows teeth, which stretch less well than shadow.
    """

    pixels: Array
    triangles: Array
    opening_dm: float
    shows_teeth: bool = False

    @classmethod
    def of(cls, landmarks: Array, source_landmarks: Array, shows_teeth: bool = False) -> Membrane:
        """From the photo's landmarks [478, >=2] in pixels and the fitted head's [478, 3] in decimetres."""
        count = len(INNER_LIPS)
        around = np.arange(count)
        fan = np.stack([np.full(count, count), around, (around + 1) % count], 1).astype(np.int32)
        return cls(_with_centre(landmarks[INNER_LIPS, :2]), fan, _opening(source_landmarks), shows_teeth)

    def points(self, landmarks: Array) -> Array:
        """Where the membrane's vertices stand for posed or unposed landmarks [478, 3]: [n + 1, 3]."""
        return _with_centre(landmarks[INNER_LIPS])

    def trust(self, landmarks: Array) -> float:
        """1 while the lips are open as in the photo, falling to 0 as they open wider."""
        change = (_opening(landmarks) - self.opening_dm) / max(self.opening_dm, 0.015)
        if self.shows_teeth:
            return float(np.clip((_TEETH_STRETCH[1] - abs(change)) / (_TEETH_STRETCH[1] - _TEETH_STRETCH[0]), 0.0, 1.0))
        wider = max(change, 0.0)
        # A wide view, with teeth, bears more stretching than a slit.
        limit = 1.5 + 0.8 * float(np.clip((self.opening_dm - 0.04) / 0.08, 0.0, 1.0))
        return float(np.clip(limit - wider, 0.0, 1.0))

    def light(self, landmarks: Array) -> float:
        """Lips that close throw a shadow on what the photo shows between them."""
        return 0.35 + 0.65 * float(np.clip(_opening(landmarks) / max(self.opening_dm, 0.01), 0.0, 1.0))


def _opening(landmarks: Array) -> float:
    return float(np.linalg.norm(landmarks[UPPER_LIP_INSIDE] - landmarks[LOWER_LIP_INSIDE]))


def _width(landmarks: Array) -> float:
    right, left = (landmarks[corner] for corner in INNER_MOUTH_CORNERS)
    return float(np.linalg.norm(right - left))


def _with_centre(ring: Array) -> Array:
    """The contour, a little widened so that it reaches under the lips, and its centre."""
    centre = ring.mean(0)
    return np.concatenate([centre + (ring - centre) * 1.04, centre[None]]).astype(np.float32)
