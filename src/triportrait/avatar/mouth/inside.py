"""The inside of the mouth: teeth, gums, tongue and lining in the light that falls between the lips, and the photo's own view into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from triportrait.avatar.lifted.eyes import eye_opening
from triportrait.avatar.mouth import kernels
from triportrait.avatar.mouth.parts import MouthPart, tongue, tongue_amounts, tooth_row
from triportrait.avatar.mouth.photo_teeth import SeenTeeth, at_edge, show_photo, upper_edge
from triportrait.avatar.mouth.rim import LipRim
from triportrait.avatar.mouth.seats import MouthLook, Seat, edge_middle, seated
from triportrait.avatar.photo_tone import PhotoTone
from triportrait.geometry.landmarks import (
    EYE_LEFT_RIM,
    EYE_RIGHT_RIM,
    INNER_LIPS,
    INNER_MOUTH_CORNERS,
    IRIS_CENTRES,
    LIP_PAIRS,
    LOWER_LIP_INSIDE,
    OUTER_LIPS,
    UPPER_LIP_INSIDE,
)
from triportrait.geometry.masks import outline_mask
from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.rasteriser import Fragments, draw_fragments
from triportrait.types import Array, FullHead, HeadPart, PreparedPortrait

#: Skin's colour under white light, relative to its reddest; how much brighter white is than the whites of eyes, which lids shade;
#: limits of white over the skin's brightness, and how many pixels of the eyes' white are enough.
_SKIN, _SHADED, _LEVELS, _WHITES = (1.0, 0.76, 0.64), 1.35, (0.95, 1.4), 12
#: Light is no more coloured than this (its weakest channel over its strongest), unless eyes and skin both say so:
#: evening sun leaves teeth nearly white, a stage lamp does not.
_COLOURED = 0.65
#: What lips throw into shadow has this share of the lining's colour in full light.
_IN_SHADOW = np.array([0.4, 0.36, 0.36], np.float32)
#: A photo's lips so far apart (decimetres) show a cavity, unless more than this share of it is teeth; its view may be stretched or
#: squeezed by the first share entirely, by the second not at all.
_WIDE_DM, _MOSTLY_TEETH, _STRETCH = 0.13, 0.45, (0.15, 0.5)
#: Reflectance of the mouth's lining under white light. Relative to their reds, flesh of people who talk has .70 to
#: .80 of the skin's green and .85 to .95 of its blue, and hardly less of them in the depth.
_LINING = np.array([0.57, 0.345, 0.335], np.float32)
#: It follows the colour of lips, relative to the light, of which this is usual, by this exponent and within these limits: paler photos
#: have paler tongues, and paint on lips is not in the mouth.
_LIPS, _LIKE_LIPS, _PALER = np.array([1.0, 0.655, 0.61], np.float32), 0.6, (0.93, 1.35)
#: Light that reaches any place from the flesh around, and how much redder than the light from outside it is, per channel.
_INDIRECT, _REDDER = 0.16, np.array([1.0, 0.8, 0.8], np.float32)
#: How far lips curve back, per decimetre sideways squared (the open head's inner lips); a wet surface mirrors light from so far above the
#: opening (of its distance) within a lobe of this exponent.
_LAW = np.array([2.0, 0.35, 40.0], np.float32)
#: Eyes and cameras even out the light's range by this exponent, on teeth and on flesh; what lies behind everything gets so much of the
#: indirect light.
_EVEN, _FLESH_EVEN, _DEEP = 0.36, 0.62, 0.8
#: Photos are taken to show teeth in no deeper shadow of the lips than this; they get no more light than in the photo by this factor.
_LEAST_SHADE, _BRIGHTER = 0.85, 1.02
#: Drawn with so many samples along each side of a pixel.
_FINER = 2
#: Lips of a photo that are farther apart (decimetres) show how dark it is between them, if so much of the crop lies there; limits of that.
_SLIT_DM, _ENOUGH_SHARE, _EXPOSURES = 0.015, 1.5e-4, (0.35, 1.6)
#: Lips nowhere farther apart than this (decimetres) touch.
_TOUCHING_DM = 0.008
#: Pixels of a margin round the lips.
_MARGIN_PX = 3
#: Lips throw a shadow on what is right behind them: how dark, and over which distance (decimetres); the upper lip's and any lip's. Where
#: they are less than the last distance apart, little light comes in at all.
_SHADOW, _NARROW_DM = ((0.3, 0.025), (0.18, 0.015)), 0.026


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
        least = np.minimum(least, np.maximum(white / white.max(), neutral / neutral.max()))
    else:
        white = neutral
    if seen is None:
        # Eyes are red, skins are tanned: where they differ, the less coloured one tells.
        colour = np.maximum(white / white.max(), neutral / neutral.max())
        level = _SHADED * white.max()
    else:
        colour, level = seen.colour, seen.colour.max()
    return (np.clip(level, *_levels_over(face)) * np.maximum(colour / colour.max(), least)).astype(np.float32)


def _paleness(portrait: PreparedPortrait, white: Array, toned: float) -> Array:
    """How much more of each channel [3] flesh reflects here than is usual, relative to red, judged by the lips.

    White things look like ``white`` [3]; a photo that is ``toned`` by 1 tells nothing.
    """
    lips = outline_mask(portrait.landmarks[OUTER_LIPS, :2], len(portrait.image)).astype(bool)
    lips &= ~outline_mask(portrait.landmarks[INNER_LIPS, :2], len(portrait.image)).astype(bool)
    if not lips.any():
        return np.ones(3, np.float32)
    own = np.maximum(np.median(portrait.image[lips].astype(np.float32), axis=0), 1.0) / np.maximum(white, 1.0)
    paler = np.clip((own / own[0] / _LIPS) ** (_LIKE_LIPS * (1.0 - toned)), *_PALER)
    return np.asarray(paler, np.float32)


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


@dataclass(frozen=True, slots=True)
class BakedMouth:
    """The mouth's inside in one light, for viewers that know none.

    Args:
        lining: [k] the head's vertices of the lining; lining_triangles: [f, 3] int32 among those; lining_rgb: [k, 3] float32, 0..255.
        parts: tongue, lower and upper row; light: of each float32 [n, 3], 0..255, what a white surface would look like at its nodes.
    """

    lining: Array
    lining_triangles: Array
    lining_rgb: Array
    parts: tuple[MouthPart, ...]
    light: tuple[Array, ...]


class MouthInside:
    """Draws what lies between the lips of one portrait: one picture at all openings.

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
        self._tongue = tongue(head)
        # From the back to the front: the lower teeth bite behind the upper ones.
        self._rows = (tooth_row(head, HeadPart.TEETH_LOWER), tooth_row(head, HeadPart.TEETH_UPPER))
        self._white = np.asarray(white, np.float32)
        # The light on what is flesh, in which this person's is paler or redder than is usual.
        self._on_flesh = self._white
        self._seats: tuple[Seat | None, Seat | None] = (None, None)
        self._exposure = Exposure()
        self._rim: LipRim | None = None
        # Light that rows of teeth get at most: what the photo shows in good light does not become brighter still.
        self._most: list[Array | float] = [1.0, 1.0]

    def fit(
        self,
        seen: SeenTeeth | None,
        portrait: PreparedPortrait,
        source: Array,
        talking: Array,
        to_pixels: Callable[[Array], tuple[Array, Array]],
    ) -> None:
        """Make this mouth the photo's: its lips' rim, the colour of its flesh, where rows of teeth sit, and the teeth or else the light
        that the photo shows.

        The head ``source`` [v, 3] lies as in the photo under ``to_pixels``; ``talking`` [v, 3] is the same with a talker's lips.
        """
        landmarks = self._head.landmarks478(source)
        self._on_flesh = self._white * _paleness(portrait, self._white, self._tone.strength)
        self._rim = LipRim.of(portrait.image, portrait.landmarks, landmarks, None if seen is None else seen.teeth)
        opening = outline_mask(portrait.landmarks[INNER_LIPS, :2], len(portrait.image)).astype(bool) & ~self._rim.mask
        gap = _opening(landmarks)
        edge = None if seen is None else upper_edge(seen, portrait)
        looks = ((source, landmarks), (talking, self._head.landmarks478(talking)))
        still, talks = (MouthLook(head, self._rim.edges(points), to_pixels) for head, points in looks)
        if edge is not None:
            self._rows = self._rows[0], at_edge(self._rows[1], edge, portrait, source, to_pixels)
        lower_alone = seen is not None and edge is None
        self._rows, self._seats = seated(self._rows, still, talks, upper_seen=edge is not None, lower_seen=lower_alone)
        if seen is None or edge is None:
            if seen is None and gap > _SLIT_DM:
                drawn = self.draw(source, landmarks, portrait.motion.expression, to_pixels, opening)
                self._exposure = Exposure.of(drawn, portrait.image, opening, gap)
            return
        shade = np.ones(opening.shape, np.float32)
        rows, columns = (np.flatnonzero(opening.any(axis)) for axis in (1, 0))
        if len(rows):
            box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
            shade[box] = np.maximum(_shadow(opening[box], _pixels_per_dm(landmarks, to_pixels)), _LEAST_SHADE)

        def light(points: Array, normals: Array) -> Array:
            return self._white * _light(points, normals, landmarks)[0] ** _EVEN

        self._most = [_BRIGHTER * _light(*row.carried(source), landmarks)[0] ** _EVEN for row in self._rows]
        lower, upper, lower_seen = show_photo(seen, portrait, edge, *self._rows, source, to_pixels, light, shade)
        self._rows = lower, upper
        if lower_seen:
            self._seats = (None, None)

    def baked(self, deformed: Array, landmarks: Array) -> BakedMouth:
        """The parts of this mouth, lit as with the lips of ``deformed`` [v, 3], whose landmarks are [478, 3]; no lips move its rows."""
        lining = deformed[self._used]
        reached, _ = _light(lining, -vertex_normals(lining, self._triangles), landmarks)
        flesh = self._tone.apply(self._on_flesh * _LINING * reached**_FLESH_EVEN)
        parts = (self._tongue, *self._rows)
        light = []
        lights = (self._on_flesh, self._white, self._white)
        for part, on_part, even, most in zip(parts, lights, (_FLESH_EVEN, _EVEN, _EVEN), (1.0, *self._most), strict=True):
            reached, _ = _light(*part.carried(deformed, np.zeros(len(part.modes)) if len(part.modes) else None), landmarks)
            light.append((on_part * np.minimum(reached**even, most)).astype(np.float32))
        return BakedMouth(self._used, self._triangles, flesh.astype(np.float32), parts, tuple(light))

    def draw(
        self, deformed: Array, landmarks: Array, expression: Array, to_pixels: Callable[[Array], tuple[Array, Array]], opening: Array
    ) -> InsidePicture:
        """The inside of the moved mouth.

        Args:
            deformed: [v, 3] the head's vertices in head space; landmarks: its landmarks [478, 3]; expression: [e] its curves.
            to_pixels: projects points [n, 3] to pixels [n, 2] and depths [n].
            opening: bool [h, w], where the picture shows the inside.

        Returns:
            the part of the picture around the opening; without pixels when there is none.
        """
        rows, columns = (np.flatnonzero(opening.any(axis)) for axis in (1, 0))
        if not len(rows):
            return InsidePicture(np.zeros((0, 0, 4), np.float32), 0, 0)
        top, left = max(int(rows[0]) - _MARGIN_PX, 0), max(int(columns[0]) - _MARGIN_PX, 0)
        height = min(int(rows[-1]) + _MARGIN_PX + 1, opening.shape[0]) - top
        width = min(int(columns[-1]) + _MARGIN_PX + 1, opening.shape[1]) - left

        box = (top, left, height, width)
        lining = deformed[self._used]
        reached, _ = _light(lining, -vertex_normals(lining, self._triangles), landmarks)
        colours = self._on_flesh * _LINING * reached**_FLESH_EVEN
        deep = self._on_flesh * _LINING * (_DEEP * _through(landmarks)) ** _FLESH_EVEN
        behind = _layer(lining, self._triangles, to_pixels, box)
        fine = np.empty((*behind.depth.shape, 4), np.float32)
        kernels.lay_flesh(behind.triangle, behind.barycentric, colours.astype(np.float32), self._triangles, deep.astype(np.float32), fine)
        amounts = tongue_amounts(expression, self._head.expression_names)
        rows_of_teeth = ((row, None, self._white, _EVEN, most, 1.0) for row, most in zip(self._rows, self._most, strict=True))
        lips = None if self._rim is None else self._rim.edges(landmarks)
        parts = ((self._tongue, amounts, self._on_flesh, _FLESH_EVEN, 1.0, 0.0), *rows_of_teeth)
        for seat, (part, how, on_part, even, most, is_teeth) in zip((None, *self._seats), parts, strict=True):
            points, normals = part.carried(deformed, how)
            if seat is not None and lips is not None:
                points[:, 1] += seat.up_dm(edge_middle(points, part.columns), lips)
            layer = _layer(points, part.triangles, to_pixels, box)
            reached, mirrored = _light(points, normals, landmarks)
            kernels.lay_part(
                layer.triangle,
                layer.barycentric,
                layer.depth,
                (on_part * np.minimum(reached**even, most)).astype(np.float32),
                (self._white * mirrored[:, None]).astype(np.float32),
                part.triangles,
                part.texels,
                part.texture,
                np.float32(is_teeth),
                behind.depth,
                fine,
            )
        rgb = np.empty((height, width, 4), np.float32)
        kernels.shrink(fine, _FINER, rgb)
        light = _shadow(opening[top : top + height, left : left + width], _pixels_per_dm(landmarks, to_pixels))
        # In a narrow gap one sees the lips' own wet inside, in shadow.
        dark = self._on_flesh * _LINING * _IN_SHADOW
        lit = dark + light[..., None] * (rgb[..., :3] - dark)
        rgb[..., :3] = self._tone.apply(lit * self._exposure.at(_opening(landmarks)))
        if self._rim is not None:
            pixels, depth = to_pixels(self._rim.points(landmarks))
            self._rim.lay(pixels - np.array([left, top], np.float32), depth, rgb)
        return InsidePicture(rgb, top, left)


