"""What several commands check of their options before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from triportrait.errors import MissingPart, MotionFileError, OptionError

if TYPE_CHECKING:
    from triportrait.face.portrait import PortraitOptions
    from triportrait.types import PathLike


def check_size(size: int | None) -> None:
    """OptionError unless it is None, or a side in pixels that a portrait can have."""
    if size is not None and (not 128 <= size <= 1024 or size % 2):
        raise OptionError(f"--size is {size}; use an even number from 128 to 1024")


def check_refine(seconds: float) -> None:
    """OptionError or MissingPart before the minutes that a portrait may take; ``refine.LONGEST_S`` again, which would bring in torch."""
    if not 0.0 <= seconds <= 600.0:
        raise OptionError(f"--refine is {seconds:g}; use a number of seconds from 0 to 600")
    if seconds and not (find_spec("torch") and find_spec("onnx")):
        raise MissingPart("--refine learns, which needs torch and onnx; pip install 'triportrait[train]', or leave it out")


def check_output(out: Path, inputs: Sequence[PathLike | None]) -> None:
    """OutputError for a target that cannot be written, or that is one of the inputs or a file of an input folder."""
    from triportrait.files import AtomicFile, refuse_inputs

    AtomicFile(out).discard()
    refuse_inputs(out, inputs)


def check_motion_output(out: Path, inputs: Sequence[PathLike | None]) -> None:
    """As :func:`check_output`; MotionFileError for the ending of another kind of file."""
    if out.suffix.lower() not in (".npz", ".csv", ".json"):
        raise MotionFileError(f"'{out}' has no ending of a motion file; name it .npz, .csv or .json")
    check_output(out, inputs)


def portrait_options(size: int | None, face: int | None, *, background_fill: str, quality: str = "standard") -> PortraitOptions | None:
    """None where nothing is asked for: avatar files take no options, and a quality has its own size."""
    from triportrait.face.portrait import PortraitOptions
    from triportrait.model import quality_of

    if size is None and face is None and background_fill == "smooth":
        return None
    return PortraitOptions(size or quality_of(quality).size_px, face=face, background_fill=background_fill)
