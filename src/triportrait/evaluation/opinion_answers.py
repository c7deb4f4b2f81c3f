"""Mean opinions and their 95 % intervals from the files that raters sent back (Table 3, appendix D.2).

A rater's opinion of a method is the mean of the scores that he gave to its videos, because the scores of one person are not independent.
Over R raters with opinions x the mean opinion is mean(x), and its interval mean(x) ± t(0.975, R - 1) s / sqrt(R), where s is the standard
deviation of x with R - 1 in its denominator and t the quantile of Student's distribution.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.errors import MediaError
from triportrait.evaluation.opinion_kit import decoded, read_kit
from triportrait.evaluation.printed import OPINIONS
from triportrait.evaluation.report import write_report
from triportrait.files import check_readable, refuse_inputs

log = logging.getLogger(__name__)

FORMAT = "triportrait-opinion-scores-1"
COLUMNS = ("kit", "rater", "order", "video", "code", *OPINIONS)
#: A file of answers has some hundred rows.
_LARGEST_BYTES = 8 << 20
INTERVAL = (
    "Each rater's scores of a method are averaged first; over R raters the interval is mean ± t(0.975, R - 1) s / sqrt(R), s being the "
    "standard deviation of the raters' means."
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one rater said of one video.

    Args:
        kit: the kit's number.
        rater: name or number.
        video: its neutral name.
        method, clip: what it is.
        scores: 1 to 5 per question; a question that was left out is missing.
    """

    kit: str
    rater: str
    video: str
    method: str
    clip: str
    scores: dict[str, int]


