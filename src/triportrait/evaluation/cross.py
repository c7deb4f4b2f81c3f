"""Cross-identity reenactment: the first frame of one clip is the portrait, another clip drives it.

Every clip is the portrait once and the driver once (the next in the order of names drives). No picture of the portrait
doing that exists, so pictures are judged by likeness and by their distribution, and motion against the driver's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triportrait.errors import MediaError, NumericError
from triportrait.evaluation import dynamics, metrics
from triportrait.evaluation.cache import TrackCache
from triportrait.evaluation.clip_folder import find_clips
from triportrait.evaluation.contact_sheet import contact_sheet, write_sheet
from triportrait.evaluation.learned_rows import keep_features, likeness, pooled_fid
from triportrait.evaluation.parts import ActingTools, default_acting_tools
from triportrait.evaluation.reenact import SHEET_COLUMNS, evenly, motion_distances, shrink
from triportrait.evaluation.report import CROSS_COLUMNS, CROSS_METRICS, mean_over_clips, protocol_markdown, strict_metrics, write_report
from triportrait.evaluation.running import Item, Progress, ProtocolOptions, Tell, networks_of, reason_of, run_items, start_report
from triportrait.types import Array, FaceTrack, Motion, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.evaluation.metric_weights import MetricNetworks


FORMAT = "triportrait-cross-1"
#: A name for "source driven by driver" that is a file name, too.
JOINT = " by "


@dataclass(frozen=True, slots=True)
class CrossOptions(ProtocolOptions):
    """What ``triportrait evaluate cross`` asks for.

    Args:
        window: length of the run of consecutive frames from the driver's middle, for jitter.
    """

    window: int = 30


@dataclass(frozen=True, slots=True)
class _Made:
    """What an avatar drew: pictures of the measured frames, and landmarks at the evaluated side (window: consecutive frames)."""

    pictures: list[Array]
    landmarks: Array
    found: Array
    window_landmarks: Array
    window_found: Array


def pairs_of(clips: Sequence[Path], limit: int | None = None) -> list[Item]:
    """Each clip's portrait with the next clip as its driver, round in a ring.

    Raises:
        MediaError: there is only one clip.
    """
    if len(clips) < 2:
        raise MediaError("cross-identity reenactment needs at least two clips; put another person's clip into the folder.")
    ring = [(source, clips[(i + 1) % len(clips)]) for i, source in enumerate(clips)]
    return [Item(f"{source.stem}{JOINT}{driver.stem}", (source, driver)) for source, driver in ring][:limit]


def run_cross(
    options: CrossOptions, *, tools: ActingTools | None = None, progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Measure the avatars on every pair, write the reports and return what the JSON holds; resumes as ``run_reenact`` does.

    Raises:
        MediaError: the folder holds fewer than two clips.
        OutputError: the report cannot be written.
        TriPortraitError: every pair failed.
    """
    items = pairs_of(find_clips(options.clips), options.limit)
    networks_of(options.metric_weights).check()
    report = start_report(FORMAT, options, items)

    def save() -> None:
        report["mean"] = mean_over_clips(report["clips"], options.avatars, CROSS_METRICS)
        pooled_fid(options.out, report)
        text = f"First frame of a clip → the next clip drives; one frame in {options.every} at {options.side_px} px."
        tables = (("Mean", CROSS_COLUMNS),)
        write_report(options.out, report, protocol_markdown(report, "Cross-identity reenactment", text, tables, CROSS_METRICS))

    def measure(item: Item, tell: Tell) -> dict[str, Any]:
        return evaluate_pair(item, options, default_acting_tools() if tools is None else tools, tell)

    run_items(report, items, measure, partial(_measure_in_process, options), save, options.jobs, progress)
    if options.plots:
        from triportrait.evaluation.plots import write_bars

        write_bars(options.out, report["mean"], CROSS_COLUMNS)
    return report


@lru_cache(maxsize=1)
def _tools_of_process() -> ActingTools:
    return default_acting_tools()


def _measure_in_process(options: CrossOptions, item: Item) -> dict[str, Any]:
    return evaluate_pair(item, options, _tools_of_process(), lambda stage, done, total: None)


