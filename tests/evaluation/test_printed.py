"""The printed tables against the paper's own text, and how they are shown."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import ROOT
from triportrait.cli import main
from triportrait.evaluation.printed import OPINIONS, all_printed_markdown, printed, printed_cell
from triportrait.real3d.networks import TABLE_6

TABLES = printed()["tables"]
#: How the paper's text names our rows, where it names them otherwise.
NAMES = {
    "1": {"Real3D-Portrait": "Ours (VD)"},
    "2": {"Real3D-Portrait": "Ours (AD)"},
    "4": TABLES["4"]["printed_names"],
    "3": {"Face-vid2vid": "Face-v2v", "Real3D-Portrait, video-driven": "ours (VD)", "Real3D-Portrait, audio-driven": "ours (AD)"},
}


@pytest.fixture(scope="module")
def tables(shared: Path) -> dict[str, str]:
    """The text of each table, from its caption to the next paragraph behind its rows."""
    text = (shared / "seeds" / "002_94b58dc6d156e630.txt").read_text(encoding="utf-8")
    parts = re.split(r"^Table (\d):", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def row_of(text: str, name: str, cells: int) -> list[str]:
    """The cells behind a row's name; a rendering of formulas may have put each on a line of its own."""
    begin = re.search(rf"^{re.escape(name)}[^\t\n]*\t", text, flags=re.MULTILINE)
    assert begin, name
    return [cell.strip() for cell in re.split(r"[\t\n]+", text[begin.end() :].lstrip("\n"))[:cells]]


@pytest.mark.parametrize("number", ["1", "2", "4", "7"])
def test_every_measured_cell_is_the_papers(tables: dict[str, str], number: str) -> None:
    table = TABLES[number]
    for row, entry in table["rows"].items():
        shown = [printed_cell(entry[group][key], key) for group, keys in table["columns"].items() for key in keys]
        assert row_of(tables[number], NAMES.get(number, {}).get(row, row), len(shown)) == shown, row


def test_every_method_of_the_paper_has_its_row(tables: dict[str, str]) -> None:
    for number in ("1", "2", "4", "7"):
        body = tables[number].split("AKD" if number == "1" else "APD" if number in "47" else "Sync", 1)[1]
        named = re.findall(r"^([A-Z\w][\w/. ()\-&,]*?)(?: \([A-Z][^\t]*\d{4}\) ?)?\t", body, flags=re.MULTILINE)
        ours = [NAMES.get(number, {}).get(row, row) for row in TABLES[number]["rows"]]
        assert sorted(named) == sorted(ours), number


def test_every_opinion_is_the_papers(tables: dict[str, str]) -> None:
    head = tables["3"].split("Methods\t", 1)[1].split("\n", 1)[0].split("\t")
    assert head == [NAMES["3"].get(method, method) for method in TABLES["3"]["rows"]]
    body = tables["3"].split("4.4Ablation", 1)[0]
    for key, label in (("identity", "ID. Preserving"), ("visual", "Visual Quality"), ("lip_sync", "Lip Sync.")):
        figures = re.findall(r"\d\.\d\d", body.split(label, 1)[1])[: 2 * len(head)]
        assert figures == [f"{value:.2f}" for entry in TABLES["3"]["rows"].values() for value in entry[key]]


def test_every_property_is_the_papers(tables: dict[str, str]) -> None:
    # The text's tick and cross came through a wrong encoding; which is which, the paper's own row and the first 2D method say.
    yes = row_of(tables["5"], "Real3D-Portrait", 1)[0]
    no = row_of(tables["5"], "Face-vid2vid", 2)[1]
    assert yes != no
    for method, entry in TABLES["5"]["rows"].items():
        *marks, driven_by = row_of(tables["5"], method, 5)
        assert [{yes: True, no: False, "N/A": None}[mark] for mark in marks] == list(entry.values())[:4], method
        assert driven_by == entry["driven_by"]
    assert len(re.findall(r"\t(?:video|audio|audio/video)$", tables["5"], flags=re.MULTILINE)) == len(TABLES["5"]["rows"])


def test_every_size_is_the_papers(tables: dict[str, str]) -> None:
    body = tables["6"].split("C.2Training", 1)[0]
    settings = 0
    for part, entry in TABLES["6"]["rows"].items():
        assert f"{entry['printed_name']}" in body and float(TABLE_6[part][1]) == entry["millions"]
        section = body.split(entry["printed_name"], 1)[1]
        assert float(re.match(r"\s+\(([\d.]+)M\)", section)[1]) == entry["millions"]
        for setting, value in entry["settings"].items():
            # The paper misspells two words.
            label = setting.replace("neighbours", "neightbors").replace("Discriminator", "Discrimnator")
            found = section.split(f"{label}\t", 1)[1]
            printed_value = re.sub(r"\s*Ã—\s*", " x ", found.lstrip("\n")).split("\n", 1)[0]
            assert printed_value == value, setting
            settings += 1
    assert settings == body.split("Value\n", 1)[1].replace("M)\t", "M) ").count("\t")


def test_the_page_of_results_is_what_the_file_says() -> None:
    page = (ROOT / "docs" / "results" / "paper_tables.md").read_text(encoding="utf-8")
    assert page == all_printed_markdown()
    assert "| *Face-vid2vid* | 0.078 | 16.47 |" in page and "| *w/ 40M params* | 0.725 | 45.48 | 0.140 | 0.026 |" in page
    assert "| HiDe-NeRF | yes | yes | no | N/A | video |" in page


@pytest.mark.parametrize("number", ["3", "5", "6"])
def test_tables_that_are_not_measured_are_shown_as_printed(number: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "table", number]) == 0
    text = capsys.readouterr().out
    shown = {"3": "4.08 ± 0.31", "5": "| RAD-NeRF | no | yes | yes | yes | audio |", "6": "| I2P Model | 87 | 87."}[number]
    assert shown in text and TABLES[number]["title"] in text
    if number == "3":
        assert "triportrait evaluate opinions" in text and all(question in text for question in OPINIONS.values())
    assert main(["evaluate", "table", number, "-o", str(tmp_path / "table.json")]) == 0
    report = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert report["printed"] == TABLES[number]["rows"] and (tmp_path / "table.md").read_text(encoding="utf-8").strip() in text.strip()
    assert (report["ours"] is None) == (number != "6")


def test_a_printed_table_takes_no_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "table", "5", "--clips", str(tmp_path)]) == 2
    assert "--clips does nothing with evaluate table 5" in capsys.readouterr().err
    assert main(["evaluate", "table", "7"]) == 2
    assert "--clips" in capsys.readouterr().err
