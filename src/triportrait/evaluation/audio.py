"""Audio-driven talking: the first frame of a clip is the portrait, the clip's own sound drives it.

The real video of the same sentence is at hand, so lips are judged against its lips and against the sound. Head motion
is made up by the driver, or lent by a clip of another folder (Real3D-Portrait, appendix D.1), or (``pose="clip"``) the clip's own; only
then are pictures compared pixel by pixel. Every avatar gets the same motion; one that has an audio-to-motion network of its own
(``real3d`` with its weights) takes only the head's pose from it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from triportrait.drivers import first_pose_of_clip
from triportrait.errors import MediaError, NoFaceFound, NumericError, OptionError, TriPortraitError
from triportrait.evaluation import dynamics, learned, metrics
from triportrait.evaluation.cache import TrackCache
from triportrait.evaluation.contact_sheet import contact_sheet, write_sheet
from triportrait.evaluation.learned_rows import keep_features, likeness, perceptual_rows, pooled_fid
from triportrait.evaluation.parts import EVALUATED_FPS, ActingTools, default_acting_tools
from triportrait.evaluation.reenact import SHEET_COLUMNS, begin_with_clips, counted_pixels, evenly, motion_distances, shrink
from triportrait.evaluation.report import (
    AUDIO_LIFE,
    AUDIO_LIFE_COLUMNS,
    AUDIO_METRICS,
    AUDIO_PICTURE_COLUMNS,
    AUDIO_SCORE_COLUMNS,
    AUDIO_SYNC_COLUMNS,
    mean_over_clips,
    protocol_markdown,
    strict_metrics,
    write_report,
)
from triportrait.evaluation.running import Item, Progress, ProtocolOptions, Tell, networks_of, reason_of, run_items
from triportrait.geometry.warp import beside_the_face
from triportrait.motion.head_motion import CANDIDATES, FirstPoses, pose_library
from triportrait.motion.voice_controls import check_seed
from triportrait.types import Array, FaceTrack, Motion, PreparedPortrait, Waveform

if TYPE_CHECKING:
    from triportrait.evaluation.metric_weights import MetricNetworks


FORMAT = "triportrait-audio-1"
#: Metrics of one video against another of the same sentence; the real video has none of them.
_AGAINST_REAL = (
    "aed",
    "lmd_px",
    "lmd_upright",
    "lip_correlation",
    "lip_lag",
    "lip_correlation_best",
    "jitter_ratio",
    "lip_sync_score",
    "silent_lip_score",
    "head_motion_score",
    "brow_score",
    "lip_dynamics_score",
)


#: Metrics that need the landmarks of a talking face, and nothing else.
_OF_LANDMARKS = (
    "lse_d",
    "lse_c",
    "sync_offset",
    "curve_sync",
    "curve_sync_confidence",
    "curve_sync_lag",
    "loudness_correlation",
    "loudness_lag",
    *AUDIO_LIFE,
)


@dataclass(frozen=True, slots=True)
class AudioOptions(ProtocolOptions):
    """What ``triportrait evaluate audio`` asks for; of the made pictures every n-th is kept for the learned metrics (all are tracked).

    Args:
        seconds: at most so much of each clip, from its beginning.
        pose: ``"natural"`` (the driver makes head motion up), ``"still"``, or ``"clip"`` (the clip's own).
        seed: of everything random; driver and lent head motion draw from it and the clip's name.
        head_motion: folder of clips that lend their head motion (D.1): for each portrait one of the ten whose first frame shows the
            head turned most like it.
    """

    seconds: float = 10.0
    pose: str = "natural"
    seed: int = 0
    head_motion: Path | None = None

    def __post_init__(self) -> None:
        ProtocolOptions.__post_init__(self)
        if self.pose not in ("natural", "still", "clip"):
            raise OptionError(f"--pose is {self.pose!r}; use natural, still or clip.")
        if self.head_motion is not None and self.pose != "natural":
            raise OptionError("--pose and --head-motion both bring a head motion; give one of them.")
        check_seed(self.seed)
        if not 1.0 <= self.seconds <= 120.0:
            raise OptionError(f"--seconds is {self.seconds:g}; use 1 to 120.")


@dataclass(frozen=True, slots=True)
class _Video:
    """A talking face frame by frame: landmarks in pixels of the evaluated side, fitted motion, every n-th picture, SyncNet's rows."""

    landmarks: Array
    found: Array
    motion: Motion | None
    pictures: list[Array]
    lip_rows: Array | None


@dataclass(frozen=True, slots=True)
class _Sound:
    """What is heard: the waveform, loudness and silences per video frame, SyncNet's rows."""

    wave: Waveform
    level: Array
    silent: Array
    rows: Array | None


def run_audio(
    options: AudioOptions, *, tools: ActingTools | None = None, progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Measure the avatars on every clip with sound, write the reports and return what the JSON holds.

    Resumes and raises as :func:`triportrait.evaluation.reenact.run_reenact` does.
    """
    items, boxes, report = begin_with_clips(FORMAT, options)
    poses = lenders(options, progress)

    def save() -> None:
        report["mean"] = mean_over_clips(report["clips"], options.avatars, AUDIO_METRICS)
        report["real_mean"] = _real_mean(report["clips"])
        pooled_fid(options.out, report)
        text = (
            f"First frame of a clip → its own sound, head motion: {_head_motion(options)}; up to {options.seconds:g} s a clip at 25 frames "
            f"per second, seed {options.seed}.{_own_voices(report)}"
        )
        tables = (
            ("Lips and sound", AUDIO_SYNC_COLUMNS),
            ("Liveliness", AUDIO_LIFE_COLUMNS),
            ("Closeness to the real video (THEval's scores)", AUDIO_SCORE_COLUMNS),
            ("Pictures, expression", AUDIO_PICTURE_COLUMNS),
        )
        write_report(options.out, report, protocol_markdown(report, "Audio-driven talking", text, tables, AUDIO_METRICS))

    def measure(item: Item, tell: Tell) -> dict[str, Any]:
        found = default_acting_tools() if tools is None else tools
        return evaluate_voice(item, options, found, boxes.get(item.name), tell, poses)

    run_items(report, items, measure, partial(_measure_in_process, options, boxes, poses), save, options.jobs, progress)
    if options.plots:
        from triportrait.evaluation.plots import write_bars

        columns = (*AUDIO_SYNC_COLUMNS, *AUDIO_LIFE_COLUMNS, *AUDIO_SCORE_COLUMNS, *AUDIO_PICTURE_COLUMNS)
        write_bars(options.out, report["mean"], columns, report["real_mean"]["metrics"])
    return report


@lru_cache(maxsize=1)
def _tools_of_process() -> ActingTools:
    return default_acting_tools()


def _measure_in_process(
    options: AudioOptions, boxes: dict[str, tuple[float, float, float, float]], poses: FirstPoses | None, item: Item
) -> dict[str, Any]:
    return evaluate_voice(item, options, _tools_of_process(), boxes.get(item.name), lambda stage, done, total: None, poses)


def lenders(options: AudioOptions, progress: Callable[[Progress], None] | None = None) -> FirstPoses | None:
    """The clips of ``options.head_motion`` with their first poses, from the cache's index where there is one; None without a folder.

    Raises:
        OptionError: no folder, nothing in it, or no clip in it that begins with a face.
    """
    if options.head_motion is None:
        return None
    if not options.head_motion.is_dir():
        raise OptionError(f"--head-motion is '{options.head_motion}'; evaluate takes a folder of videos or motion files.")
    clips = pose_library("--head-motion", str(options.head_motion))

    def tell(stage: str, done: int, total: int) -> None:
        if progress is not None:
            progress(Progress(options.head_motion.name if options.head_motion else "", 0, 1, stage, done, total))

    return TrackCache(options.cache).first_poses(options.head_motion, clips, first_pose_of_clip, tell)


def _head_motion(options: AudioOptions) -> str:
    if options.head_motion is None:
        return options.pose
    return f"one of the {CANDIDATES} clips of `{options.head_motion}` whose first frame is nearest to the portrait's pose (D.1)"


def _own_voices(report: dict[str, Any]) -> str:
    """A sentence on the avatars that turned the voice into motion themselves; empty where none did."""
    rows = [clip["avatars"] for clip in report["clips"].values() if clip["status"] == "ok"]
    names = dict.fromkeys(name for row in rows for name, entry in row.items() if entry.get("own_voice"))
    return f" {', '.join(names)} turned the voice into expressions by its own network; the others share ours." if names else ""


def _real_mean(clips: dict[str, Any]) -> dict[str, Any]:
    """Means of the real videos' own metrics."""
    rows = {name: {"status": "ok", "avatars": {"real": clip["real"]}} for name, clip in clips.items() if clip["status"] == "ok"}
    return mean_over_clips(rows, ("real",), AUDIO_METRICS)["real"]


def evaluate_voice(
    item: Item,
    options: AudioOptions,
    tools: ActingTools,
    filled_box: tuple[float, float, float, float] | None,
    tell: Tell,
    poses: FirstPoses | None = None,
) -> dict[str, Any]:
    """The report's entry of one clip, with the head motion of one of ``poses`` where there are any.

    An avatar that fails has its reason in its own entry.

    Raises:
        TriPortraitError: nothing can be measured on this clip (no sound, no face, too short).
    """
    path = item.files[0]
    cache, networks = TrackCache(options.cache), networks_of(options.metric_weights)
    most = round(options.seconds * EVALUATED_FPS)
    first = next(iter(tools.base.read_frames(path)[1]), None)
    if first is None:
        raise MediaError(f"{path.name} has no frames.")
    tell("portrait", 0, 1)
    portrait = tools.base.prepare_portrait(first)
    wave = tools.read_voice(path)
    # Chance of its own for each clip: one seed for all would be one draw of blinks and brows, counted as many.
    seed = zlib.crc32(f"{options.seed} {item.name}".encode())
    tell("motion", 0, 0)
    asked = tools.talk(portrait, path, "still" if options.pose == "still" or poses is not None else "natural", seed)
    count = min(most, len(asked))
    if options.pose == "clip":
        frames = islice(tools.base.read_frames(path)[1], most)
        own = cache.motion(path, portrait, lambda: tools.base.drive(portrait, frames, EVALUATED_FPS))
        count = min(count, len(own))
        own = _rows(own, count)
        warp = None if own.warp is None else beside_the_face(own.warp)
        asked = _rows(asked, count).with_rows(rotation_rad=own.rotation_rad, translation=own.translation, body=own.body, warp=warp)
    lender = None
    if poses is not None:
        lender = poses.drawn(portrait.motion.rotation_rad, (options.seed, zlib.crc32(item.name.encode())))
        asked = tools.lend(portrait, _rows(asked, count), cache.motion(lender, None, partial(tools.clip_motion, lender)))
    size = (first.shape[1], first.shape[0])
    side = len(portrait.image)
    box_counted = counted_pixels(portrait.crop_box, options.side_px, size, filled_box)

    tell("real video", 0, count)
    crops = (tools.base.crop(frame, portrait.crop_box, side) for frame in islice(tools.base.read_frames(path)[1], count))
    track = partial(cache.track, f"voice {count}", path, portrait, compute=tools.track_video)
    real = _watch(crops, portrait, options, networks, tools, track)
    if not real.found.any():
        raise NoFaceFound(f"{path.name}: no face in the real video; use a clip that shows the face throughout.")
    count = len(real.found)
    if count < 3:
        raise MediaError(f"{path.name} has {count} frames with sound; at least 3 are needed.")
    asked = tools.with_landmarks(portrait, _rows(asked, count))
    level = dynamics.loudness(wave.samples, wave.rate_hz, count, EVALUATED_FPS)
    silent = dynamics.silent_frames(level, EVALUATED_FPS)
    rows = learned.sound_rows(networks.syncnet, wave.samples, count - 4) if networks.syncnet is not None else None
    sound = _Sound(wave, level, silent, rows)
    own_values, own_reasons = _alone(real, sound, networks, tools, options)
    keep_features(networks, options.out, item.name, "real", real.pictures)
    entry: dict[str, Any] = {
        "status": "ok",
        "frames": count,
        "kept_pictures": len(real.pictures),
        "silent_share": float(silent.mean()),
        "head_motion": lender.name if lender else options.pose,
        "real": {"status": "ok", **strict_metrics(own_values, own_reasons)},
        "avatars": {},
    }
    shown = evenly(range(len(real.pictures)), SHEET_COLUMNS)
    sheet: list[list[Array | None]] = [[real.pictures[i] for i in shown]]
    for name in options.avatars:
        try:
            pictures = tools.speak(name, portrait, path, asked, seed)
            drawn = _checked(name, pictures or _drawn(name, portrait, asked, tools), count, partial(tell, name))
            made = _watch(drawn, portrait, options, networks, tools, tools.track_video)
            values, reasons = _alone(made, sound, networks, tools, options)
            more, why = _against(item, name, made, real, values, own_values, portrait, box_counted, options, networks)
            entry["avatars"][name] = {"status": "ok", "own_voice": pictures is not None, **strict_metrics(values | more, reasons | why)}
            sheet.append([made.pictures[i] for i in shown])
        except Exception as error:  # the other avatars are still measured; the reason is reported
            entry["avatars"][name] = {"status": "failed", "reason": reason_of(error)}
            sheet.append([])
    if options.sheets:
        labels = [f"{i * options.every / EVALUATED_FPS:.2f} s" for i in shown]
        picture = contact_sheet(
            sheet, row_labels=["real", *options.avatars], column_labels=labels, title=path.name, cell_px=options.side_px
        )
        write_sheet(options.out.with_name(f"{options.out.stem}_sheets") / f"{path.stem}.png", picture)
    return entry


def _rows(motion: Motion, count: int) -> Motion:
    """The first ``count`` rows, without landmarks."""
    return motion.rows(slice(count))


def _drawn(name: str, portrait: PreparedPortrait, asked: Motion, tools: ActingTools) -> Iterator[Array]:
    render = tools.base.make_renderer(name, portrait)
    for frame in asked:
        yield render(frame)


def _checked(name: str, pictures: Iterable[Array], count: int, tell: Callable[[int, int], None]) -> Iterator[Array]:
    for i, picture in enumerate(pictures):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise NumericError(f"avatar {name} drew {picture.dtype} {picture.shape}, expected uint8 (s, s, 3)")
        tell(i + 1, count)
        yield picture


def _watch(
    crops: Iterable[Array],
    portrait: PreparedPortrait,
    options: AudioOptions,
    networks: MetricNetworks,
    tools: ActingTools,
    track: Callable[[Iterable[Array]], FaceTrack],
) -> _Video:
    """Track crops as they come; only every n-th picture is kept."""
    pictures: list[Array] = []
    faces: list[Array] = []

    def passing() -> Iterator[Array]:
        for i, crop in enumerate(crops):
            if i % options.every == 0:
                pictures.append(shrink(crop, options.side_px))
            if networks.syncnet is not None:
                faces.append(shrink(crop, options.side_px))
            yield crop

    found = track(passing())
    scale = options.side_px / np.asarray(found.size, np.float32)
    landmarks = found.landmarks[..., :2] * scale
    seen = np.asarray(found.found, bool)
    lip_rows = None
    if networks.syncnet is not None and seen.any():
        stream = learned.LipStream(networks.syncnet)
        for picture, points in zip(faces, landmarks, strict=True):
            stream.push(picture, points)
        lip_rows = stream.finish()
    fit = tools.base.fit
    motion = fit(portrait, landmarks * (len(portrait.image) / options.side_px)) if fit is not None and seen.any() else None
    return _Video(landmarks, seen, motion, pictures, lip_rows)


def _alone(
    video: _Video, sound: _Sound, networks: MetricNetworks, tools: ActingTools, options: AudioOptions
) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics of a talking face on its own, and reasons for those that are NaN."""
    if not video.found.any():
        why = "no picture of this video shows a face"
        return dict.fromkeys(_OF_LANDMARKS, math.nan) | {"faces_found": 0.0}, dict.fromkeys((*_OF_LANDMARKS, *_AGAINST_REAL), why)
    points, silent, level = video.landmarks, sound.silent, sound.level
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    if video.lip_rows is not None and sound.rows is not None:
        errors = learned.lip_sync_errors(video.lip_rows, sound.rows)
        values |= {"lse_d": errors["lse_d"], "lse_c": errors["lse_c"], "sync_offset": errors["offset"]}
    else:
        values |= dict.fromkeys(("lse_d", "lse_c", "sync_offset"), math.nan)
    reasons |= dict.fromkeys(("lse_d", "lse_c", "sync_offset"), networks.missing.get("syncnet", "fewer than five frames with sound"))

    curve = ("curve_sync", "curve_sync_confidence", "curve_sync_lag")
    values |= dict.fromkeys(curve, math.nan)
    reasons |= dict.fromkeys(curve, "this version comes without the curve expert's weights" if tools.curve_sync is None else "no fitter")
    if tools.curve_sync is not None and video.motion is not None:
        try:
            values |= dict(zip(curve, tools.curve_sync(video.motion, sound.wave), strict=True))
        except (TriPortraitError, RuntimeError, ValueError) as error:  # a metric that fails must not cost the others
            reasons |= dict.fromkeys(curve, reason_of(error))

    opening = metrics.lip_opening(points) / np.maximum(metrics.face_height(points), 1e-6)
    lag, best = dynamics.best_lag(dynamics.correlation_by_lag(opening, np.sqrt(level)))
    values |= {"loudness_correlation": best, "loudness_lag": lag}
    reasons |= dict.fromkeys(("loudness_correlation", "loudness_lag"), "the lips or the loudness do not change")
    gap = dynamics.lip_gap(points)
    quiet = metrics.silent_lip(opening, silent)
    values |= {
        "lip_sync_gap": dynamics.lip_sync_gap(gap, level, silent),
        "silent_lip_stability": dynamics.silent_lip_stability(gap, silent),
        "silent_opening": quiet["opening"],
        "silent_movement": quiet["movement"],
        "blinks_per_minute": metrics.blink_rate_per_minute(metrics.eye_aspect(points), EVALUATED_FPS),
        "head_motion": math.nan if video.motion is None else dynamics.head_motion(video.motion.rotation_rad, dynamics.box_centre(points)),
        "brow_dynamics": dynamics.brow_dynamics(points),
        "lip_dynamics": dynamics.lip_dynamics(points),
        "jitter_px": metrics.jitter(points),
        "faces_found": float(video.found.mean()),
    }
    reasons |= dict.fromkeys(("silent_lip_stability", "silent_opening", "silent_movement"), "no silence of 0.3 s, or lips that never move")
    reasons |= {"lip_sync_gap": "the lips or the loudness do not change", "head_motion": "no fitter is at hand"}
    reasons |= dict.fromkeys(_AGAINST_REAL, "compares with the real video")
    return values, reasons


def _against(
    item: Item,
    name: str,
    made: _Video,
    real: _Video,
    alone: dict[str, float],
    own: dict[str, float],
    portrait: PreparedPortrait,
    counted: Array,
    options: AudioOptions,
    networks: MetricNetworks,
) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics against the real video of the same sentence, and reasons."""
    both = made.found & real.found
    no_face = "no frame in which a face was found in both pictures"
    scale = options.side_px / len(portrait.image)
    source = (shrink(portrait.image, options.side_px), portrait.landmarks[:, :2] * scale)
    at = list(range(0, len(made.found), options.every))
    values, reasons = likeness(networks, source, made.pictures, made.landmarks[at], made.found[at])
    values["fid"], reasons["fid"] = keep_features(networks, options.out, item.name, name, made.pictures)
    values["aed"] = motion_distances(made.motion, real.motion, both)["aed"]
    values["lmd_px"] = dynamics.mouth_shape_distance(made.landmarks[both], real.landmarks[both]) * (256.0 / options.side_px)
    values["lmd_upright"] = dynamics.upright_mouth_distance(made.landmarks[both], real.landmarks[both])
    reasons |= dict.fromkeys(("aed", "lmd_px", "lmd_upright"), no_face)
    openings = [metrics.lip_opening(video.landmarks) / np.maximum(metrics.face_height(video.landmarks), 1e-6) for video in (made, real)]
    by_lag = dynamics.correlation_by_lag(*openings)
    lag, best = dynamics.best_lag(by_lag)
    values |= {"lip_correlation": by_lag[0], "lip_lag": lag, "lip_correlation_best": best}
    reasons |= dict.fromkeys(("lip_correlation", "lip_lag", "lip_correlation_best"), "the lips of one of the two do not move")
    values["jitter_ratio"] = alone["jitter_px"] / own["jitter_px"] if own["jitter_px"] > 0 else math.nan
    scores = (
        ("lip_sync_score", "lip_sync_gap"),
        ("silent_lip_score", "silent_lip_stability"),
        ("head_motion_score", "head_motion"),
        ("brow_score", "brow_dynamics"),
        ("lip_dynamics_score", "lip_dynamics"),
    )
    for score, key in scores:
        known = math.isfinite(alone[key]) and math.isfinite(own[key])
        values[score] = dynamics.closeness(alone[key], own[key]) if known else math.nan
        reasons[score] = "the metric is missing for one of the two videos, or 0 for the real one"

    pairs = list(zip(made.pictures, real.pictures, strict=True))
    pictures = ("l1", "psnr_db", "ssim")
    if options.pose == "clip" and pairs:
        for key, measure in zip(pictures, (metrics.l1, metrics.psnr, metrics.ssim), strict=True):
            values[key] = float(np.mean([measure(a, b, counted) for a, b in pairs]))
        more, why = perceptual_rows(networks, made.pictures, real.pictures, counted)
    else:
        why_not = "the head does not move as in the clip: there is no picture to compare with (--pose clip takes the clip's own)"
        more = dict.fromkeys((*pictures, "lpips_alex", "lpips_vgg"), math.nan)
        why = dict.fromkeys(more, why_not)
    return values | more, reasons | why
