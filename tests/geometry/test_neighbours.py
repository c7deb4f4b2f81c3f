"""The mean over neighbours is the plain one."""

from __future__ import annotations

import numpy as np

from triportrait.geometry.neighbours import NeighbourMean


def test_the_mean_is_that_of_the_vertices_that_share_an_edge() -> None:
    rng = np.random.default_rng(5)
    triangles = np.stack([rng.permutation(30)[:3] for _ in range(40)])
    count = 33  # the last ones are alone
    joined = np.zeros((count, count), bool)
    for a, b, c in triangles:
        joined[[a, b, c, b, c, a], [b, c, a, a, b, c]] = True
    values = rng.normal(size=(count, 3))
    plain = joined @ values / np.maximum(joined.sum(1), 1)[:, None]
    mean = NeighbourMean.of(triangles, count)
    np.testing.assert_allclose(mean(values), plain, atol=1e-14)
    wanted = np.arange(count) % 3 == 0
    np.testing.assert_allclose(NeighbourMean.of(triangles, count, wanted)(values), wanted[:, None] * plain, atol=1e-14)
    assert not mean(values)[30:].any() and mean(values.astype(np.float32)).dtype == np.float32
