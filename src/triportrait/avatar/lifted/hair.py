"""How far hair stands off the skull: as far as the photo's outline stands off the fitted skull's, on the whole of that side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.avatar.lifted.surface import Surface
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.normals import vertex_normals
from triportrait.geometry.rasteriser import interpolate, rasterise
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, PreparedPortrait

#: The middle of a skull in head space (decimetres); directions are counted round it.
_MIDDLE_DM = (0.0, 0.45, -0.55)
#: What stands off any skull beside the face, and what hair is taken for at most (decimetres).
_THINNEST_DM, _THICKEST_DM = 0.02, 0.7
#: Hair rises over so many pixels of a 512 px crop behind its line.
_HAIRLINE_PX = 6.0
#: Directions, and over how many degrees thickness is evened out.
_DIRECTIONS, _EVEN_DEG = 120, 12.0
#: Below this angle under the horizontal there is no scalp.
_SCALP_ENDS_DEG = (-10.0, -40.0)


@dataclass(frozen=True, slots=True)
class Scalp:
    """The fitted head with the photo's hair on it, as the photo sees it; s is the crop's side.

    Args:
        covered: bool [s, s], where it is seen; depth: float32 [s, s], camera depth there (decimetres).
        facing: float32 [s, s], cosine between its normal and the view.
        vertices: [v, 3] float32, posed.
    """

    covered: Array
    depth: Array
    facing: Array
    vertices: Array

    @staticmethod
    def of(portrait: PreparedPortrait, head: FullHead, surface: Surface, bare: Array) -> Scalp:
        """The skull swollen by the thickness of its hair in each direction, but not where it is ``bare``, bool [s, s]."""
        import cv2

        size, motion = len(portrait.image), portrait.motion
        skin = surface.skin[(head.neck[surface.skin] < 0.02).all(1)]
        x, y = (np.clip(surface.pixels[:, c].astype(int), 0, size - 1) for c in (0, 1))
        covered = 1.0 - cv2.GaussianBlur(bare.astype(np.float32), (0, 0), _HAIRLINE_PX * size / 512)[y, x]
        thickness = _THINNEST_DM * (1.0 - surface.face) + covered * _thickness(portrait, head, surface, skin)
        swollen = surface.source + vertex_normals(surface.source, surface.skin) * thickness[:, None]
        posed = pose_points(swollen, motion.rotation_rad, motion.translation).astype(np.float32)
        pixels, depth = project(posed, size, portrait.focal)
        fragments = rasterise(pixels, depth, skin, size, size, cull="back")
        view = np.array([0.0, 0.0, CAMERA_DISTANCE_DM]) - posed
        cosine = (vertex_normals(posed, skin) * view).sum(1) / np.linalg.norm(view, axis=1)
        facing = interpolate(fragments, skin, cosine[:, None].astype(np.float32))[..., 0]
        return Scalp(fragments.triangle >= 0, fragments.depth, facing, posed)


def _thickness(portrait: PreparedPortrait, head: FullHead, surface: Surface, skin: Array) -> Array:
    """Of the hair at each vertex: float64 [v] decimetres, 0 in the face."""
    size, motion = len(portrait.image), portrait.motion
    middle, away = project(pose_points(np.array([_MIDDLE_DM]), motion.rotation_rad, motion.translation), size, portrait.focal)
    dm_per_px = float(away[0]) / (portrait.focal * size)
    skull = rasterise(surface.pixels, surface.depth, skin, size, size).triangle >= 0
    reached = [_reach(mask, middle[0]) for mask in (portrait.head_alpha > 0.5, skull)]
    (photo, cut), (bald, _) = reached
    beyond = np.clip((photo - bald) * dm_per_px, 0.0, _THICKEST_DM)
    # Where the crop's border cuts the hair, its neighbours say how thick it is, but at least what is seen.
    known = 1.0 - cut
    even = _evened(beyond * known) / np.maximum(_evened(known), 1e-3)
    beyond = np.where(cut, np.maximum(even, beyond), even)
    towards = surface.pixels - middle[0]
    roll = float(motion.rotation_rad[2])
    angle = np.arctan2(-towards[:, 1], towards[:, 0])
    here = np.interp(angle, np.linspace(-np.pi, np.pi, _DIRECTIONS + 1), np.append(beyond, beyond[0]))
    lift = np.degrees(np.arcsin(np.sin(angle - roll)))
    first, last = _SCALP_ENDS_DEG
    scalp = np.clip((lift - last) / (first - last), 0.0, 1.0)
    return scalp * here * (1.0 - surface.face)


def _reach(mask: Array, middle: Array) -> tuple[Array, Array]:
    """How far ``mask`` [s, s] reaches from ``middle`` [2] in each direction, in pixels, and where the border cuts it: [n], bool [n].

    Direction k has the angle ``2 pi k / n - pi``, counter-clockwise from the right.
    """
    size = len(mask)
    angle = np.linspace(-np.pi, np.pi, _DIRECTIONS, endpoint=False)
    radius = np.arange(1.0, 1.5 * size)
    x = middle[0] + radius * np.cos(angle)[:, None]
    y = middle[1] - radius * np.sin(angle)[:, None]
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    column, row = (np.clip(v, 0, size - 1).astype(int) for v in (x, y))
    shown = mask[row, column] & inside
    # The outermost point: gaps between strands do not end the hair.
    last = np.where(shown.any(1), len(radius) - 1 - shown[:, ::-1].argmax(1), 0)
    border = inside.sum(1) - 1
    return radius[last], last >= border - 1


def _evened(values: Array) -> Array:
    """A circular Gaussian mean over directions [n]."""
    step = 360.0 / _DIRECTIONS
    reach = int(3 * _EVEN_DEG / step)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / _EVEN_DEG) ** 2)
    return np.convolve(np.pad(values, reach, mode="wrap"), kernel / kernel.sum(), mode="valid")
