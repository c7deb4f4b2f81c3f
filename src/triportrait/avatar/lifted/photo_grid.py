"""Where a photo's pixels go under a row of motion: what a driving video of the same person is compared with."""

from __future__ import annotations

import numpy as np

from triportrait.avatar.lifted.avatar import LiftedAvatar
from triportrait.avatar.lifted.moved_head import MovedHead
from triportrait.avatar.lifted.warping import beyond_the_face, face_height_px
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.nearest import nearest_points
from triportrait.geometry.warp import SIDE_PX, STEP_PX, PhotoGrid, warp_weights
from triportrait.types import Array, FullHead, MotionFrame, PreparedPortrait

#: A pixel goes where so many nodes of the mantle near it go.
_NODES = 3
#: What lies so near the face (in its heights) is told by landmarks, and what is the person less surely than this is scenery.
_FROM_FACE, _SURELY = 0.05, 0.8
#: Samples lie so many pixels apart.
_APART_PX = 5


def photo_grid(portrait: PreparedPortrait, head: FullHead) -> PhotoGrid:
    """Of the person in a photo, by the geometry on which the photo is drawn."""
    size = len(portrait.image)
    unit = size / SIDE_PX
    state = LiftedAvatar(head, whole_person=True).prepare(portrait)
    mantle, shape = state.mantle, state.shape
    front = np.unique(mantle.triangles)
    front = front[mantle.far[front] == 0]

    def drawn(frame: MotionFrame) -> Array:
        """Pixels of the crop [m, 2]."""
        nodes = mantle.follow(MovedHead.of(head, shape, frame).vertices - state.source, frame)
        return project(pose_points(nodes, frame.rotation_rad, frame.translation), size, portrait.focal)[0]

    at_rest = drawn(portrait.motion)
    line = np.arange(0, SIDE_PX + 1, STEP_PX) * unit
    grid = np.stack(np.meshgrid(line, line), -1)
    flat = np.pad(grid.reshape(-1, 2), ((0, 0), (0, 1)))
    away, near = nearest_points(np.pad(at_rest[front], ((0, 0), (0, 1))), flat, _NODES)
    weight = 1.0 / (away + unit)
    weight, near = (weight / weight.sum(1, keepdims=True))[..., None], front[near]

    def mean(values: Array) -> Array:
        return (values[near] * weight).sum(1).reshape(*grid.shape[:2], -1)

    beside = grid - mean(at_rest)
    side = np.arange(_APART_PX - 1, SIDE_PX - 2, _APART_PX)
    samples = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    column, row = ((samples[:, axis] * unit).astype(int) for axis in (0, 1))
    samples = samples[
        (beyond_the_face(portrait)[row, column] > _FROM_FACE * face_height_px(portrait)) & (portrait.person_alpha[row, column] > _SURELY)
    ]
    return PhotoGrid(
        picture=portrait.image,
        where=lambda frame: (mean(drawn(frame)) + beside) / unit,
        samples=samples,
        weights=_between(mean(mantle.home)[..., :2] - portrait.motion.translation[:2], samples),
        focal_px=portrait.focal * SIDE_PX,
    )


def _between(values: Array, samples: Array) -> Array:
    """How far places of a warp count at ``samples`` [n, 2] of a grid whose points lie at ``values`` [g, g, 2] decimetres: [n, 20]."""
    import cv2

    x, y = (np.ascontiguousarray(samples[None, :, axis] / STEP_PX, np.float32) for axis in (0, 1))
    return warp_weights(cv2.remap(values.astype(np.float32), x, y, cv2.INTER_LINEAR)[0])
