"""Landmarks -> identity, expression, jaw and pose of FLAME, by the Basel face's solver.

FLAME's skin is linear in its 300 + 100 coefficients and turns with its jaw. Residuals are those of the turned skin; the steps follow its
derivatives at rest, which a jaw of 20 degrees changes little. MediaPipe's landmarks lie where the file of FLAME's authors says.
"""

from __future__ import annotations

import numpy as np

from triportrait.face.flame import FlameHead
from triportrait.real3d.bfm_fitting import BfmFitSettings, BfmFitter, FitState
from triportrait.types import Array


class FlameFitter(BfmFitter):
    """See :class:`BfmFitter`.

    Args:
        head: read with ``mediapipe``.
        side_px: side of the crop that the landmarks are given in.
        settings: weights; those of the Basel face serve, since both have coefficients of unit deviation.

    Raises:
        MissingPart: the head lacks the landmarks.
    """

    def __init__(self, head: FlameHead, side_px: float, settings: BfmFitSettings | None = None) -> None:
        super().__init__(head, side_px, settings)
        self._flame = head
        # Its authors place 105 landmarks, not 468: the coefficients' weights are relative to those that there are.
        self._terms = 2.0 * len(self._known)

    def _points(self, state: FitState) -> Array:
        return self._flame.landmark_points(state.identity, state.expression).astype(np.float64)
