"""Evaluation results as strict JSON and as Markdown, and the means and tables in them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triportrait.evaluation.metrics import ROTATION_RANGES_DEG

UNMEASURED = "not measurable on these frames"


@dataclass(frozen=True, slots=True)
class Metric:
    """How a figure is shown.

    Args:
        key: its name in JSON.
        label: its heading in tables.
        decimals: digits after the point.
        better: ``"lower"``, ``"higher"``, ``"one"`` for ratios to the real video, ``"zero"`` for lags, ``"real"`` for what should be
            as in the real video.
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
    Metric("pop_ratio", "pop", 2, "one", "The largest such change from one frame to the next over the real video's largest."),
    Metric("l1_face", "face L1", 4, "lower", "L1 over the real face's hull without mouth and eyes."),
    Metric("l1_eyes", "eyes L1", 4, "lower", "L1 over both eyes: the hulls of their rims, grown by 3 px."),
    Metric("l1_hair_ears_neck", "hair, ears, neck L1", 4, "lower", "L1 over the person above the chin, without face and outline."),
    Metric("l1_outline", "outline L1", 4, "lower", "L1 within 2 px of the real person's outline."),
    Metric("l1_background", "background L1", 4, "lower", "L1 beyond the outline."),
    Metric("l1_torso", "torso L1", 4, "lower", "L1 over the person below the chin, without face and outline."),
    Metric("hair_sharpness", "hair sharpness", 2, "one", "Gradients within 6 px of the outline of hair and ears, over the real frame's."),
    Metric("hair_top_x_px", "top x px", 2, "lower", "Root mean square shift of the hair above the forehead, sideways."),
    Metric("hair_top_y_px", "top y px", 2, "lower", "The same, up and down."),
    Metric("hair_side_x_px", "sides x px", 2, "lower", "Root mean square shift of the hair beside the face, sideways."),
    Metric("hair_side_y_px", "sides y px", 2, "lower", "The same, up and down."),
    Metric("hair_matched", "hair found", 2, "higher", "Share of these three areas in which flow found the real hair again."),
    Metric("neck_l1", "neck L1", 4, "lower", "L1 over the person within 16 px of the head-torso line, the jaw's from angle to angle."),
    Metric("neck_gradient_error", "neck gradients", 4, "lower", "Mean length of the difference of the grey gradients there."),
    Metric("neck_temporal_ratio", "neck change", 2, "one", "Mean change there from frame to frame over the real video's own."),
    Metric("neck_seam_ratio", "neck seam", 2, "one", "Strongest gradient across that line over the photo's own at the same places."),
    Metric("neck_still_share", "still below collar", 3, "higher", "Share of pixels below the pit of the neck within 1/255 at ±25° yaw."),
    Metric("head_psnr_db", "head PSNR", 2, "higher", "PSNR over the head."),
    *(
        Metric(
            f"head_psnr_{low}_{high}_db",
            f"head PSNR {low}-{high}°",
            2,
            "higher",
            f"PSNR over the head in frames turned {low} to {high} degrees from the source.",
        )
        for low, high in ROTATION_RANGES_DEG
    ),
    Metric("faces_found", "faces", 3, "higher", "Share of the frames in which the tracker found a face."),
    Metric("aed", "AED", 4, "lower", "Mean absolute difference of the 44 expression curves (0..1), fitted to both videos."),
    Metric("apd_rad", "APD rad", 4, "lower", "Mean absolute difference of pitch, yaw and roll, fitted to both videos."),
    Metric("csim", "CSIM", 3, "higher", "Cosine of ArcFace's embeddings of the source photo and the made faces."),
    Metric("face_distance", "face dist.", 3, "lower", "Distance of dlib's embeddings, source photo to made face; one person: under 0.6."),
    Metric("face_distance_real", "face dist. real", 3, "lower", "The same of the real and the made face of each moment."),
    Metric("lpips_alex", "LPIPS alex", 3, "lower", "Learned perceptual distance on AlexNet."),
    Metric("lpips_vgg", "LPIPS vgg", 3, "lower", "Learned perceptual distance on VGG16."),
    Metric("fid", "FID", 2, "lower", "Fréchet distance of Inception's features, all made pictures against all real ones."),
)

