"""The inside of the mouth: colours of teeth, gums, tongue and lining, and where the photo itself looks in."""

from __future__ import annotations

import numpy as np

from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import INNER_LIPS
from triportrait.types import FullHead, HeadPart, Portrait

Array = np.ndarray

#: Reflectances under white light, relative to the face's brightness.
_TINTS = {
    HeadPart.SOCKET: (0.42, 0.22, 0.22),
    HeadPart.TONGUE: (0.78, 0.45, 0.45),
    HeadPart.GUMS: (0.78, 0.45, 0.45),
    HeadPart.TEETH_UPPER: (0.86, 0.81, 0.76),
    HeadPart.TEETH_LOWER: (0.8, 0.75, 0.7),
}
#: Light falls off behind the lips: one e-fold over this many decimetres.
_FALL_OFF_DM = 0.34


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
        light = np.exp(-depth / _FALL_OFF_DM)
        colours[inside] = np.minimum(np.array(tint) * face_level, 235.0) * (0.1 + 0.9 * light)[:, None]
    return colours


def mouth_texture(portrait: Portrait) -> Array:
    """What the photo shows between the lips, spread beyond them: float32 [s, s, 4], colours 0..255 and how much they count.

    Teeth and tongue move behind the lips, so their colours must reach a little farther than the opening; the weight is zero everywhere
    when the mouth is shut.
    """
    import cv2

    size = portrait.image.shape[0]
    points = portrait.landmarks[INNER_LIPS, :2]
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16 - 8).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    mask = mask.astype(np.float32) / 255.0
    aperture = np.clip(cv2.GaussianBlur(mask, (0, 0), 1.2 * size / 512) * 1.8 - 0.8, 0.0, 1.0)
    width = float(np.linalg.norm(portrait.landmarks[78, :2] - portrait.landmarks[308, :2]))
    height = float(np.linalg.norm(portrait.landmarks[13, :2] - portrait.landmarks[14, :2]))
    # A slit shows shadow, not teeth: it must not colour a whole mouth.
    open_enough = np.clip((height / max(width, 1.0) - 0.1) / 0.12, 0.0, 1.0)
    spread = push_pull(portrait.image.astype(np.float32), aperture) if aperture.max() > 0.5 else portrait.image.astype(np.float32)
    reach = cv2.distanceTransform((aperture < 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    weight = np.maximum(aperture, open_enough * np.clip(1.0 - reach / max(0.25 * width, 1.0), 0.0, 1.0))
    return np.dstack([spread, weight]).astype(np.float32)
