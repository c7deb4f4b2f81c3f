"""Teeth with their gums, and the tongue: curved patches with painted textures, made from what anatomy knows of an adult's mouth.

The head model's own are too coarse to be looked at: a few flat triangles each. A patch stands where they stand and is carried by them (one
affine map each, so identity, seat and jaw come along). A row of teeth shows crowns, gaps and gums drawn once at twice a video's resolution.
Crown sizes: Wheeler's Dental Anatomy, means of permanent teeth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from triportrait.geometry.fields import grid_triangles
from triportrait.types import Array, FullHead, HeadPart

#: From the midline: width of each crown, its height, and how far its edge stays short of the arch's plane, in decimetres.
_UPPER = (
    (0.085, 0.105, 0.0),
    (0.066, 0.092, 0.007),
    (0.076, 0.1, 0.001),
    (0.07, 0.086, 0.006),
    (0.068, 0.082, 0.008),
    (0.1, 0.074, 0.01),
    (0.095, 0.07, 0.013),
)
_LOWER = (
    (0.053, 0.09, 0.0),
    (0.059, 0.092, 0.001),
    (0.069, 0.104, -0.004),
    (0.07, 0.086, 0.004),
    (0.071, 0.081, 0.006),
    (0.108, 0.074, 0.006),
    (0.103, 0.07, 0.006),
)
#: Canines are pointed (a share of their width), other edges nearly straight with round corners.
_POINT = {2: 0.14, 3: 0.1, 4: 0.06}
#: Parted lips uncover two millimetres of the upper incisors (Vig and Brundo, J. Prosthetic Dentistry 39(5), 1978); the model's hide them.
_LOWERED_DM = {HeadPart.TEETH_UPPER: -0.02, HeadPart.TEETH_LOWER: -0.004}
#: Height of a band: crown and gum; texels per decimetre; nodes along and up the band.
_HEIGHT_DM, _TEXELS_PER_DM, _NODES = 0.2, 500, (61, 6)
#: Reflectances under white light: enamel at neck, middle and edge, gaps, and gums.
_NECK, _BODY, _EDGE = np.array([[0.89, 0.82, 0.73], [0.96, 0.93, 0.87], [0.88, 0.88, 0.87]])
_GAP, _GUM = np.array([[0.5, 0.34, 0.29], [0.78, 0.46, 0.45]])
#: The tongue: reflectance, way from the lower incisors' front to its tip, half its width, its length, nodes along and across.
_TONGUE, _TIP_BEHIND_DM, _TONGUE_HALF_DM, _TONGUE_LONG_DM, _TONGUE_NODES = (0.8, 0.49, 0.47), 0.075, 0.21, 0.55, (16, 17)


@dataclass(frozen=True, slots=True)
class MouthPart:
    """A patch of n nodes.

    Args:
        points: [n, 3] float64 on the mean head, decimetres; normals: [n, 3] outwards; triangles: [k, 3] int32.
        texels: [n, 2] float32, places in ``texture``.
        texture: [h, w, 4] float32, reflectance and coverage.
        columns: nodes along a row of the patch.
        carriers: indices of the head's own vertices of this part, and ``solve`` [4, c] their pseudo-inverse.
    """

    points: Array
    normals: Array
    triangles: Array
    texels: Array
    texture: Array
    columns: int
    carriers: Array
    solve: Array

    def carried(self, deformed: Array) -> tuple[Array, Array]:
        """Nodes and unit normals, float32 [n, 3], for the head's vertices [v, 3]."""
        affine = self.solve @ deformed[self.carriers]
        points = self.points @ affine[:3] + affine[3]
        normals = self.normals @ affine[:3]
        return points.astype(np.float32), (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)


