"""The tone of a photograph: black-and-white, sepia and tinted pictures have one colour per lightness, and what is drawn anew takes it.

How far that holds is measured on the face: skin, lips, eyes and brows of a colour photograph have different hues at the same lightness,
those of a toned one lie on a line. Ordinary colour photographs get exactly nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.geometry.landmarks import OVAL
from triportrait.geometry.masks import outline_mask
from triportrait.types import Array, PreparedPortrait

#: Luma of red, green and blue (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
#: Levels by which 19 of 20 pixels stay off the line: up to the first a photo is toned, from the second on it is a colour photo. JPEG at
#: quality 60 puts sepia and duotones at 2 to 4, black-and-white at 0 to 3; ordinary colour photos begin at 6.
_SPREAD = (4.0, 5.5)
#: Parts of equal size into which lightness is cut; smoothing and step of the pixels that are looked at (of a 512 px crop).
_PARTS, _SMOOTH_PX, _STEP_PX = 24, 2.5, 3
#: Levels off the line up to which light explains a pixel, and from which on it is a coloured detail.
_DETAIL = (25.0, 45.0)
#: A face that shows fewer of these pixels tells nothing.
_FEWEST = 12 * _PARTS


@dataclass(frozen=True, slots=True)
class PhotoTone:
    """One colour per lightness.

    Args:
        offset: float32 [256, 3], the photo's colour at each luma, less that luma.
        strength: 0 for colour photos, 1 for toned ones.
    """

    offset: Array
    strength: float

    @classmethod
    def of(cls, portrait: PreparedPortrait) -> PhotoTone:
        """From the pixels of the portrait's face."""
        import cv2

        size = len(portrait.image)
        mask = outline_mask(portrait.landmarks[OVAL, :2], size)
        step = max(1, round(_STEP_PX * size / 512))
        soft = cv2.GaussianBlur(portrait.image.astype(np.float32), (0, 0), _SMOOTH_PX * size / 512)
        colours = soft[::step, ::step][mask[::step, ::step] > 0]
        if len(colours) < _FEWEST:
            return cls(np.zeros((256, 3), np.float32), 0.0)
        luma = colours @ LUMA
        own = colours - luma[:, None]
        parts = np.array_split(np.argsort(luma, kind="stable"), _PARTS)
        at = np.array([luma[part].mean() for part in parts])
        typical = np.array([np.median(own[part], axis=0) for part in parts])
        line = np.stack([np.interp(luma, at, typical[:, c]) for c in range(3)], 1)
        spread = float(np.quantile(np.abs(own - line).max(1), 0.95))
        strength = float(np.clip((_SPREAD[1] - spread) / (_SPREAD[1] - _SPREAD[0]), 0.0, 1.0))
        levels = np.arange(256)
        offset = np.stack([np.interp(levels, at, typical[:, c]) for c in range(3)], 1)
        return cls(offset.astype(np.float32), strength)

    def apply(self, colours: Array) -> Array:
        """Colours [..., 3], 0..255, in the photo's tone: float32; those of a colour photo are given back as they are."""
        if not self.strength:
            return colours
        luma = np.clip(colours @ LUMA, 0.0, 255.0)
        toned = np.clip(luma[..., None] + self.offset[np.rint(luma).astype(np.uint8)], 0.0, 255.0)
        return (colours + self.strength * (toned - colours)).astype(np.float32)

    def change(self, before: Array, change: Array) -> Array:
        """What to add to colours ``before`` [..., 3], 0..255, for ``change`` [..., 3]: its lightness in the photo's tone."""
        if not self.strength:
            return change
        return self.apply(before + change) - self.apply(before)

    def settled(self, rgb: Array, alpha: Array) -> Array:
        """A drawn head [s, s, 3], premultiplied by ``alpha`` [s, s], 0..1: relit skin is darker and lighter along the photo's tone.

        What lies far off the tone is a coloured detail of the photo (red lips in black and white) and stays.
        """
        if not self.strength:
            return rgb
        share = np.maximum(alpha, 0.05)[..., None]
        colours = 255.0 * rgb / share
        change = self.apply(colours) - colours
        near, far = _DETAIL
        kept = np.clip((far - np.abs(change).max(-1, keepdims=True)) / (far - near), 0.0, 1.0)
        return np.minimum(rgb + share * kept * change / np.float32(255.0), alpha[..., None]).astype(np.float32)

    def taken_off(self, colours: Array) -> Array:
        """Colours [..., 3], 0..255, without the photo's tone: a sepia picture in black and white."""
        if not self.strength:
            return colours
        luma = np.clip(colours @ LUMA, 0.0, 255.0)
        return colours - self.strength * self.offset[np.rint(luma).astype(np.uint8)]
