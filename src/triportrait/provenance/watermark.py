"""An invisible mark in the luma of every frame: spread spectrum in the frequencies that video codecs keep.

:mod:`.waves` has the key and the code, :mod:`.reading` reads the mark back. Spread spectrum: Cox, Kilian, Leighton,
Shamoon, "Secure spread spectrum watermarking for multimedia", 1997.

The key is public, for anybody must be able to look for the mark. So anybody can also write one, and who knows how can
remove it: the mark informs, and the signed manifest proves.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from triportrait.provenance.waves import HIGHEST_PERIODS, PAYLOAD_BITS, key_stream, pattern, signs
from triportrait.types import Array, expect

#: Waves need two pixels per period at the very least.
SMALLEST_SIDE_PX = 2 * HIGHEST_PERIODS

#: Strength in grey levels (root mean square): on flat ground, per grey level of local contrast, at most, frame mean.
_FLAT_STRENGTH = 0.6
_STRENGTH_PER_CONTRAST = 0.25
_STRONGEST = 5.0
#: Contrast within a block that smooth shading alone brings; it hides nothing.
_SHADING_CONTRAST = 1.0
_STRONGEST_FRAME_MEAN = 1.85
#: Blocks along the shorter side in which contrast is measured; 8 px at 512.
_CONTRAST_BLOCKS = 64


@lru_cache(maxsize=4)
def _pattern(width: int, height: int, payload: int) -> Array:
    return pattern(width, height, signs(payload))


class Watermarker:
    """Marks frames of one size with one payload; the pattern is computed once here.

    Args:
        size: (w, h) in pixels, both at least 128.
        payload: 0..4294967295, free to use.

    Raises:
        ValueError: a payload that does not fit, or a frame too small to carry the mark.
    """

    def __init__(self, size: tuple[int, int], payload: int = 0) -> None:
        width, height = size
        if min(size) < SMALLEST_SIDE_PX:
            raise ValueError(f"a {width} x {height} frame cannot hold a watermark; {SMALLEST_SIDE_PX} px is enough")
        if not 0 <= payload < 1 << PAYLOAD_BITS:
            raise ValueError(f"payload is {payload}, expected 0..{(1 << PAYLOAD_BITS) - 1}")
        self.size = size
        self.payload = payload
        self._pattern = _pattern(width, height, payload)
        # Rounding to whole grey levels would erase the mark where it is weaker than half a level; a fixed dither
        # keeps its mean.
        dither = key_stream("1 dither", width * height).reshape(height, width) / np.float32(2**32) - np.float32(0.5)
        self._dither = dither.astype(np.float32)
        block_px = min(size) / _CONTRAST_BLOCKS
        self._blocks = (round(width / block_px), round(height / block_px))

    def apply(self, frame: Array) -> Array:
        """A marked copy of ``frame`` uint8 [h, w, 3]; the same amount goes to R, G and B, so colours keep their hue.

        The mark is weak on flat and dark ground and stronger in texture, where the eye misses it.

        Raises:
            ValueError: the frame has another size or type.
        """
        import cv2

        width, height = self.size
        expect(frame, f"{height} {width} 3", "frame")
        if frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.dtype}, expected uint8")
        frame = np.ascontiguousarray(frame)
        strength = cv2.resize(self._strength(frame), self.size, interpolation=cv2.INTER_LINEAR)
        cv2.multiply(strength, self._pattern, dst=strength)
        change = cv2.add(strength, self._dither, dtype=cv2.CV_16S)
        return cv2.add(frame, cv2.merge([change, change, change]), dtype=cv2.CV_8U)

    def _strength(self, frame: Array) -> Array:
        """How much mark each block bears, grey levels, float32 [blocks down, blocks across]."""
        import cv2

        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        mean = cv2.resize(grey, self._blocks, interpolation=cv2.INTER_AREA)
        square = cv2.resize(cv2.multiply(grey, grey), self._blocks, interpolation=cv2.INTER_AREA)
        contrast = np.sqrt(np.maximum(square - mean * mean, 0))
        # The smallest contrast around a block counts: beside an edge the flat side must stay clean.
        contrast = cv2.blur(cv2.erode(contrast, np.ones((3, 3), np.uint8)), (3, 3))
        texture = np.maximum(contrast - _SHADING_CONTRAST, 0)
        strength = np.minimum(_FLAT_STRENGTH + _STRENGTH_PER_CONTRAST * texture, _STRONGEST)
        strength *= np.clip(0.4 + mean / 80, 0.4, 1.0)
        frame_mean = float(np.sqrt(np.mean(strength * strength)))
        return strength * min(1.0, _STRONGEST_FRAME_MEAN / frame_mean)
