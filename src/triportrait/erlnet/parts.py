"""The two streams that are learned apart: expression and head pose, as rows of numbers and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.errors import MotionFileError
from triportrait.motion.timing import resample
from triportrait.types import ARKIT_EXPRESSIONS, FPS, Array, Motion


@dataclass(frozen=True, slots=True)
class Part:
    """A stream of motion.

    Args:
        name: of its file and networks.
        columns: of :func:`motion_rows`.
    """

    name: str
    columns: slice

    @property
    def size(self) -> int:
        """Numbers in a row."""
        return int(self.columns.stop - self.columns.start)


_CURVES = len(ARKIT_EXPRESSIONS)
#: Numbers in a row of :func:`motion_rows`: curves, gaze, rotation, translation.
ROW = _CURVES + 8
EXPRESSION = Part("expression", slice(0, _CURVES + 2))
POSE = Part("pose", slice(_CURVES + 2, ROW))
PARTS = (EXPRESSION, POSE)


def motion_rows(motion: Motion) -> Array:
    """Curves, gaze (radians), rotation (radians) and translation (decimetres) of a motion at 25 per second: float32 [t, 52].

    Gaze and pose count from the clip's own middle, so that a person who sits aside of the camera does not have another manner.

    Raises:
        MotionFileError: a head model without ARKit curves.
    """
    if motion.expression_names != ARKIT_EXPRESSIONS:
        raise MotionFileError(f"motion of head model {motion.head_model!r} has no ARKit curves; no manner can be learned from it")
    motion = resample(motion, FPS)
    aside = [values - np.median(values, axis=0) for values in (motion.gaze_rad, motion.rotation_rad, motion.translation)]
    return np.concatenate([motion.expression, *aside], axis=1).astype(np.float32)


def motion_of_rows(expression: Array, pose: Array) -> Motion:
    """The motion of rows of both parts, [t, 46] and [t, 6]."""
    return Motion(np.clip(expression[:, :_CURVES], 0.0, 1.0), pose[:, :3], pose[:, 3:], expression[:, _CURVES:])
