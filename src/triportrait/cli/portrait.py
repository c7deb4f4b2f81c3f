"""``triportrait portrait``: avatar files, photos prepared once and for all."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from triportrait.cli.checks import check_output, check_refine, check_size, portrait_options
from triportrait.cli.terminal import say, say_lines


@dataclass
class PortraitSave:
    """Prepare a photo once and for all: an avatar file, which 'triportrait animate' takes in place of the photo."""

    photo: Positional[Path]
    """Portrait photo (JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF or HEIC), or an avatar file to refine further."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Avatar file to write; any name, .avatar by custom."""
    refine: float = 0.0
    """Seconds for fitting the oneshot avatar to the photo; the result is kept in the file."""
    face: int | None = None
    """Which face, counted from the left, when the photo shows several. Default: the largest."""
    size: int | None = None
    """Side of the animated square in pixels. Default: 512."""
    background_fill: Literal["smooth", "knn"] = "smooth"
    """How the scene behind the person is painted in; knn is the published method."""

    def run(self) -> int:
        from triportrait.files import check_readable
        from triportrait.pipeline import save_portrait

        check_size(self.size)
        check_refine(self.refine)
        check_readable(self.photo)
        check_output(self.out, [self.photo])
        started = time.perf_counter()
        options = portrait_options(self.size, self.face, background_fill=self.background_fill)
        save_portrait(self.photo, self.out, options=options, refine_s=self.refine)
        say(f"{self.out}  ({time.perf_counter() - started:.1f} s)")
        return 0


@dataclass
class PortraitShow:
    """Tell what is in an avatar file."""

    file: Positional[Path]
    """Avatar file."""

    def run(self) -> int:
        from triportrait.media.avatar_files import describe_avatar

        say_lines(describe_avatar(self.file))
        return 0


@dataclass
class PortraitPictures:
    """Write the pictures in an avatar file as PNG files, to look at or to edit (see 'triportrait personalize --replace-look')."""

    file: Positional[Path]
    """Avatar file."""
    out: Annotated[Path, arg(aliases=("-o",))]
    """Folder for the pictures; picture_1.png is the one that is animated."""

    def run(self) -> int:
        from triportrait.errors import OutputError
        from triportrait.files import make_folder
        from triportrait.media.images import write_png
        from triportrait.pipeline import read_avatar

        portrait, _ = read_avatar(self.file)
        pictures = [portrait.image, *(other.image for other in portrait.others)]
        files = [self.out / f"picture_{number}.png" for number in range(1, len(pictures) + 1)]
        for file in files:
            if file.exists():
                raise OutputError(f"'{file}' exists already; give another folder")
        make_folder(self.out)
        for file, picture in zip(files, pictures, strict=True):
            write_png(file, picture)
        say(f"{self.out}  ({len(pictures)} pictures)")
        return 0


@dataclass
class PortraitCommand:
    """Avatar files: photos prepared once and for all."""

    action: (
        Annotated[PortraitSave, subcommand("save")]
        | Annotated[PortraitShow, subcommand("show")]
        | Annotated[PortraitPictures, subcommand("pictures")]
    )

    def run(self) -> int:
        return self.action.run()
