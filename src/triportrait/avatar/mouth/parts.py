"""Teeth with their gums, and the tongue: curved patches with painted textures, made from what anatomy knows of an adult's mouth.

The head model's own are too coarse to be looked at: a few flat triangles each. A patch stands where they stand and is carried by them (one
affine map each, so identity, seat and jaw come along). A row of teeth shows crowns, gaps and gums drawn once at twice a video's resolution.
Crown sizes: Wheeler's Dental Anatomy, means of permanent teeth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

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
_HEIGHT_DM, TEXELS_PER_DM, _NODES = 0.2, 500, (61, 6)
#: Reflectances under white light: enamel at neck, middle and edge, gaps, and gums.
_NECK, _BODY, _EDGE = np.array([[0.89, 0.82, 0.73], [0.96, 0.93, 0.87], [0.88, 0.88, 0.87]])
_GAP, _GUM = np.array([[0.5, 0.34, 0.29], [0.78, 0.46, 0.45]])
#: Along the arch from the midline cheeks hide teeth from here to there, and keep so much of the light from the last ones;
#: a row ends softly between the last two places, behind the corners of the lips.
_MOLARS_DM, _MOLARS_DARK, _ENDS_DM = (0.22, 0.5), 0.85, (0.38, 0.46)
#: How much of the light that falls on it a wet surface mirrors: crowns, gums, tongue.
_CROWN_GLOSS, _GUM_GLOSS, _TONGUE_GLOSS = 0.16, 0.2, 0.22
#: The tongue: reflectances of its tip and sides, of its middle, and of its coated back.
_TIP, _MIDDLE, _COAT = np.array([[0.84, 0.5, 0.5], [0.82, 0.52, 0.52], [0.76, 0.53, 0.51]])
#: How much light the palate keeps from its back.
_SHADE_OF_PALATE = 0.5
#: Way from the lower incisors' front to its tip, half its width, its length, its thickness; nodes along and across.
_TIP_BEHIND_DM, _TONGUE_HALF_DM, _TONGUE_LONG_DM, _TONGUE_THICK_DM, _TONGUE_NODES = 0.05, 0.205, 0.52, 0.075, (18, 25)
#: What speech does to it, in decimetres: its back sinks with the jaw; its tip rises to the upper incisors' gums for /l/ and halfway for
#: what spreads the lips (/t d n s i/, whose tongues lie high in front); it draws back where lips are rounded.
_SINKING_DM, _TIP_RISE_DM, _FRONT_RISE_DM, _BACK_DM = 0.17, 0.13, 0.05, 0.07
#: ``tongueOut`` of an /l/, from where the tip no longer rises but comes out (/th/), and the spread of lips that goes with a high front.
_TONGUE_L, _TONGUE_TH, _SPREAD = 0.07, 0.3, 0.3


@dataclass(frozen=True, slots=True)
class MouthPart:
    """A patch of n nodes.

    Args:
        points: [n, 3] float64 on the mean head, decimetres; normals: [n, 3] outwards; triangles: [k, 3] int32.
        texels: [n, 2] float32, places in ``texture``.
        texture: [h, w, 5] float32, reflectance, coverage and gloss.
        columns: nodes along a row of the patch.
        carriers: indices of the head's own vertices of this part, and ``solve`` [4, c] their pseudo-inverse.
        modes: [m, n, 3] what moves it besides its carriers, decimetres on the mean head; m = 0 for teeth.
    """

    points: Array
    normals: Array
    triangles: Array
    texels: Array
    texture: Array
    columns: int
    carriers: Array
    solve: Array
    modes: Array

    def carried(self, deformed: Array, amounts: Array | None = None) -> tuple[Array, Array]:
        """Nodes and unit normals, float32 [n, 3], for the head's vertices [v, 3] and ``amounts`` [m] of its own modes."""
        affine = self.solve @ deformed[self.carriers]
        points, normals = self.points, self.normals
        if amounts is not None:
            points = points + np.tensordot(amounts, self.modes, 1)
            normals = _normals(points.reshape(-1, self.columns, 3)).reshape(-1, 3)
        points, normals = points @ affine[:3] + affine[3], normals @ affine[:3]
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
    texel = np.stack(np.meshgrid((at + reach) * TEXELS_PER_DM, height * TEXELS_PER_DM), -1)
    return _part(points, normals, texel, row_texture(upper), carriers, own)


