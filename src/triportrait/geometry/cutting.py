"""Triangles cut along the line on which a value of their corners changes its sign."""

from __future__ import annotations

import numpy as np

from triportrait.types import Array


def cut_triangles(triangles: Array, value: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Triangles [k, 3] cut where ``value`` [n], which is nowhere 0, changes its sign.

    Returns:
        triangles [j, 3], the one each is a part of [j], whether it is where ``value`` is positive [j]; of new nodes n, n + 1, .. the two
        nodes each lies between [e, 2], and how far it is from the first to the second [e].
    """
    inside = value[triangles] > 0
    count = inside.sum(1)
    whole = (count == 0) | (count == 3)
    mixed = np.flatnonzero(~whole)
    # Turned so that the corner which is alone on its side comes first.
    alone = np.where(count[mixed, None] == 1, inside[mixed], ~inside[mixed]).argmax(1)
    a, b, c = (triangles[mixed, (alone + k) % 3] for k in range(3))
    edges = np.sort(np.concatenate([np.stack([a, b], 1), np.stack([a, c], 1)]), axis=1)
    ends, which = np.unique(edges, axis=0, return_inverse=True)
    which = which.reshape(-1) + len(value)
    p, q = which[: len(mixed)], which[len(mixed) :]
    pieces = [triangles[whole], np.stack([a, p, q], 1), np.stack([p, b, c], 1), np.stack([p, c, q], 1)]
    first = inside[mixed, alone]
    first_end, second_end = value[ends[:, 0]], value[ends[:, 1]]
    return (
        np.concatenate(pieces),
        np.concatenate([np.flatnonzero(whole), mixed, mixed, mixed]),
        np.concatenate([count[whole] == 3, first, ~first, ~first]),
        ends,
        first_end / (first_end - second_end),
    )
