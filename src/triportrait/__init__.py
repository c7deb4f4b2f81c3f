"""TriPortrait: one photo plus a voice or a driving video becomes a talking 3D portrait video.

Importing the package costs nothing: each public name is looked up in its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: Public name -> module that defines it. Add a name here to make it part of the API.
_EXPORTS: dict[str, str] = {
    "Motion": "triportrait.types",
    "MotionFrame": "triportrait.types",
    "Waveform": "triportrait.types",
    "TriPortraitError": "triportrait.errors",
    "Portrait": "triportrait.pipeline",
    "Performance": "triportrait.pipeline",
    "DriveOptions": "triportrait.pipeline",
    "LiveOptions": "triportrait.live.session",
    "LiveSession": "triportrait.live.session",
    "prepare": "triportrait.pipeline",
}

__all__ = ["__version__", *_EXPORTS]  # noqa: F822 (looked up lazily)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
