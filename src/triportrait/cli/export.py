"""``triportrait export``: a portrait for other programs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from triportrait.cli.checks import check_output
from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say
from triportrait.errors import OptionError

if TYPE_CHECKING:
    from triportrait.pipeline import Portrait

_KINDS = (".glb", ".html", ".vrm", ".mp4")


@dataclass
class Export:
    """Write a portrait as a 3D head with blendshapes (.glb), a page with a viewer (.html), an avatar (.vrm), or a video round it (.mp4)."""

    photo: Positional[Path]
    """Portrait photo, or an avatar file."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """File to write: .glb for viewers and game engines, .html for any browser, .vrm for VR and streaming, .mp4 for a turn to both sides."""
    audio: Path | None = None
    """Voice that the .html page plays."""
    name: str | None = None
    """Name of the person in a .vrm file; the photo's name unless you say another."""
    author: str | None = None
    """Who may use the .vrm file, which allows nothing to anybody else."""
    on_floor: bool = False
    """Let the .glb reach the floor by a triangle of no size under each foot: TalkingHead puts the lowest point drawn on the floor."""

    def run(self) -> int:
        from triportrait.files import check_readable
        from triportrait.pipeline import Portrait

        kind = self.out.suffix.lower()
        if kind not in _KINDS:
            raise OptionError(f"'{self.out}' ends in none of {', '.join(_KINDS)}; choose one of them")
        if self.audio is not None and kind != ".html":
            raise OptionError(f"--audio belongs to an .html page, not to a {kind} file; leave it out, or name the output .html")
        if kind == ".vrm" and not (self.author or "").strip():
            raise OptionError("a .vrm file names who may use it; add --author 'Your Name'")
        if kind != ".vrm" and (self.name or self.author):
            raise OptionError(f"--name and --author belong to a .vrm file, not to a {kind} file; leave them out")
        if kind != ".glb" and self.on_floor:
            raise OptionError(f"--on-floor belongs to a .glb file, not to a {kind} file; leave it out, or name the output .glb")
        for file in (self.photo, self.audio):
            if file is not None:
                check_readable(file)
        check_output(self.out, [self.photo, self.audio])
        started = time.perf_counter()
        if kind == ".mp4":
            from triportrait.export.orbit import write_orbit

            with ProgressBar() as progress:
                write_orbit(Portrait.from_image(self.photo), self.out, progress)
        else:
            self._write(Portrait.from_image(self.photo, avatar="lifted"), kind)
        say(f"{self.out}  ({self.out.stat().st_size / 1e6:.1f} MB, {time.perf_counter() - started:.1f} s)")
        return 0

    def _write(self, portrait: Portrait, kind: str) -> None:
        """A file of the 3D head."""
        from triportrait.export.glb import write_glb
        from triportrait.export.page import write_page
        from triportrait.export.vrm import write_vrm

        if kind == ".glb":
            write_glb(portrait.prepared, self.out, on_floor=self.on_floor)
        elif kind == ".html":
            write_page(portrait.prepared, self.out, self.audio)
        else:
            write_vrm(portrait.prepared, self.out, self.name or self.photo.stem, (self.author or "").strip())
