"""The head's own picture: a place of its own for every point of a head, wherever the head turns and whatever the face does.

It shows the head from the front with the mouth ajar, so that what lies between the lips has places as well. A frame's pixels know their
places in it, and its places know their pixels in a frame: so a picture can be carried from one to the other and back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from triportrait.avatar.lifted import shading_kernels as kernels
from triportrait.avatar.lifted.avatar import LiftedState
from triportrait.avatar.lifted.moved_head import MovedHead
from triportrait.geometry.cameras import pose_points, project
from triportrait.geometry.filling import push_pull
from triportrait.geometry.rasteriser import draw_attributes
from triportrait.types import Array, FullHead, MotionFrame

#: How far the jaw is open in the head's own picture: the lips' inside takes about a third of the mouth.
_AJAR = 0.35
#: So much is left round the head, in sides of its own picture.
_MARGIN = 0.04
#: A point so far behind what a frame shows at its pixel (decimetres) is hidden there.
_BEHIND_DM = 0.12


@dataclass(frozen=True, slots=True)
class HeadSpace:
    """Made once per person by :meth:`of`; v vertices of the mesh and m nodes of the mantle, c the side of the head's own picture.

    Args:
        head, state: the first picture of the person, lifted.
        skin, front: [f, 3], [k, 3] int32, triangles of the mesh and of the mantle that move with the head.
        skin_places, front_places: float32 [v, 2], [m, 2], where they lie in the head's own picture, in pixels, and
            ``skin_depth``, ``front_depth`` [v], [m], their depth in it.
        size_px: c.
    """

    head: FullHead
    state: LiftedState
    skin: Array
    front: Array
    skin_places: Array
    front_places: Array
    skin_depth: Array
    front_depth: Array
    size_px: int

    @staticmethod
    def of(head: FullHead, state: LiftedState, size_px: int) -> HeadSpace:
        """The space of a person's first picture, ``size_px`` wide."""
        own = state.portrait.motion
        expression = np.zeros_like(own.expression)
        expression[head.expression_names.index("jawOpen")] = _AJAR
        rest = replace(own, expression=expression, rotation_rad=np.zeros(3, np.float32), gaze_rad=np.zeros(2, np.float32), body=None)
        skin = np.ascontiguousarray(state.triangles[state.kind == kernels.SKIN], np.int32)
        front = np.ascontiguousarray(state.mantle.of_head(state.mantle.triangles), np.int32)
        side = len(state.portrait.image)
        (skin_pixels, skin_depth), (front_pixels, front_depth) = _projected(head, state, rest, side)
        # The sheet goes on far beyond the crop where that cuts the head.
        shown = front_pixels[np.unique(front)].clip(0, side)
        low, high = shown.min(0), shown.max(0)
        extent = float((high - low).max()) * (1.0 + 2.0 * _MARGIN)
        origin, scale = 0.5 * (low + high) - 0.5 * extent, size_px / extent
        skin_places, front_places = (np.ascontiguousarray((pixels - origin) * scale, np.float32) for pixels in (skin_pixels, front_pixels))
        return HeadSpace(head, state, skin, front, skin_places, front_places, skin_depth, front_depth, size_px)

    def landmarks(self) -> Array:
        """Where the face's landmarks lie in the head's own picture: float32 [478, 2]."""
        return self.head.landmarks478(np.column_stack([self.skin_places, self.skin_depth]))[:, :2]

    def depth(self) -> Array:
        """How far from the viewer each place is, -1 nearest and 1 farthest on the head, going on smoothly beyond it: float32 [c, c]."""
        found = np.zeros((self.size_px, self.size_px, 1), np.float32)
        nearest = np.full((self.size_px, self.size_px), np.inf, np.float32)
        draw_attributes(self.skin_places, self.skin_depth, self.skin, self.skin_depth[:, None], found, nearest, 0.0, True)
        draw_attributes(self.front_places, self.front_depth, self.front, self.front_depth[:, None], found, nearest)
        seen = nearest < np.inf
        low, high = found[seen].min(), found[seen].max()
        filled = push_pull(found, seen.astype(np.float32))[..., 0]
        return np.clip(2.0 * (filled - low) / max(high - low, 1e-6) - 1.0, -1.0, 1.0).astype(np.float32)

    def places(self, frame: MotionFrame, size_px: int) -> tuple[Array, Array]:
        """Where the pixels of a frame ``size_px`` wide lie in the head's own picture: float32 [s, s, 2]; bool [s, s]: the head is there.

        Where the head's skin has holes (between lips and lids), and beyond the head, places go on smoothly.
        """
        (skin_pixels, skin_depth), (front_pixels, front_depth) = _projected(self.head, self.state, frame, size_px)
        found = np.zeros((size_px, size_px, 2), np.float32)
        depth = np.full((size_px, size_px), np.inf, np.float32)
        draw_attributes(skin_pixels, skin_depth, self.skin, self.skin_places, found, depth, 0.0, True)
        draw_attributes(front_pixels, front_depth, self.front, self.front_places, found, depth)
        seen = depth < np.inf
        return push_pull(found, seen.astype(np.float32)), without_holes(seen)

    def pixels(self, frame: MotionFrame, size_px: int) -> tuple[Array, Array]:
        """Where the places of the head's own picture lie in a frame ``size_px`` wide: float32 [c, c, 2]; bool [c, c]: it shows them."""
        (skin_pixels, skin_depth), (front_pixels, front_depth) = _projected(self.head, self.state, frame, size_px)
        side = self.size_px
        found = np.zeros((side, side, 3), np.float32)
        depth = np.full((side, side), np.inf, np.float32)
        skin, front = (np.column_stack(parts) for parts in ((skin_pixels, skin_depth), (front_pixels, front_depth)))
        draw_attributes(self.skin_places, self.skin_depth, self.skin, skin, found, depth, 0.0, True)
        draw_attributes(self.front_places, self.front_depth, self.front, front, found, depth)
        drawn = depth < np.inf
        nearest = np.full((size_px, size_px), np.inf, np.float32)
        seen = np.zeros((size_px, size_px, 3), np.float32)
        draw_attributes(skin_pixels, skin_depth, self.skin, skin, seen, nearest, 0.0, True)
        draw_attributes(front_pixels, front_depth, self.front, front, seen, nearest)
        filled = push_pull(found, drawn.astype(np.float32))
        x, y = (np.clip(filled[..., axis].astype(int), 0, size_px - 1) for axis in (0, 1))
        shown = filled[..., 2] < nearest[y, x] + _BEHIND_DM
        inside = ((filled[..., :2] >= 0) & (filled[..., :2] < size_px)).all(-1)
        return np.ascontiguousarray(filled[..., :2]), without_holes(drawn) & shown & inside


def without_holes(mask: Array) -> Array:
    """The mask, bool [h, w], and whatever it surrounds."""
    import cv2

    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), outlines, -1, 1, cv2.FILLED) > 0


def _projected(head: FullHead, state: LiftedState, frame: MotionFrame, size_px: int) -> list[tuple[Array, Array]]:
    """Pixels and depth of mesh and mantle in a frame."""
    moved = MovedHead.of(head, state.shape, frame)
    nodes = state.mantle.follow(moved.vertices - state.source, frame)
    moved = moved.warped(head, state.warp, frame)
    found = []
    for points, bias in ((moved.vertices, state.bias), (nodes, 0.0)):
        pixels, depth = project(pose_points(points, frame.rotation_rad, frame.translation), size_px, state.portrait.focal)
        found.append((pixels.astype(np.float32), (depth + bias).astype(np.float32)))
    return found
