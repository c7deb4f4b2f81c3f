"""Coverings painted over a photographed mouth: masks, scarves, microphones, cups, boards and hands, lit and shaded like the picture.

They teach :class:`triportrait.face.cover_network.CoverNetwork` what a covered mouth looks like. Pictures are square crops of a face.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from triportrait.types import Array

Random = np.random.Generator

#: Colours of cloth, paper and foam.
_CLOTH = (
    (255, 255, 255), (240, 240, 238), (20, 20, 22), (40, 42, 48), (150, 190, 220), (120, 170, 215), (90, 130, 190), (200, 150, 165),
    (60, 90, 70), (120, 120, 120), (180, 40, 45), (230, 200, 90), (90, 60, 110),
)  # fmt: skip
_FOAM = ((25, 25, 28), (45, 45, 48), (95, 95, 98), (150, 150, 150), (30, 30, 120), (150, 25, 25))
#: Vertices of the face mesh: where bare skin is seen above a covering; where a mask's edge may lie on the nose and at its four corners,
#: from the subject's left ear down and up to the right one; where a scarf's edge may lie.
_SKIN = (10, 151, 9, 108, 337, 50, 280)
_NOSE, _MASK_CORNERS = (6, 197, 195, 5), ((454, 323, 447), (397, 365, 288), (172, 136, 58), (234, 93, 227))
_SCARF_EDGE = (2, 164, 4, 5)
#: Share of coverings that have the colour of the skin.
_LIKE_SKIN = 0.12


@dataclass(frozen=True, slots=True)
class _Face:
    """A picture and the measures of its face.

    Args:
        image: uint8 [s, s, 3]; points: [478, 2] in its pixels.
        middle: of the lips; up, right: unit vectors along the face.
        mouth: width of the lips; tall, wide: of the face; all in pixels.
        skin: colour of forehead and cheeks.
    """

    image: Array
    points: Array
    middle: Array
    up: Array
    right: Array
    mouth: float
    tall: float
    wide: float
    skin: Array

    @classmethod
    def of(cls, image: Array, landmarks: Array) -> _Face:
        points = landmarks[:, :2].astype(np.float64)
        mouth, tall, wide = (float(np.linalg.norm(points[a] - points[b])) for a, b in ((61, 291), (10, 152), (234, 454)))
        up = (points[10] - points[152]) / tall
        x, y = points[list(_SKIN)].astype(int).clip(0, len(image) - 1).T
        skin = np.median(cv2.GaussianBlur(image, (0, 0), 2.0)[y, x].astype(float), axis=0)
        return cls(image, points, 0.5 * (points[13] + points[14]), up, np.array([-up[1], up[0]]), mouth, tall, wide, skin)

    def grid(self) -> tuple[Array, Array]:
        """x and y of each pixel, float32 [s, s]."""
        y, x = np.mgrid[: len(self.image), : len(self.image)].astype(np.float32)
        return x, y

    def filled(self, corners: Sequence[Array], smooth: bool = False) -> Array:
        """Area float32 [s, s] within corners, or within a Catmull-Rom curve through them."""
        outline = np.asarray(corners, float)
        if smooth:
            along = np.linspace(0, len(outline), 200, endpoint=False)
            corner, part = along.astype(int), (along % 1)[:, None]
            a, b, c, d = (outline[(corner + offset) % len(outline)] for offset in (-1, 0, 1, 2))
            outline = 0.5 * (2 * b + (c - a) * part + (2 * a - 5 * b + 4 * c - d) * part**2 + (3 * b - a - 3 * c + d) * part**3)
        mask = np.zeros(self.image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
        return mask.astype(np.float32) / 255


def _pattern(face: _Face, name: str, colour: Array, random: Random) -> Array:
    """Cloth [s, s, 3] of a colour: plain, pleats, stripes, dots, checks or clouds of other colours."""
    x, y = face.grid()
    angle, step, other = random.uniform(0, np.pi), random.uniform(8, 40), random.uniform(10, 245, 3)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    if name == "plain":
        return np.broadcast_to(colour, face.image.shape)
    if name == "pleats":
        return colour * (1 - 0.14 * random.uniform(0.5, 1.5) * np.exp(-(((y % random.uniform(18, 34)) / 3) ** 2)))[..., None]
    if name == "stripes":
        return np.where((np.sin(u / step * 2 * np.pi) > 0)[..., None], other, colour)
    if name == "dots":
        inside = (u % step - step / 2) ** 2 + (v % step - step / 2) ** 2 < (0.28 * step) ** 2
        return np.where(inside[..., None], other, colour)
    if name == "checks":
        return np.where(((u // step + v // step) % 2 > 0)[..., None], other, colour)
    return colour + _clouds(face, random, random.uniform(1, 3), 3) * random.uniform(15, 50)


def _clouds(face: _Face, random: Random, width: float, channels: int) -> Array:
    """Smooth noise of unit variance [s, s, channels], soft over 8 ``width`` pixels."""
    side = len(face.image)
    noise = cv2.GaussianBlur(random.normal(size=(side // 8, side // 8, channels)).astype(np.float32), (0, 0), width)
    grown = cv2.resize(noise / noise.std(), (side, side), interpolation=cv2.INTER_CUBIC)
    return grown.reshape(side, side, channels)


def _laid_over(face: _Face, image: Array, mask: Array, colours: Array, middle: Array, reach: float, random: Random) -> Array:
    """A thing [s, s, 3] in the light of the picture, on it, with its shadow.

    Args:
        face: whose light it has; image: uint8 [s, s, 3] that it is laid on.
        mask: float32 [s, s], where the thing is; colours: [s, s, 3] of it.
        middle, reach: its centre and half its size in pixels, which its shading goes by.
        random: of light, folds and shadow.
    """
    x, y = face.grid()
    angle = random.uniform(0, 2 * np.pi)
    light = 1 + random.uniform(0, 0.3) * ((x - middle[0]) * np.cos(angle) + (y - middle[1]) * np.sin(angle)) / reach
    light *= 1.05 - random.uniform(0, 0.35) * (np.hypot(x - middle[0], y - middle[1]) / reach) ** 2
    around = cv2.GaussianBlur(face.image.astype(np.float32).mean(-1), (0, 0), 25)
    light *= (around / max(float(around[mask > 0.5].mean()) if (mask > 0.5).any() else 128.0, 1.0)) ** random.uniform(0, 0.6)
    light *= 1 + random.uniform(0, 0.06) * _clouds(face, random, 1.5, 1)[..., 0]
    thing = colours * np.clip(light, 0.3, 1.6)[..., None] + random.normal(size=image.shape) * random.uniform(0, 4)
    thing = cv2.GaussianBlur(np.clip(thing, 0, 255).astype(np.float32), (0, 0), random.uniform(0.4, 1.2))
    soft = cv2.GaussianBlur(mask, (0, 0), random.uniform(0.6, 1.5))[..., None]
    shadow = cv2.GaussianBlur(soft, (0, 0), 6)[..., None] * random.uniform(0, 0.35) * (1 - soft)
    return np.clip(image * (1 - shadow) * (1 - soft) + thing * soft, 0, 255).astype(np.uint8)


def _mask(face: _Face, colour: Array, random: Random, patterns: Sequence[str] = ("plain", "pleats", "clouds")) -> Array:
    points = face.points
    top = points[random.choice(_NOSE)] + random.normal(size=2) * 2
    chin = points[152] - face.up * face.tall * random.uniform(0.0, 0.07)
    corners = [points[random.choice(choice)] for choice in _MASK_CORNERS]
    corners[1:3] = (point + (point - face.middle) * random.uniform(0, 0.06) for point in corners[1:3])
    between = [0.5 * (top + corner) + face.up * face.tall * random.uniform(-0.03, 0.04) for corner in (corners[0], corners[3])]
    area = face.filled([top, between[0], *corners[:2], chin, *corners[2:], between[1]], random.random() < 0.7)
    cloth = _pattern(face, random.choice(patterns), colour, random)
    return _laid_over(face, face.image, area, cloth, face.middle, 0.5 * face.wide, random)


def _skin_mask(face: _Face, colour: Array, random: Random) -> Array:
    return _mask(face, _skin_colour(face, random), random)


def _patterned_mask(face: _Face, colour: Array, random: Random) -> Array:
    return _mask(face, colour, random, ("stripes", "dots", "checks", "clouds"))


def _scarf(face: _Face, colour: Array, random: Random) -> Array:
    top = face.points[random.choice(_SCARF_EDGE)] + face.up * face.tall * random.uniform(-0.01, 0.03)
    across, down = face.right * face.wide, face.points[152] - face.up * face.tall * 0.5
    upper = [top + across * side + face.up * face.tall * random.uniform(-0.02, 0.06) for side in (0.9, 0.4, 0.0, -0.4, -0.9)]
    area = face.filled([*upper, *(down + across * side for side in (-0.9, 0.9))])
    cloth = _pattern(face, random.choice(["stripes", "checks", "clouds", "plain"]), colour, random)
    return _laid_over(face, face.image, area, cloth, face.middle, 0.6 * face.wide, random)


def _microphone(face: _Face, colour: Array, random: Random) -> Array:
    """A ball of foam or wire before the lips, and its handle below."""
    radius, side = face.mouth * random.uniform(0.55, 0.95), len(face.image)
    centre = face.middle - face.up * face.mouth * random.uniform(-0.1, 0.3) + face.right * face.mouth * random.uniform(-0.12, 0.12)
    foam, tilt = np.array(_FOAM[random.integers(len(_FOAM))], float), random.uniform(-0.6, 0.6)
    across = np.array([np.cos(tilt), -np.sin(tilt)]) * radius * random.uniform(0.35, 0.6)
    down = np.array([np.sin(tilt), np.cos(tilt)]) * side
    handle = face.filled([centre + across, centre - across, centre - 0.8 * across + down, centre + 0.8 * across + down])
    image = _laid_over(face, face.image, handle, np.broadcast_to(0.7 * foam, face.image.shape), centre, 0.3 * side, random)
    x, y = face.grid()
    ball = np.clip(radius - np.hypot(x - centre[0], (y - centre[1]) / random.uniform(0.9, 1.3)) + 0.5, 0, 1).astype(np.float32)
    step, is_wire = random.uniform(3, 7), random.random() < 0.6
    wires = ((x + y) % step < 0.35 * step) | ((x - y) % step < 0.35 * step)
    gloss = np.exp(-(((x - centre[0] + 0.35 * radius) ** 2 + (y - centre[1] + 0.4 * radius) ** 2) / (0.35 * radius) ** 2))
    colours = np.where((wires & is_wire)[..., None], 1.5 * foam, foam) + gloss[..., None] * random.uniform(10, 90)
    return _laid_over(face, image, ball, colours, centre, radius, random)


def _cup(face: _Face, colour: Array, random: Random) -> Array:
    return _before_the_lips(face, colour, random, 1.0, random.uniform(0.75, 1.0))


def _board(face: _Face, colour: Array, random: Random) -> Array:
    return _before_the_lips(face, colour, random, 1.6, 1.0)


def _before_the_lips(face: _Face, colour: Array, random: Random, size: float, foot: float) -> Array:
    """A flat thing that is ``foot`` times as wide at its lower end."""
    half = face.mouth * random.uniform(0.6, 1.1) * size
    top = face.middle + face.up * face.mouth * random.uniform(0.25, 0.6)
    tilt = random.uniform(-0.2, 0.2)
    down = (face.right * np.sin(tilt) - face.up * np.cos(tilt)) * face.mouth * random.uniform(1.3, 2.2) * size
    across = np.array([down[1], -down[0]]) / np.linalg.norm(down) * half
    area = face.filled([top + across, top - across, top - across * foot + down, top + across * foot + down])
    cloth = _pattern(face, random.choice(["plain", "clouds", "stripes"]), colour, random)
    return _laid_over(face, face.image, area, cloth, face.middle, half, random)


def _hand(face: _Face, colour: Array, random: Random) -> Array:
    """Three or four fingers and a palm, from one side."""
    image, skin = face.image, face.skin * random.uniform(0.85, 1.12) + random.normal(size=3) * 4
    fingers, thick, tilt = int(random.integers(3, 5)), face.mouth * random.uniform(0.26, 0.36), random.uniform(-0.5, 0.5)
    along = (face.right * np.cos(tilt) + face.up * np.sin(tilt)) * random.choice([-1, 1])
    across = np.array([-along[1], along[0]])
    palm = face.middle - along * face.mouth * random.uniform(0.9, 1.3)
    x, y = face.grid()
    for number in range(fingers):
        aside = across * thick * 1.75 * ((fingers - 1) / 2 - number)
        first = palm + 1.1 * aside - along * face.wide * 0.5
        last = face.middle + aside + along * face.mouth * random.uniform(0.55, 1.0)
        length = float(np.linalg.norm(last - first))
        way = (last - first) / length
        place = np.clip((x - first[0]) * way[0] + (y - first[1]) * way[1], 0, length)
        distance = np.hypot(x - first[0] - place * way[0], y - first[1] - place * way[1])
        radius = thick * (1 - 0.12 * place / length)
        shade = 0.72 + 0.33 * np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, 1)) + 0.05 * np.sin(place / length * 9)
        finger = np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)
        image = _laid_over(face, image, finger, skin * shade[..., None], face.middle, 0.5 * face.wide, random)
    corners = [
        palm + side * across * thick * fingers - along * face.wide * back for side, back in ((1, 0.25), (-1, 0.25), (-1, 0.7), (1, 0.7))
    ]
    return _laid_over(face, image, face.filled(corners, True), np.broadcast_to(skin, image.shape), palm, 0.5 * face.wide, random)


def _skin_colour(face: _Face, random: Random) -> Array:
    return face.skin * random.uniform(0.85, 1.1) + random.normal(size=3) * 5


#: Kind of covering -> how it is painted, and how often it is taken against the others.
_PAINTERS: dict[str, tuple[Callable[[_Face, Array, Random], Array], int]] = {
    "mask": (_mask, 2),
    "skin mask": (_skin_mask, 1),
    "patterned mask": (_patterned_mask, 2),
    "scarf": (_scarf, 1),
    "microphone": (_microphone, 2),
    "cup": (_cup, 1),
    "board": (_board, 1),
    "hand": (_hand, 2),
}
#: What can be painted, by name.
COVERINGS = tuple(_PAINTERS)


def random_covering(random: Random) -> str:
    """A name of :data:`COVERINGS`, masks, microphones and hands more often than the others."""
    shares = np.array([share for _, share in _PAINTERS.values()], float)
    return str(random.choice(COVERINGS, p=shares / shares.sum()))


def covered(image: Array, landmarks: Array, kind: str, random: Random) -> Array:
    """The picture uint8 [s, s, 3] with something painted over the mouth.

    Args:
        image: uint8 [s, s, 3], a face and a little around it; s is 256 or more.
        landmarks: [478, >=2] in its pixels.
        kind: one of :data:`COVERINGS`.
        random: of form, place, colour and light.
    """
    face = _Face.of(image, landmarks)
    colour = np.array(_CLOTH[random.integers(len(_CLOTH))], float) + random.normal(size=3) * 12
    if random.random() < _LIKE_SKIN:
        colour = _skin_colour(face, random)
    return _PAINTERS[kind][0](face, colour, random)