@dataclass(frozen=True, slots=True)
class Exposure:
    """How much darker or lighter the photo is between its own parted lips, which show no teeth, than what is drawn there.

    Args:
        gain: [3] float32; ``gap_dm``: between the lips of the photo, twice as far apart it no longer holds.
    """

    gain: Array = field(default_factory=lambda: np.ones(3, np.float32))
    gap_dm: float = 0.0

    @classmethod
    def of(cls, drawn: InsidePicture, image: Array, opening: Array, gap_dm: float) -> Exposure:
        """From what is drawn for the photo's own motion and the photo [s, s, 3], bool [s, s] between its lips."""
        height, width = drawn.rgb.shape[:2]
        box = (slice(drawn.top, drawn.top + height), slice(drawn.left, drawn.left + width))
        where = opening[box]
        if where.sum() < _ENOUGH_SHARE * opening.size:
            return cls()
        own, made = (picture[where][:, :3].astype(np.float32).mean(0) for picture in (image[box], drawn.rgb))
        return cls(np.clip(own / np.maximum(made, 1.0), *_EXPOSURES).astype(np.float32), gap_dm)

    def at(self, gap_dm: float) -> Array:
        """For lips so far apart: [3]."""
        share = np.clip(2.0 - gap_dm / self.gap_dm, 0.0, 1.0) if self.gap_dm else 0.0
        return self.gain ** np.float32(share)


