"""What a reenactment is measured by: pictures against pictures, landmarks against landmarks.

Pictures are RGB, uint8 [h, w, 3] or float in 0..1; masks are bool [h, w], True where a pixel counts. Landmarks are
MediaPipe's 478 points [..., 478, 2] in pixels of the picture they belong to (pixel centres at +0.5). A quantity that
cannot be measured (an empty mask, no frame in a range) is NaN; the report turns it into null with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from triportrait.geometry.masks import hull_mask
from triportrait.geometry.rotations import angle_between
from triportrait.types import Array

#: Of MediaPipe's 478 points: the rings of the lips, three (upper, lower) pairs of the inner lips, and the corners.
OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
INNER_LIPS = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
LIPS = tuple(sorted(OUTER_LIPS + INNER_LIPS))
LIP_PAIRS = ((13, 14), (82, 87), (312, 317))
MOUTH_CORNERS = (61, 291)
#: The subject's right and left eye: (upper, lower) lid pairs and the two corners.
EYE_PAIRS = (((159, 145), (158, 153), (160, 144)), ((386, 374), (385, 380), (387, 373)))
EYE_CORNERS = ((33, 133), (362, 263))
FOREHEAD, CHIN = 10, 152

#: Classes of the rotation away from the source's pose, in degrees; the upper end does not belong to a class.
ROTATION_RANGES_DEG = ((0, 4), (4, 8), (8, 15), (15, 30))

#: Identical pictures get this PSNR instead of infinity, so that means stay finite (a mean squared error of 1e-10).
HIGHEST_PSNR_DB = 100.0

SSIM_RADIUS = 5
SSIM_SIGMA = 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def unit(image: Array) -> Array:
    """uint8 or float picture -> float32 in 0..1, unchanged shape."""
    return image.astype(np.float32) / 255.0 if image.dtype == np.uint8 else image.astype(np.float32, copy=False)


def _check_pair(first: Array, second: Array) -> None:
    if first.shape != second.shape or first.ndim != 3:
        raise ValueError(f"pictures have shapes {first.shape} and {second.shape}, expected the same (h, w, 3)")


def _masked_mean(values: Array, mask: Array | None) -> float:
    """Mean of [h, w, c] over the pixels of ``mask``; NaN when it is empty."""
    if mask is None:
        return float(values.mean(dtype=np.float64))
    return float(values[mask].mean(dtype=np.float64)) if mask.any() else float("nan")


def l1(first: Array, second: Array, mask: Array | None = None) -> float:
    """Mean absolute difference in 0..1 over all channels and the pixels of ``mask``."""
    _check_pair(first, second)
    return _masked_mean(np.abs(unit(first) - unit(second)), mask)


def psnr(first: Array, second: Array, mask: Array | None = None) -> float:
    """Peak signal-to-noise ratio in dB: ``-10 log10(mean squared error)``, 0..1 units, at most ``HIGHEST_PSNR_DB``."""
    _check_pair(first, second)
    error = _masked_mean(np.square(unit(first) - unit(second)), mask)
    return float("nan") if np.isnan(error) else float(-10.0 * np.log10(max(error, 10.0 ** (-HIGHEST_PSNR_DB / 10.0))))


def _ssim_terms(first: Array, second: Array) -> tuple[Array, Array]:
    """Luminance and contrast-structure maps [h, w, 3] of SSIM with an 11 x 11 Gaussian window, borders mirrored."""
    import cv2

    offsets = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
    window = np.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    window /= window.sum()

    def blur(values: Array) -> Array:
        return cv2.sepFilter2D(values, cv2.CV_64F, window, window, borderType=cv2.BORDER_REFLECT)

    x, y = unit(first).astype(np.float64), unit(second).astype(np.float64)
    mean_x, mean_y = blur(x), blur(y)
    mean_xy = mean_x * mean_y
    mean_squares = mean_x**2 + mean_y**2
    variances = blur(x * x + y * y) - mean_squares
    covariance = blur(x * y) - mean_xy
    luminance = (2.0 * mean_xy + SSIM_C1) / (mean_squares + SSIM_C1)
    return luminance, (2.0 * covariance + SSIM_C2) / (variances + SSIM_C2)


def _interior(values: Array) -> Array:
    """Without the border where the window reaches beyond the picture."""
    return values[SSIM_RADIUS : len(values) - SSIM_RADIUS, SSIM_RADIUS : values.shape[1] - SSIM_RADIUS]


def ssim(first: Array, second: Array, mask: Array | None = None) -> float:
    """Structural similarity (Wang et al., IEEE TIP 2004): 11 x 11 Gaussian window, sigma 1.5, K1 .01, K2 .03, range 1.

    Computed per RGB channel and averaged over channels and over window centres at least 5 pixels from the border; with
    ``mask`` only over centres inside it.

    Raises:
        ValueError: a side is under 11 pixels, or the shapes differ.
    """
    _check_pair(first, second)
    if min(first.shape[:2]) <= 2 * SSIM_RADIUS:
        raise ValueError(f"SSIM needs at least 11 x 11 pixels, the pictures have {first.shape[1]} x {first.shape[0]}")
    luminance, structure = _ssim_terms(first, second)
    return _masked_mean(_interior(luminance * structure), None if mask is None else _interior(mask))


def ms_ssim(first: Array, second: Array, mask: Array | None = None) -> float:
    """Multi-scale SSIM (Wang, Simoncelli and Bovik, Asilomar 2003), five scales, 2 x 2 means between them.

    The product of the mean contrast-structure terms (negative ones count as 0) and, at the coarsest scale, of the mean
    SSIM, each to its scale's weight, per channel and then averaged. A masked pixel stays out at every scale it touches.

    Raises:
        ValueError: a side is under 176 pixels (the window does not fit into the coarsest scale), or the shapes differ.
    """
    import cv2

    _check_pair(first, second)
    if min(first.shape[:2]) < 11 * 2 ** (len(MS_SSIM_WEIGHTS) - 1):
        raise ValueError(f"MS-SSIM needs at least 176 x 176 pixels, got {first.shape[1]} x {first.shape[0]}")
    x, y = unit(first), unit(second)
    inside: Array = np.ones(x.shape[:2], np.float32) if mask is None else mask.astype(np.float32)
    product = np.ones(x.shape[2])
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        luminance, structure = _ssim_terms(x, y)
        last = scale == len(MS_SSIM_WEIGHTS) - 1
        values = _interior(luminance * structure if last else structure)
        counted = _interior(inside) > 0.999
        if not counted.any():
            return float("nan")
        product *= np.maximum(values[counted].mean(axis=0), 0.0) ** weight
        if not last:
            half = (x.shape[1] // 2, x.shape[0] // 2)
            even = (slice(0, 2 * half[1]), slice(0, 2 * half[0]))
            x, y, inside = (cv2.resize(v[even], half, interpolation=cv2.INTER_AREA) for v in (x, y, inside))
    return float(product.mean())


def landmark_distance(first: Array, second: Array, indices: Sequence[int] | None = None) -> float:
    """Mean Euclidean distance in pixels between [..., 478, 2] landmarks, over all points or those of ``indices``.

    Over all 478 points this is the average keypoint distance (AKD); over :data:`LIPS` the mouth landmark distance.
    """
    if first.shape != second.shape:
        raise ValueError(f"landmarks have shapes {first.shape} and {second.shape}, expected the same")
    distances = np.linalg.norm(np.asarray(first, np.float64) - second, axis=-1)
    if indices is not None:
        distances = distances[..., list(indices)]
    return float(distances.mean()) if distances.size else float("nan")


def face_height(landmarks: Array) -> Array:
    """Distance forehead to chin (points 10 and 152) of landmarks [..., 478, 2], in their pixels -> [...]."""
    return np.linalg.norm(np.asarray(landmarks, np.float64)[..., FOREHEAD, :] - landmarks[..., CHIN, :], axis=-1)


def _mean_gap(landmarks: Array, pairs: Sequence[tuple[int, int]]) -> Array:
    points = np.asarray(landmarks, np.float64)
    upper, lower = (points[..., list(side), :] for side in zip(*pairs, strict=True))
    return np.linalg.norm(upper - lower, axis=-1).mean(axis=-1)


def lip_opening(landmarks: Array) -> Array:
    """Gap between the inner lips (mean of three pairs round the middle) of [..., 478, 2], in pixels -> [...]."""
    return _mean_gap(landmarks, LIP_PAIRS)


def eye_opening(landmarks: Array) -> Array:
    """Gap between the lids (mean of three pairs) of [..., 478, 2], in pixels -> [..., 2], subject's right then left."""
    return np.stack([_mean_gap(landmarks, pairs) for pairs in EYE_PAIRS], -1)


