"""Seams of turned heads: photographs of a folder are turned to both sides, up and down, and looked at near the head's outline.

Two questions are asked. Does the turned picture tear? Where a picture is whole, its brightness hardly changes along hairs and edges; saw
teeth, kinks and specks change it in every direction. This *unsteady gradient* has a distribution of its own near the outline of hair,
ears, jaw and neck of the photo: pixels of the turned picture beyond it break, and where much lies below it, the picture is smeared.
And does the turned picture still hold the person? It is prepared as a new photo and moved back to the first photo's own landmarks; what
comes back is compared with the photo region by region (the cycle error).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from triportrait.errors import NoFaceFound, OptionError
from triportrait.evaluation import metrics
from triportrait.evaluation.contact_sheet import contact_sheet, write_sheet
from triportrait.evaluation.parts import ReenactTools, default_tools
from triportrait.evaluation.regions import REGIONS, hair_areas, near_jaw, region_masks
from triportrait.evaluation.report import (
    SEAM_BREAK_COLUMNS,
    SEAM_CYCLE_COLUMNS,
    SEAM_METRICS,
    SEAM_SMEAR_COLUMNS,
    mean_over_clips,
    protocol_markdown,
    strict_metrics,
    write_report,
)
from triportrait.evaluation.running import Item, Progress, Tell, reason_of, run_items, start_report
from triportrait.media.portrait_folders import portraits_of
from triportrait.motion.voice_controls import check_seed
from triportrait.types import Array, MotionFrame, PreparedPortrait

FORMAT = "triportrait-seams-1"

#: Pitch and yaw in degrees by which the photo's head is turned; the first words of a metric's name say which turns it pools.
TURNS_DEG = {
    "yaw_20": ((0.0, -20.0), (0.0, 20.0)),
    "yaw_12": ((0.0, -12.0), (0.0, 12.0)),
    "pitch_12": ((-12.0, 0.0), (12.0, 0.0)),
}
#: Where gradients are looked at.
ZONES = ("hair", "sides", "jaw", "neck")
#: A pixel breaks above the first quantile of the photo's own unsteady gradients and is smeared below the second.
BREAK_QUANTILE, SMEAR_QUANTILE = 0.99, 0.10
#: Noise is smoothed away before gradients are taken, and directions are those of such a neighbourhood (pixels of a picture of 512 px).
_NOISE_PX, _NEIGHBOURHOOD_PX = 0.7, 3.0
#: A zone smaller than this (pixels of a picture of 512 px) says nothing.
_LEAST_ZONE_PX = 150


@dataclass(frozen=True, slots=True)
class SeamOptions:
    """What ``triportrait evaluate seams`` asks for.

    Args:
        portraits: folder of photographs; those of its split ``val`` are drawn.
        avatars: names of the avatars to compare.
        out: the JSON report; a Markdown report is written beside it.
        limit: so many photographs are drawn; None takes all.
        seed: of the draw.
        sheets: also write a contact sheet per photograph into the folder ``<out>_sheets``.
        jobs: photographs at a time, each in a process of its own.

    Raises:
        OptionError: a setting out of its range.
    """

    portraits: Path
    avatars: tuple[str, ...]
    out: Path
    limit: int | None = None
    seed: int = 0
    sheets: bool = False
    jobs: int = 1

    def __post_init__(self) -> None:
        if not self.avatars or len(set(self.avatars)) != len(self.avatars):
            raise OptionError("--avatar needs at least one name and none twice, such as lifted,oneshot.")
        if self.limit is not None and self.limit < 1:
            raise OptionError("--limit must be at least 1.")
        if not 1 <= self.jobs <= 64:
            raise OptionError(f"--jobs is {self.jobs}; use a number of processes from 1 to 64.")
        check_seed(self.seed)


@dataclass(frozen=True, slots=True)
class SeamTools:
    """The parts of the pipeline that the protocol calls.

    Args:
        base: the parts shared with the same-identity protocol; ``person_mask`` and ``fit`` are needed here.
        read_photo: file -> uint8 RGB [h, w, 3].
        prepare_again: (crop uint8 [s, s, 3], landmarks [478, 3] in its pixels) -> a portrait whose crop is the whole picture.
    """

    base: ReenactTools
    read_photo: Callable[[Path], Array]
    prepare_again: Callable[[Array, Array], PreparedPortrait]


def default_seam_tools() -> SeamTools:
    """The protocol's parts as the package has them."""
    from triportrait import drivers
    from triportrait.face.portrait import PortraitOptions, portrait_from_landmarks
    from triportrait.media.images import read_image

    def prepare_again(picture: Array, landmarks: Array) -> PreparedPortrait:
        side = len(picture)
        tracker, head = drivers.default_tracker(), drivers.default_head()
        return portrait_from_landmarks(picture, (0.0, 0.0, float(side)), picture, landmarks, tracker, head, PortraitOptions(side))

    return SeamTools(default_tools(), read_image, prepare_again)


