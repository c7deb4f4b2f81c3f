"""Evaluation results as strict JSON and as Markdown, and the means and tables in them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triportrait.errors import OutputError
from triportrait.evaluation.metrics import ROTATION_RANGES_DEG

UNMEASURED = "not measurable on these frames"


@dataclass(frozen=True, slots=True)
class Metric:
    """How a figure is shown.

    Args:
        key: its name in JSON.
        label: its heading in tables.
        decimals: digits after the point.
        better: ``"lower"``, ``"higher"``, or ``"one"`` for ratios to the real video.
        meaning: one sentence with the unit.
    """

    key: str
    label: str
    decimals: int
    better: str
    meaning: str


METRICS: tuple[Metric, ...] = (
    Metric("l1", "L1", 4, "lower", "Mean absolute difference of the pictures, 0..1."),
    Metric("psnr_db", "PSNR dB", 2, "higher", "Peak signal-to-noise ratio."),
    Metric("ssim", "SSIM", 3, "higher", "Structural similarity, 11 x 11 Gaussian window."),
    Metric("ms_ssim", "MS-SSIM", 3, "higher", "Structural similarity over five scales."),
    Metric("akd_px", "AKD px", 2, "lower", "Mean distance of the 478 landmarks, pixels of the evaluated side."),
    Metric("mouth_distance_px", "mouth KD px", 2, "lower", "The same over the 40 points of the lips."),
    Metric("mouth_l1", "mouth L1", 4, "lower", "L1 inside the hull of the real lips, grown by 15 % of their width."),
    Metric("lip_opening_error", "lip error", 4, "lower", "Error of the lip opening over the face's height."),
    Metric("eye_opening_error", "eye error", 4, "lower", "Error of the eye opening over the face's height."),
    Metric("jitter_px", "jitter px", 3, "lower", "Mean second temporal difference of the landmarks."),
    Metric("jitter_ratio", "jitter ratio", 2, "one", "Jitter over the real video's own."),
    Metric("flicker", "flicker", 4, "lower", "Mean change from frame to frame where the real video is still, 0..1."),
    Metric("flicker_ratio", "flicker ratio", 2, "one", "Flicker over the real video's own."),
    *(
        Metric(f"head_psnr_{low}_{high}_db", f"head PSNR {low}-{high}°", 2, "higher",
               f"PSNR over the head in frames turned {low} to {high} degrees from the source.")
        for low, high in ROTATION_RANGES_DEG
    ),
    Metric("faces_found", "faces", 3, "higher", "Share of the frames in which the tracker found a face."),
)  # fmt: skip

MAIN_COLUMNS = (
    "l1", "psnr_db", "ssim", "ms_ssim", "akd_px", "mouth_distance_px", "mouth_l1", "lip_opening_error",
    "eye_opening_error", "jitter_ratio", "flicker_ratio",
)  # fmt: skip
ROTATION_COLUMNS = tuple(f"head_psnr_{low}_{high}_db" for low, high in ROTATION_RANGES_DEG)
BY_KEY = {metric.key: metric for metric in METRICS}


def strict_metrics(values: Mapping[str, float], reasons: Mapping[str, str]) -> dict[str, Any]:
    """``{"metrics": ..., "reasons": ...}`` in which what is not finite has become None with a reason."""
    finite = {key: float(value) if math.isfinite(value) else None for key, value in values.items()}
    return {
        "metrics": finite,
        "reasons": {key: reasons.get(key, UNMEASURED) for key, value in finite.items() if value is None},
    }


def mean_over_clips(clips: Mapping[str, Mapping[str, Any]], avatars: Sequence[str]) -> dict[str, Any]:
    """Means per avatar over the clips in which every avatar succeeded, so that the rows compare the same frames.

    Head PSNR by rotation is weighted by the number of frames in the class (pooled over clips); everything else counts
    each clip once.

    Args:
        clips: the report's ``clips``.
        avatars: names.

    Returns:
        Per avatar ``{"clips", "metrics", "reasons", "frames_by_rotation"}``.
    """
    shared = [
        clip["avatars"]
        for clip in clips.values()
        if clip["status"] == "ok" and all(clip["avatars"].get(name, {}).get("status") == "ok" for name in avatars)
    ]
    result: dict[str, Any] = {}
    for name in avatars:
        rows = [entry[name] for entry in shared]
        frames = {f"{low}_{high}": 0 for low, high in ROTATION_RANGES_DEG}
        for row in rows:
            for bin_name, count in row["frames_by_rotation"].items():
                frames[bin_name] += count
        means = {}
        for metric in METRICS:
            weighted = metric.key in ROTATION_COLUMNS
            bin_name = metric.key.removeprefix("head_psnr_").removesuffix("_db")
            pairs = [
                (row["metrics"][metric.key], row["frames_by_rotation"][bin_name] if weighted else 1)
                for row in rows
                if row["metrics"].get(metric.key) is not None
            ]
            weight = sum(count for _, count in pairs)
            means[metric.key] = sum(value * count for value, count in pairs) / weight if weight else math.nan
        reasons = dict.fromkeys(means, "no clip gave a value")
        result[name] = {"clips": len(rows), **strict_metrics(means, reasons), "frames_by_rotation": frames}
    return result


def comparison_table(rows: Mapping[str, Mapping[str, float | None]], columns: Sequence[str]) -> list[str]:
    """Markdown lines: one row per name with its metrics, the best of each column bold, "–" where there is none."""
    metrics = [BY_KEY[key] for key in columns]
    best: dict[str, str] = {}
    for metric in metrics:
        shown = [f"{row[metric.key]:.{metric.decimals}f}" for row in rows.values() if row.get(metric.key) is not None]
        if shown and metric.better != "one" and len(rows) > 1:
            best[metric.key] = (min if metric.better == "lower" else max)(shown, key=float)
    arrows = {"lower": " ↓", "higher": " ↑", "one": " →1"}
    lines = [
        "| avatar | " + " | ".join(metric.label + arrows[metric.better] for metric in metrics) + " |",
        "|---|" + "---:|" * len(metrics),
    ]
    for name, row in rows.items():
        cells = []
        for metric in metrics:
            value = row.get(metric.key)
            text = "–" if value is None else f"{value:.{metric.decimals}f}"
            cells.append(f"**{text}**" if text == best.get(metric.key) else text)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def reenact_markdown(report: Mapping[str, Any]) -> str:
    """The report of :func:`triportrait.evaluation.reenact.run_reenact` as Markdown."""
    options, clips, mean = report["options"], report["clips"], report["mean"]
    good = [name for name, clip in clips.items() if clip["status"] == "ok"]
    shared = max((entry["clips"] for entry in mean.values()), default=0)
    lines = [
        "# Same-identity reenactment",
        "",
        f"First frame → whole clip; one frame in {options['every']} at {options['side_px']} px; "
        f"{len(good)} of {len(clips)} clips measured, means over the {shared} in which every avatar succeeded. "
        f"TriPortrait {report['triportrait']}.",
    ]
    if not report["complete"]:
        lines += ["", "**Unfinished: the run was interrupted or is still going on.**"]
    if shared:
        lines += ["", "## Mean", "", *comparison_table({k: v["metrics"] for k, v in mean.items()}, MAIN_COLUMNS)]
        frames = next(iter(mean.values()))["frames_by_rotation"]
        counts = ", ".join(f"{bin_name.replace('_', '-')}°: {count}" for bin_name, count in frames.items())
        lines += ["", f"Head region by rotation from the source (frames {counts}):", ""]
        lines += comparison_table({k: v["metrics"] for k, v in mean.items()}, ROTATION_COLUMNS)
    if good:
        lines += ["", "## Per clip"]
    for name in good:
        clip = clips[name]
        measured = {k: v["metrics"] for k, v in clip["avatars"].items() if v["status"] == "ok"}
        lines += [
            "",
            f"### {name}",
            "",
            f"{clip['frames']} frames, {clip['evaluated_frames']} evaluated, rotation from the source up to "
            f"{clip['largest_rotation_deg']:.1f}°.",
        ]
        if measured:
            lines += ["", *comparison_table(measured, MAIN_COLUMNS), "", *comparison_table(measured, ROTATION_COLUMNS)]
    failures = [(name, clip["reason"]) for name, clip in clips.items() if clip["status"] != "ok"]
    failures += [
        (f"{name}, {avatar}", entry["reason"])
        for name in good
        for avatar, entry in clips[name]["avatars"].items()
        if entry["status"] != "ok"
    ]
    if failures:
        lines += ["", "## Failures", "", *(f"- {what}: {reason}" for what, reason in failures)]
    lines += ["", "## Metrics", "", *(f"- **{metric.label}**: {metric.meaning}" for metric in METRICS)]
    return "\n".join(lines) + "\n"


def write_report(path: Path, report: Mapping[str, Any], markdown: str) -> None:
    """Write ``report`` as strict JSON to ``path`` and ``markdown`` beside it (suffix .md), both atomically.

    Raises:
        OutputError: a file cannot be written.
        ValueError: the report holds NaN or infinity.
    """
    text = json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")
    write_text(path.with_suffix(".md"), markdown)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text that appears whole or not at all; makes missing folders.

    Raises:
        OutputError: the folder or file cannot be written.
    """
    from triportrait.media.files import atomic_file

    make_folder(path.parent)
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"'{folder}' cannot be made: {error.strerror or error}; choose another place.") from error
