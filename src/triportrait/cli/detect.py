"""``triportrait detect``: was this video generated?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from triportrait.cli.terminal import say_lines


@dataclass
class Detect:
    """Tell whether a video was generated: watermark in the pixels, signed statement in the file."""

    file: Positional[Path]
    """Video to look at."""

    def run(self) -> int:
        from triportrait.media.video import VideoReader
        from triportrait.provenance.detect import detect

        with VideoReader(self.file) as reader:
            say_lines(detect((frame for _, frame in reader.frames(None)), self.file))
        return 0
