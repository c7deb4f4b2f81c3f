"""From the words of ``triportrait evaluate`` to a protocol's options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from triportrait.errors import OptionError
from triportrait.evaluation.reenact import find_clips
from triportrait.evaluation.running import Progress
from triportrait.files import refuse_inputs

#: Options that only some protocols look at -> those protocols.
_BELONGS = {
    "number": ("table",),
    "variant": ("table",),
    "seconds": ("audio", "table"),
    "pose": ("audio",),
    "seed": ("audio",),
    "plots": ("reenact", "cross", "audio"),
}
_DEFAULTS: dict[str, Any] = {"number": None, "variant": (), "seconds": 10.0, "pose": "natural", "seed": 0, "plots": True}


class Asked(Protocol):
    """The command line's fields."""

    @property
    def protocol(self) -> str: ...
    @property
    def clips(self) -> Path: ...
    @property
    def out(self) -> Path: ...
    @property
    def number(self) -> str | None: ...
    @property
    def avatar(self) -> str: ...
    @property
    def every(self) -> int: ...
    @property
    def sheets(self) -> bool: ...
    @property
    def limit(self) -> int | None: ...
    @property
    def metric_weights(self) -> Path | None: ...
    @property
    def jobs(self) -> int: ...
    @property
    def cache(self) -> Path | None: ...
    @property
    def plots(self) -> bool: ...
    @property
    def seconds(self) -> float: ...
    @property
    def pose(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def variant(self) -> tuple[str, ...]: ...


def run_protocol(asked: Asked, progress: Callable[[Progress], None] | None = None) -> dict[str, Any]:
    """Run what was asked for and return its report.

    Raises:
        OptionError: options that do not go together; otherwise as the protocols.
        OutputError: the report would take the place of a clip or of weights.
    """
    for name, protocols in _BELONGS.items():
        if asked.protocol not in protocols and getattr(asked, name) != _DEFAULTS[name]:
            word = f"'{asked.number}'" if name == "number" else f"--{name}"
            raise OptionError(f"{word} does nothing with evaluate {asked.protocol}; it belongs to {' and '.join(protocols)}.")
    plots = (asked.out.with_name(f"{asked.out.stem}_{kind}.png") for kind in ("bars", "rotation"))
    # Of the folder of clips only the clips are read: an older report beside them may be replaced.
    read = [*find_clips(asked.clips), asked.clips / "index.csv", asked.metric_weights]
    sheets = asked.out.with_name(f"{asked.out.stem}_sheets").glob("*.png") if asked.sheets else ()
    for target in (asked.out, asked.out.with_suffix(".md"), *plots, *sheets):
        refuse_inputs(target, read)
    avatars = tuple(name.strip() for name in asked.avatar.split(",") if name.strip())
    shared: dict[str, Any] = {
        "clips": asked.clips,
        "avatars": avatars,
        "out": asked.out,
        "every": asked.every,
        "sheets": asked.sheets,
        "limit": asked.limit,
        "metric_weights": asked.metric_weights,
        "jobs": asked.jobs,
        "cache": asked.cache,
    }
    if asked.protocol == "reenact":
        from triportrait.evaluation.reenact import ReenactOptions, run_reenact

        return run_reenact(ReenactOptions(**shared, plots=asked.plots), progress=progress)
    if asked.protocol == "cross":
        from triportrait.evaluation.cross import CrossOptions, run_cross

        return run_cross(CrossOptions(**shared, plots=asked.plots), progress=progress)
    if asked.protocol == "audio":
        from triportrait.evaluation.audio import AudioOptions, run_audio

        options = AudioOptions(**shared, plots=asked.plots, seconds=asked.seconds, pose=asked.pose, seed=asked.seed)
        return run_audio(options, progress=progress)
    from triportrait.evaluation.tables import TableOptions, run_table

    if asked.number is None:
        raise OptionError("evaluate table needs a number; write 'evaluate table 1', 2 or 4.")
    variants = {}
    for text in asked.variant:
        row, found, avatar = text.partition("=")
        if not found or not avatar:
            raise OptionError(f"--variant is {text!r}; write ROW=AVATAR, such as concatenation=oneshot.")
        variants[row] = avatar
    return run_table(TableOptions(**shared, number=asked.number, seconds=asked.seconds, variants=variants), progress=progress)
