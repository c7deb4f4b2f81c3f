"""``triportrait personalize``: a video of somebody becomes that person."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say, tell
from triportrait.errors import OptionError


@dataclass
class Personalize:
    """Make a person of a video by Talk3D, or go on where an interrupted run stopped. 'animate --preset talk3d' then drives that person."""

    clip: Positional[Path]
    """Video of one person who speaks, with sound; minutes are better than seconds."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder of the person."""
    prior: Path | None = None
    """Imported EG3D weights, into which the person is inverted (see 'triportrait weights list')."""
    preset: Literal["paper", "tiny"] = "paper"
    """paper: Talk3D's sizes, for a GPU; tiny: a try with a tiny generator."""
    steps: int | None = None
    """Length of the last stage. Default: the preset's."""
    inversion_steps: int | None = None
    """Length of the inversion. Default: 600."""
    tuning_steps: int | None = None
    """Length of the generator's tuning. Default: 400."""
    wav2vec2: Path | None = None
    """Folder of wav2vec2, whose classes of sounds then drive, as published. Default: our own log-mel features."""
    seed: int = 0
    """Of everything random."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""

    def run(self) -> int:
        from triportrait.training.talk3d.personalize import PersonalizeOptions, personalize

        if self.prior is None:
            raise OptionError("--prior is missing, and without EG3D no person can be made yet; give imported EG3D weights")
        logging.getLogger("triportrait").setLevel(logging.INFO)
        options = PersonalizeOptions(**{field.name: getattr(self, field.name) for field in fields(self)})
        with ProgressBar() as progress:
            result = personalize(options, progress)
        if not result.finished:
            tell(f"triportrait: stopped and saved after step {result.step} of this stage; the same line goes on from there")
            return 130
        say(f"{self.out}  (drive it: triportrait animate VOICE --preset talk3d --weights {self.out} -o OUT.mp4)")
        return 0
