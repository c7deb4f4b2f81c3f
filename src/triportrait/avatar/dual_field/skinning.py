"""How far each pixel of a photo moves with the head: the head model's own skinning, and a membrane from the jaw to the collar."""

from __future__ import annotations

import numpy as np

from triportrait.avatar.lifted.neck import certain_parts
from triportrait.avatar.lifted.surface import Surface
from triportrait.geometry.body import body_pivot
from triportrait.geometry.fields import harmonic_fill
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.types import Array, FullHead, PreparedPortrait

#: Side of the cells in which the share is computed, pixels of a 512 px crop.
_CELL_PX = 4
#: Skin with less of the neck is head.
_HEAD_NECK = 0.02
#: Keeps islands without any known value solvable.
_REGULARISATION = 1e-9


def skinning(portrait: PreparedPortrait, head: FullHead, surface: Surface) -> Array:
    """1 on the head, 0 below the pit of the neck, and between them the mean of two laws: float32 [s, s].

    The model's skinning lets the neck turn close under the jaw, as its bones do; beside its skin a membrane continues it. A membrane alone,
    from the jaw to the pit of the neck, bends it evenly, as skin stretches. Optical flow of real necks lies between the two (at the jaw
    about half of the head's motion), and nearer to their mean than to either.
    """
    import cv2

    size = len(portrait.image)
    covered = surface.fragments.triangle >= 0
    corners = surface.skin[np.maximum(surface.fragments.triangle, 0)]
    neck = (head.neck[corners] * surface.fragments.barycentric).sum(-1)
    cells = 512 // _CELL_PX
    # Half a picture more on each side: where shoulders lie beyond the crop, they still hold the neck.
    margin = cells // 2
    line = (np.arange(-margin, cells + margin) + 0.5) * size / cells
    x, y = np.meshgrid(line, line)
    column, row = (np.clip(values, 0, size - 1).astype(int) for values in (x, y))
    in_crop = (x > 0) & (x < size) & (y > 0) & (y < size)
    above, below = certain_parts(x, y, portrait.landmarks)
    below |= _below_pit(x, y, portrait.landmarks)
    skin, own = (covered[row, column] & in_crop & ~above & ~below), 1.0 - neck[row, column]
    is_head = above | (skin & (own > 1.0 - _HEAD_NECK))
    by_model = harmonic_fill(np.where(above, 1.0, np.where(below, 0.0, own)), above | below | skin, _REGULARISATION)
    by_membrane = harmonic_fill(is_head.astype(np.float64), is_head | below, _REGULARISATION)
    share = (0.5 * (by_model + by_membrane))[margin:-margin, margin:-margin].astype(np.float32)
    wide = cv2.resize(share, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(cv2.GaussianBlur(wide, (0, 0), _CELL_PX * size / 512), 0.0, 1.0)


def _below_pit(x: Array, y: Array, landmarks: Array) -> Array:
    """Which pixels lie below the pit of the neck: bool like x and y."""
    down = np.asarray(landmarks[CHIN, :2] - landmarks[FOREHEAD_TOP, :2], np.float64)
    pit = body_pivot(landmarks)
    return (x - pit[0]) * down[0] + (y - pit[1]) * down[1] > 0
