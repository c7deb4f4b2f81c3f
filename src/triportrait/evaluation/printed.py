"""The tables that the Real3D-Portrait paper prints, cell by cell, and those of them that no protocol measures as reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from textwrap import wrap
from typing import Any

from triportrait.evaluation.report import BETTER_ARROWS, BY_KEY, write_report

FORMAT = "triportrait-printed-table-1"
GROUPS = {"same": "same identity", "cross": "cross identity", "audio": "audio-driven"}
#: The three questions of Table 3, in the paper's order.
OPINIONS = {"identity": "identity preservation", "visual": "visual quality", "lip_sync": "lip synchronization"}
_PROPERTIES = {
    "one_shot": "one-shot",
    "aware_of_3d": "3D-aware",
    "natural_torso": "natural torso",
    "switchable_background": "switchable background",
    "driven_by": "driven by",
}
#: Digits after the point of most printed figures; the rest stands in the file.
_DECIMALS = 3
_PAGE_WIDTH = 140
#: Where our own figures for a table come from that no protocol of 'evaluate table' measures.
_OURS = {
    "opinions": "Opinions are asked of people: 'triportrait evaluate opinions --videos FOLDER -o KIT' makes a rating page with the paper's "
    "three questions, and '--answers *.csv' gives means and intervals.",
    "properties": "The paper states these properties; nothing is measured.",
    "sizes": "The counts of ours are those of the networks that 'triportrait weights describe' lists.",
}


@lru_cache(maxsize=1)
def printed() -> dict[str, Any]:
    """The paper's figures, with where they were read."""
    return json.loads(resources.files("triportrait.evaluation").joinpath("printed_tables.json").read_text(encoding="utf-8"))


def is_measured(number: str) -> bool:
    """Whether a table's columns are figures that our protocols measure."""
    return printed()["tables"][number]["kind"] == "measured"


def printed_cell(value: float, key: str) -> str:
    """A figure with the digits that the paper prints."""
    return f"{value:.{printed()['decimals'].get(key, _DECIMALS)}f}"


def table_head(columns: Mapping[str, Sequence[str]], as_printed: bool = False) -> list[str]:
    """The two first Markdown lines of a table of figures.

    Args:
        columns: the metrics of each protocol.
        as_printed: name them as the paper does, which says less than our names.
    """
    words = printed()["printed_columns"] if as_printed else {}
    keys = [(group, key) for group, found in columns.items() for key in found]
    titles = [f"{words.get(key, BY_KEY[key].label)} ({GROUPS[group]}){BETTER_ARROWS[BY_KEY[key].better]}" for group, key in keys]
    return [_row(["row", *titles]), "|---|" + "---:|" * len(titles)]


def printed_rows(table: Mapping[str, Any], mark: str = "") -> list[str]:
    """The Markdown lines of a table's printed figures; ``mark`` stands behind each name."""
    names = table.get("printed_names", {})
    return [
        _row(
            [
                f"*{names.get(row, row)}{mark}*",
                *(printed_cell(entry[group][key], key) for group, keys in table["columns"].items() for key in keys),
            ]
        )
        for row, entry in table["rows"].items()
    ]


def printed_lines(number: str) -> list[str]:
    """A printed table, whatever its kind, as Markdown lines."""
    table = printed()["tables"][number]
    if table["kind"] == "measured":
        lines = [*table_head(table["columns"], as_printed=True), *printed_rows(table)]
    elif table["kind"] == "opinions":
        lines = [_row(["method", *OPINIONS.values()]), "|---|" + "---:|" * len(OPINIONS)]
        for method, entry in table["rows"].items():
            lines.append(_row([method, *(f"{mean:.2f} ± {half:.2f}" for mean, half in (entry[key] for key in OPINIONS))]))
    elif table["kind"] == "properties":
        words = {True: "yes", False: "no", None: "N/A"}
        lines = [_row(["method", *_PROPERTIES.values()]), "|---|" + "---|" * len(_PROPERTIES)]
        for method, entry in table["rows"].items():
            lines.append(_row([method, *(words.get(entry[key], entry[key]) for key in _PROPERTIES)]))
    else:
        lines = ["| network | setting | printed |", "|---|---|---:|"]
        for entry in table["rows"].values():
            lines.append(_row([entry["printed_name"], "parameters, in millions", f"{entry['millions']:g}"]))
            lines += [_row(["", setting, value]) for setting, value in entry["settings"].items()]
    return [*lines, *(["", table["note"]] if "note" in table else [])]


def run_printed(number: str, out: Path | None = None) -> dict[str, Any]:
    """A table that no protocol measures (3, 5, 6) as a report: ``{"printed", "ours", ...}``; written where ``out`` says.

    Raises:
        OutputError: it cannot be written.
    """
    table = printed()["tables"][number]
    report: dict[str, Any] = {
        "format": FORMAT,
        "table": number,
        "title": table["title"],
        "paper": printed()["paper"],
        "provenance": printed()["provenance"],
        "printed": table["rows"],
        "ours": _our_sizes() if table["kind"] == "sizes" else None,
        "remark": _OURS[table["kind"]],
    }
    if out is not None:
        write_report(out, report, printed_markdown(report))
    return report


def _our_sizes() -> dict[str, float]:
    """Parameters of our networks of the paper's preset, in millions."""
    from triportrait.presets import PRESETS, parameter_counts

    return {part: count / 1e6 for part, count in parameter_counts(PRESETS["paper"]()).items()}


def printed_markdown(report: Mapping[str, Any]) -> str:
    """The report of :func:`run_printed` as Markdown."""
    number = report["table"]
    lines = [f"# Table {number}: {report['title']}", "", f"As printed in {report['paper']}.", "", *printed_lines(number)]
    if report["ours"] is not None:
        lines += ["", "## Parameters in millions", "", "| network | printed | ours |", "|---|---:|---:|"]
        for part, entry in report["printed"].items():
            lines.append(_row([entry["printed_name"], f"{entry['millions']:g}", f"{report['ours'][part]:.3f}"]))
    return "\n".join([*lines, "", report["remark"], "", report["provenance"]]) + "\n"


def all_printed_markdown() -> str:
    """Every printed table as one page, for docs/results."""
    paper = printed()
    text = (
        f"{paper['paper']}. {paper['provenance']} The figures were measured on {paper['data']}. `triportrait evaluate table N` puts "
        "measured rows of ours above them."
    )
    lines = ["# What the Real3D-Portrait paper prints", "", text]
    for number, table in paper["tables"].items():
        lines += ["", f"## Table {number}: {table['title']}", "", *printed_lines(number)]
    lines = [piece for line in lines for piece in ([line] if line.startswith("|") else wrap(line, _PAGE_WIDTH) or [""])]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
