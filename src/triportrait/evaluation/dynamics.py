"""How alive a talking face is and whether it keeps time with the voice: statistics of landmark, pose and sound curves.

The definitions of "THEval" (N. Quignon et al., "Evaluation framework for talking head video generation", arXiv
2511.04520) are marked; where its paper leaves room the published code decides. Its learned parts are replaced: head
poses come from our fit instead of FaceXFormer, speech from loudness instead of Silero VAD. Curves are those of
consecutive frames; landmarks are MediaPipe's [t, 478, 2] in pixels.
"""

from __future__ import annotations

import numpy as np

from triportrait.evaluation.metrics import LIPS
from triportrait.geometry.landmarks import BROW_LEFT, BROW_RIGHT
from triportrait.types import Array

EYE_RIGHT = (7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246)
EYE_LEFT = (249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466)
#: Upper and lower inner lips, partner by partner (THEval's eight pairs).
_UPPER, _LOWER = (191, 80, 81, 82, 13, 312, 311, 310), (95, 88, 178, 87, 14, 317, 402, 318)
OUTER_EYE_CORNERS = (33, 263)

#: Speech is what is at most this much below the loud parts (their 95th percentile), and not below the floor.
_BELOW_LOUD_DB, _FLOOR_DB = 30.0, -55.0
#: Pauses of speech up to this are speech; THEval counts silences from 0.3 s on.
SHORTEST_SILENCE_S = 0.3


def loudness(samples: Array, rate_hz: int, frames: int, fps: float) -> Array:
    """Root mean square [frames] of the sound during each video frame; 0 after its end."""
    edges = np.round(np.arange(frames + 1) * rate_hz / fps).astype(int)
    power = np.concatenate([[0.0], np.cumsum(np.square(np.asarray(samples, np.float64)))])
    edges = np.minimum(edges, len(power) - 1)
    lengths = np.diff(edges)
    return np.sqrt(np.maximum(np.diff(power[edges]), 0.0) / np.maximum(lengths, 1))


