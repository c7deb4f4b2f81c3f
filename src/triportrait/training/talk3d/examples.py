"""Frames of one person as Talk3D's stages see them: picture, camera, what drives, and the sound around (spec A.2, A.5)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triportrait.errors import MediaError
from triportrait.geometry.cameras import camera_from_pose
from triportrait.motion.speech_features import EnvelopeLogMel, LogMel
from triportrait.nn.speech_networks import Level
from triportrait.talk3d.model import lids_of
from triportrait.talk3d.speech import SoundClasses, SpeechWindows, load_recogniser
from triportrait.training.data.clips import ClipSet
from triportrait.training.real3d.examples import Row, as_picture, lip_box
from triportrait.types import Array

#: Of MediaPipe's landmarks: nose tip, outer corner of the left and of the right eye.
POINTS_OF_478 = (1, 263, 33)
#: Feature rows of a frame: 100 per second. The first columns drive, the last ones are heard by the synchrony expert.
ROWS_PER_FRAME, HEARD = 4, EnvelopeLogMel.size


def personal_speech(recogniser: Path | None) -> Callable[[Array], tuple[Array, float]]:
    """A function from a clip's samples at 16 kHz to rows [n, f + 42] at 100 per second: what drives, and what the expert hears.

    Args:
        recogniser: folder of wav2vec2, whose classes then drive; None takes our own log-mel features.
    """
    network = None if recogniser is None else load_recogniser(recogniser)

    def rows_of(samples: Array) -> tuple[Array, float]:
        heard = _all_rows(EnvelopeLogMel(), samples)
        if network is None:
            driving = _all_rows(LogMel(), samples)
        else:
            driving = np.repeat(_all_rows(SoundClasses(network, Level.of([samples])), samples), 2, axis=0)
        count = min(len(heard), len(driving))
        return np.concatenate([driving[:count], heard[:count]], 1), EnvelopeLogMel.rate_hz

    return rows_of


def _all_rows(extractor: Any, samples: Array) -> Array:
    return np.concatenate([extractor.push(samples), extractor.finish()])


@dataclass(frozen=True, slots=True)
class _Numbers:
    """All of a clip that is no picture, a row per frame; ``heard`` [4 t, 42] and ``windows`` [t, w, f, 16] only with sound."""

    cameras: Array
    lids: Array
    rotation_deg: Array
    points: Array
    expression: Array
    lips: Array
    heard: Array
    windows: Array


class PersonalFrames:
    """Frames of the clips of one person, counted through all of them. Numbers are held, pictures are read when they are asked for.

    Args:
        clips: as :mod:`triportrait.training.talk3d.personalize` makes them.
        window: entries of a speech window.

    Raises:
        MediaError: a clip has no sound, or sound of another kind.
    """

    def __init__(self, clips: ClipSet, window: int = 8) -> None:
        self._clips = clips
        self._numbers = [_numbers_of(clips.numbers(index), clips.read(index, [0]).size_px, window) for index in range(len(clips))]
        widths = {numbers.windows.shape[2] for numbers in self._numbers}
        if len(widths) > 1:
            raise MediaError(f"the clips have speech of different kinds ({sorted(widths)} numbers a row); make them all in one way")
        self._places = [(clip, row) for clip, numbers in enumerate(self._numbers) for row in range(len(numbers.lids))]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def speech_features(self) -> int:
        """Numbers of a speech row that drives."""
        return int(self._numbers[0].windows.shape[2])

    def tracks(self) -> dict[str, dict[str, torch.Tensor]]:
        """Cameras, turns and points of the first clip, by the layout of a weight file. Another clip has another crop."""
        first = self._numbers[0]
        return {
            "talk3d_cameras": {"labels": torch.from_numpy(first.cameras)},
            "talk3d_rotation": {"rotation_deg": torch.from_numpy(first.rotation_deg)},
            "talk3d_landmarks": {"landmarks": torch.from_numpy(first.points)},
        }

    def spread(self, count: int) -> list[int]:
        """Evenly spread frames."""
        return np.unique(np.linspace(0, len(self) - 1, count).round().astype(int)).tolist()

    def row(self, index: int, size_px: int, reach: int = 0) -> Row:
        """One frame.

        Args:
            index: of the frame.
            size_px: side of the picture.
            reach: frames before and after it whose curves and sound are given, too, where the clip has so many.

        Returns:
            ``picture`` [3, s, s] in -1..1, ``matte`` [1, s, s] of the head, ``camera`` [25], ``speech`` [w, f, 16], ``lids``,
            ``rotation_deg`` [3], ``points`` [3, 2], ``lips`` [3] of ``lip_box``, and ``curves`` [n, e], ``heard`` [4 n, 42] and ``place``,
            the frame's own row in them; n is 2 reach + 1.
        """
        clip, at = self._places[index]
        numbers, read = self._numbers[clip], self._clips.read(clip, [at])
        row = {
            "picture": 2 * as_picture(read.frames[0], size_px) - 1,
            "matte": as_picture(read.head_alpha[0], size_px),
            "camera": torch.from_numpy(numbers.cameras[at]),
            "speech": torch.from_numpy(numbers.windows[at].astype(np.float32)),
            "lids": torch.tensor(float(numbers.lids[at])),
            "rotation_deg": torch.from_numpy(numbers.rotation_deg[at]),
            "points": torch.from_numpy(numbers.points[at]),
            "lips": torch.from_numpy(numbers.lips[at]),
        }
        if reach:
            first = min(max(at - reach, 0), max(len(numbers.lids) - 2 * reach - 1, 0))
            frames = slice(first, first + 2 * reach + 1)
            row |= {
                "curves": torch.from_numpy(numbers.expression[frames]),
                "heard": torch.from_numpy(numbers.heard[ROWS_PER_FRAME * frames.start : ROWS_PER_FRAME * frames.stop]),
                "place": torch.tensor(at - first),
            }
        return row

    def longest_reach(self, wanted: int) -> int:
        """``wanted``, or 0 where a clip is too short for it."""
        return wanted if min(len(numbers.lids) for numbers in self._numbers) > 2 * wanted else 0


def _numbers_of(numbers: dict[str, Any], size_px: int, window: int) -> _Numbers:
    count = len(numbers["expression"])
    speech = numbers.get("speech")
    if speech is None or speech.shape[0] != ROWS_PER_FRAME * count or speech.shape[1] <= HEARD:
        raise MediaError(f"clip {numbers['key']!r} has no speech as Talk3D's stage hears it; make clips with 'triportrait personalize'")
    driving, heard = speech[:, :-HEARD], speech[:, -HEARD:]
    halved = driving[::2].astype(np.float32)
    windows = SpeechWindows(halved.shape[1], window)
    cameras = [camera_from_pose(turn, move).to_eg3d() for turn, move in zip(numbers["rotation_rad"], numbers["translation"], strict=True)]
    return _Numbers(
        cameras=np.stack(cameras),
        lids=lids_of(numbers["expression"]),
        rotation_deg=np.degrees(numbers["rotation_rad"]).astype(np.float32),
        points=(2.0 * numbers["landmarks"][:, list(POINTS_OF_478)] / size_px - 1.0).astype(np.float32),
        expression=numbers["expression"].astype(np.float32),
        lips=np.stack([lip_box(points, size_px).numpy() for points in numbers["landmarks"]]),
        heard=heard.astype(np.float32),
        windows=np.concatenate([windows.push(halved), windows.finish(count)])[:count].astype(np.float16),
    )


def stacked(frames: PersonalFrames, indices: Sequence[int], size_px: int, reach: int = 0) -> Row:
    """Rows under each other."""
    rows = [frames.row(index, size_px, reach) for index in indices]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
