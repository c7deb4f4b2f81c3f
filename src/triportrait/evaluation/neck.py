"""How well head and torso hold together: the neighbourhood of the head-torso line in made and real frames.

The line is the jaw's, from one angle to the other, of the landmarks: above it all belongs to the head, below it are neck and torso.
Pictures are uint8 RGB [s, s, 3]; landmarks [478, 2 or more] in their pixels (centres at +0.5); masks bool [s, s]. Widths are given for a
picture of 256 px and grow with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from triportrait.errors import MotionFileError
from triportrait.evaluation import metrics
from triportrait.geometry.body import body_pivot
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP, JAW_ANGLES, OVAL
from triportrait.types import Array, MotionFrame, PreparedPortrait

#: The band reaches so far to both sides of the line.
BAND_PX = 16.0
#: Gradients across the line are looked for within this distance of it, at so many places; the person must go on so far below it.
_SEAM_PX, _PLACES, _GOES_ON_PX = 4.0, 64, 8.0
#: By so much the head is turned to both sides to see whether what lies below the collar stands still, and a pixel does within this.
TURN_DEG, _STILL = 25.0, 1.0


@dataclass(frozen=True, slots=True)
class NeckFrame:
    """What one real frame says about its neck: ``band`` bool [s, s] of the person beside the line, and the seam's ``places`` bool [n]."""

    band: Array
    places: Array

    @classmethod
    def of(cls, landmarks: Array, person: Array, counted: Array) -> NeckFrame:
        """Of a frame whose ``person`` bool [s, s] is known; pixels outside of ``counted`` bool [s, s] are left out."""
        return cls(neck_band(landmarks, person) & counted, places_on_person(landmarks, person & counted))

    @classmethod
    def each(cls, landmarks: Array, persons: Sequence[Array], found: Array, counted: Array) -> list[NeckFrame | None]:
        """Of frames with mattes [s, s] in 0..1; None without a face, or where nobody tells a person from the scene."""
        if not persons:
            return [None] * len(landmarks)
        rows = zip(landmarks, persons, found, strict=True)
        return [cls.of(points, person > 0.5, counted) if seen else None for points, person, seen in rows]


def head_torso_line(landmarks: Array) -> Array:
    """The jaw's line from the left angle to the right one, [m, 2] pixels."""
    first, last = (int(np.flatnonzero(OVAL == point)[0]) for point in reversed(JAW_ANGLES))
    return np.asarray(landmarks[OVAL[first : last + 1], :2], np.float64)