def eye_aspect(landmarks: Array) -> Array:
    """Lid gap over corner distance of [..., 478, 2], mean of both eyes -> [...]; about 0.3 open, 0.1 shut."""
    widths = np.stack([_mean_gap(landmarks, (corners,)) for corners in EYE_CORNERS], -1)
    return (eye_opening(landmarks) / np.maximum(widths, 1e-6)).mean(axis=-1)


def lip_opening_error(made: Array, real: Array) -> float:
    """Mean absolute difference of the lip openings of [..., 478, 2], as a fraction of the real face's height."""
    return float(np.mean(np.abs(lip_opening(made) - lip_opening(real)) / face_height(real)))


def eye_opening_error(made: Array, real: Array) -> float:
    """Mean absolute difference of the eye openings of [..., 478, 2], as a fraction of the real face's height."""
    return float(np.mean(np.abs(eye_opening(made) - eye_opening(real)) / face_height(real)[..., None]))


def mouth_mask(landmarks: Array, side_px: int) -> Array:
    """Where the mouth is: hull of the outer lips of [478, 2], grown by 15 % of the mouth's width -> bool [s, s]."""
    import cv2

    width = np.linalg.norm(landmarks[MOUTH_CORNERS[0]] - landmarks[MOUTH_CORNERS[1]])
    radius = max(2, round(0.15 * float(width)))
    ball = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(hull_mask(landmarks[list(OUTER_LIPS)] - 0.5, side_px), ball).astype(bool)


