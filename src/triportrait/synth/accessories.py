"""Spectacles for procedural heads. Lengths are decimetres."""

from __future__ import annotations

import numpy as np

from triportrait.geometry.landmarks import CHEEK_SIDES, EYE_LEFT_CORNERS, EYE_RIGHT_CORNERS, NOSE_BRIDGE
from triportrait.types import Array


def glasses(style: str, landmarks: Array, skin: Array) -> tuple[Array, Array, Array]:
    """A frame with lenses for one face.

    Args:
        style: ``round``, ``square`` or ``wide``.
        landmarks: [468, 3] and ``skin`` [n, 3] in head space, decimetres.

    Returns:
        points [n, 3] in head space, triangles [t, 3], and which of them are lenses [t].
    """
    here = landmarks
    centres = [here[list(EYE_RIGHT_CORNERS)].mean(0), here[list(EYE_LEFT_CORNERS)].mean(0)]
    half = 0.5 * abs(centres[1][0] - centres[0][0])
    a, b, power = {"round": (0.255, 0.245, 2.0), "square": (0.285, 0.20, 4.0), "wide": (0.30, 0.23, 2.8)}[style]
    a = min(a, half - 0.05)
    thick = 0.016 if style == "round" else 0.022
    front = max(
        float(skin[(np.abs(np.abs(skin[:, 0]) - half) < 0.28) & (np.abs(skin[:, 1] - centres[0][1]) < 0.22), 2].max()) + 0.03,
        float(here[NOSE_BRIDGE, 2]) - 0.02,
    )
    pieces, faces, lens = [], [], []
    count = 0

    def wrap(points: Array) -> Array:
        points[:, 2] -= 0.18 * (points[:, 0] / 0.7) ** 2
        return points

    def tube(curve: Array, closed: bool) -> None:
        nonlocal count
        along = np.gradient(curve, axis=0) if not closed else np.roll(curve, -1, 0) - np.roll(curve, 1, 0)
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
        guide = np.array([0.0, 0.0, 1.0]) if abs(along[:, 2]).mean() < 0.7 else np.array([0.0, 1.0, 0.0])
        side = np.cross(along, guide)
        side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
        up = np.cross(side, along)
        ring = [curve + thick * (np.cos(t) * side + np.sin(t) * up) for t in np.arange(5) * 2 * np.pi / 5]
        n = len(curve)
        pieces.append(np.stack(ring, 1).reshape(-1, 3))
        for i in range(n if closed else n - 1):
            for j in range(5):
                p, q = count + i * 5 + j, count + i * 5 + (j + 1) % 5
                r, s = count + ((i + 1) % n) * 5 + j, count + ((i + 1) % n) * 5 + (j + 1) % 5
                faces.extend([(p, q, s), (p, s, r)])
                lens.extend([False, False])
        count += 5 * n

    angle = np.linspace(0, 2 * np.pi, 22, endpoint=False)
    middle_y = 0.5 * (centres[0][1] + centres[1][1]) - 0.04
    for sign in (-1.0, 1.0):
        c, s = np.cos(angle), np.sin(angle)
        rim = np.stack(
            [
                sign * half + a * np.sign(c) * abs(c) ** (2 / power),
                middle_y + b * np.sign(s) * abs(s) ** (2 / power),
                np.full(22, front),
            ],
            -1,
        )
        rim = wrap(rim)
        tube(rim, True)
        pieces.append(np.concatenate([rim.mean(0, keepdims=True), rim]))
        for i in range(22):
            faces.append((count, count + 1 + i, count + 1 + (i + 1) % 22))
            lens.append(True)
        count += 23
        ear = here[CHEEK_SIDES[1] if sign > 0 else CHEEK_SIDES[0]]
        wide = abs(float(ear[0])) + 0.03
        start = wrap(np.array([[sign * (half + a), middle_y + 0.4 * b, front]]))[0]
        temple = np.array([start, (sign * wide, middle_y + 0.06, front - 0.35), (sign * wide, middle_y + 0.08, ear[2] - 0.25)])
        tube(np.stack([np.interp(np.linspace(0, 2, 7), [0, 1, 2], temple[:, k]) for k in range(3)], -1), False)
    bridge = np.array(
        [(x, middle_y + 0.09 - 0.05 * (x / max(half - a, 0.03)) ** 2, front + 0.015) for x in np.linspace(-(half - a), half - a, 5)]
    )
    tube(wrap(bridge), False)
    points = np.concatenate(pieces).astype(np.float32)
    tri = np.array(faces, np.int32)
    return points, tri, np.array(lens)
