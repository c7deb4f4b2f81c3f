"""Filters along time, over the first axis of arrays. Their twins are scipy's, which tests hold against them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from triportrait.types import Array


def quadratic_fit(values: Array, window: int) -> Array:
    """Each row [...] as the parabola through the ``window`` rows round it has it (A. Savitzky and M. Golay, 1964): float64.

    The first and last rows are read off the parabolas of the first and last windows.

    Args:
        values: [t, ...], at least ``window`` rows.
        window: odd.
    """
    half = window // 2
    powers = np.vander(np.arange(-half, half + 1.0), 3)
    fitted = powers @ np.linalg.pinv(powers)
    first, last = np.tensordot(fitted[:half], values[:window], 1), np.tensordot(fitted[half + 1 :], values[-window:], 1)
    return np.concatenate([first, _windows(values, window) @ fitted[half], last])


def gaussian(values: Array, sigma: float, beyond: Literal["edge", "symmetric"] = "symmetric") -> Array:
    """Smoothed by a Gaussian of ``sigma`` rows, cut off at four of them.

    Args:
        values: [t, ...].
        sigma: see above.
        beyond: what stands before the first and after the last row: that row, or the rows mirrored.
    """
    reach = int(4.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return _windows(_padded(values, reach, beyond), 2 * reach + 1) @ (weights / weights.sum())


def running_maximum(values: Array, window: int) -> Array:
    """The largest of an odd number of values [t] round each, fewer at the ends."""
    return _windows(_padded(values, window // 2, "edge"), window).max(-1)


def running_median(values: Array, window: int) -> Array:
    """The median of an odd number of values [t] round each; the first and the last one stand beyond the ends."""
    return np.median(_windows(_padded(values, window // 2, "edge"), window), axis=-1)


def _padded(values: Array, reach: int, beyond: Literal["edge", "symmetric"]) -> Array:
    return np.pad(values, [(reach, reach), *[(0, 0)] * (values.ndim - 1)], mode=beyond)


def _windows(values: Array, window: int) -> Array:
    return np.lib.stride_tricks.sliding_window_view(values, window, axis=0)