#: Of motion alone, for made videos without a real counterpart frame by frame.
LIVELINESS: tuple[Metric, ...] = (
    Metric("blinks_per_minute", "blinks/min", 1, "real", "Blinks per minute."),
    Metric("head_motion", "head motion", 3, "real", "THEval's head motion dynamics, pixels and degrees mixed as published."),
    Metric("head_motion_score", "head motion score", 3, "higher", "1 - |made - real| / real of the head motion."),
    Metric("brow_dynamics", "brows", 4, "real", "THEval's eyebrow dynamics: deviation of the brow height over the eyes' distance."),
    Metric("brow_score", "brows score", 3, "higher", "1 - |made - real| / real of the eyebrow dynamics."),
    Metric("lip_dynamics", "lips", 4, "real", "THEval's lip dynamics: deviation of the lip points' distances."),
    Metric("lip_dynamics_score", "lips score", 3, "higher", "1 - |made - real| / real of the lip dynamics."),
)

CROSS_METRICS: tuple[Metric, ...] = (
    Metric("csim", "CSIM", 3, "higher", "Cosine of ArcFace's embeddings of the source photo and the made faces."),
    Metric("face_distance", "face dist.", 3, "lower", "Distance of dlib's embeddings, source photo to made face; one person: under 0.6."),
    Metric("fid", "FID", 2, "lower", "Fréchet distance of Inception's features, all made pictures against all real ones."),
    Metric("aed", "AED", 4, "lower", "Mean absolute difference of the 44 expression curves (0..1) to the driver's."),
    Metric("apd_rad", "APD rad", 4, "lower", "Mean absolute difference of pitch, yaw and roll to the driver's."),
    Metric("aed_asked", "AED asked", 4, "lower", "The same expression difference to the motion the avatar was asked for."),
    Metric("apd_asked_rad", "APD asked rad", 4, "lower", "The same pose difference to the motion the avatar was asked for."),
    Metric("lip_correlation", "lip corr.", 3, "higher", "Correlation of the lip opening with the driver's."),
    Metric("jitter_px", "jitter px", 3, "lower", "Mean second temporal difference of the landmarks."),
    Metric("jitter_ratio", "jitter ratio", 2, "one", "Jitter over the driver's own, both over face heights."),
    Metric("faces_found", "faces", 3, "higher", "Share of the frames in which the tracker found a face."),
)

AUDIO_METRICS: tuple[Metric, ...] = (
    Metric("csim", "CSIM", 3, "higher", "Cosine of ArcFace's embeddings of the source photo and the made faces."),
    Metric("face_distance", "face dist.", 3, "lower", "Distance of dlib's embeddings, source photo to made face; one person: under 0.6."),
    Metric("fid", "FID", 2, "lower", "Fréchet distance of Inception's features, all made pictures against all real ones."),
    Metric("aed", "AED", 4, "lower", "Mean absolute difference of the 44 expression curves (0..1) to the real video's."),
    Metric("lmd_px", "LMD px", 2, "lower", "Mean distance of the 40 lip points, each mouth's middle taken away, pixels at 256."),
    Metric("lmd_upright", "LMD upright", 4, "lower", "The same after turning and scaling by the eye corners, in their distance."),
    Metric("lse_d", "LSE-D", 3, "lower", "SyncNet's smallest mean distance of lips and sound."),
    Metric("lse_c", "LSE-C", 3, "higher", "SyncNet's confidence: median less smallest mean distance."),
    Metric("sync_offset", "SyncNet lag", 1, "zero", "SyncNet's best shift in frames of 40 ms."),
    Metric("curve_sync", "curve sync", 3, "higher", "Our curve expert's cosine of lips and sound at lag 0."),
    Metric("curve_sync_confidence", "curve conf.", 3, "higher", "Our curve expert's best mean cosine less the median over lags."),
    Metric("curve_sync_lag", "curve lag", 1, "zero", "Our curve expert's best lag in frames, positive: lips late."),
    Metric("lip_correlation", "lip corr.", 3, "higher", "Correlation of the lip opening with the real video's."),
    Metric("lip_lag", "lip lag", 1, "zero", "Lag in frames at which that is highest, positive: lips late."),
    Metric("lip_correlation_best", "lip corr. best", 3, "higher", "The correlation at that lag."),
    Metric("loudness_correlation", "loudness corr.", 3, "higher", "Correlation of the lip opening with the loudness."),
    Metric("loudness_lag", "loudness lag", 1, "zero", "Lag in frames at which that is highest, positive: lips late."),
    Metric("lip_sync_gap", "lip-sync gap", 3, "lower", "THEval's lip-sync: |lip gap - loudness| over speech, each scaled to 0..1."),
    Metric("lip_sync_score", "lip-sync score", 3, "higher", "1 - |made - real| / real of it."),
    Metric("silent_lip_stability", "silent lips", 4, "lower", "THEval's silent lip stability: median deviation of the lip gap in silence."),
    Metric("silent_lip_score", "silent score", 3, "higher", "1 - |made - real| / real of it."),
    Metric("silent_opening", "silent opening", 3, "lower", "Lip opening in silence above its 5th percentile, of its range."),
    Metric("silent_movement", "silent movement", 4, "lower", "Mean change of the lip opening in silence, of its range."),
    *LIVELINESS,
    Metric("jitter_px", "jitter px", 3, "lower", "Mean second temporal difference of the landmarks."),
    Metric("jitter_ratio", "jitter ratio", 2, "one", "Jitter over the real video's own."),
    Metric("faces_found", "faces", 3, "higher", "Share of the frames in which the tracker found a face."),
    Metric("l1", "L1", 4, "lower", "Mean absolute difference of the pictures, with the clip's own head motion only."),
    Metric("psnr_db", "PSNR dB", 2, "higher", "Peak signal-to-noise ratio, with the clip's own head motion only."),
    Metric("ssim", "SSIM", 3, "higher", "Structural similarity, with the clip's own head motion only."),
    Metric("lpips_alex", "LPIPS alex", 3, "lower", "Learned perceptual distance, with the clip's own head motion only."),
    Metric("lpips_vgg", "LPIPS vgg", 3, "lower", "The same on VGG16."),
)

