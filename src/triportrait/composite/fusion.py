"""Head over torso over background (Real3D-Portrait eq. 5 as plain alpha compositing), and back into the full photograph.

The compiled sum has no plain twin.
"""

from __future__ import annotations

import numpy as np

from triportrait.compiling import njit
from triportrait.geometry.fields import smooth_step
from triportrait.types import Array, PreparedPortrait, RenderedHead

_0, _HALF, _1, _LEVELS = np.float32(0), np.float32(0.5), np.float32(1), np.float32(255)


@njit(nogil=True, cache=True, error_model="numpy")
def _fuse(head_rgb, head_alpha, torso, background, out):
    height, width = head_alpha.shape
    has_torso = torso.shape[0] == height
    for row in range(height):
        for column in range(width):
            rest = _1 - head_alpha[row, column]
            torso_rest = rest
            if has_torso:
                torso_rest = rest * (_1 - torso[row, column, 3] / _LEVELS)
            for c in range(3):
                value = _LEVELS * head_rgb[row, column, c] + torso_rest * np.float32(background[row, column, c])
                if has_torso:
                    value += rest * np.float32(torso[row, column, c])
                out[row, column, c] = np.uint8(min(max(value + _HALF, _0), _LEVELS))


def fuse(head: RenderedHead, torso: Array | None, background: Array) -> Array:
    """One picture from three layers.

    Args:
        head: premultiplied head layer.
        torso: uint8 [s, s, 4], premultiplied; None where the head layer shows the whole person.
        background: uint8 [s, s, 3].

    Returns:
        uint8 [s, s, 3].
    """
    out = np.empty_like(background)
    if torso is None:
        torso = np.zeros((1, 1, 4), np.uint8)
    _fuse(head.rgb, head.alpha, torso, background, out)
    return out


class PasteBack:
    """Puts animated crops into the full photograph without a seam.

    The crop's rim is left as photographed: a feathered border as wide as the motion needs, and nothing where nothing moved.
    """

    def __init__(self, portrait: PreparedPortrait, feather: float = 0.06) -> None:
        left, top, side = portrait.crop_box
        height, width = portrait.photo.shape[:2]
        size = portrait.image.shape[0]
        self._photo = portrait.photo
        self._x0, self._y0 = max(int(np.floor(left)), 0), max(int(np.floor(top)), 0)
        self._x1, self._y1 = min(int(np.ceil(left + side)), width), min(int(np.ceil(top + side)), height)
        scale = size / side
        x = (np.arange(self._x0, self._x1, dtype=np.float32) + 0.5 - left) * scale - 0.5
        y = (np.arange(self._y0, self._y1, dtype=np.float32) + 0.5 - top) * scale - 0.5
        self._map_x, self._map_y = np.meshgrid(x, y)
        self._scale = scale
        ramp = feather * size

        def rise(distance: Array) -> Array:
            return smooth_step(np.clip(distance / ramp, 0.0, 1.0))

        # A crop border on the photo's own border needs no feather: there is nothing beyond to fit to.
        fx = np.minimum(rise(x + 1) if self._x0 > 0 else 1.0, rise(size - x) if self._x1 < width else 1.0) * np.ones_like(x)
        fy = np.minimum(rise(y + 1) if self._y0 > 0 else 1.0, rise(size - y) if self._y1 < height else 1.0) * np.ones_like(y)
        self._weight = (fy[:, None] * fx[None, :])[..., None].astype(np.float32)
        self._still = self._photo[self._y0 : self._y1, self._x0 : self._x1].astype(np.float32)

    def __call__(self, crop: Array) -> Array:
        """An animated crop uint8 [s, s, 3] -> the full photograph uint8 [H, W, 3]."""
        import cv2

        filter_ = cv2.INTER_LINEAR if self._scale >= 1 else cv2.INTER_CUBIC
        patch = cv2.remap(crop, self._map_x, self._map_y, filter_, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
        out = self._photo.copy()
        blended = self._weight * patch + (1 - self._weight) * self._still
        out[self._y0 : self._y1, self._x0 : self._x1] = np.clip(blended + 0.5, 0, 255).astype(np.uint8)
        return out