def neck_band(landmarks: Array, person: Array) -> Array:
    """Pixels of the person, bool [s, s], within :data:`BAND_PX` of the line: bool [s, s]."""
    import cv2

    side = len(person)
    drawn: Array = np.zeros((side, side), np.uint8)
    line = np.round(head_torso_line(landmarks) - 0.5).astype(np.int32)
    cv2.polylines(drawn, [line], isClosed=False, color=(1,), thickness=1)
    if not drawn.any():
        return np.zeros((side, side), bool)
    near = cv2.distanceTransform(1 - drawn, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= BAND_PX * side / 256
    return near & person


def _places(landmarks: Array) -> tuple[Array, Array]:
    """Evenly spread places on the line, [n, 2] pixels, and there the unit directions away from the face, [n, 2]."""
    line = head_torso_line(landmarks)
    way = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    at = (np.arange(_PLACES) + 0.5) / _PLACES * way[-1]
    places = np.stack([np.interp(at, way, line[:, axis]) for axis in (0, 1)], -1)
    along = np.gradient(places, axis=0)
    away = np.stack([along[:, 1], -along[:, 0]], -1)
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
    middle = np.asarray(landmarks[FOREHEAD_TOP, :2], np.float64)
    return places, away * np.sign(((places - middle) * away).sum(1, keepdims=True))


def places_on_person(landmarks: Array, person: Array) -> Array:
    """At which places of the line the person goes on below it, so that it is no outline: bool [n]."""
    side = len(person)
    places, away = _places(landmarks)
    reach = _GOES_ON_PX * side / 256
    ends = np.floor(np.concatenate([places + reach * away, places])).astype(int)
    inside = ((ends >= 0) & (ends < side)).all(1)
    shown = inside & person[np.clip(ends[:, 1], 0, side - 1), np.clip(ends[:, 0], 0, side - 1)]
    return shown[:_PLACES] & shown[_PLACES:]


def gradient_across(picture: Array, landmarks: Array) -> Array:
    """The strongest change of brightness across the line near each of its places: float64 [n], 0..1 per pixel."""
    import cv2

    unit = len(picture) / 256
    grey = cv2.cvtColor(metrics.unit(picture), cv2.COLOR_RGB2GRAY)
    places, away = _places(landmarks)
    steps = np.arange(-_SEAM_PX - 0.5, _SEAM_PX + 1.0) * unit
    at = (places[:, None] + steps[None, :, None] * away[:, None] - 0.5).astype(np.float32)
    profile = cv2.remap(grey, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.abs(np.diff(profile.astype(np.float64), axis=1)).max(1) / unit


def gradient_error(made: Array, real: Array, band: Array) -> float:
    """Mean length of the difference of both pictures' grey gradients (Sobel, 0..1 per pixel) over ``band``; NaN where that is empty."""
    import cv2

    difference = cv2.cvtColor(metrics.unit(made), cv2.COLOR_RGB2GRAY) - cv2.cvtColor(metrics.unit(real), cv2.COLOR_RGB2GRAY)
    steps = [cv2.Sobel(difference, cv2.CV_32F, dx, dy, ksize=3) / 8 for dx, dy in ((1, 0), (0, 1))]
    return float(np.hypot(*steps)[band].mean(dtype=np.float64)) if band.any() else float("nan")


def temporal_difference(pictures: Sequence[Array], necks: Sequence[NeckFrame | None]) -> float:
    """Mean change from each picture to the next over the real frame's band, 0..1; NaN without two frames in a row."""
    changes = [
        metrics.l1(before, after, neck.band) for before, after, neck in zip(pictures[:-1], pictures[1:], necks[:-1], strict=True) if neck
    ]
    return _finite_mean(changes)


def seam_ratio(
    pictures: Sequence[Array], landmarks: Array, necks: Sequence[NeckFrame | None], photo: Array, photo_landmarks: Array, own: Array
) -> float:
    """Gradients across the line of pictures over those of the photo, summed over the places that both show; NaN without any.

    Args:
        pictures: with their own ``landmarks`` [t, 478, 2]; necks: of the real frames, None where nothing is to be measured.
        photo: of the same side, with its landmarks [478, 2]; own: bool [n], its :func:`places_on_person`.
    """
    usual = gradient_across(photo, photo_landmarks)
    seen, expected = 0.0, 0.0
    for picture, points, neck in zip(pictures, landmarks, necks, strict=True):
        if neck is not None:
            both = own & neck.places
            seen += float(gradient_across(picture, points)[both].sum())
            expected += float(usual[both].sum())
    return seen / expected if expected > 0 else float("nan")


def neck_figures(made: Sequence[Array], real: Sequence[Array], necks: Sequence[NeckFrame | None]) -> dict[str, float]:
    """``neck_l1`` and ``neck_gradient_error`` over pictures of the same moments."""
    frames = [(a, b, neck.band) for a, b, neck in zip(made, real, necks, strict=True) if neck is not None]
    return {
        "neck_l1": _finite_mean([metrics.l1(a, b, band) for a, b, band in frames]),
        "neck_gradient_error": _finite_mean([gradient_error(a, b, band) for a, b, band in frames]),
    }


def below_collar(landmarks: Array, person: Array) -> Array:
    """The person below the pit of the neck, where a collar lies: bool [s, s].

    Args:
        person: bool [s, s].
    """
    down = np.asarray(landmarks[CHIN, :2] - landmarks[FOREHEAD_TOP, :2], np.float64)
    pit = body_pivot(landmarks)
    y, x = np.mgrid[: len(person), : len(person)] + 0.5
    return person & ((x - pit[0]) * down[0] + (y - pit[1]) * down[1] > 0)


def still_share(render: Callable[[MotionFrame], Array], portrait: PreparedPortrait) -> float:
    """The least share of the pixels below the collar that stay what they were when the head turns to either side; NaN without any.

    Args:
        render: a motion row -> uint8 [s, s, 3].
        portrait: whose own pose is turned by :data:`TURN_DEG`.
    """
    rest = portrait.motion
    below = below_collar(portrait.landmarks, portrait.person_alpha > 0.5)
    if not below.any():
        return float("nan")
    first, *others = (
        render(
            replace(rest, rotation_rad=rest.rotation_rad + np.array([0.0, np.radians(turn), 0.0], np.float32), landmarks=None, body=None)
        )
        for turn in (0.0, -TURN_DEG, TURN_DEG)
    )
    changes = [np.abs(other.astype(np.int16) - first).max(-1)[below] for other in others]
    return min(float((change <= _STILL).mean()) for change in changes)


def stillness(render: Callable[[MotionFrame], Array], portrait: PreparedPortrait) -> tuple[dict[str, float], dict[str, str]]:
    """``neck_still_share`` of :func:`still_share`, or why it is not there: what follows landmarks cannot be turned without any."""
    try:
        return {"neck_still_share": still_share(render, portrait)}, {"neck_still_share": "nothing of the person shows below the collar"}
    except MotionFileError as error:
        return {"neck_still_share": float("nan")}, {"neck_still_share": str(error)}


def _finite_mean(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
