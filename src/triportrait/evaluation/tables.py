"""Tables 1, 2, 4 and 7 of Real3D-Portrait: our rows beside the printed figures, with what cannot be compared said plainly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from triportrait.errors import OptionError
from triportrait.evaluation.audio import AudioOptions, run_audio
from triportrait.evaluation.cross import CrossOptions, run_cross
from triportrait.evaluation.parts import ActingTools
from triportrait.evaluation.printed import is_measured, printed, printed_rows, table_head
from triportrait.evaluation.reenact import ReenactOptions, run_reenact
from triportrait.evaluation.report import BY_KEY, write_report
from triportrait.evaluation.running import Progress, ProtocolOptions

FORMAT = "triportrait-table-1"

NOT_COMPARABLE = (
    "Printed figures were measured on {data}; ours on the clips named below. Rows of different data do not rank methods.",
    "LPIPS: the paper does not name its network; ours in that column is AlexNet's. AKD: the paper's is over the landmarks of another "
    "tracker, ours over MediaPipe's 478 at 256 pixels.",
    "AED and APD: the paper's are distances of a learned face model's coefficients (its own estimator and scale), ours mean absolute "
    "differences of 44 expression curves and of three angles in radians, fitted to landmarks. Compare ours with ours only.",
    "FID depends on the number of pictures (ours: see fid_pictures in the JSON of the runs; below some thousands it is biased upwards).",
    "CSIM depends on the recognition network and the crop; those of the printed figures are not known here.",
    "Sync is the confidence of SyncNet (LSE-C); our face crops come from MediaPipe instead of S3FD.",
)

NEEDS_TRAINING = "needs a model trained for this row at the paper's scale; give --variant ROW=AVATAR once there is one"


@dataclass(frozen=True, slots=True)
class TableOptions(ProtocolOptions):
    """What ``triportrait evaluate table N`` asks for, besides what every protocol does.

    The reports of the runs lie beside ``out`` (``<out>_same.json``, ``<out>_cross.json``, ``<out>_audio.json``).

    Args:
        number: 1, 2, 4 or 7.
        seconds, head_motion, seed: for table 2, see ``AudioOptions``.
        variants: for table 4: row name -> avatar that stands for it (as ``--avatar`` takes it).
    """

    number: str = "1"
    seconds: float = 10.0
    head_motion: Path | None = None
    seed: int = 0
    variants: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ProtocolOptions.__post_init__(self)
        if self.number not in printed()["tables"] or not is_measured(self.number):
            numbers = [number for number in printed()["tables"] if is_measured(number)]
            raise OptionError(f"table {self.number} is none that clips are measured for; use {', '.join(numbers)}.")
        known = list(printed()["tables"]["4"]["rows"])
        if self.head_motion is not None and self.number != "2":
            raise OptionError(f"--head-motion does nothing with evaluate table {self.number}; it belongs to table 2.")
        for row in self.variants:
            if self.number != "4" or row not in known:
                raise OptionError(f"--variant {row}=... is no row of table 4; its rows are {', '.join(known)}.")


def run_table(
    options: TableOptions, *, tools: ActingTools | None = None, progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Run the table's protocols (each resumes), write JSON and Markdown, and return what the JSON holds.

    Raises:
        MediaError, OutputError, TriPortraitError: as the protocols.
    """
    table = printed()["tables"][options.number]
    avatars = tuple(dict.fromkeys(options.variants.values())) if options.number == "4" else options.avatars
    runs: dict[str, dict[str, Any]] = {}
    for protocol in table["columns"] if avatars else ():
        out = options.out.with_name(f"{options.out.stem}_{protocol}.json")
        shared = {name.name: getattr(options, name.name) for name in fields(ProtocolOptions)} | {"avatars": avatars, "out": out}
        if protocol == "same":
            runs[protocol] = run_reenact(ReenactOptions(**shared), tools=None if tools is None else tools.base, progress=progress)
        elif protocol == "cross":
            runs[protocol] = run_cross(CrossOptions(**shared), tools=tools, progress=progress)
        else:
            runs[protocol] = run_audio(AudioOptions(**shared, **_voice(options)), tools=tools, progress=progress)
    report = {
        "format": FORMAT,
        "table": options.number,
        "title": table["title"],
        "paper": printed()["paper"],
        "provenance": printed()["provenance"],
        "not_comparable": [text.format(data=printed()["data"]) for text in NOT_COMPARABLE],
        "clips": str(options.clips),
        "columns": table["columns"],
        "ours": _ours(options, table, runs),
        "printed": table["rows"],
        "note": table.get("note", ""),
    }
    write_report(options.out, report, table_markdown(report))
    return report


def _voice(options: TableOptions) -> dict[str, Any]:
    return {"seconds": options.seconds, "head_motion": options.head_motion, "seed": options.seed}


def _ours(options: TableOptions, table: Mapping[str, Any], runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Our rows: per protocol values and, for those that are missing, reasons."""
    if options.number != "4":
        rows: dict[str, str | None] = {name: name for name in options.avatars}
    else:
        rows = {row: options.variants.get(row) for row in table["rows"]}
    result: dict[str, Any] = {}
    for row, avatar in rows.items():
        result[row] = {"avatar": avatar}
        for protocol, columns in table["columns"].items():
            if avatar is None:
                values, reasons = dict.fromkeys(columns), dict.fromkeys(columns, NEEDS_TRAINING)
            else:
                mean = runs[protocol]["mean"][avatar]
                values = {key: mean["metrics"].get(key) for key in columns}
                reasons = {key: _reason(runs[protocol], avatar, key) for key, value in values.items() if value is None}
            result[row][protocol] = {"metrics": values, "reasons": reasons}
    return result


def _reason(run: Mapping[str, Any], avatar: str, key: str) -> str:
    failed = (clip["avatars"][avatar] for clip in run["clips"].values() if clip["status"] == "ok")
    told = next((entry["reason"] for entry in failed if entry["status"] != "ok"), None)
    return told or run["mean"][avatar]["reasons"].get(key, "no clip gave a value")


def table_markdown(report: Mapping[str, Any]) -> str:
    """A table's report as Markdown."""
    table = printed()["tables"][report["table"]]
    lines = [
        f"# Table {report['table']}: {report['title']}",
        "",
        f"Ours on the clips of `{report['clips']}` above the figures printed in {report['paper']}.",
        "",
        *table_head(report["columns"]),
    ]
    footnotes: dict[str, str] = {}

    def cell(value: float | None, key: str, reason: str) -> str:
        if value is not None:
            return f"{value:.{BY_KEY[key].decimals}f}"
        return f"–[{footnotes.setdefault(reason, str(len(footnotes) + 1))}]"

    for row, entry in report["ours"].items():
        cells = [
            cell(entry[protocol]["metrics"][key], key, entry[protocol]["reasons"].get(key, ""))
            for protocol, columns in report["columns"].items()
            for key in columns
        ]
        name = f"{row} (ours)" + (f", {entry['avatar']}" if entry["avatar"] not in (None, row) else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += printed_rows(table, " (printed, other data)")
    lines += ["", *(f"[{number}] {reason}." for reason, number in footnotes.items())] if footnotes else []
    if "meanings" in table:
        names = table["printed_names"]
        lines += ["", "## The rows", "", *(f"- **{row}** ({names[row]} in print): {text}." for row, text in table["meanings"].items())]
    lines += ["", "## What is not comparable", "", *(f"- {text}" for text in report["not_comparable"])]
    lines += ["", "## The printed figures", "", " ".join(text for text in (report["provenance"], report["note"]) if text)]
    return "\n".join(lines) + "\n"
