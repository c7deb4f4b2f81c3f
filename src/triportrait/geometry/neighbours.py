"""Means over the neighbours in a triangle mesh, in a compiled kernel. A test holds it against a plain sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.compiling import njit
from triportrait.types import Array


@dataclass(frozen=True, slots=True)
class NeighbourMean:
    """Each vertex's mean over the vertices that it shares an edge with; a lone vertex gets 0.

    Args:
        first: int32 [v + 1], where a vertex's neighbours begin in ``neighbour`` int32 [e].
    """

    first: Array
    neighbour: Array

    @staticmethod
    def of(triangles: Array, count: int, wanted: Array | None = None) -> NeighbourMean:
        """Of the triangles [f, 3] of ``count`` vertices; where ``wanted`` bool [v] is given and False, means are 0 and cost nothing."""
        start, end = triangles[:, [0, 1, 2, 1, 2, 0]].reshape(-1), triangles[:, [1, 2, 0, 0, 1, 2]].reshape(-1)
        start, end = np.divmod(np.unique(start.astype(np.int64) * count + end), count)
        if wanted is not None:
            start, end = start[wanted[start]], end[wanted[start]]
        return NeighbourMean(np.searchsorted(start, np.arange(count + 1)).astype(np.int32), end.astype(np.int32))

    def __call__(self, values: Array) -> Array:
        """Values [v, c] -> their means [v, c], in their own precision."""
        means = np.zeros_like(values)
        _means(self.first, self.neighbour, values, means)
        return means


@njit(nogil=True, cache=True, error_model="numpy")
def _means(first: Array, neighbour: Array, values: Array, means: Array) -> None:
    """See :class:`NeighbourMean`; ``means`` come in as zeros."""
    for v in range(values.shape[0]):
        share = 1.0 / max(first[v + 1] - first[v], 1)
        for e in range(first[v], first[v + 1]):
            for c in range(values.shape[1]):
                means[v, c] += share * values[neighbour[e], c]
