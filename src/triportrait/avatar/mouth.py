"""The inside of the mouth: colours of teeth, gums, tongue and lining, and the photo's own view into it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.geometry.landmarks import INNER_LIPS
from triportrait.types import FullHead, HeadPart

Array = np.ndarray

#: Reflectances under white light, relative to the face's brightness.
_TINTS = {
    HeadPart.SOCKET: (0.44, 0.21, 0.20),
    HeadPart.TONGUE: (0.84, 0.46, 0.45),
    HeadPart.GUMS: (0.78, 0.45, 0.45),
    HeadPart.TEETH_UPPER: (0.94, 0.90, 0.85),
    HeadPart.TEETH_LOWER: (0.94, 0.90, 0.85),
}
#: Light falls off behind the lips: one e-fold over this many decimetres; cheeks shade the back teeth, the tongue lies open.
_FALL_OFF_DM = {HeadPart.TEETH_UPPER: 0.28, HeadPart.TEETH_LOWER: 0.2, HeadPart.TONGUE: 0.6}
_OTHER_FALL_OFF_DM = 0.45
#: What is left at the back: of the flesh, and of the teeth.
_LEAST_LIGHT = (0.38, 0.2)


def seat_teeth(head: FullHead, shape: Array) -> Array:
    """Shift [3] for everything inside the mouth that puts the teeth behind this person's lips as they are behind the mean head's.

    Shape coefficients place the jaws only roughly, while lips are fitted to the pixel: without it smiles show gums or no teeth at all.
    """
    inner = INNER_LIPS
    lips = head.landmarks478(shape)[inner].mean(0) - head.landmarks478(head.mean)[inner].mean(0)
    upper = head.part == HeadPart.TEETH_UPPER
    return (lips - (shape[upper] - head.mean[upper]).mean(0)).astype(np.float32)


def interior_colours(head: FullHead, shape: Array, face_level: float) -> Array:
    """Colours [v, 3] float32 (0..255) of everything inside the mouth, darker the deeper it lies; zero elsewhere.

    Args:
        shape: [v, 3] the expressionless head.
        face_level: brightness (0..255) of the lit face in the photo; the mouth is lit by the same light.
    """
    lips = head.landmarks478(shape)[INNER_LIPS]
    front = float(lips[:, 2].max())
    colours = np.zeros((len(shape), 3), np.float32)
    for part, tint in _TINTS.items():
        inside = head.part == part
        depth = np.maximum(front - shape[inside, 2] - 0.1, 0.0)
        light = np.exp(-depth / _FALL_OFF_DM.get(part, _OTHER_FALL_OFF_DM))
        least = _LEAST_LIGHT[part in (HeadPart.TEETH_UPPER, HeadPart.TEETH_LOWER)]
        colours[inside] = np.minimum(np.array(tint) * face_level, 235.0) * (least + (1.0 - least) * light)[:, None]
    return colours


@dataclass(frozen=True, slots=True)
class Membrane:
    """The photo's own view between the lips, stretched over their inner contour like a skin (one fan of triangles).

    It is what the mouth really looks like while it is open about as far as in the photo; :meth:`trust` tells how far that holds.

    Args:
        pixels: [n + 1, 2] float32, the contour's points in the photo and their centre.
        triangles: [n, 3] int32.
        opening_dm: gap between the middles of the lips in the photo.
    """

    pixels: Array
    triangles: Array
    opening_dm: float

    @classmethod
    def of(cls, landmarks: Array, source_landmarks: Array) -> Membrane:
        """From the photo's landmarks [478, >=2] in pixels and the fitted head's [478, 3] in decimetres."""
        count = len(INNER_LIPS)
        around = np.arange(count)
        fan = np.stack([np.full(count, count), around, (around + 1) % count], 1).astype(np.int32)
        return cls(_with_centre(landmarks[INNER_LIPS, :2]), fan, _opening(source_landmarks))

    def points(self, landmarks: Array) -> Array:
        """Where the membrane's vertices stand for posed or unposed landmarks [478, 3]: [n + 1, 3]."""
        return _with_centre(landmarks[INNER_LIPS])

    def trust(self, landmarks: Array) -> float:
        """1 while the lips are open as in the photo, falling to 0 as they open wider."""
        wider = max(_opening(landmarks) - self.opening_dm, 0.0) / max(self.opening_dm, 0.015)
        # A wide view, with teeth, bears more stretching than a slit.
        limit = 1.5 + 0.8 * float(np.clip((self.opening_dm - 0.04) / 0.08, 0.0, 1.0))
        return float(np.clip(limit - wider, 0.0, 1.0))

    def light(self, landmarks: Array) -> float:
        """Lips that close throw a shadow on what the photo shows between them."""
        return 0.35 + 0.65 * float(np.clip(_opening(landmarks) / max(self.opening_dm, 0.01), 0.0, 1.0))


def mouth_light(landmarks: Array) -> float:
    """Light that falls between the lips: parted by a slit they show shadow, not white teeth."""
    return 0.42 + 0.58 * float(np.clip((_opening(landmarks) - 0.02) / 0.12, 0.0, 1.0))


def _opening(landmarks: Array) -> float:
    return float(np.linalg.norm(landmarks[13] - landmarks[14]))


def _with_centre(ring: Array) -> Array:
    """The contour, a little widened so that it reaches under the lips, and its centre."""
    centre = ring.mean(0)
    return np.concatenate([centre + (ring - centre) * 1.04, centre[None]]).astype(np.float32)
