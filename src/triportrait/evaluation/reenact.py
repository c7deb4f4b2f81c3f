"""Same-identity reenactment: the first frame of a clip is the portrait, the whole clip drives it.

Every avatar gets the same portrait, motion and frames. The square crop of the first frame is applied to all frames, so
the real picture of each moment is the target. Pictures are compared at ``side_px`` (256); pixels outside the clip's
picture, and a box that the folder's ``index.csv`` names in its column ``filled_box_xyxy``, are left out.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triportrait.errors import MediaError, NoFaceFound, NumericError, TriPortraitError
from triportrait.evaluation import metrics
from triportrait.evaluation.cache import TrackCache
from triportrait.evaluation.clip_folder import find_clips, read_filled_boxes
from triportrait.evaluation.contact_sheet import contact_sheet, write_sheet
from triportrait.evaluation.learned_rows import keep_features, likeness, likeness_by_frame, perceptual_rows, pooled_fid
from triportrait.evaluation.neck import NeckFrame, neck_figures, places_on_person, seam_ratio, stillness, temporal_difference
from triportrait.evaluation.parts import ReenactTools, Renderer, default_tools
from triportrait.evaluation.regions import FrameRegions, region_figures
from triportrait.evaluation.report import MAIN_COLUMNS, mean_over_clips, reenact_markdown, strict_metrics, write_report
from triportrait.evaluation.running import Item, Progress, ProtocolOptions, networks_of, reason_of, run_items, start_report
from triportrait.types import Array, FaceTrack, Motion, PreparedPortrait

if TYPE_CHECKING:
    from triportrait.evaluation.metric_weights import MetricNetworks


log = logging.getLogger(__name__)

FORMAT = "triportrait-reenact-1"
SHEET_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class ReenactOptions(ProtocolOptions):
    """What ``triportrait evaluate reenact`` asks for.

    Args:
        window: length in frames of the run of consecutive frames from the clip's middle, for jitter and flicker.
    """

    window: int = 30

    def __post_init__(self) -> None:
        ProtocolOptions.__post_init__(self)
        if self.window < 0:
            raise TriPortraitError("the window must not be negative.")


@dataclass(frozen=True, slots=True)
class _Seen:
    """Pictures at the evaluated side and landmarks in its pixels, of a real clip or of what an avatar drew.

    Args:
        pictures: uint8 [s, s, 3] of the frames that are measured.
        landmarks: [n, 478, 2] in them.
        found: [n] bool.
        window_pictures, window_landmarks, window_found: the same for the run of consecutive frames.
    """

    pictures: list[Array]
    landmarks: Array
    found: Array
    window_pictures: list[Array]
    window_landmarks: Array
    window_found: Array


@dataclass(frozen=True, slots=True)
class _Target:
    """What every avatar is compared with: the real pictures and which of their pixels count, bool [s, s] each."""

    real: _Seen
    counted: Array
    head_masks: list[Array]
    mouth_masks: list[Array]
    #: None where no face was found, or nobody tells a person from the scene.
    regions: list[FrameRegions | None]
    #: The same of the frames that are measured, and of the run of consecutive ones.
    necks: list[NeckFrame | None]
    window_necks: list[NeckFrame | None]
    #: Expression and pose of the real frames as they were fitted one by one; None without a fitter.
    motion: Motion | None


@dataclass(frozen=True, slots=True)
class Performer:
    """Who performs a clip: an avatar's name, its portrait, and the clip's motion in the portrait's pose frame."""

    avatar: str
    portrait: PreparedPortrait
    motion: Motion


