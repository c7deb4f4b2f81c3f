"""Where in the picture an error sits: regions of a real frame, and how far the hair of a made one lies from the real one's.

Every region comes from the real frame alone, its person's matte and its landmarks, so that all methods are measured over the same pixels.
Pictures are uint8 RGB [s, s, 3]; landmarks [478, 2 or more] in their pixels (centres at +0.5); masks bool [s, s]. Widths are given for a
picture of 256 px and grow with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from triportrait.evaluation import metrics
from triportrait.geometry.flow import flow_between, round_trip
from triportrait.geometry.landmarks import CHEEK_SIDES, CHIN, EYE_LEFT_RIM, EYE_RIGHT_RIM, FACE_POINTS, FOREHEAD_TOP, OVAL
from triportrait.geometry.masks import hull_mask
from triportrait.types import Array

#: Names of the regions in reports. ``face`` is the rest of the face without mouth and eyes.
REGIONS = ("face", "eyes", "hair_ears_neck", "outline", "background", "torso")
#: A pixel belongs to the person where the matte is above this.
_PERSON = 0.5
#: The outline is a band of so many pixels to either side; eyes reach so far beyond their rims; the band of hair is wider.
_OUTLINE_PX, _EYES_PX, _HAIR_PX = 2.0, 3.0, 6.0
#: A made frame's hair was found again where flow forth and back ends within so many pixels, in this share of the area at least.
_ROUND_TRIP_PX, _MATCHED_SHARE = 1.5, 0.3
#: An area of hair smaller than this (pixels of a picture of 256 px) says nothing.
_LEAST_AREA_PX = 60


def _disc(radius_px: float) -> Array:
    import cv2

    side = 2 * max(1, round(radius_px)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def _rim(person: Array, radius_px: float) -> tuple[Array, Array]:
    """What surely lies inside and what surely lies outside of a person [s, s] bool, ``radius_px`` from the outline on."""
    import cv2

    ball, inside = _disc(radius_px), person.astype(np.uint8)
    return cv2.erode(inside, ball).astype(bool), ~cv2.dilate(inside, ball).astype(bool)


def region_masks(landmarks: Array, person: Array) -> dict[str, Array]:
    """The regions :data:`REGIONS` of a real frame; they do not overlap, and the mouth belongs to none.

    Args:
        landmarks: [478, 2 or more] pixels.
        person: [s, s] in 0..1, the person's matte.
    """
    import cv2

    side = len(person)
    unit = side / 256
    points = landmarks[:, :2] - 0.5
    face = hull_mask(points[:FACE_POINTS], side).astype(bool)
    rims = hull_mask(points[EYE_LEFT_RIM], side) | hull_mask(points[EYE_RIGHT_RIM], side)
    eyes = cv2.dilate(rims, _disc(_EYES_PX * unit)).astype(bool)
    mouth = metrics.mouth_mask(landmarks[:, :2], side)
    inside, outside = _rim(person > _PERSON, _OUTLINE_PX * unit)
    above = np.arange(side)[:, None] + 0.5 < landmarks[CHIN, 1]
    free = ~face & ~eyes & ~mouth
    return {
        "face": face & ~eyes & ~mouth,
        "eyes": eyes & ~mouth,
        "hair_ears_neck": inside & free & above,
        "outline": ~inside & ~outside & free,
        "background": outside & free,
        "torso": inside & free & ~above,
    }


def hair_areas(landmarks: Array, person: Array) -> tuple[Array, Array, Array]:
    """The band along the person's outline above the forehead, and to the face's left and right in the picture: bool [s, s] each.

    The sides reach from the height of the mouth to the forehead's top. Heights are measured along the face, chin to forehead.
    """
    side = len(person)
    unit = side / 256
    inside, outside = _rim(person > _PERSON, _HAIR_PX * unit)
    band = ~inside & ~outside & ~hull_mask(landmarks[:FACE_POINTS, :2] - 0.5, side).astype(bool)
    chin = landmarks[CHIN, :2].astype(np.float64)
    up = landmarks[FOREHEAD_TOP, :2] - chin
    face_height = max(float(np.linalg.norm(up)), 1.0)
    up = up / face_height
    y, x = np.mgrid[:side, :side] + 0.5
    height = ((x - chin[0]) * up[0] + (y - chin[1]) * up[1]) / face_height
    across = (x - chin[0]) * -up[1] + (y - chin[1]) * up[0]
    beside = band & (height > 0.25) & (height <= 1.0)
    return band & (height > 1.0), beside & (across < 0), beside & (across >= 0)


def near_jaw(landmarks: Array, person: Array) -> tuple[Array, Array]:
    """The band along the jaw's line from ear to ear, as wide as that of hair, and the neck below it: bool [s, s] each.

    The neck is the person below the band, as wide as the jaw and a third of the face's height deep.
    """
    import cv2

    side = len(person)
    first, last = (int(np.flatnonzero(OVAL == point)[0]) for point in reversed(CHEEK_SIDES))
    line = landmarks[OVAL[first : last + 1], :2] - 0.5
    radius = _HAIR_PX * side / 256
    drawn: Array = np.zeros((side, side), np.uint8)
    cv2.polylines(drawn, [np.round(line).astype(np.int32)], isClosed=False, color=(1,), thickness=1)
    jaw = cv2.dilate(drawn, _disc(radius)).astype(bool)
    # Filled from the jaw's line to the same line further down the face's axis.
    down = (landmarks[CHIN, :2] - landmarks[FOREHEAD_TOP, :2]) / 3
    middle = line[len(line) // 4 : -(len(line) // 4)]
    below = hull_mask(np.concatenate([middle, middle + down]), side).astype(bool)
    face = hull_mask(landmarks[:FACE_POINTS, :2] - 0.5, side).astype(bool)
    return jaw, below & ~jaw & ~face & (person > _PERSON)


def hair_shifts(made: Array, real: Array, areas: Sequence[Array]) -> Array:
    """How far the hair of ``made`` lies from that of ``real``, one (x, y) per area [n, 2] in pixels; NaN where it was not found again.

    An area's shift is the median of the optical flow over pixels from which flow forth and back returns.
    """
    import cv2

    start, end = (cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) for picture in (real, made))
    forth = flow_between(start, end)
    unit = len(real) / 256
    sure = round_trip(forth, flow_between(end, start)) < _ROUND_TRIP_PX * unit
    shifts = np.full((len(areas), 2), np.nan)
    for i, area in enumerate(areas):
        if area.sum() >= _LEAST_AREA_PX * unit**2 and sure[area].mean() >= _MATCHED_SHARE:
            shifts[i] = np.median(forth[area & sure], axis=0)
    return shifts


def edge_strength(picture: Array, area: Array) -> float:
    """Sum of the lengths of the grey gradient (Sobel, 0..1) over a mask."""
    import cv2

    grey = cv2.cvtColor(metrics.unit(picture), cv2.COLOR_RGB2GRAY)
    steps = [cv2.Sobel(grey, cv2.CV_32F, dx, dy, ksize=3) / 8 for dx, dy in ((1, 0), (0, 1))]
    return float(np.hypot(*steps)[area].sum())


@dataclass(frozen=True, slots=True)
class FrameRegions:
    """What one real frame says about its regions.

    Args:
        masks: of :func:`region_masks`.
        hair: of :func:`hair_areas`: top, left, right.
        person: bool [s, s].
    """

    masks: dict[str, Array]
    hair: tuple[Array, Array, Array]
    person: Array

    @classmethod
    def of(cls, landmarks: Array, person: Array, counted: Array) -> FrameRegions:
        """Regions of a frame; of them, pixels outside of ``counted`` bool [s, s] are left out."""
        masks = {name: mask & counted for name, mask in region_masks(landmarks, person).items()}
        top, left, right = (area & counted for area in hair_areas(landmarks, person))
        return cls(masks, (top, left, right), person > _PERSON)


#: Reported besides the regions' L1.
HAIR_KEYS = ("hair_sharpness", "hair_top_x_px", "hair_top_y_px", "hair_side_x_px", "hair_side_y_px", "hair_matched")


def region_figures(made: Sequence[Array], real: Sequence[Array], regions: Sequence[FrameRegions | None]) -> dict[str, float]:
    """L1 by region, sharpness of the hair's band over the real one's, and the root mean square shift of hair in pixels.

    Args:
        made, real: pictures of the same moments.
        regions: of the real ones; None where no face was found.

    Returns:
        ``l1_<region>`` for :data:`REGIONS` and :data:`HAIR_KEYS`, NaN where nothing could be measured.
    """
    frames = [(a, b, where) for a, b, where in zip(made, real, regions, strict=True) if where is not None]
    values: dict[str, float] = {}
    for name in REGIONS:
        values[f"l1_{name}"] = _finite_mean([metrics.l1(a, b, where.masks[name]) for a, b, where in frames])
    bands = [np.logical_or.reduce(where.hair) for _, _, where in frames]
    of_made, of_real = (
        sum(edge_strength(picture, band) for picture, band in zip(pictures, bands, strict=True))
        for pictures in ([a for a, _, _ in frames], [b for _, b, _ in frames])
    )
    values["hair_sharpness"] = of_made / of_real if of_real > 0 else float("nan")
    # The scene beyond the outline stands still; only what lies within can have moved.
    inside = [tuple(area & where.person for area in where.hair) for _, _, where in frames]
    shifts = np.array([hair_shifts(a, b, areas) for (a, b, _), areas in zip(frames, inside, strict=True)]).reshape(-1, 3, 2)
    for part, of_part in (("top", shifts[:, :1]), ("side", shifts[:, 1:])):
        for axis, letter in enumerate("xy"):
            found = of_part[..., axis][np.isfinite(of_part[..., axis])]
            values[f"hair_{part}_{letter}_px"] = float(np.sqrt(np.mean(found**2))) if found.size else float("nan")
    values["hair_matched"] = float(np.isfinite(shifts[..., 0]).mean()) if len(shifts) else float("nan")
    return values


def _finite_mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
