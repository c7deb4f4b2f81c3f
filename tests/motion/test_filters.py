"""The filters give what scipy's give, with the same rules at the ends."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d, maximum_filter1d, median_filter
from scipy.signal import savgol_filter

from triportrait.motion.filters import gaussian, quadratic_fit, running_maximum, running_median


@pytest.mark.parametrize("rows", [7, 8, 40])
@pytest.mark.parametrize("window", [5, 7])
def test_the_fit_is_scipys(rows: int, window: int) -> None:
    values = np.random.default_rng(rows).normal(size=(rows, 3))
    np.testing.assert_allclose(quadratic_fit(values, window), savgol_filter(values, window, 2, axis=0, mode="interp"), atol=1e-12)
    np.testing.assert_allclose(quadratic_fit(values[:, 0], window), quadratic_fit(values, window)[:, 0], atol=1e-14)


@pytest.mark.parametrize(("beyond", "mode"), [("edge", "nearest"), ("symmetric", "reflect")])
@pytest.mark.parametrize("sigma", [0.7, 3.0, 8.0])
def test_the_gaussian_is_scipys(beyond: str, mode: str, sigma: float) -> None:
    values = np.random.default_rng(1).normal(size=(20, 2))
    np.testing.assert_allclose(gaussian(values, sigma, beyond), gaussian_filter1d(values, sigma, axis=0, mode=mode), atol=1e-12)


@pytest.mark.parametrize("window", [3, 11, 51])
def test_maximum_and_median_are_scipys(window: int) -> None:
    values = np.random.default_rng(2).normal(size=40).astype(np.float32)
    np.testing.assert_array_equal(running_maximum(values, window), maximum_filter1d(values, window))
    np.testing.assert_array_equal(running_median(values, window), median_filter(values, size=window, mode="nearest"))
    assert running_median(values, window).dtype == np.float32