def read_answers(path: Path) -> list[Answer]:
    """One file of answers.

    Raises:
        MediaError: it cannot be read, or is no file that the page saved; the sentence names the line.
    """
    check_readable(path)
    if path.stat().st_size > _LARGEST_BYTES:
        raise MediaError(f"'{path}' is too large for a file of answers; give the CSV file that the page saved.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error):
        raise MediaError(f"'{path}' is no file of answers (not CSV in UTF-8); give the file that the page saved.") from None
    if not rows or tuple(rows[0]) != COLUMNS:
        raise MediaError(f"'{path}' is no file of answers: its first line is not {','.join(COLUMNS)}; give the file that the page saved.")
    answers = list(_rows(path, rows[1:]))
    if not answers:
        raise MediaError(f"'{path}' holds no answer; ask for the file again.")
    return answers


def _rows(path: Path, rows: Sequence[Sequence[str]]) -> Iterator[Answer]:
    for line, row in enumerate(rows, 2):
        if not row:
            continue
        where = f"'{path}', line {line}"
        if len(row) != len(COLUMNS):
            raise MediaError(f"{where}: {len(row)} cells instead of {len(COLUMNS)}; ask for the file again.")
        cells = dict(zip(COLUMNS, (cell.strip() for cell in row), strict=True))
        if not (cells["kit"] and cells["rater"] and cells["video"]):
            raise MediaError(f"{where}: kit, rater or video is empty; ask for the file again.")
        try:
            method, clip = decoded(cells["code"])
        except ValueError:
            raise MediaError(f"{where}: the code of the video is damaged; ask for the file again.") from None
        scores = {}
        for key in OPINIONS:
            if cells[key] and cells[key] not in ("1", "2", "3", "4", "5"):
                raise MediaError(f"{where}: {key} is {cells[key]!r}; scores are whole numbers from 1 to 5.")
            if cells[key]:
                scores[key] = int(cells[key])
        yield Answer(cells["kit"], cells["rater"], cells["video"], method, clip, scores)


def run_opinions(files: Sequence[Path], kit: Path | None = None, out: Path | None = None) -> dict[str, Any]:
    """Means and intervals per method and question; written as JSON and Markdown where ``out`` says.

    Args:
        files: what the page saved, one or more per rater.
        kit: the kit's folder, against which the answers are checked; without it the videos that anybody saw are taken for all.
        out: the report.

    Raises:
        MediaError: see :func:`read_answers`; or answers of different kits.
        OptionError: ``kit`` is none.
        OutputError: the report cannot be written, or would take the place of an input.
    """
    if out is not None:
        for target in (out, out.with_suffix(".md")):
            refuse_inputs(target, [*files, kit])
    known = None if kit is None else read_kit(kit)
    answers: list[Answer] = []
    number = None if known is None else known["kit"]
    videos = {} if known is None else {video["id"]: decoded(video["code"]) for video in known["videos"]}
    for file in files:
        for answer in read_answers(file):
            number = number or answer.kit
            place = videos.get(answer.video) if known is not None else videos.setdefault(answer.video, (answer.method, answer.clip))
            if answer.kit != number or place != (answer.method, answer.clip):
                raise MediaError(f"'{file}' answers another kit ({answer.kit}, not {number}); sum up one kit at a time.")
            answers.append(answer)
    latest, remarks = _counted_once(answers)
    remarks += _incomplete(latest, videos)
    for remark in remarks:
        log.warning("%s", remark)
    methods = sorted({method for method, _ in videos.values()})
    raters = list(dict.fromkeys(answer.rater for answer in answers))
    report = {
        "format": FORMAT,
        "kit": number,
        "raters": raters,
        "videos": len(videos),
        "interval": INTERVAL,
        "remarks": remarks,
        "methods": {method: {key: _opinion(latest, method, key) for key in OPINIONS} for method in methods},
    }
    if out is not None:
        write_report(out, report, opinions_markdown(report))
    return report


def _counted_once(answers: Sequence[Answer]) -> tuple[dict[tuple[str, str], Answer], list[str]]:
    """The last answer per rater and video, and a sentence per rater who gave several."""
    latest: dict[tuple[str, str], Answer] = {}
    repeated: dict[str, set[str]] = {}
    for answer in answers:
        if (answer.rater, answer.video) in latest:
            repeated.setdefault(answer.rater, set()).add(answer.video)
        latest[answer.rater, answer.video] = answer
    return latest, [f"{rater} answered {_videos(len(found))} more than once; the last answer counts" for rater, found in repeated.items()]


def _incomplete(latest: dict[tuple[str, str], Answer], videos: dict[str, tuple[str, str]]) -> list[str]:
    """A sentence per rater who left something out."""
    remarks = []
    for rater in dict.fromkeys(rater for rater, _ in latest):
        given = [latest[rater, video].scores if (rater, video) in latest else {} for video in videos]
        missing = sum(len(scores) < len(OPINIONS) for scores in given)
        if missing:
            remarks.append(f"{rater} left {missing} of {_videos(len(videos))} without all scores; what was given counts")
    return remarks


def _videos(count: int) -> str:
    return "1 video" if count == 1 else f"{count} videos"


def _opinion(latest: dict[tuple[str, str], Answer], method: str, key: str) -> dict[str, Any]:
    """Mean opinion of a method and half the width of its 95 % interval; see the module."""
    from scipy.special import stdtrit

    by_rater: dict[str, list[int]] = {}
    for answer in latest.values():
        if answer.method == method and key in answer.scores:
            by_rater.setdefault(answer.rater, []).append(answer.scores[key])
    opinions = np.array([np.mean(scores) for scores in by_rater.values()])
    count = len(opinions)
    half = float(stdtrit(count - 1, 0.975) * opinions.std(ddof=1) / math.sqrt(count)) if count > 1 else None
    reason = None if count > 1 else "nobody gave a score" if count == 0 else "one rater has no interval"
    return {
        "mean": float(opinions.mean()) if count else None,
        "half_width": half,
        "raters": count,
        "scores": sum(map(len, by_rater.values())),
        "reason": reason,
    }


def opinions_markdown(report: dict[str, Any]) -> str:
    """The report of :func:`run_opinions` as Markdown."""

    def cell(opinion: dict[str, Any]) -> str:
        if opinion["mean"] is None:
            return "–"
        return f"{opinion['mean']:.2f}" + ("" if opinion["half_width"] is None else f" ± {opinion['half_width']:.2f}")

    raters = len(report["raters"])
    people = "1 rater" if raters == 1 else f"{raters} raters"
    lines = ["# Mean opinions, 1 to 5, with 95 % intervals", "", f"{people}, {_videos(report['videos'])}, kit {report['kit']}.", ""]
    lines += ["| method | " + " | ".join(OPINIONS.values()) + " |", "|---|" + "---:|" * len(OPINIONS)]
    for method, opinions in report["methods"].items():
        lines.append(f"| {method} | " + " | ".join(cell(opinions[key]) for key in OPINIONS) + " |")
    lines += ["", report["interval"]]
    reasons = {opinion["reason"] for found in report["methods"].values() for opinion in found.values() if opinion["reason"]}
    lines += ["", *(f"- {remark}." for remark in [*report["remarks"], *sorted(reasons)])] if report["remarks"] or reasons else []
    return "\n".join([*lines, "", "What the paper prints: `triportrait evaluate table 3`."]) + "\n"
