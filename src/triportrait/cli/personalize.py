"""``triportrait personalize``: a video of somebody becomes that person."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say, tell
from triportrait.training.options import PersonalizeOptions


@dataclass(frozen=True, kw_only=True)
class Personalize(PersonalizeOptions):
    """Make a person of a video by Talk3D, or go on where an interrupted run stopped. 'animate --preset talk3d' then drives that person."""

    clip: Positional[Path]
    out: Annotated[Path, arg(aliases=("-o",))]

    def run(self) -> int:
        from triportrait.training.talk3d.personalize import personalize

        logging.getLogger("triportrait").setLevel(logging.INFO)
        with ProgressBar() as progress:
            result = personalize(self, progress)
        if not result.finished:
            tell(f"triportrait: stopped and saved after step {result.step} of this stage; the same line goes on from there")
            return 130
        say(f"{self.out}  (drive it: triportrait animate VOICE --preset talk3d --weights {self.out} -o OUT.mp4)")
        return 0
