"""The 1 euro filter: little tremble at rest, little delay in movement, one sample at a time.

Source: G. Casiez, N. Roussel and D. Vogel, "1 euro filter: a simple speed-based low-pass filter for noisy input in interactive
systems", 2012.
"""

from __future__ import annotations

import numpy as np

from triportrait.types import Array


class OneEuroFilter:
    """A low-pass filter of first order whose cut-off rises with the speed of what it follows.

    Args:
        noise: [n] standard deviations of the values at rest; speeds are measured in them, so that one ``slope`` serves all.
        cutoff_hz: at rest.
        slope: by how many hertz the cut-off rises for a speed of one ``noise`` a second.
        speed_cutoff_hz: of the low-pass that the speed goes through.
    """

    def __init__(self, noise: Array, *, cutoff_hz: float, slope: float, speed_cutoff_hz: float = 1.0) -> None:
        self._noise, self._cutoff_hz, self._slope, self._speed_cutoff_hz = np.asarray(noise, np.float64), cutoff_hz, slope, speed_cutoff_hz
        self._value: Array | None = None
        self._speed = np.zeros_like(self._noise)

    def __call__(self, values: Array, passed_s: float) -> Array:
        """The next values [n], ``passed_s`` seconds after the ones before -> [n] float64."""
        if self._value is None:
            self._value = np.array(values, np.float64)
            return self._value
        passed_s = max(passed_s, 1e-3)
        moved = (values - self._value) / self._noise
        self._speed += _share(self._speed_cutoff_hz, passed_s) * (moved / passed_s - self._speed)
        self._value = self._value + _share(self._cutoff_hz + self._slope * np.abs(self._speed), passed_s) * moved * self._noise
        return self._value


def _share(cutoff_hz: Array | float, passed_s: float) -> Array | float:
    """Of its distance to a new value, a low-pass of first order goes so much."""
    return 1.0 / (1.0 + 1.0 / (2.0 * np.pi * cutoff_hz * passed_s))