def _shadow(opening: Array, pixels_per_dm: float) -> Array:
    """The light that the lips let in to each pixel of an ``opening``, bool [h, w]: float32 [h, w]."""
    light = np.empty(opening.shape, np.float32)
    numbers = (number for strength, distance in _SHADOW for number in (strength, distance * pixels_per_dm))
    kernels.shadow(np.ascontiguousarray(opening), *map(np.float32, numbers), np.float32(_NARROW_DM * pixels_per_dm), light)
    return light


def _pixels_per_dm(landmarks: Array, to_pixels: Callable[[Array], tuple[Array, Array]]) -> float:
    pixels, _ = to_pixels(landmarks[list(INNER_MOUTH_CORNERS)])
    return float(np.linalg.norm(pixels[1] - pixels[0])) / max(_width(landmarks), 1e-3)


def _layer(points: Array, triangles: Array, to_pixels: Callable, box: tuple[int, int, int, int]) -> Fragments:
    """Finer fragments of a mesh in a box (top, left, height, width) of the picture."""
    top, left, height, width = box
    pixels, depth = to_pixels(points)
    layer = Fragments.empty(height * _FINER, width * _FINER)
    pixels = (pixels - np.array([left, top], np.float32)) * np.float32(_FINER)
    draw_fragments(pixels, depth, triangles, layer.triangle, layer.barycentric, layer.depth)
    return layer