def run_reenact(
    options: ReenactOptions,
    *,
    tools: ReenactTools | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Measure the avatars on every clip of a folder, write the reports and return what the JSON holds.

    After each clip the report is written with ``"complete": false``; a run that finds such a report of the same
    options and version goes on after the clips already measured. A clip that fails is reported with its reason and does
    not stop the run.

    Raises:
        MediaError: the folder holds no clip.
        OutputError: the report cannot be written.
        TriPortraitError: every clip failed.
    """
    items, boxes, report = begin_with_clips(FORMAT, options)

    def save() -> None:
        report["mean"] = mean_over_clips(report["clips"], options.avatars)
        pooled_fid(options.out, report)
        write_report(options.out, report, reenact_markdown(report))

    def measure(item: Item, tell: Callable[[str, int, int], None]) -> dict[str, Any]:
        found = default_tools() if tools is None else tools
        return evaluate_clip(item.files[0], options, found, boxes.get(item.name), tell)

    run_items(report, items, measure, partial(_measure_in_process, options, boxes), save, options.jobs, progress)
    if options.plots:
        from triportrait.evaluation.plots import write_bars, write_rotation

        write_bars(options.out, report["mean"], MAIN_COLUMNS)
        write_rotation(options.out, report["mean"])
    return report


@lru_cache(maxsize=1)
def _tools_of_process() -> ReenactTools:
    return default_tools()


def _measure_in_process(options: ReenactOptions, boxes: dict[str, tuple[float, float, float, float]], item: Item) -> dict[str, Any]:
    return evaluate_clip(item.files[0], options, _tools_of_process(), boxes.get(item.name))


def begin_with_clips(
    format_name: str, options: ProtocolOptions
) -> tuple[list[Item], dict[str, tuple[float, float, float, float]], dict[str, Any]]:
    """What a protocol that measures clip by clip begins with: an item per clip, their filled boxes, and the report to go on with.

    Raises:
        MediaError: the folder holds no clip, or its index is wrong.
        WeightsError: a metric's weights cannot be read.
    """
    items = [Item(path.name, (path,)) for path in find_clips(options.clips, options.limit)]
    boxes = read_filled_boxes(options.clips)
    networks_of(options.metric_weights).check()
    return items, boxes, start_report(format_name, options, items)


def evaluate_clip(
    path: Path,
    options: ReenactOptions,
    tools: ReenactTools,
    filled_box: tuple[float, float, float, float] | None = None,
    tell: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict[str, Any]:
    """The report's entry of one clip; an avatar that fails has its reason in its own entry.

    Raises:
        TriPortraitError: nothing can be measured on this clip (no face in the first frame, too short, ...).
    """
    fps, frames = tools.read_frames(path)
    first = next(iter(frames), None)
    if first is None:
        raise MediaError(f"{path.name} has no frames.")
    tell("portrait", 0, 1)
    started = time.perf_counter()
    portrait = tools.prepare_portrait(first)
    prepared = time.perf_counter()
    cache = TrackCache(options.cache)

    def drive() -> Motion:
        return tools.drive(portrait, _counted(tools.read_frames(path)[1], lambda done: tell("motion", done, 0)), fps)

    motion = cache.motion(path, portrait, drive)
    driven = time.perf_counter()
    chosen = list(range(options.every, len(motion), options.every))
    if not chosen:
        raise MediaError(f"{path.name} has {len(motion)} frames; measuring one frame in {options.every} needs more.")
    length = min(options.window, len(motion) - 1)
    start = 1 + (len(motion) - 1 - length) // 2
    window = list(range(start, start + length))

    performers = {name: Performer(name, portrait, motion) for name in options.avatars}
    entry = compare(path, options, tools, performers, chosen, window, filled_box=filled_box, cache=cache, tell=tell)
    return entry | {"prepare_s": round(prepared - started, 3), "drive_s": round(driven - prepared, 3), "fps": float(fps)}


def compare(
    path: Path,
    options: ProtocolOptions,
    tools: ReenactTools,
    performers: Mapping[str, Performer],
    chosen: Sequence[int],
    window: Sequence[int],
    *,
    filled_box: tuple[float, float, float, float] | None = None,
    cache: TrackCache,
    tell: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """The report's entry of a clip whose own motion was put on performers; one that fails has its reason in its own entry.

    Args:
        path: the clip.
        performers: by the name of their row; all have the same crop box. Rotation is counted from the first one's picture.
        chosen: numbers of the frames that are measured; window: of the run for jitter and flicker.
        filled_box: see :func:`counted_pixels`.
        cache: of the tracks; tell: is told of the stage, what is done and how much there is.

    Raises:
        TriPortraitError: nothing can be measured.
    """
    networks = networks_of(options.metric_weights)
    first = next(iter(performers.values()))
    portrait, motion = first.portrait, first.motion
    target = _read_target(path, portrait, options, tools, chosen, window, filled_box, cache)
    real, source = target.real, _source(portrait, options.side_px)
    keep_features(networks, options.out, path.name, "real", real.pictures)
    angles = [metrics.rotation_angle_deg(portrait.motion.rotation_rad, motion.rotation_rad[i]) for i in chosen]
    entry: dict[str, Any] = {
        "status": "ok",
        "frames": len(motion),
        "evaluated_frames": len(chosen),
        "window_frames": len(window),
        "largest_rotation_deg": float(max(angles)),
        "real": _describe_real(target, portrait, likeness(networks, source, real.pictures, real.landmarks, real.found)),
        "avatars": {},
    }
    shown = evenly(range(len(chosen)), SHEET_COLUMNS)
    rows: list[list[Array | None]] = [[target.real.pictures[i] for i in shown]]
    for name, performer in performers.items():
        try:
            render = tools.make_renderer(performer.avatar, performer.portrait)
            made, seconds = _render_all(render, performer, chosen, window, options.side_px, tools, partial(tell, name))
            values, reasons, counts = _measure(made, target, angles)
            for more, why in (_neck(made, target, performer.portrait), stillness(render, performer.portrait)):
                values.update(more)
                reasons.update(why)
            for more, why in _more(path.name, name, made, target, portrait, options, networks, tools):
                values.update(more)
                reasons.update(why)
            entry["avatars"][name] = {
                "status": "ok",
                **strict_metrics(values, reasons),
                "frames_by_rotation": counts,
                "render_ms": round(1000.0 * seconds, 2),
            }
            rows.append([made.pictures[i] for i in shown])
        except Exception as error:  # the others are still measured; the reason is reported
            log.warning("%s on %s failed: %s", name, path.name, error, exc_info=not isinstance(error, TriPortraitError))
            entry["avatars"][name] = {"status": "failed", "reason": reason_of(error)}
            rows.append([])
    if options.sheets:
        labels = [f"frame {chosen[i]}  {angles[i]:.0f}°" for i in shown]
        sheet = contact_sheet(rows, row_labels=["real", *performers], column_labels=labels, title=path.name, cell_px=options.side_px)
        write_sheet(sheet_path(options.out, path), sheet)
    return entry


def sheet_path(out: Path, clip: Path) -> Path:
    """Where the contact sheet of ``clip`` lies for the report ``out``."""
    return out.with_name(f"{out.stem}_sheets") / f"{clip.stem}.png"


def counted_pixels(
    crop_box: tuple[float, float, float],
    side_px: int,
    picture_size: tuple[int, int],
    filled_box: tuple[float, float, float, float] | None = None,
) -> Array:
    """Which pixels of the crop at ``side_px`` show real picture: bool [side_px, side_px].

    Args:
        crop_box: (left, top, side) in clip pixels.
        side_px: side of the evaluated picture.
        picture_size: (w, h) of the clip's picture in pixels.
        filled_box: (left, top, right, bottom) in clip pixels to leave out, or None.
    """
    left, top, width = crop_box
    centres = (np.arange(side_px) + 0.5) * (width / side_px)
    x, y = left + centres[None, :], top + centres[:, None]
    reach = 0.5 * width / side_px
    inside = (x >= reach) & (x <= picture_size[0] - reach) & (y >= reach) & (y <= picture_size[1] - reach)
    if filled_box is not None:
        # Two pixels more: interpolation and compression carry the fill beyond its edge.
        grown = 4 * reach
        inside &= ~((x > filled_box[0] - grown) & (x < filled_box[2] + grown) & (y > filled_box[1] - grown) & (y < filled_box[3] + grown))
    return inside


def _read_target(
    path: Path,
    portrait: PreparedPortrait,
    options: ProtocolOptions,
    tools: ReenactTools,
    chosen: Sequence[int],
    window: Sequence[int],
    filled_box: tuple[float, float, float, float] | None,
    cache: TrackCache,
) -> _Target:
    side = len(portrait.image)
    wanted, in_window = set(chosen), set(window)
    pictures: list[Array] = []
    persons: list[Array] = []
    window_crops: list[Array] = []
    window_persons: list[Array] = []
    size = (0, 0)

    def crops() -> Iterator[Array]:
        nonlocal size
        last = max(chosen[-1], window[-1] if window else 0)
        for i, frame in enumerate(tools.read_frames(path)[1]):
            if i > last:
                break
            if i not in wanted and i not in in_window:
                continue
            size = (frame.shape[1], frame.shape[0])
            crop = tools.crop(frame, portrait.crop_box, side)
            if i in in_window:
                window_crops.append(crop)
                if tools.person_mask is not None:
                    window_persons.append(shrink(tools.person_mask(crop), options.side_px))
            if i in wanted:
                pictures.append(shrink(crop, options.side_px))
                if tools.person_mask is not None:
                    persons.append(shrink(tools.person_mask(crop), options.side_px))
                yield crop

    which = f"{chosen}"
    landmarks, found = _landmarks(cache.track(f"chosen {which}", path, portrait, crops(), tools.track), options.side_px)
    if len(pictures) != len(chosen) or len(landmarks) != len(chosen):
        raise MediaError(f"{path.name} gave {len(pictures)} of {len(chosen)} frames when read again.")
    again = partial(cache.track, f"window {list(window)}", path, portrait, compute=tools.track)
    window_landmarks, window_found = _window_landmarks(again, iter(window_crops), window, options.side_px)
    if not found.any():
        raise NoFaceFound(f"{path.name}: no face in any evaluated frame; use a clip that shows the face throughout.")
    counted = counted_pixels(portrait.crop_box, options.side_px, size, filled_box)
    window_pictures = [shrink(crop, options.side_px) for crop in window_crops]
    real = _Seen(pictures, landmarks, found, window_pictures, window_landmarks, window_found)
    head_masks, mouth_masks = (
        [
            counted & measure(points, options.side_px) if seen else np.zeros_like(counted)
            for points, seen in zip(landmarks, found, strict=True)
        ]
        for measure in (metrics.head_mask, metrics.mouth_mask)
    )
    regions: list[FrameRegions | None] = [None] * len(landmarks)
    for i, person in enumerate(persons):
        if found[i]:
            regions[i] = FrameRegions.of(landmarks[i], person, counted)
    necks = NeckFrame.each(landmarks, persons, found, counted)
    window_necks = NeckFrame.each(window_landmarks, window_persons, window_found, counted)
    motion = _fitted(tools, portrait, landmarks, options.side_px)
    return _Target(real, counted, head_masks, mouth_masks, regions, necks, window_necks, motion)


def _fitted(tools: ReenactTools, portrait: PreparedPortrait, landmarks: Array, side_px: int) -> Motion | None:
    """Expression and pose fitted to landmarks [n, 478, 2] in pixels of the evaluated side."""
    if tools.fit is None or not len(landmarks):
        return None
    return tools.fit(portrait, landmarks * (len(portrait.image) / side_px))


def _more(
    clip: str,
    name: str,
    made: _Seen,
    target: _Target,
    portrait: PreparedPortrait,
    options: ProtocolOptions,
    networks: MetricNetworks,
    tools: ReenactTools,
) -> Iterator[tuple[dict[str, float], dict[str, str]]]:
    """Values and reasons of AED and APD, and of the learned metrics."""
    both = made.found & target.real.found
    motion = _fitted(tools, portrait, made.landmarks, options.side_px)
    why = "no frame in which a face was found in both pictures" if tools.fit else "no fitter is at hand"
    yield motion_distances(motion, target.motion, both), dict.fromkeys(("aed", "apd_rad"), why)
    yield likeness(networks, _source(portrait, options.side_px), made.pictures, made.landmarks, made.found)
    yield likeness_by_frame(made.pictures, made.landmarks, target.real.pictures, target.real.landmarks, both)
    yield perceptual_rows(networks, made.pictures, target.real.pictures, target.counted)
    value, reason = keep_features(networks, options.out, clip, name, made.pictures)
    yield {"fid": value}, {"fid": reason}


def _neck(made: _Seen, target: _Target, portrait: PreparedPortrait) -> tuple[dict[str, float], dict[str, str]]:
    """Figures of the head-torso line in made frames, and reasons."""
    values = neck_figures(made.pictures, target.real.pictures, target.necks)
    moved = temporal_difference(target.real.window_pictures, target.window_necks)
    values["neck_temporal_ratio"] = _ratio(temporal_difference(made.window_pictures, target.window_necks), moved)
    values["neck_seam_ratio"] = _seam_ratio(made, target, portrait)
    return values, dict.fromkeys(values, "no real frame in which a face was found and the neck shows")


def _seam_ratio(seen: _Seen, target: _Target, portrait: PreparedPortrait) -> float:
    photo, landmarks = _source(portrait, len(target.counted))
    own = places_on_person(landmarks, (shrink(portrait.person_alpha, len(photo)) > 0.5) & target.counted)
    necks = [neck if found else None for neck, found in zip(target.necks, seen.found, strict=True)]
    return seam_ratio(seen.pictures, seen.landmarks, necks, photo, landmarks, own)


def motion_distances(made: Motion | None, real: Motion | None, both: Array) -> dict[str, float]:
    """``aed`` and ``apd_rad``: mean absolute differences of expression curves and of pitch, yaw, roll over the rows ``both`` [t]."""
    if made is None or real is None or not both.any():
        return {"aed": math.nan, "apd_rad": math.nan}
    turned = made.rotation_rad[both] - real.rotation_rad[both]
    turned = (turned + np.pi) % (2.0 * np.pi) - np.pi
    expression = np.abs(made.expression[both].astype(np.float64) - real.expression[both])
    return {"aed": float(expression.mean()), "apd_rad": float(np.abs(turned).mean(dtype=np.float64))}


def _render_all(
    render: Renderer,
    performer: Performer,
    chosen: Sequence[int],
    window: Sequence[int],
    side_px: int,
    tools: ReenactTools,
    tell: Callable[[int, int], None],
) -> tuple[_Seen, float]:
    """Every picture and landmark of one avatar, and its mean seconds per frame."""
    motion = performer.motion
    total = len(chosen) + len(window)
    spent, done = 0.0, 0

    def drawn(indices: Sequence[int], keep: list[Array]) -> Iterator[Array]:
        nonlocal spent, done
        for i in indices:
            begun = time.perf_counter()
            picture = render(motion[i])
            spent += time.perf_counter() - begun
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise NumericError(f"avatar {performer.avatar} drew {picture.dtype} {picture.shape}, expected uint8 (s, s, 3)")
            keep.append(shrink(picture, side_px))
            done += 1
            tell(done, total)
            yield picture

    pictures: list[Array] = []
    window_pictures: list[Array] = []
    landmarks, found = _landmarks(tools.track(drawn(chosen, pictures)), side_px)
    window_landmarks, window_found = _window_landmarks(tools.track, drawn(window, window_pictures), window, side_px)
    made = _Seen(pictures, landmarks, found, window_pictures, window_landmarks, window_found)
    return made, spent / total


def _measure(made: _Seen, target: _Target, angles: Sequence[float]) -> tuple[dict[str, float], dict[str, str], dict[str, int]]:
    """Metrics, reasons for those that are NaN, and the number of frames per class of rotation."""
    real, counted = target.real, target.counted
    pairs = list(zip(made.pictures, real.pictures, strict=True))
    values = {
        "l1": _mean([metrics.l1(a, b, counted) for a, b in pairs]),
        "psnr_db": _mean([metrics.psnr(a, b, counted) for a, b in pairs]),
        "ssim": _mean([metrics.ssim(a, b, counted) for a, b in pairs]),
        "ms_ssim": _mean([metrics.ms_ssim(a, b, counted) for a, b in pairs]),
        "mouth_l1": _mean([metrics.l1(a, b, mask) for (a, b), mask in zip(pairs, target.mouth_masks, strict=True)]),
        "faces_found": float(made.found.mean()),
    }
    reasons: dict[str, str] = {}

    both = made.found & real.found
    points, truth = made.landmarks[both], real.landmarks[both]
    by_landmarks: dict[str, Callable[[Array, Array], float]] = {
        "akd_px": metrics.landmark_distance,
        "mouth_distance_px": partial(metrics.landmark_distance, indices=metrics.LIPS),
        "lip_opening_error": metrics.lip_opening_error,
        "eye_opening_error": metrics.eye_opening_error,
    }
    for key, measure in by_landmarks.items():
        values[key] = measure(points, truth) if both.any() else math.nan
        reasons[key] = "no frame in which a face was found in both pictures"

    head = [metrics.psnr(a, b, mask) for (a, b), mask in zip(pairs, target.head_masks, strict=True)]
    values["head_psnr_db"] = _mean(head)
    counts = {}
    for name, (value, count) in metrics.mean_by_rotation(head, angles).items():
        values[f"head_psnr_{name}_db"], counts[name] = value, count
        reasons[f"head_psnr_{name}_db"] = f"no frame turned {name.replace('_', ' to ')} degrees from the source"

    by_region = region_figures(made.pictures, real.pictures, target.regions)
    values |= by_region
    reasons |= dict.fromkeys(by_region, "no real frame in which a face was found and this part of the person shows")

    steady = len(made.window_pictures) >= 3 and bool(made.window_found.all() and real.window_found.all())
    shaking = metrics.jitter(made.window_landmarks) if steady else math.nan
    values["jitter_px"] = shaking
    values["jitter_ratio"] = _ratio(shaking, metrics.jitter(real.window_landmarks)) if steady else math.nan
    reasons["jitter_px"] = reasons["jitter_ratio"] = "no run of three consecutive frames with a face in both videos"
    rest = _flicker(made.window_pictures, real.window_pictures, counted)
    values["flicker"], values["flicker_ratio"] = rest.made, _ratio(rest.made, rest.real)
    values["pop_ratio"] = _ratio(rest.made_most, rest.real_most)
    reasons["flicker"] = "no pixel of the real video stands still"
    reasons["flicker_ratio"] = reasons["pop_ratio"] = "no pixel of the real video stands still, or all of them do so perfectly"
    return values, reasons, counts


def _source(portrait: PreparedPortrait, side_px: int) -> tuple[Array, Array]:
    """The photo's crop at another side, and its landmarks [478, 2] in it."""
    return shrink(portrait.image, side_px), portrait.landmarks[:, :2] * (side_px / len(portrait.image))


def _describe_real(target: _Target, portrait: PreparedPortrait, likeness: tuple[dict[str, float], dict[str, str]]) -> dict[str, Any]:
    """The real video's own jitter, flicker, seam and likeness to its first frame, for the report."""
    real = target.real
    own = _flicker(real.window_pictures, real.window_pictures, target.counted)
    values = {
        "jitter_px": metrics.jitter(real.window_landmarks) if real.window_found.all() else math.nan,
        "flicker": own.real,
        "still_share": own.still_share,
        "neck_temporal": temporal_difference(real.window_pictures, target.window_necks),
        "neck_seam_ratio": _seam_ratio(real, target, portrait),
        "faces_found": float(real.found.mean()),
    }
    return strict_metrics(values | likeness[0], likeness[1])


def _flicker(made: list[Array], real: list[Array], counted: Array) -> metrics.Flicker:
    if not made:
        return metrics.Flicker(*[math.nan] * 5)
    return metrics.flicker(np.array(made), np.array(real), counted)


def _ratio(value: float, reference: float) -> float:
    """``value / reference``, NaN when the reference is not above 0."""
    return value / reference if reference > 0 else math.nan


def _landmarks(track: FaceTrack, side_px: int) -> tuple[Array, Array]:
    """x, y [t, 478, 2] in pixels of the evaluated side, and where a face was found [t]."""
    scale = side_px / np.asarray(track.size, np.float32)
    return track.landmarks[..., :2] * scale, np.asarray(track.found, bool)


def _window_landmarks(
    track: Callable[[Iterable[Array]], FaceTrack], frames: Iterator[Array], window: Sequence[int], side_px: int
) -> tuple[Array, Array]:
    """As :func:`_landmarks` for the consecutive frames, of which there may be none."""
    if not window:
        return np.zeros((0, 478, 2), np.float32), np.zeros(0, bool)
    return _landmarks(track(frames), side_px)


def shrink(picture: Array, side_px: int) -> Array:
    """A square picture at another side, averaging when it becomes smaller."""
    import cv2

    if len(picture) == side_px:
        return picture
    larger = len(picture) > side_px
    return cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA if larger else cv2.INTER_LINEAR)


def evenly(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of ``indices``, evenly spread, first and last included."""
    if len(indices) <= count:
        return list(indices)
    return [indices[i] for i in np.round(np.linspace(0, len(indices) - 1, count)).astype(int)]


def _mean(values: Sequence[float]) -> float:
    """Mean of what is finite; NaN when nothing is."""
    finite = np.asarray(values)[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _counted(frames: Iterable[Array], tell: Callable[[int], None]) -> Iterator[Array]:
    for done, frame in enumerate(frames, 1):
        yield frame
        tell(done)