def evaluate_pair(item: Item, options: CrossOptions, tools: ActingTools, tell: Tell) -> dict[str, Any]:
    """The report's entry of one (source, driver); an avatar that fails has its reason in its own entry.

    Raises:
        TriPortraitError: nothing can be measured on this pair.
    """
    source, driver = item.files
    cache, networks = TrackCache(options.cache), networks_of(options.metric_weights)
    first = next(iter(tools.base.read_frames(source)[1]), None)
    if first is None:
        raise MediaError(f"{source.name} has no frames.")
    tell("portrait", 0, 1)
    portrait = tools.base.prepare_portrait(first)
    tell("motion", 0, 0)
    driving = cache.motion(driver, None, lambda: tools.clip_motion(driver))
    asked = tools.with_landmarks(portrait, tools.follow(portrait, driving))
    chosen = list(range(options.every, len(asked), options.every))
    if not chosen:
        raise MediaError(f"{driver.name} has {len(asked)} frames; measuring one frame in {options.every} needs more.")
    length = min(options.window, len(asked) - 1)
    start = 1 + (len(asked) - 1 - length) // 2
    window = range(start, start + length)
    shown = evenly(range(len(chosen)), SHEET_COLUMNS)
    if networks.inception is not None:
        # The same framing as the made pictures: what the source clip really shows.
        real = _frames_at(tools, source, chosen, lambda frame: tools.base.crop(frame, portrait.crop_box, options.side_px))
        keep_features(networks, options.out, item.name, "real", list(real.values()))
    driver_jitter = _driver_jitter(tools, driver, window, portrait, cache)
    entry: dict[str, Any] = {
        "status": "ok",
        "frames": len(asked),
        "evaluated_frames": len(chosen),
        "window_frames": len(window),
        "driver": strict_metrics({"jitter_face_heights": driver_jitter}, {}),
        "avatars": {},
    }
    rows: list[list[Array | None]] = [[shrink(portrait.image, options.side_px)]]
    if options.sheets:
        driver_pictures = _frames_at(tools, driver, [chosen[i] for i in shown], lambda f: shrink(_middle_square(f), options.side_px))
        rows.append(list(driver_pictures.values()))
    for name in options.avatars:
        try:
            made = _render(name, portrait, asked, chosen, window, options.side_px, tools, partial(tell, name))
            values, reasons = _measure(item, name, made, portrait, driving, asked, chosen, driver_jitter, options, networks, tools)
            entry["avatars"][name] = {"status": "ok", **strict_metrics(values, reasons)}
            rows.append([made.pictures[i] for i in shown])
        except Exception as error:  # the other avatars are still measured; the reason is reported
            entry["avatars"][name] = {"status": "failed", "reason": reason_of(error)}
            rows.append([])
    if options.sheets:
        labels = ["source", "driver", *options.avatars]
        sheet = contact_sheet(rows, row_labels=labels, title=item.name, cell_px=options.side_px)
        write_sheet(options.out.with_name(f"{options.out.stem}_sheets") / f"{item.name.replace(' ', '_')}.png", sheet)
    return entry


def _driver_jitter(tools: ActingTools, driver: Path, window: range, portrait: PreparedPortrait, cache: TrackCache) -> float:
    """The driver's own jitter over its face's height, in frames tracked one by one; NaN when a frame shows no face."""
    if len(window) < 3:
        return math.nan
    inside = set(window)
    frames = (frame for i, frame in enumerate(tools.base.read_frames(driver)[1]) if i in inside)
    track = cache.track(f"driver {window}", driver, portrait, frames, tools.base.track)
    points = track.landmarks[..., :2]
    return metrics.jitter(points) / float(metrics.face_height(points).mean()) if track.found.all() else math.nan