def tooth_row(head: FullHead, part: HeadPart) -> MouthPart:
    """The band of a jaw: ``part`` is its teeth."""
    carriers = np.flatnonzero(head.part == part)
    own = head.mean[carriers].astype(np.float64)
    upper = part == HeadPart.TEETH_UPPER
    along, up = _NODES
    # The arch in polar coordinates round a point between the molars, its outside and its biting edge.
    middle = own[:, 2].max() - 0.385
    angle, radius = np.arctan2(own[:, 0], own[:, 2] - middle), np.hypot(own[:, 0], own[:, 2] - middle)
    line = np.linspace(-1.75, 1.75, 400)
    bins = np.linspace(0, 1.5, 9)
    places, outer, edge = [], [], []
    for low, high in zip(bins[:-1], bins[1:], strict=True):
        here = (np.abs(angle) >= low) & (np.abs(angle) < high)
        places.append(0.5 * (low + high))
        outer.append(radius[here].max())
        edge.append(own[here, 1].min() if upper else own[here, 1].max())
    radius_at = np.polynomial.Polynomial.fit(np.square(places), outer, 2)
    edge_at = np.polynomial.Polynomial.fit(np.square(places), edge, 2)
    beyond = np.minimum(np.square(line), 1.5**2)
    x, z = radius_at(beyond) * np.sin(line), radius_at(beyond) * np.cos(line) + middle
    way = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
    way -= np.interp(0.0, line, way)
    reach = sum(width for width, _, _ in (_UPPER if upper else _LOWER))
    at = np.linspace(-reach, reach, along)
    here = np.interp(at, way, line)
    outwards = np.stack([np.gradient(np.interp(at, way, z)), np.gradient(np.interp(at, way, x))], 1) * (-1, 1)
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    height = np.linspace(0.0, _HEIGHT_DM, up)
    sign = 1.0 if upper else -1.0
    points, normals = np.zeros((2, up, along, 3))
    for i, h in enumerate(height):
        # Crowns lean in towards their edges and bulge at their middle.
        lean = -0.022 * (1 - h / 0.1) if h < 0.1 else 0.0
        slope = -0.22 * sign if h < 0.1 else 0.1 * sign
        level = edge_at(np.minimum(here**2, 1.5**2)) + _LOWERED_DM[part] + sign * h
        points[i] = np.stack([np.interp(at, way, x), level, np.interp(at, way, z)], 1)
        points[i, :, [0, 2]] += lean * outwards.T
        normals[i] = np.stack([outwards[:, 0], np.full(along, slope), outwards[:, 1]], 1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    texel = np.stack(np.meshgrid((at + reach) * _TEXELS_PER_DM, height * _TEXELS_PER_DM), -1)
    return _part(points, normals, texel, _texture(upper), carriers, own)


def tongue(head: FullHead) -> MouthPart:
    """The tongue at rest: its tip behind the lower incisors, its back below the biting edges, rounded, with a furrow."""
    carriers = np.flatnonzero(head.part == HeadPart.TONGUE)
    own = head.mean[carriers].astype(np.float64)
    lower = head.mean[head.part == HeadPart.TEETH_LOWER]
    tip, edge = lower[:, 2].max() - _TIP_BEHIND_DM, lower[:, 1].max()
    along, across = np.linspace(0, 1, _TONGUE_NODES[0])[:, None] ** 1.5, np.linspace(-1, 1, _TONGUE_NODES[1])[None, :]
    angle = across * 0.62 * np.pi
    half = _TONGUE_HALF_DM * np.sqrt(1 - (1 - np.minimum(along / 0.45, 1.0)) ** 2)
    thick = 0.075 * np.sqrt(1 - (1 - np.minimum(along / 0.35, 1.0)) ** 2)
    middle = edge - 0.15 + 0.05 * np.sin(np.pi * np.minimum(along, 0.9) / 0.9)
    furrow = 0.016 * np.exp(-((across / 0.12) ** 2)) * np.minimum(along / 0.15, 1.0)
    points = np.stack(
        np.broadcast_arrays(
            half * np.sin(angle),
            middle + thick * np.cos(angle) - furrow,
            tip - _TONGUE_LONG_DM * along,
        ),
        -1,
    )
    across_way, along_way = np.gradient(points, axis=1), np.gradient(points, axis=0)
    normals = np.cross(across_way, along_way)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    normals[0] = (0.0, 0.3, 0.95)  # its tip is one point
    texel = np.stack(np.broadcast_arrays((across + 1) * 32, along * 64), -1)
    return _part(points, normals, texel, _tongue_texture(), carriers, own)


def _part(points: Array, normals: Array, texels: Array, texture: Array, carriers: Array, own: Array) -> MouthPart:
    rows, columns = points.shape[:2]
    # Rows of nodes count upwards here.
    triangles = np.ascontiguousarray(grid_triangles(rows, columns)[:, [0, 2, 1]], np.int32)
    solve = np.linalg.pinv(np.concatenate([own, np.ones((len(own), 1))], 1))
    points, normals, texels = (array.reshape(rows * columns, -1) for array in (points, normals, texels))
    return MouthPart(points, normals, triangles, texels.astype(np.float32), texture, columns, carriers, solve)


@cache
def _tongue_texture() -> Array:
    """Small bumps: float32 [64, 64, 4]."""
    bumps = np.random.default_rng(5).normal(0.0, 1.0, (66, 66))
    smooth: Any = sum(bumps[y : y + 64, x : x + 64] for y in range(3) for x in range(3)) / 9
    colour = np.array(_TONGUE) * (1 + 0.06 * smooth[..., None])
    return np.concatenate([colour, np.ones((64, 64, 1))], -1).astype(np.float32)


@cache
def _texture(upper: bool) -> Array:
    """Crowns, gaps and gums of one row: float32 [h, w, 4]; row 0 is the biting edge."""
    teeth = _UPPER if upper else _LOWER
    widths = np.array([tooth[0] for tooth in teeth])
    ends = np.cumsum(widths)
    columns, rows = round(2 * ends[-1] * _TEXELS_PER_DM), round(_HEIGHT_DM * _TEXELS_PER_DM)
    place = np.abs((np.arange(columns) + 0.5) / _TEXELS_PER_DM - ends[-1])
    index = np.minimum(np.searchsorted(ends, place), len(teeth) - 1)
    width = widths[index]
    # -1 at the side towards the midline, 1 at the other.
    across = 2 * (place - (ends[index] - width)) / width - 1
    tall, short = (np.array([tooth[k] for tooth in teeth])[index] for k in (1, 2))
    point = np.array([_POINT.get(i, 0.0) for i in range(len(teeth))])[index]
    # Outer corners are rounder than those at the midline.
    corner = np.where(across > 0, 0.16, 0.09)
    edge = short + width * (point * np.abs(across) + corner * np.abs(across) ** 6)
    gum = short + tall - 0.16 * width * across**2 * np.where(across > 0, 1.15, 1.0)
    h = (np.arange(rows)[:, None] + 0.5) / _TEXELS_PER_DM
    step = 1.0 / _TEXELS_PER_DM
    covered = np.clip((h - edge) / step + 0.5, 0, 1)
    crown = np.clip((gum - h) / (2.5 * step) + 0.5, 0, 1)
    level = np.clip((h - edge) / tall, 0, 1)[..., None]
    enamel = _BODY + (_NECK - _BODY) * np.clip((level - 0.45) / 0.6, 0, 1) + (_EDGE - _BODY) * np.clip(1 - level / 0.2, 0, 1)
    # A crown is a barrel: its flanks turn away from the light; between two of them lies a fine dark line, wider towards the gums.
    flank = np.abs(across)[None, :, None] ** 3
    enamel = enamel * (1 - 0.13 * flank) * (1 + 0.05 * np.exp(-(((level - 0.55) / 0.2) ** 2)) * (1 - flank))
    line = np.clip((np.abs(across) - (1 - 2.2 * step / width)) * width / (2.2 * step), 0, 1)[None, :] * (0.25 + 0.45 * level[..., 0])
    enamel = enamel + line[..., None] * (_GAP - enamel)
    # Gums shine a little at their hem and darken where they go over into the lip.
    deep = np.clip((h - gum) / 0.08, 0, 1)[..., None]
    gums = _GUM * (1.06 - 0.45 * deep) * np.where(deep > 0.02, 1.0, 0.9)
    colour = gums + crown[..., None] * (enamel - gums)
    return np.concatenate([colour, covered[..., None]], -1).astype(np.float32)
