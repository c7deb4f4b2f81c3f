"""How low and how high blendshape curves go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from triportrait.types import Array

#: The raises of a brow, which sinks below its rest about half as far as it rises above it. ARKit has no curve for that at its outer end.
BROW_RAISES = ("browInnerUp", "browOuterUpLeft", "browOuterUpRight")
LOWEST_BROW = -0.5


def lowest_curves(names: Sequence[str]) -> Array:
    """How low the ARKit curves ``names`` go: float32 [e], 0 but for the raises of brows; all go up to 1."""
    return np.array([LOWEST_BROW if name in BROW_RAISES else 0.0 for name in names], np.float32)
