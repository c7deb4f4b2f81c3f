"""HuBERT's last hidden layer as speech features, from a local folder; nothing is ever downloaded (spec 2.8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from triportrait.nn.speech_networks import Level, NetworkFeatures, SpeechNetwork

__all__ = ["HubertFeatures", "Level", "check_hubert", "load_hubert"]

_HUBERT = SpeechNetwork("HuBERT", "HubertModel", "run 'triportrait weights fetch hubert', then 'triportrait weights import' on its folder")


class HubertFeatures(NetworkFeatures):
    """The last hidden layer.

    Args:
        model: transformers' ``HubertModel``, see :func:`load_hubert`.
        level: of the whole recording; None normalises every 20 s by themselves.
    """

    def __init__(self, model: Any, level: Level | None = None) -> None:
        super().__init__("hubert", model, "last_hidden_state", int(model.config.hidden_size), level)


def check_hubert(folder: str | Path) -> None:
    """Whether :func:`load_hubert` has what it needs, without reading it.

    Raises:
        MissingPart: the package ``transformers`` or the folder is missing.
    """
    _HUBERT.check(folder)


def load_hubert(folder: str | Path) -> nn.Module:
    """HuBERT from a folder with ``config.json`` and ``model.safetensors``.

    Raises:
        MissingPart: the package ``transformers`` or the folder is missing.
        WeightsError: the folder holds something else, or is damaged.
    """
    return _HUBERT.load(folder)