def _through(landmarks: Array) -> Array:
    """Light [3] that flesh throws back to any place."""
    return np.float32(_INDIRECT * min(1.0, _disc(landmarks) / 0.02)) * _REDDER


def _disc(landmarks: Array) -> float:
    """The lips' opening as the squared radius of a disc, in square decimetres."""
    return max(0.25 * _width(landmarks) * _opening(landmarks), 1e-5)


def _light(points: Array, normals: Array, landmarks: Array) -> tuple[Array, Array]:
    """Light at points [n, 3] with normals [n, 3] behind the lips of landmarks [478, 3]: see :func:`kernels.light`; [n, 3] and [n]."""
    reached, mirrored = np.empty((len(points), 3), np.float32), np.empty(len(points), np.float32)
    gap = np.array([0.5 * _width(landmarks), 0.5 * _opening(landmarks), _disc(landmarks)], np.float32)
    points, normals = (np.ascontiguousarray(values, np.float32) for values in (points, normals))
    kernels.light(points, normals, landmarks[INNER_LIPS].mean(0, dtype=np.float32), gap, _through(landmarks), _LAW, reached, mirrored)
    return reached, mirrored


def mouth_is_shut(landmarks: Array) -> bool:
    """Whether the lips of landmarks [478, 3] touch all along: what a mesh shows between them is its own coarseness."""
    return bool((landmarks[LIP_PAIRS[:, 0], 1] - landmarks[LIP_PAIRS[:, 1], 1]).max() < _TOUCHING_DM)


