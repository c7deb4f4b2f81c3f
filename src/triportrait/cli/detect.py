"""``triportrait detect``: was this generated, and by whom?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from triportrait.cli.terminal import say_lines


@dataclass
class Detect:
    """Tell whether a video or picture was generated: watermark in the pixels, signed statement in the file."""

    file: Positional[Path]
    """Video, GIF or picture to look at."""
    json: bool = False
    """Write the answer as JSON, for programs."""
    maker: str | None = None
    """A name or an id: say whether the watermark bears its number."""

    def run(self) -> int:
        from triportrait.files import check_readable
        from triportrait.media.sampling import sampled_frames
        from triportrait.provenance.detect import detect
        from triportrait.provenance.maker import Account
        from triportrait.provenance.reading import FRAME_LIMIT

        maker = None if self.maker is None else Account(self.maker.strip()).maker
        check_readable(self.file)
        report = detect(sampled_frames(self.file, FRAME_LIMIT), self.file, maker=maker)
        say_lines(json.dumps(report.record()) if self.json else report)
        return 0