_ZONES = {
    "hair": ("hair", "the outline above the forehead"),
    "sides": ("sides", "the outline of hair and ears beside the face"),
    "jaw": ("jaw", "the jaw's line from ear to ear"),
    "neck": ("neck", "the neck below the jaw"),
    "yaw_20": ("yaw ±20°", "all zones, turned by 20 degrees to either side"),
    "yaw_12": ("yaw ±12°", "all zones, turned by 12 degrees to either side"),
    "pitch_12": ("pitch ±12°", "all zones, turned by 12 degrees up and down"),
    "all": ("all", "all zones and turns"),
}
_BREAKS = "Pixels whose unsteady gradient lies above 99 % of the photo's own in the same zone"
_SMEARS = "Pixels whose unsteady gradient lies below 90 % of the photo's own in the same zone"
SEAM_METRICS: tuple[Metric, ...] = (
    *(Metric(f"breaks_{key}", label, 2, "lower", f"{_BREAKS}: {where}.") for key, (label, where) in _ZONES.items()),
    *(Metric(f"smears_{key}", label, 2, "lower", f"{_SMEARS}: {where}.") for key, (label, where) in _ZONES.items()),
    Metric("cycle_l1", "L1", 4, "lower", "L1 of what came back to the photo, 0..1, over the whole crop."),
    Metric("cycle_face", "face", 4, "lower", "The same over the photo's face without mouth and eyes."),
    Metric("cycle_eyes", "eyes", 4, "lower", "The same over the eyes."),
    Metric("cycle_hair_ears_neck", "hair, ears, neck", 4, "lower", "The same over the person above the chin, without face and outline."),
    Metric("cycle_outline", "outline", 4, "lower", "The same within 4 px of the person's outline."),
    Metric("cycle_background", "background", 4, "lower", "The same beyond the outline."),
    Metric("cycle_torso", "torso", 4, "lower", "The same over the person below the chin."),
    Metric("faces_found", "faces", 3, "higher", "Share of the turned pictures in which the tracker found a face."),
)
SEAM_BREAK_COLUMNS = tuple(f"breaks_{key}" for key in _ZONES)
SEAM_SMEAR_COLUMNS = tuple(f"smears_{key}" for key in _ZONES)
SEAM_CYCLE_COLUMNS = tuple(metric.key for metric in SEAM_METRICS if metric.key.startswith("cycle_")) + ("faces_found",)