def bite_dm(head: FullHead, vertices: Array) -> float:
    """How far the middle of the lower teeth lies below that of the upper ones, of a head's ``vertices`` [v, 3]."""
    upper, lower = (float(vertices[head.part == part, 1].mean()) for part in (HeadPart.TEETH_UPPER, HeadPart.TEETH_LOWER))
    return upper - lower


@dataclass(frozen=True, slots=True)
class Membrane:
    """A wide open photo's own view between the lips, stretched over their inner contour like a skin (one fan of triangles).

    Tongue and throat of a photo are what the mouth looks like while lips and jaw are open about as far; :meth:`trust` tells how far that
    holds. Photos whose lips are less far apart need none: what they show lies on the rows of teeth.

    Args:
        pixels: [n + 1, 2] float32, the contour's points in the photo and their centre.
        triangles: [n, 3] int32.
        opening_dm: gap between the middles of the lips in the photo.
        bite_dm: of the photo, see :func:`bite_dm`.
    """

    pixels: Array
    triangles: Array
    opening_dm: float
    bite_dm: float

    @classmethod
    def of(cls, landmarks: Array, source_landmarks: Array, bite_dm: float, seen: SeenTeeth | None) -> Membrane | None:
        """From the photo's landmarks [478, >=2] in pixels, the fitted head's [478, 3] in decimetres, and the photo's teeth.

        None when its lips are not wide open, or open on teeth.
        """
        if _opening(source_landmarks) < _WIDE_DM or (seen is not None and seen.share > _MOSTLY_TEETH):
            return None
        count = len(INNER_LIPS)
        around = np.arange(count)
        fan = np.stack([np.full(count, count), around, (around + 1) % count], 1).astype(np.int32)
        return cls(_with_centre(landmarks[INNER_LIPS, :2]), fan, _opening(source_landmarks), bite_dm)

    def points(self, landmarks: Array) -> Array:
        """Where the membrane's vertices stand for posed or unposed landmarks [478, 3]: [n + 1, 3]."""
        return _with_centre(landmarks[INNER_LIPS])

    def trust(self, landmarks: Array, bite_dm: float) -> float:
        """1 while lips and jaw are open as in the photo, falling to 0 as either leaves that."""
        change = max(abs(_opening(landmarks) - self.opening_dm), abs(bite_dm - self.bite_dm)) / self.opening_dm
        return float(np.clip((_STRETCH[1] - change) / (_STRETCH[1] - _STRETCH[0]), 0.0, 1.0))

    def light(self, landmarks: Array) -> float:
        """Lips that close throw a shadow on what the photo shows between them."""
        return 0.35 + 0.65 * float(np.clip(_opening(landmarks) / self.opening_dm, 0.0, 1.0))


def _opening(landmarks: Array) -> float:
    return float(np.linalg.norm(landmarks[UPPER_LIP_INSIDE] - landmarks[LOWER_LIP_INSIDE]))


def _width(landmarks: Array) -> float:
    right, left = (landmarks[corner] for corner in INNER_MOUTH_CORNERS)
    return float(np.linalg.norm(right - left))


def _with_centre(ring: Array) -> Array:
    """The contour, a little widened so that it reaches under the lips, and its centre."""
    centre = ring.mean(0)
    return np.concatenate([centre + (ring - centre) * 1.04, centre[None]]).astype(np.float32)
