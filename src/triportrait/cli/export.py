"""``triportrait export``: a portrait for other programs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from triportrait.cli.checks import check_output
from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say
from triportrait.errors import OptionError


@dataclass
class Export:
    """Write a portrait as a 3D head with blendshapes (.glb), or as a video that goes round it (.mp4)."""

    photo: Positional[Path]
    """Portrait photo, or an avatar file."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """File to write: .glb for viewers and game engines, .mp4 for a turn to both sides with the depth beside it."""

    def run(self) -> int:
        from triportrait.export.glb import write_glb
        from triportrait.export.orbit import write_orbit
        from triportrait.files import check_readable
        from triportrait.pipeline import Portrait

        kind = self.out.suffix.lower()
        if kind not in (".glb", ".mp4"):
            raise OptionError(f"'{self.out}' ends in neither .glb nor .mp4; choose one of them")
        check_readable(self.photo)
        check_output(self.out, [self.photo])
        started = time.perf_counter()
        if kind == ".glb":
            write_glb(Portrait.from_image(self.photo, avatar="lifted").prepared, self.out)
        else:
            with ProgressBar() as progress:
                write_orbit(Portrait.from_image(self.photo), self.out, progress)
        say(f"{self.out}  ({self.out.stat().st_size / 1e6:.1f} MB, {time.perf_counter() - started:.1f} s)")
        return 0
