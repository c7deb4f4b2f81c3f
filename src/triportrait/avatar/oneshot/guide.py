"""What a volume renderer needs to know of each frame, from the lifted mesh: where rays may meet the head, and where its skin came from.

The compiled twin of :mod:`triportrait.avatar.oneshot.guide_plain`, continued smoothly a little beyond the head's outline: only there rays
are sent at all. The continuation is push and pull; its twins are :func:`triportrait.geometry.filling.push_pull` (numpy, other taps) and
:func:`triportrait.avatar.oneshot.volume.fill_smoothly` (torch, the same to rounding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from triportrait.avatar.lifted import shading_kernels as kernels
from triportrait.avatar.lifted.avatar import LiftedState
from triportrait.avatar.lifted.moved_head import MovedHead
from triportrait.compiling import njit
from triportrait.geometry.rasteriser import draw_attributes
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, MotionFrame

#: Rays are sent so far beyond the mesh's outline, in widths of the picture.
_MARGIN = 0.025


@dataclass(frozen=True, slots=True)
class GuideMesh:
    """The parts of a lifted portrait's head that are drawn; made by :func:`guide_mesh`.

    Args:
        head, state: where it comes from.
        skin: [f, 3] int32, triangles of ``state.source``; ``inside``: of the mouth and the eyes, where no offset is known.
        front: [k, 3] int32, triangles of the mantle that move with the head; ``far``: of its mirror image behind.
    """

    head: FullHead
    state: LiftedState
    skin: Array
    inside: Array
    front: Array
    far: Array


@dataclass(frozen=True, slots=True)
class RenderGuide:
    """Maps of one frame, s the side.

    Args:
        depth: float32 [s, s], camera depth in decimetres round which samples should lie; inf where no ray need be sent.
        offset: float32 [s, s, 3] decimetres in head space, from where the frame has the skin to where the photograph has it; 0 without ray.
        known: bool [s, s], where the mesh itself is seen; elsewhere the maps are continued smoothly.
    """

    depth: Array
    offset: Array
    known: Array


def guide_mesh(state: LiftedState, head: FullHead) -> GuideMesh:
    """Once per portrait.

    Args:
        state: of the lifted avatar; its mesh and mantle are the surface.
        head: the head model of ``state``.
    """
    is_skin = state.kind == kernels.SKIN
    skin, inside = (np.ascontiguousarray(state.triangles[which], np.int32) for which in (is_skin, ~is_skin))
    mantle = state.mantle
    return GuideMesh(head, state, skin, inside, mantle.of_head(mantle.triangles), mantle.of_head(mantle.far_triangles))


def render_guide(
    mesh: GuideMesh, frame: MotionFrame, size_px: int, *, moved: MovedHead | None = None, nodes: Array | None = None
) -> RenderGuide:
    """Draw the maps of one frame.

    Args:
        mesh: from :func:`guide_mesh`.
        frame: expression and pose.
        size_px: side of the maps.
        moved: the head under ``frame``, and nodes: the mantle's [m, 3] in its head space, where they are known already.
    """
    state = mesh.state
    moved = moved or MovedHead.of(mesh.head, state.shape, frame)
    matrix, move = matrix_from_euler(np.asarray(frame.rotation_rad, np.float64)), np.asarray(frame.translation, np.float64)
    maps = np.zeros((size_px, size_px, 4), np.float32)
    depth, far = np.full((2, size_px, size_px), np.inf, np.float32)
    if nodes is None:
        nodes = state.mantle.follow(moved.vertices - state.source, frame)
        moved = moved.warped(mesh.head, state.warp, frame)
    skin = _Skin(moved.vertices, state.source, state.bias, mesh.skin, mesh.inside)
    sheet = _Sheet(nodes, state.mantle.rest, mesh.front, mesh.far)
    _draw(skin, sheet, _View(matrix, move, float(state.portrait.focal)), maps, depth, far)
    known, sent = np.empty((2, size_px, size_px), np.bool_)
    weight = np.empty((size_px, size_px), np.float32)
    _outline(depth, far, max(1, round(_MARGIN * size_px)), maps, known, sent, weight)
    levels, weights = [maps], [weight]
    while max(weights[-1].shape) > 1:
        half = tuple(-(-side // 2) for side in weights[-1].shape)
        levels.append(np.empty((*half, 4), np.float32))
        weights.append(np.empty(half, np.float32))
        _pull(levels[-2], weights[-2], levels[-1], weights[-1])
    _divide(levels[-1], weights[-1])
    for level in range(len(levels) - 2, 0, -1):
        _push(levels[level], weights[level], levels[level + 1])
    offset = np.zeros((size_px, size_px, 3), np.float32)
    if len(levels) > 1:
        _finish(maps, known, sent, levels[1], depth, offset)
    return RenderGuide(depth, offset, known)


class _Skin(NamedTuple):
    """Vertices [v, 3] under the frame and in the photo, their bias [v], triangles [f, 3] of skin, and of what lies inside."""

    deformed: Array
    source: Array
    bias: Array
    triangles: Array
    inside: Array


class _Sheet(NamedTuple):
    """The mantle's nodes [m, 3] under the frame and in the photo, and triangles as in :class:`GuideMesh`."""

    nodes: Array
    rest: Array
    front: Array
    far: Array


class _View(NamedTuple):
    """Rotation [3, 3], translation [3] and focal length in widths of the picture."""

    matrix: Array
    move: Array
    focal: float


