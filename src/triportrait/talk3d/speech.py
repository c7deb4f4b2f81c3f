"""Speech as Talk3D hears it: classes of sounds of a recogniser, in windows round each video frame (spec A.2, A.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from triportrait.nn.speech_networks import Level, NetworkFeatures, SpeechNetwork
from triportrait.types import Array

_WAV2VEC2 = SpeechNetwork(
    "wav2vec2", "Wav2Vec2ForCTC", "run 'triportrait weights fetch wav2vec2', then 'triportrait weights import' on its folder"
)
#: Rows of an entry, rows between entries (50 to 25 per second), rows of silence before the sound.
ENTRY_ROWS, STRIDE, PADDING = 16, 2, 8
#: Entries of a window that lie before its frame's own.
_BEFORE = 4


class SoundClasses(NetworkFeatures):
    """The logits of a network for recognising speech (CTC), 50 rows per second.

    Args:
        model: transformers' ``Wav2Vec2ForCTC``, see :func:`load_recogniser`.
        level: of the whole recording; None normalises every 20 s by themselves.
    """

    def __init__(self, model: Any, level: Level | None = None) -> None:
        super().__init__("wav2vec2", model, "logits", int(model.config.vocab_size), level)


def check_recogniser(folder: str | Path) -> None:
    """Whether :func:`load_recogniser` has what it needs, without reading it.

    Raises:
        MissingPart: the package ``transformers`` or the folder is missing.
    """
    _WAV2VEC2.check(folder)


def load_recogniser(folder: str | Path) -> nn.Module:
    """wav2vec2 with its classes from a folder with ``config.json`` and ``model.safetensors``.

    Raises:
        MissingPart: the package ``transformers`` or the folder is missing.
        WeightsError: the folder holds something else, or is damaged.
    """
    return _WAV2VEC2.load(folder)


class SpeechWindows:
    """Feature rows at 50 per second to the window of each frame at 25 per second.

    Entry m holds rows 2 m - 8 .. 2 m + 7, with zeros before and after the sound; the window of frame i holds entries i - 4 .. i + 3, with
    zeros for those that do not exist. Memory does not grow with the sound.

    Args:
        features: numbers of a row.
        window: entries of a window.
    """

    def __init__(self, features: int, window: int = 8) -> None:
        self._features, self._window = features, window
        #: Rows that came in, and frames that were given.
        self._rows, self._frames = 0, 0
        self._reach = STRIDE * _BEFORE + PADDING
        self._held = np.zeros((self._reach, features), np.float32)  # begins with the first row of the next frame's window

    def push(self, rows: Array) -> Array:
        """Take rows [k, f]; give the windows [n, w, f, 16] that are now complete."""
        self._held = np.concatenate([self._held, np.asarray(rows, np.float32)])
        self._rows += len(rows)
        last = STRIDE * (self._window - 1 - _BEFORE) + PADDING  # rows from a frame's own on
        return self._given((self._rows - last) // STRIDE + 1)

    def finish(self, frames: int) -> Array:
        """The windows that are missing to ``frames`` of the whole sound."""
        missing = STRIDE * (frames - self._frames + self._window) + ENTRY_ROWS - len(self._held)
        self._held = np.concatenate([self._held, np.zeros((max(missing, 0), self._features), np.float32)])
        return self._given(frames)

    def _given(self, until: int) -> Array:
        frames = np.arange(self._frames, max(until, self._frames))
        entries = frames[:, None] + np.arange(self._window) - _BEFORE
        first = STRIDE * (np.arange(len(frames))[:, None] + np.arange(self._window))
        windows = self._held[first[..., None] + np.arange(ENTRY_ROWS)]  # [n, w, 16, f]
        windows[(entries < 0) | (entries > self._rows // STRIDE)] = 0.0
        self._held = self._held[STRIDE * len(frames) :]
        self._frames += len(frames)
        return windows.transpose(0, 1, 3, 2)
