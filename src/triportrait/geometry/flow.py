"""Dense optical flow between two pictures, and where it can be believed."""

from __future__ import annotations

from typing import Any

import numpy as np

from triportrait.types import Array


def flow_between(start: Array, end: Array) -> Array:
    """Dense inverse search flow (Kroeger et al., ECCV 2016) from one grey picture uint8 [h, w] to another: float32 [h, w, 2] pixels."""
    import cv2

    # One instance a call: threads may not share it.
    unknown: Any = None
    return np.asarray(cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(start, end, unknown))


def round_trip(forth: Array, back: Array) -> Array:
    """How far flow forth and back [h, w, 2] ends from where it began: float32 [h, w] pixels."""
    import cv2

    y, x = np.mgrid[: forth.shape[0], : forth.shape[1]].astype(np.float32)
    returned = forth + cv2.remap(back, x + forth[..., 0], y + forth[..., 1], cv2.INTER_LINEAR)
    return np.asarray(np.linalg.norm(returned, axis=-1))
