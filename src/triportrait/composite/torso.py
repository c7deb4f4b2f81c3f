"""The torso layer in motion: neck and shoulders follow the head by a smooth 2-D warp (Real3D-Portrait's torso branch, without a network).

Each pixel of the layer has a depth and a share of the head's motion: all of it under the jaw, none at the shoulders. The warp is computed
on a coarse grid and inverted by fixed-point iteration, which is exact enough for a field this smooth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from triportrait.geometry.body import body_pivot, body_similarity
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.fields import smooth_step
from triportrait.geometry.filling import push_pull
from triportrait.geometry.landmarks import CHIN, FOREHEAD_TOP
from triportrait.geometry.rotations import matrix_from_euler
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, HeadPart, MotionFrame, PreparedPortrait

_GRID = 65
#: Share of the head's translation that shoulders take along; bodies sway with their heads.
_SWAY = 0.35
#: Motion fades over these parts of the crop towards its sides and its lower border; a shorter way would fold what is moved far.
_SIDE, _BOTTOM = 0.3, 0.12


@dataclass(frozen=True, slots=True)
class TorsoState:
    """Prepared once per portrait: the layer and, on a coarse grid g x g, its head-space points and shares of the head's motion.

    Args:
        layer: uint8 [s, s, 4], colours premultiplied by the matte.
        points: float32 [g, g, 3] head-space positions in the photo.
        share: float32 [g, g], 1 moves with the head, 0 stays.
        source: the photo's pose, and focal, its focal length in picture widths.
        home: float32 [g * g, 2], pixels of the points in the photo, and px_per_dm, how large a decimetre is there.
        pivot: [2] pixels, of the body's own motion.
    """

    layer: Array
    points: Array
    share: Array
    source: MotionFrame
    focal: float
    home: Array
    px_per_dm: float
    pivot: Array


def prepare_torso(portrait: PreparedPortrait, head: FullHead) -> TorsoState:
    """Depth and share of motion of every torso pixel, from the fitted neck."""
    from triportrait.geometry.rasteriser import interpolate, rasterise

    size = portrait.image.shape[0]
    motion = portrait.motion
    vertices = head.shape(portrait.identity) + portrait.vertex_offset
    posed = pose_points(vertices, motion.rotation_rad, motion.translation)
    pixels, depth = project(posed, size, portrait.focal)
    neck_only = head.triangles[(head.part[head.triangles] == HeadPart.SKIN).all(1) & (head.neck[head.triangles] > 0.005).all(1)]
    fragments = rasterise(pixels.astype(np.float32), depth.astype(np.float32), neck_only, size, size, cull="back")
    neck = interpolate(fragments, neck_only, head.neck[:, None])[..., 0]
    covered = fragments.triangle >= 0

    chin, top = portrait.landmarks[CHIN, :2], portrait.landmarks[FOREHEAD_TOP, :2]
    face_height = max(float(np.linalg.norm(chin - top)), 1.0)
    down = (chin - top) / face_height
    y, x = np.mgrid[:size, :size] + 0.5
    below = ((x - chin[0]) * down[0] + (y - chin[1]) * down[1]) / face_height
    beside = ((x - chin[0]) * down[1] - (y - chin[1]) * down[0]) / face_height
    share = _share(below, np.clip(1.0 - 1.5 * neck, 0.0, 1.0), covered & (np.abs(beside) < 0.15))

    typical = float(np.median(fragments.depth[covered])) if covered.any() else float(CAMERA_DISTANCE_DM - posed[:, 2].mean())
    depth_map = np.where(covered, fragments.depth, typical).astype(np.float32)
    depth_map = push_pull(depth_map[..., None], np.maximum(covered, 1e-3).astype(np.float32))[..., 0]

    rows = np.clip(np.linspace(0, size, _GRID), 0, size - 1).astype(int)
    grid = np.linspace(0, size, _GRID)
    gx, gy = np.meshgrid(grid, grid)
    z = depth_map[np.ix_(rows, rows)]
    focal_px = portrait.focal * size
    world = np.stack([(gx - size / 2) * z / focal_px, (size / 2 - gy) * z / focal_px, CAMERA_DISTANCE_DM - z], -1)
    points = (world - motion.translation) @ matrix_from_euler(motion.rotation_rad)
    layer = portrait.torso.astype(np.float32)
    layer[..., :3] *= layer[..., 3:] / 255.0
    points = points.astype(np.float32)
    home, away = project(pose_points(points.reshape(-1, 3), motion.rotation_rad, motion.translation), size, portrait.focal)
    share = share[np.ix_(rows, rows)].astype(np.float32)
    px_per_dm = portrait.focal * size / float(np.median(away))
    pivot = body_pivot(portrait.landmarks)
    return TorsoState(np.round(layer).astype(np.uint8), points, share, motion, portrait.focal, home, px_per_dm, pivot)


def _share(below: Array, on_mesh: Array, counted: Array) -> Array:
    """Share of the head's motion at each pixel: a function of its height alone, so that a neck bends and never kinks.

    Args:
        below: [s, s] height under the chin in face heights.
        on_mesh: [s, s] the fitted neck's share where it is ``counted`` (bool [s, s]).
    """
    height = np.linspace(-0.4, 0.6, 41)
    # Without a neck in sight: 1 at the chin, 0 half a face below.
    profile = smooth_step(np.clip(1.0 - (height + 0.05) / 0.42, 0.0, 1.0))
    bins = np.round((below[counted] + 0.4) / 0.025).astype(int)
    for i in range(len(height)):
        here = on_mesh[counted][bins == i]
        if len(here) >= 20:
            profile[i] = np.median(here)
    profile = np.minimum.accumulate(profile)
    profile = np.convolve(np.pad(profile, 2, mode="edge"), (0.1, 0.2, 0.4, 0.2, 0.1), mode="valid")
    profile *= np.clip(1.3 - 1.3 * (height - 0.02) / 0.42, 0.0, 1.0)
    return np.interp(below, height, profile).astype(np.float32)


def warp_torso(state: TorsoState, frame: MotionFrame) -> Array:
    """The layer as it stands under ``frame``: uint8 [s, s, 4], premultiplied."""
    import cv2

    size = state.layer.shape[0]
    flat = state.points.reshape(-1, 3)
    there, _ = project(pose_points(flat, frame.rotation_rad, frame.translation), size, state.focal)
    moved = (there - state.home).reshape(_GRID, _GRID, 2)
    share = state.share[..., None]
    if frame.body is None:
        sway = (frame.translation - state.source.translation)[:2] * (state.px_per_dm * _SWAY) * (1, -1)
        # Nothing is known beyond the crop: its sides and its lower border stay where they are.
        line = np.arange(_GRID) / (_GRID - 1)
        sides, bottom = np.clip(np.minimum(line, 1 - line) / _SIDE, 0.0, 1.0), np.clip((1 - line) / _BOTTOM, 0.0, 1.0)
        held = smooth_step(np.minimum(sides[None, :], bottom[:, None]))[..., None]
        shift = (held * (share * moved + (1 - share) * sway)).astype(np.float32)
    else:
        # A body that moves on its own takes the borders along; what it uncovers there mirrors what is inside.
        matrix = body_similarity(frame.body, state.px_per_dm, state.pivot)
        carried = (state.home @ matrix[:, :2].T + matrix[:, 2] - state.home).reshape(_GRID, _GRID, 2)
        shift = (share * moved + (1 - share) * carried).astype(np.float32)
    # Inverse by fixed point: the pixel that arrives at y started at y - shift(y - shift(y)).
    step = size / (_GRID - 1)
    grid = np.arange(_GRID, dtype=np.float32)
    gx, gy = np.meshgrid(grid, grid)
    inverse = shift
    for _ in range(3):
        start_x, start_y = gx - inverse[..., 0] / step, gy - inverse[..., 1] / step
        inverse = cv2.remap(shift, start_x, start_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Grid nodes lie on pixel corners 0, step, .. size; pixel centres at +0.5.
    centre = (np.arange(size, dtype=np.float32) + 0.5) / step
    px, py = np.meshgrid(centre, centre)
    dense = cv2.remap(inverse, px, py, cv2.INTER_LINEAR)
    own = np.arange(size, dtype=np.float32)
    border = cv2.BORDER_REPLICATE if frame.body is None else cv2.BORDER_REFLECT_101
    return cv2.remap(state.layer, own[None, :] - dense[..., 0], own[:, None] - dense[..., 1], cv2.INTER_LINEAR, borderMode=border)