def tongue(head: FullHead) -> MouthPart:
    """The tongue at rest: its tip behind the lower incisors, its back below the biting edges, rounded, with a furrow."""
    carriers = np.flatnonzero(head.part == HeadPart.TONGUE)
    own = head.mean[carriers].astype(np.float64)
    lower = head.mean[head.part == HeadPart.TEETH_LOWER]
    tip, edge = lower[:, 2].max() - _TIP_BEHIND_DM, lower[:, 1].max()
    along, across = np.linspace(0, 1, _TONGUE_NODES[0])[:, None] ** 1.5, np.linspace(-1, 1, _TONGUE_NODES[1])[None, :]
    angle = across * np.pi
    half = _TONGUE_HALF_DM * np.sqrt(1 - (1 - np.minimum(along / 0.5, 1.0)) ** 2)
    # Its sides and what lies under its tip go down to the floor of the mouth.
    thick = _TONGUE_THICK_DM * np.sqrt(1 - (1 - np.minimum(along / 0.18, 1.0)) ** 2) * np.where(np.abs(angle) < 0.5 * np.pi, 1.0, 3.0)
    middle = edge - 0.15 + 0.06 * np.sin(np.pi * np.minimum(along / 0.9, 1.0)) - 0.1 * np.maximum(along - 0.6, 0.0)
    furrow = 0.02 * np.exp(-((across / 0.14) ** 2)) * np.minimum(along / 0.2, 1.0)
    points = np.stack(
        np.broadcast_arrays(
            half * np.sin(angle),
            middle + thick * np.cos(angle) - furrow,
            tip - _TONGUE_LONG_DM * along,
        ),
        -1,
    )
    texel = np.stack(np.broadcast_arrays((half / _TONGUE_HALF_DM * np.sin(angle) + 1) * 48, along * 96), -1)
    near_tip, front = np.exp(-((along / 0.22) ** 2)), np.exp(-((along / 0.5) ** 2))
    none = np.zeros_like(points[..., 0])
    sinking, rising, high, backwards = (
        np.stack(np.broadcast_arrays(none, up, ahead), -1)
        for up, ahead in (
            (-_SINKING_DM * along, 0.0),
            (_TIP_RISE_DM * near_tip, 0.25 * _TIP_RISE_DM * near_tip),
            (_FRONT_RISE_DM * front, 0.0),
            (0.0, -_BACK_DM * front),
        )
    )
    modes = np.stack([sinking, rising, high, backwards])
    return _part(points, _normals(points), texel, _tongue_texture(), carriers, own, modes)


def tongue_amounts(expression: Array, names: Sequence[str]) -> Array:
    """How far each of the tongue's modes goes in an expression [e] with curves ``names``: float64 [4].

    The one curve of a tongue says /l/ by a little and /th/ by more of it; the rest follows from jaw and lips.
    """
    value = dict(zip(names, (float(amount) for amount in expression), strict=True)).get
    out, jaw = value("tongueOut", 0.0), value("jawOpen", 0.0)
    spread = sum(value(f"mouth{what}{side}", 0.0) for what in ("Stretch", "Smile") for side in ("Left", "Right")) / 2
    rounded = value("mouthPucker", 0.0) + value("mouthFunnel", 0.0)
    rising = min(out / _TONGUE_L, 1.0) * min(max((_TONGUE_TH - out) / (_TONGUE_TH - 2 * _TONGUE_L), 0.0), 1.0)
    # A tip that rises has as far to go as the jaw is down.
    return np.array([jaw, rising * (1.0 + 2.0 * jaw), min(spread / _SPREAD, 1.0) * (1.0 - rising), min(rounded, 1.0)])


def _normals(points: Array) -> Array:
    """Unit normals [r, c, 3] of a grid of points [r, c, 3], whose first row is one point."""
    across, along = points[:, 2:] - points[:, :-2], points[2:] - points[:-2]
    across = np.concatenate([across[:, :1], across, across[:, -1:]], 1)
    along = np.concatenate([points[1:2] - points[:1], along, points[-1:] - points[-2:-1]])
    normals = np.cross(across, along)
    normals[0] = normals[1].mean(0)
    return normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)


