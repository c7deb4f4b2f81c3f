"""Zero-phase smoothing that takes the tremble of tracking away and leaves blinks, lip closures and quick turns as
they are.

Each curve is compared with its Savitzky-Golay fit (A. Savitzky and M. Golay, 1964): where they differ by little, the
difference is noise and the fit is taken; where they differ by much, something happened and the measurement stays.
Between the two the mix is smooth.
"""

from __future__ import annotations

import numpy as np

from triportrait.geometry.curve_range import lowest_curves
from triportrait.geometry.fields import smooth_step
from triportrait.geometry.rotations import (
    euler_from_matrix,
    matrix_from_euler,
    matrix_from_vector,
    mean_rotation,
    vector_from_matrix,
)
from triportrait.geometry.warp import AROUND
from triportrait.motion.filters import gaussian, quadratic_fit
from triportrait.types import Array, Motion

#: A body is heavy: it has no events that a Gaussian of this deviation would take away.
BODY_SIGMA_S = 0.12
#: Hair is light; landmarks of the face would tremble with skin that follows flow from frame to frame.
_AROUND_SIGMA_S, _FACE_SIGMA_S = 0.05, 0.1


def smooth_adaptive(values: Array, noise: float | Array, window: int = 7) -> Array:
    """Smooth [t, n] along time where changes are of the size of ``noise`` (standard deviation, in the units of
    ``values``).

    Args:
        values: [t, n].
        noise: scalar or [n]; differences of three times as much are kept in full.
        window: frames of the quadratic fit, odd.
    """
    values = np.asarray(values, np.float64)
    window = min(window, len(values) - (1 - len(values) % 2))
    if window < 5:
        return values.copy()
    fit = quadratic_fit(values, window)
    difference = np.abs(values - fit)
    # The strongest difference within two frames decides, so that a blink keeps its shape and not only its peak.
    padded = np.pad(difference, ((2, 2), (0, 0)), mode="edge")
    strongest = np.max([padded[k : k + len(values)] for k in range(5)], axis=0)
    keep = np.clip((strongest / np.maximum(noise, 1e-9) - 1.0) / 2.0, 0.0, 1.0)
    return fit + (values - fit) * smooth_step(keep)


def smooth_rotations(rotation_rad: Array, noise_rad: float = 0.004, window: int = 9) -> Array:
    """Smooth Euler angles [t, 3] as rotations: in the tangent space at their mean, so that no angle wraps or couples."""
    if len(rotation_rad) < 5:
        return np.asarray(rotation_rad, np.float64).copy()
    matrices = matrix_from_euler(rotation_rad)
    mean = mean_rotation(matrices)
    vectors = vector_from_matrix(mean.T @ matrices)
    return euler_from_matrix(mean @ matrix_from_vector(smooth_adaptive(vectors, noise_rad, window)))


def smooth_box(values: Array, window: int = 7) -> Array:
    """Mean over a centred window of frames, mirrored at the ends with the edge frame included (spec 4, step 10).

    Args:
        values: [t, ...].
        window: frames, odd; 1 changes nothing.

    Returns:
        The same shape, float64.
    """
    reach = window // 2
    padded = np.pad(np.asarray(values, np.float64), [(reach, reach), *[(0, 0)] * (values.ndim - 1)], mode="symmetric")
    return np.mean([padded[k : k + len(values)] for k in range(window)], axis=0)


def smooth_points(points: Array, noise: float) -> Array:
    """Smooth tracked places [t, n, 2] along time; ``noise`` in their units, see :func:`smooth_adaptive`."""
    return smooth_adaptive(points.reshape(len(points), -1), noise, 5).reshape(points.shape)


def smooth_body(body: Array, fps: float, strength: float = 1.0) -> Array:
    """Smooth a body's motion [t, 4]: float32."""
    return gaussian(body, strength * BODY_SIGMA_S * fps, "edge").astype(np.float32)


def smooth_warp(warps: Array, known: Array, fps: float) -> Array | None:
    """Measured warps [t, 184] smoothed in time, each row as it is known: float32; None where nothing is known.

    Args:
        known: [t, 2], how surely the places round the head and those on the face are known in each row, 0..1.
    """
    if not known.any():
        return None
    parts = []
    split = 2 * AROUND
    for values, sure, sigma_s in ((warps[:, :split], known[:, :1], _AROUND_SIGMA_S), (warps[:, split:], known[:, 1:], _FACE_SIGMA_S)):
        share = sure + 1e-3
        parts.append(gaussian(values * share, sigma_s * fps, "edge") / gaussian(share, sigma_s * fps, "edge"))
    return np.concatenate(parts, 1).astype(np.float32)


def smooth_motion(motion: Motion, strength: float = 1.0) -> Motion:
    """Smooth all of a tracked motion.

    Args:
        motion: one row per frame, as fitted.
        strength: scales what counts as noise; 0 gives the motion back unchanged.

    Returns:
        The motion with curves in their range (for ARKit curves), lids shut wherever they were.
    """
    if strength <= 0 or len(motion) < 5:
        return motion
    names = motion.expression_names
    expression = smooth_adaptive(motion.expression, 0.02 * strength, 5)
    lids = [i for i, name in enumerate(names) if name.startswith("eyeBlink")]
    if lids:  # ARKit's curves; FLAME's coefficients have a jawOpen, too, and any sign
        expression = np.clip(expression, lowest_curves(names), 1.0)
        shut = motion.expression[:, lids] > 0.7
        expression[:, lids] = np.where(shut, motion.expression[:, lids], expression[:, lids])
    return motion.with_rows(
        expression=expression.astype(np.float32),
        rotation_rad=smooth_rotations(motion.rotation_rad, 0.004 * strength).astype(np.float32),
        translation=smooth_adaptive(motion.translation, 0.01 * strength, 9).astype(np.float32),
        # Saccades are jumps: the fit must not round them.
        gaze_rad=smooth_adaptive(motion.gaze_rad, 0.015 * strength, 5).astype(np.float32),
        body=None if motion.body is None else smooth_body(motion.body, motion.fps, strength),
    )
