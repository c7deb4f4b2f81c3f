"""How far each pixel of a photo moves with the head: on the neck's skin what the head model's own skinning says."""

from __future__ import annotations

import numpy as np

from triportrait.avatar.lifted.neck import certain_parts
from triportrait.avatar.lifted.surface import Surface
from triportrait.geometry.fields import harmonic_fill
from triportrait.types import Array, FullHead, PreparedPortrait

#: Side of the cells in which the share is continued beside the model's skin, pixels of a 512 px crop.
_CELL_PX = 4
_REGULARISATION = 1e-9


def skinning(portrait: PreparedPortrait, head: FullHead, surface: Surface) -> Array:
    """1 on the head, 0 on the torso, between them the model's own weights where its skin lies, and a membrane beside it: float32 [s, s]."""
    import cv2

    size = len(portrait.image)
    covered = surface.fragments.triangle >= 0
    corners = surface.skin[np.maximum(surface.fragments.triangle, 0)]
    own = 1.0 - (head.neck[corners] * surface.fragments.barycentric).sum(-1)
    cells = max(2, round(size / (_CELL_PX * size / 512)))
    line = (np.arange(cells) + 0.5) * size / cells
    x, y = np.meshgrid(line, line)
    column, row = x.astype(int), y.astype(int)
    above, below = certain_parts(x, y, portrait.landmarks)
    on_skin = covered[row, column] & ~above & ~below
    values = np.where(above, 1.0, np.where(below, 0.0, own[row, column]))
    share = harmonic_fill(values, above | below | on_skin, _REGULARISATION)
    share = cv2.resize(share.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(cv2.GaussianBlur(share, (0, 0), _CELL_PX * size / 512), 0.0, 1.0)
