"""A head under one frame's expression and gaze, computed once for all that draw it."""

from __future__ import annotations

from dataclasses import dataclass

from triportrait.avatar.lifted.warping import LoosePoints
from triportrait.types import Array, FullHead, MotionFrame


@dataclass(frozen=True, slots=True)
class MovedHead:
    """Before its pose: decimetres in head space.

    Args:
        vertices: float32 [v, 3].
        landmarks: float32 [478, 3].
    """

    vertices: Array
    landmarks: Array

    @staticmethod
    def of(head: FullHead, shape: Array, frame: MotionFrame) -> MovedHead:
        """The expressionless head ``shape`` [v, 3] as ``frame`` has it."""
        vertices = head.deform(shape, frame.expression, frame.gaze_rad)
        return MovedHead(vertices, head.landmarks478(vertices))

    def warped(self, head: FullHead, points: LoosePoints, frame: MotionFrame) -> MovedHead:
        """The same with the warp of ``frame``, if it has one; ``points`` are the vertices as what a warp moves."""
        shift = points.shift(frame)
        if shift is None:
            return self
        vertices = self.vertices + shift
        return MovedHead(vertices, head.landmarks478(vertices))
