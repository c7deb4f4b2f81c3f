"""How far the mouth of an unknown speaker goes: gains on the network's curves, fitted on speakers that it never learned from.

The network's answer to what it is unsure of is an average, which moves less than any of the mouths it stands for: where it explains a share
r^2 of the variance, its answer has no more than that share. What is lost differs from curve to curve. Rounding and spreading depend on the
speaker more than opening does, and lose more. So each group of curves has a gain of its own, with which its spread on held-out speech is
the real one (``scripts/fit_amplitude.py`` prints the figures; :data:`GAINS` are those of the network that ships).

What the voice does not tell of rounding and spreading is left to chance: noise with the spread and the speed of what the gains leave over
(:data:`UNSAID`, :data:`UNSAID_HZ`). It parts no lips, and ``--temperature 0`` takes it away.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from triportrait.types import Array

#: Curves by what they do to the lips; all others, such as presses and rolls, stay as the network has them.
GROUPS: dict[str, tuple[str, ...]] = {
    "opening": ("jawOpen", "mouthLowerDown", "mouthUpperUp", "mouthClose"),
    "rounding": ("mouthPucker", "mouthFunnel", "jawForward"),
    "spreading": ("mouthStretch", "mouthSmile", "mouthDimple"),
}
#: Spread on held-out speech over the network's there, with pauses shut as the driver shuts them.
GAINS: dict[str, float] = {"opening": 1.61, "rounding": 1.83, "spreading": 1.37}
#: Standard deviation of what the network does not explain of the real curves: that of two captured clips and GRID's held-out sentences,
#: whose speakers read, .050, .057 and .074, and half as much again for people who talk (the mouth's width varied 1.6 times as far in nine
#: videos as here); and the cutoff of a critically damped filter whose noise has its correlation over time (.88 after 40 ms, .5 after 120,
#: .3 after 200). Curves end at zero, which takes a quarter of the noise's spread.
UNSAID: dict[str, float] = {"mouthSmile": 0.075 / 0.77, "mouthStretch": 0.085 / 0.77, "mouthPucker": 0.11 / 0.77}
UNSAID_HZ = 2.2


def in_group(names: Sequence[str], group: str) -> list[int]:
    """Places of the curves of ``names`` that belong to a group."""
    return [place for place, name in enumerate(names) if name.startswith(GROUPS[group])]


def with_unsaid(expression: Array, names: Sequence[str], noise: Array) -> Array:
    """Rows [t, e] with what the voice does not tell of rounding and spreading: ``noise`` [t, 3] of unit deviation, one a key of UNSAID."""
    result = np.array(expression, np.float32)
    for (stem, spread), column in zip(UNSAID.items(), noise.T, strict=True):
        for place, name in enumerate(names):
            if name.startswith(stem):
                result[:, place] += spread * column
    return np.clip(result, 0.0, 1.0)