def _part(
    points: Array, normals: Array, texels: Array, texture: Array, carriers: Array, own: Array, modes: Array | None = None
) -> MouthPart:
    rows, columns = points.shape[:2]
    # Rows of nodes count upwards here.
    triangles = np.ascontiguousarray(grid_triangles(rows, columns)[:, [0, 2, 1]], np.int32)
    solve = np.linalg.pinv(np.concatenate([own, np.ones((len(own), 1))], 1))
    points, normals, texels = (array.reshape(rows * columns, -1) for array in (points, normals, texels))
    modes = np.zeros((0, *points.shape)) if modes is None else modes.reshape(len(modes), -1, 3)
    return MouthPart(points, normals, triangles, texels.astype(np.float32), texture, columns, carriers, solve, modes)


@cache
def _tongue_texture() -> Array:
    """Papillae, a furrow and a paler coat towards the back: float32 [96, 96, 5]; row 0 is the tip."""
    import cv2

    random = np.random.default_rng(5)
    along, across = np.linspace(0, 1, 96)[:, None, None], np.abs(np.linspace(-1, 1, 96))[None, :, None]
    fine, coarse = (cv2.GaussianBlur(random.normal(0.0, 1.0, (96, 96)), (0, 0), spread)[..., None] * 3.5 * spread for spread in (0.8, 3.0))
    colour = _TIP + (_MIDDLE - _TIP) * np.clip(along / 0.25, 0, 1) * np.clip((1 - across) / 0.4, 0, 1)
    colour = colour + (_COAT - colour) * np.clip((along - 0.3) / 0.5, 0, 1) * np.clip((0.75 - across) / 0.4, 0, 1)
    colour = colour * (1 + 0.03 * fine + 0.025 * coarse) * (1 - 0.22 * np.exp(-((across / 0.05) ** 2)) * np.clip(along / 0.2, 0, 1))
    colour = colour * (1 - _SHADE_OF_PALATE * np.clip((along - 0.3) / 0.6, 0, 1))
    gloss = np.clip(_TONGUE_GLOSS * (1 + 0.4 * fine), 0, 1)
    return np.concatenate([colour, np.ones((96, 96, 1)), gloss], -1).astype(np.float32)


@cache
def row_texture(upper: bool, taller_dm: float = 0.0) -> Array:
    """Crowns, gaps and gums of one row: float32 [h, w, 5]; row 0 is the biting edge. Crowns are so much taller than is usual."""
    teeth = _UPPER if upper else _LOWER
    widths = np.array([tooth[0] for tooth in teeth])
    ends = np.cumsum(widths)
    columns, rows = round(2 * ends[-1] * TEXELS_PER_DM), round(_HEIGHT_DM * TEXELS_PER_DM)
    place = np.abs((np.arange(columns) + 0.5) / TEXELS_PER_DM - ends[-1])
    index = np.minimum(np.searchsorted(ends, place), len(teeth) - 1)
    width = widths[index]
    # -1 at the side towards the midline, 1 at the other.
    across = 2 * (place - (ends[index] - width)) / width - 1
    tall, short = (np.array([tooth[k] for tooth in teeth])[index] for k in (1, 2))
    tall = tall + taller_dm
    point = np.array([_POINT.get(i, 0.0) for i in range(len(teeth))])[index]
    # Outer corners are rounder than those at the midline.
    corner = np.where(across > 0, 0.16, 0.09)
    edge = short + width * (point * np.abs(across) + corner * np.abs(across) ** 6)
    gum = short + tall - 0.16 * width * across**2 * np.where(across > 0, 1.15, 1.0)
    h = (np.arange(rows)[:, None] + 0.5) / TEXELS_PER_DM
    step = 1.0 / TEXELS_PER_DM
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
    # Cheeks keep the light from molars.
    colour = colour * (1 - _MOLARS_DARK * np.clip((place - _MOLARS_DM[0]) / (_MOLARS_DM[1] - _MOLARS_DM[0]), 0, 1) ** 2)[None, :, None]
    covered = covered * np.clip((_ENDS_DM[1] - place) / (_ENDS_DM[1] - _ENDS_DM[0]), 0, 1)
    gloss = _GUM_GLOSS + crown[..., None] * (_CROWN_GLOSS * (1 - flank) - _GUM_GLOSS)
    return np.concatenate([colour, covered[..., None], np.maximum(gloss, 0.0)], -1).astype(np.float32)