@njit(nogil=True, cache=True, error_model="numpy")
def _project(point, matrix, move, focal, size, pixels, depth, row):
    x = matrix[0, 0] * point[0] + matrix[0, 1] * point[1] + matrix[0, 2] * point[2] + move[0]
    y = matrix[1, 0] * point[0] + matrix[1, 1] * point[1] + matrix[1, 2] * point[2] + move[1]
    z = matrix[2, 0] * point[0] + matrix[2, 1] * point[1] + matrix[2, 2] * point[2] + move[2]
    away = CAMERA_DISTANCE_DM - z
    scale = focal * size / away
    pixels[row, 0], pixels[row, 1] = 0.5 * size + x * scale, 0.5 * size - y * scale
    depth[row] = away


@njit(nogil=True, cache=True, error_model="numpy")
def _draw(skin, sheet, view, maps, depth, far):
    """Skin and mantle with their offsets into ``maps`` (1 to 3) and ``depth``; what merely covers pixels into ``far``."""
    deformed, source, bias = skin.deformed, skin.source, skin.bias
    place, rest = sheet.nodes, sheet.rest
    matrix, move, focal = view.matrix, view.move, view.focal
    size = depth.shape[0]
    count, nodes = len(deformed), len(place)
    pixels, away, moved = np.empty((count, 2), np.float32), np.empty(count, np.float32), np.zeros((count, 4), np.float32)
    for i in range(count):
        _project(deformed[i], matrix, move, focal, size, pixels, away, i)
        away[i] += bias[i]
        for c in range(3):
            moved[i, 1 + c] = source[i, c] - deformed[i, c]
    draw_attributes(pixels, away, skin.triangles, moved, maps, depth)
    draw_attributes(pixels, away, skin.inside, moved[:, :0], maps[:, :, :0], far)
    pixels, away, follow = np.empty((nodes, 2), np.float32), np.empty(nodes, np.float32), np.zeros((nodes, 4), np.float32)
    for i in range(nodes):
        for c in range(3):
            follow[i, 1 + c] = rest[i, c] - place[i, c]
        _project(place[i], matrix, move, focal, size, pixels, away, i)
    draw_attributes(pixels, away, sheet.front, follow, maps, depth)
    draw_attributes(pixels, away, sheet.far, follow[:, :0], maps[:, :, :0], far)


@njit(nogil=True, cache=True, error_model="numpy")
def _outline(depth, far, reach, maps, known, sent, weight):
    """Where the mesh is seen, and the square neighbourhood of what it covers; depth moves into the maps' first channel."""
    height, width = depth.shape
    near = np.zeros((height, width), np.bool_)
    for row in range(height):
        last = -reach - 1
        for column in range(width):
            seen = depth[row, column] < np.inf
            known[row, column] = seen
            weight[row, column] = 1.0 if seen else 0.0
            maps[row, column, 0] = depth[row, column] if seen else 0.0
            if seen or far[row, column] < np.inf:
                for c in range(max(column - reach, last + 1, 0), min(column + reach + 1, width)):
                    near[row, c] = True
                last = min(column + reach, width - 1)
    sent[:] = False
    for column in range(width):
        last = -1
        for row in range(height):
            if near[row, column]:
                for r in range(max(row - reach, last + 1, 0), min(row + reach + 1, height)):
                    sent[r, column] = True
                last = min(row + reach, height - 1)


@njit(nogil=True, cache=True, error_model="numpy")
def _pull(fine, fine_weight, coarse, coarse_weight):
    """Means of 2 x 2, weighted sums as they are; beyond an odd side lies nothing."""
    height, width = fine_weight.shape
    for row in range(coarse.shape[0]):
        for column in range(coarse.shape[1]):
            total = np.float32(0)
            for c in range(4):
                coarse[row, column, c] = 0.0
            for r in range(2 * row, min(2 * row + 2, height)):
                for k in range(2 * column, min(2 * column + 2, width)):
                    if fine_weight[r, k] > 0:
                        total += np.float32(0.25) * fine_weight[r, k]
                        for c in range(4):
                            coarse[row, column, c] += np.float32(0.25) * fine[r, k, c]
            coarse_weight[row, column] = total


@njit(nogil=True, cache=True, error_model="numpy")
def _divide(values, weight):
    for row in range(weight.shape[0]):
        for column in range(weight.shape[1]):
            for c in range(4):
                values[row, column, c] /= max(weight[row, column], np.float32(1e-6))


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _widened(coarse, row, column, c):
    """Bilinear value at a texel of twice the resolution."""
    height, width = coarse.shape[0], coarse.shape[1]
    r, k = row // 2, column // 2
    other_r = min(max(r + (1 if row % 2 else -1), 0), height - 1)
    other_k = min(max(k + (1 if column % 2 else -1), 0), width - 1)
    near, side = coarse[r, k, c], coarse[r, other_k, c]
    above, corner = coarse[other_r, k, c], coarse[other_r, other_k, c]
    return np.float32(0.5625) * near + np.float32(0.1875) * (side + above) + np.float32(0.0625) * corner


@njit(nogil=True, cache=True, error_model="numpy")
def _push(values, weight, coarse):
    """Where a level knows little, the coarser level's values; in place."""
    for row in range(weight.shape[0]):
        for column in range(weight.shape[1]):
            share = weight[row, column]
            trust = min(np.float32(4) * share, np.float32(1))
            for c in range(4):
                wide = _widened(coarse, row, column, c)
                values[row, column, c] = trust * values[row, column, c] / max(share, np.float32(1e-6)) + (np.float32(1) - trust) * wide


@njit(nogil=True, cache=True, error_model="numpy")
def _finish(maps, known, sent, coarse, depth, offset):
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            if known[row, column]:
                for c in range(3):
                    offset[row, column, c] = maps[row, column, 1 + c]
            elif sent[row, column]:
                depth[row, column] = _widened(coarse, row, column, 0)
                for c in range(3):
                    offset[row, column, c] = _widened(coarse, row, column, 1 + c)
