"""``triportrait evaluate``: quality, measured by a protocol."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say_lines


@dataclass
class Evaluate:
    """Measure quality by a protocol: reenact (first frame performs its own clip), cross (another clip), audio (its sound), personal
    (a person from the first part of a clip), style (a voice in another clip's manner), seams (of turned photographs), table N of the
    paper, opinions (people rate videos)."""

    protocol: Positional[Literal["reenact", "cross", "audio", "personal", "style", "seams", "table", "opinions"]]
    """Which protocol; tables 1, 2, 4, 7 put our rows beside those printed in the Real3D-Portrait paper; 3, 5, 6 show what it prints."""
    number: Positional[Literal["1", "2", "3", "4", "5", "6", "7"] | None] = None
    """Which table, after 'table'."""
    clips: Path | None = None
    """Folder of videos."""
    portraits: Path | None = None
    """seams: folder of photographs; those of its split val are turned."""
    out: Annotated[Path | None, arg(aliases=("-o",))] = None
    """JSON report; a Markdown table and plots are written beside it. opinions --videos: the folder to make."""
    avatar: str = "static,similarity,mesh2d,depth_warp,lifted,oneshot"
    """Names separated by commas."""
    every: int = 5
    """Every n-th frame is measured."""
    sheets: bool = False
    """Also write a contact sheet per clip or photograph."""
    limit: int | None = None
    """At most so many clips, or photographs, which --seed draws."""
    metric_weights: Path | None = None
    """Folder with the weights of LPIPS, FID, CSIM and Sync (docs/guides/evaluation.md); without it they are null."""
    jobs: int = 1
    """Clips or photographs at a time, each in a process of its own (about 1 GB each)."""
    cache: Path | None = None
    """Folder in which what was tracked on the clips is kept for later runs."""
    voice_driver: str = "natural"
    """style: who takes on the manner, natural or erlnet:FOLDER."""
    plots: bool = True
    """Also draw the means as PNG."""
    seconds: float = 10.0
    """audio: at most so much of each clip."""
    pose: Literal["natural", "still", "clip"] = "natural"
    """audio: head motion made up, none, or the clip's own (then pictures are compared, too)."""
    seed: int = 0
    """audio: of the driver and of the clip that lends its head motion; seams: of the draw; opinions: of the order of the
    videos; personal: of the network's first numbers."""
    head_motion: Path | None = None
    """audio, table 2: folder of videos or motion files; one of the ten that begin with the portrait's pose lends its head motion."""
    given: float = 0.5
    """personal: share of each clip that the person is made of; the rest is judged."""
    given_clips: Annotated[tuple[str, ...], arg(metavar="PATTERN ...")] = ()
    """personal: names of the clips in the folder that one person is made of, such as 'anna_0*' 'anna_10'; see --judged-clips."""
    judged_clips: Annotated[tuple[str, ...], arg(metavar="PATTERN ...")] = ()
    """personal: names of the clips on which that person is judged, framed like the given ones."""
    rows: Annotated[tuple[str, ...], arg(metavar="ROW ...")] = ()
    """personal: rows to measure; without it all but those of the network (personal+delta and its ablations)."""
    learn: float = 4.0
    """personal: minutes of processor time in which the network of personal+delta and its ablations learns."""
    variant: tuple[str, ...] = ()
    """table 4: ROW=AVATAR for a row of the ablation that there is a model for."""
    videos: Path | None = None
    """opinions: folder with a folder of clips per method; a page to rate them is made."""
    answers: Annotated[tuple[Path, ...], arg(metavar="FILE.csv ...")] = ()
    """opinions: what the raters sent back; means and 95 % intervals are shown."""
    kit: Path | None = None
    """opinions: the folder that --videos made, against which --answers are checked."""

    def run(self) -> int:
        from functools import partial

        from triportrait.cli.personalize import check_minutes, teacher_for
        from triportrait.evaluation.command import run_protocol

        check_minutes(self.learn)
        with ProgressBar() as progress:
            text = run_protocol(
                self,
                lambda p: progress(f"{p.clip} ({p.clip_index + 1}/{p.clips}) {p.stage}", p.done, p.total),
                teacher_of=partial(teacher_for, self.learn, self.seed),
            )
        say_lines(text)
        return 0
