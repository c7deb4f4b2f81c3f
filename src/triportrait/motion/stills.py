"""One pose that a person chose: curves, turn and gaze on a portrait."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from triportrait.errors import OptionError
from triportrait.geometry.rotations import euler_from_matrix, matrix_from_euler
from triportrait.motion.emotion import EMOTIONS, with_emotion, yielding
from triportrait.motion.retarget import within_reach
from triportrait.motion.voice_controls import EMOTION_STRENGTH, EmotionName, check_flag
from triportrait.types import ARKIT_EXPRESSIONS, FPS, Array, Motion, PathLike, PreparedPortrait


class StillDriver:
    """One row; see :class:`triportrait.types.Driver`.

    Args:
        curves: ARKit curve -> 0..1, in place of the photo's own; those that are not named stay as the photo has them.
        rotation_rad: pitch, yaw, roll by which the head is turned from the photo's pose, in its own frame.
        translation_dm: shift from the photo's place in decimetres.
        gaze_rad: pitch and yaw by which the eyes look elsewhere than in the photo.
        emotion, emotion_strength: laid over the curves; see :class:`triportrait.motion.voice_controls.VoiceControls`.

    Raises:
        OptionError: no such curve or emotion, a value out of range, or numbers that are none.
    """

    fps, frame_count = FPS, 1
    sound: None = None
    inputs: tuple[PathLike, ...] = ()

    def __init__(
        self,
        curves: Mapping[str, float] | None = None,
        *,
        rotation_rad: Sequence[float] = (0.0, 0.0, 0.0),
        translation_dm: Sequence[float] = (0.0, 0.0, 0.0),
        gaze_rad: Sequence[float] = (0.0, 0.0),
        emotion: EmotionName = "neutral",
        emotion_strength: float = EMOTION_STRENGTH,
    ) -> None:
        self.sources: dict[str, Path] = {}
        self._curves = dict(curves or {})
        for name, value in self._curves.items():
            if not (math.isfinite(value) and 0.0 <= value <= 1.0):
                raise OptionError(f"{name} is {value:g}; use a number from 0 to 1")
        self._turn, self._shift = _numbers("rotation_rad", rotation_rad, 3), _numbers("translation_dm", translation_dm, 3)
        self._gaze = _numbers("gaze_rad", gaze_rad, 2)
        if emotion not in ("neutral", *EMOTIONS):
            raise OptionError(f"emotion is {emotion!r}; use neutral, {', '.join(EMOTIONS)}")
        check_flag("emotion_strength", emotion_strength)
        self._emotions = np.array([[emotion_strength * (name == emotion) for name in EMOTIONS]], np.float32)

    def chunks(self, portrait: PreparedPortrait) -> list[Motion]:
        """The row, held within what a portrait can show."""
        own = portrait.motion
        names = ARKIT_EXPRESSIONS
        expression = yielding(np.array(own.expression, np.float32), self._emotions)
        for name, value in self._curves.items():
            if name not in names:
                raise OptionError(f"{name!r} is no curve of the head; use {', '.join(names)}")
            expression[0, names.index(name)] = value
        rotation = euler_from_matrix(matrix_from_euler(own.rotation_rad) @ matrix_from_euler(self._turn))
        motion = Motion(
            with_emotion(expression, self._emotions),
            rotation[None].astype(np.float32),
            (own.translation + self._shift)[None].astype(np.float32),
            (own.gaze_rad + self._gaze)[None].astype(np.float32),
        )
        return [within_reach(motion, own)[0]]


def _numbers(name: str, values: Sequence[float], count: int) -> Array:
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise OptionError(f"{name} is {list(values)}; give {count} finite numbers")
    return numbers
