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
    """Measure quality by a protocol: reenact (first frame performs its own clip), cross (another clip), audio (its sound), table N."""

    protocol: Positional[Literal["reenact", "cross", "audio", "table"]]
    """Which protocol; table 1, 2 and 4 put our rows beside those printed in the Real3D-Portrait paper."""
    clips: Path
    """Folder of videos."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """JSON report; a Markdown table and plots are written beside it."""
    number: Positional[Literal["1", "2", "4"] | None] = None
    """Which table, after 'table'."""
    avatar: str = "static,similarity,mesh2d,depth_warp,lifted,oneshot"
    """Names separated by commas."""
    every: int = 5
    """Every n-th frame is measured."""
    sheets: bool = False
    """Also write a contact sheet per clip."""
    limit: int | None = None
    """At most so many clips."""
    metric_weights: Path | None = None
    """Folder with the weights of LPIPS, FID, CSIM and Sync (docs/guides/evaluation.md); without it they are null."""
    jobs: int = 1
    """Clips at a time, each in a process of its own (about 1 GB each)."""
    cache: Path | None = None
    """Folder in which what was tracked on the clips is kept for later runs."""
    plots: bool = True
    """Also draw the means as PNG."""
    seconds: float = 10.0
    """audio: at most so much of each clip."""
    pose: Literal["natural", "still", "clip"] = "natural"
    """audio: head motion made up, none, or the clip's own (then pictures are compared, too)."""
    seed: int = 0
    """audio: of the driver."""
    variant: tuple[str, ...] = ()
    """table 4: ROW=AVATAR for a row of the ablation that there is a model for."""

    def run(self) -> int:
        from triportrait.evaluation.command import run_protocol

        with ProgressBar() as progress:
            run_protocol(self, lambda p: progress(f"{p.clip} ({p.clip_index + 1}/{p.clips}) {p.stage}", p.done, p.total))
        table = self.out.with_suffix(".md")
        say_lines(table.read_text(encoding="utf-8") if table.exists() else str(self.out))
        return 0
