"""The voice network where videos are made: sound blocks in, mouth rows out, step by step.

What the network's convolutions need of earlier rows is kept from step to step, so that a step costs what it adds, however short it is.
Its architecture stands in :mod:`triportrait.motion.audio_network`, which needs torch.
"""

from __future__ import annotations

from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.motion.speech_features import EXTRACTORS
from triportrait.nn.model_files import Embedded
from triportrait.nn.runtime import Graph, load_graph, shipped_graph
from triportrait.types import Array

#: Feature rows per motion row.
STRIDE = 4
#: Of :mod:`triportrait.nn.model_files`.
KIND = "audio_to_motion.1"
EMBEDDED = Embedded("triportrait.motion", "audio_to_motion.onnx")
#: What goes into a step and comes out, see ``audio_network.MouthStep``.
INPUTS, OUTPUTS = ("features", "index", "end", "state"), ("curves", "opening", "contact", "next_state")
#: 30 s at a time bound the memory.
_MOST_ROWS = 750
#: More feature rows than a voice ever has.
_UNKNOWN = 1 << 60


def load_voice(path: Path | None = None) -> Graph:
    """The embedded voice network, or one from a file of 'triportrait train voice --export'.

    Raises:
        WeightsError: the file is missing, foreign or damaged.
    """
    return shipped_graph(EMBEDDED, KIND) if path is None else load_graph(path, KIND)


class MouthStream:
    """Sound blocks in, mouth rows out.

    Args:
        graph: from :func:`load_voice`.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        config = graph.config
        self._extractor = EXTRACTORS[config["extractor"]]()
        self._curves, self._late = len(config["curves"]), int(config["rows_late"])
        size = graph.shapes["state"][0]
        assert size is not None
        self._start_state = np.zeros(size, np.float32)
        self._begin()

    def _begin(self) -> None:
        # A step takes feature rows from 4 i - 1 on: there is nothing at -1.
        self._pending = np.zeros((1, self._graph.config["features"]), np.float32)
        self._state = self._start_state
        self._heard = self._stepped = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> MouthStream:
        """The network is shared, what is known of the sound is not."""
        twin = copy(self)
        twin._extractor = deepcopy(self._extractor, memo)
        return twin

    def push(self, samples: Array) -> tuple[Array, Array, Array]:
        """Next samples [n] at 16 kHz -> curves [k, c], opening [k] in face heights, contact probability [k] that are now final."""
        self._take(self._extractor.push(samples))
        return self._run(_UNKNOWN)

    def finish(self) -> tuple[Array, Array, Array]:
        """The rows that remain; the stream is then as new."""
        self._take(self._extractor.finish())
        total = -(-self._heard // STRIDE)
        missing = (total + self._late - self._stepped) * STRIDE - len(self._pending)
        self._pending = np.pad(self._pending, ((0, max(0, missing)), (0, 0)))
        rows = self._run(self._heard) if self._heard else self._nothing()
        done = max(0, self._stepped - self._late)
        self._begin()
        # A step may answer past the end.
        return tuple(part[: len(part) - (done - total)] for part in rows) if done > total else rows  # type: ignore[return-value]

    def _take(self, features: Array) -> None:
        self._heard += len(features)
        self._pending = np.concatenate([self._pending, features])

    def _nothing(self) -> tuple[Array, Array, Array]:
        return np.zeros((0, self._curves), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32)

    def _run(self, end: int) -> tuple[Array, Array, Array]:
        """Step over all pending rows that are whole."""
        parts = [self._nothing()]
        while count := min(len(self._pending) // STRIDE, _MOST_ROWS):
            index = np.arange(self._stepped, self._stepped + count)
            *rows, self._state = self._graph(self._pending[: count * STRIDE], index, np.array([end]), self._state)
            begun = max(0, self._late - self._stepped)
            parts.append((rows[0][begun:], rows[1][begun:], rows[2][begun:]))
            self._pending = self._pending[count * STRIDE :]
            self._stepped += count
        curves, opening, contact = zip(*parts, strict=True)
        return np.concatenate(curves), np.concatenate(opening), np.concatenate(contact)