def _render(
    name: str,
    portrait: PreparedPortrait,
    asked: Motion,
    chosen: Sequence[int],
    window: range,
    side_px: int,
    tools: ActingTools,
    tell: Callable[[int, int], None],
) -> _Made:
    render = tools.base.make_renderer(name, portrait)
    total, done = len(chosen) + len(window), 0
    pictures: list[Array] = []

    def drawn(indices: Sequence[int] | range, keep: list[Array] | None) -> Any:
        nonlocal done
        for i in indices:
            picture = render(asked[i])
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise NumericError(f"avatar {name} drew {picture.dtype} {picture.shape}, expected uint8 (s, s, 3)")
            if keep is not None:
                keep.append(shrink(picture, side_px))
            done += 1
            tell(done, total)
            yield picture

    landmarks, found = _at_side(tools.base.track(drawn(chosen, pictures)), side_px)
    nothing = np.zeros((0, 478, 2), np.float32), np.zeros(0, bool)
    window_landmarks, window_found = _at_side(tools.base.track(drawn(window, None)), side_px) if len(window) else nothing
    return _Made(pictures, landmarks, found, window_landmarks, window_found)


def _at_side(track: FaceTrack, side_px: int) -> tuple[Array, Array]:
    return track.landmarks[..., :2] * (side_px / np.asarray(track.size, np.float32)), np.asarray(track.found, bool)


def _measure(
    item: Item,
    name: str,
    made: _Made,
    portrait: PreparedPortrait,
    driving: Motion,
    asked: Motion,
    chosen: Sequence[int],
    driver_jitter: float,
    options: CrossOptions,
    networks: MetricNetworks,
    tools: ActingTools,
) -> tuple[dict[str, float], dict[str, str]]:
    scale = options.side_px / len(portrait.image)
    source = (shrink(portrait.image, options.side_px), portrait.landmarks[:, :2] * scale)
    values, reasons = likeness(networks, source, made.pictures, made.landmarks, made.found)
    values["fid"], reasons["fid"] = keep_features(networks, options.out, item.name, name, made.pictures)

    fitted = tools.base.fit(portrait, made.landmarks / scale) if tools.base.fit is not None else None
    no_face = "no made picture in which a face was found"
    for suffix, motion in (("", driving), ("_asked", asked)):
        rows = motion.rows(np.asarray(chosen))
        found = motion_distances(fitted, rows, made.found)
        values[f"aed{suffix}"], values[f"apd{suffix}_rad"] = found["aed"], found["apd_rad"]
    reasons |= dict.fromkeys(("aed", "apd_rad", "aed_asked", "apd_asked_rad"), no_face if tools.base.fit else "no fitter is at hand")

    opening = metrics.lip_opening(made.landmarks) / metrics.face_height(made.landmarks)
    driven = asked_opening(driving)[chosen]
    values["lip_correlation"] = dynamics.correlation_by_lag(opening[made.found], driven[made.found], 0)[0]
    reasons["lip_correlation"] = "the lips of one of the two do not move"
    steady = len(made.window_landmarks) >= 3 and bool(made.window_found.all())
    values["jitter_px"] = metrics.jitter(made.window_landmarks) if steady else math.nan
    height = float(metrics.face_height(made.window_landmarks).mean()) if steady else math.nan
    values["jitter_ratio"] = values["jitter_px"] / height / driver_jitter if steady and driver_jitter > 0 else math.nan
    reasons["jitter_px"] = reasons["jitter_ratio"] = "no run of three consecutive frames with a face in both videos"
    values["faces_found"] = float(made.found.mean())
    return values, reasons


def asked_opening(motion: Motion) -> Array:
    """Lip opening [t] in face heights that a motion's curves ask for."""
    from triportrait.motion.lips import lip_opening

    return lip_opening(motion.expression, motion.expression_names)


def _frames_at(tools: ActingTools, clip: Path, indices: Sequence[int], change: Callable[[Array], Array]) -> dict[int, Array]:
    """Some frames of a clip by their number, each changed as it comes."""
    wanted = set(indices)
    found: dict[int, Array] = {}
    for i, frame in enumerate(tools.base.read_frames(clip)[1]):
        if i > max(wanted):
            break
        if i in wanted:
            found[i] = change(frame)
    return found


def _middle_square(picture: Array) -> Array:
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]