def silent_frames(level: Array, fps: float) -> Array:
    """bool [t]: silences of at least 0.3 s in a curve of :func:`loudness`."""
    decibels = 20.0 * np.log10(np.maximum(level, 1e-9))
    if not len(level):
        return np.zeros(0, bool)
    quiet = decibels < max(float(np.percentile(decibels, 95)) - _BELOW_LOUD_DB, _FLOOR_DB)
    silent = np.zeros(len(quiet), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
    for start, stop in edges.reshape(-1, 2):
        if stop - start >= SHORTEST_SILENCE_S * fps:
            silent[start:stop] = True
    return silent


def _interocular(landmarks: Array) -> Array:
    left, right = (np.asarray(landmarks, np.float64)[..., corner, :] for corner in OUTER_EYE_CORNERS)
    return np.maximum(np.linalg.norm(left - right, axis=-1), 1e-6)


def lip_gap(landmarks: Array) -> Array:
    """Mean vertical gap of eight inner lip pairs over the distance of the outer eye corners -> [t] (THEval)."""
    points = np.asarray(landmarks, np.float64)
    gaps = np.abs(points[..., list(_UPPER), 1] - points[..., list(_LOWER), 1])
    return gaps.mean(axis=-1) / _interocular(points)


def lip_dynamics(landmarks: Array) -> float:
    """Mean over all pairs of the 40 lip points of their distance's standard deviation over time, in eye-corner distances.

    THEval's metric 4 (its published code takes the variance, its paper the deviation; here the paper's). NaN below two rows.
    """
    if len(landmarks) < 2:
        return float("nan")
    lips = np.asarray(landmarks, np.float64)[:, list(LIPS)] / _interocular(landmarks)[:, None, None]
    first, second = np.triu_indices(len(LIPS), 1)
    distances = np.linalg.norm(lips[:, first] - lips[:, second], axis=-1)
    return float(distances.std(axis=0, ddof=1).mean())


def head_motion(rotation_rad: Array, centre_px: Array) -> float:
    """THEval's metric 5: ``sqrt(mean std(angles) * mean var(change of angles) + mean var(centre))``.

    Args:
        rotation_rad: [t, 3]; degrees are used.
        centre_px: [t, 2], middle of the face's box, in pixels of a picture of fixed size.
    """
    if len(rotation_rad) < 3:
        return float("nan")
    degrees = np.degrees(np.asarray(rotation_rad, np.float64))
    turning = degrees.std(axis=0).mean() * np.diff(degrees, axis=0).var(axis=0).mean()
    return float(np.sqrt(turning + np.asarray(centre_px, np.float64).var(axis=0).mean()))


def brow_height(landmarks: Array) -> Array:
    """Distance of the brows' middles from the eyes', over that of the eyes' middles -> [t] (mean of both sides)."""
    points = np.asarray(landmarks, np.float64)
    right, left, brow_right, brow_left = (points[..., list(part), :].mean(axis=-2) for part in (EYE_RIGHT, EYE_LEFT, BROW_RIGHT, BROW_LEFT))
    apart = np.maximum(np.linalg.norm(right - left, axis=-1), 1e-6)
    return 0.5 * (np.linalg.norm(brow_right - right, axis=-1) + np.linalg.norm(brow_left - left, axis=-1)) / apart


def brow_dynamics(landmarks: Array) -> float:
    """THEval's metric 6 as its paper defines it: standard deviation over time of :func:`brow_height`."""
    return float(brow_height(landmarks).std()) if len(landmarks) > 1 else float("nan")


def silent_lip_stability(gap: Array, silent: Array) -> float:
    """THEval's metric 7: median absolute deviation from the median of :func:`lip_gap` [t] over ``silent`` frames; lower is calmer."""
    quiet = np.asarray(gap, np.float64)[np.asarray(silent, bool)]
    return float(np.median(np.abs(quiet - np.median(quiet)))) if len(quiet) >= 2 else float("nan")


def lip_sync_gap(gap: Array, level: Array, silent: Array) -> float:
    """THEval's metric 8: over speech, mean |lip gap - loudness|, each scaled to its range 0..1; lower is closer."""
    speech = ~np.asarray(silent, bool)
    if speech.sum() < 2:
        return float("nan")

    def scaled(curve: Array) -> Array:
        part = np.asarray(curve, np.float64)[speech]
        span = part.max() - part.min()
        return (part - part.min()) / span if span > 0 else np.full(len(part), np.nan)

    return float(np.abs(scaled(gap) - scaled(level)).mean())


def closeness(made: float, real: float) -> float:
    """THEval's score of a metric against the real video's: ``1 - |made - real| / |real|``; 1 is equal, NaN when real is 0."""
    return 1.0 - abs(made - real) / abs(real) if abs(real) > 0 else float("nan")


def correlation_by_lag(first: Array, second: Array, most: int = 5) -> dict[int, float]:
    """Pearson correlation of two curves [t] for lags up to ``most`` frames; positive: ``first`` comes late. NaN when one is constant."""
    result = {}
    for lag in range(-most, most + 1):
        a = np.asarray(first, np.float64)[max(lag, 0) : len(first) + min(lag, 0)]
        b = np.asarray(second, np.float64)[max(-lag, 0) : len(second) + min(-lag, 0)]
        steady = len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9
        result[lag] = float("nan") if steady else float(np.corrcoef(a, b)[0, 1])
    return result


def best_lag(by_lag: dict[int, float]) -> tuple[float, float]:
    """(lag, correlation) where it is highest; the smaller lag among equals; NaN when nothing correlates."""
    finite = {lag: value for lag, value in by_lag.items() if np.isfinite(value)}
    if not finite:
        return float("nan"), float("nan")
    lag = max(sorted(finite, key=abs), key=finite.__getitem__)
    return float(lag), finite[lag]


def mouth_shape_distance(made: Array, real: Array) -> float:
    """LMD: mean distance of the 40 lip points of [t, 478, 2] after taking away each mouth's middle, in their pixels."""
    if not len(made):
        return float("nan")
    shapes = [np.asarray(points, np.float64)[:, list(LIPS)] for points in (made, real)]
    shapes = [points - points.mean(axis=1, keepdims=True) for points in shapes]
    return float(np.linalg.norm(shapes[0] - shapes[1], axis=-1).mean())


def upright_mouth_distance(made: Array, real: Array) -> float:
    """As :func:`mouth_shape_distance` after turning and scaling each face by its eye corners, in eye-corner distances."""
    if not len(made):
        return float("nan")

    def upright(landmarks: Array) -> Array:
        points = np.asarray(landmarks, np.float64)
        across = points[:, OUTER_EYE_CORNERS[1]] - points[:, OUTER_EYE_CORNERS[0]]
        turn = np.conj(across[:, 0] + 1j * across[:, 1])
        turn /= np.square(np.abs(turn))
        lips = points[:, list(LIPS)]
        flat = (lips[..., 0] + 1j * lips[..., 1]) * turn[:, None]
        return flat - flat.mean(axis=1, keepdims=True)

    return float(np.abs(upright(made) - upright(real)).mean())


def box_centre(landmarks: Array) -> Array:
    """Middle of the landmarks' box [t, 2]."""
    return 0.5 * (landmarks.min(axis=-2) + landmarks.max(axis=-2))
