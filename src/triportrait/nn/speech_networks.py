"""Speech networks of ``transformers`` from a local folder, and their rows piece by piece; nothing is ever downloaded."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from triportrait.errors import MissingPart, WeightsError
from triportrait.types import Array

RATE_HZ = 16_000
#: Samples per row, and samples that the first row looks at.
HOP, FIELD = 320, 400
#: Rows that see each other, as in training: longer sounds are cut every 20 s.
CHUNK_ROWS = 1000


@dataclass(frozen=True, slots=True)
class SpeechNetwork:
    """One of the networks.

    Args:
        name: for messages.
        class_name: of ``transformers``.
        get_it: what to do when it is not there; completes a sentence.
    """

    name: str
    class_name: str
    get_it: str

    @property
    def install(self) -> str:
        """What to do when ``transformers`` is missing."""
        return f"{self.name} needs the package 'transformers'; run: pip install 'triportrait[paper]'"

    def check(self, folder: str | Path) -> None:
        """Whether :meth:`load` has what it needs, without reading it.

        Raises:
            MissingPart: the package ``transformers`` or the folder is missing.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
            raise MissingPart(f"There is no {self.name} in '{folder}' (config.json and model.safetensors); {self.get_it}.")
        if "transformers" not in sys.modules and importlib.util.find_spec("transformers") is None:
            raise MissingPart(self.install)

    def load(self, folder: str | Path) -> nn.Module:
        """The network of a folder with ``config.json`` and ``model.safetensors``, frozen.

        Raises:
            MissingPart: the package ``transformers`` or the folder is missing.
            WeightsError: the folder holds something else, or is damaged.
        """
        folder = Path(folder)
        self.check(folder)
        try:
            import transformers
            from transformers.utils import logging as transformers_logging
        except ImportError as error:
            raise MissingPart(self.install) from error
        before, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        try:
            # With loading info it is a pair, which its types do not say.
            loaded: Any = getattr(transformers, self.class_name).from_pretrained(
                folder, local_files_only=True, use_safetensors=True, attn_implementation="sdpa", output_loading_info=True
            )
            model, info = loaded
        except Exception as error:  # whatever a damaged folder makes the reader stumble over
            raise WeightsError(f"'{folder}' cannot be read as {self.name} ({type(error).__name__}); {self.get_it}.") from error
        finally:
            transformers_logging.set_verbosity(before)
            if bars:
                transformers_logging.enable_progress_bar()
        if info["missing_keys"]:
            raise WeightsError(f"'{folder}' is not complete: {sorted(info['missing_keys'])[0]} is missing; {self.get_it}.")
        network: nn.Module = model.eval().requires_grad_(False)
        return network


@dataclass(frozen=True, slots=True)
class Level:
    """Mean and standard deviation of a whole recording; the networks were trained on sound of mean 0 and deviation 1."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, blocks: Iterable[Array]) -> Level:
        """Of all samples in ``blocks`` of [n]; memory does not grow with their number."""
        count, total, squares = 0, 0.0, 0.0
        for block in blocks:
            samples = np.asarray(block, np.float64)
            count, total, squares = count + len(samples), total + samples.sum(), squares + (samples**2).sum()
        mean = total / max(count, 1)
        return cls(mean, float(np.sqrt(max(squares / max(count, 1) - mean**2, 0.0) + 1e-7)))


class NetworkFeatures:
    """Implements :class:`triportrait.motion.speech_features.SpeechFeatures` with a network.

    Args:
        model: of :meth:`SpeechNetwork.load`.
        output: which of its outputs gives the rows.
        size: numbers of a row.
        level: of the whole recording; None normalises every 20 s by themselves.
    """

    rate_hz = RATE_HZ / HOP

    def __init__(self, name: str, model: nn.Module, output: str, size: int, level: Level | None = None) -> None:
        self.name, self.size = name, size
        self._model, self._output, self._level = model, output, level
        self._pending = np.zeros(0, np.float32)

    def push(self, samples: Array) -> Array:
        """Take the next samples [n] at 16 kHz; give the rows [k, size] that are now complete, 1000 at a time."""
        self._pending = np.concatenate([self._pending, np.asarray(samples, np.float32)])
        step, needed = CHUNK_ROWS * HOP, CHUNK_ROWS * HOP + FIELD - HOP
        parts = [np.zeros((0, self.size), np.float32)]
        while len(self._pending) >= needed:
            parts.append(self._rows(self._pending[:needed]))
            self._pending = self._pending[step:]
        return np.concatenate(parts)

    def finish(self) -> Array:
        """The rows that remain, ``(n - 80) // 320`` in all; the extractor is then as new."""
        rest, self._pending = self._pending, self._pending[:0].copy()
        return self._rows(rest) if len(rest) >= FIELD else np.zeros((0, self.size), np.float32)

    @torch.inference_mode()
    def _rows(self, samples: Array) -> Array:
        level = self._level or Level.of([samples])
        device = next(self._model.parameters()).device
        sound = torch.from_numpy(((samples - level.mean) / level.deviation).astype(np.float32)).to(device)
        rows: torch.Tensor = getattr(self._model(sound[None]), self._output)[0]
        return rows.float().cpu().numpy()
