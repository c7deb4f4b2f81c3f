"""``triportrait weights``: what others have published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg, subcommand

from triportrait.cli.progress import ProgressBar
from triportrait.cli.terminal import say, say_lines
from triportrait.errors import WeightsError


@dataclass
class WeightsList:
    """What others have published that can be used here, under which licence, and what of it is imported."""

    def run(self) -> int:
        from triportrait.weights.overview import listing

        say_lines(listing())
        return 0


@dataclass
class WeightsImport:
    """Turn published checkpoints (Real3D-Portrait, EG3D, Basel face model) into files of ours. Nothing in them is executed."""

    paths: Positional[tuple[Path, ...]]
    """Checkpoint files, or folders that hold them."""
    out: Annotated[Path | None, arg(aliases=("-o",))] = None
    """Folder to write to. Default: where the presets look for weights."""
    network: str | None = None
    """Which network of a file that holds several: D for EG3D's discriminator."""

    def run(self) -> int:
        from triportrait.weights.importers import import_checkpoint, importable

        if not self.paths:
            raise WeightsError("nothing to import; name a checkpoint file or a folder that holds some")
        for source in [found for path in self.paths for found in importable(path)]:
            say_lines(import_checkpoint(source, self.out, network=self.network))
        return 0


@dataclass
class WeightsVerify:
    """Check imported weights to the last number."""

    paths: Positional[tuple[Path, ...]] = ()
    """Files of ours. Default: everything that is imported."""

    def run(self) -> int:
        from triportrait.weights.overview import verify

        lines, sound = verify(list(self.paths))
        say_lines("\n".join(lines))
        return 0 if sound else 2


@dataclass
class WeightsDescribe:
    """Count the parameters of a preset's networks."""

    preset: Literal["paper", "compact", "personal", "tiny"] = "paper"
    """paper: beside the figures of the paper's Table 6; personal: Talk3D's networks of one person."""
    ablations: bool = False
    """The variants of 'triportrait train real3d.* --variant' besides: the switches of the paper's Table 4, and its text."""

    def run(self) -> int:
        from triportrait.presets import describe, describe_variants

        say_lines(describe(self.preset))
        if self.ablations:
            say_lines(describe_variants())
        return 0


@dataclass
class WeightsFetch:
    """Download what the catalogue names from its authors, a mirror or a folder; goes on after an interruption."""

    name: Positional[str]
    """Name in 'triportrait weights list'."""
    mirror: str | None = None
    """Address of a folder with the files under their published names."""
    from_folder: Path | None = None
    """Folder of this machine to copy from instead; nothing is downloaded."""
    into: Path | None = None
    """Folder to write to."""

    def run(self) -> int:
        from triportrait.weights.fetch import fetch

        with ProgressBar() as progress:
            for path in fetch(self.name, mirror=self.mirror, from_folder=self.from_folder, into=self.into, progress=progress):
                say(path)
        return 0


@dataclass
class Weights:
    """Weights that others have published: list, fetch, import, verify, describe."""

    action: (
        Annotated[WeightsList, subcommand("list")]
        | Annotated[WeightsFetch, subcommand("fetch")]
        | Annotated[WeightsImport, subcommand("import")]
        | Annotated[WeightsVerify, subcommand("verify")]
        | Annotated[WeightsDescribe, subcommand("describe")]
    )

    def run(self) -> int:
        return self.action.run()