def head_mask(landmarks: Array, side_px: int) -> Array:
    """Roughly the head: the hull of [478, 2] grown from its middle by 20 % sideways, 45 % upwards (hair), 5 % down.

    It depends on the real frame alone, so that every avatar is measured over the same pixels. -> bool [s, s]
    """
    points = np.asarray(landmarks, np.float64)
    up = points[FOREHEAD] - points[CHIN]
    up /= max(float(np.linalg.norm(up)), 1e-6)
    across = np.array([-up[1], up[0]])
    middle = 0.5 * (points[FOREHEAD] + points[CHIN])
    height, breadth = (points - middle) @ up, (points - middle) @ across
    grown = np.where(height > 0, 1.45, 1.05) * height
    return hull_mask(middle + grown[:, None] * up + 1.2 * breadth[:, None] * across - 0.5, side_px).astype(bool)


def rotation_angle_deg(first_rad: Array, second_rad: Array) -> float:
    """Angle in degrees of the rotation from head pose ``first_rad`` [3] (pitch, yaw, roll) to ``second_rad`` [3]."""
    return float(np.degrees(angle_between(first_rad, second_rad)))


def mean_by_rotation(values: Sequence[float], angles_deg: Sequence[float]) -> dict[str, tuple[float, int]]:
    """Mean and count of the finite ``values`` per class of rotation: ``{"0_4": (mean, n), ...}``, (NaN, 0) if empty."""
    values_, angles = np.asarray(values, np.float64), np.asarray(angles_deg, np.float64)
    result = {}
    for low, high in ROTATION_RANGES_DEG:
        chosen = values_[(angles >= low) & (angles < high) & np.isfinite(values_)]
        result[f"{low}_{high}"] = (float(chosen.mean()) if chosen.size else float("nan"), int(chosen.size))
    return result


def jitter(landmarks: Array) -> float:
    """Mean magnitude, in pixels, of the second temporal difference of landmarks [t, 478, 2] of consecutive frames."""
    if len(landmarks) < 3:
        return float("nan")
    points = np.asarray(landmarks, np.float64)
    return float(np.linalg.norm(points[2:] - 2.0 * points[1:-1] + points[:-2], axis=-1).mean())


