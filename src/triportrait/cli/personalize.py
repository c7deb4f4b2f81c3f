"""``triportrait personalize``: a video of somebody, or several photos, become that person."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional, arg

from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say, tell
from triportrait.training.options import PersonalizeOptions, Talk3DOptions

#: More is never asked for by accident.
MOST_MINUTES = 600.0

if TYPE_CHECKING:
    from triportrait.avatar.person.learning import Teacher
    from triportrait.types import PreparedPortrait


@dataclass(kw_only=True)
class Personalize:
    """Make a person of a video or of several photos: an avatar file, which 'triportrait animate' takes in place of a photo.

    With --prior a person of Talk3D is trained instead, in a folder that 'animate --preset talk3d' takes.
    """

    source: Positional[tuple[Path, ...]]
    """Video of one person, 4 seconds or more without a cut, or several such videos; or photos of one person. The first one
    is animated. With --replace-look also the avatar file of a person."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Avatar file to write, .avatar by custom; with --prior the person's folder."""
    sources: int = 8
    """Pictures of the person that are kept at most: more show more, and each takes memory."""
    seconds: float = 300.0
    """So much of the video is looked at, from its beginning; of several videos so much of all together, in their order."""
    learn: float | None = None
    """Minutes of processor time in which a network learns what the pictures lack (light, folds, mouths between two pictures).
    Without it a linear map is learned, in seconds; 0 learns nothing. It belongs to a video; --seed draws the network's beginning."""
    replace_look: Path | None = None
    """One of the person's pictures (see 'triportrait portrait pictures') after you edited it: its hair, skin, glasses or
    age are carried to all pictures."""
    report: Path | None = None
    """JSON file for what was kept."""
    talk3d: tyro.conf.OmitArgPrefixes[Talk3DOptions] = dataclasses.field(default_factory=Talk3DOptions)

    def run(self) -> int:
        return self._trained() if self.talk3d.prior is not None else self._put_together()

    def _put_together(self) -> int:
        from triportrait.cli.checks import check_output
        from triportrait.errors import OptionError
        from triportrait.face.person import PersonOptions
        from triportrait.files import atomic_file, check_readable
        from triportrait.media.images import looks_like_image
        from triportrait.pipeline import save_person

        options = PersonOptions(self.sources, self.seconds)
        if self.learn:
            check_minutes(self.learn, "; 0 learns nothing")
        for file in self.source:
            check_readable(file)
        if self.learn and self.replace_look is not None:
            raise OptionError("--learn does nothing with --replace-look, which leaves out what was learned of the old look; leave it away.")
        if self.learn and any(looks_like_image(file) for file in self.source):
            raise OptionError("--learn needs a video, since nothing is learned from photos; leave it away or give a video.")
        teacher = teacher_for(self.learn, self.talk3d.seed) if self.learn else None
        inputs = [*self.source] if self.replace_look is None else [*self.source, self.replace_look]
        check_output(self.out, inputs)
        if self.report is not None:
            check_output(self.report, [*inputs, self.out])
        started = time.perf_counter()
        with ProgressBar() as progress:
            person = save_person(self.source, self.out, options, progress, learn=self.learn != 0, teacher=teacher, look=self.replace_look)
        if self.report is not None:
            with atomic_file(self.report) as part:
                part.write_text(json.dumps(described(person), indent=1), encoding="utf-8")
        count, size = 1 + len(person.others), os.path.getsize(self.out) / 1e6
        say(f"{self.out}  ({count} pictures, {size:.0f} MB, {time.perf_counter() - started:.1f} s)")
        return 0

    def _trained(self) -> int:
        from triportrait.errors import OptionError
        from triportrait.training.talk3d.personalize import personalize

        if len(self.source) > 1:
            raise OptionError("--prior takes one video.")
        logging.getLogger("triportrait").setLevel(logging.INFO)
        options = PersonalizeOptions(clip=self.source[0], out=self.out, **dataclasses.asdict(self.talk3d))
        with ProgressBar() as progress:
            result = personalize(options, progress)
        if not result.finished:
            tell(f"triportrait: stopped and saved after step {result.step} of this stage; the same line goes on from there")
            return 130
        say(f"{self.out}  (drive it: triportrait animate VOICE --preset talk3d --weights {self.out} -o OUT.mp4)")
        return 0


def check_minutes(minutes: float, else_say: str = "") -> None:
    """Refuse minutes for ``--learn`` that are out of range; ``else_say`` ends the sentence.

    Raises:
        OptionError: out of range.
    """
    from triportrait.errors import OptionError

    if not 0 < minutes <= MOST_MINUTES:
        raise OptionError(f"--learn is {minutes:g}; use more than 0 minutes and up to {MOST_MINUTES:g}{else_say}.")


def teacher_for(minutes: float, seed: int, ablation: str = "") -> Teacher | None:
    """Who learns a person's network in so many minutes; None where that needs what is not installed, after saying so.

    Args:
        minutes: of processor time, see :func:`check_minutes`.
        seed: of the network's first numbers and of the order of frames.
        ablation: which part is left out, a row of :data:`triportrait.evaluation.personal.ABLATIONS`.
    """
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        tell("triportrait: the network is learned with PyTorch: pip install 'triportrait[train]'; the linear map is used instead")
        return None
    from triportrait.training.person.network import Ablation, draw_ablation
    from triportrait.training.person.teaching import processor_minutes, teach

    left_out = Ablation(**{ablation: True}) if ablation else Ablation()
    draw_ablation(left_out)
    logging.getLogger("triportrait.training.person").setLevel(logging.INFO)
    return lambda seen, head: teach(seen, head, processor_minutes(minutes), ablation=left_out, seed=seed)


def described(person: PreparedPortrait) -> dict[str, object]:
    """How the head is turned in each picture that was kept, in degrees, how many there are, and of how many pictures the delta consists."""
    import numpy as np

    turns = [np.degrees(one.motion.rotation_rad).round(1).tolist() for one in (person, *person.others)]
    learned = 0 if person.delta is None else len(person.delta.level)
    network = person.delta is not None and person.delta.network is not None
    return {"pictures": len(turns), "pitch_yaw_roll_degrees": turns, "delta_pictures": learned, "delta_network": network}
