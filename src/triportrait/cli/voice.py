"""Flags of a voice, as ``animate`` and ``motion`` have them: defaults, ranges and words of :mod:`triportrait.motion.voice_controls`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from triportrait.motion.voice_controls import VoiceControls


@dataclass(frozen=True, kw_only=True)
class VoiceFlags(VoiceControls):
    """The settings of a voice, of types that a command line can read."""

    style: Path | None = None
    controls: Path | None = None