@dataclass(frozen=True, slots=True)
class Flicker:
    """Restlessness where the real video stands still.

    Args:
        made: mean absolute change from frame to frame in 0..1 of the made video over the still pixels.
        real: the same of the real video (its noise).
        still_share: share of the pixels that count as still, 0..1.
        made_most, real_most: the largest of these changes from one frame to the next.
    """

    made: float
    real: float
    still_share: float
    made_most: float
    real_most: float


def flicker(made: Array, real: Array, mask: Array | None = None, still_below: float = 6.0 / 255.0) -> Flicker:
    """Change from frame to frame where the real video is still, for consecutive frames [t, h, w, 3] of both.

    A pixel is still when the real video's changes there, averaged over 5 x 5 pixels and channels, stay under
    ``still_below`` throughout; ``mask`` bool [h, w] leaves pixels out.
    """
    import cv2

    if made.shape != real.shape:
        raise ValueError(f"videos have shapes {made.shape} and {real.shape}, expected the same")
    still = np.ones(real.shape[1:3], bool) if mask is None else mask.copy()
    pixels = int(still.sum())
    if len(real) < 2 or not pixels:
        return Flicker(*[float("nan")] * 5)
    for before, after in zip(real[:-1], real[1:], strict=True):
        still &= cv2.blur(np.abs(unit(after) - unit(before)).mean(axis=-1), (5, 5)) < still_below
    changes = np.array(
        [[_masked_mean(np.abs(unit(video[i + 1]) - unit(video[i])), still) for i in range(len(video) - 1)] for video in (made, real)]
    )
    (made_mean, real_mean), (made_most, real_most) = changes.mean(axis=1), changes.max(axis=1)
    return Flicker(float(made_mean), float(real_mean), float(still.sum()) / pixels, float(made_most), float(real_most))


def blinks(aspect: Array, fps: float) -> list[tuple[int, int]]:
    """Blinks in a curve of :func:`eye_aspect` [t]: runs (first, one past last) under half of the open eye, <= 0.5 s.

    The open eye is the curve's 90th percentile. A run ends where the eye is open to 60 % again, so that noise at the
    threshold does not count twice; longer closures are not blinks.
    """
    aspect = np.asarray(aspect, np.float64)
    if not len(aspect):
        return []
    opened = np.percentile(aspect, 90)
    runs: list[tuple[int, int]] = []
    start: int | None = None
    for i, value in enumerate(aspect):
        if start is None and value < 0.5 * opened:
            start = i
        elif start is not None and value >= 0.6 * opened:
            runs.append((start, i))
            start = None
    if start is not None:
        runs.append((start, len(aspect)))
    return [run for run in runs if (run[1] - run[0]) / fps <= 0.5]


def blink_rate_per_minute(aspect: Array, fps: float) -> float:
    """Blinks per minute in a curve of :func:`eye_aspect` [t] of consecutive frames; NaN when it is empty."""
    return len(blinks(aspect, fps)) * 60.0 * fps / len(aspect) if len(aspect) else float("nan")


def silent_lip(opening: Array, silent: Array) -> dict[str, float]:
    """How still the lips are while nobody speaks.

    Args:
        opening: [t] lip opening in any unit.
        silent: [t] bool, True in silence.

    Returns:
        ``opening``: mean opening in silence above the curve's 5th percentile, and ``movement``: mean absolute change
        between neighbouring silent frames; both as fractions of the curve's range (5th to 95th percentile). NaN without
        silence or without any range.
    """
    opening, silent = np.asarray(opening, np.float64), np.asarray(silent, bool)
    if opening.shape != silent.shape or opening.ndim != 1:
        raise ValueError(f"opening has shape {opening.shape} and silent {silent.shape}, expected both (t,)")
    nothing = {"opening": float("nan"), "movement": float("nan")}
    if not silent.any():
        return nothing
    low, high = np.percentile(opening, (5, 95))
    if high <= low:
        return nothing
    both = silent[1:] & silent[:-1]
    movement = float(np.abs(np.diff(opening))[both].mean() / (high - low)) if both.any() else float("nan")
    return {"opening": float((opening[silent].mean() - low) / (high - low)), "movement": movement}