MAIN_COLUMNS = (
    "l1",
    "psnr_db",
    "ssim",
    "ms_ssim",
    "akd_px",
    "mouth_distance_px",
    "mouth_l1",
    "lip_opening_error",
    "eye_opening_error",
    "jitter_ratio",
    "flicker_ratio",
)
#: Weighted by the number of frames in each class.
BY_ROTATION = tuple(f"head_psnr_{low}_{high}_db" for low, high in ROTATION_RANGES_DEG)
ROTATION_COLUMNS = ("head_psnr_db", *BY_ROTATION)
REGION_COLUMNS = ("l1_face", "l1_eyes", "l1_hair_ears_neck", "l1_outline", "l1_background", "l1_torso", "pop_ratio")
HAIR_COLUMNS = ("hair_sharpness", "hair_top_x_px", "hair_top_y_px", "hair_side_x_px", "hair_side_y_px", "hair_matched")
NECK_COLUMNS = ("neck_l1", "neck_gradient_error", "neck_temporal_ratio", "neck_seam_ratio", "neck_still_share")
LEARNED_COLUMNS = ("csim", "face_distance", "face_distance_real", "fid", "lpips_alex", "lpips_vgg", "aed", "apd_rad")
CROSS_COLUMNS = tuple(metric.key for metric in CROSS_METRICS)
AUDIO_SYNC_COLUMNS = (
    "lse_d",
    "lse_c",
    "curve_sync",
    "curve_sync_confidence",
    "curve_sync_lag",
    "lip_correlation",
    "lip_lag",
    "lip_correlation_best",
    "loudness_correlation",
    "loudness_lag",
    "lmd_px",
    "lmd_upright",
)
#: How a talking face moves, of its landmarks alone.
AUDIO_LIFE = (
    "lip_sync_gap",
    "silent_lip_stability",
    "silent_opening",
    "silent_movement",
    "blinks_per_minute",
    "head_motion",
    "brow_dynamics",
    "lip_dynamics",
    "jitter_px",
)
AUDIO_LIFE_COLUMNS = (*AUDIO_LIFE, "jitter_ratio")
AUDIO_SCORE_COLUMNS = ("lip_sync_score", "silent_lip_score", "head_motion_score", "brow_score", "lip_dynamics_score")
AUDIO_PICTURE_COLUMNS = ("csim", "face_distance", "fid", "aed", "l1", "psnr_db", "ssim", "lpips_alex", "lpips_vgg", "faces_found")
BY_KEY = {metric.key: metric for metric in (*SEAM_METRICS, *AUDIO_METRICS, *CROSS_METRICS, *METRICS)}
BETTER_ARROWS = {"lower": " ↓", "higher": " ↑", "one": " →1", "zero": " →0", "real": " →real"}


def strict_metrics(values: Mapping[str, float], reasons: Mapping[str, str]) -> dict[str, Any]:
    """``{"metrics": ..., "reasons": ...}`` in which what is not finite has become None with a reason."""
    finite = {key: float(value) if math.isfinite(value) else None for key, value in values.items()}
    return {
        "metrics": finite,
        "reasons": {key: reasons.get(key, UNMEASURED) for key, value in finite.items() if value is None},
    }


