"""Expression for a network that knows one expression only: where the lifted mesh says a pixel's skin was in the photograph.

The planes of :mod:`triportrait.avatar.oneshot.image_to_plane` belong to the photograph. Instead of predicting them anew for every frame,
the samples of each ray are moved by the offset of the skin that the ray meets; the same drawing gives the depth to sample near.
"""

from __future__ import annotations

import numpy as np

from triportrait.avatar.lifted import shading_kernels as kernels
from triportrait.avatar.lifted.avatar import LiftedState
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.rasteriser import draw_attributes
from triportrait.types import Array, FullHead, MotionFrame


def expression_offsets(state: LiftedState, head: FullHead, frame: MotionFrame, size_px: int) -> tuple[Array, Array]:
    """Depth and offset of the surface that each pixel of a frame shows.

    Args:
        state: of the lifted avatar; its mesh and mantle are the surface. The mouth's inside and the eyeballs are not.
        head: the head model of ``state``.
        frame: expression and pose to draw.
        size_px: side of the maps.

    Returns:
        camera depth [s, s] float32 decimetres, inf where nothing is; offset [s, s, 3] float32 decimetres in head space, to be added to a
        point of the frame's unposed head to come to the photograph's; 0 where nothing is.
    """
    deformed = head.deform(state.shape, frame.expression, frame.gaze_rad)
    nodes = state.mantle.follow(deformed - state.source, frame)
    shift = state.warp.shift(frame)
    deformed = deformed if shift is None else deformed + shift
    offset = np.zeros((size_px, size_px, 3), np.float32)
    depth = np.full((size_px, size_px), np.inf, np.float32)
    skin = np.ascontiguousarray(state.triangles[state.kind == kernels.SKIN])
    sheets = (
        (deformed, state.source, skin, state.bias),
        (nodes, state.mantle.rest, state.mantle.of_head(state.mantle.triangles), np.float32(0)),
    )
    for now, then, triangles, bias in sheets:
        pixels, away = project(pose_points(now, frame.rotation_rad, frame.translation), size_px, state.portrait.focal)
        moved = np.ascontiguousarray(then - now, np.float32)
        draw_attributes(pixels.astype(np.float32), (away + bias).astype(np.float32), triangles, moved, offset, depth)
    return depth, offset
