"""From the words of ``triportrait evaluate`` to a protocol's options, and to the text that answers them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from triportrait.errors import OptionError
from triportrait.evaluation.clip_folder import find_clips
from triportrait.evaluation.printed import is_measured, printed, printed_markdown, run_printed
from triportrait.evaluation.running import Progress
from triportrait.files import refuse_inputs

_CLIPS = ("reenact", "cross", "audio", "personal", "table")
_MEASURED = (*_CLIPS, "seams")
#: Options that only some protocols look at -> those protocols, and the value that says nothing.
_BELONGS: dict[str, tuple[tuple[str, ...], Any]] = {
    "number": (("table",), None),
    "variant": (("table",), ()),
    "seconds": (("audio", "table"), 10.0),
    "pose": (("audio",), "natural"),
    "head_motion": (("audio", "table"), None),
    "seed": (("audio", "table", "seams", "style", "opinions", "personal"), 0),
    "plots": (("reenact", "cross", "audio"), True),
    "given": (("personal",), 0.5),
    "given_clips": (("personal",), ()),
    "judged_clips": (("personal",), ()),
    "rows": (("personal",), ()),
    "learn": (("personal",), 4.0),
    "clips": ((*_CLIPS, "style"), None),
    "every": (_CLIPS, 5),
    "sheets": (_MEASURED, False),
    "limit": ((*_MEASURED, "style"), None),
    "voice_driver": (("style",), "natural"),
    "metric_weights": (_CLIPS, None),
    "jobs": (_MEASURED, 1),
    "cache": ((*_CLIPS, "style"), None),
    "portraits": (("seams",), None),
    "videos": (("opinions",), None),
    "answers": (("opinions",), ()),
    "kit": (("opinions",), None),
}


class Asked(Protocol):
    """The command line's fields."""

    @property
    def protocol(self) -> str: ...
    @property
    def clips(self) -> Path | None: ...
    @property
    def portraits(self) -> Path | None: ...
    @property
    def out(self) -> Path | None: ...
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
    def voice_driver(self) -> str: ...
    @property
    def plots(self) -> bool: ...
    @property
    def seconds(self) -> float: ...
    @property
    def pose(self) -> str: ...
    @property
    def head_motion(self) -> Path | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def variant(self) -> tuple[str, ...]: ...
    @property
    def videos(self) -> Path | None: ...
    @property
    def answers(self) -> tuple[Path, ...]: ...
    @property
    def given(self) -> float: ...
    @property
    def given_clips(self) -> tuple[str, ...]: ...
    @property
    def judged_clips(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> tuple[str, ...]: ...
    @property
    def learn(self) -> float: ...
    @property
    def kit(self) -> Path | None: ...


def run_protocol(
    asked: Asked, progress: Callable[[Progress], None] | None = None, *, teacher_of: Callable[[str], Any] | None = None
) -> str:
    """Run what was asked for and return the text to be shown, which is also written beside the report.

    Args:
        teacher_of: see :data:`triportrait.evaluation.personal.TeacherOf`.

    Raises:
        OptionError: options that do not go together; otherwise as the protocols.
        OutputError: the report would take the place of a clip or of weights.
    """
    is_printed = asked.protocol == "table" and asked.number in printed()["tables"] and not is_measured(str(asked.number))
    for name, (protocols, silent) in _BELONGS.items():
        is_read = asked.protocol in protocols and not (is_printed and name != "number")
        if not is_read and getattr(asked, name) != silent:
            word = f"'{asked.number}'" if name == "number" else f"--{name.replace('_', '-')}"
            where = " and ".join(protocols)
            if protocols[: len(_CLIPS)] == _CLIPS:
                others = "".join(f", {protocol}" for protocol in protocols[len(_CLIPS) :])
                where = f"reenact, cross, audio, personal{others} and the measured tables"
            what = f"table {asked.number}" if is_printed else asked.protocol
            raise OptionError(f"{word} does nothing with evaluate {what}; it belongs to {where}.")
    if asked.protocol == "opinions":
        return _opinions(asked)
    if asked.protocol == "table" and asked.number is None:
        raise OptionError("evaluate table needs a number; write 'evaluate table 1', or 2 to 7.")
    if is_printed:
        return printed_markdown(run_printed(str(asked.number), asked.out))
    if asked.protocol == "seams":
        return _seams(asked, progress)
    if asked.clips is None or asked.out is None:
        missing = "--clips FOLDER, a folder of videos" if asked.clips is None else "-o REPORT.json, the report to write"
        raise OptionError(f"evaluate {asked.protocol} needs {missing}.")
    _run_on_clips(asked, asked.clips, asked.out, progress, teacher_of)
    return asked.out.with_suffix(".md").read_text(encoding="utf-8")


def _run_on_clips(
    asked: Asked,
    clips: Path,
    out: Path,
    progress: Callable[[Progress], None] | None,
    teacher_of: Callable[[str], Any] | None,
) -> None:
    plots = (out.with_name(f"{out.stem}_{kind}.png") for kind in ("bars", "rotation"))
    # Of the folder of clips only the clips are read: an older report beside them may be replaced.
    read = [*find_clips(clips), clips / "index.csv", asked.metric_weights]
    sheets = out.with_name(f"{out.stem}_sheets").glob("*.png") if asked.sheets else ()
    for target in (out, out.with_suffix(".md"), *plots, *sheets):
        refuse_inputs(target, read)
    shared: dict[str, Any] = {
        "clips": clips,
        "avatars": _avatars(asked),
        "out": out,
        "every": asked.every,
        "sheets": asked.sheets,
        "limit": asked.limit,
        "metric_weights": asked.metric_weights,
        "jobs": asked.jobs,
        "cache": asked.cache,
    }
    if asked.protocol == "style":
        from triportrait.evaluation.style import StyleOptions, run_style

        run_style(StyleOptions(clips, out, asked.seed, asked.limit, asked.cache, asked.voice_driver), progress=progress)
        return
    voice: dict[str, Any] = {"seconds": asked.seconds, "head_motion": asked.head_motion, "seed": asked.seed}
    if asked.protocol == "reenact":
        from triportrait.evaluation.reenact import ReenactOptions, run_reenact

        run_reenact(ReenactOptions(**shared, plots=asked.plots), progress=progress)
    elif asked.protocol == "personal":
        from triportrait.evaluation.personal import ABLATIONS, ROWS, PersonalOptions, run_personal

        shared["avatars"] = asked.rows or ROWS
        special: dict[str, Any] = {"given": asked.given, "given_clips": asked.given_clips, "judged_clips": asked.judged_clips}
        # What stands in the report is what was used; what was set without use is handed on, to be refused.
        has_network = any(row in ABLATIONS for row in asked.rows)
        special |= {name: getattr(asked, name) for name in ("learn", "seed") if has_network or getattr(asked, name) != _BELONGS[name][1]}
        run_personal(PersonalOptions(**shared, plots=False, **special), teacher_of=teacher_of, progress=progress)
    elif asked.protocol == "cross":
        from triportrait.evaluation.cross import CrossOptions, run_cross

        run_cross(CrossOptions(**shared, plots=asked.plots), progress=progress)
    elif asked.protocol == "audio":
        from triportrait.evaluation.audio import AudioOptions, run_audio

        run_audio(AudioOptions(**shared, **voice, plots=asked.plots, pose=asked.pose), progress=progress)
    else:
        from triportrait.evaluation.tables import TableOptions, run_table

        variants = {}
        for text in asked.variant:
            row, found, avatar = text.partition("=")
            if not found or not avatar:
                raise OptionError(f"--variant is {text!r}; write ROW=AVATAR, such as concatenation=oneshot.")
            variants[row] = avatar
        run_table(TableOptions(**shared, **voice, number=str(asked.number), variants=variants), progress=progress)


def _avatars(asked: Asked) -> tuple[str, ...]:
    return tuple(name.strip() for name in asked.avatar.split(",") if name.strip())


def _seams(asked: Asked, progress: Callable[[Progress], None] | None) -> str:
    from triportrait.evaluation.seams import SeamOptions, drawn_portraits, run_seams

    if asked.portraits is None or asked.out is None:
        missing = "--portraits FOLDER, a folder of photographs" if asked.portraits is None else "-o REPORT.json, the report to write"
        raise OptionError(f"evaluate seams needs {missing}.")
    options = SeamOptions(asked.portraits, _avatars(asked), asked.out, asked.limit, asked.seed, asked.sheets, asked.jobs)
    read = [path for item in drawn_portraits(asked.portraits, asked.limit, asked.seed) for path in item.files]
    for target in (asked.out, asked.out.with_suffix(".md")):
        refuse_inputs(target, [*read, asked.portraits / "index.csv"])
    run_seams(options, progress=progress)
    return asked.out.with_suffix(".md").read_text(encoding="utf-8")


def _opinions(asked: Asked) -> str:
    if (asked.videos is None) == (not asked.answers):
        raise OptionError("evaluate opinions takes --videos FOLDER to make a rating page, or --answers FILE.csv to sum up what came back.")
    if asked.videos is not None:
        from triportrait.evaluation.opinion_kit import make_kit

        if asked.out is None or asked.kit is not None:
            raise OptionError("evaluate opinions --videos needs -o KIT, the folder to make; --kit belongs to --answers.")
        return make_kit(asked.videos, asked.out, asked.seed)
    from triportrait.evaluation.opinion_answers import opinions_markdown, run_opinions

    if asked.seed:
        raise OptionError("--seed does nothing with evaluate opinions --answers; it belongs to --videos.")
    return opinions_markdown(run_opinions(asked.answers, asked.kit, asked.out))
