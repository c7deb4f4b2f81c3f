"""``triportrait extract``: the motion of a person in a video, as a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from triportrait.cli.checks import check_motion_output
from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say


@dataclass
class Extract:
    """Measure the motion of the person in a video and save it, to look at, edit and reuse."""

    video: Positional[Path]
    """Video of one person."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Motion file: .npz or .csv (ours, editable), .json, or .livelink.csv (ARKit-52 for Live Link Face)."""
    driver_face: int | None = None
    """Whom to follow, counted from the left, when the video shows several people. Default: the largest face."""

    def run(self) -> int:
        from triportrait.drivers import motion_of_video
        from triportrait.files import check_readable
        from triportrait.motion.files import write_motion
        from triportrait.motion.options import DriveOptions

        check_readable(self.video)
        check_motion_output(self.out, [self.video])
        with ProgressBar() as progress:
            motion = motion_of_video(self.video, progress=progress, face=DriveOptions(driver_face=self.driver_face).driver_face)
        write_motion((motion,), self.out, inputs=[self.video])
        say(f"{self.out}  ({len(motion)} frames)")
        return 0
