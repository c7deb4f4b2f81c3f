"""Square crops of photographs, exact to a fraction of a pixel."""

from __future__ import annotations

import numpy as np

from triportrait.types import Array


def cut(photo: Array, box: tuple[float, float, float], size: int) -> Array:
    """The square ``box`` (left, top, side in pixels) of a photo, resampled to [size, size, 3]; beyond the photo its border repeats.

    Shrinking averages areas. Output pixel centres (u + 0.5) show the box at (u + 0.5) side / size, exactly.
    """
    import cv2

    left, top, side = box
    scale = size / side
    if scale >= 1.0:
        return _resample(photo, (left, top), (1 / scale, 1 / scale), size, cv2.INTER_CUBIC)
    # Area averaging gives whole pixels: the neighbourhood is shrunk to about its size first, the rest is interpolation.
    height, width = photo.shape[:2]
    x0, x1 = (int(np.clip(edge, 0, width)) for edge in (np.floor(left) - 2, np.ceil(left + side) + 2))
    y0, y1 = (int(np.clip(edge, 0, height)) for edge in (np.floor(top) - 2, np.ceil(top + side) + 2))
    small_size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    small = cv2.resize(photo[y0:y1, x0:x1], small_size, interpolation=cv2.INTER_AREA)
    x_scale, y_scale = small_size[0] / (x1 - x0), small_size[1] / (y1 - y0)
    corner = (left - x0) * x_scale, (top - y0) * y_scale
    return _resample(small, corner, (x_scale / scale, y_scale / scale), size, cv2.INTER_CUBIC)


def resized(picture: Array, side_px: int) -> Array:
    """[s, s, channels] at another side, averaged when it becomes smaller; itself when it has that side."""
    import cv2

    if len(picture) == side_px:
        return picture
    return cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA if len(picture) > side_px else cv2.INTER_LINEAR)


def _resample(picture: Array, corner: tuple[float, float], step: tuple[float, float], size: int, interpolation: int) -> Array:
    """[size, size, 3] of a picture from ``corner`` (x, y) on, ``step`` of its pixels apart."""
    import cv2

    # OpenCV counts pixel centres from 0, not from 0.5.
    (x, y), (x_step, y_step) = corner, step
    matrix = np.array([[x_step, 0, x + 0.5 * x_step - 0.5], [0, y_step, y + 0.5 * y_step - 0.5]])
    return cv2.warpAffine(picture, matrix, (size, size), flags=interpolation | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE)
