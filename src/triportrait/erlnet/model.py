"""The learned manner where videos are made: three ONNX files, a clip's style, and a stream of codes that becomes motion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triportrait.erlnet.parts import EXPRESSION, POSE, ROW, motion_rows
from triportrait.errors import MotionFileError, WeightsError
from triportrait.nn.runtime import Graph, load_graph
from triportrait.types import Array, Motion

STYLE = "style"
#: What a folder of 'triportrait train erlnet.manner --export' holds.
FILES = {EXPRESSION.name: "expression.onnx", POSE.name: "pose.onnx", STYLE: "style.onnx"}


def kind_of(name: str) -> str:
    """Kind of a file, as :mod:`triportrait.nn.model_files` has it."""
    return f"erlnet_{name}.1"


@dataclass(frozen=True, slots=True)
class ErlnetModel:
    """The networks.

    Args:
        parts: the step of each part, by name: codes and rows out of what is heard.
        encoder: a window of motion to its style.
    """

    parts: dict[str, Graph]
    encoder: Graph

    @property
    def style_size(self) -> int:
        """Numbers of a style."""
        return int(self.encoder.config["style"])

    def style(self, motion: Motion) -> Array:
        """The style of whoever a motion was measured on: float32 [s] of length 1, the mean of its half-overlapping windows.

        Raises:
            MotionFileError: shorter than one window (2.9 s), or a head model without ARKit curves.
        """
        rows, size = motion_rows(motion), int(self.encoder.config["rows"])
        if len(rows) < size:
            raise MotionFileError(f"{len(motion) / motion.fps:.1f} s are too short to learn a style from; give at least 4 s of talk")
        starts = [*range(0, len(rows) - size, size // 2), len(rows) - size]
        mean = np.mean([self.encoder(rows[start : start + size])[0] for start in starts], axis=0)
        return (mean / max(float(np.linalg.norm(mean)), 1e-6)).astype(np.float32)


def load_erlnet(folder: Path) -> ErlnetModel:
    """The networks of a folder that 'triportrait train erlnet.manner --export' filled.

    Raises:
        WeightsError: a file is missing, foreign or damaged, or the files do not belong together.
    """
    graphs = {name: load_graph(folder / file, kind_of(name)) for name, file in FILES.items()}
    encoder = graphs.pop(STYLE)
    if encoder.shapes["motion"][1] != ROW or any(graph.config["style"] != encoder.config["style"] for graph in graphs.values()):
        raise WeightsError(f"the files in '{folder}' belong to different runs; export one run again")
    return ErlnetModel(graphs, encoder)


class PartStream:
    """Rows of what is heard in, rows of one part of the motion out, token by token.

    Args:
        graph: of the part.
        style: float32 [s], or zeros for none.
        temperature: 0 takes the most likely codes; 1 draws them as the network thinks.
        random: draws the codes.
    """

    def __init__(self, graph: Graph, style: Array, temperature: float, random: np.random.Generator) -> None:
        self._graph, self._style, self._temperature, self._random = graph, style, temperature, random
        config = graph.config
        self.frames, self._late = int(config["frames"]), int(config["late"])
        self._context, self._ahead = int(config["context"]), int(config["ahead"])
        self._size = int(config["size"])
        self._noise_shape = int(config["groups"]), int(config["codes"])
        self._unknown = int(config["codes"])
        # Tokens that are heard, from ``context - 1`` before the next one on; ``there`` says which of them exist.
        self._heard = np.zeros(((self._context - 1) * self.frames, int(config["heard"])), np.float32)
        self._there = np.zeros(self._context - 1, np.float32)
        self._codes = np.full((self._context, self._noise_shape[0]), self._unknown, np.int64)
        self._pending = self._heard[:0]
        self._tokens = 0

    def push(self, rows: Array) -> Array:
        """The next rows heard [k, f] -> rows of motion that are now final [m, size]."""
        self._pending = np.concatenate([self._pending, rows])
        whole = len(self._pending) // self.frames
        self._take(self._pending[: whole * self.frames], np.ones(whole, np.float32))
        self._pending = self._pending[whole * self.frames :]
        return self._run(self._context + self._ahead)

    def finish(self) -> Array:
        """The rows that remain; a last token that is not whole is heard to its end as silence."""
        left = len(self._pending)
        parts = []
        if left:
            parts.append(self.push(np.repeat(self._pending[-1:], self.frames - left, axis=0)))
        coming = self._ahead + self._late
        self._take(np.zeros((coming * self.frames, self._heard.shape[1]), np.float32), np.zeros(coming, np.float32))
        parts.append(self._run(self._context + self._ahead))
        made = np.concatenate(parts)
        return made[: len(made) - (self.frames - left)] if left else made

    def _take(self, rows: Array, there: Array) -> None:
        self._heard, self._there = np.concatenate([self._heard, rows]), np.concatenate([self._there, there])

    def _run(self, needed: int) -> Array:
        made = [np.zeros((0, self._size), np.float32)]
        while len(self._there) >= needed:
            noise = np.zeros(self._noise_shape, np.float32)
            if self._temperature > 0:
                noise = (self._temperature * self._random.gumbel(size=self._noise_shape)).astype(np.float32)
            heard, there = self._heard[: needed * self.frames], self._there[:needed]
            code, rows = self._graph(self._codes, heard, there, self._style, noise)
            exists = there[self._context - 1] > 0
            self._codes = np.concatenate([self._codes[1:], code[None] if exists else np.full_like(code, self._unknown)[None]])
            if self._tokens >= self._late:
                made.append(rows)
            self._tokens += 1
            self._heard, self._there = self._heard[self.frames :], self._there[1:]
        return np.concatenate(made)


class Joined:
    """Rows of neighbouring tokens run into each other: a Hann window of one token to each side; a stream gives what the whole gives.

    Args:
        frames: rows of a token.
        size: numbers in a row.
    """

    def __init__(self, frames: int, size: int) -> None:
        self._reach = frames
        window = np.hanning(2 * frames + 3)[1:-1]
        self._weights = (window / window.sum()).astype(np.float32)
        self._rows = np.zeros((0, size), np.float32)
        self._begun = False

    def push(self, rows: Array) -> Array:
        """The next rows [k, size] -> those that are now final."""
        if not self._begun and len(rows):
            self._rows, self._begun = np.repeat(rows[:1], self._reach, axis=0), True
        self._rows = np.concatenate([self._rows, rows])
        count = max(0, len(self._rows) - 2 * self._reach)
        final = sum(weight * self._rows[i : i + count] for i, weight in enumerate(self._weights)) if count else self._rows[:0]
        self._rows = self._rows[count:]
        return np.asarray(final, np.float32)

    def finish(self) -> Array:
        """The rows that remain."""
        return self.push(np.repeat(self._rows[-1:], self._reach, axis=0)) if self._begun else self._rows