def mean_over_clips(clips: Mapping[str, Mapping[str, Any]], avatars: Sequence[str], metrics: Sequence[Metric] = METRICS) -> dict[str, Any]:
    """Means per avatar over the clips in which every avatar succeeded, so that the rows compare the same frames.

    Head PSNR by rotation is weighted by the number of frames in the class (pooled over clips); everything else counts
    each clip once.

    Args:
        clips: the report's ``clips``.
        avatars: names.
        metrics: of the protocol.

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
            for bin_name, count in row.get("frames_by_rotation", {}).items():
                frames[bin_name] += count
        means = {}
        reasons = {}
        for metric in metrics:
            weighted = metric.key in BY_ROTATION
            bin_name = metric.key.removeprefix("head_psnr_").removesuffix("_db")
            pairs = [
                (row["metrics"][metric.key], row["frames_by_rotation"][bin_name] if weighted else 1)
                for row in rows
                if row["metrics"].get(metric.key) is not None
            ]
            weight = sum(count for _, count in pairs)
            means[metric.key] = sum(value * count for value, count in pairs) / weight if weight else math.nan
            told = (row["reasons"].get(metric.key) for row in rows)
            reasons[metric.key] = next((text for text in told if text), "no clip gave a value")
        result[name] = {"clips": len(rows), **strict_metrics(means, reasons), "frames_by_rotation": frames}
    return result


def comparison_table(rows: Mapping[str, Mapping[str, float | None]], columns: Sequence[str]) -> list[str]:
    """Markdown lines: one row per name with its metrics, the best of each column bold, "–" where there is none."""
    metrics = [BY_KEY[key] for key in columns]
    best: dict[str, str] = {}
    for metric in metrics:
        shown = [f"{row[metric.key]:.{metric.decimals}f}" for row in rows.values() if row.get(metric.key) is not None]
        if shown and metric.better in ("lower", "higher") and len(rows) > 1:
            best[metric.key] = (min if metric.better == "lower" else max)(shown, key=float)
    lines = [
        "| avatar | " + " | ".join(metric.label + BETTER_ARROWS[metric.better] for metric in metrics) + " |",
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
        parts = (
            ("Error by region of the real frame", REGION_COLUMNS),
            ("Hair against the real frame's", HAIR_COLUMNS),
            ("Where head and torso meet", NECK_COLUMNS),
        )
        for text, columns in parts:
            lines += ["", f"{text}:", "", *comparison_table({k: v["metrics"] for k, v in mean.items()}, columns)]
            lines += missing_lines(mean, columns)
        lines += ["", "Likeness, expression and pose, perceptual distances:", ""]
        lines += comparison_table({k: v["metrics"] for k, v in mean.items()}, LEARNED_COLUMNS)
        lines += missing_lines(mean, LEARNED_COLUMNS)
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
            lines += [
                "",
                *comparison_table(measured, REGION_COLUMNS),
                "",
                *comparison_table(measured, HAIR_COLUMNS),
                "",
                *comparison_table(measured, NECK_COLUMNS),
            ]
    lines += failure_lines(clips)
    lines += ["", "## Metrics", "", *(f"- **{metric.label}**: {metric.meaning}" for metric in METRICS)]
    return "\n".join(lines) + "\n"


def missing_lines(mean: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """Why metrics are missing in every row: Markdown lines, one per metric; none when nothing is."""
    lines = []
    for key in columns:
        reasons = {entry["reasons"].get(key) for entry in mean.values() if entry["metrics"].get(key) is None}
        if len(reasons) and all(entry["metrics"].get(key) is None for entry in mean.values()):
            lines.append(f"- {BY_KEY[key].label} is not measured: {'; '.join(sorted(text or UNMEASURED for text in reasons))}.")
    return ["", *lines] if lines else []


def failure_lines(clips: Mapping[str, Any]) -> list[str]:
    """Clips and avatars that failed, as Markdown lines; none when nothing did."""
    failures = [(name, clip["reason"]) for name, clip in clips.items() if clip["status"] != "ok"]
    failures += [
        (f"{name}, {avatar}", entry["reason"])
        for name, clip in clips.items()
        if clip["status"] == "ok"
        for avatar, entry in clip["avatars"].items()
        if entry["status"] != "ok"
    ]
    return ["", "## Failures", "", *(f"- {what}: {reason}" for what, reason in failures)] if failures else []


def protocol_markdown(
    report: Mapping[str, Any], title: str, text: str, tables: Sequence[tuple[str, Sequence[str]]], metrics: Sequence[Metric]
) -> str:
    """A report as Markdown: mean tables of several groups of columns, failures, definitions.

    Args:
        report: of a protocol; its ``"real"`` means, when there are any, become a row of their own.
        title, text: heading and first paragraph.
        tables: (heading, columns) each.
        metrics: to be explained at the end.
    """
    mean = report["mean"]
    shared = max((entry["clips"] for entry in mean.values()), default=0)
    good = sum(clip["status"] == "ok" for clip in report["clips"].values())
    lines = [
        f"# {title}",
        "",
        f"{text} {good} of {len(report['clips'])} measured, means over the {shared} in which every avatar "
        f"succeeded. TriPortrait {report['triportrait']}.",
    ]
    if not report["complete"]:
        lines += ["", "**Unfinished: the run was interrupted or is still going on.**"]
    rows = {name: entry["metrics"] for name, entry in mean.items()}
    real = report.get("real_mean", {}).get("metrics", {})
    for heading, columns in tables if shared else ():
        lines += ["", f"## {heading}", "", *comparison_table(rows, columns)]
        if any(real.get(key) is not None for key in columns):
            lines.append(_plain_row("*real video*", real, columns))
        lines += missing_lines(mean, columns)
    lines += failure_lines(report["clips"])
    lines += ["", "## Metrics", "", *(f"- **{metric.label}**: {metric.meaning}" for metric in metrics)]
    return "\n".join(lines) + "\n"


def _plain_row(name: str, row: Mapping[str, float | None], columns: Sequence[str]) -> str:
    cells = ["–" if row.get(key) is None else f"{row[key]:.{BY_KEY[key].decimals}f}" for key in columns]
    return f"| {name} | " + " | ".join(cells) + " |"


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
    from triportrait.files import atomic_file, make_folder

    make_folder(path.parent)
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")
