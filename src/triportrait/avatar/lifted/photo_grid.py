"""Where a photo's pixels go under a row of motion: what a driving video of the same person is compared with."""

from __future__ import annotations

import numpy as np

from triportrait.avatar.lifted.avatar import LiftedAvatar, LiftedState
from triportrait.avatar.lifted.moved_head import MovedHead
from triportrait.avatar.lifted.shading_kernels import SKIN
from triportrait.avatar.lifted.warping import beyond_the_face, face_frame, face_height_px
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.landmarks import EYE_LEFT_RIM, EYE_RIGHT_RIM, INNER_LIPS
from triportrait.geometry.masks import face_hull, hull_mask
from triportrait.geometry.nearest import nearest_points
from triportrait.geometry.rasteriser import rasterise
from triportrait.geometry.warp import SIDE_PX, STEP_PX, PhotoGrid, warp_weights
from triportrait.types import CAMERA_DISTANCE_DM, Array, FullHead, MotionFrame, PreparedPortrait

#: A pixel goes where so many nodes of the mantle near it go.
_NODES = 3
#: What lies so near the face (in its heights) is told by the face's places, and what is the person less surely than this is scenery.
_FROM_FACE, _SURELY = 0.05, 0.8
#: Samples round the head lie so many pixels apart, and those on the face.
_APART_PX, _FACE_APART_PX = 5, 4
#: Of the face nothing counts so near (pixels) to what the eyes and the lips have between them.
_OPENING_PX = 1


def photo_grid(portrait: PreparedPortrait, head: FullHead) -> PhotoGrid:
    """Of the person in a photo, by the geometry on which the photo is drawn."""
    import cv2

    size = len(portrait.image)
    unit = size / SIDE_PX
    state = LiftedAvatar(head, whole_person=True).prepare(portrait)
    mantle = state.mantle
    front = np.unique(mantle.triangles)
    front = front[mantle.far[front] == 0]

    def drawn(frame: MotionFrame) -> tuple[Array, Array]:
        """Pixels of the crop of the mantle's nodes [m, 2], and of the mesh's vertices [v, 2]."""
        vertices = MovedHead.of(head, state.shape, frame).vertices
        nodes = mantle.follow(vertices - state.source, frame)
        first, second = (
            project(pose_points(points, frame.rotation_rad, frame.translation), size, portrait.focal)[0] for points in (nodes, vertices)
        )
        return first, second

    at_rest, own = drawn(portrait.motion)
    line = np.arange(0, SIDE_PX + 1, STEP_PX) * unit
    grid = np.stack(np.meshgrid(line, line), -1)
    flat = np.pad(grid.reshape(-1, 2), ((0, 0), (0, 1)))
    away, near = nearest_points(np.pad(at_rest[front], ((0, 0), (0, 1))), flat, _NODES)
    weight = 1.0 / (away + unit)
    weight, near = (weight / weight.sum(1, keepdims=True))[..., None], front[near]

    def mean(values: Array) -> Array:
        return (values[near] * weight).sum(1).reshape(*grid.shape[:2], -1)

    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)

    def between(values: Array) -> Array:
        """Of values [g, g, 2] at the points of the grid, at every pixel: [256, 256, 2]."""
        return np.asarray(cv2.remap(values.astype(np.float32), x / STEP_PX, y / STEP_PX, cv2.INTER_LINEAR))

    beside = grid - mean(at_rest)
    on_face, corners, barycentric = _skin(state, own / unit)
    # A pixel lies beside the middle of what the mesh has there.
    off = np.stack([x[on_face], y[on_face]], -1) - (own[corners] / unit * barycentric).sum(1)

    def where(frame: MotionFrame) -> Array:
        nodes, vertices = drawn(frame)
        goes = between((mean(nodes) + beside) / unit)
        goes[on_face] = (vertices[corners] / unit * barycentric).sum(1) + off
        return goes

    around = _samples(_APART_PX)
    column, row = (around * unit).astype(int).T
    from_face, person = beyond_the_face(portrait)[row, column] / face_height_px(portrait), portrait.person_alpha[row, column]
    around = around[(from_face > _FROM_FACE) & (person > _SURELY)]
    home = between(mean(mantle.home)[..., :2])[around[:, 1], around[:, 0]]
    face = _samples(_FACE_APART_PX)
    face = face[(on_face & ~_openings(portrait.landmarks / unit))[face[:, 1], face[:, 0]]]
    number = np.full(on_face.shape, -1)
    number[on_face] = np.arange(on_face.sum())
    chosen = number[face[:, 1], face[:, 0]]
    places = (state.source[corners[chosen]] * barycentric[chosen]).sum(1)
    return PhotoGrid(
        picture=portrait.image,
        where=where,
        around=around,
        around_weights=warp_weights(home - portrait.motion.translation[:2]),
        face=face,
        face_weights=face_frame(head, state.shape).weights(places),
        focal_px=portrait.focal * SIDE_PX,
    )


def _samples(apart_px: int) -> Array:
    """Pixels of a picture of 256 px, so many apart: int [n, 2]."""
    side = np.arange(apart_px - 1, SIDE_PX - 2, apart_px)
    return np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)


def _skin(state: LiftedState, pixels: Array) -> tuple[Array, Array, Array]:
    """Where a small photo shows the face's mesh, bool [256, 256]; of these pixels [n], vertices [n, 3] and their weights [n, 3, 1].

    Args:
        pixels: [v, 2], of the vertices, in the small photo.
    """
    motion = state.portrait.motion
    depth = (CAMERA_DISTANCE_DM - pose_points(state.source, motion.rotation_rad, motion.translation)[:, 2]).astype(np.float32)
    skin = np.ascontiguousarray(state.triangles[state.kind == SKIN])
    fragments = rasterise(pixels.astype(np.float32), depth, skin, SIDE_PX, SIDE_PX)
    unit = len(state.portrait.image) / SIDE_PX
    shown = (fragments.triangle >= 0) & face_hull(state.portrait.landmarks / unit, SIDE_PX)
    return shown, skin[fragments.triangle[shown]], fragments.barycentric[shown][..., None]


def _openings(landmarks: Array) -> Array:
    """What a small photo shows between lids and between lips: bool [256, 256]; landmarks [478, >=2] in its pixels."""
    import cv2

    shown = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    for rim in (EYE_LEFT_RIM, EYE_RIGHT_RIM, INNER_LIPS):
        shown |= hull_mask(landmarks[rim, :2] - 0.5, SIDE_PX)
    return np.asarray(cv2.dilate(shown, np.ones((2 * _OPENING_PX + 1,) * 2, np.uint8))) > 0