def run_seams(
    options: SeamOptions, *, tools: SeamTools | None = None, progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Measure the avatars on photographs, write the reports and return what the JSON holds.

    Resumes as :func:`triportrait.evaluation.reenact.run_reenact` does.

    Raises:
        MediaError: the folder holds no portrait.
        OutputError: the report cannot be written.
        TriPortraitError: every photograph failed.
    """
    items = drawn_portraits(options.portraits, options.limit, options.seed)
    report = start_report(FORMAT, options, items)

    def save() -> None:
        report["mean"] = mean_over_clips(report["clips"], options.avatars, SEAM_METRICS)
        turns = ", ".join(f"{name.split('_')[0]} ±{name.split('_')[1]}°" for name in TURNS_DEG)
        text = f"Photographs of the split val, drawn with seed {options.seed}, their heads turned by {turns}."
        tables = (
            (f"Breaks, % of the pixels (the photo itself: {100 * (1 - BREAK_QUANTILE):.0f})", SEAM_BREAK_COLUMNS),
            (f"Smears, % of the pixels (the photo itself: {100 * SMEAR_QUANTILE:.0f})", SEAM_SMEAR_COLUMNS),
            ("Cycle error: away and back", SEAM_CYCLE_COLUMNS),
        )
        write_report(options.out, report, protocol_markdown(report, "Seams of turned heads", text, tables, SEAM_METRICS))

    def measure(item: Item, tell: Tell) -> dict[str, Any]:
        return evaluate_portrait(item, options, default_seam_tools() if tools is None else tools, tell)

    run_items(report, items, measure, partial(_measure_in_process, options), save, options.jobs, progress)
    return report


def drawn_portraits(folder: Path, limit: int | None, seed: int) -> list[Item]:
    """Photographs of the split ``val`` of a folder, drawn by a seed.

    Raises:
        MediaError: the folder cannot be read or holds none.
    """
    files = portraits_of(folder, "val")
    order = np.random.default_rng(seed).permutation(len(files))[:limit]
    return [Item(files[i].relative_to(folder).as_posix(), (files[i],)) for i in order]


@lru_cache(maxsize=1)
def _tools_of_process() -> SeamTools:
    return default_seam_tools()


def _measure_in_process(options: SeamOptions, item: Item) -> dict[str, Any]:
    return evaluate_portrait(item, options, _tools_of_process(), lambda stage, done, total: None)


def evaluate_portrait(item: Item, options: SeamOptions, tools: SeamTools, tell: Tell) -> dict[str, Any]:
    """The report's entry of one photograph; an avatar that fails has its reason in its own entry.

    Raises:
        TriPortraitError: nothing can be measured on this photograph.
    """
    tell("portrait", 0, 1)
    portrait = tools.base.prepare_portrait(tools.read_photo(item.files[0]))
    photo = _Outline.of(portrait.image, portrait.landmarks, tools)
    entry: dict[str, Any] = {"status": "ok", "avatars": {}}
    rows: list[list[Array | None]] = []
    for name in options.avatars:
        try:
            values, made, back = _measure(name, portrait, photo, tools, partial(tell, name))
            reasons = dict.fromkeys(values, "no turned picture in which a face was found and this part of the person shows")
            entry["avatars"][name] = {"status": "ok", **strict_metrics(values, reasons)}
            rows += [[portrait.image, *made], [None, *back]]
        except Exception as error:  # the other avatars are still measured; the reason is reported
            entry["avatars"][name] = {"status": "failed", "reason": reason_of(error)}
    if options.sheets and rows:
        labels = ["photo", *(f"{pitch:+.0f} {yaw:+.0f}" for turns in TURNS_DEG.values() for pitch, yaw in turns)]
        sheet = contact_sheet(rows, column_labels=labels, title=item.name, cell_px=384)
        write_sheet(options.out.with_name(f"{options.out.stem}_sheets") / f"{item.files[0].stem}.png", sheet)
    return entry


def _measure(
    name: str, portrait: PreparedPortrait, photo: _Outline, tools: SeamTools, tell: Callable[[int, int], None]
) -> tuple[dict[str, float], list[Array], list[Array | None]]:
    """Figures of one avatar on one photograph, the turned pictures, and those that came back."""
    masks = region_masks(photo.landmarks, photo.person)
    render = tools.base.make_renderer(name, portrait)
    breaks: dict[str, list[float]] = {}
    cycles: dict[str, list[float]] = {}
    made: list[Array] = []
    back: list[Array | None] = []
    found = 0
    for turn, angles in TURNS_DEG.items():
        for pitch, yaw in angles:
            picture = render(turned(portrait.motion, pitch, yaw))
            made.append(picture)
            tell(len(made), 6)
            try:
                away = _Outline.of(picture, None, tools)
            except NoFaceFound:
                back.append(None)
                continue
            found += 1
            for zone in ZONES:
                if zone in away.gradients and zone in photo.gradients:
                    broken, smeared = beyond_usual(away.gradients[zone], photo.gradients[zone])
                    for key in (zone, turn, "all"):
                        breaks.setdefault(f"breaks_{key}", []).append(100 * broken)
                        breaks.setdefault(f"smears_{key}", []).append(100 * smeared)
            home = _back_home(name, away, photo, tools)
            back.append(home)
            for region in REGIONS:
                cycles.setdefault(f"cycle_{region}", []).append(metrics.l1(home, portrait.image, masks[region]))
            cycles.setdefault("cycle_l1", []).append(metrics.l1(home, portrait.image))
    values = {metric.key: _mean((breaks | cycles).get(metric.key, [])) for metric in SEAM_METRICS}
    return values | {"faces_found": found / len(made)}, made, back


def _back_home(name: str, away: _Outline, photo: _Outline, tools: SeamTools) -> Array:
    """The turned picture as a photograph of its own, moved so that its landmarks lie where the first photo's lie: uint8 [s, s, 3]."""
    again = tools.prepare_again(away.picture, away.landmarks)
    assert tools.base.fit is not None
    motion = tools.base.fit(again, photo.landmarks[None, :, :2])
    return tools.base.make_renderer(name, again)(replace(motion[0], landmarks=photo.landmarks[:, :2].astype(np.float32)))


def turned(frame: MotionFrame, pitch_deg: float, yaw_deg: float) -> MotionFrame:
    """The same row with the head turned further."""
    turn = np.radians((pitch_deg, yaw_deg, 0.0)).astype(np.float32)
    return replace(frame, rotation_rad=frame.rotation_rad + turn, landmarks=None)


@dataclass(frozen=True, slots=True)
class _Outline:
    """A picture, its face and person, and the unsteady gradients per zone."""

    picture: Array
    landmarks: Array
    person: Array
    gradients: dict[str, Array]

    @classmethod
    def of(cls, picture: Array, landmarks: Array | None, tools: SeamTools) -> _Outline:
        """Looks for the face where no landmarks [478, 3] are given.

        Raises:
            NoFaceFound: there is none.
        """
        assert tools.base.person_mask is not None
        if landmarks is None:
            track = tools.base.track([picture])
            if not track.found[0]:
                raise NoFaceFound("no face in the turned picture.")
            landmarks = track.landmarks[0]
        person = tools.base.person_mask(picture)
        return cls(picture, landmarks, person, gradients_by_zone(picture, landmarks, person))


def gradients_by_zone(picture: Array, landmarks: Array, person: Array) -> dict[str, Array]:
    """Unsteady gradients near the outline: float32 [n] for each zone of :data:`ZONES` that shows.

    Args:
        picture: uint8 [s, s, 3].
        landmarks: [478, 2 or more] pixels.
        person: [s, s] in 0..1.
    """
    unsteady = unsteady_gradient(picture)
    top, left, right = hair_areas(landmarks, person)
    jaw, neck = near_jaw(landmarks, person)
    zones = dict(zip(ZONES, (top, left | right, jaw, neck), strict=True))
    least = _LEAST_ZONE_PX * (len(picture) / 512) ** 2
    return {name: unsteady[zone] for name, zone in zones.items() if zone.sum() >= least}


def unsteady_gradient(picture: Array) -> Array:
    """How much brightness changes in the steadiest direction: root of the structure tensor's smaller eigenvalue, float32 [s, s].

    It is zero along straight edges and parallel hairs however strong they are (Förstner and Gülch, 1987).
    """
    import cv2

    unit = len(picture) / 512
    grey = cv2.GaussianBlur(cv2.cvtColor(metrics.unit(picture), cv2.COLOR_RGB2GRAY), (0, 0), _NOISE_PX * unit)
    by_x, by_y = (cv2.Sobel(grey, cv2.CV_32F, dx, dy, ksize=3) / 8 for dx, dy in ((1, 0), (0, 1)))
    xx, xy, yy = (cv2.GaussianBlur(part, (0, 0), _NEIGHBOURHOOD_PX * unit) for part in (by_x * by_x, by_x * by_y, by_y * by_y))
    return np.sqrt(np.maximum((xx + yy) / 2 - np.hypot((xx - yy) / 2, xy), 0.0))


def beyond_usual(gradients: Array, usual: Array) -> tuple[float, float]:
    """Shares of the pixels of one zone [n] that break and that are smeared, against the photo's own [m]."""
    low, high = np.quantile(usual, (SMEAR_QUANTILE, BREAK_QUANTILE))
    return float((gradients > high).mean()), float((gradients < low).mean())


def _mean(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
